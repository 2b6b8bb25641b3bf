//! The thread that writes checkpoints.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use super::core::State;
use super::sweep::Budget;
use crate::raft::LogId;
use crate::store::disk::space::{Purpose, Space};
use crate::store::error::StoreError;

/// Writes a checkpoint whenever one is due, and a last one when it is stopped.
#[derive(Debug)]
pub struct Checkpointer {
    state: Arc<State>,
    /// Holds at most the one request that is waiting.
    wake: Option<mpsc::SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Checkpointer {
    /// Starts the thread. `done` hears of each checkpoint: what it covers, or why it failed, which is final.
    /// One for which there is no room is put off.
    pub fn spawn(
        state: Arc<State>,
        space: Arc<Space>,
        done: impl Fn(Result<LogId, StoreError>) + Send + 'static,
    ) -> io::Result<Checkpointer> {
        let (wake, woken) = mpsc::sync_channel(1);
        let worker = state.clone();
        let thread = thread::Builder::new().name("checkpoint".to_owned()).spawn(move || {
            let work = || {
                while woken.recv().is_ok() {
                    if !write(&worker, &space, &done) {
                        return;
                    }
                }
                // The next start has less to replay.
                write(&worker, &space, &done);
            };
            let ended = catch_unwind(AssertUnwindSafe(work));
            space.life().checkpoint.rest();
            if let Err(panic) = ended {
                done(Err(StoreError::ended("checkpoint", &*panic)));
            }
        })?;
        Ok(Checkpointer { state, wake: Some(wake), thread: Some(thread) })
    }

    /// Wakes the thread if a checkpoint is due. Never blocks.
    pub fn poll(&self) {
        if self.state.checkpoint_due()
            && let Some(wake) = &self.wake
        {
            // A full channel means that the thread will look anyway.
            let _ = wake.try_send(());
        }
    }

    /// Writes what is left and ends the thread.
    pub fn stop(&mut self) {
        self.wake = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the checkpoint thread panicked");
        }
    }
}

/// Whether to go on.
fn write(state: &State, space: &Arc<Space>, done: &impl Fn(Result<LogId, StoreError>)) -> bool {
    let mut bytes = state.checkpoint_bytes();
    let room = space.reserve(bytes, Purpose::Bulk);
    // What makes room may use some of what is kept. If it takes more than half of that, it waits like others.
    let in_need = room.is_none() && state.frees();
    if in_need {
        bytes = bytes.saturating_add(Budget::in_need_bytes());
    }
    let need = || space.reserve(bytes, Purpose::Freeing);
    let room = room.or_else(|| in_need.then(need).flatten());
    space.set_cramped(room.is_none().then_some(bytes));
    state.put_off(room.is_none());
    // It is still due at the next poll.
    let Some(mut room) = room else { return true };
    let Some(frozen) = state.freeze() else { return true };
    if !state.log_holds(&frozen) {
        // The log may be waiting for this very room.
        drop(room);
        // One that will not get there has failed, and the node with it.
        if !state.await_log(&frozen) {
            return false;
        }
        let purpose = if in_need { Purpose::Freeing } else { Purpose::Bulk };
        let Some(again) = space.reserve(bytes, purpose) else {
            space.set_cramped(Some(bytes));
            state.put_off(true);
            state.thaw(frozen);
            return true;
        };
        room = again;
    }
    let pulse = &space.life().checkpoint;
    pulse.beat();
    // A panic must stop the node as any failure does: without checkpoints apply would wait for ever.
    let write = || match in_need {
        true => state.write_within(frozen, Budget::in_need()),
        false => state.write_checkpoint(frozen),
    };
    let began = Instant::now();
    let result = catch_unwind(AssertUnwindSafe(write))
        .unwrap_or_else(|_| Err(StoreError::panicked("state")));
    space.life().tally.checkpoint_time.observe_time(began.elapsed());
    pulse.rest();
    drop(room);
    let well = result.is_ok();
    done(result);
    well
}

#[cfg(test)]
#[path = "checkpointer_tests.rs"]
mod tests;
