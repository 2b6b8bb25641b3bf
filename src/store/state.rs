//! The state: an ordered overlay in memory above a redb file.
//!
//! One thread applies; any number read; one writes checkpoints. Apply puts its changes into the
//! active overlay. A checkpoint freezes that, writes it in one transaction, and then, in one step under
//! the lock, puts the new view of the file in place of the frozen overlay. So whoever looks into the
//! overlays and takes the view of the file under one lock sees every change exactly once, and nobody
//! reads the disk under the lock.

use std::cell::Cell;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use redb::{Database, StorageBackend};

use super::checkpoint::{self, Frozen, Position};
use super::error::StoreError;
use super::files;
use super::gather::Gather;
use super::life::{AtWork, Life};
use super::marks::{self, Mark, Marks};
use super::overlay::Overlay;
use super::range::Scan;
use super::space::{self, Space};
use super::sweep::Budget;
use super::tables::Generation;
use crate::kv::{
    self, Counters, Item, KeyRange, KeyRow, Reply, Revision, RevisionRow, RowId, Rows,
};
use crate::mutant::{Mutant, on};
use crate::raft::{Broken, Entry, Index, LogId, Membership, Payload};

/// The most rows that one call applies, but for what its last entry has beyond them: it holds up the thread that sends
/// heartbeats, and how long an entry takes does not show in its bytes. An entry itself is bounded where it is taken into
/// the log.
const APPLY_ROWS_MAX: usize = 8192;

/// How the state uses memory, and when it is written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateOptions {
    /// redb's cache, in bytes. Default 64 MiB.
    pub cache_bytes: usize,
    /// A checkpoint is due when the overlay takes so many bytes. Default 64 MiB. While one is being
    /// written, or waits for room on the disk, an overlay of twice that may grow; then apply waits.
    pub overlay_bytes: usize,
    /// A checkpoint is due when the oldest change is this old. Default 5 s.
    pub checkpoint_age: Duration,
    /// How many changes up to the compacted revision a checkpoint looks at, to remove what is hidden, beyond
    /// twice as many as it writes. Default 65,536.
    pub sweep_rows: usize,
    /// How long the disk is left alone before a checkpoint that only removes what is hidden. Default 500 ms.
    pub sweep_pause: Duration,
}

impl Default for StateOptions {
    fn default() -> StateOptions {
        StateOptions {
            cache_bytes: 64 << 20,
            overlay_bytes: 64 << 20,
            checkpoint_age: Duration::from_secs(5),
            sweep_rows: 65_536,
            sweep_pause: Duration::from_millis(500),
        }
    }
}

/// What became of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The entry.
    pub id: LogId,
    /// The command's reply; none for entries that carry none.
    pub reply: Option<Reply>,
}

/// Why a read has no answer.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The revision is compacted away.
    #[error("revision {asked} is compacted; the oldest readable one is {oldest}")]
    Compacted {
        /// What was asked for.
        asked: Revision,
        /// The oldest that can be read.
        oldest: Revision,
    },
    /// The revision is not reached yet.
    #[error("revision {asked} is not reached yet; the newest is {newest}")]
    Future {
        /// What was asked for.
        asked: Revision,
        /// The newest.
        newest: Revision,
    },
    /// The disk.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Hears of what is applied. It is called by the thread that applies, and must not keep it.
pub trait Observer: Send + Sync + std::fmt::Debug {
    /// Whether anybody wants to hear. Whoever says so before it reads the state hears of all that it does not
    /// read.
    fn watches(&self) -> bool;
    /// These keys changed; the state is of that revision now.
    fn changed(&self, keys: &[Bytes], revision: Revision);
    /// Another state has taken the place of the one that was.
    fn replaced(&self);
}

/// See the module's documentation.
#[derive(Debug)]
pub struct State {
    pub(super) db: Database,
    pub(super) options: StateOptions,
    pub(super) shared: RwLock<Shared>,
    /// Held while a checkpoint is written or a snapshot takes the state's place.
    pub(super) writing: Mutex<()>,
    /// The file of a node that serves: to begin writing to the disk what the system holds of it.
    pub(super) file: Option<PathBuf>,
    /// Lets the writes to the file be gathered.
    pub(super) gather: Gather,
    /// Whether a snapshot is coming in.
    pub(super) receiving: AtomicBool,
    /// Whether the checkpoint that is due has to wait for room.
    put_off: AtomicBool,
    /// Whether somebody waits for a checkpoint.
    wanted: AtomicBool,
    /// Where apply and checkpoints show that they get further.
    pub(super) life: Arc<Life>,
    /// Who hears of what is applied.
    pub(super) observer: OnceLock<Arc<dyn Observer>>,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) active: Overlay,
    /// When the first change of `active` came.
    pub(super) active_since: Option<Instant>,
    pub(super) frozen: Option<Arc<Overlay>>,
    /// What the file holds.
    pub(super) generation: Arc<Generation>,
    pub(super) position: Position,
    /// The last entry that the file covers.
    pub(super) durable: LogId,
    /// When it came to hold that.
    since: Instant,
    /// How often a snapshot took the state's place.
    pub(super) installs: u64,
    pub(super) marks: Marks,
}

