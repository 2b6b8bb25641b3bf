//! The recorded files in the repository.

use std::fs;
use std::path::{Path, PathBuf};

use super::hex;

/// The token of the administrator of recorded clusters that ask clients who they are.
pub(crate) const TOKEN: &str = "konsen_recorded";

/// Of a data directory, beside the identity; before format 3 there was no write-ahead log.
pub(crate) const FILES: [&str; 3] = ["log.redb", "log.wal", "state.redb"];

pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/formats/recorded")
}

/// One folder a combination of formats.
pub(crate) fn all() -> Vec<PathBuf> {
    let entries = fs::read_dir(folder()).unwrap();
    let folders: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    assert!(!folders.is_empty());
    folders
}

/// Makes the data directory that is recorded in a folder.
pub(crate) fn unpack(recorded: &Path, data: &Path) {
    fs::create_dir_all(data).unwrap();
    fs::copy(recorded.join("identity"), data.join("identity")).unwrap();
    for file in FILES.into_iter().filter(|file| recorded.join(format!("{file}.hex")).exists()) {
        fs::write(data.join(file), file_of(recorded, file)).unwrap();
    }
}

/// A file that is recorded in a folder.
pub(crate) fn file_of(recorded: &Path, name: &str) -> Vec<u8> {
    hex::read(&fs::read_to_string(recorded.join(format!("{name}.hex"))).unwrap())
}
