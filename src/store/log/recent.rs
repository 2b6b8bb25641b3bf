//! What the log holds beyond its database: where in the write-ahead log each entry is. In memory only; a start makes it
//! anew of the groups that it finds.

use std::collections::{BTreeMap, VecDeque};
use std::ops::RangeInclusive;

use super::change::Change;
use crate::raft::{HardState, Index, LogId, Membership, Term};
use crate::store::error::{self, StoreError};

/// The log as it is now, durably: the entries up to `stored` are rows of the database, those after it are in the
/// write-ahead log. What the database has beyond `stored`, or before `base`, counts for nothing.
#[derive(Clone, Debug)]
pub(super) struct Recent {
    pub(super) hard_state: HardState,
    /// The entry before the first one.
    pub(super) base: LogId,
    pub(super) stored: Index,
    places: VecDeque<Place>,
    /// The first entry of each term among `places`.
    terms: VecDeque<(Index, Term)>,
    /// All memberships of the log, and the one in force at `base`.
    pub(super) memberships: BTreeMap<Index, Membership>,
    /// How often something of it was cut off, or moved.
    pub(super) version: u64,
}

/// Where the row of an entry is in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    at: u32,
    pub(super) bytes: u32,
}

impl Place {
    pub(super) fn at(self) -> u64 {
        u64::from(self.at)
    }

    fn end(self) -> u64 {
        self.at() + u64::from(self.bytes)
    }
}

/// Where an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whereabouts {
    /// It is the one before the first, and this is its id.
    Base(LogId),
    /// In the database.
    Row,
    /// In the write-ahead log; its id.
    Recent(LogId),
    /// The log does not hold it.
    Nowhere,
}

impl Recent {
    /// What the database holds, and nothing besides.
    pub(super) fn new(
        hard_state: HardState,
        base: LogId,
        stored: Index,
        memberships: BTreeMap<Index, Membership>,
    ) -> Recent {
        let (places, terms) = Default::default();
        Recent { hard_state, base, stored, places, terms, memberships, version: 0 }
    }

    /// The last entry; the one before the first if there is none.
    pub(super) fn last(&self) -> Index {
        Index(self.stored.0 + self.places.len() as u64)
    }

    pub(super) fn find(&self, index: Index) -> Whereabouts {
        match index {
            index if index == self.base.index => Whereabouts::Base(self.base),
            index if index < self.base.index || index > self.last() => Whereabouts::Nowhere,
            index if index <= self.stored => Whereabouts::Row,
            index => Whereabouts::Recent(LogId::new(self.term_at(index), index)),
        }
    }

    /// The term of an entry that is in the write-ahead log.
    fn term_at(&self, index: Index) -> Term {
        let after = self.terms.partition_point(|(first, _)| *first <= index);
        after.checked_sub(1).map_or(Term(0), |at| self.terms[at].1)
    }

