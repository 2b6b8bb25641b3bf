//! Threads for reads that may take long: listings, the past, backups. A few, of low priority.
//!
//! A read runs for a slice, then others get their turn; those that have not begun come first, so that a short read
//! never waits for a long one. It ends at its deadline, and when nobody waits for it any more.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;
use tokio::time::timeout_at;

use super::background::give_way;
use super::error::Error;
use super::handle::Handle;
use super::mailbox::Mailbox;
use super::watched;
use crate::kv::{Item, KeyRange, Page, RangeQuery, Revision};
use crate::store::{CountRead, Counted, PastRead, RangeRead, ReadError, State};

/// How long a read goes on before others get their turn.
const SLICE: Duration = Duration::from_millis(10);
/// After how many reads that had not begun one goes on that had.
const FRESH_IN_A_ROW: u32 = 4;
/// How many rows are read between two looks at the clock.
const ROWS_UNWATCHED: u32 = 64;

/// Something to read, a slice at a time.
trait Job: Send {
    /// Goes on until `until`; whether it is done.
    fn step(&mut self, until: Instant) -> bool;
}

/// The threads' queue. The threads end when it is dropped.
#[derive(Debug)]
pub(super) struct Readers {
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
    pub(super) fn start(
        threads: usize,
        jobs_max: usize,
        mailbox: &Arc<Mailbox>,
    ) -> io::Result<Readers> {
        let (queue, filled) = (Mutex::default(), Condvar::new());
        let readers = Readers { shared: Arc::new(Shared { queue, filled, jobs_max }) };
        for _ in 0..threads {
            let shared = readers.shared.clone();
            watched::thread("reader", mailbox.clone(), move || {
                give_way();
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

    /// Ends the threads; whoever waits for a read hears that there is none.
    pub(super) fn close(&self) {
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

impl Handle {
    /// Ends the reads that may take long; those who wait for them hear that the node stops.
    pub(super) fn end_reads(&self) {
        self.shared.readers.close();
    }

    /// A page of a listing as this node has it, and what `then` makes of it, at most until the deadline. It ends after
    /// `limits.listRows` rows, with less items than asked for, or none, and says where to go on.
    pub async fn range<T: Send + 'static>(
        &self,
        query: RangeQuery,
        deadline: Instant,
        then: impl FnOnce(Page) -> T + Send + 'static,
    ) -> Result<T, Error> {
        let read = RangeRead::within(query, self.shared.limits.list_rows_max);
        self.read_range(read, deadline, then).await
    }

    /// The same for who cannot go on: the page has all the items asked for, if the deadline lets it look at all that
    /// lies between them.
    pub async fn range_in_one<T: Send + 'static>(
        &self,
        query: RangeQuery,
        deadline: Instant,
        then: impl FnOnce(Page) -> T + Send + 'static,
    ) -> Result<T, Error> {
        self.read_range(RangeRead::new(query), deadline, then).await
    }

    async fn read_range<T: Send + 'static>(
        &self,
        mut read: RangeRead,
        deadline: Instant,
        then: impl FnOnce(Page) -> T + Send + 'static,
    ) -> Result<T, Error> {
        let step = move |state: &State, pause: &mut dyn FnMut() -> bool| read.step(state, pause);
        self.read_slowly(deadline, step, then, Readers::add).await
    }

    /// One key as it was at a revision, and the revision that it was read at, at most until the deadline.
    pub async fn get_past(
        &self,
        key: Bytes,
        at: Revision,
        deadline: Instant,
    ) -> Result<(Revision, Option<Item>), Error> {
        let mut read = PastRead::new(key, at);
        // Most reads of the past are of what is nearly the newest: those need not wait for a thread.
        let found = read.step(&self.shared.state, &mut || true);
        if let Some(found) = found.map_err(|error| self.read_failed(error))? {
            return Ok(found);
        }
        let step = move |state: &State, pause: &mut dyn FnMut() -> bool| read.step(state, pause);
        self.read_slowly(deadline, step, |found| found, Readers::add).await
    }

    /// How far a deletion of a range may go at once, by the rows that this node has.
    pub(super) async fn count(
        &self,
        range: KeyRange,
        keys_max: u64,
        deadline: Instant,
    ) -> Result<Counted, Error> {
        let mut read = CountRead::new(range, keys_max);
        // Most ranges that are deleted are small: those need not wait for a thread.
        let mut rows = 0;
        let mut pause = || {
            rows += 1;
            rows == ROWS_UNWATCHED
        };
        let found = read.step(&self.shared.state, &mut pause);
        if let Some(counted) = found.map_err(|error| self.read_failed(error))? {
            return Ok(counted);
        }
        let step = move |state: &State, pause: &mut dyn FnMut() -> bool| read.step(state, pause);
        self.read_slowly(deadline, step, |counted| counted, Readers::add).await
    }

    /// Does `work`, which reads a bounded part of a file, where that holds nobody up. How often it is asked for at a
    /// time is the caller's to bound.
    pub async fn read_apart<T: Send + 'static>(
        &self,
        deadline: Instant,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Error> {
        let mut work = Some(work);
        // It is asked once only.
        let step = move |_: &State, _: &mut dyn FnMut() -> bool| Ok(work.take().map(|work| work()));
        self.read_slowly(deadline, step, |done| done, Readers::add_begun).await
    }

    async fn read_slowly<R: 'static, T: Send + 'static>(
        &self,
        deadline: Instant,
        step: impl FnMut(&State, &mut dyn FnMut() -> bool) -> Result<Option<R>, ReadError>
        + Send
        + 'static,
        then: impl FnOnce(R) -> T + Send + 'static,
        add: impl FnOnce(&Readers, Box<dyn Job>) -> Result<(), Error>,
    ) -> Result<T, Error> {
        let (reply, result) = oneshot::channel();
        let job = Read {
            state: self.shared.state.clone(),
            deadline,
            step,
            then: Some(then),
            reply: Some(reply),
            result: std::marker::PhantomData,
        };
        add(&self.shared.readers, Box::new(job))?;
        match timeout_at(deadline.into(), result).await {
            Ok(Ok(Ok(result))) => Ok(result),
            Ok(Ok(Err(Failed::Late))) | Err(_) => Err(Error::ReadTimedOut),
            Ok(Ok(Err(Failed::Read(error)))) => Err(self.read_failed(error)),
            Ok(Err(_)) => Err(Error::ShuttingDown),
        }
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
