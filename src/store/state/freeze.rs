//! When the state is written down: a checkpoint freezes the overlay, waits for the log under it, and is written.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::checkpoint::{self, Frozen};
use super::core::{State, StateOptions};
use super::overlay::Overlay;
use super::sweep::Budget;
use super::view::FileView;
use crate::raft::{Index, LogId};
use crate::store::disk::backend;
use crate::store::disk::space;
use crate::store::error::StoreError;

impl State {
    /// Whether apply has to wait for a checkpoint to end, or for one that is put off.
    pub fn overlay_full(&self) -> bool {
        let shared = self.shared.read();
        let waits = shared.frozen.is_some() || self.put_off.load(Ordering::Relaxed);
        waits && self.overlay_bytes(&shared.active) > 2 * self.options.overlay_bytes
    }

    /// What an overlay takes in memory, and what the rows at hand take for it beyond their own room.
    pub(super) fn overlay_bytes(&self, overlay: &Overlay) -> usize {
        overlay.bytes_beyond(self.options.rows_bytes)
    }

    /// Whether what is applied and not in the file takes as much memory as a checkpoint should leave.
    pub(in crate::store) fn overlay_large(&self) -> bool {
        self.overlay_bytes(&self.shared.read().active) >= self.options.overlay_bytes
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
        let (overlay, view) = (&shared.active, shared.view.clone());
        let bytes = overlay.bytes as u64;
        // Revisions come in order; keys are anywhere, each on a page of its own at worst.
        let pages = (overlay.keys.len() as u64).saturating_mul(backend::PAGE_BYTES as u64);
        drop(shared);
        space::state_commit(bytes, pages.min(view.keys_bytes()))
    }

    /// Whether a checkpoint would make room, in time: what is deleted goes once compaction reaches it.
    pub(super) fn frees(&self) -> bool {
        let shared = self.shared.read();
        let stored = &shared.view.position.counters;
        shared.active.deletions > 0
            || shared.view.is_unswept(&self.pins)
            || shared.position.counters.compacted > stored.compacted
    }

    /// Whether it is time for a checkpoint.
    pub fn checkpoint_due(&self) -> bool {
        let shared = self.shared.read();
        let StateOptions { overlay_bytes, checkpoint_age, sweep_pause, .. } = self.options;
        let aged = shared.active_since.is_some_and(|since| since.elapsed() >= checkpoint_age);
        let due = self.wanted.load(Ordering::Acquire)
            || self.overlay_bytes(&shared.active) >= overlay_bytes;
        let sweeps = || shared.view.is_unswept(&self.pins) && shared.since.elapsed() >= sweep_pause;
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
        if complete && !shared.view.is_unswept(&self.pins) {
            return None;
        }
        let overlay = Arc::new(std::mem::take(&mut shared.active));
        shared.active_since = None;
        shared.frozen = Some(overlay.clone());
        let (position, installs) = (shared.position.clone(), shared.installs);
        Some(Frozen { overlay, number: shared.at_hand.frozen(), position, installs })
    }

    /// Everything up to `index` is durable in the log, as it is applied: checkpoints may cover it.
    pub fn log_reached(&self, index: Index) {
        self.under.reached(index);
    }

    /// The log will not grow any more: no checkpoint waits for it.
    pub fn log_ended(&self) {
        self.under.ended();
    }

    /// Whether the log under a checkpoint is durable, so that it may be written.
    pub fn log_holds(&self, frozen: &Frozen) -> bool {
        self.under.holds(frozen.applied().index)
    }

    /// Waits until the log under a checkpoint is durable; false if it will not be.
    pub(super) fn await_log(&self, frozen: &Frozen) -> bool {
        self.under.wait(frozen.applied().index)
    }

    /// Gives a checkpoint up that cannot be written now: what was frozen is part of the next one.
    pub(super) fn thaw(&self, frozen: Frozen) {
        let mut shared = self.shared.write();
        // A snapshot has overtaken it.
        if shared.installs != frozen.installs {
            return;
        }
        drop(frozen);
        let Some(overlay) = shared.frozen.take() else { return };
        let newer = std::mem::replace(&mut shared.active, Arc::unwrap_or_clone(overlay));
        shared.active.absorb(newer);
        shared.active_since.get_or_insert_with(Instant::now);
    }

    /// Ends a checkpoint: writes what was frozen; durable when it returns. The log under it must be durable. An error
    /// is final. One that a snapshot has overtaken is dropped. What the file holds then.
    pub fn write_checkpoint(&self, frozen: Frozen) -> Result<LogId, StoreError> {
        let budget = Budget::beside(&frozen.overlay, self.options.sweep_rows);
        self.write_within(frozen, budget)
    }

    /// The same, and no more of what compaction hides is removed than the budget says.
    pub(super) fn write_within(&self, frozen: Frozen, budget: Budget) -> Result<LogId, StoreError> {
        let _alone = self.writing.lock();
        let overtaken = self.shared.read().installs != frozen.installs;
        if overtaken {
            return Ok(self.durable());
        }
        let compacted = self.pins.bound(frozen.position.counters.compacted);
        checkpoint::write(&self.db, &frozen, compacted, budget, &self.life.checkpoint)?;
        let view = Arc::new(FileView::open(&self.db, self.options.highest)?);
        let applied = frozen.applied();
        let mut shared = self.shared.write();
        let old = (shared.frozen.take(), std::mem::replace(&mut shared.view, view));
        shared.at_hand.checkpointed(frozen.number);
        shared.durable = applied;
        shared.since = Instant::now();
        drop(shared);
        // Freeing a large overlay takes a while, and nobody need wait for it.
        drop((old, frozen));
        Ok(applied)
    }
}