    /// The ids of entries that are in the write-ahead log, and where they are there.
    pub(super) fn places(
        &self,
        range: RangeInclusive<Index>,
    ) -> impl Iterator<Item = (LogId, Place)> + use<'_> {
        let first = Index(range.start().0.max(self.stored.0 + 1));
        let skipped = usize::try_from(first.0 - self.stored.0 - 1).unwrap_or(usize::MAX);
        let count = (range.end().0 + 1).saturating_sub(first.0);
        let places =
            self.places.iter().skip(skipped).take(usize::try_from(count).unwrap_or(usize::MAX));
        (first.0..).zip(places).map(|(index, place)| {
            let index = Index(index);
            (LogId::new(self.term_at(index), index), *place)
        })
    }

    /// The same of all that are in the write-ahead log.
    pub(super) fn all_places(&self) -> impl Iterator<Item = (LogId, Place)> + use<'_> {
        self.places(self.stored.next()..=self.last())
    }

    /// Takes in a change that is durable; `at` is where in the file the body of its group begins.
    ///
    /// # Errors
    /// `Damaged` if it cannot follow what came before; nothing is changed then.
    pub(super) fn take(&mut self, change: Change, at: u64) -> Result<(), StoreError> {
        match change {
            // Before the entries of a write there are only its term and vote.
            Change::HardState(HardState { term, vote, commit: Index(0) }) => {
                self.hard_state = HardState { term, vote, ..self.hard_state };
            }
            Change::HardState(hard_state) => self.hard_state = hard_state,
            Change::Reset(last, membership) => {
                (self.base, self.stored) = (last, last.index);
                self.places.clear();
                self.terms.clear();
                self.memberships = [(last.index, membership)].into();
                self.version += 1;
            }
            Change::Truncate(from) => self.truncate(from)?,
            Change::Entry { id, at: within, bytes, membership } => {
                if id.index != self.last().next() {
                    return Err(follows(id.index, self.last()));
                }
                let at = u32::try_from(at + u64::from(within));
                let at = at.map_err(|_| StoreError::damaged(error::WAL, "it is too large"))?;
                if self.terms.back().is_none_or(|(_, term)| *term != id.term) {
                    self.terms.push_back((id.index, id.term));
                }
                self.places.push_back(Place { at, bytes });
                self.memberships.extend(membership.map(|membership| (id.index, membership)));
            }
        }
        Ok(())
    }

    /// What becomes of a change that is found at a start.
    ///
    /// The database is ahead of the groups that are not settled: what they cut off, or what is not needed any more, it does not
    /// hold, though earlier ones of them may still follow it. So entries that `missed` something before them go, until what they
    /// missed is cut off; entries up to the base are there anyway. Whatever is left at the end has been cut by none of them, so
    /// nothing of it was missed.
    pub(super) fn replayed(
        &self,
        change: Change,
        missed: &mut Option<Index>,
    ) -> Result<Option<Change>, StoreError> {
        let (base, next) = (self.base.index, self.last().next());
        let anew = |missed: &mut Option<Index>| {
            *missed = None;
            Ok(Some(Change::Truncate(base.next())))
        };
        match &change {
            Change::HardState(_) => Ok(Some(change)),
            Change::Reset(last, _) if last.index < base => anew(missed),
            Change::Truncate(from) if *from <= base => anew(missed),
            Change::Truncate(from) if *from > next => Ok(None),
            Change::Reset(..) | Change::Truncate(_) => {
                *missed = None;
                Ok(Some(change))
            }
            Change::Entry { id, .. } if id.index <= base => Ok(None),
            Change::Entry { id, .. } if id.index > next => {
                missed.get_or_insert(id.index);
                Ok(None)
            }
            Change::Entry { id, .. } if id.index < next || missed.is_some() => {
                Err(follows(id.index, self.last()))
            }
            Change::Entry { .. } => Ok(Some(change)),
        }
    }

    fn truncate(&mut self, from: Index) -> Result<(), StoreError> {
        if from > self.last() {
            return Ok(());
        }
        if from <= self.base.index {
            return Err(covered(from));
        }
        let stay =
            usize::try_from((from.0 - 1).saturating_sub(self.stored.0)).unwrap_or(usize::MAX);
        self.places.truncate(stay);
        self.stored = self.stored.min(from.prev());
        while self.terms.back().is_some_and(|(first, _)| *first >= from) {
            self.terms.pop_back();
        }
        self.memberships.retain(|index, _| *index < from);
        self.version += 1;
        Ok(())
    }

    /// Whether these changes can follow, as they are about to be made.
    pub(super) fn check<'a>(
        &self,
        changes: impl Iterator<Item = &'a Change>,
    ) -> Result<(), StoreError> {
        let (mut base, mut last) = (self.base.index, self.last());
        for change in changes {
            match change {
                Change::HardState(_) => {}
                Change::Reset(anew, _) => (base, last) = (anew.index, anew.index),
                Change::Truncate(from) if *from > last => {}
                Change::Truncate(from) if *from <= base => return Err(covered(*from)),
                Change::Truncate(from) => last = from.prev(),
                Change::Entry { id, .. } if id.index != last.next() => {
                    return Err(follows(id.index, last));
                }
                Change::Entry { id, .. } => last = id.index,
            }
        }
        Ok(())
    }

    /// The log begins after this entry, which it holds.
    pub(super) fn begin_after(&mut self, base: LogId) {
        self.forget_places(base.index);
        self.base = base;
        // The newest of those that go is in force still.
        let newest = self.memberships.range(..=base.index).next_back().map(|(index, _)| *index);
        self.memberships.retain(|index, _| newest.is_none_or(|newest| *index >= newest));
    }

    /// The entries up to this one are rows of the database now.
    pub(super) fn stored_to(&mut self, index: Index) {
        self.forget_places(index);
        self.version += 1;
    }

    fn forget_places(&mut self, to: Index) {
        if to <= self.stored {
            return;
        }
        let count = usize::try_from(to.0 - self.stored.0).unwrap_or(usize::MAX);
        self.places.drain(..count.min(self.places.len()));
        self.stored = to;
        while self.terms.get(1).is_some_and(|(first, _)| *first <= to.next()) {
            self.terms.pop_front();
        }
        if self.places.is_empty() {
            self.terms.clear();
        }
    }
}

