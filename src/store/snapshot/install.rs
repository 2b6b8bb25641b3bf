//! Taking a snapshot in: its rows are gathered beside the state and take its place in one step.

use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use redb::{CursorError, Durability};

pub use super::decoder::IncomingError;
use super::decoder::{Row, Sequence};
use super::early_sync::EarlySync;
use super::pieces::END;
use crate::raft::{LogId, Membership};
use crate::store::disk::coalesce::{Coalesce, Coalesced};
use crate::store::error::{StoreError, state_failed as failed};
use crate::store::state::State;
use crate::store::state::tables::{INCOMING_KEYS, INCOMING_RECORDS, INCOMING_REVISIONS};

/// After how many bytes what has come is made durable: it is no use before the end, but until then redb remembers each
/// page of it.
const SYNC_BYTES: usize = 256 << 20;

/// A snapshot that is coming in. Dropping it gives it up; what came is removed with the next one, or at
/// the next start.
pub struct Incoming {
    state: Arc<State>,
    sequence: Sequence,
    /// Whose members take the place of those that the snapshot names.
    members: Option<Membership>,
    unsynced_bytes: usize,
    early: Option<EarlySync>,
    _gathered: Coalesced,
    whole: bool,
}

impl State {
    /// Gets ready for a snapshot; one at a time.
    pub fn receive(self: &Arc<State>) -> Result<Incoming, IncomingError> {
        if self.receiving.swap(true, Ordering::Acquire) {
            return Err(IncomingError::Busy);
        }
        let incoming = Incoming {
            state: self.clone(),
            sequence: Sequence::new(self.options.highest),
            members: None,
            unsynced_bytes: 0,
            early: self.file.as_deref().and_then(EarlySync::start),
            _gathered: self.coalesce.start(),
            whole: false,
        };
        let write = self.db.begin_write().map_err(failed)?;
        write.delete_table(INCOMING_KEYS).map_err(failed)?;
        write.delete_table(INCOMING_REVISIONS).map_err(failed)?;
        write.delete_table(INCOMING_RECORDS).map_err(failed)?;
        write.open_table(INCOMING_RECORDS).map_err(failed)?;
        write.open_table(INCOMING_KEYS).map_err(failed)?;
        write.open_table(INCOMING_REVISIONS).map_err(failed)?;
        write.commit().map_err(failed)?;
        Ok(incoming)
    }

    /// Puts a snapshot in the state's place, durably when it returns. Nothing may be applied meanwhile.
    /// False, and nothing is done, if it brings nothing new.
    pub fn put_in_place(&self, incoming: Incoming) -> Result<bool, StoreError> {
        let position = incoming.sequence.position().cloned().filter(|_| incoming.is_whole());
        let Some(mut position) = position else { return Ok(false) };
        if let Some(members) = &incoming.members {
            position.membership = Some((position.applied.index, members.clone()));
        }
        self.replace(&position)
    }
}

impl Incoming {
    /// The most bytes that should be taken in together.
    pub const BATCH_BYTES_MAX: usize = 4 << 20;
    /// What beginning writes, in bytes. An estimate.
    pub const BEGIN_BYTES: u64 = 1 << 20;

    /// What taking so many bytes in, or ending, may write. An estimate: redb holds back what fits into half of
    /// its cache, and more is gathered.
    pub fn commit_bytes(&self, bytes: usize) -> u64 {
        let held_back_max = self.state.options.cache_bytes / 2 + Coalesce::BYTES_MAX;
        let held_back = self.unsynced_bytes.min(held_back_max);
        2 * (held_back + bytes) as u64 + Self::BEGIN_BYTES
    }

    /// The last entry that it covers, once the first piece is here.
    pub fn last(&self) -> Option<LogId> {
        self.sequence.position().map(|position| position.applied)
    }

    /// Whether the last piece is here, and everything is durable.
    pub fn is_whole(&self) -> bool {
        self.whole
    }

    /// Lets `members` be those of the state, as of its last entry, and not those that the snapshot names.
    pub(in crate::store) fn begin_with(&mut self, members: Membership) {
        self.members = Some(members);
    }

    /// Takes the next pieces in, all in one transaction. Writes the disk. After an error no more pieces may
    /// follow.
    pub fn take(&mut self, pieces: &[impl AsRef<[u8]>]) -> Result<(), IncomingError> {
        self.unsynced_bytes += pieces.iter().map(|piece| piece.as_ref().len()).sum::<usize>();
        let ends = pieces.last().is_some_and(|piece| piece.as_ref().first() == Some(&END));
        let sync = ends || self.unsynced_bytes >= SYNC_BYTES;
        let mut write = self.state.db.begin_write().map_err(failed)?;
        durability(&mut write, sync)?;
        {
            let mut keys = write.open_table(INCOMING_KEYS).map_err(failed)?;
            let mut revisions = write.open_table(INCOMING_REVISIONS).map_err(failed)?;
            let mut records = write.open_table(INCOMING_RECORDS).map_err(failed)?;
            for piece in pieces {
                // Rows come in order, so that they go in one after the other, without a search for each.
                let mut key_end =
                    keys.upper_bound_mut(Bound::<&[u8]>::Unbounded).map_err(failed)?;
                let mut revision_end =
                    revisions.upper_bound_mut(Bound::<(u64, u32)>::Unbounded).map_err(failed)?;
                self.sequence.take(piece.as_ref(), |row| match row {
                    Row::Key(key, row) => key_end.insert_before(key, row).map_err(unordered),
                    Row::Revision(id, row) => {
                        let id = (id.revision.0, id.sub);
                        revision_end.insert_before(id, row).map_err(unordered)
                    }
                    Row::Record(key, record) => {
                        records.insert(key, record).map(drop).map_err(|error| failed(error).into())
                    }
                })?;
                key_end.close().map_err(failed)?;
                revision_end.close().map_err(failed)?;
            }
        }
        write.commit().map_err(failed)?;
        if sync {
            self.unsynced_bytes = 0;
        } else if let Some(early) = &self.early {
            early.go_on();
        }
        self.whole = ends;
        Ok(())
    }
}

impl std::fmt::Debug for Incoming {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Incoming").field("last", &self.last()).finish_non_exhaustive()
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        self.state.receiving.store(false, Ordering::Release);
    }
}

fn durability(write: &mut redb::WriteTransaction, sync: bool) -> Result<(), StoreError> {
    let durability = if sync { Durability::Immediate } else { Durability::None };
    write
        .set_durability(durability)
        .map_err(|error| StoreError::damaged("state", error.to_string()))
}

fn unordered(error: CursorError) -> IncomingError {
    match error {
        CursorError::Storage(error) => failed(error).into(),
        _ => IncomingError::Damaged("its rows are not in order"),
    }
}
