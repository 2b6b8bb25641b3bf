//! The log, for the one thread that writes it: a write-ahead log in front of a database.
//!
//! What is written goes to the write-ahead log, one group after the other, and is durable with that. The database takes what is
//! needed for longer, in bulk, when the oldest slot of the write-ahead log is to be used again: that is settling. Most
//! entries are covered by a checkpoint of the state by then, and are never written a second time.

use std::path::Path;
use std::sync::Arc;

use parking_lot::RwLock;
use redb::{Database, StorageBackend};

use super::change::{self, Change, Encoder, Group};
use super::reader::{LogReader, Shared};
use super::recent::Recent;
use super::recovered::RecoveredLog;
use super::rows::{Rows, Settlement};
use super::tail::Tail;
use super::wal::{self, Wal};
use crate::raft::{Index, LogId, LogWrite};
use crate::store::disk::coalesce::Coalesce;
use crate::store::disk::files;
use crate::store::disk::space::{self, Purpose, Space};
use crate::store::error::{StoreError, log_failed as failed};

/// How the log uses memory and the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogOptions {
    /// redb's cache, in bytes. Default 16 MiB.
    pub cache_bytes: usize,
    /// How many bytes of entries stay although a durable checkpoint covers them, so that a peer that lags
    /// need not be sent the whole state; sixteen times as many while one that is up waits for them. Default 64 MiB.
    pub tail_bytes: u64,
    /// How large the write-ahead log becomes, in bytes; three slots at least, and none is added where the disk has little room.
    /// Default 128 MiB.
    pub wal_bytes: u64,
    /// How large its slots are, if it is made anew, in bytes: an entry that is larger is written to the database. Default 4 MiB.
    pub wal_slot_bytes: u64,
}

impl Default for LogOptions {
    fn default() -> LogOptions {
        LogOptions {
            cache_bytes: 16 << 20,
            tail_bytes: 64 << 20,
            wal_bytes: 128 << 20,
            wal_slot_bytes: 4 << 20,
        }
    }
}

/// See the module's documentation. Dropping it closes the files, whoever still has a reader.
#[derive(Debug)]
pub struct Log {
    shared: Arc<Shared>,
    rows: Rows,
    wal: Wal,
    slots_max: u64,
    tail: Tail,
    encoder: Encoder,
    /// For which slot it was seen whether another is to be made ahead.
    grown_for: u64,
}

/// Writes that are about to be made durable.
#[derive(Debug)]
pub(super) struct Batch {
    groups: Vec<Group>,
    /// Whether they are too large for the write-ahead log.
    is_direct: bool,
}

/// One slot takes what comes, one is the next, and one is for what must go on when no other can be made free.
const SLOTS_MIN: u64 = 3;
/// Where an entry is, is known in 32 bits.
const WAL_BYTES_MAX: u64 = 2 << 30;

impl Log {
    /// Opens the database at `path`, and the write-ahead log beside it, or makes them. With `space` its ballast gives way to
    /// writes that find no room.
    ///
    /// # Errors
    /// `InUse` if it is open elsewhere, `NewerFormat`, `Damaged`, or what the disk says.
    pub fn open(
        path: &Path,
        space: Option<&Arc<Space>>,
        options: &LogOptions,
    ) -> Result<(Log, RecoveredLog), StoreError> {
        let db = files::open(path, space, &Coalesce::default(), options.cache_bytes, "log")?;
        let file = |is_new| files::open_wal(path, is_new, space);
        // The ballast gives way to a file that is made.
        let _room =
            space.and_then(|space| space.reserve(2 * options.wal_slot_bytes, Purpose::Vital));
        let (mut log, found) = Log::with_files(db, file, &path.display().to_string(), options)?;
        log.wal.grow_ahead();
        Ok((log, found))
    }

    /// Opens the files that two backends stand for. A write to that of the write-ahead log is followed by a sync.
    pub fn open_backends(
        database: impl StorageBackend,
        wal: impl StorageBackend,
        options: &LogOptions,
    ) -> Result<(Log, RecoveredLog), StoreError> {
        let db = files::open_backend(database, &Coalesce::default(), options.cache_bytes, "log")?;
        Log::with_files(db, |_| Ok(Arc::new(wal) as Arc<dyn StorageBackend>), "log", options)
    }

