//! The log as the core sees it: its tail in memory, and how much of it is durable and committed.

use std::collections::VecDeque;

use super::entry::{Entry, Payload};
use super::id::{Index, LogId, Seq, Term};
use super::io::{LogWrite, Recovered};
use super::membership::Membership;

/// The tail of the log with its marks.
///
/// The tail always holds what is not durable, not committed or not applied; beyond that it keeps as
/// many bytes as it may for peers that lag. Always `base, before ≤ commit ≤ last`, `applied ≤ commit` and
/// `durable ≤ handed ≤ last`. What is applied need not be durable here: a majority holds it.
#[derive(Clone, Debug, Hash)]
pub(super) struct Log {
    /// The entry before the first one that the log on disk holds.
    base: LogId,
    /// The entry before the first one in memory.
    before: LogId,
    entries: VecDeque<Entry>,
    bytes: usize,
    /// Those of the bytes that are applied and durable: nobody here needs them.
    spare_bytes: usize,
    commit: Index,
    applied: Index,
    /// The last entry that is durable as it stands here.
    durable: Index,
    /// The last entry that was handed over to be written.
    handed: Index,
    /// Where the next write has to cut the log on disk.
    cut: Option<Index>,
    /// After which snapshot the next write has to begin the log on disk anew.
    reset: Option<(LogId, Membership)>,
    /// The writes under way, each with the last entry of which it makes sure. A truncation lowers
    /// these marks, so the end of an old write never vouches for a newer entry at the same index.
    writes: VecDeque<(Seq, Index)>,
    /// The memberships by the index of their entries; the last one is in force.
    memberships: Vec<(Index, Membership)>,
}

impl Log {
    /// # Panics
    /// If what was recovered contradicts itself: a log with a hole must not take part.
    pub(super) fn new(recovered: Recovered) -> Log {
        let Recovered { hard_state, base, committed, tail, mut memberships, applied, .. } =
            recovered;
        assert!(
            base.index <= committed.index && committed.index == hard_state.commit,
            "recovered base {base}, committed {committed} and commit {} disagree",
            hard_state.commit
        );
        let mut before = committed;
        for entry in &tail {
            assert!(
                entry.id.index == before.index.next() && entry.id.term >= before.term,
                "recovered entry {} follows {before}",
                entry.id
            );
            before = entry.id;
        }
        memberships.sort_by_key(|(index, _)| *index);
        Log {
            base,
            before: committed,
            bytes: tail.iter().map(Entry::cost_bytes).sum(),
            spare_bytes: 0,
            entries: tail.into(),
            commit: committed.index,
            applied: applied.min(committed.index),
            durable: before.index,
            handed: before.index,
            cut: None,
            reset: None,
            writes: VecDeque::new(),
            memberships,
        }
    }

    pub(super) fn base(&self) -> LogId {
        self.base
    }

    /// The entry before the first one in memory.
    pub(super) fn before(&self) -> LogId {
        self.before
    }

    pub(super) fn last(&self) -> LogId {
        self.entries.back().map_or(self.before, |entry| entry.id)
    }

    pub(super) fn commit(&self) -> Index {
        self.commit
    }

    pub(super) fn durable(&self) -> Index {
        self.durable
    }

    /// The membership in force and the index of its entry.
    pub(super) fn membership(&self) -> Option<&(Index, Membership)> {
        self.memberships.last()
    }

    /// The newest membership that is committed, and the index from which on it has been.
    pub(super) fn committed_membership(&self) -> Option<&(Index, Membership)> {
        self.memberships.iter().rfind(|(index, _)| *index <= self.commit)
    }

    /// The membership before the one in force, while that is not committed.
    pub(super) fn former_membership(&self) -> Option<&Membership> {
        let [.., (_, former), (index, _)] = self.memberships.as_slice() else { return None };
        (*index > self.commit).then_some(former)
    }

    fn offset(&self, index: Index) -> Option<usize> {
        let offset = index.0.checked_sub(self.before.index.0)?.checked_sub(1)?;
        usize::try_from(offset).ok().filter(|&offset| offset < self.entries.len())
    }

    /// The term of the entry at `index`, if it is in memory or right before it.
    pub(super) fn term_at(&self, index: Index) -> Option<Term> {
        if index == self.before.index {
            return Some(self.before.term);
        }
        match self.offset(index) {
            Some(offset) => Some(self.entries[offset].id.term),
            None => (index == self.base.index).then_some(self.base.term),
        }
    }

