//! Reads without a log entry (read-index: thesis 6.4, paper section 8).
//!
//! A read must see everything that was committed when it arrived. The leader notes its commit index
//! and, before it answers, makes sure by a round of heartbeats that it still led *after* the read
//! arrived. Reads share rounds; one that arrives while a round is out waits for the next, since the
//! answers of the former may have been given before the read came.

use std::mem;

use super::id::{Index, NodeId, ReadId};

/// Who reads at a leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Reader {
    /// This node.
    Here(ReadId),
    /// A follower, by its own name for its question.
    There(NodeId, ReadId),
}

/// A round that is out, with the reads that began before it.
#[derive(Clone, Debug, Hash)]
struct Round {
    number: u64,
    index: Index,
    readers: Vec<Reader>,
}

/// The rounds of a leader.
#[derive(Clone, Debug, Default, Hash)]
pub(super) struct Rounds {
    /// The number of the newest round; 0 before the first.
    newest: u64,
    out: Option<Round>,
    waiting: Vec<Reader>,
}

impl Rounds {
    pub(super) fn newest(&self) -> u64 {
        self.newest
    }

    /// Whether reads wait for an answer.
    pub(super) fn is_out(&self) -> bool {
        self.out.is_some()
    }

    /// How many read by the round that is out.
    pub(super) fn readers_out(&self) -> usize {
        self.out.as_ref().map_or(0, |round| round.readers.len())
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len() + self.readers_out()
    }

    /// Takes a reader in. A follower's question that came before, and was not answered yet, is the same one.
    pub(super) fn wait(&mut self, reader: Reader) {
        let mut taken_in = self.out.iter().flat_map(|round| &round.readers).chain(&self.waiting);
        let again = matches!(reader, Reader::There(..)) && taken_in.any(|one| *one == reader);
        if !again {
            self.waiting.push(reader);
        }
    }

    /// Begins a round for the reads that wait, unless one is out or none waits. True if it did.
    pub(super) fn begin(&mut self, commit: Index) -> bool {
        if self.out.is_some() || self.waiting.is_empty() {
            return false;
        }
        let readers = mem::take(&mut self.waiting);
        self.out = Some(Round { number: self.newest + 1, index: commit, readers });
        true
    }

    /// Heartbeats are leaving: the number of their round, which is that of a round for reads if one
    /// has just begun.
    pub(super) fn next(&mut self) -> u64 {
        self.newest += 1;
        self.newest
    }

    /// Ends the round that is out if a quorum has answered `answered` or later.
    pub(super) fn end(&mut self, answered: u64) -> Option<(Index, Vec<Reader>)> {
        let ended = self.out.take_if(|round| round.number <= answered)?;
        Some((ended.index, ended.readers))
    }

    /// Everybody who waits, when leadership ends.
    pub(super) fn drain(&mut self) -> Vec<Reader> {
        let out = self.out.take().map_or_else(Vec::new, |round| round.readers);
        out.into_iter().chain(mem::take(&mut self.waiting)).collect()
    }
}

/// A ReadIndex request on its way to the leader, with the reads that began before it.
#[derive(Clone, Debug, Hash)]
struct Question {
    id: ReadId,
    /// Whether the leader's lease suffices for all reads.
    lease: bool,
    reads: Vec<ReadId>,
    ticks: u32,
}

/// The pending ReadIndex request of a follower, and the reads that wait for the next one.
#[derive(Clone, Debug, Default, Hash)]
pub(super) struct PendingReadIndex {
    out: Option<Question>,
    waiting: Vec<ReadId>,
    /// Whether the leader's lease suffices for all that wait.
    lease: bool,
}

impl PendingReadIndex {
    pub(super) fn len(&self) -> usize {
        self.waiting.len() + self.out.as_ref().map_or(0, |question| question.reads.len())
    }

    pub(super) fn wait(&mut self, read: ReadId, lease: bool) {
        self.lease = lease && (self.lease || self.waiting.is_empty());
        self.waiting.push(read);
    }

    /// Asks on behalf of the reads that wait, unless a question is out or none waits. With the question's
    /// name comes whether a lease suffices.
    pub(super) fn ask(&mut self, name: impl FnOnce() -> ReadId) -> Option<(ReadId, bool)> {
        if self.out.is_some() || self.waiting.is_empty() {
            return None;
        }
        let id = name();
        let (lease, reads) = (self.lease, mem::take(&mut self.waiting));
        self.out = Some(Question { id, lease, reads, ticks: 0 });
        Some((id, lease))
    }

    /// The question that is out, each time that it was out for another `every` ticks: it or its answer may be lost.
    pub(super) fn ask_again(&self, every: u32) -> Option<(ReadId, bool)> {
        let question = self.out.as_ref()?;
        let due = question.ticks > 0 && question.ticks.is_multiple_of(every);
        due.then_some((question.id, question.lease))
    }

    /// The reads that the question `id` was asked for; none if it is not out any more.
    pub(super) fn answered(&mut self, id: ReadId) -> Vec<ReadId> {
        self.out
            .take_if(|question| question.id == id)
            .map_or_else(Vec::new, |question| question.reads)
    }

