//! What a checkpoint writes besides the rows, and writing it: one durable transaction.

use std::sync::Arc;

use redb::{Database, Durability, TableHandle};
use serde::{Deserialize, Serialize};

use super::error::StoreError;
use super::meta::{self, META};
use super::overlay::Overlay;
use super::sealed;
use super::tables::{KEYS, REVISIONS, revision_key};
use crate::kv::{Counters, Revision};
use crate::mutant::{Mutant, on};
use crate::raft::{Index, LogId, Membership};

const POSITION_KEY: &str = "position";

/// Where in the history the state stands. Stored with the rows in one transaction, so that the two can
/// never disagree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Position {
    /// The last entry applied.
    pub(super) applied: LogId,
    /// Revision and hash.
    pub(super) counters: Counters,
    /// The oldest revision that can be read.
    pub(super) compacted: Revision,
    /// The newest membership that was applied.
    pub(super) membership: Option<(Index, Membership)>,
}

#[derive(Serialize, Deserialize)]
struct StoredPosition {
    applied: LogId,
    revision: Revision,
    hash: u64,
    compacted: Revision,
    membership: Option<(Index, Membership)>,
}

impl From<Position> for StoredPosition {
    fn from(position: Position) -> StoredPosition {
        let Position { applied, counters, compacted, membership } = position;
        StoredPosition {
            applied,
            revision: counters.revision,
            hash: counters.hash,
            compacted,
            membership,
        }
    }
}

/// An overlay that takes no more changes, on its way to the file.
#[derive(Debug)]
pub struct Frozen {
    pub(super) overlay: Arc<Overlay>,
    pub(super) position: Position,
}

impl Frozen {
    /// The last entry that the checkpoint covers.
    pub fn applied(&self) -> LogId {
        self.position.applied
    }
}

/// Makes the tables if the file is new, and reads where the state stands.
pub(super) fn open(db: &Database, path: &str) -> Result<Position, StoreError> {
    let mut write = db.begin_write().map_err(failed)?;
    write.set_quick_repair(true);
    // Everything is made in one transaction: a file with any table has all of them.
    let new = write.list_tables().map_err(failed)?.next().is_none();
    let position = {
        write.open_table(KEYS).map_err(failed)?;
        write.open_table(REVISIONS).map_err(failed)?;
        let mut meta = write.open_table(META).map_err(failed)?;
        if new {
            meta::put_format(&mut meta, "state")?;
            let position = StoredPosition::from(Position::default());
            meta::put(&mut meta, "state", POSITION_KEY, &position)?;
        }
        meta::check_format(&meta, "state", path)?;
        let stored: StoredPosition = meta::get(&meta, "state", POSITION_KEY)?;
        Position {
            applied: stored.applied,
            counters: Counters { revision: stored.revision, hash: stored.hash },
            compacted: stored.compacted,
            membership: stored.membership,
        }
    };
    write.commit().map_err(failed)?;
    Ok(position)
}

/// Writes an overlay and the position it leads to; durable when it returns.
pub(super) fn write(db: &Database, frozen: &Frozen) -> Result<(), StoreError> {
    if on(Mutant::PositionApart) {
        write_position(db, frozen)?;
    }
    let mut write = db.begin_write().map_err(failed)?;
    let lax = on(Mutant::CheckpointUnsynced);
    write
        .set_durability(if lax { Durability::None } else { Durability::Immediate })
        .map_err(|error| StoreError::damaged("state", error.to_string()))?;
    // Implies a commit in two phases: a damaged checkpoint is an error at the next start, and not taken
    // for one that a crash cut short. Costs nothing measurable on a commit of this size.
    write.set_quick_repair(true);
    {
        let mut keys = write.open_table(KEYS).map_err(failed)?;
        let mut revisions = write.open_table(REVISIONS).map_err(failed)?;
        let mut meta = write.open_table(META).map_err(failed)?;
        let mut bytes = Vec::new();
        for (key, row) in &frozen.overlay.keys {
            bytes.clear();
            bytes.extend_from_slice(&row.encode());
            sealed::seal(KEYS.name(), key, &mut bytes);
            keys.insert(&key[..], &bytes[..]).map_err(failed)?;
        }
        for (id, row) in &frozen.overlay.rows {
            bytes.clear();
            row.encode(&mut bytes);
            sealed::seal(REVISIONS.name(), &revision_key(*id), &mut bytes);
            revisions.insert((id.revision.0, id.sub), &bytes[..]).map_err(failed)?;
        }
        let position = StoredPosition::from(frozen.position.clone());
        meta::put(&mut meta, "state", POSITION_KEY, &position)?;
    }
    write.commit().map_err(failed)
}

/// Only for the mistake that it is.
fn write_position(db: &Database, frozen: &Frozen) -> Result<(), StoreError> {
    let write = db.begin_write().map_err(failed)?;
    let position = StoredPosition::from(frozen.position.clone());
    meta::put(&mut write.open_table(META).map_err(failed)?, "state", POSITION_KEY, &position)?;
    write.commit().map_err(failed)
}

fn failed(error: impl Into<redb::Error>) -> StoreError {
    StoreError::database("state", error)
}
