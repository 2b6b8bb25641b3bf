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

    /// Whether no key can be in the range.
    pub fn is_empty(&self) -> bool {
        self.end.as_ref().is_some_and(|end| *end <= self.start)
    }
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
    /// Whether the range holds more items after these.
    pub more: bool,
}
