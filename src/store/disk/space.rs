//! The room on the file system of a data directory.
//!
//! A commit that meets a full disk stops the node, so none begins that does not fit. And since somebody else
//! may fill the disk, a part of the room is held by a file, the ballast. It gives way, as much as is needed,
//! to what must go on: votes, above all, and the entries that were on their way when the disk filled up.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;
use std::{fmt, io, thread};

use parking_lot::Mutex;
use rustix::fs::{FallocateFlags, fallocate, fstatvfs};
use rustix::process::{Resource, getrlimit};

use crate::raft::{Entry, LogWrite, Payload};
use crate::store::error::StoreError;
use crate::store::life::Life;
use crate::store::paths;

const BALLAST_FILE: &str = "ballast";
/// What a commit writes besides its rows: inner pages, redb's own tables. An estimate.
const COMMIT_BYTES: u64 = 512 << 10;
/// How many bytes of the file a byte of an entry takes: pages are half full at worst, and what is larger than
/// one takes the next power of two. An estimate.
const ENTRY_FACTOR: u64 = 3;
/// What opening or closing both files writes. An estimate.
const OPENING_BYTES: u64 = 1 << 20;
/// The ballast shrinks in steps of this.
const STEP_BYTES: u64 = 64 << 10;
/// How often the thread looks.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How much is at stake: the less, the more room has to stay behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Terms, votes and the cluster's own entries. May use up the whole ballast.
    Vital,
    /// Entries with clients' commands. A quarter of the ballast stays.
    Entries,
    /// Checkpoints that make room, in time: of deletions, and of what compaction hides. Half of the ballast stays.
    Freeing,
    /// Other checkpoints, and snapshots, which can wait. The ballast stays.
    Bulk,
    /// What only makes things faster. It leaves more than the room below which the disk counts as low.
    Optional,
}

/// The room on a file system, and who is about to use it.
pub struct Space {
    disk: Box<dyn Disk>,
    wanted: u64,
    ballast_max: u64,
    account: Mutex<Account>,
    low: AtomicBool,
    /// How many bytes a checkpoint may write that does not fit, however much room there is; 0 if there is none.
    cramped: AtomicU64,
    /// The room as it was seen last, but for the ballast.
    spare: AtomicU64,
    entries_max: AtomicU64,
    life: Arc<Life>,
}

#[derive(Debug, Default)]
struct Account {
    ballast: u64,
    reserved: u64,
    failed: bool,
}

/// What a file system does and tells.
trait Disk: Send + Sync {
    /// Bytes that can be written.
    fn free(&self) -> io::Result<u64>;
    /// Makes the ballast so large.
    fn set_ballast(&self, bytes: u64) -> io::Result<()>;
}

/// Room that a commit may use; given back when dropped.
#[derive(Debug)]
pub struct Reserved {
    space: Arc<Space>,
    bytes: u64,
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.space.account.lock().reserved -= self.bytes;
    }
}

impl fmt::Debug for Space {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Space").field("account", &self.account).finish_non_exhaustive()
    }
}

impl Space {
    /// Looks after the file system of `dir`, which is low on room below `wanted` bytes. A quarter of that is
    /// the ballast.
    pub fn open(dir: &Path, wanted: u64) -> Result<Arc<Space>, StoreError> {
        Space::open_with(dir, wanted, Arc::default())
    }

    /// As [`Space::open`]; who works with the disk shows in `life` that it gets further.
    pub fn open_with(dir: &Path, wanted: u64, life: Arc<Life>) -> Result<Arc<Space>, StoreError> {
        let path = dir.join(BALLAST_FILE);
        let opened = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .and_then(|file| Ok((file.metadata()?, file)));
        let (found, file) =
            opened.map_err(|error| StoreError::io(BALLAST_FILE, "open", &path, error))?;
        let largest = getrlimit(Resource::Fsize).current;
        let files = [paths::LOG, paths::WAL, paths::STATE].map(|name| dir.join(name));
        let space = Space::new(Box::new(Directory { ballast: file, files, largest }), wanted, life);
        // A copy of the directory may have it with holes.
        let whole = found.blocks().saturating_mul(512) >= found.len();
        let bytes = if whole { found.len().min(space.ballast_max) } else { 0 };
        let set = space.disk.set_ballast(bytes);
        set.map_err(|error| StoreError::io(BALLAST_FILE, "shorten", &path, error))?;
        space.account.lock().ballast = bytes;
        space.look();
        Ok(space)
    }

    fn new(disk: Box<dyn Disk>, wanted: u64, life: Arc<Life>) -> Arc<Space> {
        Arc::new(Space {
            disk,
            wanted,
            ballast_max: wanted / 4,
            account: Mutex::default(),
            low: AtomicBool::new(false),
            cramped: AtomicU64::new(0),
            spare: AtomicU64::new(u64::MAX),
            entries_max: AtomicU64::new(u64::MAX),
            life,
        })
    }

