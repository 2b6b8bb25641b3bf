//! Group commit: one thread writes the log, and what comes while it does goes together in the next commit.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::core::{Batch, Log};
use crate::raft::{Index, LogId, LogWrite, Seq};
use crate::store::disk::space::{self, Reserved, Space};
use crate::store::error::StoreError;

/// How often a commit that does not fit on the disk looks for room.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The most bytes of entries in one commit, if it has more than one write: a commit that takes long keeps all who
/// wait for any of it.
const COMMIT_BYTES_MAX: u64 = 4 << 20;

/// What the thread tells.
#[derive(Debug)]
pub enum LogEvent {
    /// The write `seq`, and all before it, are durable.
    Persisted {
        /// The last write of the commit.
        seq: Seq,
    },
    /// The log holds nothing up to and including `last` any more.
    Compacted {
        /// The last entry that is gone.
        last: LogId,
    },
    /// A commit failed. It is not tried again, and nothing is written any more: what the disk holds is
    /// known only after it is opened anew.
    Failed(StoreError),
}

/// The thread and its queue. The queue needs no bound of its own: the core takes in only so much that is
/// not yet committed, and everything that waits here is part of that. Dropping it stops it, which must
/// not happen from within `tell`.
#[derive(Debug)]
pub struct LogWriter {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    filled: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: Vec<LogWrite>,
    /// How many writes there ever were.
    submitted: u64,
    /// The bytes of the entries for which no room is reserved yet.
    waiting_bytes: u64,
    /// What a durable checkpoint of the state covers, if that is news, and how many writes came before it.
    covered: Option<(LogId, u64)>,
    /// The last entry that no peer waits for that is up.
    awaited_after: Option<Index>,
    busy_since: Option<Instant>,
    /// Nothing is taken in any more: it was stopped, or a commit failed.
    closed: bool,
    /// Nothing is left to be written, and nothing failed.
    complete: bool,
}

impl LogWriter {
    /// Starts the thread. `tell` is called from it. A commit for which there is no room waits until there is.
    pub fn spawn(
        log: Log,
        space: Arc<Space>,
        tell: impl Fn(LogEvent) + Send + 'static,
    ) -> io::Result<LogWriter> {
        let shared = Arc::new(Shared::default());
        let worker = shared.clone();
        let thread = thread::Builder::new().name("log".to_owned()).spawn(move || {
            let ended = catch_unwind(AssertUnwindSafe(|| run(log, &space, &worker, &tell)));
            space.life().log.rest();
            if let Err(panic) = ended {
                worker.close();
                tell(LogEvent::Failed(StoreError::ended("log", &*panic)));
            }
        })?;
        Ok(LogWriter { shared, thread: Mutex::new(Some(thread)) })
    }

    /// Queues a write. Never blocks on the disk. After a failure, and once stopped, the write is dropped.
    pub fn submit(&self, write: LogWrite) {
        let mut queue = self.shared.queue.lock();
        if queue.closed {
            return;
        }
        queue.waiting_bytes += space::entry_bytes(&write);
        queue.waiting.push(write);
        queue.submitted += 1;
        drop(queue);
        self.shared.filled.notify_one();
    }

    /// A durable checkpoint of the state covers everything up to `checkpoint`: with the writes that come after
    /// this the log loses what is not needed any more. Those that came before may be what the checkpoint is of.
    pub fn compact_to(&self, checkpoint: LogId) {
        let mut queue = self.shared.queue.lock();
        queue.covered = Some((checkpoint, queue.submitted));
    }

    /// Peers that are up wait for the entries after this one; none: they wait for none.
    pub fn await_after(&self, index: Option<Index>) {
        self.shared.queue.lock().awaited_after = index;
    }

    /// The bytes of the entries for which no room is reserved yet.
    pub fn waiting_bytes(&self) -> u64 {
        self.shared.queue.lock().waiting_bytes
    }

    /// How long the commit that is under way has taken so far; zero if there is none.
    pub fn busy_for(&self) -> Duration {
        self.shared.queue.lock().busy_since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Writes what waits, closes the file and ends the thread. Whether all that was submitted is durable.
    pub fn stop(&self) -> bool {
        self.shared.queue.lock().closed = true;
        self.shared.filled.notify_one();
        // Held while joining, so that whoever stops it second also returns only when it has ended.
        let mut thread = self.thread.lock();
        if let Some(thread) = thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the log thread panicked");
        }
        self.shared.queue.lock().complete
    }
}

impl Drop for LogWriter {
    fn drop(&mut self) {
        self.stop();
    }
}

