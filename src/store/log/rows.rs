//! The log's database: entries, hard state and memberships as far as the write-ahead log has been settled.

use std::collections::{BTreeMap, VecDeque};

use parking_lot::RwLock;
use redb::{
    Database, ReadTransaction, ReadableDatabase, ReadableTable, Table, TableDefinition,
    TableHandle, WriteTransaction,
};

use super::tail::Tail;
use super::wal::WalRecord;
use crate::raft::{Entry, HardState, Index, LogId, Membership};
use crate::store::error::{StoreError, log_failed as failed};
use crate::store::meta::{self, META};
use crate::store::sealed;

/// Index → the entry, sealed.
pub(super) const ENTRIES: TableDefinition<u64, &[u8]> = TableDefinition::new("entries");
/// Index → the membership that the entry there states, sealed.
pub(super) const MEMBERSHIPS: TableDefinition<u64, &[u8]> = TableDefinition::new("memberships");

pub(super) const HARD_STATE_KEY: &str = "hard_state";
/// The entry before the first one that the log holds.
pub(super) const BASE_KEY: &str = "base";
/// Which write-ahead log belongs to it, and how much of that is settled.
const WAL_KEY: &str = "wal";

/// The most bytes of entries that are removed in one commit, so that a log that grew large delays no write for long.
const REMOVED_BYTES_MAX: u64 = 16 << 20;

/// The database, none once it is closed. The lock is held to begin a transaction only: one that is under
/// way when the file is closed fails.
#[derive(Debug)]
pub(super) struct Db(RwLock<Option<Database>>);

impl Db {
    fn begin_read(&self) -> Result<ReadTransaction, StoreError> {
        self.0.read().as_ref().ok_or_else(closed)?.begin_read().map_err(failed)
    }

    pub(super) fn begin_write(&self) -> Result<WriteTransaction, StoreError> {
        self.0.read().as_ref().ok_or_else(closed)?.begin_write().map_err(failed)
    }

    pub(super) fn close(&self) -> Result<(), StoreError> {
        self.0.write().take().map_or(Ok(()), |db| db.close().map_err(failed))
    }

    /// Sets records, durably.
    fn set(
        &self,
        put: impl FnOnce(&mut Table<'_, &str, &[u8]>) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let write = self.begin_write()?;
        put(&mut write.open_table(META).map_err(failed)?)?;
        write.commit().map_err(failed)
    }

    /// The entry at `index`, if there is a row of it.
    pub(super) fn entry(&self, index: Index) -> Result<Option<Entry>, StoreError> {
        let table = self.begin_read()?.open_table(ENTRIES).map_err(failed)?;
        let found = table.get(index.0).map_err(failed)?;
        found.map(|row| decode(index, row.value())).transpose()
    }

    /// The entries from `from` to `to`, of which all must be there, until `max_bytes` are reached.
    pub(super) fn entries(
        &self,
        from: Index,
        to: Index,
        max_bytes: usize,
    ) -> Result<Vec<Entry>, StoreError> {
        let table = self.begin_read()?.open_table(ENTRIES).map_err(failed)?;
        let (mut entries, mut bytes, mut expected) = (Vec::new(), 0, from);
        for row in table.range(from.0..=to.0).map_err(failed)? {
            let (index, value) = row.map_err(failed)?;
            if index.value() != expected.0 {
                break;
            }
            let entry = decode(expected, value.value())?;
            bytes += entry.cost_bytes();
            expected = expected.next();
            entries.push(entry);
            if bytes >= max_bytes {
                return Ok(entries);
            }
        }
        if expected <= to { Err(StoreError::missing_entry(expected)) } else { Ok(entries) }
    }
}

/// What the database held when it was opened.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) hard_state: HardState,
    pub(super) base: LogId,
    pub(super) last: Index,
    pub(super) memberships: BTreeMap<Index, Membership>,
    /// None: no write-ahead log was ever made, or an older release made the file.
    pub(super) wal: Option<WalRecord>,
    pub(super) tail: Tail,
}

