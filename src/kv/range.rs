//! Ranges of keys, and what reading one gives.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::revision::Revision;

/// The keys `k` with `start <= k < end`, in byte order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRange {
    /// The first key; empty: from the beginning.
    pub start: Bytes,
    /// The first key after the range; none: to the end.
    pub end: Option<Bytes>,
}

impl KeyRange {
    /// Every key.
    pub fn all() -> KeyRange {
        KeyRange::default()
    }

    /// The keys that begin with `prefix`.
    pub fn prefix(prefix: &[u8]) -> KeyRange {
        KeyRange { start: Bytes::copy_from_slice(prefix), end: after_prefix(prefix) }
    }

    /// One key.
    pub fn key(key: &Bytes) -> KeyRange {
        KeyRange { start: key.clone(), end: Some(successor(key)) }
    }

    /// The only key that can be in the range; none if there are several, or none.
    pub fn only_key(&self) -> Option<&Bytes> {
        let (last, before) = self.end.as_ref()?.split_last()?;
        (*last == 0 && before == self.start).then_some(&self.start)
    }

    /// The keys that are in both ranges.
    pub fn intersect(&self, other: &KeyRange) -> KeyRange {
        let end = match (&self.end, &other.end) {
            (Some(a), Some(b)) => Some(a.min(b).clone()),
            (a, b) => a.clone().or_else(|| b.clone()),
        };
        KeyRange { start: self.start.clone().max(other.start.clone()), end }
    }

    /// Whether `key` is in the range.
    pub fn contains(&self, key: &[u8]) -> bool {
        key >= &self.start[..] && self.end.as_ref().is_none_or(|end| key < &end[..])
    }

    /// What of the range is to be gone through from this key of it on, in either direction.
    pub fn onward(&self, key: &Bytes, descending: bool) -> KeyRange {
        match descending {
            true => KeyRange { start: self.start.clone(), end: Some(successor(key)) },
            false => KeyRange { start: key.clone(), end: self.end.clone() },
        }
    }

    /// What of the range is to be gone through after this key of it, in either direction.
    pub fn beyond(&self, key: &Bytes, descending: bool) -> KeyRange {
        match descending {
            true => KeyRange { start: self.start.clone(), end: Some(key.clone()) },
            false => KeyRange { start: successor(key), end: self.end.clone() },
        }
    }

    /// Whether no key can be in the range.
    pub fn is_empty(&self) -> bool {
        self.end.as_ref().is_some_and(|end| *end <= self.start)
    }
}

/// The first key after `key`: the same with a zero byte more.
pub fn successor(key: &[u8]) -> Bytes {
    [key, &[0]].concat().into()
}

/// The first key after all that begin with `prefix`; none if there is none (all bytes 0xff).
fn after_prefix(prefix: &[u8]) -> Option<Bytes> {
    let last = prefix.iter().rposition(|&byte| byte != 0xff)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end.into())
}

/// A key as a reader sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// The key.
    pub key: Bytes,
    /// Its value; empty in a listing of keys only.
    pub value: Bytes,
    /// The media type that its last put gave.
    pub content_type: Option<String>,
    /// The revision that created it.
    pub create_revision: Revision,
    /// The revision that last changed it.
    pub mod_revision: Revision,
    /// How many times it was set since it was created.
    pub version: u64,
}

/// Which items to list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RangeQuery {
    /// Which keys.
    pub range: KeyRange,
    /// At which revision; none: the newest.
    pub at: Option<Revision>,
    /// From the last key to the first.
    pub descending: bool,
    /// Without values.
    pub keys_only: bool,
    /// The most items.
    pub items_max: usize,
    /// Stop after the item with which keys and values reach this many bytes.
    pub bytes_max: usize,
}

/// A part of a listing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// The revision that it was read at.
    pub revision: Revision,
    /// The items, in the order asked for.
    pub items: Vec<Item>,
    /// Where the listing goes on, which may turn out to hold no item; none at the end of the range. A page without items
    /// has one if all that it looked at was deleted, or is newer.
    pub rest: Option<KeyRange>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_of_one_key_is_known_as_one() {
        for key in [&b""[..], b"a", b"a\0", b"\xff\xff"] {
            let key = Bytes::from_static(key);
            let range = KeyRange::key(&key);
            assert_eq!(range.only_key(), Some(&key));
            assert!(range.contains(&key) && !range.contains(&successor(&key)));
        }
        let others: [(&str, Option<&str>); 6] = [
            ("a", Some("a")),
            ("a", Some("b")),
            ("a", Some("a\u{1}")),
            ("a", Some("a\0\0")),
            ("a", Some("b\0")),
            ("a", None),
        ];
        for (start, end) in others {
            let range = KeyRange {
                start: start.to_owned().into(),
                end: end.map(|end| end.to_owned().into()),
            };
            assert_eq!(range.only_key(), None, "{range:?}");
        }
        assert_eq!(KeyRange::prefix(b"a").only_key(), None);
    }

    #[test]
    fn the_rest_of_a_range_begins_with_a_key_or_behind_it() {
        let range = KeyRange::prefix(b"k");
        let (key, after) = (Bytes::from_static(b"k5"), Bytes::from_static(b"k5\0"));
        let part =
            |start: &Bytes, end: &Bytes| KeyRange { start: start.clone(), end: Some(end.clone()) };
        let (first, end) = (range.start.clone(), range.end.clone().unwrap());
        assert_eq!(range.onward(&key, false), part(&key, &end));
        assert_eq!(range.beyond(&key, false), part(&after, &end));
        assert_eq!(range.onward(&key, true), part(&first, &after));
        assert_eq!(range.beyond(&key, true), part(&first, &key));
    }
}
