//! Changes that are applied and not yet in the state's file.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;

use crate::kv::{KeyRange, KeyRow, RecordKey, RevisionRow, RowId};

/// What a record takes in memory besides its bytes, roughly.
const RECORD_BYTES: usize = 128;

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
        self.bytes += RECORD_BYTES + key.key.len() + record.as_ref().map_or(0, Bytes::len);
        self.records.insert(key, record);
    }

    /// Adds all that `newer` holds.
    pub(super) fn absorb(&mut self, newer: Overlay) {
        self.bytes += newer.bytes;
        self.deletions += newer.deletions;
        self.keys.extend(newer.keys);
        self.rows.extend(newer.rows);
        self.records.extend(newer.records);
    }

    /// The newest change of a key that this overlay holds.
    pub(super) fn newest(&self, key: &[u8]) -> Option<(&KeyRow, &RevisionRow)> {
        let key = self.keys.get(key)?;
        // A key and the row that made it newest are added together.
        self.rows.get(&key.newest).map(|row| (key, row))
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
