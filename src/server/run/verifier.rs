//! Verifying the state's file while the node serves, from its start on, and so that others hardly feel it.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::background;
use super::mailbox::Mailbox;
use super::watched;
use crate::store::{State, StoreError};

/// How much is verified at once.
const STRIDE_BYTES: u64 = 1 << 20;
/// How long that takes at least: 64 MiB a second are half of what a modest disk reads, and 16 s for a gigabyte.
const STRIDE: Duration = Duration::from_micros(15_625);

/// The thread that does it. It ends by itself, or when this is stopped or dropped.
#[derive(Debug)]
pub(crate) struct Verifier {
    state: Arc<State>,
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Verifier {
    /// Starts it, unless nothing is left to be verified. Damage stops the node.
    pub(crate) fn start(state: Arc<State>, mailbox: &Arc<Mailbox>) -> io::Result<Verifier> {
        if state.verified().ended.is_some() {
            return Ok(Verifier { state, stop: None, thread: None });
        }
        let (stop, stopped) = mpsc::channel();
        let thread = watched::thread("verify", mailbox.clone(), {
            let (state, mailbox) = (state.clone(), mailbox.clone());
            move || {
                if let Err(error) = run(&state, &stopped) {
                    mailbox.fail(error);
                }
            }
        })?;
        Ok(Verifier { state, stop: Some(stop), thread: Some(thread) })
    }

    /// Ends the thread; the damage that was found in the file, by whomever.
    pub(crate) fn stop(&mut self) -> Option<StoreError> {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // If it panicked, that was told.
            let _ = thread.join();
        }
        self.state.damage()
    }
}

impl Drop for Verifier {
    fn drop(&mut self) {
        let _ = self.stop();
    }
}

fn run(state: &State, stopped: &mpsc::Receiver<()>) -> Result<(), StoreError> {
    background::lower_priority();
    let began = Instant::now();
    loop {
        let stride = Instant::now();
        if !state.verify(STRIDE_BYTES)? {
            let bytes = state.verified().verified_bytes;
            tracing::info!(bytes, took = ?began.elapsed(), "the state's file is verified");
            return Ok(());
        }
        let pause = STRIDE.saturating_sub(stride.elapsed());
        match stopped.recv_timeout(pause) {
            Err(RecvTimeoutError::Timeout) => {}
            Ok(()) | Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
    }
}