    /// The last entry up to `limit` whose term is not above `term`; the one before the tail if there
    /// is none in the tail. Terms never fall along the log, so this is a binary search.
    pub(super) fn last_not_above(&self, limit: Index, term: Term) -> LogId {
        let within = usize::try_from(limit.0.saturating_sub(self.before.index.0))
            .unwrap_or(usize::MAX)
            .min(self.entries.len());
        let below = self.entries.partition_point(|entry| entry.id.term <= term).min(within);
        below.checked_sub(1).map_or(self.before, |offset| self.entries[offset].id)
    }

    /// Copies entries from `from` on, until `max_bytes` are reached; at least one if there is one.
    /// Payloads are shared, not copied. `from` has to be in memory or right after the last entry.
    pub(super) fn read(&self, from: Index, max_bytes: usize) -> Vec<Entry> {
        let Some(start) = self.offset(from) else { return Vec::new() };
        let mut bytes = 0usize;
        let mut end = start;
        for entry in self.entries.range(start..) {
            bytes = bytes.saturating_add(entry.cost_bytes());
            if end > start && bytes > max_bytes {
                break;
            }
            end += 1;
        }
        self.entries.range(start..end).cloned().collect()
    }

    /// The entries from `from` on that may be applied, without copying; as many as lie together in
    /// memory and up to `max_bytes`, at least one if there is one. None when they left the memory.
    pub(super) fn applicable_from(&self, from: Index, max_bytes: usize) -> Option<&[Entry]> {
        if from > self.commit {
            return Some(&[]);
        }
        let start = self.offset(from)?;
        let (first, second) = self.entries.as_slices();
        let together =
            if start < first.len() { &first[start..] } else { &second[start - first.len()..] };
        let allowed =
            usize::try_from(self.commit.0 - from.0 + 1).unwrap_or(usize::MAX).min(together.len());
        let mut bytes = 0usize;
        let mut end = 0;
        for entry in &together[..allowed] {
            bytes = bytes.saturating_add(entry.cost_bytes());
            if end > 0 && bytes > max_bytes {
                break;
            }
            end += 1;
        }
        Some(&together[..end])
    }

    /// What the entries in memory after `index` count for.
    pub(super) fn cost_after(&self, index: Index) -> usize {
        let start = self.offset(index.next()).unwrap_or(self.entries.len());
        self.entries.range(start..).map(Entry::cost_bytes).sum()
    }

    /// What the entries after `from` up to `to` count for; both are in memory.
    pub(super) fn cost_between(&self, from: Index, to: Index) -> usize {
        let Some(start) = self.offset(from.next()) else { return 0 };
        let count = usize::try_from(to.0.saturating_sub(from.0)).unwrap_or(usize::MAX);
        self.entries.range(start..).take(count).map(Entry::cost_bytes).sum()
    }

    /// Appends the next entry.
    pub(super) fn append(&mut self, entry: Entry) {
        let last = self.last();
        assert!(
            entry.id.index == last.index.next() && entry.id.term >= last.term,
            "entry {} cannot follow {last}",
            entry.id
        );
        if let Payload::Membership(membership) = &entry.payload {
            self.memberships.push((entry.id.index, membership.clone()));
        }
        self.bytes += entry.cost_bytes();
        self.entries.push_back(entry);
    }

    /// Drops the entries from `from` on, which contradict a leader's.
    pub(super) fn truncate(&mut self, from: Index) {
        assert!(from > self.commit, "truncation at {from} would undo commit {}", self.commit);
        let keep = self.offset(from).unwrap_or(self.entries.len());
        self.bytes -= self.entries.drain(keep..).map(|entry| entry.cost_bytes()).sum::<usize>();
        while self.memberships.last().is_some_and(|(index, _)| *index >= from) {
            self.memberships.pop();
        }
        if from <= self.handed {
            self.cut = Some(self.cut.map_or(from, |cut| cut.min(from)));
        }
        self.lower_marks(from.prev());
    }

    fn lower_marks(&mut self, to: Index) {
        self.handed = self.handed.min(to);
        self.durable = self.durable.min(to);
        for (_, mark) in &mut self.writes {
            *mark = (*mark).min(to);
        }
    }