impl State {
    /// Opens the file at `path`, or makes it. With `space` its ballast gives way to writes that find no room.
    pub fn open(
        path: &Path,
        space: Option<&Arc<Space>>,
        options: &StateOptions,
    ) -> Result<State, StoreError> {
        let gather = Gather::default();
        let db = files::open(path, space, &gather, options.cache_bytes, "state")?;
        let state = State::with_database(db, gather, &path.display().to_string(), options)?;
        let life = space.map(|space| space.life().clone()).unwrap_or_default();
        Ok(State { file: space.is_some().then(|| path.to_path_buf()), life, ..state })
    }

    /// Opens the file that a backend stands for.
    pub fn open_backend(
        backend: impl StorageBackend,
        options: &StateOptions,
    ) -> Result<State, StoreError> {
        let gather = Gather::default();
        let db = files::open_backend(backend, &gather, options.cache_bytes, "state")?;
        State::with_database(db, gather, "state", options)
    }

    fn with_database(
        db: Database,
        gather: Gather,
        path: &str,
        options: &StateOptions,
    ) -> Result<State, StoreError> {
        checkpoint::open(&db, path)?;
        let generation = Arc::new(Generation::open(&db)?);
        let shared = Shared {
            active: Overlay::default(),
            active_since: None,
            frozen: None,
            durable: generation.position.applied,
            position: generation.position.clone(),
            generation,
            since: Instant::now(),
            installs: 0,
            marks: Marks::default(),
        };
        Ok(State {
            db,
            options: options.clone(),
            shared: RwLock::new(shared),
            writing: Mutex::new(()),
            gather,
            file: None,
            receiving: AtomicBool::new(false),
            put_off: AtomicBool::new(false),
            wanted: AtomicBool::new(false),
            life: Arc::default(),
            observer: OnceLock::new(),
        })
    }

    /// The last entry applied.
    pub fn applied(&self) -> LogId {
        self.shared.read().position.applied
    }

    /// The last entry applied that is on disk.
    pub fn durable(&self) -> LogId {
        self.shared.read().durable
    }

    /// The store's revision.
    pub fn revision(&self) -> Revision {
        self.shared.read().position.counters.revision
    }

    /// The oldest revision that can be read.
    pub fn compacted(&self) -> Revision {
        self.shared.read().position.counters.compacted
    }

    /// The last entry applied and the hash chained over every change up to it: equal on all replicas
    /// at the same entry.
    pub fn hash(&self) -> (LogId, u64) {
        let shared = self.shared.read();
        (shared.position.applied, shared.position.counters.hash)
    }

    /// The hash at some of the indexes that this process has applied, in order.
    pub fn marks(&self) -> Vec<Mark> {
        self.shared.read().marks.all()
    }

    /// The newest membership that was applied, and its index.
    pub fn membership(&self) -> Option<(Index, Membership)> {
        self.shared.read().position.membership.clone()
    }

    /// Sets who hears of what is applied; the first one stays.
    pub fn observe(&self, observer: Arc<dyn Observer>) {
        // Nobody else does.
        let _ = self.observer.set(observer);
    }

