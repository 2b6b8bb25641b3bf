//! Committed entries that have left the core's memory, as they come back from the log to be applied: after a start, and
//! where apply is far behind.

use std::collections::VecDeque;

use crate::raft::{Entry, Index};

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Replay {
    pieces: VecDeque<Vec<Entry>>,
    /// A piece that begins here was asked for.
    asked: Option<Index>,
}

impl Replay {
    /// `from` is the next entry to be applied: what comes before it is dropped, and so is what does not follow it.
    pub(super) fn advance(&mut self, from: Index) {
        let is_passed = |piece: &Vec<Entry>| piece.last().is_none_or(|last| last.id.index < from);
        while self.pieces.front().is_some_and(is_passed) {
            self.pieces.pop_front();
        }
        let first = self.pieces.front().and_then(|piece| piece.first());
        if first.is_some_and(|first| first.id.index > from) {
            self.pieces.clear();
        }
    }

    /// The entries from `from` on that are at hand; none if there are none.
    pub(super) fn from(&self, from: Index) -> Option<&[Entry]> {
        let first = self.pieces.front()?;
        let passed = first.partition_point(|entry| entry.id.index < from);
        (passed < first.len()).then(|| &first[passed..])
    }

    /// Where the next piece is to begin, if one should be asked for: one is being applied while the next is read.
    /// `from` is the next entry to be applied, `to` the last one that may be and is durable.
    pub(super) fn next_piece(&mut self, from: Index, to: Index) -> Option<Index> {
        if self.asked.is_some() || self.pieces.len() > 1 {
            return None;
        }
        let behind = self.pieces.back().and_then(|piece| piece.last());
        let next = behind.map_or(from, |last| last.id.index.next()).max(from);
        self.asked = (next <= to).then_some(next);
        self.asked
    }

    /// A piece that was asked for has come. Where it was to begin, if it is empty.
    pub(super) fn came(&mut self, piece: Vec<Entry>) -> Option<Index> {
        let asked = self.asked.take();
        if piece.is_empty() {
            return asked;
        }
        self.pieces.push_back(piece);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::{LogId, Payload, Term};

    fn entries(indexes: std::ops::RangeInclusive<u64>) -> Vec<Entry> {
        indexes
            .map(|index| Entry { id: LogId::new(Term(1), Index(index)), payload: Payload::Noop })
            .collect()
    }

    #[test]
    fn a_piece_is_read_while_another_is_applied() {
        let mut replay = Replay::default();
        assert_eq!(replay.from(Index(5)), None);
        assert_eq!(replay.next_piece(Index(5), Index(20)), Some(Index(5)));
        assert_eq!(replay.next_piece(Index(5), Index(20)), None, "it has been asked for");
        assert_eq!(replay.came(entries(5..=9)), None);
        assert_eq!(replay.from(Index(5)).map(<[_]>::len), Some(5));
        assert_eq!(replay.next_piece(Index(5), Index(20)), Some(Index(10)));
        replay.advance(Index(8));
        assert_eq!(replay.from(Index(8)).map(<[_]>::len), Some(2));
        assert_eq!(replay.came(entries(10..=20)), None);
        assert_eq!(replay.next_piece(Index(8), Index(20)), None, "two are at hand");
        replay.advance(Index(12));
        assert_eq!(replay.from(Index(12)).map(<[_]>::len), Some(9));
        assert_eq!(replay.next_piece(Index(12), Index(20)), None, "nor is there more");
        replay.advance(Index(21));
        assert_eq!(replay.from(Index(21)), None);
    }

    #[test]
    fn what_a_snapshot_has_overtaken_is_dropped_and_what_is_not_there_is_told() {
        let mut replay = Replay::default();
        assert_eq!(replay.next_piece(Index(5), Index(9)), Some(Index(5)));
        assert_eq!(replay.came(entries(5..=9)), None);
        replay.advance(Index(30));
        assert_eq!(replay.from(Index(30)), None);
        assert_eq!(replay.next_piece(Index(30), Index(40)), Some(Index(30)));
        assert_eq!(replay.came(Vec::new()), Some(Index(30)));
        // What was asked for while the memory had what comes first.
        assert_eq!(replay.next_piece(Index(35), Index(40)), Some(Index(35)));
        assert_eq!(replay.came(entries(35..=40)), None);
        replay.advance(Index(33));
        assert_eq!(replay.next_piece(Index(33), Index(40)), Some(Index(33)));
    }
}
