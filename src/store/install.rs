//! Taking a snapshot in: its rows are gathered beside the state and take its place in one step.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use redb::{Durability, TableHandle};
use xxhash_rust::xxh3::Xxh3;

use super::checkpoint::{self, Position};
use super::error::StoreError;
use super::marks::Marks;
use super::overlay::Overlay;
use super::sealed;
use super::snapshot::{self, END, End, FORMAT, HEAD, Head, KEY_ROWS, REVISION_ROWS, pop};
use super::state::State;
use super::tables::{Generation, INCOMING_KEYS, INCOMING_REVISIONS, KEYS, REVISIONS};
use crate::kv::{KeyRow, Revision, RevisionRow, RowId};
use crate::mutant::{Mutant, on};
use crate::raft::{LogId, Membership};

/// After how many bytes what has come is made durable: it is no use before the end, but must not gather
/// in memory.
const SYNC_BYTES: usize = 16 << 20;

/// A snapshot that is coming in. Dropping it gives it up; what came is removed with the next one, or at
/// the next start.
pub struct Incoming {
    state: Arc<State>,
    position: Option<Position>,
    before: Before,
    had: End,
    digest: Xxh3,
    unsynced_bytes: usize,
    whole: bool,
}

/// What came last: pieces and rows come in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Before {
    Nothing,
    Head,
    Keys,
    Revisions,
}

/// Why a snapshot cannot be taken in.
#[derive(Debug, thiserror::Error)]
pub enum IncomingError {
    /// It is not what a snapshot looks like. The state is as it was.
    #[error("the snapshot is damaged: {0}")]
    Damaged(&'static str),
    /// It was written by another release.
    #[error("the snapshot has format {0}; this release knows format {FORMAT}")]
    Format(u32),
    /// Another one is coming in.
    #[error("another snapshot is coming in")]
    Busy,
    /// There is no room for it on the disk. The state is as it was.
    #[error("there is no room for the snapshot on the disk")]
    NoRoom,
    /// The disk failed, which is final.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl State {
    /// Gets ready for a snapshot; one at a time.
    pub fn receive(self: &Arc<State>) -> Result<Incoming, IncomingError> {
        if self.receiving.swap(true, Ordering::Acquire) {
            return Err(IncomingError::Busy);
        }
        let incoming = Incoming {
            state: self.clone(),
            position: None,
            before: Before::Nothing,
            had: End::default(),
            digest: Xxh3::new(),
            unsynced_bytes: 0,
            whole: false,
        };
        let write = self.db.begin_write().map_err(failed)?;
        write.delete_table(INCOMING_KEYS).map_err(failed)?;
        write.delete_table(INCOMING_REVISIONS).map_err(failed)?;
        write.open_table(INCOMING_KEYS).map_err(failed)?;
        write.open_table(INCOMING_REVISIONS).map_err(failed)?;
        write.commit().map_err(failed)?;
        Ok(incoming)
    }

    /// The snapshot that took the state's place last: its last entry, and the membership as of then if
    /// nothing was applied since.
    pub fn installed(&self) -> Option<(LogId, Membership)> {
        let generation = self.shared.read().generation.clone();
        let (_, membership) = generation.position.membership.clone()?;
        Some((generation.installed?, membership))
    }

    /// Puts a snapshot in the state's place, durably when it returns. Nothing may be applied meanwhile.
    /// False, and nothing is done, if it brings nothing new.
    pub fn put_in_place(&self, incoming: Incoming) -> Result<bool, StoreError> {
        let _alone = self.writing.lock();
        let Some(position) = incoming.position.clone().filter(|_| incoming.is_whole()) else {
            return Ok(false);
        };
        let older = position.applied.index <= self.applied().index;
        if older && !on(Mutant::OlderSnapshot) {
            return Ok(false);
        }
        checkpoint::install(&self.db, &position)?;
        let generation = Arc::new(Generation::open(&self.db)?);
        let mut shared = self.shared.write();
        let old = (
            if on(Mutant::OverlayKept) {
                Overlay::default()
            } else {
                std::mem::take(&mut shared.active)
            },
            shared.frozen.take(),
            std::mem::replace(&mut shared.generation, generation),
        );
        shared.active_since = None;
        shared.durable = position.applied;
        shared.position = position;
        shared.installs += 1;
        // What was applied before belongs to the state that is gone.
        shared.marks = Marks::default();
        drop(shared);
        drop(old);
        checkpoint::remove_old(&self.db)?;
        Ok(true)
    }
}

impl Incoming {
    /// The most that taking a piece of a megabyte in, or beginning and ending, writes. An estimate: what came
    /// before may not be on the disk yet.
    pub const COMMIT_BYTES_MAX: u64 = 2 * (SYNC_BYTES as u64 + (1 << 20)) + (1 << 20);

