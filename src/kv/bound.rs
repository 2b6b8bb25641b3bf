//! How much of the state a write may look at.

use super::revision::Revision;
use super::rows::KeyRow;

/// How many keys that exist no more a bounded write may step over for each that it may look at.
pub const DELETED_PER_KEY_MAX: u64 = 20;

/// Counts the keys of ranges that a write looks at, and those that exist no more and that it steps over. Of those, what
/// came before the compacted revision does not count, since it may be gone on other replicas.
#[derive(Clone, Copy, Debug)]
pub struct Bound {
    keys_max: u64,
    keys: u64,
    seen: u64,
}

impl Bound {
    /// At most `keys_max` keys.
    pub fn new(keys_max: u64) -> Bound {
        Bound { keys_max, keys: 0, seen: 0 }
    }

    /// Whether the key that has this row still fits; none if it does not count.
    pub fn takes(&mut self, row: &KeyRow, compacted: Revision) -> Option<bool> {
        if !row.counts(compacted) {
            return None;
        }
        let live = row.is_live();
        let seen_max = self.keys_max.saturating_mul(DELETED_PER_KEY_MAX);
        let fits = self.seen < seen_max && (!live || self.keys < self.keys_max);
        if fits {
            self.seen += 1;
            self.keys += u64::from(live);
        }
        Some(fits)
    }
}
