//! What is to be recorded and is not written yet: a bounded queue between those who serve requests and the thread that writes.
//!
//! Whoever serves a request takes room for its record before anything is done. So no request is carried out that there is no
//! room to record, unless the configuration says that it shall go on all the same.

use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use super::line::Head;
use super::record::{Class, Record};

/// What a record takes in the queue beside its keys, in bytes, roughly.
const RECORD_BYTES: usize = 512;
/// One part in so many of the queue is for administration alone.
const KEPT_PARTS: usize = 16;
/// How long the first record of many waits for others: so the thread that writes is not woken for each.
const GATHER_TIME: Duration = Duration::from_millis(10);
/// A disk that has not answered for so long counts as one that refuses.
const STALL_TIME: Duration = Duration::from_secs(10);

/// What is recorded, and what happens if that cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Whether reads are recorded.
    pub reads: bool,
    /// Whether requests are refused that cannot be recorded; else they are carried out, and counted.
    pub refuse: bool,
    /// What may wait to be written, in bytes.
    pub queue_bytes: usize,
}

/// Why a request is refused that cannot be recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unrecorded {
    /// Too much waits to be written.
    #[error(
        "the audit's queue is full (audit.queue): its disk is slow, or there is more to record than it can take"
    )]
    Full,
    /// The disk takes nothing.
    #[error(
        "the audit cannot be written at this node, whose log and `konsen status` say why (audit.onFailure: refuse)"
    )]
    Failing,
}

/// The way from requests to the files. Shared by all who serve.
#[derive(Debug)]
pub struct Audit {
    rules: Rules,
    waiting: Mutex<Waiting>,
    wake: Condvar,
    /// Bytes of the queue that are taken, also by requests that are under way.
    held: AtomicUsize,
    failing: AtomicBool,
    /// Carried out and not recorded, since that was recorded.
    gap: AtomicU64,
    written: AtomicU64,
    unrecorded: AtomicU64,
    anchored: AtomicU64,
    status: Mutex<Status>,
}

/// What there is to do for the thread that writes.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    pub(super) records: Vec<(Record, usize)>,
    /// Who waits until all that came before is durable.
    pub(super) durable: Vec<oneshot::Sender<Head>>,
    /// Whether that is to come soon.
    hurry: bool,
    pub(super) stop: bool,
}

/// How the writing goes.
#[derive(Debug, Default)]
struct Status {
    /// The last record that is written.
    head: Head,
    /// Why nothing can be written.
    failure: Option<String>,
    /// What the last start found wrong.
    found: Option<String>,
    /// Since when the disk has been at work.
    busy_since: Option<Instant>,
}

/// Room for one record, until it is written or this is dropped.
#[derive(Debug)]
pub struct Room {
    audit: Arc<Audit>,
    bytes: usize,
}

impl Audit {
    /// An empty queue.
    pub fn new(rules: Rules) -> Arc<Audit> {
        Arc::new(Audit {
            rules,
            waiting: Mutex::default(),
            wake: Condvar::new(),
            held: AtomicUsize::new(0),
            failing: AtomicBool::new(true),
            gap: AtomicU64::new(0),
            written: AtomicU64::new(0),
            unrecorded: AtomicU64::new(0),
            anchored: AtomicU64::new(0),
            status: Mutex::default(),
        })
    }

    /// Whether requests of that class are recorded.
    pub fn records(&self, class: Class) -> bool {
        match class {
            Class::Read | Class::Status => self.rules.reads,
            Class::Write | Class::Administration => true,
        }
    }

    /// Takes room for the record of a request, with so many bytes of keys at most, before it is carried out; none if it is
    /// carried out without.
    ///
    /// # Errors
    /// Why it must not be carried out.
    pub fn take_room(
        self: &Arc<Self>,
        class: Class,
        key_bytes: usize,
    ) -> Result<Option<Room>, Unrecorded> {
        let bytes = RECORD_BYTES + key_bytes;
        let why = match self.failing.load(Ordering::Relaxed) {
            true if self.rules.refuse => Unrecorded::Failing,
            _ if self.hold(class, bytes) => {
                return Ok(Some(Room { audit: Arc::clone(self), bytes }));
            }
            _ => Unrecorded::Full,
        };
        // Who cannot ask how the node is cannot find out what is wrong with it.
        if self.rules.refuse && class != Class::Status {
            return Err(why);
        }
        self.lacks_one();
        Ok(None)
    }

    /// Notes that a request is not recorded.
    pub fn lacks_one(&self) {
        self.gap.fetch_add(1, Ordering::Relaxed);
        self.unrecorded.fetch_add(1, Ordering::Relaxed);
    }

    fn hold(&self, class: Class, bytes: usize) -> bool {
        let all = self.rules.queue_bytes;
        let most = match class {
            Class::Administration => all,
            _ => all - all / KEPT_PARTS,
        };
        let fits = |held: usize| Some(held + bytes).filter(|now| *now <= most);
        self.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok()
    }

