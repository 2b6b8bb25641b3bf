//! Where in the history the state stands, as its file says.

use redb::ReadableTable;
use serde::{Deserialize, Serialize};

use crate::kv::{Counters, Revision};
use crate::raft::{Index, LogId, Membership};
use crate::store::error::StoreError;
use crate::store::meta;

pub(super) const POSITION_KEY: &str = "position";
/// The last entry of the snapshot that took the state's place last; missing if none ever did.
pub(super) const INSTALLED_KEY: &str = "installed";

/// Where in the history the state stands. Stored with the rows in one transaction, so that the two can
/// never disagree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::store) struct Position {
    /// The last entry applied.
    pub(in crate::store) applied: LogId,
    /// Revision, hash and compacted revision.
    pub(in crate::store) counters: Counters,
    /// The newest membership that was applied.
    pub(in crate::store) membership: Option<(Index, Membership)>,
}

/// As it is written, in the file and at the head of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::store) struct StoredPosition {
    applied: LogId,
    revision: Revision,
    hash: u64,
    compacted: Revision,
    membership: Option<(Index, Membership)>,
}

impl From<Position> for StoredPosition {
    fn from(position: Position) -> StoredPosition {
        let Position { applied, counters, membership } = position;
        // Clock, level and settings are records.
        let Counters { revision, hash, compacted, .. } = counters;
        StoredPosition { applied, revision, hash, compacted, membership }
    }
}

impl From<StoredPosition> for Position {
    fn from(stored: StoredPosition) -> Position {
        let StoredPosition { applied, revision, hash, compacted, membership } = stored;
        let counters = Counters { revision, hash, compacted, ..Counters::default() };
        Position { applied, counters, membership }
    }
}

/// Where the state stands.
pub(super) fn position(
    meta: &impl ReadableTable<&'static str, &'static [u8]>,
) -> Result<Position, StoreError> {
    Ok(meta::get::<StoredPosition>(meta, "state", POSITION_KEY)?.into())
}

/// The last entry of the snapshot that took the state's place last.
pub(super) fn installed(
    meta: &impl ReadableTable<&'static str, &'static [u8]>,
) -> Result<Option<LogId>, StoreError> {
    meta::find(meta, "state", INSTALLED_KEY)
}
