//! What must be in the pages of a file: a part of each one's checksum, once its parent has been read.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use super::backend::PAGE_BYTES;

/// How many pages have their memory together.
const PAGES_A_CHUNK: usize = 4096;
/// How many bits say how rows lie in the page.
const SHAPE_BITS: u32 = 4;
/// How many shapes there may be; no number at all stands for a page of which nothing is known.
pub(super) const SHAPES_MAX: usize = (1 << SHAPE_BITS) - 1;

/// Four bytes a page, a thousandth of the file, which take memory once something is known of their neighbours: 28 bits of the page's
/// checksum, so that a damaged page passes here once in 268 million times, and the shape of its rows.
#[derive(Debug)]
pub(super) struct Sums {
    chunks: Vec<OnceLock<Box<[AtomicU32]>>>,
}

/// What is known of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sum {
    part: u32,
    /// The number of its shape.
    pub(super) shape: usize,
}

impl Sum {
    fn of(sum: u128, shape: usize) -> Sum {
        let low = u32::from_le_bytes([0, 1, 2, 3].map(|at| sum.to_le_bytes()[at]));
        Sum { part: low << SHAPE_BITS, shape }
    }

    /// Whether the page may have this checksum.
    pub(super) fn fits(self, sum: u128) -> bool {
        Sum::of(sum, self.shape) == self
    }
}

fn page(at: u64) -> usize {
    usize::try_from(at / PAGE_BYTES as u64).unwrap_or(usize::MAX)
}

impl Sums {
    /// For a file of so many bytes, of which nothing is known.
    pub(super) fn new(bytes: u64) -> Sums {
        let mut chunks = Vec::new();
        chunks.resize_with(page(bytes) / PAGES_A_CHUNK + 1, OnceLock::new);
        Sums { chunks }
    }

    /// The page that begins at `at` has this checksum. Beyond the file there is none.
    pub(super) fn expect(&self, at: u64, sum: u128, shape: usize) {
        let page = page(at);
        let Some(chunk) = self.chunks.get(page / PAGES_A_CHUNK) else { return };
        debug_assert!(shape < SHAPES_MAX);
        let Ok(shape_bits) = u32::try_from(shape + 1) else { return };
        let pages = || (0..PAGES_A_CHUNK).map(|_| AtomicU32::new(0)).collect();
        let known = Sum::of(sum, shape).part | shape_bits;
        chunk.get_or_init(pages)[page % PAGES_A_CHUNK].store(known, Ordering::Release);
    }

    /// What is known of the page that begins at `at`.
    pub(super) fn of(&self, at: u64) -> Option<Sum> {
        let page = page(at);
        let known = self.chunks.get(page / PAGES_A_CHUNK)?.get()?[page % PAGES_A_CHUNK]
            .load(Ordering::Acquire);
        let shape_bits = known & ((1 << SHAPE_BITS) - 1);
        let shape = usize::try_from(shape_bits).ok()?.checked_sub(1)?;
        Some(Sum { part: known - shape_bits, shape })
    }

    /// Something else comes in the place of so many bytes.
    pub(super) fn forget(&self, at: u64, bytes: usize) {
        let first = page(at);
        for page in first..first + bytes.div_ceil(PAGE_BYTES) {
            if let Some(chunk) = self.chunks.get(page / PAGES_A_CHUNK).and_then(OnceLock::get) {
                chunk[page % PAGES_A_CHUNK].store(0, Ordering::Release);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_known_from_when_its_parent_is_read_until_it_is_written() {
        let sums = Sums::new(100 << 20);
        let at = 70 << 20;
        assert_eq!(sums.of(at), None);
        sums.expect(at, 0x1234_5678_9abc, 2);
        let known = sums.of(at).unwrap();
        assert_eq!(known.shape, 2);
        assert!(known.fits(0x1234_5678_9abc) && !known.fits(0x1234_5678_9abd));
        assert_eq!((sums.of(at - 4096), sums.of(at + 4096)), (None, None));
        sums.expect(at + 4096, 0, 0);
        assert!(sums.of(at + 4096).unwrap().fits(0), "nothing but zeros is a checksum too");
        sums.forget(at - 4096, 2 * 4096);
        assert_eq!(sums.of(at), None);
        assert!(sums.of(at + 4096).is_some());
        sums.forget(at, 1 << 20);
        assert_eq!(sums.of(at + 4096), None);
    }

    #[test]
    fn beyond_the_file_nothing_is_known() {
        let sums = Sums::new(4096);
        sums.expect(1 << 40, 7, 1);
        sums.forget(1 << 40, 1 << 20);
        assert_eq!(sums.of(1 << 40), None);
    }
}
