//! Opening a database file, and making one so that a crash leaves a whole one or none.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::sync::Arc;

use redb::backends::FileBackend;
use redb::{Builder, Database, StorageBackend};

use super::checks::Fault;
use super::coalesce::{Coalesce, Coalescing};
use super::direct::DirectFile;
use super::space::Space;
use super::verifying;
use super::walk::Walk;
use super::yielding::YieldingFile;
use crate::store::error::{self, StoreError};
use crate::store::paths::{self, dir_of, open_own};

/// Opens the database at `path`, all of whose pages redb verifies before it answers anything; with `space` its ballast gives way to
/// writes that find no room, and whoever has `coalesce` may let writes be coalesced.
pub(in crate::store) fn open(
    path: &Path,
    space: Option<&Arc<Space>>,
    coalesce: &Coalesce,
    cache_bytes: usize,
    what: &'static str,
) -> Result<Database, StoreError> {
    let file = open_file(path, space, what)?;
    let created = builder(cache_bytes).create_with_backend(Coalescing::new(file, coalesce.clone()));
    created.map_err(|error| StoreError::opening(what, path, error))
}

/// Opens the database at `path` as [`open`] does, but for its pages: they are verified as they are read, and beside that by whoever
/// takes the walk to its end. No walk if redb has verified them all.
pub(in crate::store) fn open_unverified(
    path: &Path,
    space: Option<&Arc<Space>>,
    coalesce: &Coalesce,
    cache_bytes: usize,
    what: &'static str,
) -> Result<(Database, Option<Walk>), StoreError> {
    let file = open_file(path, space, what)?;
    verify_later(Coalescing::new(file, coalesce.clone()), path, cache_bytes, what)
}

/// Opens the database that a backend stands for, or makes it; redb verifies all of its pages.
pub(in crate::store) fn open_backend(
    backend: impl StorageBackend,
    coalesce: &Coalesce,
    cache_bytes: usize,
    what: &'static str,
) -> Result<Database, StoreError> {
    let backend = Coalescing::new(backend, coalesce.clone());
    let created = builder(cache_bytes).create_with_backend(backend);
    created.map_err(|error| StoreError::database(what, error))
}

/// Opens the database that a backend stands for as [`open_unverified`] does.
pub(in crate::store) fn open_backend_unverified(
    backend: impl StorageBackend,
    coalesce: &Coalesce,
    cache_bytes: usize,
    what: &'static str,
) -> Result<(Database, Option<Walk>), StoreError> {
    let backend = Coalescing::new(backend, coalesce.clone());
    verify_later(backend, Path::new(what), cache_bytes, what)
}

fn verify_later(
    file: impl StorageBackend,
    path: &Path,
    cache_bytes: usize,
    what: &'static str,
) -> Result<(Database, Option<Walk>), StoreError> {
    let begun = verifying::begin(Arc::new(file), path);
    let (file, walk) = begun.map_err(|fault| match fault {
        Fault::Io(error) => StoreError::opening(what, path, redb::Error::Io(error)),
        damaged => damaged.of(what),
    })?;
    let mut builder = builder(cache_bytes);
    builder.set_check_integrity_on_open(walk.is_none());
    let created = builder.create_with_backend(file);
    Ok((created.map_err(|error| StoreError::opening(what, path, error))?, walk))
}

/// Opens the file of the database at `path`. A new one is made beside it and renamed once it is whole: a file that a crash left half
/// made would not be a database.
fn open_file(
    path: &Path,
    space: Option<&Arc<Space>>,
    what: &'static str,
) -> Result<YieldingFile, StoreError> {
    let failed = |error: redb::DatabaseError| StoreError::opening(what, path, error);
    if !exists(path, what)? {
        let fresh = path.with_extension("new");
        let io_failed = |source| StoreError::io(what, "create", &fresh, source);
        remove(&fresh, what)?;
        let made = open_own(&fresh).map_err(io_failed)?;
        let made = FileBackend::new(made).map_err(failed)?;
        drop(builder(0).create_with_backend(made).map_err(failed)?);
        File::open(&fresh).and_then(|file| file.sync_all()).map_err(io_failed)?;
        fs::rename(&fresh, path).map_err(io_failed)?;
        sync_dir(dir_of(path), what)?;
    }
    YieldingFile::open(path, space.cloned()).map_err(failed)
}

