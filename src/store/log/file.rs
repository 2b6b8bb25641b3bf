//! The log: entries, hard state and memberships in one redb file.

use std::path::Path;
use std::sync::Arc;

use parking_lot::RwLock;
use redb::{
    Database, ReadTransaction, ReadableDatabase, ReadableTable, StorageBackend, TableDefinition,
    TableHandle, WriteTransaction,
};

use super::tail::Tail;
use crate::raft::{Entry, HardState, Index, LogId, LogWrite, Membership, Payload, Recovered, Term};
use crate::store::disk::coalesce::Coalesce;
use crate::store::disk::files;
use crate::store::disk::space::Space;
use crate::store::error::{StoreError, log_failed as failed};
use crate::store::meta::{self, META};
use crate::store::sealed;

/// Index → the entry, sealed.
const ENTRIES: TableDefinition<u64, &[u8]> = TableDefinition::new("entries");
/// Index → the membership that the entry there states, sealed.
const MEMBERSHIPS: TableDefinition<u64, &[u8]> = TableDefinition::new("memberships");

const HARD_STATE_KEY: &str = "hard_state";
/// The entry before the first one that the log holds.
const BASE_KEY: &str = "base";

/// How the log uses memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogOptions {
    /// redb's cache, in bytes. Default 16 MiB.
    pub cache_bytes: usize,
    /// How many bytes of entries stay although a durable checkpoint covers them, so that a peer that lags
    /// need not be sent the whole state; sixteen times as many while one that is up waits for them. Default 64 MiB.
    pub tail_bytes: u64,
}

impl Default for LogOptions {
    fn default() -> LogOptions {
        LogOptions { cache_bytes: 16 << 20, tail_bytes: 64 << 20 }
    }
}

/// The log, for the one thread that writes it. Dropping it closes the file, whoever still has a reader.
#[derive(Debug)]
pub struct Log {
    db: Arc<Db>,
    base: LogId,
    last: Index,
    tail: Tail,
    buffer: Vec<u8>,
}

/// The log, for everybody who reads it. Cheap to clone. Once the log is closed every read fails.
#[derive(Clone, Debug)]
pub struct LogReader {
    db: Arc<Db>,
}

/// The database, none once it is closed. The lock is held to begin a transaction only: one that is under
/// way when the file is closed fails.
#[derive(Debug)]
struct Db(RwLock<Option<Database>>);

impl Db {
    fn begin_read(&self) -> Result<ReadTransaction, StoreError> {
        self.0.read().as_ref().ok_or_else(closed)?.begin_read().map_err(failed)
    }

    fn begin_write(&self) -> Result<WriteTransaction, StoreError> {
        self.0.read().as_ref().ok_or_else(closed)?.begin_write().map_err(failed)
    }

    fn close(&self) -> Result<(), StoreError> {
        self.0.write().take().map_or(Ok(()), |db| db.close().map_err(failed))
    }
}

/// What a log holds when it is opened.
#[derive(Clone, Debug)]
pub struct RecoveredLog {
    hard_state: HardState,
    base: LogId,
    last: Index,
}

impl Log {
    /// Opens the file at `path`, or makes it. With `space` its ballast gives way to writes that find no room.
    ///
    /// # Errors
    /// `InUse` if it is open elsewhere, `NewerFormat`, `Damaged`, or what the disk says.
    pub fn open(
        path: &Path,
        space: Option<&Arc<Space>>,
        options: &LogOptions,
    ) -> Result<(Log, RecoveredLog), StoreError> {
        let db = files::open(path, space, &Coalesce::default(), options.cache_bytes, "log")?;
        Log::with_database(db, &path.display().to_string(), options)
    }

    /// Opens the file that a backend stands for.
    pub fn open_backend(
        backend: impl StorageBackend,
        options: &LogOptions,
    ) -> Result<(Log, RecoveredLog), StoreError> {
        let db = files::open_backend(backend, &Coalesce::default(), options.cache_bytes, "log")?;
        Log::with_database(db, "log", options)
    }

