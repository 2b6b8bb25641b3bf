//! How a command gets at the rows of the state, wherever they are kept.

use std::ops::ControlFlow;

use bytes::Bytes;

use super::range::KeyRange;
use super::record::RecordKey;
use super::row_id::RowId;
use super::rows::{KeyRow, RevisionRow};

/// The rows that a command reads.
pub trait ReadRows {
    /// What can go wrong where they are kept.
    type Error;

    /// The newest change of a key.
    fn key(&self, key: &[u8]) -> Result<Option<KeyRow>, Self::Error>;

    /// The change that is the newest of a key which exists, as the other two tell.
    fn row(&self, id: RowId) -> Result<RevisionRow, Self::Error>;

    /// Shows the keys of a range in order, those too whose newest change deleted them, until `visit` has
    /// seen enough. Deletions before the compacted revision may be among them, or not.
    fn visit(
        &self,
        range: &KeyRange,
        visit: &mut dyn FnMut(Bytes, KeyRow) -> ControlFlow<()>,
    ) -> Result<(), Self::Error>;
}

/// The rows that a command works on.
pub trait Rows: ReadRows {
    /// Adds a change; it becomes the newest of its key, whose row is that from now on.
    fn set(&mut self, id: RowId, row: RevisionRow, key_row: KeyRow);

    /// Sets a record, or removes it.
    fn set_record(&mut self, key: RecordKey, record: Option<Bytes>);
}
