//! Verifying the pages of the state's file that were there when it was opened, beside all that is done with it.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use parking_lot::Mutex;
use redb::{Database, ReadTransaction, ReadableDatabase};

use crate::store::disk::checks::Checks;
use crate::store::disk::walk::Walk;
use crate::store::error::{StoreError, state_failed as failed};

/// How far the verification of the state's file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verified {
    /// The bytes of pages that were verified.
    pub verified_bytes: u64,
    /// How many bytes of pages there are at most; exactly, once it has ended.
    pub of_bytes: u64,
    /// When it began.
    pub since: Instant,
    /// When it ended; none while it is under way.
    pub ended: Option<SystemTime>,
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Verification {
    /// None once it has ended.
    running: Mutex<Option<Running>>,
    /// None if all was verified when the file was opened.
    checks: Option<Arc<Checks>>,
    progress: Mutex<Verified>,
}

#[derive(Debug)]
struct Running {
    walk: Walk,
    /// As long as it is there, redb puts nothing in the place of the pages that are still to be verified.
    _pin: ReadTransaction,
}

impl Verification {
    /// Begins it, if there is a walk to go: before anything is written to the file.
    pub(super) fn begin(db: &Database, walk: Option<Walk>) -> Result<Verification, StoreError> {
        let (verified_bytes, of_bytes) = walk.as_ref().map_or((0, 0), Walk::progress);
        let ended = walk.is_none().then(SystemTime::now);
        let progress = Verified { verified_bytes, of_bytes, since: Instant::now(), ended };
        let checks = walk.as_ref().map(|walk| walk.checks().clone());
        let running = match walk {
            Some(walk) => Some(Running { walk, _pin: db.begin_read().map_err(failed)? }),
            None => None,
        };
        Ok(Verification { running: Mutex::new(running), checks, progress: Mutex::new(progress) })
    }

    /// Verifies pages of so many bytes, or a few more; whether others are left.
    pub(super) fn step(&self, bytes: u64) -> Result<bool, StoreError> {
        let mut running = self.running.lock();
        let Some(Running { walk, .. }) = &mut *running else { return Ok(false) };
        let more = walk.step(bytes, "state")?;
        let mut progress = self.progress.lock();
        progress.verified_bytes = walk.progress().0;
        drop(progress);
        if !more {
            if let Some(checks) = &self.checks {
                checks.end();
            }
            self.ended(running.take());
        }
        Ok(more)
    }

    /// Ends it early: nothing of what was to be verified is in use any more, but for those that began to read before. These still have
    /// each page verified.
    pub(super) fn end(&self) {
        let running = self.running.lock().take();
        self.ended(running);
    }

    fn ended(&self, running: Option<Running>) {
        if running.is_none() {
            return;
        }
        let mut progress = self.progress.lock();
        progress.of_bytes = progress.verified_bytes;
        progress.ended = Some(SystemTime::now());
    }

    /// How far it is.
    pub(super) fn progress(&self) -> Verified {
        *self.progress.lock()
    }

    /// The damage that was found, be it by whoever read a page.
    pub(super) fn damage(&self) -> Option<StoreError> {
        let found = self.checks.as_ref()?.damage()?;
        Some(StoreError::damaged("state", found))
    }
}
