//! Who waits for keys to change, or for a revision: woken by exactly that, and counted.
//!
//! A waiter is a range of keys and a place in an index. The thread that applies puts what changed into a queue, one shared
//! batch a call, and does nothing else, however many wait. A dispatcher, a task of its own, looks the batch's keys up in
//! the index and wakes a few at a time; whoever delivers the answers of the same turn wakes it (`run/answers.rs`). Where the
//! queue has no room everybody is woken once: whoever is woken looks at the state, so that is a detour and no mistake.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::timeout_at;

use super::event_queue::{EventQueue, Next};
use super::interval_index::IntervalIndex;
use crate::api::Error;
use crate::kv::{KeyRange, Revision};
use crate::store::{Event, EventBatch, Observer};

/// How many are woken before others may run.
const WOKEN_AT_ONCE: usize = 64;
/// How many events are looked up before others may run, or begin to wait.
const LOOKED_UP_AT_ONCE: usize = 256;
/// What the batches that wait for the dispatcher may cost together, in bytes.
const QUEUE_BYTES_MAX: usize = 16 << 20;

type Waiting = BTreeMap<u64, oneshot::Sender<()>>;

/// Everybody who waits.
#[derive(Debug)]
pub(crate) struct Waiters {
    max: usize,
    /// Those who will look at the state before they wait are counted before.
    count: AtomicUsize,
    queue: EventQueue,
    /// The thread that applies never asks for it.
    places: Mutex<Places>,
}

/// One entry for each that somebody waits for, so no more than there may be waiters.
#[derive(Debug, Default)]
struct Places {
    next: u64,
    keys: HashMap<Bytes, Waiting>,
    ranges: IntervalIndex<Waiting>,
    revisions: BTreeMap<Revision, Waiting>,
}

/// What is waited for.
#[derive(Clone, Debug)]
enum Wanted {
    /// Any change of the key.
    Key(Bytes),
    /// Any change in the range.
    Range(KeyRange),
    /// A state of that revision or a later one.
    Revision(Revision),
}

/// One who waits. Whoever looks at the state after it was made misses nothing.
#[derive(Debug)]
pub struct Waiter {
    waiters: Arc<Waiters>,
    wanted: Wanted,
    id: u64,
    woken: oneshot::Receiver<()>,
}

impl Waiters {
    /// None yet, and at most `max`.
    pub(crate) fn new(max: usize) -> Arc<Waiters> {
        Waiters::with_queue(max, QUEUE_BYTES_MAX)
    }

    fn with_queue(max: usize, bytes_max: usize) -> Arc<Waiters> {
        let (count, queue) = (AtomicUsize::new(0), EventQueue::new(bytes_max));
        Arc::new(Waiters { max, count, queue, places: Mutex::default() })
    }

    /// Waits for a change in a range; [`Error::TooManyWaiters`] if there are too many already.
    pub(crate) fn for_range(self: &Arc<Self>, range: KeyRange) -> Result<Waiter, Error> {
        self.add(match range.only_key() {
            Some(key) => Wanted::Key(key.clone()),
            None => Wanted::Range(range),
        })
    }

    /// Waits for a revision; [`Error::TooManyWaiters`] if there are too many already.
    pub(crate) fn for_revision(self: &Arc<Self>, revision: Revision) -> Result<Waiter, Error> {
        self.add(Wanted::Revision(revision))
    }

    fn add(self: &Arc<Self>, wanted: Wanted) -> Result<Waiter, Error> {
        if self.count.fetch_add(1, Ordering::SeqCst) >= self.max {
            self.count.fetch_sub(1, Ordering::SeqCst);
            return Err(Error::TooManyWaiters);
        }
        let (wake, woken) = oneshot::channel();
        let id = self.places.lock().add(&wanted, wake);
        Ok(Waiter { waiters: self.clone(), wanted, id, woken })
    }

    /// How many wait.
    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Whether the dispatcher may be asleep although there is something for it.
    pub(crate) fn are_due(&self) -> bool {
        self.queue.is_due()
    }

    /// Wakes the dispatcher if it is due.
    pub(crate) fn wake_dispatcher(&self) {
        self.queue.wake();
    }

