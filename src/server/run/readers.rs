//! Threads for reads that may take long: listings, the past, backups. A few, of low priority.
//!
//! A read runs for a slice, then others get their turn; those that have not begun come first, so that a short read
//! never waits for a long one. It ends at its deadline, and when nobody waits for it any more.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;
use tokio::time::timeout_at;

use super::background::lower_priority;
use super::mailbox::Mailbox;
use super::watched;
use crate::api::Error;
use crate::store::{ReadError, State};

/// How long a read goes on before others get their turn.
const SLICE: Duration = Duration::from_millis(10);
/// After how many reads that had not begun one goes on that had.
const FRESH_IN_A_ROW: u32 = 4;
/// How many rows are read between two looks at the clock.
pub(crate) const ROWS_UNWATCHED: u32 = 64;

/// Something to read, a slice at a time.
trait Job: Send {
    /// Goes on until `until`; whether it is done.
    fn step(&mut self, until: Instant) -> bool;
}

/// The threads' queue. The threads end when it is dropped.
#[derive(Debug)]
pub(crate) struct Readers {
    shared: Arc<Shared>,
}

struct Shared {
    queue: Mutex<Queue>,
    filled: Condvar,
    jobs_max: usize,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("jobs_max", &self.jobs_max).finish_non_exhaustive()
    }
}

#[derive(Default)]
struct Queue {
    fresh: VecDeque<Box<dyn Job>>,
    begun: VecDeque<Box<dyn Job>>,
    fresh_in_a_row: u32,
    /// Queued or running.
    jobs: usize,
    closed: bool,
}

impl Queue {
    fn next(&mut self) -> Option<Box<dyn Job>> {
        let begun = self.fresh.is_empty()
            || (self.fresh_in_a_row >= FRESH_IN_A_ROW && !self.begun.is_empty());
        if begun {
            self.fresh_in_a_row = 0;
            self.begun.pop_front()
        } else {
            self.fresh_in_a_row += 1;
            self.fresh.pop_front()
        }
    }
}

impl Readers {
    /// Starts the threads; at most `jobs_max` reads wait or are under way. `mailbox` hears if one of them panics.
    pub(crate) fn start(
        threads: usize,
        jobs_max: usize,
        mailbox: &Arc<Mailbox>,
    ) -> io::Result<Readers> {
        let (queue, filled) = (Mutex::default(), Condvar::new());
        let readers = Readers { shared: Arc::new(Shared { queue, filled, jobs_max }) };
        for _ in 0..threads {
            let shared = readers.shared.clone();
            watched::thread("reader", mailbox.clone(), move || {
                lower_priority();
                work(&shared);
            })?;
        }
        Ok(readers)
    }

    /// Adds what is bounded elsewhere, to go on as those that have begun.
    fn add_begun(&self, job: Box<dyn Job>) -> Result<(), Error> {
        let mut queue = self.shared.queue.lock();
        if queue.closed {
            return Err(Error::ShuttingDown);
        }
        queue.jobs += 1;
        queue.begun.push_back(job);
        drop(queue);
        self.shared.filled.notify_one();
        Ok(())
    }

    fn add(&self, job: Box<dyn Job>) -> Result<(), Error> {
        let mut queue = self.shared.queue.lock();
        if queue.closed {
            return Err(Error::ShuttingDown);
        }
        if queue.jobs >= self.shared.jobs_max {
            return Err(Error::TooManyReads);
        }
        queue.jobs += 1;
        queue.fresh.push_back(job);
        drop(queue);
        self.shared.filled.notify_one();
        Ok(())
    }

    /// Reads until the deadline, and makes of the result what `then` says; the outer errors are of those who wait, the inner
    /// ones of the state.
    pub(crate) async fn read<R: 'static, T: Send + 'static>(
        &self,
        state: Arc<State>,
        deadline: Instant,
        step: impl FnMut(&State, &mut dyn FnMut() -> bool) -> Result<Option<R>, ReadError>
        + Send
        + 'static,
        then: impl FnOnce(R) -> T + Send + 'static,
        queued: Queued,
    ) -> Result<Result<T, ReadError>, Error> {
        let (reply, result) = oneshot::channel();
        let (then, reply, kind) = (Some(then), Some(reply), std::marker::PhantomData);
        let job = Box::new(Read { state, deadline, step, then, reply, result: kind });
        match queued {
            Queued::Fresh => self.add(job)?,
            Queued::Begun => self.add_begun(job)?,
        }
        match timeout_at(deadline.into(), result).await {
            Ok(Ok(Ok(result))) => Ok(Ok(result)),
            Ok(Ok(Err(Failed::Late))) | Err(_) => Err(Error::ReadTimedOut),
            Ok(Ok(Err(Failed::Read(error)))) => Ok(Err(error)),
            Ok(Err(_)) => Err(Error::ShuttingDown),
        }
    }

