//! The write-ahead log: what the log's database does not hold yet. An append-only file of a bounded size, in which one
//! write that is its own sync makes a whole group of writes durable.
//!
//! The file is a number of slots of one size, which are used again: their blocks were written before, so a write there is
//! nothing but its bytes to the file system. Groups follow one another through the slots, in the order of their
//! numbers. Once everything of the oldest slot is in the database, or not needed any more, the slot is free again.
//! (`../mod.rs` decides when that is; here a group is bytes.)

mod group;
mod grower;

use std::collections::VecDeque;
use std::sync::Arc;

use redb::StorageBackend;
use serde::{Deserialize, Serialize};

use crate::store::disk::blocks::{BLOCK_BYTES, Blocks};
use crate::store::error::{self, StoreError, is_full};
use group::{FileId, GROUP_HEAD_BYTES, Newer, group_bytes};
use grower::Grower;

const BLOCK: u64 = BLOCK_BYTES as u64;
/// What stays of the memory that a large group took.
const BUFFER_BYTES_KEPT: usize = 2 << 20;

/// Which file belongs to a database, and how much of it that holds; a record of the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct WalRecord {
    /// Drawn when the file was made.
    id: u64,
    slot_bytes: u64,
    /// The last group that the database holds.
    pub(super) settled: u64,
    /// The last group that the file had when this was written: what ends before it has lost some.
    known: u64,
}

/// The file as it is written; see the module's documentation.
#[derive(Debug)]
pub(super) struct Wal {
    file: Arc<dyn StorageBackend>,
    record: WalRecord,
    /// The slots that hold what is not settled, the oldest first; the last one takes the next group.
    live: VecDeque<Slot>,
    /// Where the slots begin that hold nothing that is needed; the first of the file is used first, and comes last here.
    free: Vec<u64>,
    /// How many slots the file has.
    slots: u64,
    /// Where in the last slot the next group begins.
    at: u64,
    next_group: u64,
    buffer: Blocks,
    /// Who makes slots ahead; none: whoever needs one does.
    grower: Option<Grower>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Slot {
    /// Where in the file it begins.
    start: u64,
    first_group: u64,
}

/// A group of the file, as a start finds it.
#[derive(Debug)]
pub(super) struct Found<'a> {
    /// Where its body is in the file.
    pub(super) at: u64,
    pub(super) body: &'a [u8],
}

impl Wal {
    /// Makes the file, of two slots, whatever it held: a slot takes the largest group at least. Durable when it returns, and
    /// worth nothing before the record is in the database.
    pub(super) fn create(
        file: Arc<dyn StorageBackend>,
        slot_bytes: u64,
    ) -> Result<Wal, StoreError> {
        let slot_bytes =
            slot_bytes.next_multiple_of(BLOCK_BYTES as u64).max(2 * BLOCK_BYTES as u64);
        let record = WalRecord { id: rand::random(), slot_bytes, settled: 0, known: 0 };
        file.set_len(0).and_then(|()| file.set_len(2 * slot_bytes)).map_err(failed)?;
        let mut wal = Wal {
            file,
            record,
            live: [Slot { start: 0, first_group: 1 }].into(),
            free: vec![slot_bytes],
            slots: 2,
            at: BLOCK_BYTES as u64,
            next_group: 1,
            buffer: Blocks::zeroed(BLOCK_BYTES),
            grower: None,
        };
        FileId(record.id).write_slot(1, wal.buffer.bytes_mut());
        wal.write(0)?;
        Ok(wal)
    }

