//! Who waits for a key to change, or for a revision: woken by exactly that, and counted.
//!
//! A waiter is a key and a place in a map. What is applied looks its keys up there, so that waiters on other keys cost a
//! writer a look at most; and the wakeups themselves are a task's, a few at a time, so that thousands of waiters on one
//! key do not hold up the thread that applies.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tokio::time::timeout_at;

use crate::api::Error;
use crate::kv::Revision;
use crate::store::Observer;

/// How many are woken before others may run.
const WOKEN_AT_ONCE: usize = 64;

type Waiting = BTreeMap<u64, oneshot::Sender<()>>;

/// Everybody who waits.
#[derive(Debug)]
pub(super) struct Waiters {
    max: usize,
    /// Those who will look at the state before they wait are counted before.
    count: AtomicUsize,
    places: Mutex<Places>,
    due: Notify,
}

#[derive(Debug, Default)]
struct Places {
    next: u64,
    keys: HashMap<Bytes, Waiting>,
    revisions: BTreeMap<Revision, Waiting>,
    due: Vec<Waiting>,
}

/// What is waited for.
#[derive(Clone, Debug)]
enum Wanted {
    /// Any change of the key.
    Key(Bytes),
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
    pub(super) fn new(max: usize) -> Arc<Waiters> {
        let (count, due) = (AtomicUsize::new(0), Notify::new());
        Arc::new(Waiters { max, count, places: Mutex::default(), due })
    }

    /// Waits for a change of a key; [`Error::TooManyWaiters`] if there are too many already.
    pub(super) fn for_key(self: &Arc<Self>, key: Bytes) -> Result<Waiter, Error> {
        self.add(Wanted::Key(key))
    }

    /// Waits for a revision.
    pub(super) fn for_revision(self: &Arc<Self>, revision: Revision) -> Result<Waiter, Error> {
        self.add(Wanted::Revision(revision))
    }

    fn add(self: &Arc<Self>, wanted: Wanted) -> Result<Waiter, Error> {
        if self.count.fetch_add(1, Ordering::SeqCst) >= self.max {
            self.count.fetch_sub(1, Ordering::SeqCst);
            return Err(Error::TooManyWaiters);
        }
        let (wake, woken) = oneshot::channel();
        let mut places = self.places.lock();
        let id = places.next;
        places.next += 1;
        let waiting = match &wanted {
            Wanted::Key(key) => places.keys.entry(key.clone()).or_default(),
            Wanted::Revision(revision) => places.revisions.entry(*revision).or_default(),
        };
        waiting.insert(id, wake);
        drop(places);
        Ok(Waiter { waiters: self.clone(), wanted, id, woken })
    }

    fn wake(&self, mut places: parking_lot::MutexGuard<'_, Places>, woken: Vec<Waiting>) {
        if woken.is_empty() {
            return;
        }
        let was_empty = places.due.is_empty();
        places.due.extend(woken);
        drop(places);
        if was_empty {
            self.due.notify_one();
        }
    }

    /// Wakes who is due, for as long as the node runs.
    pub(super) async fn run(self: Arc<Self>) {
        loop {
            self.due.notified().await;
            let due = std::mem::take(&mut self.places.lock().due);
            for (number, wake) in due.into_iter().flat_map(Waiting::into_values).enumerate() {
                // Whoever went away needs no waking.
                let _ = wake.send(());
                if number % WOKEN_AT_ONCE == WOKEN_AT_ONCE - 1 {
                    tokio::task::yield_now().await;
                }
            }
        }
    }
}

impl Observer for Waiters {
    fn watches(&self) -> bool {
        self.count.load(Ordering::SeqCst) > 0
    }

    fn changed(&self, keys: &[Bytes], revision: Revision) {
        let mut places = self.places.lock();
        let mut woken: Vec<Waiting> =
            keys.iter().filter_map(|key| places.keys.remove(key)).collect();
        let reached =
            places.revisions.first_key_value().is_some_and(|(first, _)| *first <= revision);
        if reached {
            let later = places.revisions.split_off(&Revision(revision.0.saturating_add(1)));
            woken.extend(std::mem::replace(&mut places.revisions, later).into_values());
        }
        self.wake(places, woken);
    }

    fn replaced(&self) {
        let mut places = self.places.lock();
        let mut woken: Vec<Waiting> = std::mem::take(&mut places.keys).into_values().collect();
        woken.extend(std::mem::take(&mut places.revisions).into_values());
        self.wake(places, woken);
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
        let mut places = self.waiters.places.lock();
        match &self.wanted {
            Wanted::Key(key) => {
                if let Some(waiting) = places.keys.get_mut(key) {
                    waiting.remove(&self.id);
                    if waiting.is_empty() {
                        places.keys.remove(key);
                    }
                }
            }
            Wanted::Revision(revision) => {
                if let Some(waiting) = places.revisions.get_mut(revision) {
                    waiting.remove(&self.id);
                    if waiting.is_empty() {
                        places.revisions.remove(revision);
                    }
                }
            }
        }
        drop(places);
        self.waiters.count.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_millis(20)
    }

    #[tokio::test]
    async fn a_waiter_is_woken_by_its_key_and_by_no_other() {
        let waiters = Waiters::new(3);
        let (a, b) = (waiters.for_key("a".into()).unwrap(), waiters.for_key("b".into()).unwrap());
        let at = waiters.for_revision(Revision(7)).unwrap();
        assert_eq!(waiters.for_key("c".into()).unwrap_err(), Error::TooManyWaiters);
        let running = tokio::spawn(waiters.clone().run());
        waiters.changed(&["a".into(), "x".into()], Revision(6));
        assert!(a.woken(Instant::now() + Duration::from_secs(9)).await);
        assert!(!b.woken(soon()).await);
        waiters.changed(&[], Revision(8));
        assert!(at.woken(Instant::now() + Duration::from_secs(9)).await);
        assert!(!waiters.watches(), "all places are free again");
        let (c, d) =
            (waiters.for_key("c".into()).unwrap(), waiters.for_revision(Revision(9)).unwrap());
        waiters.replaced();
        assert!(c.woken(Instant::now() + Duration::from_secs(9)).await);
        assert!(d.woken(Instant::now() + Duration::from_secs(9)).await);
        assert!(waiters.places.lock().keys.is_empty());
        running.abort();
    }

    #[tokio::test]
    async fn thousands_on_one_key_are_all_woken() {
        let waiters = Waiters::new(5000);
        let all: Vec<Waiter> = (0..5000).map(|_| waiters.for_key("a".into()).unwrap()).collect();
        let running = tokio::spawn(waiters.clone().run());
        waiters.changed(&["a".into()], Revision(1));
        for waiter in all {
            assert!(waiter.woken(Instant::now() + Duration::from_secs(9)).await);
        }
        running.abort();
    }
}