    fn with_files(
        db: Database,
        file: impl FnOnce(bool) -> Result<Arc<dyn StorageBackend>, StoreError>,
        path: &str,
        options: &LogOptions,
    ) -> Result<(Log, RecoveredLog), StoreError> {
        let (db, mut rows, stored) = Rows::open(db, path, options.tail_bytes)?;
        let mut tail = stored.tail;
        let mut recent =
            Recent::new(stored.hard_state, stored.base, stored.last, stored.memberships);
        let file = file(stored.wal.is_none())?;
        let mut wal = match stored.wal {
            Some(record) => {
                let mut missed = None;
                let wal = Wal::open(file.clone(), record, |group| {
                    for change in change::changes_in(group.body)? {
                        let Some(change) = recent.replayed(change, &mut missed)? else { continue };
                        note(&mut tail, &mut rows, &change, recent.last());
                        recent.take(change, group.at)?;
                    }
                    Ok(())
                })?;
                missed.map_or(Ok(wal), |index| Err(StoreError::missing_entry(index.prev())))?
            }
            None => {
                let wal = Wal::create(file.clone(), options.wal_slot_bytes)?;
                rows.begin_wal(&db, wal.record())?;
                wal
            }
        };
        let shared =
            Arc::new(Shared { db, recent: RwLock::new(recent), file: RwLock::new(Some(file)) });
        let slots_max = (options.wal_bytes.min(WAL_BYTES_MAX) / wal.slot_bytes()).max(SLOTS_MIN);
        // Fewer than before, if the options say so.
        wal.shrink(slots_max)?;
        let log =
            Log { shared, rows, wal, slots_max, tail, encoder: Encoder::default(), grown_for: 0 };
        let found = log.recovered();
        Ok((log, found))
    }

    /// What the log holds now.
    pub(in crate::store) fn recovered(&self) -> RecoveredLog {
        let recent = self.shared.recent.read();
        RecoveredLog::new(recent.hard_state, recent.base, recent.last())
    }

    /// Whether it has that entry, or had it and removed it.
    pub(in crate::store) fn holds(&self, id: LogId) -> Result<bool, StoreError> {
        Ok(id.index < self.base().index || self.reader().id_at(id.index)? == Some(id))
    }

    /// The entry before the first one that the log holds.
    pub fn base(&self) -> LogId {
        self.shared.recent.read().base
    }