    /// Counts a tick; the reads of a question that is out for `limit` ticks are given up.
    pub(super) fn tick(&mut self, limit: u32) -> Vec<ReadId> {
        self.out
            .take_if(|question| {
                question.ticks += 1;
                question.ticks >= limit
            })
            .map_or_else(Vec::new, |question| question.reads)
    }

    /// Everybody who waits, when the leader is gone.
    pub(super) fn drain(&mut self) -> Vec<ReadId> {
        let out = self.out.take().map_or_else(Vec::new, |question| question.reads);
        out.into_iter().chain(mem::take(&mut self.waiting)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Reader = Reader::Here(ReadId(1));
    const B: Reader = Reader::There(NodeId(2), ReadId(1));

    #[test]
    fn a_read_that_arrives_during_a_round_waits_for_the_next() {
        let mut rounds = Rounds::default();
        rounds.wait(A);
        assert_eq!(rounds.next(), 1, "a heartbeat that no read asked for");
        assert!(rounds.begin(Index(5)));
        assert_eq!(rounds.next(), 2);
        rounds.wait(B);
        assert_eq!((rounds.readers_out(), rounds.len()), (1, 2));
        assert!(!rounds.begin(Index(6)), "a round is out");
        assert_eq!(rounds.end(1), None);
        assert_eq!(rounds.next(), 3, "a heartbeat repeats the round");
        assert_eq!(rounds.end(2), Some((Index(5), vec![A])));
        assert!(rounds.begin(Index(7)));
        assert_eq!(rounds.next(), 4);
        assert_eq!(rounds.end(3), None);
        assert_eq!(rounds.end(4), Some((Index(7), vec![B])));
        assert_eq!(rounds.len(), 0);
    }

    #[test]
    fn a_followers_question_that_comes_again_is_taken_in_once() {
        let mut rounds = Rounds::default();
        rounds.wait(B);
        rounds.wait(B);
        assert!(rounds.begin(Index(1)));
        rounds.wait(B);
        assert_eq!(rounds.len(), 1);
        let newer = Reader::There(NodeId(2), ReadId(2));
        rounds.wait(newer);
        assert_eq!(rounds.drain(), vec![B, newer]);
        rounds.wait(B);
        assert_eq!(rounds.len(), 1, "its answer may be lost");
    }

    #[test]
    fn no_round_without_a_read() {
        let mut rounds = Rounds::default();
        assert!(!rounds.begin(Index(1)));
        assert_eq!(rounds.newest(), 0);
    }

    #[test]
    fn everybody_is_told_when_leadership_ends() {
        let mut rounds = Rounds::default();
        rounds.wait(A);
        rounds.begin(Index(1));
        rounds.wait(B);
        assert_eq!(rounds.drain(), vec![A, B]);
        assert_eq!(rounds.len(), 0);
    }

    #[test]
    fn a_follower_has_one_question_out_and_ignores_other_answers() {
        let mut pending = PendingReadIndex::default();
        pending.wait(ReadId(1), false);
        assert_eq!(pending.ask(|| ReadId(100)), Some((ReadId(100), false)));
        pending.wait(ReadId(2), true);
        assert_eq!(pending.ask(|| ReadId(101)), None);
        assert!(pending.answered(ReadId(99)).is_empty());
        assert_eq!(pending.answered(ReadId(100)), vec![ReadId(1)]);
        assert!(pending.answered(ReadId(100)).is_empty(), "a repeated answer finds nobody");
        assert_eq!(pending.ask(|| ReadId(101)), Some((ReadId(101), true)));
        assert!(pending.tick(2).is_empty());
        assert_eq!(pending.tick(2), vec![ReadId(2)]);
    }

    #[test]
    fn a_question_without_an_answer_is_asked_again_until_it_is_given_up() {
        let mut pending = PendingReadIndex::default();
        pending.wait(ReadId(1), true);
        assert_eq!(pending.ask(|| ReadId(100)), Some((ReadId(100), true)));
        assert_eq!(pending.ask_again(2), None, "it is just leaving");
        // What comes later is not asked with it, and changes nothing of what suffices.
        pending.wait(ReadId(2), false);
        let asked: Vec<u32> = (1..=6)
            .filter(|_| {
                assert!(pending.tick(7).is_empty());
                let again = pending.ask_again(2);
                assert!(again.is_none_or(|again| again == (ReadId(100), true)));
                again.is_some()
            })
            .collect();
        assert_eq!(asked, [2, 4, 6]);
        assert_eq!(pending.tick(7), vec![ReadId(1)]);
        assert_eq!(pending.ask_again(2), None);
        assert_eq!(pending.ask(|| ReadId(101)), Some((ReadId(101), false)));
    }

    #[test]
    fn a_question_is_asked_on_a_lease_only_if_that_suffices_for_all() {
        for (reads, suffices) in [
            (vec![true, true], true),
            (vec![true, false], false),
            (vec![false, true], false),
            (vec![true, false, true], false),
        ] {
            let mut pending = PendingReadIndex::default();
            for (id, lease) in reads.into_iter().enumerate() {
                pending.wait(ReadId(id as u64), lease);
            }
            assert_eq!(pending.ask(|| ReadId(100)), Some((ReadId(100), suffices)));
        }
    }
}
