//! The tables of the state's file, and their rows.

use std::collections::BTreeMap;

use bytes::Bytes;
use redb::{ReadOnlyTable, TableDefinition, TableHandle};

use crate::kv::{KeyRow, RecordKey, RevisionRow, RowId, is_of_newer_layout};
use crate::store::error::{StoreError, state_failed as failed};
use crate::store::sealed;

/// Key → `KeyRow`, sealed.
pub(in crate::store) const KEYS: TableDefinition<&[u8], &[u8]> = TableDefinition::new("keys");
/// Revision and sub-number → `RevisionRow`, sealed.
pub(in crate::store) const REVISIONS: TableDefinition<(u64, u32), &[u8]> =
    TableDefinition::new("revisions");

/// Kind and key → record, sealed.
pub(in crate::store) const RECORDS: TableDefinition<(u16, &[u8]), &[u8]> =
    TableDefinition::new("records");

/// The rows of a snapshot that is coming in. Sealed as if they were in their place already.
pub(in crate::store) const INCOMING_KEYS: TableDefinition<&[u8], &[u8]> =
    TableDefinition::new("incoming_keys");
pub(in crate::store) const INCOMING_REVISIONS: TableDefinition<(u64, u32), &[u8]> =
    TableDefinition::new("incoming_revisions");
pub(in crate::store) const INCOMING_RECORDS: TableDefinition<(u16, &[u8]), &[u8]> =
    TableDefinition::new("incoming_records");
/// The rows whose place those of a snapshot took, until they are removed.
pub(super) const OLD_KEYS: TableDefinition<&[u8], &[u8]> = TableDefinition::new("old_keys");
pub(super) const OLD_REVISIONS: TableDefinition<(u64, u32), &[u8]> =
    TableDefinition::new("old_revisions");
pub(super) const OLD_RECORDS: TableDefinition<(u16, &[u8]), &[u8]> =
    TableDefinition::new("old_records");

/// The key of a revision's row as its checksum covers it.
pub(in crate::store) fn revision_key(id: RowId) -> [u8; 12] {
    let mut key = [0; 12];
    key[..8].copy_from_slice(&id.revision.0.to_le_bytes());
    key[8..].copy_from_slice(&id.sub.to_le_bytes());
    key
}

/// The key of a record as its checksum covers it.
pub(in crate::store) fn record_key(kind: u16, key: &[u8]) -> Vec<u8> {
    [&kind.to_le_bytes()[..], key].concat()
}

/// What is stored of a row of a layout that came later, or is damaged.
fn unreadable(row: Option<&[u8]>, which: String) -> StoreError {
    match row.is_some_and(is_of_newer_layout) {
        true => StoreError::NewerRow { which: format!("{which} of the state") },
        false => StoreError::damaged("state", which),
    }
}

pub(in crate::store) fn record(
    bytes: &[u8],
    (kind, key): (u16, &[u8]),
) -> Result<Bytes, StoreError> {
    let record = sealed::unseal(RECORDS.name(), &record_key(kind, key), bytes);
    record.map(Bytes::copy_from_slice).ok_or_else(|| {
        let key = String::from_utf8_lossy(key);
        StoreError::damaged("state", format!("the record {key:?} of kind {kind}"))
    })
}

/// The records of a table from one key on and before another.
pub(super) fn records(
    table: &ReadOnlyTable<(u16, &'static [u8]), &'static [u8]>,
    from: &RecordKey,
    to: &RecordKey,
) -> Result<BTreeMap<RecordKey, Bytes>, StoreError> {
    let range = (from.kind, &from.key[..])..(to.kind, &to.key[..]);
    let mut all = BTreeMap::new();
    for row in table.range(range).map_err(failed)? {
        let (key, bytes) = row.map_err(failed)?;
        let (kind, key) = key.value();
        let record = record(bytes.value(), (kind, key))?;
        all.insert(RecordKey { kind, key: Bytes::copy_from_slice(key) }, record);
    }
    Ok(all)
}

pub(super) fn key_row(bytes: &[u8], key: &[u8]) -> Result<KeyRow, StoreError> {
    let row = sealed::unseal(KEYS.name(), key, bytes);
    row.and_then(KeyRow::decode).ok_or_else(|| {
        unreadable(row, format!("the row of key {:?}", String::from_utf8_lossy(key)))
    })
}

pub(super) fn revision_row(bytes: &[u8], id: RowId) -> Result<RevisionRow, StoreError> {
    let row = sealed::unseal(REVISIONS.name(), &revision_key(id), bytes);
    row.and_then(RevisionRow::decode).ok_or_else(|| {
        let RowId { revision, sub } = id;
        unreadable(row, format!("the row of revision {revision}, change {sub}"))
    })
}
