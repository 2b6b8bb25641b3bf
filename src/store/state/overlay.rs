//! Changes that are applied and not yet in the state's file.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;

use crate::kv::{KeyRange, KeyRow, RecordKey, RevisionRow, RowId};

/// What a record takes in memory besides its bytes, roughly.
const RECORD_BYTES: usize = 128;

fn record_bytes(key: &RecordKey, record: Option<&Bytes>) -> usize {
    RECORD_BYTES + key.key.len() + record.map_or(0, Bytes::len)
}

/// An ordered set of changes in memory.
#[derive(Clone, Debug, Default)]
pub(super) struct Overlay {
    /// The newest change of each key that was changed.
    pub(super) keys: BTreeMap<Bytes, KeyRow>,
    /// All changes.
    pub(super) rows: BTreeMap<RowId, RevisionRow>,
    /// The records that were set, and those that were removed.
    pub(super) records: BTreeMap<RecordKey, Option<Bytes>>,
    /// The memory that it takes, roughly.
    pub(super) bytes: usize,
    /// How many of the changes are deletions.
    pub(super) deletions: usize,
}

impl Overlay {
    pub(super) fn set(&mut self, id: RowId, row: RevisionRow, key_row: KeyRow) {
        self.bytes += row.cost_bytes() + key_row.extra_bytes();
        self.deletions += usize::from(!row.is_live());
        self.keys.insert(row.key.clone(), key_row);
        self.rows.insert(id, row);
    }

    pub(super) fn set_record(&mut self, key: RecordKey, record: Option<Bytes>) {
        self.bytes += record_bytes(&key, record.as_ref());
        // The clock's is set anew by nearly every call of apply.
        if let Some(replaced) = self.records.insert(key.clone(), record) {
            self.bytes -= record_bytes(&key, replaced.as_ref()).min(self.bytes);
        }
    }

    /// Adds all that `newer` holds.
    pub(super) fn absorb(&mut self, newer: Overlay) {
        let Overlay { keys, rows, records, bytes, deletions } = newer;
        self.bytes += bytes;
        self.deletions += deletions;
        self.keys.extend(keys);
        self.rows.extend(rows);
        for (key, record) in records {
            // They are in `bytes` already.
            self.bytes -= record_bytes(&key, record.as_ref()).min(self.bytes);
            self.set_record(key, record);
        }
    }

    /// The changed keys of a range, in order.
    pub(super) fn range(
        &self,
        range: &KeyRange,
    ) -> impl DoubleEndedIterator<Item = (&Bytes, &KeyRow)> + use<'_> {
        let bounds = if range.is_empty() {
            // A map panics at a range that ends before it starts; this one is as empty.
            (Bound::Included(Bytes::new()), Bound::Excluded(Bytes::new()))
        } else {
            let end = range.end.clone().map_or(Bound::Unbounded, Bound::Excluded);
            (Bound::Included(range.start.clone()), end)
        };
        self.keys.range(bounds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_that_is_set_again_and_again_counts_once() {
        let mut overlay = Overlay::default();
        let clock = |ms: u8| Some(Bytes::copy_from_slice(&[1, ms]));
        overlay.set_record(RecordKey::clock(), clock(1));
        let once = overlay.bytes;
        for ms in 2..50 {
            let mut newer = Overlay::default();
            newer.set_record(RecordKey::clock(), clock(ms));
            overlay.absorb(newer);
            overlay.set_record(RecordKey::clock(), clock(ms));
        }
        assert_eq!(overlay.bytes, once);
        assert_eq!(overlay.records[&RecordKey::clock()], clock(49));
    }
}
