//! Rows of the state's file that are at hand for commands which are still to be applied: fetched ahead, by a thread that
//! may wait for the disk, so that the one which applies never does.
//!
//! A row that is held here is what the newest view of the file says, and no overlay holds its key. So it is looked for
//! after the overlays, and needs no thought when an overlay becomes part of the file.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;

use super::error::StoreError;
use crate::kv::{KeyRange, KeyRow, RevisionRow, RowId};

/// How many bytes of keys a generation holds before the next one begins. What is in the older of two goes first; it is
/// fetched once more if it is needed.
const GENERATION_BYTES_MAX: usize = 4 << 20;
/// What a key takes besides its bytes, roughly.
const KEY_OVERHEAD_BYTES: usize = 96;
/// How many ranges are held.
pub(super) const RANGES_MAX: usize = 64;
/// Beyond so many bytes of ranges no other range is held, but for the one that is needed first.
const RANGE_BYTES_MAX: usize = 32 << 20;

/// Why a command was not carried out.
#[derive(Debug)]
pub(super) enum Halt {
    /// It needs rows that are not at hand. It has changed nothing.
    LacksRows,
    /// The state cannot be trusted any more.
    Failed(StoreError),
}

impl From<StoreError> for Halt {
    fn from(error: StoreError) -> Halt {
        Halt::Failed(error)
    }
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    young: Generation,
    old: Generation,
    ranges: Vec<RangeAhead>,
}

/// What was fetched at about the same time.
#[derive(Debug, Default)]
struct Generation {
    rows: HashMap<Bytes, Option<KeyRow>>,
    /// A change never changes: these stay true whatever becomes of their keys.
    changes: HashMap<RowId, RevisionRow>,
    bytes: usize,
}

/// The first rows that the file holds of a range, in order.
#[derive(Clone, Debug)]
pub(super) struct RangeAhead {
    pub(super) range: KeyRange,
    pub(super) rows: Arc<Vec<(Bytes, KeyRow)>>,
    /// What they take, roughly.
    pub(super) bytes: usize,
    /// Up to where they are all of them; none: to the end of the range.
    pub(super) until: Option<Bytes>,
}

impl RangeAhead {
    pub(super) fn nothing_of(range: KeyRange) -> RangeAhead {
        RangeAhead { range, rows: Arc::default(), bytes: 0, until: None }
    }
}

/// What the row of a key takes in memory, roughly.
pub(super) fn row_bytes(key: &[u8]) -> usize {
    key.len() + KEY_OVERHEAD_BYTES
}

impl Ahead {
    /// The row of a key, none if the file has none; none at all if that is not at hand.
    pub(super) fn key(&self, key: &[u8]) -> Option<Option<KeyRow>> {
        self.young.rows.get(key).or_else(|| self.old.rows.get(key)).cloned()
    }

    /// A change of the file, if it is at hand.
    pub(super) fn change(&self, id: RowId) -> Option<&RevisionRow> {
        self.young.changes.get(&id).or_else(|| self.old.changes.get(&id))
    }

    /// What is held of a range.
    pub(super) fn range(&self, range: &KeyRange) -> Option<&RangeAhead> {
        self.ranges.iter().find(|held| held.range == *range)
    }

    /// Holds rows that the newest view of the file has, and changes. No overlay may have one of the keys. All of them are held,
    /// however many: what is needed at once may be the keys of one large write.
    pub(super) fn hold(
        &mut self,
        rows: impl IntoIterator<Item = (Option<KeyRow>, Bytes)>,
        changes: impl IntoIterator<Item = (RowId, RevisionRow)>,
    ) {
        if self.young.bytes >= GENERATION_BYTES_MAX {
            self.old = std::mem::take(&mut self.young);
        }
        for (row, key) in rows {
            self.young.bytes += row_bytes(&key) + row.as_ref().map_or(0, KeyRow::extra_bytes);
            self.young.rows.insert(key, row);
        }
        for (id, change) in changes {
            self.young.bytes += change.cost_bytes();
            self.young.changes.insert(id, change);
        }
    }

    /// Holds what the newest view of the file has of a range, in place of what was held of it; if there is a place for it,
    /// or if it is `needed` first.
    pub(super) fn hold_range(&mut self, range: RangeAhead, needed: bool) {
        self.used(&range.range);
        let bytes: usize = self.ranges.iter().map(|held| held.bytes).sum();
        if needed || self.ranges.len() < RANGES_MAX && bytes < RANGE_BYTES_MAX {
            self.ranges.push(range);
        }
    }

    /// Makes a place for what is needed first: everything else goes.
    pub(super) fn make_place(&mut self, needed: &[KeyRange]) {
        self.ranges.retain(|held| needed.contains(&held.range));
    }

    /// An overlay has this key now.
    pub(super) fn overlaid(&mut self, key: &[u8]) {
        for held in [&mut self.young.rows, &mut self.old.rows] {
            if !held.is_empty() {
                held.remove(key);
            }
        }
    }

    /// Nothing else goes through this range.
    pub(super) fn used(&mut self, range: &KeyRange) {
        self.ranges.retain(|held| held.range != *range);
    }

    /// The file holds what an overlay did: ranges lack that, and no other key has changed.
    pub(super) fn checkpointed(&mut self) {
        self.ranges.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[test]
    fn what_is_held_has_a_bound_and_the_oldest_goes_first() {
        let mut ahead = Ahead::default();
        let key = |number: usize| Bytes::from(format!("{number:04096}"));
        for number in 0..10_000 {
            ahead.hold([(None, key(number))], []);
        }
        let held: Vec<usize> =
            (0..10_000).filter(|&number| ahead.key(&key(number)).is_some()).collect();
        let bytes = held.len() * (4096 + KEY_OVERHEAD_BYTES);
        assert!(bytes <= 2 * (GENERATION_BYTES_MAX + 4096 + KEY_OVERHEAD_BYTES));
        assert!(bytes > GENERATION_BYTES_MAX);
        assert_eq!(held, (10_000 - held.len()..10_000).collect::<Vec<_>>());
        ahead.overlaid(&key(9_999));
        assert_eq!(ahead.key(&key(9_999)), None);
        let (rows, bytes) = (Arc::default(), RANGE_BYTES_MAX / 4 + 1);
        for start in 0..9 {
            let range = KeyRange { start: key(start), end: None };
            ahead.hold_range(
                RangeAhead { range, rows: Arc::clone(&rows), bytes, until: None },
                false,
            );
        }
        assert_eq!(ahead.ranges.len(), 4);
        ahead.checkpointed();
        for start in 0..2 * RANGES_MAX {
            let range = KeyRange { start: key(start), end: None };
            ahead.hold_range(
                RangeAhead { range, rows: Arc::default(), bytes: 0, until: None },
                false,
            );
        }
        assert_eq!(ahead.ranges.len(), RANGES_MAX);
        let needed = KeyRange { start: key(1), end: None };
        ahead.make_place(std::slice::from_ref(&needed));
        assert_eq!(ahead.ranges.iter().map(|held| &held.range).collect::<Vec<_>>(), [&needed]);
        ahead.checkpointed();
        assert!(ahead.ranges.is_empty());
    }
}
