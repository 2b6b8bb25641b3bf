//! Carrying committed entries out: their changes become visible together.

use std::cell::Cell;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::at_hand::Halt;
use super::core::{Shared, State};
use super::events::Telling;
use super::hashes;
use super::lookup::ScanAtHand;
use super::overlay::Overlay;
use super::position::Position;
use crate::kv::{
    Counters, KeyRange, KeyRow, Need, Prepared, ReadRows, RecordKey, Reply, RevisionRow, RowId,
    Rows,
};
use crate::raft::{Broken, Entry, Index, LogId, Payload};
use crate::store::error::StoreError;
use crate::store::life::AtWork;

/// The most rows that one call applies, but for what its last entry has beyond them: it holds up the thread that sends
/// heartbeats, and how long an entry takes does not show in its bytes. An entry itself is bounded where it is taken into
/// the log.
pub(super) const APPLY_ROWS_MAX: usize = 8192;

/// What became of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The entry.
    pub id: LogId,
    /// The command's reply; none for entries that carry none.
    pub reply: Option<Reply>,
}

/// Entries that were applied.
#[derive(Debug, Default)]
pub struct Carried {
    /// Which, in order, and what they came to.
    pub applied: Vec<Applied>,
    /// Whether the next one needs rows of the file that are not at hand: see [`State::fetch_rows`].
    pub lacks_rows: bool,
}

impl State {
    /// Applies committed entries that follow what is applied already, and fetches the rows that they need: as many as
    /// have 8,192 rows, and at least one; which, and what they came to. For one thread only, which waits for the disk.
    pub fn apply(&self, entries: &[Entry]) -> Result<Vec<Applied>, StoreError> {
        loop {
            let commands = entries.iter().filter_map(|entry| entry.payload.command());
            self.fetch_rows(commands.take(APPLY_ROWS_MAX))?;
            let Carried { applied, lacks_rows } = self.apply_at_hand(entries)?;
            if !applied.is_empty() || !lacks_rows {
                return Ok(applied);
            }
        }
    }

    /// The same, up to the first entry that needs a row of the file which was not fetched: it never reads the file.
    pub fn apply_at_hand(&self, entries: &[Entry]) -> Result<Carried, StoreError> {
        let began = Instant::now();
        let mut position = self.shared.read().position.clone();
        let before = position.counters.clone();
        let mut batch = Batch::over(self);
        let mut carried = Carried { applied: Vec::with_capacity(entries.len()), lacks_rows: false };
        let mut hashes = Vec::new();
        let _at_work = AtWork::begin(&self.life.apply);
        for entry in entries {
            let (applied, next) = (position.applied, entry.id);
            if next.index != applied.index.next() || next.term < applied.term {
                return Err(Broken::Gap { applied, next }.into());
            }
            let reply = match &entry.payload {
                Payload::Noop => None,
                Payload::Command(command) => {
                    let command = Prepared::of(command, self.options.highest)
                        .map_err(|why| StoreError::Command { index: next.index, why })?;
                    match batch.carry_out(command, &mut position.counters) {
                        Ok(reply) => Some(reply),
                        Err(Halt::LacksRows) => {
                            carried.lacks_rows = true;
                            break;
                        }
                        Err(Halt::Failed(error)) => return Err(error),
                    }
                }
                Payload::Membership(membership) => {
                    position.membership = Some((entry.id.index, membership.clone()));
                    None
                }
            };
            position.applied = entry.id;
            if hashes::is_kept(entry.id.index) {
                hashes.push((entry.id.index, position.counters.hash));
            }
            carried.applied.push(Applied { id: entry.id, reply });
            if batch.rows.get() >= APPLY_ROWS_MAX {
                break;
            }
        }
        if !carried.applied.is_empty() {
            let Batch { mut changes, ranges, .. } = batch;
            if let Some((key, record)) = position.counters.clock_record(&before) {
                changes.set_record(key, Some(record));
            }
            self.absorb(changes, &ranges, position, hashes);
            self.life.tally.apply_time.observe_time(began.elapsed());
        }
        Ok(carried)
    }

    /// Makes the changes of entries visible, all at once.
    fn absorb(
        &self,
        changes: Overlay,
        ranges: &[KeyRange],
        position: Position,
        hashes: Vec<(Index, u64)>,
    ) {
        let telling = Telling::prepare(self.observer.get(), &changes);
        let mut shared = self.shared.write();
        shared.active_since.get_or_insert_with(Instant::now);
        telling.hand_over(&changes);
        let Shared { active, at_hand, .. } = &mut *shared;
        changes.keys.iter().for_each(|(key, row)| at_hand.set(key, row));
        ranges.iter().for_each(|range| at_hand.used(range));
        active.absorb(changes);
        if !Arc::ptr_eq(&shared.position.counters.access, &position.counters.access) {
            // Before anybody sees what follows it.
            self.access.store(position.counters.access.clone());
        }
        shared.position = position;
        hashes.into_iter().for_each(|(index, hash)| shared.hashes.note(index, hash));
        drop(shared);
    }
}

