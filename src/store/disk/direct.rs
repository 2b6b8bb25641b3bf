//! The file of the write-ahead log: written past the system's cache, each write durable when it returns.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use redb::StorageBackend;
use rustix::fs::OFlags;
use rustix::io::{Errno, ReadWriteFlags, pwritev2};

use super::blocks::{BLOCK_BYTES, Blocks, are_blocks};
use super::space::Space;
use crate::store::paths;

/// How much is written at once where the file grows.
const GROWTH_BYTES: usize = 1 << 20;

/// See the module's documentation. A write that finds no room makes the ballast give way and is tried again: what was
/// not written was not taken.
#[derive(Debug)]
pub(in crate::store) struct DirectFile {
    file: File,
    /// Whether reads and writes go past the system's cache; where a file system cannot do that, they do not.
    is_direct: bool,
    /// Whether one system call writes and syncs; where it cannot, it takes two.
    syncs_itself: AtomicBool,
    space: Option<Arc<Space>>,
}

impl DirectFile {
    /// Opens the file at `path`, or makes an empty one. Without `space` a full disk is an error like others.
    pub(in crate::store) fn open(path: &Path, space: Option<Arc<Space>>) -> io::Result<DirectFile> {
        let made = paths::open_own(path)?;
        let mut options = OpenOptions::new();
        let direct =
            options.read(true).write(true).custom_flags(OFlags::DIRECT.bits().cast_signed());
        let (file, is_direct) = match direct.open(path) {
            Ok(file) if takes_blocks(&file)? => (file, true),
            Ok(_) => (made, false),
            Err(error) if is_refused(&error) => (made, false),
            Err(error) => return Err(error),
        };
        // An earlier process may have been killed between a write and its sync.
        file.sync_all()?;
        Ok(DirectFile { file, is_direct, syncs_itself: AtomicBool::new(true), space })
    }

    fn gets_further(&self) {
        if let Some(space) = &self.space {
            space.life().disk.beat();
        }
    }

    fn yielding(&self, bytes: u64, write: impl Fn() -> io::Result<()>) -> io::Result<()> {
        let gives_way = || self.space.as_ref().is_some_and(|space| space.release_ballast(bytes));
        loop {
            match write() {
                Err(error) if error.kind() == io::ErrorKind::StorageFull && gives_way() => {}
                result => return result,
            }
        }
    }

    /// Where a write can end that is to be gone on with.
    fn unit(&self) -> usize {
        if self.is_direct { BLOCK_BYTES } else { 1 }
    }

    /// Writes whole blocks, durably.
    fn write_blocks(&self, mut at: u64, mut blocks: &[u8]) -> io::Result<()> {
        while !blocks.is_empty() && self.syncs_itself.load(Ordering::Relaxed) {
            match pwritev2(&self.file, &[IoSlice::new(blocks)], at, ReadWriteFlags::DSYNC) {
                // A part of a block cannot be left: it is written once more.
                Ok(written) => match written / self.unit() * self.unit() {
                    0 => return Err(io::ErrorKind::WriteZero.into()),
                    whole => {
                        blocks = &blocks[whole..];
                        at += whole as u64;
                    }
                },
                Err(Errno::INTR) => {}
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
                    self.syncs_itself.store(false, Ordering::Relaxed)
                }
                Err(error) => return Err(error.into()),
            }
        }
        if blocks.is_empty() {
            return Ok(());
        }
        self.file.write_all_at(blocks, at)?;
        self.file.sync_data()
    }
}

/// Whether a file that was opened for direct I/O can do it with blocks of this size.
fn takes_blocks(file: &File) -> io::Result<bool> {
    match file.read_at(Blocks::zeroed(BLOCK_BYTES).bytes_mut(), 0) {
        Err(error) if is_refused(&error) => Ok(false),
        Err(error) => Err(error),
        Ok(_) => Ok(true),
    }
}

/// How a file system says that it has no direct I/O.
fn is_refused(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::INVAL.raw_os_error())
}

impl StorageBackend for DirectFile {
    fn len(&self) -> io::Result<u64> {
        self.file.metadata().map(|found| found.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.gets_further();
        if !self.is_direct {
            return self.file.read_exact_at(out, offset);
        }
        if are_blocks(offset, out) {
            return self.file.read_exact_at(out, offset);
        }
        let first = offset / BLOCK_BYTES as u64 * BLOCK_BYTES as u64;
        let skip = usize::try_from(offset - first).map_err(io::Error::other)?;
        let mut blocks = Blocks::zeroed(skip + out.len());
        self.file.read_exact_at(blocks.bytes_mut(), first)?;
        out.copy_from_slice(&blocks.bytes()[skip..skip + out.len()]);
        Ok(())
    }

    /// Growth is zeros that are written, not a hole: so a write there changes nothing but its bytes, and its sync need
    /// not wait for the file system's journal.
    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut at = self.len()?;
        if len < at {
            self.file.set_len(len)?;
        }
        let zeros = Blocks::zeroed(GROWTH_BYTES);
        while at < len {
            let bytes = (len - at).min(GROWTH_BYTES as u64);
            let part = usize::try_from(bytes).map_err(io::Error::other)?;
            self.gets_further();
            self.file.write_all_at(&zeros.bytes()[..part], at)?;
            at += bytes;
        }
        self.file.sync_all()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.gets_further();
        debug_assert!(are_blocks(offset, data));
        self.yielding(data.len() as u64, || self.write_blocks(offset, data))
    }

    /// Nothing is left to sync: what an earlier process left was synced when the file was opened.
    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_with_and_without_the_systems_cache() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.wal");
        let mut file = DirectFile::open(&path, None).unwrap();
        file.set_len(8 * BLOCK_BYTES as u64).unwrap();
        for number in 1..5 {
            let mut blocks = Blocks::zeroed(2 * BLOCK_BYTES);
            blocks.bytes_mut().fill(number);
            file.write(u64::from(number) * BLOCK_BYTES as u64, blocks.bytes()).unwrap();
            let mut found = [0; 100];
            file.read(u64::from(number + 2) * BLOCK_BYTES as u64 - 50, &mut found).unwrap();
            assert_eq!(
                (found[..50].to_vec(), found[50..].to_vec()),
                (vec![number; 50], vec![0; 50])
            );
            // The ways of other file systems.
            match number {
                1 => file.syncs_itself.store(false, Ordering::Relaxed),
                2 => (file.file, file.is_direct) = (paths::open_own(&path).unwrap(), false),
                _ => file.syncs_itself.store(true, Ordering::Relaxed),
            }
        }
        assert_eq!(file.len().unwrap(), 8 * BLOCK_BYTES as u64);
        file.set_len(BLOCK_BYTES as u64).unwrap();
        assert!(file.read(BLOCK_BYTES as u64, &mut [0]).is_err());
    }
}
