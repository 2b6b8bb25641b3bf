//! Memory for whole blocks: direct I/O takes only what begins at a multiple of a block, in the file and in memory.

/// What the file is written and read in.
pub(in crate::store) const BLOCK_BYTES: usize = 4096;

/// Bytes that begin at a multiple of a block and are a whole number of them; what is beyond what was put in is zero.
#[derive(Debug, Default)]
pub(in crate::store) struct Blocks {
    memory: Vec<u8>,
    /// Where in `memory` they begin.
    start: usize,
    /// How many bytes of them there are.
    len: usize,
}

impl Blocks {
    /// So many bytes of zero, up to the end of their last block.
    pub(in crate::store) fn zeroed(bytes: usize) -> Blocks {
        let mut blocks = Blocks::default();
        blocks.reset(bytes);
        blocks
    }

    /// Makes them so many bytes of zero, up to the end of their last block.
    pub(in crate::store) fn reset(&mut self, bytes: usize) {
        let len = bytes.next_multiple_of(BLOCK_BYTES);
        if self.memory.len() < len + BLOCK_BYTES {
            self.memory = vec![0; len + BLOCK_BYTES];
            self.start = self.memory.as_ptr().align_offset(BLOCK_BYTES);
        } else {
            self.memory[self.start..self.start + len].fill(0);
        }
        self.len = len;
    }

    /// Lets go of memory beyond so many bytes.
    pub(in crate::store) fn shrink_to(&mut self, bytes: usize) {
        if self.memory.len() > bytes + BLOCK_BYTES {
            *self = Blocks::zeroed(bytes);
        }
    }

    /// All of them.
    pub(in crate::store) fn bytes(&self) -> &[u8] {
        &self.memory[self.start..self.start + self.len]
    }

    /// All of them, to be changed.
    pub(in crate::store) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.start + self.len]
    }
}

/// Whether direct I/O takes these as they are.
pub(in crate::store) fn are_blocks(at: u64, bytes: &[u8]) -> bool {
    let whole = |number: usize| number.is_multiple_of(BLOCK_BYTES);
    at.is_multiple_of(BLOCK_BYTES as u64) && whole(bytes.len()) && whole(bytes.as_ptr().addr())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_begin_at_a_block_and_are_whole_and_zero() {
        let mut blocks = Blocks::default();
        for bytes in [1, BLOCK_BYTES, BLOCK_BYTES + 1, 10 * BLOCK_BYTES, 7] {
            blocks.reset(bytes);
            assert_eq!(blocks.bytes().len(), bytes.next_multiple_of(BLOCK_BYTES));
            assert!(are_blocks(0, blocks.bytes()) && blocks.bytes().iter().all(|byte| *byte == 0));
            blocks.bytes_mut().fill(7);
        }
        blocks.shrink_to(BLOCK_BYTES);
        assert_eq!(blocks.memory.len(), 2 * BLOCK_BYTES);
        assert!(are_blocks(0, blocks.bytes()) && !are_blocks(1, blocks.bytes()));
        assert!(!are_blocks(0, &blocks.bytes()[1..]));
    }
}