/// The changes of the entries that are being applied, above the state. They become visible together.
struct Batch<'a> {
    state: &'a State,
    changes: Overlay,
    /// The rows that the command reads which is being carried out, as they were before it, by key.
    read: Vec<(Bytes, Option<KeyRow>)>,
    /// The ranges that commands went through.
    ranges: Vec<KeyRange>,
    /// How many rows were looked at or written.
    rows: Cell<usize>,
}

impl<'a> Batch<'a> {
    fn over(state: &'a State) -> Batch<'a> {
        Batch {
            state,
            changes: Overlay::default(),
            read: Vec::new(),
            ranges: Vec::new(),
            rows: Cell::new(0),
        }
    }

    /// Carries a command out, if all rows are at hand that it needs. They are looked up before it changes anything:
    /// while it runs, a checkpoint may put away where they were.
    fn carry_out(&mut self, command: Prepared, counters: &mut Counters) -> Result<Reply, Halt> {
        self.read.clear();
        let (mut ranges, mut lacks_rows) = (Vec::new(), false);
        command.needs(&mut |need| match need {
            Need::Key(key) | Need::Value(key) => lacks_rows |= self.look_up(key).is_none(),
            Need::Range(range) | Need::Values(range) => ranges.push(range.clone()),
        });
        if lacks_rows {
            return Err(Halt::LacksRows);
        }
        self.read.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        let reply = command.apply(self, counters)?;
        self.ranges.extend(ranges);
        Ok(reply)
    }

    /// Puts the row of a key beside the others that the command reads; none if it is not at hand.
    fn look_up(&mut self, key: &Bytes) -> Option<()> {
        self.beat();
        let row = match self.changes.keys.get(key) {
            Some(row) => Some(row.clone()),
            None => self.state.row_at_hand(key)?,
        };
        self.read.push((key.clone(), row));
        Some(())
    }

    /// Gets further, by one row.
    fn beat(&self) {
        self.state.life.apply.beat();
        self.rows.set(self.rows.get() + 1);
    }
}

impl ReadRows for Batch<'_> {
    type Error = Halt;

    fn key(&self, key: &[u8]) -> Result<Option<KeyRow>, Halt> {
        let at = self.read.binary_search_by(|(one, _)| one[..].cmp(key)).ok();
        // Nothing else is asked for than what the command said.
        at.map(|at| self.read[at].1.clone()).ok_or(Halt::LacksRows)
    }

    fn row(&self, id: RowId) -> Result<RevisionRow, Halt> {
        self.beat();
        let changed = self.changes.rows.get(&id).cloned();
        changed.or_else(|| self.state.change_at_hand(id)).ok_or(Halt::LacksRows)
    }

    fn visit(
        &self,
        range: &KeyRange,
        visit: &mut dyn FnMut(Bytes, KeyRow) -> ControlFlow<()>,
    ) -> Result<(), Halt> {
        let changed = self.changes.range(range);
        let mut changed = changed.map(|(key, row)| (key.clone(), row.clone())).peekable();
        let mut all = ScanAtHand::new(self.state, range)?;
        let mut stored = all.next()?;
        loop {
            self.beat();
            // What is being applied is newer.
            let next = match (changed.peek(), &stored) {
                (None, None) => return Ok(()),
                (Some((new, _)), Some((old, _))) if new > old => stored.take(),
                (None, Some(_)) => stored.take(),
                (Some((new, _)), old) => {
                    if old.as_ref().is_some_and(|(old, _)| old == new) {
                        stored = None;
                    }
                    changed.next()
                }
            };
            if stored.is_none() {
                stored = all.next()?;
            }
            if let Some((key, row)) = next
                && visit(key, row).is_break()
            {
                return Ok(());
            }
        }
    }
}

impl Rows for Batch<'_> {
    fn set(&mut self, id: RowId, row: RevisionRow, key_row: KeyRow) {
        self.beat();
        self.changes.set(id, row, key_row);
    }

    fn set_record(&mut self, key: RecordKey, record: Option<Bytes>) {
        self.beat();
        self.changes.set_record(key, record);
    }
}
