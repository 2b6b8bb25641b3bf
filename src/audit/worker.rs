//! The thread that writes what is to be recorded: in batches, made durable once a second, and at once where somebody waits
//! for it.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::oneshot;

use super::line::{Head, Note};
use super::queue::{Audit, Waiting};
use super::writer::{Entry, Found, Place, Writer};

/// How long a record may be written and not durable.
const SYNC_EVERY: Duration = Duration::from_secs(1);
/// How long to wait before a disk that refused is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// See the module's documentation.
#[derive(Debug)]
pub struct Worker {
    audit: Arc<Audit>,
    place: Place,
    anchored: Option<Head>,
    writer: Option<Writer>,
    /// What is taken from the queue and not written, each with what it takes of the queue.
    pending: VecDeque<Entry>,
    sizes: VecDeque<usize>,
    durable: Vec<oneshot::Sender<Head>>,
    synced: Instant,
    failed: Option<Instant>,
}

impl Worker {
    /// Opens the files. If that fails it is tried again as long as the thread runs. `anchored` is the last record that the
    /// cluster knows of this node's chain.
    pub fn open(audit: Arc<Audit>, place: Place, anchored: Option<Head>) -> Worker {
        let mut worker = Worker {
            audit,
            place,
            anchored,
            writer: None,
            pending: VecDeque::new(),
            sizes: VecDeque::new(),
            durable: Vec::new(),
            synced: Instant::now(),
            failed: None,
        };
        worker.write();
        worker
    }

    /// Writes until it is told to stop.
    pub fn run(mut self) {
        loop {
            let until = match (self.failed, &self.writer) {
                (Some(failed), _) => Some(failed + RETRY_AFTER),
                (None, Some(writer)) if writer.is_unsynced() => Some(self.synced + SYNC_EVERY),
                _ => None,
            };
            let Waiting { records, durable, stop, .. } =
                self.audit.next(until, self.failed.is_some());
            for (record, bytes) in records {
                self.pending.push_back(Entry::Request(record));
                self.sizes.push_back(bytes);
            }
            self.durable.extend(durable);
            if stop {
                self.note(Note::Stop);
            }
            self.write();
            if stop {
                return self.end();
            }
        }
    }

    /// Makes the last records durable.
    fn end(mut self) {
        if !self.pending.is_empty() {
            tracing::error!(
                records = self.pending.len(),
                "the audit lacks what was to be written last"
            );
        }
        if let Some(writer) = &mut self.writer
            && let Err(error) = writer.sync()
        {
            tracing::error!(%error, "the last records of the audit may be lost");
        }
    }

    fn note(&mut self, note: Note) {
        self.pending.push_back(Entry::Note(SystemTime::now(), note));
        self.sizes.push_back(0);
    }

    fn write(&mut self) {
        let unrecorded = self.audit.take_gap();
        if unrecorded > 0 {
            self.note(Note::Unrecorded(unrecorded));
        }
        self.audit.busy(true);
        let written = self.try_to_write();
        self.audit.busy(false);
        match written {
            Ok(()) => {
                self.failed = None;
                if self.audit.went(None) {
                    tracing::info!("the audit can be written again");
                }
            }
            Err(error) => {
                self.failed = Some(Instant::now());
                if self.audit.went(Some(error.to_string())) {
                    tracing::error!(%error, "the audit cannot be written");
                }
            }
        }
    }

    fn try_to_write(&mut self) -> io::Result<()> {
        self.writer = self.writer.take().filter(|writer| !writer.is_broken());
        let writer = match &mut self.writer {
            Some(writer) => writer,
            none => {
                let (writer, found) = Writer::open(self.place.clone(), self.anchored)?;
                tell(&self.audit, &found);
                none.insert(writer)
            }
        };
        let before = self.pending.len();
        let appended = writer.append(&mut self.pending);
        let bytes = self.sizes.drain(..before - self.pending.len());
        let (mut count, mut freed) = (0, 0);
        bytes.filter(|bytes| *bytes > 0).for_each(|bytes| {
            count += 1;
            freed += bytes;
        });
        self.audit.wrote(count, freed, writer.head());
        appended?;
        if !self.durable.is_empty() || self.synced.elapsed() >= SYNC_EVERY {
            writer.sync()?;
            self.synced = Instant::now();
            let head = writer.head();
            // Who gave up waiting does not want it.
            for one in self.durable.drain(..) {
                let _ = one.send(head);
            }
        }
        Ok(())
    }
}

/// Says what a start has found.
fn tell(audit: &Audit, found: &Found) {
    let Found { head, cut_bytes, damaged, missing } = found;
    tracing::info!(record = head.sequence, "the audit goes on");
    if *cut_bytes > 0 {
        tracing::warn!(
            bytes = cut_bytes,
            "the audit's last record was cut short by a crash, and is cut off"
        );
    }
    let damage = damaged.as_ref().map(|(path, line)| {
        format!(
            "the audit is damaged from line {line} of {} on; `konsen audit verify` says how",
            path.display()
        )
    });
    let missing = missing.map(|missing| {
        format!(
            "the audit ends before record {missing}, and the cluster knows of later ones: somebody has removed them, or \
             put an older copy of the data directory in its place"
        )
    });
    if let Some(what) = damage.or(missing) {
        tracing::error!("{what}");
        audit.found(what);
    }
}

#[cfg(test)]
#[path = "worker_tests.rs"]
mod tests;