    /// The last entry that it covers, once the first piece is here.
    pub fn last(&self) -> Option<LogId> {
        self.position.as_ref().map(|position| position.applied)
    }

    /// Whether the last piece is here, and everything is durable.
    pub fn is_whole(&self) -> bool {
        self.whole || (on(Mutant::HalfSnapshot) && self.position.is_some())
    }

    /// Takes the next piece in. Writes the disk. After an error no more pieces may follow.
    pub fn take(&mut self, piece: &[u8]) -> Result<(), IncomingError> {
        let (&kind, body) = piece.split_first().ok_or(IncomingError::Damaged("an empty piece"))?;
        let in_order = match kind {
            HEAD => self.before == Before::Nothing,
            KEY_ROWS => matches!(self.before, Before::Head | Before::Keys),
            REVISION_ROWS | END => self.before != Before::Nothing,
            _ => return Err(IncomingError::Damaged("a piece of an unknown kind")),
        };
        if !in_order || self.whole {
            return Err(IncomingError::Damaged("a piece out of order"));
        }
        match kind {
            HEAD => self.take_head(body)?,
            END => return self.take_end(body),
            _ => self.take_rows(kind, body, piece.len())?,
        }
        self.digest.update(piece);
        Ok(())
    }

    fn take_head(&mut self, body: &[u8]) -> Result<(), IncomingError> {
        // The format first: a newer one may look quite different after it.
        let (format, _) = postcard::take_from_bytes::<u32>(body)
            .map_err(|_| IncomingError::Damaged("its head cannot be read"))?;
        if format != FORMAT {
            return Err(IncomingError::Format(format));
        }
        let head: Head = postcard::from_bytes(body)
            .map_err(|_| IncomingError::Damaged("its head cannot be read"))?;
        let mut position = Position::from(head.position);
        if on(Mutant::SnapshotUncompacted) {
            position.counters.compacted = Revision(0);
        }
        if position.membership.is_none() {
            return Err(IncomingError::Damaged("it names no members"));
        }
        self.position = Some(position);
        self.before = Before::Head;
        Ok(())
    }

    fn take_rows(
        &mut self,
        kind: u8,
        mut body: &[u8],
        piece_bytes: usize,
    ) -> Result<(), IncomingError> {
        let mut write = self.state.db.begin_write().map_err(failed)?;
        self.unsynced_bytes += piece_bytes;
        let sync = self.unsynced_bytes >= SYNC_BYTES;
        if sync {
            self.unsynced_bytes = 0;
        }
        durability(&mut write, sync)?;
        if kind == KEY_ROWS {
            let mut keys = write.open_table(INCOMING_KEYS).map_err(failed)?;
            while !body.is_empty() {
                let (key, row) =
                    pop(&mut body).ok_or(IncomingError::Damaged("a row is cut off"))?;
                let sound = sealed::unseal(KEYS.name(), key, row).and_then(KeyRow::decode);
                sound.ok_or(IncomingError::Damaged("a row of a key is not what was written"))?;
                keys.insert(key, row).map_err(failed)?;
                self.had.keys += 1;
            }
            self.before = Before::Keys;
        } else {
            let mut revisions = write.open_table(INCOMING_REVISIONS).map_err(failed)?;
            while !body.is_empty() {
                let (key, row) =
                    pop(&mut body).ok_or(IncomingError::Damaged("a row is cut off"))?;
                let id = row_id(key).ok_or(IncomingError::Damaged("a revision is cut off"))?;
                let sound =
                    sealed::unseal(REVISIONS.name(), key, row).and_then(RevisionRow::decode);
                sound
                    .ok_or(IncomingError::Damaged("a row of a revision is not what was written"))?;
                revisions.insert((id.revision.0, id.sub), row).map_err(failed)?;
                self.had.revisions += 1;
            }
            self.before = Before::Revisions;
        }
        write.commit().map_err(failed)?;
        Ok(())
    }

    fn take_end(&mut self, body: &[u8]) -> Result<(), IncomingError> {
        // Byte for byte: nothing follows the end, and nothing says the same in other bytes.
        let end = snapshot::encode(END, &End { digest: self.digest.digest(), ..self.had })?;
        if end[1..] != *body {
            return Err(IncomingError::Damaged("not everything has come as it was sent"));
        }
        // What came since the last sync.
        let mut write = self.state.db.begin_write().map_err(failed)?;
        durability(&mut write, true)?;
        write.commit().map_err(failed)?;
        self.whole = true;
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

fn row_id(key: &[u8]) -> Option<RowId> {
    let (revision, sub) = key.split_first_chunk::<8>()?;
    let revision = Revision(u64::from_le_bytes(*revision));
    Some(RowId { revision, sub: u32::from_le_bytes(sub.try_into().ok()?) })
}

fn failed(error: impl Into<redb::Error>) -> StoreError {
    StoreError::database("state", error)
}