    fn with_database(
        db: Database,
        path: &str,
        options: &LogOptions,
    ) -> Result<(Log, RecoveredLog), StoreError> {
        let write = db.begin_write().map_err(failed)?;
        // Everything is made in one transaction: a file with any table has all of them.
        let new = write.list_tables().map_err(failed)?.next().is_none();
        let tail = {
            write.open_table(MEMBERSHIPS).map_err(failed)?;
            let entries = write.open_table(ENTRIES).map_err(failed)?;
            let mut meta = write.open_table(META).map_err(failed)?;
            if new {
                meta::put_format(&mut meta, "log")?;
                meta::put(&mut meta, "log", HARD_STATE_KEY, &HardState::default())?;
                meta::put(&mut meta, "log", BASE_KEY, &LogId::ZERO)?;
            }
            meta::check_format(&meta, "log", path)?;
            let base: LogId = meta::get(&meta, "log", BASE_KEY)?;
            let mut tail = Tail::new(options.tail_bytes, base.index);
            for row in entries.iter().map_err(failed)? {
                let (index, value) = row.map_err(failed)?;
                tail.add(Index(index.value()), value.value().len());
            }
            tail
        };
        write.commit().map_err(failed)?;
        let db = Arc::new(Db(RwLock::new(Some(db))));
        let mut log = Log { db, base: LogId::ZERO, last: Index(0), tail, buffer: Vec::new() };
        let found = log.recovered()?;
        (log.base, log.last) = (found.base, found.last);
        Ok((log, found))
    }

    /// What the file holds now.
    pub(in crate::store) fn recovered(&self) -> Result<RecoveredLog, StoreError> {
        let read = self.db.begin_read()?;
        let meta = read.open_table(META).map_err(failed)?;
        let hard_state = meta::get(&meta, "log", HARD_STATE_KEY)?;
        let base = meta::get(&meta, "log", BASE_KEY)?;
        Ok(RecoveredLog { hard_state, base, last: self.reader().last()? })
    }

    /// Whether it has that entry, or had it and removed it.
    pub(in crate::store) fn holds(&self, id: LogId) -> Result<bool, StoreError> {
        Ok(id.index < self.base.index || self.reader().id_at(id.index)? == Some(id))
    }

    /// The entry before the first one that the log holds.
    pub fn base(&self) -> LogId {
        self.base
    }

    /// A durable checkpoint of the state covers everything up to `checkpoint`. The next commits remove
    /// what is not needed any more.
    pub fn compact_to(&mut self, checkpoint: LogId) -> Result<(), StoreError> {
        // An older checkpoint, or one of a state that the log is about to follow.
        if checkpoint.index <= self.base.index || checkpoint.index > self.last {
            return Ok(());
        }
        let found = self.reader().id_at(checkpoint.index)?;
        if found != Some(checkpoint) {
            return Err(StoreError::damaged(
                "log",
                format!("the state has applied entry {checkpoint}, the log has {found:?} there"),
            ));
        }
        self.tail.compact_to(checkpoint.index);
        Ok(())
    }

    /// Peers that are up wait for the entries after this one, which stay as far as that is bounded; `u64::MAX`: for none.
    pub fn await_after(&mut self, index: Index) {
        self.tail.await_after(index);
    }

