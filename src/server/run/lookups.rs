//! The thread that looks up for apply what is in a file: it may wait for the disk, and the replica's thread may not.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

use super::event::Notice;
use super::mailbox::Mailbox;
use crate::raft::Entry;
use crate::replica::{LookedUp, Lookup};
use crate::store::{Life, LogReader, State, StoreError};

/// The most lookups ahead that wait: what is beyond them is looked up once apply waits for it.
const AHEAD_MAX: usize = 64;

/// The way to the thread, which ends when this is dropped.
#[derive(Debug)]
pub(super) struct Lookups {
    wanted: mpsc::Sender<Lookup>,
    ahead: Arc<AtomicUsize>,
}

impl Lookups {
    /// A way to a thread that is to run the other part.
    pub(super) fn new() -> (Lookups, Incoming) {
        let (wanted, incoming) = mpsc::channel();
        let ahead = Arc::new(AtomicUsize::new(0));
        (Lookups { wanted, ahead: ahead.clone() }, Incoming { incoming, ahead })
    }

    /// Lets the thread look something up. Apply waits for one lookup of rows and one of entries at most.
    pub(super) fn submit(&self, lookup: Lookup) {
        if matches!(lookup, Lookup::RowsAhead(_)) {
            if self.ahead.load(Ordering::Relaxed) >= AHEAD_MAX {
                return;
            }
            self.ahead.fetch_add(1, Ordering::Relaxed);
        }
        // A thread that is gone has said why.
        let _ = self.wanted.send(lookup);
    }
}

/// What the thread works on.
#[derive(Debug)]
pub(super) struct Incoming {
    incoming: mpsc::Receiver<Lookup>,
    ahead: Arc<AtomicUsize>,
}

impl Incoming {
    /// Looks up what comes in, in order, until the other end is gone or the disk fails.
    pub(super) fn run(self, state: &State, log: &LogReader, life: &Life, mailbox: &Mailbox) {
        while let Ok(lookup) = self.incoming.recv() {
            life.lookup.beat();
            let looked_up = match lookup {
                Lookup::RowsAhead(commands) => {
                    self.ahead.fetch_sub(1, Ordering::Relaxed);
                    state.fetch_rows_ahead(&commands).map(|()| None)
                }
                Lookup::Rows(entries) => state.fetch_rows(&entries).map(|()| Some(LookedUp::Rows)),
                Lookup::Entries { from, to, max_bytes } => log
                    .fetch(from, to, max_bytes)
                    .and_then(|found| with_rows(state, found.unwrap_or_default().1))
                    .map(|entries| Some(LookedUp::Entries(entries))),
            };
            life.lookup.rest();
            match looked_up {
                Ok(None) => {}
                Ok(Some(looked_up)) => mailbox.send(Notice::LookedUp(looked_up)),
                Err(error) => return mailbox.fail(error),
            }
        }
    }
}

/// Entries, once their rows are at hand.
fn with_rows(state: &State, entries: Vec<Entry>) -> Result<Vec<Entry>, StoreError> {
    let commands = entries.iter().filter_map(|entry| entry.payload.command());
    state.fetch_rows_ahead(commands)?;
    Ok(entries)
}
