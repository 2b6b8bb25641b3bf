//! The state: an ordered overlay in memory above a redb file.
//!
//! One thread applies; any number read; one writes checkpoints. Apply puts its changes into the
//! active overlay. A checkpoint freezes that, writes it in one transaction, and then, in one step under
//! the lock, puts the new view of the file in place of the frozen overlay. So whoever looks into the
//! overlays and takes the view of the file under one lock sees every change exactly once, and nobody
//! reads the disk under the lock.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use parking_lot::{Mutex, RwLock};
use redb::{Database, StorageBackend};

use super::at_hand::AtHand;
use super::checkpoint;
use super::events::Observer;
use super::hashes::{HashAt, StateHashes};
use super::overlay::Overlay;
use super::pins::Pins;
use super::position::Position;
use super::under::LogUnder;
use super::verification::{Verification, Verified};
use super::view::FileView;
use crate::kv::{Access, FeatureLevel, Revision, Settings};
use crate::raft::{Index, LogId, Membership};
use crate::store::disk::coalesce::Coalesce;
use crate::store::disk::files;
use crate::store::disk::space::Space;
use crate::store::disk::walk::Walk;
use crate::store::error::StoreError;
use crate::store::life::Life;

/// How the state uses memory, and when it is written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateOptions {
    /// redb's cache, in bytes. Default 64 MiB.
    pub cache_bytes: usize,
    /// A checkpoint is due when the overlay takes so many bytes, with what `rows_bytes` has no room for of the rows of its
    /// keys. Default 64 MiB. While one is being written, or waits for room on the disk, an overlay of twice that may grow;
    /// then apply waits.
    pub overlay_bytes: usize,
    /// How much of the rows of keys that were changed or looked up lately is held in memory, in bytes. Default 32 MiB.
    pub rows_bytes: usize,
    /// A checkpoint is due when the oldest change is this old. Default 5 s.
    pub checkpoint_age: Duration,
    /// How many changes up to the compacted revision a checkpoint looks at, to remove what is hidden, beyond
    /// twice as many as it writes. Default 65,536.
    pub sweep_rows: usize,
    /// How long the disk is left alone before a checkpoint that only removes what is hidden. Default 500 ms.
    pub sweep_pause: Duration,
    /// The highest feature level that the node knows. Default: that of this release; tests play older ones.
    pub highest: FeatureLevel,
    /// When the pages of the file are verified. Default: as it is opened.
    pub verify: Verify,
}

/// When the pages of the state's file are verified.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verify {
    /// All of them as the file is opened, which reads it whole.
    #[default]
    AtOpen,
    /// Each as it is read, and all of them by [`State::verify`], for whoever cannot wait for that.
    Later,
}

impl Default for StateOptions {
    fn default() -> StateOptions {
        StateOptions {
            cache_bytes: 64 << 20,
            overlay_bytes: 64 << 20,
            rows_bytes: 32 << 20,
            checkpoint_age: Duration::from_secs(5),
            sweep_rows: 65_536,
            sweep_pause: Duration::from_millis(500),
            highest: FeatureLevel::HIGHEST,
            verify: Verify::AtOpen,
        }
    }
}

/// See the module's documentation.
#[derive(Debug)]
pub struct State {
    pub(in crate::store) db: Database,
    pub(in crate::store) options: StateOptions,
    pub(super) shared: RwLock<Shared>,
    /// Who may do what, as the position has it: every request looks at it several times, and should not ask for the lock.
    pub(super) access: ArcSwap<Access>,
    /// Held while a checkpoint is written or a snapshot takes the state's place.
    pub(super) writing: Mutex<()>,
    /// The file of a node that serves: to begin writing to the disk what the system holds of it.
    pub(in crate::store) file: Option<PathBuf>,
    /// Lets the writes to the file be coalesced.
    pub(in crate::store) coalesce: Coalesce,
    /// Whether a snapshot is coming in.
    pub(in crate::store) receiving: AtomicBool,
    /// Whether the checkpoint that is due has to wait for room.
    pub(super) put_off: AtomicBool,
    /// Whether somebody waits for a checkpoint.
    pub(super) wanted: AtomicBool,
    /// What must not be removed yet, compacted or not.
    pub(super) pins: Pins,
    /// How far the log is durable.
    pub(super) under: LogUnder,
    /// Where apply and checkpoints show that they get further.
    pub(super) life: Arc<Life>,
    /// Who hears of what is applied.
    pub(super) observer: OnceLock<Arc<dyn Observer>>,
    /// How far the pages that the file had when it was opened are verified.
    pub(super) verification: Verification,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) active: Overlay,
    /// When the first change of `active` came.
    pub(super) active_since: Option<Instant>,
    pub(super) frozen: Option<Arc<Overlay>>,
    /// What apply need not look for in the file.
    pub(super) at_hand: AtHand,
    /// What the file holds.
    pub(super) view: Arc<FileView>,
    pub(super) position: Position,
    /// The last entry that the file covers.
    pub(super) durable: LogId,
    /// When it came to hold that.
    pub(super) since: Instant,
    /// How often a snapshot took the state's place.
    pub(super) installs: u64,
    pub(super) hashes: StateHashes,
}

