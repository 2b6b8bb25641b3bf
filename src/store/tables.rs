//! The tables of the state's file, and their rows.

use redb::{TableDefinition, TableHandle};

use super::error::StoreError;
use super::sealed;
use crate::kv::{KeyRow, RevisionRow, RowId};

/// Key → `KeyRow`, sealed.
pub(super) const KEYS: TableDefinition<&[u8], &[u8]> = TableDefinition::new("keys");
/// Revision and sub-number → `RevisionRow`, sealed.
pub(super) const REVISIONS: TableDefinition<(u64, u32), &[u8]> = TableDefinition::new("revisions");

/// The rows of a snapshot that is coming in. Sealed as if they were in their place already.
pub(super) const INCOMING_KEYS: TableDefinition<&[u8], &[u8]> =
    TableDefinition::new("incoming_keys");
pub(super) const INCOMING_REVISIONS: TableDefinition<(u64, u32), &[u8]> =
    TableDefinition::new("incoming_revisions");
/// The rows whose place those of a snapshot took, until they are removed.
pub(super) const OLD_KEYS: TableDefinition<&[u8], &[u8]> = TableDefinition::new("old_keys");
pub(super) const OLD_REVISIONS: TableDefinition<(u64, u32), &[u8]> =
    TableDefinition::new("old_revisions");

/// The key of a revision's row as its checksum covers it.
pub(super) fn revision_key(id: RowId) -> [u8; 12] {
    let mut key = [0; 12];
    key[..8].copy_from_slice(&id.revision.0.to_le_bytes());
    key[8..].copy_from_slice(&id.sub.to_le_bytes());
    key
}

pub(super) fn key_row(bytes: &[u8], key: &[u8]) -> Result<KeyRow, StoreError> {
    sealed::unseal(KEYS.name(), key, bytes).and_then(KeyRow::decode).ok_or_else(|| {
        StoreError::damaged("state", format!("the row of key {:?}", String::from_utf8_lossy(key)))
    })
}

pub(super) fn revision_row(bytes: &[u8], id: RowId) -> Result<RevisionRow, StoreError> {
    let row = sealed::unseal(REVISIONS.name(), &revision_key(id), bytes);
    row.and_then(RevisionRow::decode).ok_or_else(|| {
        let RowId { revision, sub } = id;
        StoreError::damaged("state", format!("the row of revision {revision}, change {sub}"))
    })
}