    /// Ends the threads; whoever waits for a read hears that there is none.
    pub(crate) fn close(&self) {
        let mut queue = self.shared.queue.lock();
        queue.closed = true;
        let dropped = (std::mem::take(&mut queue.fresh), std::mem::take(&mut queue.begun));
        drop(queue);
        drop(dropped);
        self.shared.filled.notify_all();
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.close();
    }
}

fn work(shared: &Shared) {
    let mut queue = shared.queue.lock();
    loop {
        if queue.closed {
            return;
        }
        let Some(mut job) = queue.next() else {
            shared.filled.wait(&mut queue);
            continue;
        };
        drop(queue);
        let done = job.step(Instant::now() + SLICE);
        queue = shared.queue.lock();
        if done {
            queue.jobs -= 1;
            drop(queue);
            drop(job);
            queue = shared.queue.lock();
        } else if !queue.closed {
            queue.begun.push_back(job);
        }
    }
}

/// A read of the state: `step` is told when to pause, and has its result at the end; `then` makes of it what is wanted.
struct Read<R, T, S, F> {
    state: Arc<State>,
    deadline: Instant,
    step: S,
    then: Option<F>,
    reply: Option<oneshot::Sender<Result<T, Failed>>>,
    result: std::marker::PhantomData<fn() -> R>,
}

enum Failed {
    Late,
    Read(ReadError),
}

/// Where a read is put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Queued {
    /// Among those that have not begun, as many as may be.
    Fresh,
    /// Among those that have begun: how many there are is bounded elsewhere.
    Begun,
}

impl<R, T, S, F> Job for Read<R, T, S, F>
where
    T: Send,
    S: FnMut(&State, &mut dyn FnMut() -> bool) -> Result<Option<R>, ReadError> + Send,
    F: FnOnce(R) -> T + Send,
{
    fn step(&mut self, until: Instant) -> bool {
        let Some(reply) = &self.reply else { return true };
        // Whoever asked has gone, be it that the time was up.
        if reply.is_closed() {
            return true;
        }
        let until = until.min(self.deadline);
        let mut rows = 0;
        let mut pause = || {
            rows += 1;
            rows % ROWS_UNWATCHED == 0 && (Instant::now() >= until || reply.is_closed())
        };
        let result = match (self.step)(&self.state, &mut pause) {
            Ok(None) if Instant::now() < self.deadline => return false,
            Ok(None) => Err(Failed::Late),
            Ok(Some(result)) => match self.then.take() {
                Some(then) => Ok(then(result)),
                None => return true,
            },
            Err(error) => Err(Failed::Read(error)),
        };
        if let Some(reply) = self.reply.take() {
            // Whoever went away does not want it.
            let _ = reply.send(result);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Takes so many slices, and says when it gets one.
    struct Slices(&'static str, u32, mpsc::Sender<&'static str>);

    impl Job for Slices {
        fn step(&mut self, _: Instant) -> bool {
            self.1 -= 1;
            self.2.send(self.0).unwrap();
            self.1 == 0
        }
    }

    #[test]
    fn short_reads_overtake_long_ones_and_all_end() {
        let readers = Readers::start(1, 3, &Arc::default()).unwrap();
        let (said, hear) = mpsc::channel();
        // Until all are queued, the thread is kept busy.
        let (go, wait) = mpsc::channel::<()>();
        struct Gate(mpsc::Receiver<()>);
        impl Job for Gate {
            fn step(&mut self, _: Instant) -> bool {
                self.0.recv().unwrap();
                true
            }
        }
        readers.add(Box::new(Gate(wait))).unwrap();
        readers.add(Box::new(Slices("long", 3, said.clone()))).unwrap();
        readers.add(Box::new(Slices("short", 1, said.clone()))).unwrap();
        assert_eq!(readers.add(Box::new(Slices("none", 1, said))), Err(Error::TooManyReads));
        go.send(()).unwrap();
        let order: Vec<_> = hear.iter().collect();
        assert_eq!(order, ["long", "short", "long", "long"]);
        assert_eq!(readers.shared.queue.lock().jobs, 0);
    }
}
