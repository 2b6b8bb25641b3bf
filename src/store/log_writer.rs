//! Group commit: one thread writes the log, and what comes while it does goes together in the next commit.

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::error::StoreError;
use super::log::Log;
use crate::raft::{LogWrite, Seq};

/// What the thread tells.
#[derive(Debug)]
pub enum LogEvent {
    /// The write `seq`, and all before it, are durable.
    Persisted {
        /// The last write of the commit.
        seq: Seq,
    },
    /// A commit failed. It is not tried again, and nothing is written any more: what the disk holds is
    /// known only after it is opened anew.
    Failed(StoreError),
}

/// The thread and its queue. The queue needs no bound of its own: the core takes in only so much that is
/// not yet committed, and everything that waits here is part of that.
#[derive(Debug)]
pub struct LogWriter {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    filled: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: Vec<LogWrite>,
    busy_since: Option<Instant>,
    stopping: bool,
    failed: bool,
}

impl LogWriter {
    /// Starts the thread. `tell` is called from it.
    pub fn spawn(log: Log, tell: impl Fn(LogEvent) + Send + 'static) -> io::Result<LogWriter> {
        let shared = Arc::new(Shared::default());
        let worker = shared.clone();
        let thread = thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || run(log, &worker, &tell))?;
        Ok(LogWriter { shared, thread: Some(thread) })
    }

    /// Queues a write. Never blocks on the disk.
    pub fn submit(&self, write: LogWrite) {
        let mut queue = self.shared.queue.lock();
        if queue.failed {
            return;
        }
        queue.waiting.push(write);
        drop(queue);
        self.shared.filled.notify_one();
    }

    /// How long the commit that is under way has taken so far; zero if there is none.
    pub fn busy_for(&self) -> Duration {
        self.shared.queue.lock().busy_since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Writes what waits, closes the file and ends the thread.
    pub fn stop(&mut self) {
        self.shared.queue.lock().stopping = true;
        self.shared.filled.notify_one();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the log thread panicked");
        }
    }
}

fn run(mut log: Log, shared: &Shared, tell: &impl Fn(LogEvent)) {
    let mut batch = Vec::new();
    loop {
        {
            let mut queue = shared.queue.lock();
            queue.busy_since = None;
            while queue.waiting.is_empty() {
                if queue.stopping {
                    return;
                }
                shared.filled.wait(&mut queue);
            }
            std::mem::swap(&mut queue.waiting, &mut batch);
            queue.busy_since = Some(Instant::now());
        }
        match log.append(&batch) {
            Ok(()) => {
                if let Some(last) = batch.last() {
                    tell(LogEvent::Persisted { seq: last.seq });
                }
                batch.clear();
            }
            Err(error) => {
                let mut queue = shared.queue.lock();
                queue.failed = true;
                queue.waiting.clear();
                queue.busy_since = None;
                drop(queue);
                tell(LogEvent::Failed(error));
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use redb::backends::InMemoryBackend;

    use super::*;
    use crate::raft::{Entry, Index, LogId, Payload, Term};
    use crate::store::LogOptions;

    fn write(seq: u64) -> LogWrite {
        let id = LogId::new(Term(1), Index(seq));
        let entries = vec![Entry { id, payload: Payload::Noop }];
        LogWrite { seq: Seq(seq), entries, ..LogWrite::default() }
    }

    #[test]
    fn writes_are_reported_in_order_and_the_last_ones_before_the_end() {
        let (log, _) = Log::open_backend(InMemoryBackend::new(), &LogOptions::default()).unwrap();
        let reader = log.reader();
        let (sender, events) = mpsc::channel();
        let mut writer = LogWriter::spawn(log, move |event| sender.send(event).unwrap()).unwrap();
        for seq in 1..=100 {
            writer.submit(write(seq));
        }
        writer.stop();
        let mut before = Seq(0);
        for event in events {
            let LogEvent::Persisted { seq } = event else { panic!("{event:?}") };
            assert!(seq > before);
            before = seq;
        }
        assert_eq!(before, Seq(100));
        assert_eq!(reader.read(Index(1), Index(100), usize::MAX).unwrap().len(), 100);
    }

    #[test]
    fn a_failure_is_told_once_and_nothing_is_written_after_it() {
        let (log, _) = Log::open_backend(InMemoryBackend::new(), &LogOptions::default()).unwrap();
        let reader = log.reader();
        let (sender, events) = mpsc::channel();
        let mut writer = LogWriter::spawn(log, move |event| sender.send(event).unwrap()).unwrap();
        writer.submit(write(2));
        assert!(matches!(events.recv().unwrap(), LogEvent::Failed(_)), "a gap");
        writer.submit(write(1));
        writer.stop();
        assert!(events.recv().is_err());
        assert!(reader.read(Index(1), Index(1), usize::MAX).is_err());
    }
}