    /// Where those who work with the disk show that they get further.
    pub fn life(&self) -> &Arc<Life> {
        &self.life
    }

    /// Looks every now and then, on a thread of its own, until the watch is dropped. `failed` hears of a panic,
    /// after which nobody looks any more.
    pub fn watch(
        self: &Arc<Space>,
        failed: impl FnOnce(StoreError) + Send + 'static,
    ) -> io::Result<SpaceWatch> {
        let (stop, stopped) = mpsc::channel();
        let space = self.clone();
        thread::Builder::new().name("space".to_owned()).spawn(move || {
            let looks = || {
                while let Err(mpsc::RecvTimeoutError::Timeout) = stopped.recv_timeout(LOOK_EVERY) {
                    space.life.space.beat();
                    space.look();
                }
            };
            let ended = catch_unwind(AssertUnwindSafe(looks));
            space.life.space.rest();
            if let Err(panic) = ended {
                failed(StoreError::ended("space", &*panic));
            }
        })?;
        Ok(SpaceWatch { _stop: stop })
    }

    /// Looks how much room there is, and makes the ballast whole again if there is enough.
    pub fn look(&self) {
        let mut account = self.account.lock();
        let free = self.free(&mut account);
        self.judge(&account, free);
        if !self.low.load(Ordering::Relaxed) && account.ballast < self.ballast_max {
            match self.disk.set_ballast(self.ballast_max) {
                Ok(()) => account.ballast = self.ballast_max,
                // It may have been made in part. If there is none, all that it would hold is kept free.
                Err(error) => {
                    tracing::debug!(%error, "the ballast cannot be made");
                    let _ = self.disk.set_ballast(account.ballast);
                }
            }
        }
    }

    /// Whether there is less room than wanted, or a checkpoint does not fit.
    pub fn is_low(&self) -> bool {
        self.low.load(Ordering::Relaxed) || self.cramped.load(Ordering::Relaxed) > 0
    }

    /// What there is too little room for, if there is, for whoever has to make some.
    pub fn shortage(&self) -> Option<String> {
        let mib = |bytes: u64| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20));
        let spare = mib(self.spare.load(Ordering::Relaxed));
        let kept = mib(self.ballast_max);
        match self.cramped.load(Ordering::Relaxed) {
            0 => self.low.load(Ordering::Relaxed).then(|| {
                format!(
                    "little room on the disk: {spare} are free beside the {kept} that are kept for votes and \
                     deletions, limits.freeSpace wants {}",
                    mib(self.wanted)
                )
            }),
            bytes => Some(format!(
                "no room on the disk for the next checkpoint, which may write up to {}: {spare} are free beside the \
                 {kept} that are kept for votes and deletions",
                mib(bytes)
            )),
        }
    }

    /// The room as it was seen last, in bytes, beside what is kept for votes and deletions.
    pub fn spare_bytes(&self) -> u64 {
        self.spare.load(Ordering::Relaxed)
    }

    /// How many bytes of entries there is room for.
    pub fn entries_max(&self) -> u64 {
        self.entries_max.load(Ordering::Relaxed)
    }

    /// Says how many bytes a checkpoint that is due may write, if it has to wait for room.
    pub(in crate::store) fn set_cramped(&self, bytes: Option<u64>) {
        let before = self.cramped.swap(bytes.unwrap_or(0), Ordering::Relaxed);
        match bytes {
            Some(wanted_bytes) if before == 0 => {
                let free_bytes = self.spare.load(Ordering::Relaxed);
                tracing::warn!(
                    free_bytes,
                    wanted_bytes,
                    "a checkpoint has to wait: there is no room for it on the disk; until there is, this node leads \
                     only if no other can, and then refuses clients' writes"
                );
            }
            None if before > 0 => tracing::info!("there is room for checkpoints again"),
            Some(_) | None => {}
        }
    }

    /// Room for a commit that writes `bytes`, if there is so much; the ballast gives way if it may.
    pub fn reserve(self: &Arc<Space>, bytes: u64, purpose: Purpose) -> Option<Reserved> {
        let mut account = self.account.lock();
        let free = self.free(&mut account);
        self.judge(&account, free);
        if bytes > self.available(&account, free, purpose) {
            return None;
        }
        let lacking = (account.reserved + bytes).saturating_sub(free);
        if lacking > 0 {
            let ballast = account.ballast.saturating_sub(lacking.next_multiple_of(STEP_BYTES));
            if let Err(error) = self.disk.set_ballast(ballast) {
                tracing::warn!(%error, "the ballast does not give way");
                return None;
            }
            account.ballast = ballast;
        }
        account.reserved += bytes;
        Some(Reserved { space: self.clone(), bytes })
    }

    /// Makes room for a write of `bytes` that found none, whatever was estimated. False if the ballast is gone.
    pub(in crate::store) fn release_ballast(&self, bytes: u64) -> bool {
        let mut account = self.account.lock();
        let less = account.ballast.saturating_sub(bytes.max(1).next_multiple_of(STEP_BYTES));
        if account.ballast == 0 || self.disk.set_ballast(less).is_err() {
            return false;
        }
        account.ballast = less;
        true
    }

    /// Room for opening or closing the files. Without it that is tried all the same.
    pub fn make_way(self: &Arc<Space>) -> Option<Reserved> {
        self.reserve(OPENING_BYTES, Purpose::Vital)
    }

    fn free(&self, account: &mut Account) -> u64 {
        match self.disk.free() {
            Ok(free) => {
                account.failed = false;
                free
            }
            // Then it shows in the commits.
            Err(error) => {
                if !std::mem::replace(&mut account.failed, true) {
                    tracing::warn!(%error, "the file system does not tell how much room there is");
                }
                u64::MAX
            }
        }
    }

    fn available(&self, account: &Account, free: u64, purpose: Purpose) -> u64 {
        let stays = match purpose {
            Purpose::Vital => 0,
            Purpose::Entries => self.ballast_max / 4,
            Purpose::Freeing => self.ballast_max / 2,
            Purpose::Bulk => self.ballast_max,
            Purpose::Optional => self.ballast_max + self.enough(),
        };
        free.saturating_add(account.ballast).saturating_sub(stays).saturating_sub(account.reserved)
    }

    /// From how much room on a disk that was low does not count as that any more: an eighth more than below which it does,
    /// so that it does not change all the time.
    fn enough(&self) -> u64 {
        self.wanted + self.wanted / 8
    }

    fn judge(&self, account: &Account, free: u64) {
        let entries = self.available(account, free, Purpose::Entries);
        let entries = entries.saturating_sub(COMMIT_BYTES) / ENTRY_FACTOR;
        self.entries_max.store(entries, Ordering::Relaxed);
        // As if the ballast were whole.
        let spare = free.saturating_add(account.ballast).saturating_sub(self.ballast_max);
        self.spare.store(spare, Ordering::Relaxed);
        let was_low = self.low.load(Ordering::Relaxed);
        let wanted = if was_low { self.enough() } else { self.wanted };
        let low = spare < wanted;
        self.low.store(low, Ordering::Relaxed);
        if low && !was_low {
            tracing::warn!(
                free_bytes = spare,
                wanted_bytes = self.wanted,
                "little room on the disk: until there is more, this node leads only if no other can, and \
                 then refuses clients' writes"
            );
        } else if was_low && !low {
            tracing::info!(free_bytes = spare, "there is room on the disk again");
        }
    }
}