    /// Whether anything waits to be handed over.
    pub(super) fn has_unwritten(&self) -> bool {
        self.cut.is_some() || self.reset.is_some() || self.handed < self.last().index
    }

    /// Hands over what is to be written, as the write `seq`.
    pub(super) fn take_write(&mut self, seq: Seq) -> LogWrite {
        let entries = self.read(self.handed.next(), usize::MAX);
        self.handed = self.last().index;
        self.writes.push_back((seq, self.handed));
        let (reset, truncate_from) = (self.reset.take(), self.cut.take());
        LogWrite { seq, hard_state: None, reset, truncate_from, entries }
    }

    /// The write `seq` and all before it are durable.
    pub(super) fn persisted(&mut self, seq: Seq) {
        while let Some(&(written, mark)) = self.writes.front()
            && written <= seq
        {
            let settled = self.settled();
            self.durable = self.durable.max(mark);
            self.spare_after(settled);
            self.writes.pop_front();
        }
    }

    /// Moves the commit index forward, never past the last entry. True if it moved.
    pub(super) fn commit_to(&mut self, index: Index) -> bool {
        let index = index.min(self.last().index);
        let moved = index > self.commit;
        if moved {
            self.commit = index;
        }
        moved
    }

    pub(super) fn applied(&mut self, index: Index) {
        let settled = self.settled();
        self.applied = self.applied.max(index.min(self.commit));
        self.spare_after(settled);
    }

    /// Up to here everything is applied and durable.
    fn settled(&self) -> Index {
        self.applied.min(self.durable)
    }

    fn spare_after(&mut self, before: Index) {
        self.spare_bytes += self.cost_between(before.max(self.before.index), self.settled());
    }

    /// The log on disk begins after `last` from now on.
    pub(super) fn compacted(&mut self, last: LogId) {
        if last.index > self.base.index && last.index <= self.commit {
            self.base = last;
            self.forget_memberships();
        }
    }

    /// The bytes in memory, and how many of them nobody here needs.
    pub(super) fn memory_bytes(&self) -> (usize, usize) {
        (self.bytes, self.spare_bytes)
    }

    /// The bytes in memory that are not applied, or not durable.
    pub(super) fn unsettled_bytes(&self) -> usize {
        self.bytes - self.spare_bytes
    }

    /// Those of them that are committed.
    pub(super) fn unsettled_committed_bytes(&self) -> usize {
        self.cost_between(self.settled().max(self.before.index), self.commit)
    }

    /// Drops from memory what nobody here needs, down to `max_bytes`.
    pub(super) fn shrink(&mut self, max_bytes: usize) {
        let settled = self.settled();
        while self.bytes > max_bytes
            && let Some(entry) = self.entries.front()
            && entry.id.index <= settled
        {
            self.bytes -= entry.cost_bytes();
            self.spare_bytes -= entry.cost_bytes();
            self.before = entry.id;
            self.entries.pop_front();
        }
    }

    /// A snapshot up to `last` is durably in place of the state. The log on disk begins anew after it:
    /// entries that follow `last` in a log that holds it stay and are written again, all others go.
    pub(super) fn install(&mut self, last: LogId, membership: Membership) {
        assert!(last.index > self.commit, "snapshot {last} is older than commit {}", self.commit);
        let held = self.term_at(last.index) == Some(last.term);
        let gone = match self.offset(last.index) {
            Some(offset) if held => offset + 1,
            _ => self.entries.len(),
        };
        self.bytes -= self.entries.drain(..gone).map(|entry| entry.cost_bytes()).sum::<usize>();
        self.spare_bytes = 0;
        self.memberships.retain(|(index, _)| held && *index > last.index);
        self.memberships.insert(0, (last.index, membership.clone()));
        self.reset = Some((last, membership));
        self.cut = None;
        self.before = last;
        self.base = last;
        self.commit = last.index;
        self.applied = last.index;
        self.lower_marks(last.index);
        self.handed = last.index;
        self.durable = last.index;
    }

    fn forget_memberships(&mut self) {
        let needed = self.memberships.partition_point(|(index, _)| *index <= self.base.index);
        self.memberships.drain(..needed.saturating_sub(1));
    }
}

#[cfg(test)]
#[path = "log_tests.rs"]
mod tests;