    /// The dispatcher: wakes those whom what is applied concerns, for as long as the node runs.
    pub(crate) async fn run(self: Arc<Self>) {
        let mut looked_up = 0;
        loop {
            match self.queue.next().await {
                Next::Anything => {
                    let all = self.places.lock().take_all();
                    wake(all).await;
                }
                Next::Batch(batch) => self.dispatch(&batch, &mut looked_up).await,
            }
        }
    }

    /// Wakes those whom a batch concerns; `looked_up` counts events since others could run.
    async fn dispatch(&self, batch: &EventBatch, looked_up: &mut usize) {
        let (_, last) = batch.revisions();
        let reached = self.places.lock().take_reached(last);
        wake(reached).await;
        for events in batch.events().chunks(LOOKED_UP_AT_ONCE) {
            let woken = self.places.lock().take_changed(events);
            wake(woken).await;
            *looked_up += events.len();
            if *looked_up >= LOOKED_UP_AT_ONCE {
                *looked_up = 0;
                tokio::task::yield_now().await;
            }
        }
    }
}

/// Wakes those of all these places.
async fn wake(woken: Vec<Waiting>) {
    for (number, wake) in woken.into_iter().flat_map(Waiting::into_values).enumerate() {
        // Whoever went away needs no waking.
        let _ = wake.send(());
        if number % WOKEN_AT_ONCE == WOKEN_AT_ONCE - 1 {
            tokio::task::yield_now().await;
        }
    }
}

impl Places {
    /// Adds one who waits; its number.
    fn add(&mut self, wanted: &Wanted, wake: oneshot::Sender<()>) -> u64 {
        let id = self.next;
        self.next += 1;
        match wanted {
            Wanted::Key(key) => {
                self.keys.entry(key.clone()).or_default().insert(id, wake);
            }
            Wanted::Range(range) => self.ranges.change(range, |waiting| {
                waiting.insert(id, wake);
            }),
            Wanted::Revision(revision) => {
                self.revisions.entry(*revision).or_default().insert(id, wake);
            }
        }
        id
    }

    /// Removes one who waits, and the place if nobody else waits there.
    fn remove(&mut self, wanted: &Wanted, id: u64) {
        let waiting = match wanted {
            Wanted::Key(key) => self.keys.get_mut(key),
            Wanted::Range(range) => self.ranges.get_mut(range),
            Wanted::Revision(revision) => self.revisions.get_mut(revision),
        };
        // It is gone if it was woken.
        let Some(waiting) = waiting else { return };
        waiting.remove(&id);
        if !waiting.is_empty() {
            return;
        }
        match wanted {
            Wanted::Key(key) => drop(self.keys.remove(key)),
            Wanted::Range(range) => drop(self.ranges.remove(range)),
            Wanted::Revision(revision) => drop(self.revisions.remove(revision)),
        }
    }

    fn take_changed(&mut self, events: &[Event]) -> Vec<Waiting> {
        let mut woken = Vec::new();
        for Event { key, .. } in events {
            woken.extend(self.keys.remove(key));
            if !self.ranges.is_empty() {
                woken.extend(self.ranges.take_containing(key));
            }
        }
        woken
    }

    fn take_reached(&mut self, revision: Revision) -> Vec<Waiting> {
        if self.revisions.first_key_value().is_none_or(|(first, _)| *first > revision) {
            return Vec::new();
        }
        let later = self.revisions.split_off(&Revision(revision.0.saturating_add(1)));
        std::mem::replace(&mut self.revisions, later).into_values().collect()
    }

    fn take_all(&mut self) -> Vec<Waiting> {
        let keys = std::mem::take(&mut self.keys).into_values();
        let revisions = std::mem::take(&mut self.revisions).into_values();
        keys.chain(revisions).chain(self.ranges.take_all()).collect()
    }
}

impl Observer for Waiters {
    fn watches(&self) -> bool {
        self.count.load(Ordering::SeqCst) > 0
    }

    fn changed(&self, batch: Arc<EventBatch>) {
        self.queue.add(batch);
    }

    fn replaced(&self) {
        self.queue.add_anything();
        self.queue.wake();
    }
}

impl Waiter {
    /// Waits until it is woken; false if the deadline comes first.
    pub async fn woken(mut self, deadline: Instant) -> bool {
        timeout_at(deadline.into(), &mut self.woken).await.is_ok()
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        self.waiters.places.lock().remove(&self.wanted, self.id);
        self.waiters.count.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
#[path = "waiters_tests.rs"]
mod tests;