/// The database, for the one who writes it.
#[derive(Debug)]
pub(super) struct Rows {
    /// The last entry that there is a row of.
    last: Index,
    /// What is not needed any more and has rows still: up to which entry, and how many bytes.
    spare: VecDeque<(Index, u64)>,
}

/// What is to become of the database.
pub(super) struct Settlement<'a> {
    pub(super) record: WalRecord,
    pub(super) hard_state: HardState,
    pub(super) base: LogId,
    /// Rows of later entries count for nothing; what is new follows this one.
    pub(super) stored: Index,
    pub(super) entries: Vec<(Index, &'a [u8])>,
    pub(super) memberships: &'a BTreeMap<Index, Membership>,
}

impl Rows {
    /// Reads what the database holds, and makes its tables if it is new. `path` is for errors.
    pub(super) fn open(
        db: Database,
        path: &str,
        tail_bytes: u64,
    ) -> Result<(Db, Rows, Stored), StoreError> {
        let write = db.begin_write().map_err(failed)?;
        // Everything is made in one transaction: a file with any table has all of them.
        let new = write.list_tables().map_err(failed)?.next().is_none();
        let stored = {
            let memberships = write.open_table(MEMBERSHIPS).map_err(failed)?;
            let entries = write.open_table(ENTRIES).map_err(failed)?;
            let mut meta = write.open_table(META).map_err(failed)?;
            if new {
                meta::put_format(&mut meta, "log")?;
                meta::put(&mut meta, "log", HARD_STATE_KEY, &HardState::default())?;
                meta::put(&mut meta, "log", BASE_KEY, &LogId::ZERO)?;
            }
            meta::check_format(&meta, "log", path)?;
            let base: LogId = meta::get(&meta, "log", BASE_KEY)?;
            let mut tail = Tail::new(tail_bytes, base.index);
            let mut last = base.index;
            for row in entries.range(base.index.0 + 1..).map_err(failed)? {
                let (index, value) = row.map_err(failed)?;
                last = Index(index.value());
                tail.add(last, value.value().len());
            }
            Stored {
                hard_state: meta::get(&meta, "log", HARD_STATE_KEY)?,
                base,
                last,
                memberships: read_memberships(&memberships)?,
                wal: meta::find(&meta, "log", WAL_KEY)?,
                tail,
            }
        };
        write.commit().map_err(failed)?;
        // What an earlier process had no time to remove.
        let spare = [(stored.base.index, 0)].into();
        let rows = Rows { last: stored.last, spare };
        Ok((Db(RwLock::new(Some(db))), rows, stored))
    }

    /// Says that a write-ahead log belongs to the database from here on, of which nothing is settled.
    pub(super) fn begin_wal(&self, db: &Db, record: WalRecord) -> Result<(), StoreError> {
        db.set(|meta| {
            meta::put_format(meta, "log")?;
            meta::put(meta, "log", WAL_KEY, &record)
        })
    }

    /// Takes down how far the write-ahead log has got.
    pub(super) fn note(&self, db: &Db, record: WalRecord) -> Result<(), StoreError> {
        db.set(|meta| meta::put(meta, "log", WAL_KEY, &record))
    }

    /// Entries up to this one, of so many bytes, are not needed any more.
    pub(super) fn spare(&mut self, last: Index, bytes: u64) {
        self.spare.push_back((last, bytes));
    }