    /// A durable checkpoint of the state covers everything up to `checkpoint`. What is not needed any more goes with the next
    /// writes.
    pub fn compact_to(&mut self, checkpoint: LogId) -> Result<(), StoreError> {
        // An older checkpoint, or one of a state that the log is about to follow.
        let (base, last) = (self.base(), self.shared.recent.read().last());
        if checkpoint.index <= base.index || checkpoint.index > last {
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

    /// Makes all of `writes` durable, in their order. After an error the log must not be used any more.
    pub fn append(&mut self, writes: &[LogWrite]) -> Result<(), StoreError> {
        let mut batch = self.batch(writes)?;
        // Whether there is room shows when it is written.
        self.make_room(&mut batch, Purpose::Vital, &mut |_, _| Some(()))?;
        self.write(batch)
    }

    /// What these writes change, checked.
    pub(super) fn batch(&mut self, writes: &[LogWrite]) -> Result<Batch, StoreError> {
        let bytes_max = self.wal.body_bytes_max();
        let groups = self.encoder.groups(writes, bytes_max)?;
        let changes = groups.iter().flat_map(|group| &group.changes);
        self.shared.recent.read().check(changes)?;
        let is_direct = groups.iter().any(|group| group.body.len() > bytes_max);
        Ok(Batch { groups, is_direct })
    }

    /// Makes slots of the write-ahead log free for a batch: as many as it needs, and one more unless it has to go on whatever
    /// happens. Room is reserved for what that writes: so many bytes, and for what. What is reserved for the batch itself; none
    /// if there is no room.
    pub(super) fn make_room<R>(
        &mut self,
        batch: &mut Batch,
        purpose: Purpose,
        reserve: &mut impl FnMut(u64, Purpose) -> Option<R>,
    ) -> Result<Option<Vec<R>>, StoreError> {
        self.grow_ahead(reserve)?;
        let bodies = || batch.groups.iter().map(|group| group.body.len());
        let needed = self.wal.slots_for(bodies());
        let wanted = if purpose == Purpose::Vital { needed } else { needed + 1 };
        let mut may_grow = true;
        while !batch.is_direct {
            let (slots, free) = self.wal.slots();
            // Those beyond the bound are to go.
            let beyond =
                usize::try_from(slots.saturating_sub(self.slots_max)).unwrap_or(usize::MAX);
            if needed == 0 || free.saturating_sub(beyond) >= wanted {
                return Ok(Some(Vec::new()));
            }
            let oldest = self.oldest_bytes();
            let spares = oldest.is_none_or(|bytes| self.spares(slots, bytes));
            let purpose_of_growth =
                if slots < SLOTS_MIN { Purpose::Bulk } else { Purpose::Optional };
            if may_grow && slots < self.slots_max && spares {
                let room = reserve(self.wal.slot_bytes(), purpose_of_growth);
                may_grow = room.is_some() && self.wal.grow()?;
                continue;
            }
            let Some(bytes) = oldest else {
                // There is nothing to settle, and the file is too small for it.
                batch.is_direct = true;
                break;
            };
            if let Some(_room) = reserve(space::log_settlement(bytes), purpose) {
                self.settle_oldest()?;
                self.wal.shrink(self.slots_max)?;
            } else if free >= wanted {
                return Ok(Some(Vec::new()));
            } else {
                // A slot takes less than to settle one: so votes go on, and what was let in.
                let room = reserve(self.wal.slot_bytes(), purpose);
                if room.is_none() || !self.wal.grow()? {
                    return Ok(None);
                }
            }
        }
        // So that the rest is no more than a slot.
        while let Some(bytes) = self.oldest_bytes() {
            let Some(_room) = reserve(space::log_settlement(bytes), purpose) else {
                return Ok(None);
            };
            self.settle_oldest()?;
        }
        let recent = self.shared.recent.read();
        let recent: u64 = recent.all_places().map(|(_, place)| u64::from(place.bytes)).sum();
        let bytes = recent + bodies().sum::<usize>() as u64;
        Ok(reserve(space::log_settlement(bytes), purpose).map(|room| vec![room]))
    }

    /// Lets the next slot be made before it is needed.
    fn grow_ahead<R>(
        &mut self,
        reserve: &mut impl FnMut(u64, Purpose) -> Option<R>,
    ) -> Result<(), StoreError> {
        self.wal.take_slot(false)?;
        let (slots, free) = self.wal.slots();
        // Once for each slot that is begun. One is kept, one is the next.
        let begun = self.wal.newest_slot();
        if std::mem::replace(&mut self.grown_for, begun) == begun
            || free > 1
            || slots >= self.slots_max
            || !self.wal.can_begin_slot()
        {
            return Ok(());
        }
        let grows = self.oldest_bytes().is_none_or(|bytes| self.spares(slots, bytes));
        if grows && reserve(self.wal.slot_bytes(), Purpose::Optional).is_some() {
            self.wal.begin_slot();
        }
        Ok(())
    }

    /// Whether another slot spares the disk more than it costs, if so many bytes of the oldest one are needed: a slot is
    /// written once to be made, and what is settled is written with its pages. Where few clients write, most of a slot is the
    /// end of blocks.
    fn spares(&self, slots: u64, oldest_bytes: u64) -> bool {
        const PAGES_FACTOR: u64 = 2;
        const COMMIT_BYTES: u64 = 64 << 10;
        slots < SLOTS_MIN || oldest_bytes * PAGES_FACTOR + COMMIT_BYTES > self.wal.slot_bytes()
    }

    /// Makes a batch durable for which room was made.
    pub(super) fn write(&mut self, batch: Batch) -> Result<(), StoreError> {
        if batch.is_direct {
            self.write_direct(batch)?;
        } else {
            for Group { body, changes } in batch.groups {
                let at = self.wal.append(&body)?;
                let mut recent = self.shared.recent.write();
                for change in changes {
                    note(&mut self.tail, &mut self.rows, &change, recent.last());
                    recent.take(change, at)?;
                }
                self.encoder.take_back(body);
            }
        }
        self.let_go()
    }

    /// What no peer waits for and a checkpoint covers is not needed any more.
    fn let_go(&mut self) -> Result<(), StoreError> {
        let Some(last) = self.tail.spare() else { return Ok(()) };
        let found = self.reader().id_at(last)?;
        let base = found.ok_or_else(|| StoreError::missing_entry(last))?;
        let bytes = self.tail.gone(last);
        self.rows.spare(last, bytes);
        self.shared.recent.write().begin_after(base);
        Ok(())
    }

    /// How many bytes of entries of the oldest slot are needed; none if there is none that could be settled.
    fn oldest_bytes(&self) -> Option<u64> {
        let (slot, _) = self.wal.oldest()?;
        let recent = self.shared.recent.read();
        let oldest = recent.all_places().take_while(|(_, place)| slot.contains(&place.at()));
        Some(oldest.map(|(_, place)| u64::from(place.bytes)).sum())
    }

    /// Lets the database take what is needed of the oldest slot of the write-ahead log.
    fn settle_oldest(&mut self) -> Result<(), StoreError> {
        let Some((slot, record)) = self.wal.oldest() else { return Ok(()) };
        let recent = self.shared.recent.read();
        let oldest = recent.all_places().take_while(|(_, place)| slot.contains(&place.at()));
        let places: Vec<_> = oldest.collect();
        let (hard_state, base, stored) = (recent.hard_state, recent.base, recent.stored);
        let memberships = recent.memberships.clone();
        drop(recent);
        let mut bytes = Vec::new();
        if !places.is_empty() {
            bytes.resize(usize::try_from(slot.end - slot.start).unwrap_or(usize::MAX), 0);
            self.file()?.read(slot.start, &mut bytes).map_err(wal::failed)?;
        }
        let row = |at: u64, length: u32| {
            let at = usize::try_from(at - slot.start).unwrap_or(usize::MAX);
            &bytes[at..][..length as usize]
        };
        let entries =
            places.iter().map(|(id, place)| (id.index, row(place.at(), place.bytes))).collect();
        let memberships = &memberships;
        let settlement = Settlement { record, hard_state, base, stored, entries, memberships };
        self.rows.settle(&self.shared.db, settlement)?;
        // Who reads finds them in the database before their slot is used again.
        if let Some((last, _)) = places.last() {
            self.shared.recent.write().stored_to(last.index);
        }
        self.wal.settled(record);
        Ok(())
    }

    /// Lets the database take what is too large for the write-ahead log, and what is in the slot that takes the next group: all
    /// others are settled.
    fn write_direct(&mut self, batch: Batch) -> Result<(), StoreError> {
        let file = self.file()?;
        let mut recent = self.shared.recent.read().clone();
        // Where in `memory` the rows of the batch are: behind all that the file could hold.
        let memory_at = file.len().map_err(wal::failed)?;
        let mut memory: Vec<u8> = Vec::new();
        let mut cuts = Vec::new();
        for Group { body, changes } in batch.groups {
            let at = memory_at + memory.len() as u64;
            for change in changes {
                if matches!(change, Change::Reset(..) | Change::Truncate(_)) {
                    cuts.push(change.clone());
                }
                note(&mut self.tail, &mut self.rows, &change, recent.last());
                recent.take(change, at)?;
            }
            memory.extend_from_slice(&body);
        }
        let newest = self.wal.newest();
        let mut bytes = vec![0; usize::try_from(newest.end - newest.start).unwrap_or(usize::MAX)];
        file.read(newest.start, &mut bytes).map_err(wal::failed)?;
        let mut rows = Vec::new();
        for (id, place) in recent.all_places() {
            let (part, from) = match place.at() {
                at if at >= memory_at => (&memory, memory_at),
                _ => (&bytes, newest.start),
            };
            let at = usize::try_from(place.at() - from).unwrap_or(usize::MAX);
            rows.push((id.index, &part[at..][..place.bytes as usize]));
        }
        // Who reads meanwhile finds nothing of what is cut off; the core has cut it already.
        for change in cuts {
            self.shared.recent.write().take(change, 0)?;
        }
        let record = self.wal.all_settled();
        let settlement = Settlement {
            record,
            hard_state: recent.hard_state,
            base: recent.base,
            stored: recent.stored,
            entries: rows,
            memberships: &recent.memberships,
        };
        self.rows.settle(&self.shared.db, settlement)?;
        recent.stored_to(recent.last());
        *self.shared.recent.write() = recent;
        self.wal.settled(record);
        Ok(())
    }

    /// Lets the database take everything.
    #[cfg(test)]
    fn settle(&mut self) {
        while self.oldest_bytes().is_some() {
            self.settle_oldest().unwrap();
        }
        self.write_direct(Batch { groups: Vec::new(), is_direct: true }).unwrap();
    }

    fn file(&self) -> Result<Arc<dyn StorageBackend>, StoreError> {
        self.shared.file.read().clone().ok_or_else(|| failed(redb::StorageError::DatabaseClosed))
    }

    /// For others to read.
    pub fn reader(&self) -> LogReader {
        LogReader { shared: self.shared.clone() }
    }

    /// Closes the files, as dropping does, and says whether that went well. A database that was not closed is
    /// repaired when it is next opened, for which redb reads all of it; and only of a log that was closed is it known which write
    /// was the last.
    pub fn close(mut self) -> Result<(), StoreError> {
        self.finish()
    }

    fn finish(&mut self) -> Result<(), StoreError> {
        self.wal.stop();
        if self.shared.file.write().take().is_none() {
            return Ok(());
        }
        let noted = self.rows.note(&self.shared.db, self.wal.record());
        self.shared.db.close().and(noted)
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        if let Err(error) = self.finish() {
            tracing::warn!(%error, "the log could not be closed; the next start repairs it");
        }
    }
}

/// What is known of the entries' sizes, and of rows that are not needed, follows a change, before which the log ends at `last`.
fn note(tail: &mut Tail, rows: &mut Rows, change: &Change, last: Index) {
    match change {
        Change::HardState(_) => {}
        Change::Reset(anew, _) => {
            tail.restart(anew.index);
            rows.spare(anew.index, 0);
        }
        Change::Truncate(from) if *from > last => {}
        Change::Truncate(from) => tail.cut(*from),
        Change::Entry { id, bytes, .. } => tail.add(id.index, *bytes as usize),
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;

#[cfg(test)]
#[path = "crash_tests.rs"]
mod crash_tests;
