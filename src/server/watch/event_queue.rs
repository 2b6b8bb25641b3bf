//! A bounded queue of event batches, from the thread that applies to the dispatcher.
//!
//! Whoever adds never waits: what finds no room is dropped, and all that waits is of no use any more, since the dispatcher
//! hears that it has missed something. Adding takes a lock that is held for moments only, and frees nothing; waking the
//! dispatcher is apart from it, so that it can be done where nobody waits for the thread that does.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::store::EventBatch;

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct EventQueue {
    bytes_max: usize,
    pending: Mutex<Pending>,
    /// Whether the dispatcher may be asleep with something in the queue.
    due: AtomicBool,
    filled: Notify,
}

#[derive(Debug, Default)]
struct Pending {
    batches: VecDeque<Arc<EventBatch>>,
    /// What the batches cost.
    bytes: usize,
    /// Something found no room; the batches are here for the dispatcher to free.
    missed: bool,
}

/// What the dispatcher finds in the queue.
#[derive(Debug)]
pub(crate) enum Next {
    Batch(Arc<EventBatch>),
    /// What changed since the last batch is not known any more: it may be anything.
    Anything,
}

impl EventQueue {
    /// An empty one for batches that cost so many bytes together.
    pub(crate) fn new(bytes_max: usize) -> EventQueue {
        let (pending, due, filled) = (Mutex::default(), AtomicBool::new(false), Notify::new());
        EventQueue { bytes_max, pending, due, filled }
    }

    /// Adds a batch; without room for it the dispatcher will hear that it missed something. It is not woken here.
    pub(crate) fn add(&self, batch: Arc<EventBatch>) {
        let mut pending = self.pending.lock();
        if pending.missed {
            return;
        }
        let bytes = pending.bytes.saturating_add(batch.cost_bytes());
        if bytes > self.bytes_max {
            pending.missed = true;
            self.due.store(true, Ordering::Release);
            return;
        }
        if pending.batches.is_empty() {
            self.due.store(true, Ordering::Release);
        }
        pending.bytes = bytes;
        pending.batches.push_back(batch);
    }

    /// Anything may have changed. The dispatcher is not woken here.
    pub(crate) fn add_anything(&self) {
        self.pending.lock().missed = true;
        self.due.store(true, Ordering::Release);
    }

    /// Whether it is to be woken.
    pub(crate) fn is_due(&self) -> bool {
        self.due.load(Ordering::Acquire)
    }

    /// Wakes the dispatcher, if it does not know yet that there is something.
    pub(crate) fn wake(&self) {
        if self.due.swap(false, Ordering::AcqRel) {
            self.filled.notify_one();
        }
    }

    /// Waits for what comes next. For the dispatcher only.
    pub(crate) async fn next(&self) -> Next {
        loop {
            if let Some(next) = self.take() {
                return next;
            }
            self.filled.notified().await;
        }
    }

    fn take(&self) -> Option<Next> {
        let mut pending = self.pending.lock();
        if pending.missed {
            let spoilt = std::mem::take(&mut *pending);
            drop(pending);
            drop(spoilt);
            return Some(Next::Anything);
        }
        let batch = pending.batches.pop_front()?;
        pending.bytes = pending.bytes.saturating_sub(batch.cost_bytes());
        Some(Next::Batch(batch))
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::kv::{Revision, RowId};
    use crate::store::Event;

    fn batch(revision: u64, cost_bytes: usize) -> Arc<EventBatch> {
        let id = RowId { revision: Revision(revision), sub: 0 };
        let event = Event { key: "a".into(), id, is_live: true };
        Arc::new(EventBatch::new(vec![event], cost_bytes).unwrap())
    }

    /// The revision of the next batch, 0 for anything; none if there is nothing.
    fn next(queue: &EventQueue) -> Option<u64> {
        queue.next().now_or_never().map(|next| match next {
            Next::Batch(batch) => batch.revisions().1.0,
            Next::Anything => 0,
        })
    }

    #[test]
    fn batches_come_in_order_and_what_finds_no_room_is_told_once() {
        let queue = EventQueue::new(100);
        for revision in 1..=2 {
            queue.add(batch(revision, 50));
        }
        assert_eq!([next(&queue), next(&queue), next(&queue)], [Some(1), Some(2), None]);
        for revision in 3..=5 {
            queue.add(batch(revision, 50));
        }
        assert_eq!(queue.pending.lock().bytes, 100, "nothing is held beyond the bound");
        // Whatever comes before the dispatcher looks is part of it.
        queue.add(batch(6, 1));
        assert_eq!([next(&queue), next(&queue)], [Some(0), None]);
        assert_eq!(queue.pending.lock().bytes, 0);
        queue.add(batch(7, 100));
        assert_eq!([next(&queue), next(&queue)], [Some(7), None]);
        queue.add(batch(8, 101));
        assert_eq!([next(&queue), next(&queue)], [Some(0), None]);
        queue.add(batch(9, 1));
        queue.add_anything();
        assert_eq!([next(&queue), next(&queue)], [Some(0), None]);
    }

    #[tokio::test]
    async fn the_dispatcher_is_woken_once_for_what_waits_and_never_sleeps_through_it() {
        let queue = Arc::new(EventQueue::new(100));
        let waiting = tokio::spawn({
            let queue = queue.clone();
            async move { [queue.next().await, queue.next().await, queue.next().await] }
        });
        for revision in 1..=2 {
            tokio::task::yield_now().await;
            queue.add(batch(revision, 1));
            assert!(queue.due.load(Ordering::SeqCst), "it has taken all and sleeps");
            queue.wake();
            queue.add(batch(revision, 1));
            assert!(!queue.due.load(Ordering::SeqCst), "it is awake already");
            queue.wake();
        }
        assert!(waiting.await.unwrap().iter().all(|next| matches!(next, Next::Batch(_))));
    }
}