impl State {
    /// Opens the file at `path`, or makes it. With `space` its ballast gives way to writes that find no room.
    pub fn open(
        path: &Path,
        space: Option<&Arc<Space>>,
        options: &StateOptions,
    ) -> Result<State, StoreError> {
        let coalesce = Coalesce::default();
        let (cache, what) = (options.cache_bytes, "state");
        let opened = match options.verify {
            Verify::AtOpen => (files::open(path, space, &coalesce, cache, what)?, None),
            Verify::Later => files::open_unverified(path, space, &coalesce, cache, what)?,
        };
        let state = State::with_database(opened, coalesce, &path.display().to_string(), options)?;
        let life = space.map(|space| space.life().clone()).unwrap_or_default();
        Ok(State { file: space.is_some().then(|| path.to_path_buf()), life, ..state })
    }

    /// Opens the file that a backend stands for.
    pub fn open_backend(
        backend: impl StorageBackend,
        options: &StateOptions,
    ) -> Result<State, StoreError> {
        let coalesce = Coalesce::default();
        let (cache, what) = (options.cache_bytes, "state");
        let opened = match options.verify {
            Verify::AtOpen => (files::open_backend(backend, &coalesce, cache, what)?, None),
            Verify::Later => files::open_backend_unverified(backend, &coalesce, cache, what)?,
        };
        State::with_database(opened, coalesce, what, options)
    }

    fn with_database(
        (db, walk): (Database, Option<Walk>),
        coalesce: Coalesce,
        path: &str,
        options: &StateOptions,
    ) -> Result<State, StoreError> {
        let verification = Verification::begin(&db, walk)?;
        checkpoint::open(&db, path)?;
        let view = Arc::new(FileView::open(&db, options.highest)?);
        let access = ArcSwap::new(view.position.counters.access.clone());
        let shared = Shared {
            active: Overlay::default(),
            active_since: None,
            frozen: None,
            at_hand: AtHand::nothing(options.rows_bytes),
            durable: view.position.applied,
            position: view.position.clone(),
            view,
            since: Instant::now(),
            installs: 0,
            hashes: StateHashes::default(),
        };
        Ok(State {
            db,
            options: options.clone(),
            shared: RwLock::new(shared),
            access,
            writing: Mutex::new(()),
            coalesce,
            file: None,
            receiving: AtomicBool::new(false),
            put_off: AtomicBool::new(false),
            wanted: AtomicBool::new(false),
            pins: Pins::default(),
            under: LogUnder::default(),
            life: Arc::default(),
            observer: OnceLock::new(),
            verification,
        })
    }

    /// What the file holds.
    pub(in crate::store) fn view(&self) -> Arc<FileView> {
        self.shared.read().view.clone()
    }

    /// The memory that what is applied and not yet in the file takes, in bytes, roughly.
    pub fn unstored_bytes(&self) -> usize {
        let shared = self.shared.read();
        shared.active.bytes + shared.frozen.as_ref().map_or(0, |frozen| frozen.bytes)
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

    /// The cluster's clock, in milliseconds: as of the last entry applied.
    pub fn clock_ms(&self) -> u64 {
        self.shared.read().position.counters.clock_ms
    }

    /// The cluster's feature level, as of the last entry applied.
    pub fn level(&self) -> FeatureLevel {
        self.shared.read().position.counters.level
    }

    /// The settings that the cluster has agreed on, as of the last entry applied; none before it did.
    pub fn settings(&self) -> Option<Settings> {
        self.shared.read().position.counters.settings
    }

    /// Who may do what, as of the last entry applied.
    pub fn access(&self) -> Arc<Access> {
        self.access.load_full()
    }

    /// The highest feature level that this node knows.
    pub fn highest(&self) -> FeatureLevel {
        self.options.highest
    }

    /// The last entry applied and the hash chained over every change up to it: equal on all replicas
    /// at the same entry.
    pub fn hash(&self) -> (LogId, u64) {
        let shared = self.shared.read();
        (shared.position.applied, shared.position.counters.hash)
    }

    /// The hash at some of the indexes that this process has applied, in order.
    pub fn state_hashes(&self) -> Vec<HashAt> {
        self.shared.read().hashes.all()
    }

    /// The newest membership that was applied, and its index.
    pub fn membership(&self) -> Option<(Index, Membership)> {
        self.shared.read().position.membership.clone()
    }

    /// Verifies pages of the file that were there when it was opened, of so many bytes or a few more, whatever else is done with it
    /// meanwhile; whether others are left.
    pub fn verify(&self, bytes: u64) -> Result<bool, StoreError> {
        self.verification.step(bytes)
    }

    /// How far the pages that the file had when it was opened are verified.
    pub fn verified(&self) -> Verified {
        self.verification.progress()
    }

    /// The damage that was found in the file since it was opened, whoever met it.
    pub fn damage(&self) -> Option<StoreError> {
        self.verification.damage()
    }

    /// Sets who hears of what is applied; the first one stays.
    pub fn observe(&self, observer: Arc<dyn Observer>) {
        // Nobody else does.
        let _ = self.observer.set(observer);
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;

#[cfg(test)]
#[path = "crash_tests.rs"]
mod crash_tests;

#[cfg(test)]
#[path = "fault_tests.rs"]
mod fault_tests;