    /// Makes all of `writes` durable, in their order, with one commit. After an error the log must not be
    /// used any more.
    pub fn append(&mut self, writes: &[LogWrite]) -> Result<(), StoreError> {
        let write = self.db.begin_write()?;
        {
            let mut entries = write.open_table(ENTRIES).map_err(failed)?;
            let mut memberships = write.open_table(MEMBERSHIPS).map_err(failed)?;
            for batch in writes {
                if let Some((last, membership)) = &batch.reset {
                    entries.retain(|_, _| false).map_err(failed)?;
                    memberships.retain(|_, _| false).map_err(failed)?;
                    encode(MEMBERSHIPS.name(), last.index, membership, &mut self.buffer)?;
                    memberships.insert(last.index.0, &self.buffer[..]).map_err(failed)?;
                    let mut meta = write.open_table(META).map_err(failed)?;
                    meta::put(&mut meta, "log", BASE_KEY, last)?;
                    (self.base, self.last) = (*last, last.index);
                    self.tail.restart(last.index);
                }
                if let Some(from) = batch.truncate_from
                    && from <= self.last
                {
                    if from <= self.base.index {
                        return Err(StoreError::damaged(
                            "log",
                            format!("entry {from} was to be replaced; a checkpoint covers it"),
                        ));
                    }
                    entries.retain_in(from.0.., |_, _| false).map_err(failed)?;
                    memberships.retain_in(from.0.., |_, _| false).map_err(failed)?;
                    self.last = from.prev();
                    self.tail.cut(from);
                }
                for entry in &batch.entries {
                    if entry.id.index != self.last.next() {
                        return Err(StoreError::damaged(
                            "log",
                            format!("entry {} was to follow {}", entry.id.index, self.last),
                        ));
                    }
                    encode(ENTRIES.name(), entry.id.index, entry, &mut self.buffer)?;
                    entries.insert(entry.id.index.0, &self.buffer[..]).map_err(failed)?;
                    self.tail.add(entry.id.index, self.buffer.len());
                    if let Payload::Membership(membership) = &entry.payload {
                        encode(MEMBERSHIPS.name(), entry.id.index, membership, &mut self.buffer)?;
                        memberships.insert(entry.id.index.0, &self.buffer[..]).map_err(failed)?;
                    }
                    self.last = entry.id.index;
                }
            }
            if let Some(hard_state) = writes.iter().rev().find_map(|batch| batch.hard_state) {
                let mut meta = write.open_table(META).map_err(failed)?;
                meta::put(&mut meta, "log", HARD_STATE_KEY, &hard_state)?;
            }
            if let Some(last) = self.tail.spare() {
                let row = entries
                    .get(last.0)
                    .map_err(failed)?
                    .ok_or_else(|| StoreError::missing_entry(last))?;
                let base = decode(last, row.value())?.id;
                drop(row);
                entries.retain_in(..=last.0, |_, _| false).map_err(failed)?;
                // The newest membership of what goes is still in force.
                let newest = memberships.range(..=last.0).map_err(failed)?.next_back();
                let newest = newest.transpose().map_err(failed)?.map(|(index, _)| index.value());
                if let Some(newest) = newest {
                    memberships.retain_in(..newest, |_, _| false).map_err(failed)?;
                }
                let mut meta = write.open_table(META).map_err(failed)?;
                meta::put(&mut meta, "log", BASE_KEY, &base)?;
                self.base = base;
                self.tail.gone(last);
            }
        }
        write.commit().map_err(failed)
    }

    /// For others to read.
    pub fn reader(&self) -> LogReader {
        LogReader { db: self.db.clone() }
    }

    /// Closes the file, as dropping does, and says whether that went well. A file that was not closed is
    /// repaired when it is next opened, for which redb reads all of it.
    pub fn close(self) -> Result<(), StoreError> {
        self.db.close()
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        if let Err(error) = self.db.close() {
            tracing::warn!(%error, "the log could not be closed; the next start repairs it");
        }
    }
}