/// Parts of the file that hold these places and not much else, each with those in it, none larger than `bytes_max` unless one row is.
pub(super) fn spans(
    places: &[(LogId, Place)],
    bytes_max: u64,
) -> impl Iterator<Item = &[(LogId, Place)]> {
    /// Between rows of one write are only their heads; between those of two is the end of a block.
    const GAP_BYTES_MAX: u64 = 16 << 10;
    let mut left = places;
    std::iter::from_fn(move || {
        let (_, first) = left.first()?;
        let mut count = 1;
        while let Some((_, next)) = left.get(count) {
            let before = left[count - 1].1.end();
            let near = next.at() >= before && next.at() - before <= GAP_BYTES_MAX;
            if !near || next.end() - first.at() > bytes_max {
                break;
            }
            count += 1;
        }
        let (span, rest) = left.split_at(count);
        left = rest;
        Some(span)
    })
}

fn covered(from: Index) -> StoreError {
    StoreError::damaged("log", format!("entry {from} was to be replaced; a checkpoint covers it"))
}

fn follows(index: Index, last: Index) -> StoreError {
    StoreError::damaged("log", format!("entry {index} was to follow {last}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::ClusterId;

    fn entry(term: u64, index: u64) -> Change {
        let id = LogId::new(Term(term), Index(index));
        Change::Entry { id, at: u32::try_from(index).unwrap() * 100, bytes: 50, membership: None }
    }

    fn nobody() -> Membership {
        let voters = Default::default();
        Membership { cluster: ClusterId(1), members: [].into(), voters, outgoing: None }
    }

    fn recent(entries: &[(u64, u64)]) -> Recent {
        let base = LogId::new(Term(1), Index(2));
        let mut recent = Recent::new(HardState::default(), base, Index(5), BTreeMap::new());
        entries.iter().for_each(|(term, index)| recent.take(entry(*term, *index), 0).unwrap());
        recent
    }

    fn ids(recent: &Recent) -> Vec<(u64, u64)> {
        let all = recent.places(Index(0)..=Index(1000));
        all.map(|(id, _)| (id.term.0, id.index.0)).collect()
    }

    #[test]
    fn entries_are_found_where_they_are() {
        let recent = recent(&[(2, 6), (2, 7), (4, 8)]);
        let id = |term, index| LogId::new(Term(term), Index(index));
        let found: Vec<_> = (1..10).map(|index| recent.find(Index(index))).collect();
        assert_eq!(found[..2], [Whereabouts::Nowhere, Whereabouts::Base(id(1, 2))]);
        assert_eq!(found[2..5], [Whereabouts::Row; 3]);
        let new = [id(2, 6), id(2, 7), id(4, 8)].map(Whereabouts::Recent);
        assert_eq!(found[5..8], new);
        assert_eq!(found[8], Whereabouts::Nowhere);
        assert_eq!(recent.places(Index(7)..=Index(7)).count(), 1);
        assert_eq!(recent.places(Index(9)..=Index(9)).count(), 0);
    }

    #[test]
    fn what_is_cut_goes_with_its_terms() {
        let mut it = recent(&[(2, 6), (2, 7), (4, 8)]);
        it.take(Change::Truncate(Index(8)), 0).unwrap();
        it.take(entry(5, 8), 0).unwrap();
        assert_eq!(ids(&it), [(2, 6), (2, 7), (5, 8)]);
        it.take(Change::Truncate(Index(4)), 0).unwrap();
        assert_eq!((it.stored, it.last()), (Index(3), Index(3)));
        it.take(entry(6, 4), 0).unwrap();
        assert_eq!(ids(&it), [(6, 4)]);
        assert!(it.take(Change::Truncate(Index(2)), 0).is_err());
        assert!(it.take(entry(6, 6), 0).is_err());
        it.take(Change::Truncate(Index(9)), 0).unwrap();
        assert_eq!(it.last(), Index(4));
    }

    #[test]
    fn what_is_stored_or_not_needed_has_no_place() {
        let mut it = recent(&[(2, 6), (3, 7), (4, 8)]);
        it.stored_to(Index(7));
        assert_eq!((ids(&it), it.find(Index(7))), (vec![(4, 8)], Whereabouts::Row));
        it.begin_after(LogId::new(Term(1), Index(4)));
        assert_eq!(it.find(Index(4)), Whereabouts::Base(it.base));
        it.begin_after(LogId::new(Term(4), Index(8)));
        assert_eq!((ids(&it), it.last()), (vec![], Index(8)));
        it.take(entry(4, 9), 0).unwrap();
        assert_eq!(ids(&it), [(4, 9)]);
        it.take(Change::Reset(LogId::new(Term(9), Index(90)), nobody()), 0).unwrap();
        assert_eq!((it.last(), it.find(Index(9))), (Index(90), Whereabouts::Nowhere));
        it.take(entry(9, 91), 0).unwrap();
        assert_eq!(ids(&it), [(9, 91)]);
    }

    #[test]
    fn changes_are_checked_before_they_are_made() {
        let it = recent(&[(2, 6)]);
        let check = |changes: &[Change]| it.check(changes.iter()).is_ok();
        assert!(check(&[entry(2, 7), Change::Truncate(Index(3)), entry(3, 3)]));
        assert!(check(&[Change::Truncate(Index(9)), entry(2, 7)]));
        assert!(!check(&[Change::Truncate(Index(2))]));
        assert!(!check(&[entry(2, 8)]));
        let reset = Change::Reset(LogId::new(Term(9), Index(90)), nobody());
        assert!(check(&[reset.clone(), entry(9, 91)]));
        assert!(!check(&[reset, Change::Truncate(Index(90))]));
    }

    #[test]
    fn spans_hold_neighbours() {
        let places: Vec<_> = [(0, 10), (10, 10), (30, 10), (100_000, 10), (90_000, 5), (90_005, 5)]
            .map(|(at, bytes)| (LogId::ZERO, Place { at, bytes }))
            .into();
        let counts = |bytes_max| spans(&places, bytes_max).map(<[_]>::len).collect::<Vec<_>>();
        assert_eq!(counts(1000), [3, 1, 2]);
        assert_eq!(counts(25), [2, 1, 1, 2]);
        assert_eq!(counts(0), [1; 6]);
    }
}
