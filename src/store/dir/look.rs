//! A look at what a stopped node has, which changes nothing.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;

use super::identity;
use crate::kv::RecordKey;
use crate::store::error::StoreError;
use crate::store::paths;
use crate::store::state::stored;

/// The records from one key on and before another of a stopped node's state, as of its last checkpoint.
///
/// # Errors
/// A node runs in the directory, or there is none, or its file cannot be read.
pub fn stored_records(
    path: &Path,
    from: &RecordKey,
    to: &RecordKey,
) -> Result<BTreeMap<RecordKey, Bytes>, StoreError> {
    let file = path.join(paths::STATE);
    if !file.exists() {
        return Err(StoreError::NoNode { path: path.to_path_buf() });
    }
    let _lock = identity::lock(path)?;
    stored::records(&file, from, to)
}
