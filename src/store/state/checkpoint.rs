//! What a checkpoint writes besides the rows, and writing it: one durable transaction.

use std::sync::Arc;

use redb::{Database, TableHandle, WriteTransaction};

use super::overlay::Overlay;
use super::position::{INSTALLED_KEY, POSITION_KEY, Position, StoredPosition};
use super::sweep::{self, Budget, Swept};
use super::tables::{
    INCOMING_KEYS, INCOMING_RECORDS, INCOMING_REVISIONS, KEYS, OLD_KEYS, OLD_RECORDS,
    OLD_REVISIONS, RECORDS, REVISIONS, record_key, revision_key,
};
use crate::kv::{RecordKey, Revision};
use crate::raft::LogId;
use crate::store::error::{StoreError, state_failed as failed};
use crate::store::life::Pulse;
use crate::store::meta::{self, META};
use crate::store::sealed;

/// An overlay that takes no more changes, on its way to the file.
#[derive(Debug)]
pub struct Frozen {
    pub(super) overlay: Arc<Overlay>,
    /// Which one it is.
    pub(super) number: u64,
    pub(super) position: Position,
    /// How often a snapshot had taken the state's place by then.
    pub(super) installs: u64,
}

impl Frozen {
    /// The last entry that the checkpoint covers.
    pub fn applied(&self) -> LogId {
        self.position.applied
    }
}

/// Makes the tables if the file is new, and removes what a snapshot that was cut short left.
pub(super) fn open(db: &Database, path: &str) -> Result<(), StoreError> {
    let mut write = db.begin_write().map_err(failed)?;
    write.set_quick_repair(true);
    // Everything is made in one transaction: a file with any table has all of them.
    let new = write.list_tables().map_err(failed)?.next().is_none();
    {
        write.open_table(KEYS).map_err(failed)?;
        write.open_table(REVISIONS).map_err(failed)?;
        write.open_table(RECORDS).map_err(failed)?;
        let mut meta = write.open_table(META).map_err(failed)?;
        if new {
            meta::put_format(&mut meta, "state")?;
            let position = StoredPosition::from(Position::default());
            meta::put(&mut meta, "state", POSITION_KEY, &position)?;
        }
        meta::check_format(&meta, "state", path)?;
    }
    for keys in [INCOMING_KEYS, OLD_KEYS] {
        write.delete_table(keys).map_err(failed)?;
    }
    for revisions in [INCOMING_REVISIONS, OLD_REVISIONS] {
        write.delete_table(revisions).map_err(failed)?;
    }
    for records in [INCOMING_RECORDS, OLD_RECORDS] {
        write.delete_table(records).map_err(failed)?;
    }
    write.commit().map_err(failed)
}

/// Puts the rows that came in the place of those there are, and says where the state stands now; durable
/// when it returns.
pub(super) fn install(db: &Database, position: &Position) -> Result<(), StoreError> {
    let mut write = db.begin_write().map_err(failed)?;
    write.set_quick_repair(true);
    write.rename_table(KEYS, OLD_KEYS).map_err(failed)?;
    write.rename_table(REVISIONS, OLD_REVISIONS).map_err(failed)?;
    write.rename_table(RECORDS, OLD_RECORDS).map_err(failed)?;
    write.rename_table(INCOMING_KEYS, KEYS).map_err(failed)?;
    write.rename_table(INCOMING_REVISIONS, REVISIONS).map_err(failed)?;
    write.rename_table(INCOMING_RECORDS, RECORDS).map_err(failed)?;
    put_installed(&write, position)?;
    Swept::forget(&mut write.open_table(META).map_err(failed)?)?;
    write.commit().map_err(failed)
}

/// Says where the state stands, as [`install`] does, with the rows that there are.
pub(super) fn rewrite(db: &Database, position: &Position) -> Result<(), StoreError> {
    let mut write = db.begin_write().map_err(failed)?;
    write.set_quick_repair(true);
    put_installed(&write, position)?;
    write.commit().map_err(failed)
}

fn put_installed(write: &WriteTransaction, position: &Position) -> Result<(), StoreError> {
    let mut meta = write.open_table(META).map_err(failed)?;
    meta::put(&mut meta, "state", POSITION_KEY, &StoredPosition::from(position.clone()))?;
    meta::put(&mut meta, "state", INSTALLED_KEY, &position.applied)
}

/// Removes the rows whose place others took.
pub(super) fn remove_old(db: &Database) -> Result<(), StoreError> {
    let mut write = db.begin_write().map_err(failed)?;
    write.set_quick_repair(true);
    write.delete_table(OLD_KEYS).map_err(failed)?;
    write.delete_table(OLD_REVISIONS).map_err(failed)?;
    write.delete_table(OLD_RECORDS).map_err(failed)?;
    write.commit().map_err(failed)
}

/// Writes an overlay and the position it leads to, and removes some of the rows that compaction up to
/// `compacted` hides; durable when it returns.
pub(super) fn write(
    db: &Database,
    frozen: &Frozen,
    compacted: Revision,
    budget: Budget,
    pulse: &Pulse,
) -> Result<(), StoreError> {
    let mut write = db.begin_write().map_err(failed)?;
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
            row.encode(&mut bytes);
            sealed::seal(KEYS.name(), key, &mut bytes);
            keys.insert(&key[..], &bytes[..]).map_err(failed)?;
            pulse.beat();
        }
        for (id, row) in &frozen.overlay.rows {
            bytes.clear();
            row.encode(&mut bytes);
            sealed::seal(REVISIONS.name(), &revision_key(*id), &mut bytes);
            revisions.insert((id.revision.0, id.sub), &bytes[..]).map_err(failed)?;
            pulse.beat();
        }
        write_records(&write, &frozen.overlay, pulse)?;
        sweep::sweep(&mut keys, &mut revisions, &mut meta, compacted, budget)?;
        let position = StoredPosition::from(frozen.position.clone());
        meta::put(&mut meta, "state", POSITION_KEY, &position)?;
        pulse.beat();
    }
    write.commit().map_err(failed)
}

/// Sets the records that an overlay holds, and removes those that it says are gone.
fn write_records(
    write: &WriteTransaction,
    overlay: &Overlay,
    pulse: &Pulse,
) -> Result<(), StoreError> {
    let mut records = write.open_table(RECORDS).map_err(failed)?;
    for (RecordKey { kind, key }, record) in &overlay.records {
        let at = (*kind, &key[..]);
        match record {
            Some(record) => {
                let mut bytes = record.to_vec();
                sealed::seal(RECORDS.name(), &record_key(*kind, key), &mut bytes);
                records.insert(at, &bytes[..]).map_err(failed)?;
            }
            None => drop(records.remove(at).map_err(failed)?),
        }
        pulse.beat();
    }
    Ok(())
}
