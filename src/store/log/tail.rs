//! How much of the log is kept: what a durable checkpoint covers goes, but for a tail that spares peers
//! that lag a snapshot, and which is longer while a peer that is up waits for more.

use std::collections::VecDeque;

use crate::raft::Index;

/// In how many pieces the tail is removed, one after the other.
const PIECES: u64 = 64;
/// How many times as long the tail is for a peer that is up and lags.
const AWAITED_FACTOR: u64 = 16;
/// The most bytes removed in one commit, so that a log that grew large delays no write for long.
const BYTES_AT_ONCE: u64 = 4 << 20;

/// The sizes of the log's entries, a piece at a time.
#[derive(Debug)]
pub(super) struct Tail {
    keep_bytes: u64,
    /// The entry before the first one that the log holds.
    base: Index,
    pieces: VecDeque<Piece>,
    bytes: u64,
    covered: Index,
    /// The last entry that no peer waits for that is up.
    awaited_after: Index,
}

#[derive(Debug)]
struct Piece {
    last: Index,
    bytes: u64,
}

impl Tail {
    /// Of a log that begins after `base` and holds nothing yet.
    pub(super) fn new(keep_bytes: u64, base: Index) -> Tail {
        let (pieces, covered, awaited_after) = (VecDeque::new(), Index(0), Index(u64::MAX));
        Tail { keep_bytes, base, pieces, bytes: 0, covered, awaited_after }
    }

    /// The log has one more entry.
    pub(super) fn add(&mut self, index: Index, bytes: usize) {
        let bytes = bytes as u64;
        self.bytes += bytes;
        match self.pieces.back_mut() {
            Some(piece) if piece.bytes + bytes <= self.keep_bytes / PIECES => {
                piece.last = index;
                piece.bytes += bytes;
            }
            _ => self.pieces.push_back(Piece { last: index, bytes }),
        }
    }

    /// The log lost its entries from `from` on. A piece of which some stay keeps its size, roughly.
    pub(super) fn cut(&mut self, from: Index) {
        while let Some(piece) = self.pieces.pop_back() {
            if piece.last < from {
                self.pieces.push_back(piece);
                return;
            }
            if self.pieces.back().map_or(self.base, |before| before.last) < from.prev() {
                self.pieces.push_back(Piece { last: from.prev(), ..piece });
                return;
            }
            self.bytes -= piece.bytes;
        }
    }

    /// The log begins anew after `base`.
    pub(super) fn restart(&mut self, base: Index) {
        *self = Tail::new(self.keep_bytes, base);
    }

    /// A durable checkpoint holds everything up to `index`.
    pub(super) fn compact_to(&mut self, index: Index) {
        self.covered = self.covered.max(index);
    }

    /// Peers that are up wait for the entries after this one.
    pub(super) fn await_after(&mut self, index: Index) {
        self.awaited_after = index;
    }

    /// The last of the entries that can go now, if any can.
    pub(super) fn spare(&self) -> Option<Index> {
        let mut gone = 0;
        let goes = |piece: &&Piece| {
            let room = gone < BYTES_AT_ONCE;
            gone += piece.bytes;
            let covered = piece.last <= self.covered;
            let factor = if piece.last <= self.awaited_after { 1 } else { AWAITED_FACTOR };
            let keep_bytes = self.keep_bytes.saturating_mul(factor);
            room && covered && self.bytes.saturating_sub(gone) >= keep_bytes
        };
        self.pieces.iter().take_while(goes).last().map(|piece| piece.last)
    }

    /// The entries up to `last` are gone. How many bytes they had, roughly.
    pub(super) fn gone(&mut self, last: Index) -> u64 {
        let before = self.bytes;
        while let Some(piece) = self.pieces.front().filter(|piece| piece.last <= last) {
            self.bytes -= piece.bytes;
            self.pieces.pop_front();
        }
        self.base = last;
        before - self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tail(keep_bytes: u64, entries: std::ops::RangeInclusive<u64>) -> Tail {
        let mut tail = Tail::new(keep_bytes, Index(0));
        entries.for_each(|index| tail.add(Index(index), 100));
        tail
    }

    #[test]
    fn what_is_covered_goes_but_for_the_tail() {
        let mut tail = tail(6_400, 1..=100);
        assert_eq!(tail.spare(), None, "nothing is covered");
        tail.compact_to(Index(90));
        let mut last = Index(0);
        while let Some(spare) = tail.spare() {
            assert!(spare > last);
            last = spare;
            tail.gone(spare);
        }
        assert_eq!(last, Index(36), "of 10,000 bytes 6,400 stay");
    }

    #[test]
    fn what_a_peer_that_is_up_waits_for_stays_up_to_a_bound() {
        let mut tail = tail(6_400, 1..=2_000);
        tail.compact_to(Index(2_000));
        tail.await_after(Index(1_000));
        let cut = |tail: &mut Tail| {
            let mut last = Index(0);
            while let Some(spare) = tail.spare() {
                last = spare;
                tail.gone(spare);
            }
            last
        };
        assert_eq!(cut(&mut tail), Index(1_000));
        tail.await_after(Index(0));
        assert_eq!(
            cut(&mut tail),
            Index(0),
            "of 200,000 bytes 100,000 are left, which is below the bound"
        );
        (2_001..=2_100).for_each(|index| tail.add(Index(index), 100));
        tail.compact_to(Index(2_100));
        assert_eq!(cut(&mut tail), Index(1_076), "102,400 bytes stay");
        tail.await_after(Index(u64::MAX));
        assert_eq!(cut(&mut tail), Index(2_036));
    }

    #[test]
    fn what_is_not_covered_stays_however_large() {
        let mut tail = tail(0, 1..=10);
        tail.compact_to(Index(3));
        assert_eq!(tail.spare(), Some(Index(3)));
        tail.gone(Index(3));
        assert_eq!(tail.spare(), None);
    }

    #[test]
    fn a_log_that_grew_large_is_cut_bit_by_bit() {
        let mut tail = Tail::new(0, Index(0));
        (1..=10).for_each(|index| tail.add(Index(index), 3 << 20));
        tail.compact_to(Index(10));
        assert_eq!(tail.spare(), Some(Index(2)));
    }

    #[test]
    fn a_cut_is_not_counted_any_more() {
        let mut tail = tail(12_800, 1..=10);
        tail.cut(Index(4));
        assert_eq!(tail.pieces.back().map(|piece| piece.last), Some(Index(3)));
        tail.cut(Index(1));
        assert_eq!((tail.pieces.len(), tail.bytes), (0, 0));
        tail.add(Index(1), 70);
        assert_eq!(tail.bytes, 70);
        tail.restart(Index(9));
        assert_eq!(tail.bytes, 0);
    }

    #[test]
    fn a_cut_right_after_the_beginning_leaves_nothing() {
        let mut tail = tail(0, 1..=4);
        tail.compact_to(Index(2));
        tail.gone(Index(2));
        tail.cut(Index(3));
        assert_eq!(tail.spare(), None, "entry 2 is gone already");
    }
}
