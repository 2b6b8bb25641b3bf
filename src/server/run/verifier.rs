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

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::fs::FileExt;
    use std::path::Path;

    use super::super::mailbox::Mail;
    use super::*;
    use crate::kv::{Command, Write};
    use crate::raft::{Entry, Index, LogId, Payload, Term};
    use crate::store::{StateOptions, Verify};

    const VALUE_BYTES: usize = 200 << 10;

    /// A state of some MiB that a node has just opened.
    fn opened(path: &Path) -> Arc<State> {
        let state = State::open(path, None, &StateOptions::default()).unwrap();
        let entry = |index: u64| {
            let write = Write::put(format!("key {index}").into(), vec![b'v'; VALUE_BYTES].into());
            let payload = Payload::Command(Command::new(write).encode());
            Entry { id: LogId::new(Term(1), Index(index)), payload }
        };
        state.apply(&(1..=40).map(entry).collect::<Vec<_>>()).unwrap();
        state.write_checkpoint(state.freeze().unwrap()).unwrap();
        drop(state);
        let options = StateOptions { verify: Verify::Later, ..StateOptions::default() };
        Arc::new(State::open(path, None, &options).unwrap())
    }

    #[test]
    fn all_is_verified_and_no_faster_than_leaves_the_disk_to_others() {
        let dir = tempfile::tempdir().unwrap();
        let state = opened(&dir.path().join("state"));
        let (began, mailbox) = (Instant::now(), Arc::default());
        let mut verifier = Verifier::start(state.clone(), &mailbox).unwrap();
        verifier.thread.take().unwrap().join().unwrap();
        let verified = state.verified();
        assert!(verified.ended.is_some() && verified.verified_bytes > 8 << 20, "{verified:?}");
        // A stride is at most a page longer, and there is no pause after the last one.
        let strides = verified.verified_bytes / (STRIDE_BYTES + (256 << 10));
        assert!(began.elapsed() >= STRIDE * u32::try_from(strides - 1).unwrap());
        assert!(verifier.stop().is_none());
        let again = Verifier::start(state, &mailbox).unwrap();
        assert!(again.thread.is_none(), "nothing is left");
    }

    #[test]
    fn whoever_stops_it_waits_for_a_stride_at_most() {
        let dir = tempfile::tempdir().unwrap();
        let state = opened(&dir.path().join("state"));
        let before = state.verified().verified_bytes;
        let (stop, stopped) = mpsc::channel();
        drop(stop);
        run(&state, &stopped).unwrap();
        let verified = state.verified();
        assert_eq!(verified.ended, None);
        let stride = before + STRIDE_BYTES..before + STRIDE_BYTES + (256 << 10);
        assert!(stride.contains(&verified.verified_bytes), "{verified:?}");
    }

    #[test]
    fn damage_that_comes_while_the_node_runs_stops_it_with_the_page() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        let state = opened(&path);
        let bytes = fs::read(&path).unwrap();
        let value = bytes.windows(VALUE_BYTES / 2).position(|part| part.iter().all(|&b| b == b'v'));
        let file = File::options().write(true).open(&path).unwrap();
        file.write_all_at(b"w", value.unwrap() as u64).unwrap();
        let mailbox = Arc::new(Mailbox::default());
        let mut verifier = Verifier::start(state.clone(), &mailbox).unwrap();
        verifier.thread.take().unwrap().join().unwrap();
        let mut mail = Mail::default();
        mailbox.take(&mut mail, true);
        let told = mail.failed.map(|error| error.to_string()).unwrap();
        assert!(told.starts_with("the state is damaged: the page at byte "), "{told}");
        assert!(told.contains(path.to_str().unwrap()), "{told}");
        assert_eq!(verifier.stop().map(|damage| damage.to_string()), Some(told));
    }
}