impl LogReader {
    /// Entries for a peer that is far behind: the one before `from`, and those from `from` to `to`, until
    /// `max_bytes` are reached. None if the log does not reach back so far any more.
    pub fn fetch(
        &self,
        from: Index,
        to: Index,
        max_bytes: usize,
    ) -> Result<Option<(LogId, Vec<Entry>)>, StoreError> {
        let Some(prev) = self.id_at(from.prev())? else { return Ok(None) };
        match self.read(from, to, max_bytes) {
            Ok(entries) => Ok(Some((prev, entries))),
            // They may have gone meanwhile.
            Err(_) if self.id_at(from.prev())? != Some(prev) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The entries from `from` to `to`, both included; stops after the one with which `max_bytes` are
    /// reached. All of them must be there.
    pub fn read(&self, from: Index, to: Index, max_bytes: usize) -> Result<Vec<Entry>, StoreError> {
        let read = self.db.begin_read()?;
        let table = read.open_table(ENTRIES).map_err(failed)?;
        let mut entries = Vec::new();
        let mut bytes = 0;
        let mut expected = from;
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

    /// The id of the entry at `index`, or of the one before the log's beginning; none if the log does
    /// not know it.
    pub fn id_at(&self, index: Index) -> Result<Option<LogId>, StoreError> {
        let read = self.db.begin_read()?;
        let meta = read.open_table(META).map_err(failed)?;
        let base: LogId = meta::get(&meta, "log", BASE_KEY)?;
        if index == base.index {
            return Ok(Some(base));
        }
        let table = read.open_table(ENTRIES).map_err(failed)?;
        let found = table.get(index.0).map_err(failed)?;
        found.map(|value| decode(index, value.value()).map(|entry| entry.id)).transpose()
    }

    /// The index of the last entry; of the one before the log's beginning if it holds none.
    pub fn last(&self) -> Result<Index, StoreError> {
        let read = self.db.begin_read()?;
        let entries = read.open_table(ENTRIES).map_err(failed)?;
        if let Some((index, _)) = entries.last().map_err(failed)? {
            return Ok(Index(index.value()));
        }
        let meta = read.open_table(META).map_err(failed)?;
        Ok(meta::get::<LogId>(&meta, "log", BASE_KEY)?.index)
    }

    /// All memberships that the log holds, by the index of their entries.
    pub fn memberships(&self) -> Result<Vec<(Index, Membership)>, StoreError> {
        let read = self.db.begin_read()?;
        let table = read.open_table(MEMBERSHIPS).map_err(failed)?;
        let mut all = Vec::new();
        for row in table.iter().map_err(failed)? {
            let (index, value) = row.map_err(failed)?;
            let index = Index(index.value());
            let membership = open_value(MEMBERSHIPS.name(), index, value.value())?;
            all.push((index, membership));
        }
        Ok(all)
    }
}

impl RecoveredLog {
    pub(in crate::store) fn hard_state(&self) -> HardState {
        self.hard_state
    }

    /// What the core starts from, given the last entry that the state's file holds. Reads only what comes
    /// after what is known to be committed, and checks it.
    pub fn into_recovered(self, log: &Log, applied: LogId) -> Result<Recovered, StoreError> {
        let RecoveredLog { mut hard_state, base, last } = self;
        if applied.index > last || applied.index < base.index {
            return Err(StoreError::damaged(
                "data directory",
                format!(
                    "the state is at entry {}, the log holds {} to {last}; the two files are not \
                     from the same time",
                    applied.index,
                    base.index.next()
                ),
            ));
        }
        let reader = log.reader();
        let found = reader.id_at(applied.index)?;
        if applied.index > Index(0) && found != Some(applied) {
            return Err(StoreError::damaged(
                "data directory",
                format!("the state has applied entry {applied}, the log has {found:?} there"),
            ));
        }
        hard_state.commit = hard_state.commit.max(applied.index).min(last);
        let committed = reader.id_at(hard_state.commit)?;
        let committed = committed.ok_or_else(|| StoreError::missing_entry(hard_state.commit))?;
        let from = committed.index.next();
        let tail = if from <= last { reader.read(from, last, usize::MAX)? } else { Vec::new() };
        // What is not committed may be undone, so the one in force below is kept too.
        let mut memberships = reader.memberships()?;
        let below = memberships.iter().rposition(|(index, _)| *index <= committed.index);
        memberships.drain(..below.unwrap_or(0));
        Ok(Recovered {
            hard_state,
            base,
            committed,
            tail,
            memberships,
            applied: applied.index,
            heard_leader: hard_state.term > Term(0),
        })
    }
}

/// The first byte of every value: the version of its layout.
const LAYOUT: u8 = 1;

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

fn decode(index: Index, bytes: &[u8]) -> Result<Entry, StoreError> {
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

fn corrupt(index: Index, detail: &str) -> StoreError {
    StoreError::CorruptEntry { index, detail: detail.to_owned() }
}

fn closed() -> StoreError {
    failed(redb::StorageError::DatabaseClosed)
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;

#[cfg(test)]
#[path = "crash_tests.rs"]
mod crash_tests;