fn run(mut log: Log, space: &Arc<Space>, shared: &Shared, tell: &impl Fn(LogEvent)) {
    let (mut batch, mut written) = (Vec::new(), 0);
    let pulse = &space.life().log;
    loop {
        pulse.rest();
        let Some(together) = shared.take(&mut batch, written) else { return };
        pulse.beat();
        let next = &batch[..fitting(&batch[..together])];
        // A panic must stop the node as any failed commit does, and not leave it waiting for this thread.
        let room = catch_unwind(AssertUnwindSafe(|| wait_for_room(&mut log, space, shared, next)));
        let room = room.unwrap_or_else(|_| Err(StoreError::panicked("log")));
        let (count, changes, _room) = match room {
            Ok(Some(room)) => room,
            Ok(None) => return,
            Err(error) => {
                shared.close();
                tell(LogEvent::Failed(error));
                return;
            }
        };
        let writes = &batch[..count];
        pulse.beat();
        let before = log.base();
        let (covered, awaited_after) = shared.begin(writes, written);
        log.await_after(awaited_after.unwrap_or(Index(u64::MAX)));
        written += writes.len() as u64;
        let commit = || {
            covered.map_or(Ok(()), |checkpoint| log.compact_to(checkpoint))?;
            log.write(changes)
        };
        let began = Instant::now();
        let result = catch_unwind(AssertUnwindSafe(commit))
            .unwrap_or_else(|_| Err(StoreError::panicked("log")));
        match result {
            Ok(()) => {
                let bytes = writes.iter().map(space::entry_bytes).sum();
                space.life().tally.log_written(writes.len(), bytes, began.elapsed());
                if let Some(last) = writes.last() {
                    tell(LogEvent::Persisted { seq: last.seq });
                }
                let reset = writes.iter().any(|write| write.reset.is_some());
                batch.drain(..count);
                let base = log.base();
                if base != before && !reset {
                    tell(LogEvent::Compacted { last: base });
                }
            }
            Err(error) => {
                shared.close();
                tell(LogEvent::Failed(error));
                return;
            }
        }
    }
}

impl Shared {
    /// Takes what waits behind what is left in `batch`; sleeps while there is nothing. None at the end. The batch follows
    /// the first `written`; how many of it may go together: those before what a checkpoint covers, or all.
    fn take(&self, batch: &mut Vec<LogWrite>, written: u64) -> Option<usize> {
        let mut queue = self.queue.lock();
        queue.busy_since = None;
        while queue.waiting.is_empty() && batch.is_empty() {
            if queue.closed {
                queue.complete = true;
                return None;
            }
            self.filled.wait(&mut queue);
        }
        if batch.is_empty() {
            std::mem::swap(&mut queue.waiting, batch);
        } else {
            batch.append(&mut queue.waiting);
        }
        queue.busy_since = Some(Instant::now());
        let before = queue.covered.map_or(0, |(_, after)| after.saturating_sub(written));
        Some(match usize::try_from(before) {
            Ok(before) if before > 0 => before.min(batch.len()),
            _ => batch.len(),
        })
    }

    /// Room for these, which follow the first `written`, is reserved. What a checkpoint covers, if that comes before
    /// them, and after which entry peers that are up wait for more.
    fn begin(&self, writes: &[LogWrite], written: u64) -> (Option<LogId>, Option<Index>) {
        let mut queue = self.queue.lock();
        queue.waiting_bytes -= writes.iter().map(space::entry_bytes).sum::<u64>();
        let covered = queue.covered.take_if(|(_, after)| *after <= written);
        (covered.map(|(checkpoint, _)| checkpoint), queue.awaited_after)
    }

    /// Takes nothing in any more.
    fn close(&self) {
        let mut queue = self.queue.lock();
        queue.closed = true;
        queue.waiting.clear();
        queue.busy_since = None;
    }
}

/// How many of the writes go together in one commit: at least one.
fn fitting(writes: &[LogWrite]) -> usize {
    let mut bytes = 0;
    let fits = |write: &&LogWrite| {
        bytes += space::entry_bytes(write);
        bytes <= COMMIT_BYTES_MAX
    };
    writes.iter().take_while(fits).count().max(writes.len().min(1))
}

/// How many of the writes there is room for, all if possible, and what they change; waits until there is room for the first. None if it was
/// stopped meanwhile: then they are lost, and nobody was told that they are durable.
fn wait_for_room(
    log: &mut Log,
    space: &Arc<Space>,
    shared: &Shared,
    writes: &[LogWrite],
) -> Result<Option<(usize, Batch, Vec<Reserved>)>, StoreError> {
    let mut told = false;
    loop {
        let mut count = writes.len();
        while count > 0 {
            let mut batch = log.batch(&writes[..count])?;
            let purpose = space::purpose_of(&writes[..count]);
            let mut reserve = |bytes, purpose| space.reserve(bytes, purpose);
            if let Some(room) = log.make_room(&mut batch, purpose, &mut reserve)? {
                return Ok(Some((count, batch, room)));
            }
            count /= 2;
        }
        // Who waits for room does not hang: it goes on once there is some.
        space.life().log.beat();
        if !std::mem::replace(&mut told, true) {
            tracing::warn!("the log has to wait: there is no room for it on the disk");
        }
        let mut queue = shared.queue.lock();
        if queue.closed {
            return Ok(None);
        }
        // Nobody tells when there is room.
        shared.filled.wait_for(&mut queue, LOOK_EVERY);
    }
}

#[cfg(test)]
#[path = "writer_tests.rs"]
mod tests;
