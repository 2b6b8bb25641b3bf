//! Rows of the state that are at hand for commands which are still to be applied, so that the thread which applies never
//! waits for the disk: those of the keys that were changed lately, and those that another thread has fetched of the file.
//!
//! The row of a key that is held here is the newest one, whether an overlay holds it or the file: apply puts what it changes in
//! the place of what was held, and what was read of a file that holds something else by now is never taken in. So a
//! checkpoint, which moves an overlay into the file, makes none of them wrong, and needs none of them to be fetched again. Every
//! key of an overlay is among them: what is not here is in the file, if anywhere.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use lru::LruCache;

use crate::kv::{KeyRange, KeyRow, RevisionRow, RowId};
use crate::store::error::StoreError;

/// How many bytes of what was fetched a generation holds before the next one begins. What is in the older of two goes
/// first; it is fetched once more if it is needed.
const GENERATION_BYTES_MAX: usize = 4 << 20;
/// How many rows give way to one that is set, at most: whoever sets it sends heartbeats, too.
const GIVING_WAY_MAX: usize = 4;
/// What a key that was changed takes besides its bytes, roughly.
const KEY_OVERHEAD_BYTES: usize = 192;
/// And one that was fetched.
const FETCHED_OVERHEAD_BYTES: usize = 96;
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
#[derive(Debug)]
pub(super) struct AtHand {
    /// The rows of keys that were changed, the last one first.
    changed: LruCache<Box<[u8]>, Changed>,
    /// What they take, roughly.
    bytes: usize,
    bytes_max: usize,
    /// The number of the overlay that takes changes now; they are counted from 1.
    overlay: u64,
    /// The last overlay that the file holds.
    stored: u64,
    young: Fetched,
    old: Fetched,
    ranges: Vec<RangeAhead>,
}

#[derive(Debug)]
struct Changed {
    row: KeyRow,
    /// The overlay that got it.
    overlay: u64,
}

/// What was fetched of the file at about the same time; no key that was changed since.
#[derive(Debug, Default)]
struct Fetched {
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

/// What the row of a key that was fetched takes in memory, roughly.
pub(super) fn row_bytes(key: &[u8]) -> usize {
    key.len() + FETCHED_OVERHEAD_BYTES
}

/// What the row of a key that was changed takes in memory, roughly.
pub(super) fn changed_bytes(key: &[u8], row: &KeyRow) -> usize {
    key.len() + KEY_OVERHEAD_BYTES + row.extra_bytes()
}

impl AtHand {
    /// Nothing; of keys that were changed later not more than so many bytes, but for what no file holds.
    pub(super) fn nothing(bytes_max: usize) -> AtHand {
        AtHand {
            changed: LruCache::unbounded(),
            bytes: 0,
            bytes_max,
            overlay: 1,
            stored: 0,
            young: Fetched::default(),
            old: Fetched::default(),
            ranges: Vec::new(),
        }
    }

    /// The newest row of a key, none if there is none; none at all if that is not at hand.
    pub(super) fn key(&self, key: &[u8]) -> Option<Option<KeyRow>> {
        if let Some(changed) = self.changed.peek(key) {
            return Some(Some(changed.row.clone()));
        }
        self.young.rows.get(key).or_else(|| self.old.rows.get(key)).cloned()
    }

    /// Whether it is known what the newest row of a key is.
    pub(super) fn knows(&self, key: &[u8]) -> bool {
        let fetched = |fetched: &Fetched| fetched.rows.contains_key(key);
        self.changed.contains(key) || fetched(&self.young) || fetched(&self.old)
    }

    /// A change of the file, if it is at hand.
    pub(super) fn change(&self, id: RowId) -> Option<&RevisionRow> {
        self.young.changes.get(&id).or_else(|| self.old.changes.get(&id))
    }

    /// What is held of a range.
    pub(super) fn range(&self, range: &KeyRange) -> Option<&RangeAhead> {
        self.ranges.iter().find(|held| held.range == *range)
    }

    /// The overlay has this row of a key now.
    pub(super) fn set(&mut self, key: &[u8], row: &KeyRow) {
        for fetched in [&mut self.young.rows, &mut self.old.rows] {
            if !fetched.is_empty() {
                fetched.remove(key);
            }
        }
        let changed = Changed { row: row.clone(), overlay: self.overlay };
        self.bytes += changed_bytes(key, row);
        match self.changed.get_mut(key) {
            Some(held) => {
                self.bytes -= changed_bytes(key, &held.row).min(self.bytes);
                *held = changed;
            }
            // A copy: the key may be a part of a command, or of a message, which would stay in memory with it.
            None => drop(self.changed.put(key.into(), changed)),
        }
        self.make_room();
    }