    /// Applies committed entries that follow what is applied already: as many as have [`APPLY_ROWS_MAX`] rows, and at
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
                    if on(Mutant::ApplyTwice) {
                        kv::apply(&mut batch, &mut position.counters, command)?;
                    }
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
        let revision = position.counters.revision;
        let mut shared = self.shared.write();
        shared.active_since.get_or_insert_with(Instant::now);
        // Asked under the lock: who begins to watch later reads what is about to be there.
        let told = self.observer.get().filter(|observer| observer.watches());
        let told =
            told.map(|observer| (observer, changes.keys.keys().cloned().collect::<Vec<_>>()));
        shared.active.absorb(changes);
        shared.position = position;
        hashes.into_iter().for_each(|(index, hash)| shared.marks.note(index, hash));
        drop(shared);
        if let Some((observer, keys)) = told {
            observer.changed(&keys, revision);
        }
        Ok(all)
    }

    /// Whether apply has to wait for a checkpoint to end, or for one that is put off.
    pub fn overlay_full(&self) -> bool {
        let shared = self.shared.read();
        let waits = shared.frozen.is_some() || self.put_off.load(Ordering::Relaxed);
        waits && shared.active.bytes > 2 * self.options.overlay_bytes
    }

    /// Says whether the checkpoint that is due has to wait for room on the disk.
    pub(super) fn put_off(&self, put_off: bool) {
        self.put_off.store(put_off, Ordering::Relaxed);
    }

    /// Whether the checkpoint that is due waits for room on the disk.
    pub fn is_put_off(&self) -> bool {
        self.put_off.load(Ordering::Relaxed)
    }

    /// How much a checkpoint would write now, in bytes. An estimate.
    pub(super) fn checkpoint_bytes(&self) -> u64 {
        let shared = self.shared.read();
        let (overlay, generation) = (&shared.active, shared.generation.clone());
        let bytes = overlay.bytes as u64;
        // Revisions come in order; keys are anywhere, each on a page of its own at worst.
        let pages = (overlay.keys.len() as u64).saturating_mul(files::PAGE_BYTES as u64);
        drop(shared);
        space::state_commit(bytes, pages.min(generation.keys_bytes()))
    }

    /// Whether a checkpoint would make room, in time: what is deleted goes once compaction reaches it.
    pub(super) fn frees(&self) -> bool {
        let shared = self.shared.read();
        let stored = &shared.generation.position.counters;
        shared.active.deletions > 0
            || shared.generation.is_unswept()
            || shared.position.counters.compacted > stored.compacted
    }

    /// Whether it is time for a checkpoint.
    pub fn checkpoint_due(&self) -> bool {
        let shared = self.shared.read();
        let StateOptions { overlay_bytes, checkpoint_age, sweep_pause, .. } = self.options;
        let aged = shared.active_since.is_some_and(|since| since.elapsed() >= checkpoint_age);
        let due = self.wanted.load(Ordering::Acquire) || shared.active.bytes >= overlay_bytes;
        let sweeps = || shared.generation.is_unswept() && shared.since.elapsed() >= sweep_pause;
        shared.frozen.is_none() && (due || aged || sweeps())
    }

    /// Asks for a checkpoint of what is applied now, without waiting until one is due.
    pub fn want_checkpoint(&self) {
        self.wanted.store(true, Ordering::Release);
    }

    /// Begins a checkpoint: what is applied from here on goes elsewhere. None if one is under way, or if
    /// the file holds everything and nothing that compaction hides.
    pub fn freeze(&self) -> Option<Frozen> {
        let mut shared = self.shared.write();
        if shared.frozen.is_some() {
            return None;
        }
        self.wanted.store(false, Ordering::Release);
        let complete = shared.durable == shared.position.applied;
        if complete && !shared.generation.is_unswept() {
            return None;
        }
        let overlay = Arc::new(std::mem::take(&mut shared.active));
        shared.active_since = None;
        let unread = on(Mutant::FrozenUnread);
        shared.frozen = Some(if unread { Arc::default() } else { overlay.clone() });
        Some(Frozen { overlay, position: shared.position.clone(), installs: shared.installs })
    }

    /// Ends a checkpoint: writes what was frozen; durable when it returns. An error is final. One that a
    /// snapshot has overtaken is dropped. What the file holds then.
    pub fn write_checkpoint(&self, frozen: Frozen) -> Result<LogId, StoreError> {
        let budget = Budget::beside(&frozen.overlay, self.options.sweep_rows);
        self.write_within(frozen, budget)
    }

    /// The same, and no more of what compaction hides is removed than the budget says.
    pub(super) fn write_within(
        &self,
        mut frozen: Frozen,
        budget: Budget,
    ) -> Result<LogId, StoreError> {
        let _alone = self.writing.lock();
        let overtaken = self.shared.read().installs != frozen.installs;
        if overtaken && !on(Mutant::CheckpointOverSnapshot) {
            return Ok(self.durable());
        }
        if on(Mutant::PositionTooNew) {
            frozen.position = self.shared.read().position.clone();
        }
        let mut compacted = frozen.position.counters.compacted;
        if on(Mutant::SweepAhead) {
            compacted = self.compacted();
        } else if on(Mutant::SweepTooFar) && compacted > Revision(0) {
            compacted = Revision(compacted.0 + 1).min(frozen.position.counters.revision);
        }
        checkpoint::write(&self.db, &frozen, compacted, budget, &self.life.checkpoint)?;
        let generation = Arc::new(Generation::open(&self.db)?);
        let applied = frozen.applied();
        let mut shared = self.shared.write();
        let generation =
            if on(Mutant::OldGeneration) { shared.generation.clone() } else { generation };
        let old = (shared.frozen.take(), std::mem::replace(&mut shared.generation, generation));
        shared.durable = applied;
        shared.since = Instant::now();
        drop(shared);
        // Freeing a large overlay takes a while, and nobody need wait for it.
        drop((old, frozen));
        Ok(applied)
    }

    /// One key at a revision, or the newest; and the revision that it was read at. What it takes is bounded
    /// only for the newest: see [`PastRead`](super::PastRead) for others.
    pub fn get(
        &self,
        key: &[u8],
        at: Option<Revision>,
    ) -> Result<(Revision, Option<Item>), ReadError> {
        let (at, mut chain) = match self.find(key, at)? {
            Sought::Found(at, item) => return Ok((at, item)),
            Sought::Before(at, chain) => (at, chain),
        };
        loop {
            if let Walked::To(item) = self.walk_back(&mut chain, at, &mut || false)? {
                return Ok((at, item));
            }
        }
    }

    /// The mod revision of a key as it is now, if it exists, without its value; and the revision that it was read at.
    pub fn mod_revision(&self, key: &[u8]) -> Result<(Revision, Option<Revision>), StoreError> {
        let shared = self.shared.read();
        let at = shared.position.counters.revision;
        let fresh = shared.active.keys.get(key);
        let fresh = fresh.or_else(|| shared.frozen.as_ref().and_then(|old| old.keys.get(key)));
        let row = match fresh {
            Some(row) => Some(*row),
            None => {
                let generation = shared.generation.clone();
                drop(shared);
                generation.key(key)?
            }
        };
        Ok((at, row.filter(KeyRow::is_live).map(|row| row.newest.revision)))
    }

    /// One key at a revision, or where to begin to look for it.
    pub(super) fn find(&self, key: &[u8], at: Option<Revision>) -> Result<Sought, ReadError> {
        let shared = self.shared.read();
        let newest = shared.position.counters.revision;
        let at = readable(at, &shared.position)?;
        let found = shared
            .active
            .newest(key)
            .or_else(|| shared.frozen.as_ref().and_then(|frozen| frozen.newest(key)));
        if let Some((key_row, row)) = found {
            if key_row.newest.revision <= at {
                return Ok(Sought::Found(at.min(newest), item(key_row.newest, row.clone())));
            }
            let chain = Chain { next: row.previous, created: row.creates() };
            return Ok(Sought::Before(at, chain));
        }
        let generation = shared.generation.clone();
        drop(shared);
        let Some(key_row) = generation.key(key)? else { return Ok(Sought::Found(at, None)) };
        let newest = key_row.newest;
        if newest.revision > at {
            return Ok(Sought::Before(at, Chain { next: Some(newest), created: false }));
        }
        if !key_row.is_live() {
            return Ok(Sought::Found(at, None));
        }
        // From the same view, so that whatever is compacted meanwhile does not matter.
        let row = generation.row(newest)?.ok_or_else(|| missing(newest))?;
        Ok(Sought::Found(at, item(newest, row)))
    }

    /// The newest change at or before `at` along a key's chain; none if the key did not exist then. Where `pause`
    /// says so it stops, and goes on from there the next time.
    pub(super) fn walk_back(
        &self,
        chain: &mut Chain,
        at: Revision,
        pause: &mut dyn FnMut() -> bool,
    ) -> Result<Walked, ReadError> {
        while let Some(id) = chain.next {
            let Some(row) = self.row(id)? else {
                // Either it was compacted away meanwhile, or it was a deletion, or it is lost.
                self.readable(Some(at))?;
                return match chain.created && id.revision <= self.compacted() {
                    true => Ok(Walked::To(None)),
                    false => Err(missing(id).into()),
                };
            };
            if id.revision <= at {
                return Ok(Walked::To(item(id, row)));
            }
            *chain = Chain { next: row.previous, created: row.creates() };
            // Else it might never end.
            if chain.next.is_some_and(|previous| previous >= id) {
                let RowId { revision, sub } = id;
                let detail =
                    format!("the row of revision {revision}, change {sub}, does not lead back");
                return Err(StoreError::damaged("state", detail).into());
            }
            if pause() {
                return Ok(Walked::Paused);
            }
        }
        Ok(Walked::To(None))
    }

    /// One change.
    pub(super) fn row(&self, id: RowId) -> Result<Option<RevisionRow>, StoreError> {
        let shared = self.shared.read();
        let fresh = shared.active.rows.get(&id);
        let fresh = fresh.or_else(|| shared.frozen.as_ref().and_then(|old| old.rows.get(&id)));
        if let Some(row) = fresh {
            return Ok(Some(row.clone()));
        }
        let generation = shared.generation.clone();
        drop(shared);
        generation.row(id)
    }

    fn key_row(&self, key: &[u8]) -> Result<Option<KeyRow>, StoreError> {
        let shared = self.shared.read();
        let fresh = shared.active.keys.get(key);
        let fresh = fresh.or_else(|| shared.frozen.as_ref().and_then(|old| old.keys.get(key)));
        if let Some(row) = fresh {
            return Ok(Some(*row));
        }
        let generation = shared.generation.clone();
        drop(shared);
        generation.key(key)
    }

    /// The revision to read at, checked.
    pub(super) fn readable(&self, at: Option<Revision>) -> Result<Revision, ReadError> {
        readable(at, &self.shared.read().position)
    }

    /// The overlays' part of a range, at most `count` keys from its beginning (or its end), and the view of
    /// the file that goes with it.
    pub(super) fn fresh_keys(
        &self,
        range: &KeyRange,
        descending: bool,
        count: usize,
    ) -> (Vec<(Bytes, KeyRow)>, Arc<Generation>) {
        let shared = self.shared.read();
        let mut merged = std::collections::BTreeMap::new();
        // The frozen overlay first: what the active one holds is newer.
        let overlays = shared.frozen.iter().map(Arc::as_ref).chain([&shared.active]);
        for overlay in overlays {
            let mut keys = overlay.range(range);
            for _ in 0..count {
                let next = if descending { keys.next_back() } else { keys.next() };
                let Some((key, row)) = next else { break };
                if on(Mutant::FrozenFirst) {
                    merged.entry(key.clone()).or_insert(*row);
                    continue;
                }
                merged.insert(key.clone(), *row);
            }
        }
        // Beyond `count` keys one of the two overlays may have more in between.
        let merged = merged.into_iter().filter(|_| !on(Mutant::ListingOfFileOnly));
        let keys = if descending {
            merged.rev().take(count).collect()
        } else {
            merged.take(count).collect()
        };
        (keys, shared.generation.clone())
    }
}

