//! What a transaction has read, as the conditions of its commit.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::kv::{Compare, KeyRange, Over, Revision, Test};

/// The keys and ranges that were read, as ranges that neither overlap nor touch each other: the server goes through each
/// of them once, and each costs one of the conditions that a transaction may have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ReadSet {
    /// Where each range starts, and its end; none: to the last key.
    ranges: BTreeMap<Bytes, Option<Bytes>>,
}

impl ReadSet {
    /// Notes that everything in a range was read, be it there or not. Takes time in the order of `log n`, and of how many
    /// ranges become one.
    pub(super) fn add(&mut self, range: &KeyRange) {
        if range.is_empty() {
            return;
        }
        let KeyRange { mut start, mut end } = range.clone();
        // Of those that start before it, only the last can reach into it: they do not overlap.
        let before = self.ranges.range::<Bytes, _>(..&start).next_back();
        if let Some((first, last)) = before
            && reaches(last.as_ref(), &start)
        {
            start = first.clone();
        }
        while let Some((first, last)) = self.ranges.range::<Bytes, _>(&start..).next() {
            if !reaches(end.as_ref(), first) {
                break;
            }
            end = later(end, last.clone());
            let first = first.clone();
            self.ranges.remove(&first);
        }
        self.ranges.insert(start, end);
    }

    /// How many conditions it takes.
    pub(super) fn len(&self) -> usize {
        self.ranges.len()
    }

    /// That nothing of it was changed after a revision. Of ranges that includes what was not there: a key that appears in
    /// one, a phantom, changes it.
    pub(super) fn unchanged_since(&self, revision: Revision) -> Vec<Compare> {
        let compare = |(start, end): (&Bytes, &Option<Bytes>)| {
            let range = KeyRange { start: start.clone(), end: end.clone() };
            // A range that starts at the empty key and holds nothing else is no key, which has a byte or more.
            let over = match range.only_key().filter(|key| !key.is_empty()) {
                Some(key) => Over::Key(key.clone()),
                None => Over::Range(range),
            };
            Compare { over, test: Test::UnchangedSince(revision) }
        };
        self.ranges.iter().map(compare).collect()
    }
}

/// Whether a range with this end overlaps one that starts at `start`, or ends where that starts.
fn reaches(end: Option<&Bytes>, start: &Bytes) -> bool {
    end.is_none_or(|end| end >= start)
}

/// The later of two ends.
fn later(one: Option<Bytes>, other: Option<Bytes>) -> Option<Bytes> {
    Some(one?.max(other?))
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn range(start: &'static str, end: &'static str) -> KeyRange {
        KeyRange { start: start.into(), end: (!end.is_empty()).then(|| end.into()) }
    }

    fn key(key: &'static str) -> KeyRange {
        KeyRange::key(&key.into())
    }

    /// What the conditions are over, in their order.
    fn over(ranges: &[KeyRange]) -> Vec<Over> {
        let mut reads = ReadSet::default();
        ranges.iter().for_each(|range| reads.add(range));
        let compares = reads.unchanged_since(Revision(7));
        assert_eq!(compares.len(), reads.len());
        assert!(compares.iter().all(|one| one.test == Test::UnchangedSince(Revision(7))));
        compares.into_iter().map(|compare| compare.over).collect()
    }

    #[test]
    fn keys_that_were_read_are_conditions_once_each_whether_they_exist_or_not() {
        let keys = over(&[key("b"), key("a"), key("b")]);
        assert_eq!(keys, [Over::Key("a".into()), Over::Key("b".into())]);
        assert!(over(&[range("b", "b"), range("c", "b")]).is_empty());
        assert_eq!(ReadSet::default().len(), 0);
    }

    #[test]
    fn ranges_that_overlap_or_touch_become_one() {
        let whole = |start, end| vec![Over::Range(range(start, end))];
        assert_eq!(over(&[range("a", "c"), range("b", "d")]), whole("a", "d"));
        assert_eq!(over(&[range("b", "d"), range("a", "c")]), whole("a", "d"));
        assert_eq!(over(&[range("a", "b"), range("b", "c")]), whole("a", "c"));
        assert_eq!(over(&[range("a", "z"), range("b", "c"), key("d")]), whole("a", "z"));
        assert_eq!(over(&[key("d"), range("b", "c"), range("a", "z")]), whole("a", "z"));
        assert_eq!(over(&[range("b", ""), range("a", "c"), key("x")]), whole("a", ""));
        assert_eq!(over(&[range("a", "c"), range("e", "g"), range("b", "f")]), whole("a", "g"));
        assert_eq!(over(&[key("x"), range("", "")]), whole("", ""));
        let apart = over(&[range("c", "d"), range("a", "b")]);
        assert_eq!(apart, [Over::Range(range("a", "b")), Over::Range(range("c", "d"))]);
        // The first key after a key is the next to it.
        assert_eq!(over(&[key("a\0"), key("a")]), whole("a", "a\0\0"));
    }

    proptest! {
        /// Over keys of one letter, beside a plain set of them.
        #[test]
        fn the_conditions_hold_just_the_keys_that_were_read(
            ranges in vec((0..20_u8, 0..24_u8), 0..12),
        ) {
            let letter = |number: u8| Bytes::from(vec![b'a' + number]);
            let mut reads = ReadSet::default();
            let read = |(start, end): &(u8, u8)| KeyRange {
                start: letter(*start),
                // The last few are no end at all.
                end: (*end < 21).then(|| letter(*end)),
            };
            let all: Vec<KeyRange> = ranges.iter().map(read).collect();
            all.iter().for_each(|range| reads.add(range));
            let conditions = reads.unchanged_since(Revision(1));
            for number in 0..25 {
                let key = letter(number);
                let count = conditions.iter().filter(|one| one.over.contains(&key)).count();
                let was_read = all.iter().any(|range| range.contains(&key));
                prop_assert_eq!(count, usize::from(was_read), "{:?}", key);
            }
            let mut ends = reads.ranges.iter().zip(reads.ranges.keys().skip(1));
            prop_assert!(ends.all(|((_, end), next)| !reaches(end.as_ref(), next)));
        }
    }
}