/// Opens the write-ahead log beside the log's database, or makes one.
pub(in crate::store) fn open_wal(
    log: &Path,
    is_new: bool,
    space: Option<&Arc<Space>>,
) -> Result<Arc<dyn StorageBackend>, StoreError> {
    let path = log.with_file_name(paths::WAL);
    if is_new {
        // Of an attempt that broke off, or of no node's.
        remove(&path, error::WAL)?;
    } else if !exists(&path, error::WAL)? {
        return Err(StoreError::damaged(error::WAL, "its file is missing"));
    }
    let opened = DirectFile::open(&path, space.cloned());
    let opened = opened.map_err(|source| StoreError::io(error::WAL, "open", &path, source))?;
    sync_dir(dir_of(&path), error::WAL)?;
    Ok(Arc::new(opened))
}

/// Removes a file, if it is there.
pub(in crate::store) fn remove(path: &Path, what: &'static str) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(StoreError::io(what, "remove", path, error))
        }
        _ => Ok(()),
    }
}

/// Whether there is something at `path`; an error if that cannot be told.
pub(in crate::store) fn exists(path: &Path, what: &'static str) -> Result<bool, StoreError> {
    path.try_exists().map_err(|error| StoreError::io(what, "look at", path, error))
}

/// Makes the names in a directory durable.
pub(in crate::store) fn sync_dir(dir: &Path, what: &'static str) -> Result<(), StoreError> {
    let synced = File::open(dir).and_then(|dir| dir.sync_all());
    synced.map_err(|error| StoreError::io(what, "sync", dir, error))
}

/// How databases are opened: redb verifies the checksums of all pages. Without that it believes what it reads, so that a damaged page
/// could hide rows, show old ones, or make it panic; so it is left out only where all that redb reads is verified (`verifying.rs`).
fn builder(cache_bytes: usize) -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(cache_bytes).set_check_integrity_on_open(true);
    builder
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_a_crash_left_half_made_is_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.redb");
        fs::write(path.with_extension("new"), "half a database").unwrap();
        drop(open(&path, None, &Coalesce::default(), 1 << 20, "log").unwrap());
        assert!(path.exists() && !path.with_extension("new").exists());
        drop(open(&path, None, &Coalesce::default(), 1 << 20, "log").unwrap());
    }

    #[test]
    fn only_the_owner_can_read_a_database_whatever_it_was_before() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.redb");
        let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        drop(open(&path, None, &Coalesce::default(), 1 << 20, "log").unwrap());
        assert_eq!(mode(), 0o600);
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        drop(open(&path, None, &Coalesce::default(), 1 << 20, "log").unwrap());
        assert_eq!(mode(), 0o600);
    }

    #[test]
    fn a_bare_name_is_in_the_working_directory() {
        assert_eq!(dir_of(Path::new("log.redb")), Path::new("."));
        assert_eq!(dir_of(Path::new("a/log.redb")), Path::new("a"));
        assert_eq!(dir_of(Path::new("/log.redb")), Path::new("/"));
        assert_eq!(dir_of(Path::new("/")), Path::new("/"));
        sync_dir(dir_of(Path::new("log.redb")), "log").unwrap();
    }

    #[test]
    fn what_cannot_be_looked_at_is_not_taken_for_missing() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        let refused =
            open(&file.join("log.redb"), None, &Coalesce::default(), 1 << 20, "log").unwrap_err();
        assert!(matches!(refused, StoreError::Io { what: "look at", .. }), "{refused}");
    }

    #[test]
    fn whatever_is_wrong_with_a_whole_file_is_told_with_its_path() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.redb");
        let coalesce = Coalesce::default();
        drop(open(&path, None, &coalesce, 1 << 20, "state").unwrap());
        let whole = fs::read(&path).unwrap();
        let mut headless = whole.clone();
        headless[..4096].fill(0);
        for wrong in [&whole[..100], &whole[..whole.len() - 4096], &headless] {
            fs::write(&path, wrong).unwrap();
            let at_open = open(&path, None, &coalesce, 1 << 20, "state").map(drop);
            let later = open_unverified(&path, None, &coalesce, 1 << 20, "state").map(drop);
            for refused in [at_open, later] {
                let refused = refused.unwrap_err();
                assert!(matches!(refused, StoreError::Damaged { .. }), "{refused}");
                assert!(refused.to_string().contains("state.redb"), "{refused}");
            }
        }
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        let refused = open(&path, None, &coalesce, 1 << 20, "state").map(drop).unwrap_err();
        assert!(refused.to_string().contains("state.redb"), "{refused}");
    }

    #[test]
    fn a_file_that_is_no_database_is_left_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.redb");
        fs::write(&path, "something else").unwrap();
        assert!(open(&path, None, &Coalesce::default(), 1 << 20, "log").is_err());
        assert_eq!(fs::read(&path).unwrap(), b"something else");
    }
}