/// How far a walk along a key's changes has come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chain {
    /// The change to look at next.
    pub(super) next: Option<RowId>,
    /// Whether the change that leads to it created the key.
    pub(super) created: bool,
}

/// What a step of such a walk came to.
pub(super) enum Walked {
    To(Option<Item>),
    Paused,
}

/// What is known of a key at once, with the revision that it is read at.
pub(super) enum Sought {
    Found(Revision, Option<Item>),
    /// It is older than its newest change.
    Before(Revision, Chain),
}

fn readable(at: Option<Revision>, position: &Position) -> Result<Revision, ReadError> {
    let Counters { revision: newest, compacted: oldest, .. } = position.counters;
    match at {
        None => Ok(newest),
        Some(asked) if asked > newest => Err(ReadError::Future { asked, newest }),
        Some(asked) if asked < oldest && !on(Mutant::CompactedReadable) => {
            Err(ReadError::Compacted { asked, oldest })
        }
        Some(asked) => Ok(asked),
    }
}

fn missing(id: RowId) -> StoreError {
    let RowId { revision, sub } = id;
    StoreError::damaged(
        "state",
        format!("the row of revision {revision}, change {sub}, is missing"),
    )
}

/// The item that a change made; none if it deleted the key.
pub(super) fn item(id: RowId, row: RevisionRow) -> Option<Item> {
    row.is_live().then_some(Item {
        key: row.key,
        value: row.value,
        content_type: row.content_type,
        create_revision: row.create_revision,
        mod_revision: id.revision,
        version: row.version,
    })
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
        let changed = self.changes.range(range).filter(|_| !on(Mutant::BatchUnlisted));
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

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "state_crash_tests.rs"]
mod crash_tests;

#[cfg(test)]
#[path = "state_fault_tests.rs"]
mod fault_tests;
