//! What the file of a node's state holds, looked at without a node and without a change.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use redb::{ReadOnlyDatabase, ReadableDatabase};

use super::tables::{self, RECORDS};
use crate::kv::RecordKey;
use crate::store::error::{StoreError, state_failed as failed};

/// The records from one key on and before another, as the last checkpoint left them.
pub(in crate::store) fn records(
    path: &Path,
    from: &RecordKey,
    to: &RecordKey,
) -> Result<BTreeMap<RecordKey, Bytes>, StoreError> {
    let opened = ReadOnlyDatabase::open(path);
    let db = opened.map_err(|error| StoreError::opening("state", path, error))?;
    let table = db.begin_read().map_err(failed)?.open_table(RECORDS).map_err(failed)?;
    tables::records(&table, from, to)
}