/// Ends the thread that looks when it is dropped.
#[derive(Debug)]
pub struct SpaceWatch {
    _stop: mpsc::Sender<()>,
}

/// For what these writes are.
pub(in crate::store) fn purpose_of(writes: &[LogWrite]) -> Purpose {
    let clients = writes.iter().any(|write| write.entries.iter().any(is_clients));
    if clients { Purpose::Entries } else { Purpose::Vital }
}

/// What a commit of entries of so many bytes to the log's database may write.
pub(in crate::store) fn log_settlement(bytes: u64) -> u64 {
    COMMIT_BYTES + bytes.saturating_mul(ENTRY_FACTOR)
}

/// What a commit of rows that take `bytes`, and change so many bytes of pages elsewhere, may write.
pub(in crate::store) fn state_commit(bytes: u64, pages_bytes: u64) -> u64 {
    COMMIT_BYTES.saturating_add(bytes.saturating_mul(2)).saturating_add(pages_bytes)
}

/// The bytes of entries in a write.
pub(in crate::store) fn entry_bytes(write: &LogWrite) -> u64 {
    write.entries.iter().map(|entry| entry.cost_bytes() as u64).sum()
}

fn is_clients(entry: &Entry) -> bool {
    matches!(entry.payload, Payload::Command(_))
}

/// A real one, seen through the ballast.
struct Directory {
    ballast: File,
    /// The files that grow.
    files: [PathBuf; 3],
    /// How large a file of this process may become, if there is a limit.
    largest: Option<u64>,
}

impl Disk for Directory {
    fn free(&self) -> io::Result<u64> {
        let told = fstatvfs(&self.ballast)?;
        let free = told.f_bavail.saturating_mul(told.f_frsize);
        let Some(largest) = self.largest else { return Ok(free) };
        // One that is not there yet is empty.
        let length = |file: &PathBuf| std::fs::metadata(file).map_or(0, |found| found.len());
        let left = self.files.iter().map(|file| largest.saturating_sub(length(file)));
        Ok(left.fold(free, u64::min))
    }

    fn set_ballast(&self, bytes: u64) -> io::Result<()> {
        // Some file systems need room even for what is there already.
        if bytes > self.ballast.metadata()?.len() {
            fallocate(&self.ballast, FallocateFlags::empty(), 0, bytes)?;
        }
        self.ballast.set_len(bytes)
    }
}

#[cfg(test)]
#[path = "space_tests.rs"]
pub(in crate::store) mod tests;
