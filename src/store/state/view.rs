//! The state's file as a checkpoint left it: a consistent view that stays open.

use std::collections::BTreeMap;

use bytes::Bytes;
use redb::{Database, ReadOnlyTable, ReadableDatabase, ReadableTableMetadata};

use super::pins::Pins;
use super::position::{self, Position};
use super::sweep::Swept;
#[cfg(test)]
use super::tables::revision_key;
use super::tables::{self, KEYS, RECORDS, REVISIONS, key_row, revision_row};
use crate::kv::{FeatureLevel, KeyRange, KeyRow, RecordKey, RevisionRow, RowId};
use crate::raft::LogId;
use crate::store::error::{StoreError, state_failed as failed};
use crate::store::meta::META;

/// The file as one checkpoint left it.
pub(in crate::store) struct FileView {
    keys: ReadOnlyTable<&'static [u8], &'static [u8]>,
    revisions: ReadOnlyTable<(u64, u32), &'static [u8]>,
    records: ReadOnlyTable<(u16, &'static [u8]), &'static [u8]>,
    /// Where the state stood.
    pub(in crate::store) position: Position,
    /// The last entry of the snapshot that took the state's place last.
    pub(super) installed: Option<LogId>,
    swept: Swept,
}

impl std::fmt::Debug for FileView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileView").finish_non_exhaustive()
    }
}

impl FileView {
    /// The newest one, for a node that knows all feature levels up to `highest`.
    pub(super) fn open(db: &Database, highest: FeatureLevel) -> Result<FileView, StoreError> {
        let read = db.begin_read().map_err(failed)?;
        let meta = read.open_table(META).map_err(failed)?;
        let records = read.open_table(RECORDS).map_err(failed)?;
        let mut position = position::position(&meta)?;
        position.counters = position.counters.with_records(highest, |key| record(&records, key))?;
        Ok(FileView {
            position,
            records,
            installed: position::installed(&meta)?,
            swept: Swept::load(&meta)?,
            keys: read.open_table(KEYS).map_err(failed)?,
            revisions: read.open_table(REVISIONS).map_err(failed)?,
        })
    }

    /// What the pages of all keys take, in bytes. An estimate.
    pub(super) fn keys_bytes(&self) -> u64 {
        /// A row, its key and its share of a page that is not full.
        const KEY_BYTES: u64 = 200;
        // Unknown is as good as none: a commit that does not fit tells.
        self.keys.len().unwrap_or_default().saturating_mul(KEY_BYTES)
    }

    pub(super) fn key(&self, key: &[u8]) -> Result<Option<KeyRow>, StoreError> {
        let found = self.keys.get(key).map_err(failed)?;
        found.map(|row| key_row(row.value(), key)).transpose()
    }

    pub(super) fn record(&self, key: &RecordKey) -> Result<Option<Bytes>, StoreError> {
        record(&self.records, key)
    }

    pub(super) fn row(&self, id: RowId) -> Result<Option<RevisionRow>, StoreError> {
        let at = (id.revision.0, id.sub);
        let found = self.revisions.get(at).map_err(failed)?;
        found.map(|row| revision_row(row.value(), id)).transpose()
    }

    /// Whether rows that compaction hides, and that nobody has pinned, are still to be removed.
    pub(super) fn is_unswept(&self, pins: &Pins) -> bool {
        self.swept.is_behind(pins.bound(self.position.counters.compacted))
    }

    /// All rows of the `keys` table as they are stored.
    pub(in crate::store) fn all_keys(
        &self,
    ) -> Result<redb::Range<'static, &'static [u8], &'static [u8]>, StoreError> {
        self.keys.range::<&[u8]>(..).map_err(failed)
    }

    /// All rows of the `revisions` table as they are stored.
    pub(in crate::store) fn all_revisions(
        &self,
    ) -> Result<redb::Range<'static, (u64, u32), &'static [u8]>, StoreError> {
        self.revisions.range::<(u64, u32)>(..).map_err(failed)
    }

    /// All records as they are stored.
    pub(in crate::store) fn all_records(&self) -> Result<RecordRows, StoreError> {
        self.records.range::<(u16, &[u8])>(..).map_err(failed)
    }

    /// The records from one key on and before another.
    pub(super) fn records(
        &self,
        from: &RecordKey,
        to: &RecordKey,
    ) -> Result<BTreeMap<RecordKey, Bytes>, StoreError> {
        tables::records(&self.records, from, to)
    }

    /// The keys of a range, in order.
    pub(super) fn range(&self, range: &KeyRange) -> Result<KeyRows, StoreError> {
        let start = &range.start[..];
        let rows = match &range.end {
            Some(end) => self.keys.range(start..end.max(&range.start)),
            None => self.keys.range(start..),
        };
        Ok(KeyRows { rows: rows.map_err(failed)? })
    }
}

fn record(
    records: &ReadOnlyTable<(u16, &'static [u8]), &'static [u8]>,
    key: &RecordKey,
) -> Result<Option<Bytes>, StoreError> {
    let at = (key.kind, &key.key[..]);
    let found = records.get(at).map_err(failed)?;
    found.map(|found| tables::record(found.value(), at)).transpose()
}

/// Rows of the `records` table as they are stored.
pub(in crate::store) type RecordRows = redb::Range<'static, (u16, &'static [u8]), &'static [u8]>;

/// Rows of the `keys` table, from either end.
pub(super) struct KeyRows {
    rows: redb::Range<'static, &'static [u8], &'static [u8]>,
}

impl KeyRows {
    pub(super) fn next(&mut self, descending: bool) -> Result<Option<(Bytes, KeyRow)>, StoreError> {
        let next = if descending { self.rows.next_back() } else { self.rows.next() };
        let Some(next) = next else { return Ok(None) };
        let (key, row) = next.map_err(failed)?;
        let row = key_row(row.value(), key.value())?;
        Ok(Some((Bytes::copy_from_slice(key.value()), row)))
    }
}

#[cfg(test)]
impl FileView {
    /// Every row of both tables as it is stored.
    pub(super) fn rows(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let keys = self.all_keys().unwrap().map(|row| {
            let (key, row) = row.unwrap();
            (key.value().to_vec(), row.value().to_vec())
        });
        let revisions = self.all_revisions().unwrap().map(|row| {
            let (id, row) = row.unwrap();
            let (revision, sub) = id.value();
            let id = RowId { revision: crate::kv::Revision(revision), sub };
            (revision_key(id).to_vec(), row.value().to_vec())
        });
        keys.chain(revisions).collect()
    }
}