    fn give_back(&self, bytes: usize) {
        self.held.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Waits until all that was recorded before is durable, and tells the last record. Nothing comes if the writing ends before
    /// that.
    pub fn settle(&self) -> oneshot::Receiver<Head> {
        let (settled, wait) = oneshot::channel();
        let mut waiting = self.waiting.lock();
        waiting.durable.push(settled);
        self.hurry(waiting);
        wait
    }

    /// Lets the thread write all that waits and end.
    pub fn stop(&self) {
        let mut waiting = self.waiting.lock();
        waiting.stop = true;
        self.hurry(waiting);
    }

    fn hurry(&self, mut waiting: parking_lot::MutexGuard<'_, Waiting>) {
        waiting.hurry = true;
        drop(waiting);
        self.wake.notify_one();
    }

    /// The last record that is written.
    pub fn head(&self) -> Head {
        self.status.lock().head
    }

    /// The last record that the cluster knows, as far as that was noted here.
    pub fn anchored(&self) -> u64 {
        self.anchored.load(Ordering::Relaxed)
    }

    /// The cluster knows the records up to this one.
    pub fn note_anchored(&self, sequence: u64) {
        self.anchored.fetch_max(sequence, Ordering::Relaxed);
    }

    /// How many requests were recorded, and how many were carried out without, since the start.
    pub fn counts(&self) -> (u64, u64) {
        (self.written.load(Ordering::Relaxed), self.unrecorded.load(Ordering::Relaxed))
    }

    /// How many bytes of the queue are taken.
    pub fn held_bytes(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// Why nothing can be written now, if that is so.
    pub fn failure(&self) -> Option<String> {
        let status = self.status.lock();
        let stalled = status.busy_since.filter(|since| since.elapsed() > STALL_TIME);
        let stalled = stalled.map(|since| {
            let seconds = since.elapsed().as_secs();
            format!("the audit's disk has not answered for {seconds} s")
        });
        let failure = status.failure.as_ref();
        stalled.or_else(|| failure.map(|why| format!("the audit cannot be written: {why}")))
    }

    /// What somebody should do something about.
    pub fn warnings(&self) -> Vec<String> {
        let failure = self.failure().map(|failure| match self.rules.refuse {
            true => format!("{failure}; requests are refused until it can (audit.onFailure)"),
            false => format!("{failure}; requests are carried out unrecorded (audit.onFailure)"),
        });
        failure.into_iter().chain(self.status.lock().found.clone()).collect()
    }
}

/// What the thread that writes does with the queue.
impl Audit {
    /// Waits for something to do: until then, if nothing comes, and until then in any case where `regardless` says so.
    pub(super) fn next(&self, until: Option<Instant>, regardless: bool) -> Waiting {
        let mut waiting = self.waiting.lock();
        let idle = |waiting: &Waiting| {
            let nothing = waiting.records.is_empty() && waiting.durable.is_empty();
            !waiting.stop && (nothing || regardless)
        };
        while idle(&waiting) {
            match until {
                None => self.wake.wait(&mut waiting),
                Some(until) if self.wake.wait_until(&mut waiting, until).timed_out() => break,
                Some(_) => {}
            }
        }
        let gathered = Instant::now() + GATHER_TIME;
        while !waiting.records.is_empty() && !waiting.hurry {
            if self.wake.wait_until(&mut waiting, gathered).timed_out() {
                break;
            }
        }
        let stop = waiting.stop;
        Waiting { stop, ..mem::take(&mut *waiting) }
    }

    /// How many requests were carried out unrecorded since the last call.
    pub(super) fn take_gap(&self) -> u64 {
        self.gap.swap(0, Ordering::Relaxed)
    }

    /// So many records are written, which took so many bytes of the queue, and this is the last one.
    pub(super) fn wrote(&self, records: u64, bytes: usize, head: Head) {
        self.status.lock().head = head;
        self.written.fetch_add(records, Ordering::Relaxed);
        self.give_back(bytes);
    }

    /// The disk is at work from now on, or is not any more.
    pub(super) fn busy(&self, busy: bool) {
        self.status.lock().busy_since = busy.then(Instant::now);
    }

    /// What the disk said. Whether that is news.
    pub(super) fn went(&self, failure: Option<String>) -> bool {
        let fails = failure.is_some();
        let mut status = self.status.lock();
        let changed = status.failure.is_some() != fails;
        status.failure = failure;
        drop(status);
        self.failing.store(fails, Ordering::Relaxed);
        changed
    }

    /// What a start has found wrong.
    pub(super) fn found(&self, what: String) {
        self.status.lock().found = Some(what);
    }
}

impl Room {
    /// Records a request in this room.
    pub fn record(self, record: Record) {
        self.push(record, None);
    }

    /// Records a request, and tells when that is durable.
    pub fn record_durably(self, record: Record) -> oneshot::Receiver<Head> {
        let (settled, wait) = oneshot::channel();
        self.push(record, Some(settled));
        wait
    }

    fn push(mut self, record: Record, durable: Option<oneshot::Sender<Head>>) {
        // The record has the room now.
        let bytes = mem::take(&mut self.bytes);
        let mut waiting = self.audit.waiting.lock();
        let first = waiting.records.is_empty();
        waiting.records.push((record, bytes));
        waiting.hurry |= durable.is_some();
        let wakes = first || waiting.hurry;
        waiting.durable.extend(durable);
        drop(waiting);
        if wakes {
            self.audit.wake.notify_one();
        }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.audit.give_back(self.bytes);
    }
}
