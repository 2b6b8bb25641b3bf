//! Carrying committed entries out: their changes become visible together.

use std::cell::Cell;
use std::ops::ControlFlow;
use std::time::Instant;

use bytes::Bytes;

use super::error::StoreError;
use super::events::Telling;
use super::life::AtWork;
use super::marks;
use super::overlay::Overlay;
use super::range::Scan;
use super::state::State;
use crate::kv::{self, KeyRange, KeyRow, Reply, RevisionRow, RowId, Rows};
use crate::raft::{Broken, Entry, LogId, Payload};

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

impl State {
    /// Applies committed entries that follow what is applied already: as many as have 8,192 rows, and at
    /// least one; which, and what they came to. For one thread only.
    pub fn apply(&self, entries: &[Entry]) -> Result<Vec<Applied>, StoreError> {
        let mut position = self.shared.read().position.clone();
        let mut batch = Batch { state: self, changes: Overlay::default(), rows: Cell::new(0) };
        let mut all = Vec::with_capacity(entries.len());
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
                    Some(kv::apply(&mut batch, &mut position.counters, command)?)
                }
                Payload::Membership(membership) => {
                    position.membership = Some((entry.id.index, membership.clone()));
                    None
                }
            };
            position.applied = entry.id;
            if marks::is_kept(entry.id.index) {
                hashes.push((entry.id.index, position.counters.hash));
            }
            all.push(Applied { id: entry.id, reply });
            if batch.rows.get() >= APPLY_ROWS_MAX {
                break;
            }
        }
        let changes = batch.changes;
        let telling = Telling::prepare(self.observer.get(), &changes);
        let mut shared = self.shared.write();
        shared.active_since.get_or_insert_with(Instant::now);
        telling.hand_over(&changes);
        shared.active.absorb(changes);
        shared.position = position;
        hashes.into_iter().for_each(|(index, hash)| shared.marks.note(index, hash));
        drop(shared);
        Ok(all)
    }
}

/// The changes of the entries that are being applied, above the state. They become visible together.
struct Batch<'a> {
    state: &'a State,
    changes: Overlay,
    /// How many rows were looked at or written.
    rows: Cell<usize>,
}

impl Batch<'_> {
    /// Gets further, by one row.
    fn beat(&self) {
        self.state.life.apply.beat();
        self.rows.set(self.rows.get() + 1);
    }
}

impl Rows for Batch<'_> {
    type Error = StoreError;

    fn key(&self, key: &[u8]) -> Result<Option<KeyRow>, StoreError> {
        self.beat();
        match self.changes.keys.get(key) {
            Some(row) => Ok(Some(*row)),
            None => self.state.key_row(key),
        }
    }

    fn visit(
        &self,
        range: &KeyRange,
        visit: &mut dyn FnMut(Bytes, KeyRow) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let changed = self.changes.range(range);
        let mut changed = changed.map(|(key, row)| (key.clone(), *row)).peekable();
        let mut all = Scan::new(self.state, range.clone(), false);
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

    fn set(&mut self, id: RowId, row: RevisionRow) {
        self.beat();
        self.changes.set(id, row);
    }
}