    /// Lets go of what was changed longest ago, as far as the file holds it.
    fn make_room(&mut self) {
        for _ in 0..GIVING_WAY_MAX {
            let is_stored = |(_, oldest): (_, &Changed)| oldest.overlay <= self.stored;
            if self.bytes <= self.bytes_max || !self.changed.peek_lru().is_some_and(is_stored) {
                return;
            }
            if let Some((key, Changed { row, .. })) = self.changed.pop_lru() {
                self.bytes -= changed_bytes(&key, &row).min(self.bytes);
            }
        }
    }

    /// Holds rows that the newest view of the file has, and changes. No key may have been changed. All of them are held,
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

    /// Another overlay takes changes from here on; the number of the one before.
    pub(super) fn frozen(&mut self) -> u64 {
        self.overlay += 1;
        self.overlay - 1
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

    /// Nothing else goes through this range.
    pub(super) fn used(&mut self, range: &KeyRange) {
        self.ranges.retain(|held| held.range != *range);
    }

    /// The file holds what this overlay did, and those before it: ranges lack that, and no other key has changed.
    pub(super) fn checkpointed(&mut self, overlay: u64) {
        self.stored = overlay;
        self.ranges.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    fn key(number: usize) -> Bytes {
        Bytes::from(format!("{number:04096}"))
    }

    fn row(revision: u64) -> KeyRow {
        let newest = RowId { revision: crate::kv::Revision(revision), sub: 0 };
        let create_revision = newest.revision;
        KeyRow { newest, create_revision, version: 1, lease: 0, roots: Default::default() }
    }

    #[test]
    fn what_was_changed_longest_ago_goes_first_once_the_file_holds_it() {
        let one = changed_bytes(&key(0), &row(1));
        let mut held = AtHand::nothing(10 * one);
        let found = |held: &AtHand| -> Vec<_> {
            (0..100).filter(|&number| held.key(&key(number)).is_some()).collect()
        };
        (0..30).for_each(|number| held.set(&key(number), &row(1)));
        assert_eq!(found(&held).len(), 30, "no file holds them");
        let first = held.frozen();
        (30..40).for_each(|number| held.set(&key(number), &row(1)));
        held.set(&key(0), &row(7));
        held.checkpointed(first);
        held.set(&key(40), &row(1));
        assert_eq!(found(&held).len(), 41 - GIVING_WAY_MAX, "a few at a time");
        (41..60).for_each(|number| held.set(&key(number), &row(1)));
        // What was not put away stays, however much it is.
        assert_eq!(found(&held), [0].into_iter().chain(30..60).collect::<Vec<_>>());
        assert_eq!(held.key(&key(0)), Some(Some(row(7))));
        let second = held.frozen();
        held.checkpointed(second);
        (60..100).for_each(|number| held.set(&key(number), &row(1)));
        assert_eq!(found(&held), (60..100).collect::<Vec<_>>());
        assert_eq!(held.bytes, held.changed.len() * one);
    }

    #[test]
    fn what_was_fetched_has_a_bound_and_the_oldest_goes_first() {
        let mut held = AtHand::nothing(0);
        for number in 0..10_000 {
            held.hold([(None, key(number))], []);
        }
        let found: Vec<_> = (0..10_000).filter(|&n| held.key(&key(n)).is_some()).collect();
        let bytes = found.len() * row_bytes(&key(0));
        assert!(bytes <= 2 * (GENERATION_BYTES_MAX + row_bytes(&key(0))));
        assert!(bytes > GENERATION_BYTES_MAX);
        assert_eq!(found, (10_000 - found.len()..10_000).collect::<Vec<_>>());
        held.set(&key(9_999), &row(3));
        assert_eq!(held.key(&key(9_999)), Some(Some(row(3))));
        // What comes together stays together.
        held.hold((0..5_000).map(|number| (None, key(number))), []);
        assert!((0..5_000).all(|number| held.key(&key(number)) == Some(None)));
    }

    #[test]
    fn ranges_have_bounds() {
        let mut held = AtHand::nothing(0);
        let (rows, bytes) = (Arc::default(), RANGE_BYTES_MAX / 4 + 1);
        for start in 0..9 {
            let range = KeyRange { start: key(start), end: None };
            held.hold_range(
                RangeAhead { range, rows: Arc::clone(&rows), bytes, until: None },
                false,
            );
        }
        assert_eq!(held.ranges.len(), 4);
        held.checkpointed(0);
        for start in 0..2 * RANGES_MAX {
            let range = KeyRange { start: key(start), end: None };
            held.hold_range(
                RangeAhead { range, rows: Arc::default(), bytes: 0, until: None },
                false,
            );
        }
        assert_eq!(held.ranges.len(), RANGES_MAX);
        let needed = KeyRange { start: key(1), end: None };
        held.make_place(std::slice::from_ref(&needed));
        assert_eq!(held.ranges.iter().map(|range| &range.range).collect::<Vec<_>>(), [&needed]);
        held.checkpointed(0);
        assert!(held.ranges.is_empty());
    }
}
