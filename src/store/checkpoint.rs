//! What a checkpoint writes besides the rows, and writing it: one durable transaction.

use std::sync::Arc;

use redb::{Database, Durability, ReadableTable};
use serde::{Deserialize, Serialize};

use super::error::StoreError;
use super::overlay::Overlay;
use super::tables::{KEYS, META, REVISIONS};
use crate::kv::{Counters, Revision};
use crate::raft::{Index, LogId, Membership};

/// The version of the state's file that this release reads and writes.
const FORMAT: u32 = 1;
const FORMAT_KEY: &str = "format";
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

/// Makes the tables if they are missing, and reads where the state stands.
pub(super) fn open(db: &Database, path: &str) -> Result<Position, StoreError> {
    let mut write = db.begin_write().map_err(|error| StoreError::database("state", error))?;
    write.set_quick_repair(true);
    let position = {
        let failed = |error: redb::TableError| StoreError::database("state", error);
        write.open_table(KEYS).map_err(failed)?;
        write.open_table(REVISIONS).map_err(failed)?;
        let mut meta = write.open_table(META).map_err(failed)?;
        let failed = |error: redb::StorageError| StoreError::database("state", error);
        let format = meta.get(FORMAT_KEY).map_err(failed)?.map(|value| value.value().to_vec());
        match format {
            None => {
                meta.insert(FORMAT_KEY, &FORMAT.to_le_bytes()[..]).map_err(failed)?;
            }
            Some(bytes) => {
                let found = bytes.try_into().map(u32::from_le_bytes).unwrap_or(u32::MAX);
                if found != FORMAT {
                    return Err(StoreError::NewerFormat {
                        path: path.into(),
                        found,
                        known: FORMAT,
                    });
                }
            }
        }
        let stored = meta.get(POSITION_KEY).map_err(failed)?;
        match stored {
            None => Position::default(),
            Some(stored) => {
                let stored: StoredPosition = postcard::from_bytes(stored.value())
                    .map_err(|_| StoreError::damaged("state", "its position"))?;
                Position {
                    applied: stored.applied,
                    counters: Counters { revision: stored.revision, hash: stored.hash },
                    compacted: stored.compacted,
                    membership: stored.membership,
                }
            }
        }
    };
    write.commit().map_err(|error| StoreError::database("state", error))?;
    Ok(position)
}

/// Writes an overlay and the position it leads to; durable when it returns.
pub(super) fn write(db: &Database, frozen: &Frozen) -> Result<(), StoreError> {
    let mut write = db.begin_write().map_err(|error| StoreError::database("state", error))?;
    write
        .set_durability(Durability::Immediate)
        .map_err(|error| StoreError::damaged("state", error.to_string()))?;
    // Instant opening after a crash; costs nothing measurable on a commit of this size.
    write.set_quick_repair(true);
    {
        let failed = |error: redb::TableError| StoreError::database("state", error);
        let mut keys = write.open_table(KEYS).map_err(failed)?;
        let mut revisions = write.open_table(REVISIONS).map_err(failed)?;
        let mut meta = write.open_table(META).map_err(failed)?;
        let failed = |error: redb::StorageError| StoreError::database("state", error);
        for (key, row) in &frozen.overlay.keys {
            keys.insert(&key[..], &row.encode()[..]).map_err(failed)?;
        }
        let mut bytes = Vec::new();
        for (id, row) in &frozen.overlay.rows {
            bytes.clear();
            row.encode(&mut bytes);
            revisions.insert((id.revision.0, id.sub), &bytes[..]).map_err(failed)?;
        }
        let Position { applied, counters, compacted, membership } = frozen.position.clone();
        let position = StoredPosition {
            applied,
            revision: counters.revision,
            hash: counters.hash,
            compacted,
            membership,
        };
        let position = postcard::to_stdvec(&position)
            .map_err(|error| StoreError::damaged("state", error.to_string()))?;
        meta.insert(POSITION_KEY, &position[..]).map_err(failed)?;
    }
    write.commit().map_err(|error| StoreError::database("state", error))
}
