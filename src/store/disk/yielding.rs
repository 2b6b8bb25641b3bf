//! A database's file on a disk that others fill: a write that finds no room makes the ballast give way and is
//! tried again. Nothing is lost by that, since what was not written was not taken; a sync that fails is
//! another matter, and final.

use std::io;
use std::path::Path;
use std::sync::Arc;

use redb::backends::FileBackend;
use redb::{DatabaseError, StorageBackend};

use super::backend::forward_locks;
use super::space::Space;
use crate::store::paths;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct YieldingFile {
    file: FileBackend,
    space: Option<Arc<Space>>,
}

impl YieldingFile {
    /// Opens the file at `path`, or makes an empty one. Without `space` a full disk is an error like others.
    pub(super) fn open(
        path: &Path,
        space: Option<Arc<Space>>,
    ) -> Result<YieldingFile, DatabaseError> {
        let file = paths::open_own(path)?;
        Ok(YieldingFile { file: FileBackend::new(file)?, space })
    }

    fn gets_further(&self) {
        if let Some(space) = &self.space {
            space.life().disk.beat();
        }
    }

    fn release_ballast(&self, bytes: u64) -> bool {
        self.space.as_ref().is_some_and(|space| space.release_ballast(bytes))
    }

    fn yielding(&self, bytes: u64, write: impl Fn() -> io::Result<()>) -> io::Result<()> {
        loop {
            match write() {
                Err(error)
                    if error.kind() == io::ErrorKind::StorageFull
                        && self.release_ballast(bytes) => {}
                result => return result,
            }
        }
    }
}

impl StorageBackend for YieldingFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.gets_further();
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.yielding(0, || self.file.set_len(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.gets_further();
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.gets_further();
        self.yielding(data.len() as u64, || self.file.write(offset, data))
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }

    forward_locks!(file);
}