    /// Carries out a settlement, durably, and removes some of what is not needed any more.
    pub(super) fn settle(&mut self, db: &Db, settlement: Settlement<'_>) -> Result<(), StoreError> {
        let Settlement { record, hard_state, base, stored, entries: new, memberships } = settlement;
        let write = db.begin_write()?;
        let removed;
        {
            let mut entries = write.open_table(ENTRIES).map_err(failed)?;
            if self.last > stored {
                entries.retain_in(stored.0 + 1.., |_, _| false).map_err(failed)?;
            }
            for (index, row) in &new {
                entries.insert(index.0, row).map_err(failed)?;
            }
            let mut bytes = 0;
            let goes = |(last, more): &&(Index, u64)| {
                // One of them at least, however large.
                let is_first = bytes == 0;
                bytes += more;
                *last <= base.index && (is_first || bytes <= REMOVED_BYTES_MAX)
            };
            removed = self.spare.iter().take_while(goes).count();
            if let Some((last, _)) = self.spare.iter().take(removed).max() {
                entries.retain_in(..=last.0, |_, _| false).map_err(failed)?;
            }
            let mut table = write.open_table(MEMBERSHIPS).map_err(failed)?;
            if read_memberships(&table)? != *memberships {
                table.retain(|_, _| false).map_err(failed)?;
                let mut row = Vec::new();
                for (index, membership) in memberships {
                    encode(MEMBERSHIPS.name(), *index, membership, &mut row)?;
                    table.insert(index.0, &row[..]).map_err(failed)?;
                }
            }
            let mut meta = write.open_table(META).map_err(failed)?;
            meta::put(&mut meta, "log", HARD_STATE_KEY, &hard_state)?;
            meta::put(&mut meta, "log", BASE_KEY, &base)?;
            meta::put(&mut meta, "log", WAL_KEY, &record)?;
        }
        write.commit().map_err(failed)?;
        self.spare.drain(..removed);
        self.last = new.last().map_or(stored, |(index, _)| *index);
        Ok(())
    }
}

fn read_memberships(
    table: &impl ReadableTable<u64, &'static [u8]>,
) -> Result<BTreeMap<Index, Membership>, StoreError> {
    let mut all = BTreeMap::new();
    for row in table.iter().map_err(failed)? {
        let (index, value) = row.map_err(failed)?;
        let index = Index(index.value());
        all.insert(index, open_value(MEMBERSHIPS.name(), index, value.value())?);
    }
    Ok(all)
}

/// The first byte of every value: the version of its layout.
const LAYOUT: u8 = 1;

/// Puts the row of an entry into `row`.
pub(super) fn encode_entry(entry: &Entry, row: &mut Vec<u8>) -> Result<(), StoreError> {
    encode(ENTRIES.name(), entry.id.index, entry, row)
}

/// Puts the sealed bytes of a value that belongs to `index` of `table` into `buffer`.
fn encode(
    table: &str,
    index: Index,
    value: &impl serde::Serialize,
    buffer: &mut Vec<u8>,
) -> Result<(), StoreError> {
    let mut bytes = std::mem::take(buffer);
    bytes.clear();
    bytes.push(LAYOUT);
    *buffer = postcard::to_extend(value, bytes)
        .map_err(|error| StoreError::damaged("log", error.to_string()))?;
    sealed::seal(table, &index.0.to_le_bytes(), buffer);
    Ok(())
}

/// The entry that a row is of.
pub(super) fn decode(index: Index, bytes: &[u8]) -> Result<Entry, StoreError> {
    let entry: Entry = open_value(ENTRIES.name(), index, bytes)?;
    if entry.id.index != index {
        return Err(corrupt(index, "it belongs elsewhere"));
    }
    Ok(entry)
}

fn open_value<T: serde::de::DeserializeOwned>(
    table: &str,
    index: Index,
    bytes: &[u8],
) -> Result<T, StoreError> {
    let value = sealed::unseal(table, &index.0.to_le_bytes(), bytes);
    let value = value
        .ok_or_else(|| corrupt(index, &format!("its checksum in table {table:?} does not fit")))?;
    match value.split_first() {
        Some((&LAYOUT, value)) => postcard::from_bytes(value).ok(),
        Some((&newer, _)) if newer > LAYOUT => {
            return Err(StoreError::NewerRow { which: format!("entry {} of the log", index.0) });
        }
        _ => None,
    }
    .ok_or_else(|| corrupt(index, &format!("it cannot be read from table {table:?}")))
}

pub(super) fn corrupt(index: Index, detail: &str) -> StoreError {
    StoreError::CorruptEntry { index, detail: detail.to_owned() }
}

pub(super) fn closed() -> StoreError {
    failed(redb::StorageError::DatabaseClosed)
}
