//! The files of a data directory: their names, and for whom they are.

use std::fs::{File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// What holds data is for its owner alone.
const OWN_MODE: u32 = 0o600;
/// The log's database in a data directory.
pub(super) const LOG: &str = "log.redb";
/// The write-ahead log before it.
pub(super) const WAL: &str = "log.wal";
/// The state's.
pub(super) const STATE: &str = "state.redb";

/// Opens a file that is to be read and written by its owner only, or makes it, whatever the umask; one of an earlier
/// release that others can read becomes so.
pub(super) fn open_own(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(OWN_MODE);
    let file = options.open(path)?;
    if file.metadata()?.permissions().mode() & 0o077 != 0 {
        file.set_permissions(Permissions::from_mode(OWN_MODE))?;
    }
    Ok(file)
}

/// The directory that a path is in.
pub(super) fn dir_of(path: &Path) -> &Path {
    match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        // A bare name; what has no parent is a root, which is in itself.
        Some(_) => Path::new("."),
        None => path,
    }
}
