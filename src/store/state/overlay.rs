//! Changes that are applied and not yet in the state's file.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;

use super::at_hand;
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
    /// What the newest rows of its keys take at hand besides, roughly: nothing of that may go before they are stored.
    rows_at_hand_bytes: usize,
    /// How many of the changes are deletions.
    pub(super) deletions: usize,
}

impl Overlay {
    pub(super) fn set(&mut self, id: RowId, row: RevisionRow, key_row: KeyRow) {
        self.bytes += row.cost_bytes() + key_row.extra_bytes();
        self.deletions += usize::from(!row.is_live());
        self.set_key(row.key.clone(), key_row);
        self.rows.insert(id, row);
    }

    fn set_key(&mut self, key: Bytes, row: KeyRow) {
        self.rows_at_hand_bytes += at_hand::changed_bytes(&key, &row);
        if let Some(replaced) = self.keys.insert(key.clone(), row) {
            self.rows_at_hand_bytes -=
                at_hand::changed_bytes(&key, &replaced).min(self.rows_at_hand_bytes);
        }
    }

    /// The memory that it takes, and what the rows at hand of its keys take beyond the room that these have.
    pub(super) fn bytes_beyond(&self, rows_bytes: usize) -> usize {
        self.bytes + self.rows_at_hand_bytes.saturating_sub(rows_bytes)
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
        let Overlay { keys, rows, records, bytes, rows_at_hand_bytes: _, deletions } = newer;
        self.bytes += bytes;
        self.deletions += deletions;
        keys.into_iter().for_each(|(key, row)| self.set_key(key, row));
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
    use crate::kv::Revision;

    fn set(overlay: &mut Overlay, key: &'static str, revision: u64) {
        let id = RowId { revision: Revision(revision), sub: 0 };
        let (create_revision, version, lease) = (id.revision, 1, 0);
        let key_row =
            KeyRow { newest: id, create_revision, version, lease, roots: Default::default() };
        let row = RevisionRow {
            key: key.into(),
            value: "value".into(),
            content_type: None,
            create_revision,
            version,
            lease,
            previous: None,
            jump: None,
        };
        overlay.set(id, row, key_row);
    }

    #[test]
    fn what_rows_at_hand_take_beyond_their_room_is_the_overlays() {
        let beyond = |overlay: &Overlay| overlay.bytes_beyond(0) - overlay.bytes;
        let mut overlay = Overlay::default();
        set(&mut overlay, "a", 1);
        let one = beyond(&overlay);
        assert!(one > 100, "{one}");
        // It is at hand once, however often it is changed.
        set(&mut overlay, "a", 2);
        assert_eq!(beyond(&overlay), one);
        let mut newer = Overlay::default();
        set(&mut newer, "a", 3);
        set(&mut newer, "b", 4);
        overlay.absorb(newer);
        assert_eq!(beyond(&overlay), 2 * one);
        assert_eq!(overlay.bytes_beyond(one), overlay.bytes + one);
        assert_eq!(overlay.bytes_beyond(3 * one), overlay.bytes, "there is room for them");
    }

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
