//! A snapshot: the state's file as a checkpoint left it, as a sequence of pieces of bounded size.
//!
//! The first piece says where in the history it stands, the last one how much there was before it. Those
//! between hold rows in the order of their keys, sealed as they are on the disk, so that damage is found
//! wherever it happens on the way. See [`super::install`] for the other end.

use std::sync::Arc;

use redb::TableHandle;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

use crate::kv::{Revision, RowId};
use crate::raft::LogId;
use crate::store::error::{StoreError, state_failed as failed};
use crate::store::sealed;
use crate::store::state::State;
use crate::store::state::position::StoredPosition;
use crate::store::state::tables::{KEYS, REVISIONS, record, record_key, revision_key};
use crate::store::state::view::{FileView, RecordRows};

/// The version of the format that this release writes and reads.
pub(in crate::store) const FORMAT: u32 = 2;

/// The most room that is made for a piece before it is filled, in bytes.
const RESERVED_BYTES_MAX: usize = 1 << 20;

/// What a piece is: its first byte.
pub(super) const HEAD: u8 = 0;
pub(in crate::store) const KEY_ROWS: u8 = 1;
pub(in crate::store) const REVISION_ROWS: u8 = 2;
pub(in crate::store) const END: u8 = 3;
pub(super) const RECORD_ROWS: u8 = 4;

/// The first piece.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Head {
    pub(super) format: u32,
    pub(super) position: StoredPosition,
}

/// The last piece.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::store) struct End {
    pub(in crate::store) keys: u64,
    pub(in crate::store) revisions: u64,
    pub(super) records: u64,
    /// Over all pieces before.
    pub(in crate::store) digest: u64,
}

/// Gives a snapshot out, piece by piece. The file keeps what it needs until this is dropped.
pub struct SnapshotReader {
    view: Arc<FileView>,
    next: Next,
    end: End,
    digest: Xxh3,
}

enum Next {
    Head,
    Keys(redb::Range<'static, &'static [u8], &'static [u8]>),
    Revisions(redb::Range<'static, (u64, u32), &'static [u8]>),
    Records(RecordRows),
    End,
    Nothing,
}

impl State {
    /// The state as the newest checkpoint left it.
    pub fn snapshot(&self) -> SnapshotReader {
        let view = self.view();
        SnapshotReader { view, next: Next::Head, end: End::default(), digest: Xxh3::new() }
    }
}

impl SnapshotReader {
    /// The last entry that it covers.
    pub fn last(&self) -> LogId {
        self.view.position.applied
    }

    /// The revision that it reflects.
    pub(super) fn revision(&self) -> Revision {
        self.view.position.counters.revision
    }

    /// The next piece; none after the last. It ends after the row with which it reaches `bytes_max`, and
    /// holds at least one.
    /// Reads the disk.
    ///
    /// # Errors
    /// What the disk says, and `Damaged` with the row that is.
    pub fn next_piece(&mut self, bytes_max: usize) -> Result<Option<Vec<u8>>, StoreError> {
        let piece = match &mut self.next {
            Next::Head => {
                let position = StoredPosition::from(self.view.position.clone());
                self.next = Next::Keys(self.view.all_keys()?);
                encode(HEAD, &Head { format: FORMAT, position })?
            }
            Next::Keys(rows) => {
                let mut piece = begin(KEY_ROWS, bytes_max);
                while (piece.len() < bytes_max || piece.len() == 1)
                    && let Some(row) = rows.next()
                {
                    let (key, row) = row.map_err(failed)?;
                    let (key, row) = (key.value(), row.value());
                    if sealed::unseal(KEYS.name(), key, row).is_none() {
                        let key = String::from_utf8_lossy(key).into_owned();
                        return Err(StoreError::damaged(
                            "state",
                            format!("the row of key {key:?}"),
                        ));
                    }
                    push(&mut piece, key, row);
                    self.end.keys += 1;
                }
                if piece.len() == 1 {
                    self.next = Next::Revisions(self.view.all_revisions()?);
                    return self.next_piece(bytes_max);
                }
                piece
            }
            Next::Revisions(rows) => {
                let mut piece = begin(REVISION_ROWS, bytes_max);
                while (piece.len() < bytes_max || piece.len() == 1)
                    && let Some(row) = rows.next()
                {
                    let (id, row) = row.map_err(failed)?;
                    let ((revision, sub), row) = (id.value(), row.value());
                    let key = revision_key(RowId { revision: Revision(revision), sub });
                    if sealed::unseal(REVISIONS.name(), &key, row).is_none() {
                        let row = format!("the row of revision {revision}, change {sub}");
                        return Err(StoreError::damaged("state", row));
                    }
                    push(&mut piece, &key, row);
                    self.end.revisions += 1;
                }
                if piece.len() == 1 {
                    self.next = Next::Records(self.view.all_records()?);
                    return self.next_piece(bytes_max);
                }
                piece
            }
            Next::Records(rows) => {
                let mut piece = begin(RECORD_ROWS, bytes_max);
                while (piece.len() < bytes_max || piece.len() == 1)
                    && let Some(row) = rows.next()
                {
                    let (key, row) = row.map_err(failed)?;
                    let ((kind, key), row) = (key.value(), row.value());
                    record(row, (kind, key))?;
                    push(&mut piece, &record_key(kind, key), row);
                    self.end.records += 1;
                }
                if piece.len() == 1 {
                    self.next = Next::End;
                    return self.next_piece(bytes_max);
                }
                piece
            }
            Next::End => {
                self.next = Next::Nothing;
                let end = End { digest: self.digest.digest(), ..self.end };
                return encode(END, &end).map(Some);
            }
            Next::Nothing => return Ok(None),
        };
        self.digest.update(&piece);
        Ok(Some(piece))
    }
}

impl std::fmt::Debug for SnapshotReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SnapshotReader").field("last", &self.last()).finish_non_exhaustive()
    }
}

pub(super) fn encode(kind: u8, value: &impl Serialize) -> Result<Vec<u8>, StoreError> {
    postcard::to_extend(value, vec![kind])
        .map_err(|error| StoreError::damaged("snapshot", error.to_string()))
}

/// A piece of rows, with room for about as many as it is to hold.
fn begin(kind: u8, bytes_max: usize) -> Vec<u8> {
    let mut piece = Vec::with_capacity(bytes_max.min(RESERVED_BYTES_MAX) + (4 << 10));
    piece.push(kind);
    piece
}

/// One row: two lengths and their bytes.
pub(in crate::store) fn push(piece: &mut Vec<u8>, key: &[u8], row: &[u8]) {
    for bytes in [key, row] {
        // Both are bounded far below 4 GiB where they come in.
        piece.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes());
    }
    piece.extend_from_slice(key);
    piece.extend_from_slice(row);
}

/// The first row of `bytes`, and the rest; none if there is no whole one.
pub(in crate::store) fn pop<'a>(bytes: &mut &'a [u8]) -> Option<(&'a [u8], &'a [u8])> {
    let (lengths, rest) = bytes.split_first_chunk::<8>()?;
    let length = |at: usize| {
        let bytes = lengths[at..at + 4].try_into().ok()?;
        usize::try_from(u32::from_le_bytes(bytes)).ok()
    };
    let (key, rest) = rest.split_at_checked(length(0)?)?;
    let (row, rest) = rest.split_at_checked(length(4)?)?;
    *bytes = rest;
    Some((key, row))
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
