//! Opening a database file, and making one so that a crash leaves a whole one or none.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use redb::{Builder, Database, StorageBackend};

use super::error::StoreError;

/// Opens the database at `path`. A new one is made beside it and renamed once it is whole: a file that a
/// crash left half made would not be a database.
pub(super) fn open(
    path: &Path,
    cache_bytes: usize,
    what: &'static str,
) -> Result<Database, StoreError> {
    let failed = |error: redb::DatabaseError| StoreError::opening(what, path, error);
    let builder = builder(cache_bytes);
    if !path.exists() {
        let fresh = path.with_extension("new");
        let io_failed =
            |source: io::Error| StoreError::Io { what: "create", path: fresh.clone(), source };
        match fs::remove_file(&fresh) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io_failed(error)),
            _ => {}
        }
        drop(builder.create(&fresh).map_err(failed)?);
        File::open(&fresh).and_then(|file| file.sync_all()).map_err(io_failed)?;
        fs::rename(&fresh, path).map_err(io_failed)?;
        if let Some(dir) = path.parent() {
            File::open(dir).and_then(|dir| dir.sync_all()).map_err(io_failed)?;
        }
    }
    builder.create(path).map_err(failed)
}

/// Opens the database that a backend stands for, or makes it.
pub(super) fn open_backend(
    backend: impl StorageBackend,
    cache_bytes: usize,
    what: &'static str,
) -> Result<Database, StoreError> {
    let created = builder(cache_bytes).create_with_backend(backend);
    created.map_err(|error| StoreError::database(what, error))
}

/// How every database is opened: redb verifies the checksums of all pages. Without that it believes what
/// it reads, so that a damaged page could hide rows, show old ones, or make it panic.
fn builder(cache_bytes: usize) -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(cache_bytes).set_check_integrity_on_open(true);
    builder
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_crash_left_half_made_is_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.redb");
        fs::write(path.with_extension("new"), "half a database").unwrap();
        drop(open(&path, 1 << 20, "log").unwrap());
        assert!(path.exists() && !path.with_extension("new").exists());
        drop(open(&path, 1 << 20, "log").unwrap());
    }

    #[test]
    fn a_file_that_is_no_database_is_left_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.redb");
        fs::write(&path, "something else").unwrap();
        assert!(open(&path, 1 << 20, "log").is_err());
        assert_eq!(fs::read(&path).unwrap(), b"something else");
    }
}
