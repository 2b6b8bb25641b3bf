//! What a transaction is going to write, and how its own reads see that.

use std::collections::{BTreeMap, btree_map};
use std::ops::Bound;

use bytes::Bytes;

use crate::api::TxnOp;
use crate::kv::{KeyRange, Over, Put, successor};

/// A key and its value.
pub(super) type Entry = (Bytes, Bytes);

/// The writes that wait for the commit: the last one of each key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Writes {
    /// What each key is set to; none: it is deleted.
    keys: BTreeMap<Bytes, Option<Bytes>>,
}

impl Writes {
    /// Sets a key, or deletes it, whatever was to become of it before; false, and nothing is done, if that would be more
    /// than `max` keys.
    #[must_use]
    pub(super) fn set(&mut self, key: Bytes, value: Option<Bytes>, max: usize) -> bool {
        let count = self.keys.len();
        match self.keys.entry(key) {
            btree_map::Entry::Occupied(mut there) => {
                there.insert(value);
            }
            btree_map::Entry::Vacant(_) if count >= max => return false,
            btree_map::Entry::Vacant(free) => {
                free.insert(value);
            }
        }
        true
    }

    /// What becomes of a key, if it is written: its value, or its deletion.
    pub(super) fn get(&self, key: &[u8]) -> Option<Option<&Bytes>> {
        self.keys.get(key).map(Option::as_ref)
    }

    /// Whether nothing is written.
    pub(super) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The first `limit` entries of a range as they are with these writes, and what of the range they depend on.
    /// `stored` are its first entries without the writes, in order: all of them, or so many that `limit` of them are
    /// not deleted.
    pub(super) fn overlay(
        &self,
        range: &KeyRange,
        stored: Vec<Entry>,
        limit: usize,
    ) -> (Vec<Entry>, KeyRange) {
        let mut all: BTreeMap<Bytes, Bytes> = stored.into_iter().collect();
        if !range.is_empty() {
            let end = range.end.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
            for (key, value) in self.keys.range::<Bytes, _>((Bound::Included(&range.start), end)) {
                match value {
                    Some(value) => all.insert(key.clone(), value.clone()),
                    None => all.remove(key),
                };
            }
        }
        // What lies behind the last one that is wanted may be incomplete, and goes.
        let entries: Vec<Entry> = all.into_iter().take(limit).collect();
        let seen = match entries.last() {
            Some((last, _)) if entries.len() == limit => {
                KeyRange { start: range.start.clone(), end: Some(successor(last)) }
            }
            _ => range.clone(),
        };
        (entries, seen)
    }

    /// The operations that carry them out.
    pub(super) fn into_ops(self) -> Vec<TxnOp> {
        let op = |(key, value)| match value {
            Some(value) => TxnOp::Put { put: Put::new(key, value), previous: false },
            None => TxnOp::Delete { over: Over::Key(key), previous: false },
        };
        self.keys.into_iter().map(op).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::{btree_map, vec};
    use proptest::prelude::*;

    use super::*;

    fn entries(all: &[(&'static str, &'static str)]) -> Vec<Entry> {
        all.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect()
    }

    fn writes(all: &[(&'static str, Option<&'static str>)]) -> Writes {
        let mut writes = Writes::default();
        for (key, value) in all {
            assert!(writes.set((*key).into(), value.map(Bytes::from), 128));
        }
        writes
    }

    #[test]
    fn the_last_write_of_a_key_counts_and_each_key_once() {
        let mut writes =
            writes(&[("a", Some("1")), ("b", Some("2")), ("a", None), ("b", Some(""))]);
        assert_eq!(writes.get(b"a"), Some(None));
        assert_eq!(writes.get(b"b"), Some(Some(&Bytes::new())));
        assert_eq!(writes.get(b"c"), None);
        assert!(!writes.set("c".into(), None, 2) && writes.set("a".into(), Some("3".into()), 2));
        let ops = writes.into_ops();
        let put = |key: &'static str, value: &'static str| TxnOp::Put {
            put: Put::new(key.into(), value.into()),
            previous: false,
        };
        assert_eq!(ops, [put("a", "3"), put("b", "")]);
    }

    #[test]
    fn a_listing_shows_what_is_put_and_not_what_is_deleted() {
        let range = KeyRange::prefix(b"k");
        let writes =
            writes(&[("j", Some("0")), ("k1", None), ("k2", Some("n")), ("k4", Some("n"))]);
        let stored = entries(&[("k1", "o"), ("k2", "o"), ("k3", "o")]);
        let (all, seen) = writes.overlay(&range, stored, 10);
        assert_eq!(all, entries(&[("k2", "n"), ("k3", "o"), ("k4", "n")]));
        assert_eq!(seen, range);
    }

    #[test]
    fn a_listing_depends_on_nothing_behind_its_last_entry() {
        let range = KeyRange::prefix(b"k");
        let up_to = |key| KeyRange { start: "k".into(), end: Some(successor(key)) };
        let none = Writes::default();
        let (all, seen) = none.overlay(&range, entries(&[("k1", "o"), ("k2", "o")]), 2);
        assert_eq!((all.len(), seen), (2, up_to(b"k2")));
        // With its own write it is full before.
        let more = writes(&[("k0", Some("n"))]);
        let (all, seen) = more.overlay(&range, entries(&[("k1", "o"), ("k2", "o")]), 2);
        assert_eq!((all, seen), (entries(&[("k0", "n"), ("k1", "o")]), up_to(b"k1")));
        // One that is put far behind what was fetched does not stand for what lies between.
        let far = writes(&[("k9", Some("n"))]);
        let (all, seen) = far.overlay(&range, entries(&[("k1", "o"), ("k2", "o")]), 2);
        assert_eq!((all, seen), (entries(&[("k1", "o"), ("k2", "o")]), up_to(b"k2")));
    }

    proptest! {
        /// Beside a listing of the state that the writes would leave.
        #[test]
        fn reads_see_the_state_that_the_commit_would_leave(
            state in btree_map(0..12_u8, 0..9_u8, 0..12),
            written in vec((0..12_u8, proptest::option::of(0..9_u8)), 0..8),
            start in 0..12_u8, end in 0..13_u8, limit in 1..14_usize,
        ) {
            let bytes = |number: u8| Bytes::from(vec![number]);
            let mut writes = Writes::default();
            let mut after = state.clone();
            for (key, value) in &written {
                prop_assert!(writes.set(bytes(*key), value.map(bytes), 128));
                match value {
                    Some(value) => after.insert(*key, *value),
                    None => after.remove(key),
                };
            }
            let range = KeyRange { start: bytes(start), end: Some(bytes(end)) };
            // As a page of the server: no more than it takes.
            let mut left = limit;
            let stored = state.range(start..end.max(start)).take_while(|(key, _)| {
                let before = left;
                left -= usize::from(left > 0 && writes.get(&[**key]) != Some(None));
                before > 0
            });
            let stored: Vec<Entry> = stored.map(|(key, value)| (bytes(*key), bytes(*value))).collect();
            let (all, seen) = writes.overlay(&range, stored, limit);
            let expected: Vec<Entry> = after
                .range(start..end.max(start))
                .take(limit)
                .map(|(key, value)| (bytes(*key), bytes(*value)))
                .collect();
            prop_assert_eq!(&all, &expected);
            prop_assert!(all.iter().all(|(key, _)| seen.contains(key)));
            prop_assert!(all.len() == limit || seen == range);
        }
    }
}
