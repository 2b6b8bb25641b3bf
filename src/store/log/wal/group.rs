//! The layout of the file: slots, each with a head, and in them groups, each with a head. Pure.
//!
//! A group is what one write of the log made durable. It begins at a block, is followed by zeros up to the next, and
//! its checksum goes over all of it and over which file it belongs to: a write that the power cut short, or one that an
//! older file left, is none. Groups are numbered without a gap, so the first that is missing is the end.

use crate::store::disk::blocks::BLOCK_BYTES;

/// The first byte of each head: the version of its layout.
const LAYOUT: u8 = 1;
const MAGIC: [u8; 8] = *b"konsenWL";
const SUM_BYTES: usize = 4;

/// What a group takes besides its body.
pub(super) const GROUP_HEAD_BYTES: usize = SUM_BYTES + 1 + 4 + 8;
const SLOT_HEAD_BYTES: usize = SUM_BYTES + 1 + 8 + 8;

/// Which file a head belongs to: a number that was drawn when the file was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileId(pub(super) u64);

impl FileId {
    fn checksum(self, bytes: &[u8]) -> [u8; SUM_BYTES] {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&self.0.to_le_bytes());
        hasher.update(bytes);
        hasher.finalize().to_le_bytes()
    }

    /// Puts a group's head and body at the beginning of whole blocks.
    pub(super) fn write_group(self, number: u64, body: &[u8], into: &mut [u8]) {
        let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
        let (head, rest) = into.split_at_mut(GROUP_HEAD_BYTES);
        head[4] = LAYOUT;
        head[5..9].copy_from_slice(&length.to_le_bytes());
        head[9..].copy_from_slice(&number.to_le_bytes());
        rest[..body.len()].copy_from_slice(body);
        let sum = self.checksum(&into[SUM_BYTES..GROUP_HEAD_BYTES + body.len()]);
        into[..SUM_BYTES].copy_from_slice(&sum);
    }

    /// The body of the group that begins there, if it is whole and its number is one that `wanted` takes.
    pub(super) fn read_group(
        self,
        bytes: &[u8],
        wanted: impl FnOnce(u64) -> bool,
    ) -> Result<Option<(u64, &[u8])>, Newer> {
        let Some((head, rest)) = bytes.split_at_checked(GROUP_HEAD_BYTES) else { return Ok(None) };
        let number = number_at(head, 9);
        let length = u32::from_le_bytes([head[5], head[6], head[7], head[8]]) as usize;
        if !wanted(number) || length > rest.len() {
            return Ok(None);
        }
        if self.checksum(&bytes[SUM_BYTES..GROUP_HEAD_BYTES + length]) != head[..SUM_BYTES] {
            return Ok(None);
        }
        if head[4] > LAYOUT {
            return Err(Newer);
        }
        Ok(Some((number, &rest[..length])))
    }

    /// Puts a slot's head at the beginning of its first block.
    pub(super) fn write_slot(self, first_group: u64, into: &mut [u8]) {
        into[4] = LAYOUT;
        into[5..13].copy_from_slice(&MAGIC);
        into[13..SLOT_HEAD_BYTES].copy_from_slice(&first_group.to_le_bytes());
        let sum = self.checksum(&into[SUM_BYTES..SLOT_HEAD_BYTES]);
        into[..SUM_BYTES].copy_from_slice(&sum);
    }

    /// The number of the first group in a slot, if that has a head.
    pub(super) fn read_slot(self, bytes: &[u8]) -> Result<Option<u64>, Newer> {
        let Some(head) = bytes.get(..SLOT_HEAD_BYTES) else { return Ok(None) };
        if head[5..13] != MAGIC || self.checksum(&head[SUM_BYTES..]) != head[..SUM_BYTES] {
            return Ok(None);
        }
        if head[4] > LAYOUT { Err(Newer) } else { Ok(Some(number_at(head, 13))) }
    }
}

/// A head of a layout that came later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Newer;

/// What a group of such a body takes in the file.
pub(super) fn group_bytes(body: usize) -> usize {
    (GROUP_HEAD_BYTES + body).next_multiple_of(BLOCK_BYTES)
}

fn number_at(bytes: &[u8], at: usize) -> u64 {
    bytes[at..].first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: FileId = FileId(7);

    #[test]
    fn a_group_is_whole_or_none() {
        let body = b"body".repeat(2000);
        let mut blocks = vec![0; group_bytes(body.len())];
        FILE.write_group(3, &body, &mut blocks);
        assert_eq!(FILE.read_group(&blocks, |_| true), Ok(Some((3, &body[..]))));
        assert_eq!(FILE.read_group(&blocks, |number| number > 3), Ok(None));
        assert_eq!(FileId(8).read_group(&blocks, |_| true), Ok(None));
        for at in (0..GROUP_HEAD_BYTES + body.len()).step_by(3) {
            let mut torn = blocks.clone();
            torn[at] ^= 1;
            assert_eq!(FILE.read_group(&torn, |_| true), Ok(None), "changed at {at}");
            assert_eq!(FILE.read_group(&blocks[..at], |_| true), Ok(None), "cut at {at}");
        }
        assert_eq!(FILE.read_group(&[0; 2 * BLOCK_BYTES], |_| true), Ok(None));
    }

    #[test]
    fn a_slot_has_its_own_head_or_none() {
        let mut block = vec![0; BLOCK_BYTES];
        assert_eq!(FILE.read_slot(&block), Ok(None));
        FILE.write_slot(9, &mut block);
        assert_eq!(FILE.read_slot(&block), Ok(Some(9)));
        assert_eq!(FileId(8).read_slot(&block), Ok(None));
        assert_eq!(FILE.read_slot(&block[..9]), Ok(None));
        for at in 0..SLOT_HEAD_BYTES {
            let mut torn = block.clone();
            torn[at] ^= 1;
            assert_eq!(FILE.read_slot(&torn), Ok(None), "changed at {at}");
        }
    }

    #[test]
    fn what_came_later_is_named() {
        let mut blocks = vec![0; BLOCK_BYTES];
        let newer = |bytes: &mut [u8], end: usize| {
            bytes[4] = LAYOUT + 1;
            let sum = FILE.checksum(&bytes[SUM_BYTES..end]);
            bytes[..SUM_BYTES].copy_from_slice(&sum);
        };
        FILE.write_group(1, b"", &mut blocks);
        newer(&mut blocks, GROUP_HEAD_BYTES);
        assert_eq!(FILE.read_group(&blocks, |_| true), Err(Newer));
        FILE.write_slot(1, &mut blocks);
        newer(&mut blocks, SLOT_HEAD_BYTES);
        assert_eq!(FILE.read_slot(&blocks), Err(Newer));
    }
}
