//! Coalescing writes, so that they are fewer and larger while a snapshot comes in: redb writes page by page, in an order of its own, and
//! these pages lie side by side.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::Mutex;
use redb::StorageBackend;

use super::backend::{PAGE_BYTES, forward_locks};

/// Whether a file's writes are coalesced: how many want that.
#[derive(Clone, Debug, Default)]
pub(in crate::store) struct Coalesce(Arc<AtomicUsize>);

/// Lets writes be coalesced until it is dropped.
#[derive(Debug)]
pub(in crate::store) struct Coalesced(Coalesce);

impl Coalesce {
    /// The most bytes that are held back.
    pub(in crate::store) const BYTES_MAX: usize = EXTENTS_MAX * EXTENT_BYTES;

    pub(in crate::store) fn start(&self) -> Coalesced {
        self.0.fetch_add(1, Ordering::Relaxed);
        Coalesced(self.clone())
    }
}

impl Drop for Coalesced {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A file whose pages wait in memory, while that is wanted, until those around them are there as well, and at
/// most until the next sync. Nobody sees the difference: what waits is written before it is read.
#[derive(Debug)]
pub(super) struct Coalescing<B> {
    file: B,
    wanted: Coalesce,
    held: Mutex<Held>,
    /// Whether there may be anything in `held`. Whoever asks for a page knows that it was written, and so sees this,
    /// too.
    holds: AtomicBool,
}

const EXTENT_BYTES: usize = 1 << 20;
const PAGES: usize = EXTENT_BYTES / PAGE_BYTES;
const EXTENTS_MAX: usize = 16;

#[derive(Debug, Default)]
struct Held {
    /// In the order in which they were begun.
    extents: Vec<Extent>,
    /// Memory to use again.
    spare: Vec<Box<[u8]>>,
}

#[derive(Debug)]
struct Extent {
    /// Where in the file it begins: a multiple of its size.
    start: u64,
    bytes: Box<[u8]>,
    /// The pages that wait.
    pages: [bool; PAGES],
}

impl<B: StorageBackend> Coalescing<B> {
    pub(super) fn new(file: B, wanted: Coalesce) -> Coalescing<B> {
        Coalescing { file, wanted, held: Mutex::default(), holds: AtomicBool::new(false) }
    }

    fn hold(&self, extent: u64, pages: Range<usize>, data: &[u8]) -> io::Result<()> {
        let mut held = self.held.lock();
        let known = held.extents.iter().rposition(|held| held.start == extent);
        let at = match known {
            Some(at) => at,
            None => {
                if held.extents.len() == EXTENTS_MAX {
                    self.let_go(&mut held, 0)?;
                }
                let bytes = held.spare.pop();
                let bytes = bytes.unwrap_or_else(|| vec![0; EXTENT_BYTES].into_boxed_slice());
                held.extents.push(Extent { start: extent, bytes, pages: [false; PAGES] });
                self.holds.store(true, Ordering::Release);
                held.extents.len() - 1
            }
        };
        let extent = &mut held.extents[at];
        extent.bytes[pages.start * PAGE_BYTES..pages.end * PAGE_BYTES].copy_from_slice(data);
        extent.pages[pages].fill(true);
        if extent.pages.iter().all(|&waits| waits) {
            self.let_go(&mut held, at)?;
        }
        Ok(())
    }

    /// Writes what waits in an extent, which keeps it if that fails.
    fn let_go(&self, held: &mut Held, at: usize) -> io::Result<()> {
        let extent = &held.extents[at];
        let mut page = 0;
        for run in extent.pages.chunk_by(|one, next| one == next) {
            let (first, last) = (page, page + run.len());
            page = last;
            if run[0] {
                let from = extent.start + (first * PAGE_BYTES) as u64;
                self.file.write(from, &extent.bytes[first * PAGE_BYTES..last * PAGE_BYTES])?;
            }
        }
        let gone = held.extents.remove(at);
        held.spare.push(gone.bytes);
        Ok(())
    }

    /// Writes what waits there; all of an extent, if any of it.
    fn let_go_of(&self, bytes: Range<u64>) -> io::Result<()> {
        if !self.holds.load(Ordering::Acquire) {
            return Ok(());
        }
        self.let_go_within(&mut self.held.lock(), &bytes)
    }

    fn let_go_of_all(&self) -> io::Result<()> {
        if !self.holds.load(Ordering::Acquire) {
            return Ok(());
        }
        let mut held = self.held.lock();
        self.let_go_within(&mut held, &(0..u64::MAX))?;
        held.spare = Vec::new();
        self.holds.store(false, Ordering::Release);
        Ok(())
    }

    fn let_go_within(&self, held: &mut Held, bytes: &Range<u64>) -> io::Result<()> {
        for at in (0..held.extents.len()).rev() {
            if held.extents[at].waits_in(bytes) {
                self.let_go(held, at)?;
            }
        }
        Ok(())
    }
}

impl Extent {
    fn waits_in(&self, bytes: &Range<u64>) -> bool {
        let (page, size) = (PAGE_BYTES as u64, EXTENT_BYTES as u64);
        if bytes.end <= self.start || self.start + size <= bytes.start {
            return false;
        }
        let first = bytes.start.saturating_sub(self.start) / page;
        let end = (bytes.end - self.start).min(size).div_ceil(page);
        self.pages[first as usize..end as usize].contains(&true)
    }
}

/// The extent that these bytes lie in, and which pages of it they are; none if they are not pages of one.
fn place(offset: u64, len: usize) -> Option<(u64, Range<usize>)> {
    let within = (offset % EXTENT_BYTES as u64) as usize;
    let whole = within.is_multiple_of(PAGE_BYTES) && len.is_multiple_of(PAGE_BYTES) && len > 0;
    let end = within.checked_add(len).filter(|&end| whole && end <= EXTENT_BYTES)?;
    Some((offset - within as u64, within / PAGE_BYTES..end / PAGE_BYTES))
}

impl<B: StorageBackend> StorageBackend for Coalescing<B> {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.let_go_of(offset..offset.saturating_add(out.len() as u64))?;
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.let_go_of_all()?;
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.let_go_of_all()?;
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let wanted = self.wanted.0.load(Ordering::Relaxed) > 0;
        if let Some((extent, pages)) = place(offset, data.len()).filter(|_| wanted) {
            return self.hold(extent, pages, data);
        }
        // What is held of it is older.
        self.let_go_of(offset..offset.saturating_add(data.len() as u64))?;
        self.file.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        let written = self.let_go_of_all();
        self.file.close().and(written)
    }

    forward_locks!(file);
}

#[cfg(test)]
#[path = "coalesce_tests.rs"]
mod tests;