    /// Opens the file that belongs to `record`; `visit` sees every group that is not settled, in order.
    ///
    /// # Errors
    /// `Damaged` if the file is another one, or something is missing before its end; what the disk or `visit` says.
    pub(super) fn open(
        file: Arc<dyn StorageBackend>,
        record: WalRecord,
        mut visit: impl FnMut(Found<'_>) -> Result<(), StoreError>,
    ) -> Result<Wal, StoreError> {
        let WalRecord { id, slot_bytes, settled, known: last_known } = record;
        let length = file.len().map_err(failed)?;
        let slots = length / slot_bytes.max(1);
        let mut known = Vec::new();
        let mut head = Blocks::zeroed(BLOCK_BYTES);
        for slot in 0..slots {
            let start = slot * slot_bytes;
            file.read(start, head.bytes_mut()).map_err(failed)?;
            let first_group = FileId(id).read_slot(head.bytes()).map_err(newer)?;
            known.extend(first_group.map(|first_group| Slot { start, first_group }));
        }
        known.sort_unstable_by_key(|slot| slot.first_group);
        // Those before it hold what is settled.
        let begin = known.iter().rposition(|slot| slot.first_group <= settled + 1);
        let begin = begin.ok_or_else(|| damaged("it is not the one that belongs to the log"))?;
        let live: VecDeque<Slot> = known.split_off(begin).into();
        let (mut expected, mut bytes, mut at) = (live[0].first_group, Blocks::default(), 0);
        for slot in &live {
            if slot.first_group != expected {
                return Err(damaged(format!(
                    "group {expected} is missing, and a later one is there"
                )));
            }
            bytes.reset(usize::try_from(slot_bytes).unwrap_or(usize::MAX));
            file.read(slot.start, bytes.bytes_mut()).map_err(failed)?;
            at = BLOCK_BYTES;
            while let Some((_, body)) = FileId(id)
                .read_group(&bytes.bytes()[at..], |found| found == expected)
                .map_err(newer)?
            {
                if expected > settled {
                    visit(Found { at: slot.start + (at + GROUP_HEAD_BYTES) as u64, body })?;
                }
                at += group_bytes(body.len());
                expected += 1;
            }
            // Each group is durable before the next one is written.
            for later in (at..bytes.bytes().len()).step_by(BLOCK_BYTES) {
                let found =
                    FileId(id).read_group(&bytes.bytes()[later..], |found| found >= expected);
                if let Some((found, _)) = found.map_err(newer)? {
                    return Err(missing(expected, found));
                }
            }
        }
        if expected <= last_known {
            return Err(damaged(format!("it ends before group {last_known}, which it had")));
        }
        erase(&*file, &cut_short(&*file, record, &live, expected)?)?;
        let is_free = |start: &u64| live.iter().all(|slot| slot.start != *start);
        let free = (0..slots).rev().map(|slot| slot * slot_bytes).filter(is_free).collect();
        Ok(Wal {
            file,
            record,
            live,
            free,
            slots,
            at: at as u64,
            next_group: expected,
            buffer: Blocks::default(),
            grower: None,
        })
    }

    /// What the database may say of the file.
    pub(super) fn record(&self) -> WalRecord {
        WalRecord { known: self.next_group - 1, ..self.record }
    }

    /// The largest body of a group.
    pub(super) fn body_bytes_max(&self) -> usize {
        let room = self.record.slot_bytes - BLOCK_BYTES as u64;
        usize::try_from(room).unwrap_or(usize::MAX) - GROUP_HEAD_BYTES
    }

    /// How many slots the file has, and how many are free.
    pub(super) fn slots(&self) -> (u64, usize) {
        (self.slots, self.free.len())
    }

    pub(super) fn slot_bytes(&self) -> u64 {
        self.record.slot_bytes
    }

    /// Whether these groups, by the sizes of their bodies, need so many more slots than the one that takes the next: how many.
    pub(super) fn slots_for(&self, bodies: impl Iterator<Item = usize>) -> usize {
        let (mut at, mut more) = (self.at, 0);
        for body in bodies {
            let bytes = group_bytes(body) as u64;
            if at + bytes > self.record.slot_bytes {
                (at, more) = (BLOCK_BYTES as u64, more + 1);
            }
            at += bytes;
        }
        more
    }

    /// Nothing is written any more when this returns.
    pub(super) fn stop(&mut self) {
        self.grower = None;
    }

    /// The first group of the slot that takes the next one.
    pub(super) fn newest_slot(&self) -> u64 {
        self.live.back().map_or(0, |slot| slot.first_group)
    }

    /// From now on slots may be made ahead, by a thread.
    pub(super) fn grow_ahead(&mut self) {
        self.grower = Grower::start(self.file.clone());
    }

    /// Whether the next slot can be begun now, by whom nobody waits for.
    pub(super) fn can_begin_slot(&self) -> bool {
        self.grower.as_ref().is_some_and(|grower| !grower.is_busy())
    }

    /// Begins to make the next slot.
    pub(super) fn begin_slot(&mut self) {
        let length = self.length_with_next();
        if let Some(grower) = &mut self.grower {
            grower.begin(length);
        }
    }

    /// Takes a slot that was begun, if it is there by now, or `must` be.
    pub(super) fn take_slot(&mut self, must: bool) -> Result<bool, StoreError> {
        let Some(grower) = self.grower.as_mut().filter(|grower| grower.is_busy()) else {
            return Ok(false);
        };
        let ended = if must { Some(grower.wait()) } else { grower.ended() };
        match ended {
            Some(Ok(())) => {
                self.add_slot();
                Ok(true)
            }
            // It would only have spared work.
            Some(Err(error)) if is_full(&error) => {
                tracing::warn!("there is no room for another slot of the write-ahead log");
                Ok(false)
            }
            Some(Err(error)) => Err(failed(error)),
            None => Ok(false),
        }
    }

    /// Cuts free slots off the file's end until it has no more slots than that, or one that is in use.
    pub(super) fn shrink(&mut self, slots: u64) -> Result<(), StoreError> {
        let before = self.slots;
        while self.slots > slots {
            let last = (self.slots - 1) * self.record.slot_bytes;
            let Some(at) = self.free.iter().position(|start| *start == last) else { break };
            self.free.remove(at);
            self.slots -= 1;
        }
        if self.slots < before {
            self.file.set_len(self.slots * self.record.slot_bytes).map_err(failed)?;
            self.file.sync_data().map_err(failed)?;
        }
        Ok(())
    }

    fn is_free(&mut self, start: u64) {
        let at = self.free.partition_point(|other| *other > start);
        self.free.insert(at, start);
    }

    fn length_with_next(&self) -> u64 {
        (self.slots + 1) * self.record.slot_bytes
    }

    fn add_slot(&mut self) {
        self.is_free(self.slots * self.record.slot_bytes);
        self.slots += 1;
    }

    /// Adds a free slot at the file's end, one that was begun or another; false if there is no room for it.
    pub(super) fn grow(&mut self) -> Result<bool, StoreError> {
        if self.take_slot(true)? {
            return Ok(true);
        }
        let length = self.length_with_next();
        match self.file.set_len(length).and_then(|()| self.file.sync_data()) {
            Ok(()) => {
                self.add_slot();
                Ok(true)
            }
            Err(error) if is_full(&error) => Ok(false),
            Err(error) => Err(failed(error)),
        }
    }

    /// The bytes of the file that the slot takes which takes the next group.
    pub(super) fn newest(&self) -> std::ops::Range<u64> {
        let start = self.live.back().map_or(0, |slot| slot.start);
        start..start + self.record.slot_bytes
    }

    /// Makes a group durable; where its body is in the file then. If it does not fit in the last slot there must be a free one.
    pub(super) fn append(&mut self, body: &[u8]) -> Result<u64, StoreError> {
        let bytes = group_bytes(body.len());
        let id = FileId(self.record.id);
        let fits = self.at + bytes as u64 <= self.record.slot_bytes;
        let head = if fits { 0 } else { BLOCK_BYTES };
        self.buffer.reset(head + bytes);
        id.write_group(self.next_group, body, &mut self.buffer.bytes_mut()[head..]);
        let slot = match self.live.back() {
            Some(slot) if fits => slot.start + self.at,
            _ => {
                id.write_slot(self.next_group, self.buffer.bytes_mut());
                *self.free.last().ok_or_else(|| damaged("it has no free slot"))?
            }
        };
        self.write(slot)?;
        if !fits {
            self.free.pop();
            self.live.push_back(Slot { start: slot, first_group: self.next_group });
            self.at = BLOCK_BYTES as u64;
        }
        self.at += bytes as u64;
        self.next_group += 1;
        self.buffer.shrink_to(BUFFER_BYTES_KEPT);
        Ok(slot + (head + GROUP_HEAD_BYTES) as u64)
    }

    /// The bytes of the file that the oldest slot takes, and the record once all of it is settled; none if it is the one that takes
    /// the next group.
    pub(super) fn oldest(&self) -> Option<(std::ops::Range<u64>, WalRecord)> {
        let (oldest, next) = (self.live.front()?, self.live.get(1)?);
        let bytes = oldest.start..oldest.start + self.record.slot_bytes;
        Some((bytes, WalRecord { settled: next.first_group - 1, ..self.record() }))
    }

    /// The record once everything is settled.
    pub(super) fn all_settled(&self) -> WalRecord {
        WalRecord { settled: self.next_group - 1, ..self.record() }
    }

    /// The database holds, durably, what this record says: slots that hold nothing else are free.
    pub(super) fn settled(&mut self, record: WalRecord) {
        self.record = record;
        while self.live.get(1).is_some_and(|next| next.first_group <= record.settled + 1) {
            let Some(oldest) = self.live.pop_front() else { return };
            self.is_free(oldest.start);
        }
    }

    fn write(&self, at: u64) -> Result<(), StoreError> {
        self.file.write(at, self.buffer.bytes()).map_err(failed)?;
        self.file.sync_data().map_err(failed)
    }
}

/// Where groups with the next number lie in slots that are not in use: each is of a write that was cut short, since its slot has
/// no head. Later ones may not be there, be it in a slot whose head is lost, or that the file has only a part of.
fn cut_short(
    file: &dyn StorageBackend,
    record: WalRecord,
    live: &VecDeque<Slot>,
    next: u64,
) -> Result<Vec<u64>, StoreError> {
    let WalRecord { id, slot_bytes, .. } = record;
    let file_bytes = file.len().map_err(failed)?;
    let slots = (0..=file_bytes / slot_bytes.max(1)).map(|slot| slot * slot_bytes);
    let (mut groups, mut bytes) = (Vec::new(), Blocks::default());
    for start in slots.filter(|start| live.iter().all(|slot| slot.start != *start)) {
        let length = file_bytes.saturating_sub(start).min(slot_bytes);
        bytes.reset(usize::try_from(length / BLOCK * BLOCK).unwrap_or(usize::MAX));
        file.read(start, bytes.bytes_mut()).map_err(failed)?;
        let is_used = FileId(id).read_slot(bytes.bytes()).map_err(newer)?.is_some();
        if is_used && length < slot_bytes {
            return Err(damaged("its last slot is cut short"));
        }
        for at in (0..bytes.bytes().len()).step_by(BLOCK_BYTES) {
            let found = FileId(id).read_group(&bytes.bytes()[at..], |found| found >= next);
            match found.map_err(newer)? {
                Some((found, _)) if found > next => return Err(missing(next, found)),
                Some(_) => groups.push(start + at as u64),
                None => {}
            }
        }
    }
    Ok(groups)
}

/// Makes these groups none. The next write there has the same number: if only its head reached the disk, a start would take the
/// group that lies there for its own.
fn erase(file: &dyn StorageBackend, groups: &[u64]) -> Result<(), StoreError> {
    if groups.is_empty() {
        return Ok(());
    }
    let zeros = Blocks::zeroed(BLOCK_BYTES);
    for at in groups {
        file.write(*at, zeros.bytes()).map_err(failed)?;
    }
    file.sync_data().map_err(failed)
}

fn newer(_: Newer) -> StoreError {
    StoreError::NewerRow { which: "a group of the write-ahead log".to_owned() }
}

fn missing(expected: u64, found: u64) -> StoreError {
    damaged(format!("group {expected} is missing, and group {found} is there"))
}

fn damaged(why: impl Into<String>) -> StoreError {
    StoreError::damaged(error::WAL, why)
}

/// What its file says.
pub(super) fn failed(error: std::io::Error) -> StoreError {
    StoreError::database("log", redb::StorageError::Io(error))
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
