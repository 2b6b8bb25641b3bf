//! Change events: what a call of apply changed, as one shared batch for those who wait.
//!
//! A batch is handed over under the state's lock, before anybody can read what it tells of. So whatever revision a reader
//! sees, its events are on their way already; and who is woken by them finds what woke it.

use std::sync::Arc;

use bytes::Bytes;

use super::overlay::Overlay;
use crate::kv::{Revision, RowId};

/// One change of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The key.
    pub key: Bytes,
    /// The revision, and which of its changes.
    pub id: RowId,
    /// Whether the key exists after it; else it was deleted.
    pub is_live: bool,
}

/// The events of one call of apply, in order, whole revisions; at least one event.
#[derive(Debug)]
pub struct EventBatch {
    events: Vec<Event>,
    cost_bytes: usize,
}

impl EventBatch {
    /// A batch of events in the order of their ids, which keep so many bytes of memory from being freed; none
    /// without an event.
    pub fn new(events: Vec<Event>, cost_bytes: usize) -> Option<EventBatch> {
        (!events.is_empty()).then_some(EventBatch { events, cost_bytes })
    }

    /// The changes of an overlay.
    fn of(changes: &Overlay) -> Option<EventBatch> {
        let event = |(&id, row): (&RowId, &crate::kv::RevisionRow)| Event {
            key: row.key.clone(),
            id,
            is_live: row.is_live(),
        };
        // A key shares its memory with the value beside it, so that counts, too.
        EventBatch::new(changes.rows.iter().map(event).collect(), changes.bytes)
    }

    /// The events, in order.
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// The first and the last revision; the batch has all events of both, and of all between them.
    pub fn revisions(&self) -> (Revision, Revision) {
        let of = |event: Option<&Event>| event.map_or(Revision(0), |event| event.id.revision);
        (of(self.events.first()), of(self.events.last()))
    }

    /// The memory that it keeps from being freed, in bytes, roughly.
    pub fn cost_bytes(&self) -> usize {
        self.cost_bytes
    }
}

/// An observer of the state: hears of what is applied. It is called by the thread that applies, and must not keep it.
pub trait Observer: Send + Sync + std::fmt::Debug {
    /// Whether anybody wants to hear. Whoever says so before it reads the state hears of all that it does not
    /// read.
    fn watches(&self) -> bool;
    /// These changes are about to be seen. Called under the state's lock: it may put the batch away, and must wake nobody,
    /// since a thread may be put aside for whom it wakes.
    fn changed(&self, batch: Arc<EventBatch>);
    /// Another state has taken the place of the one that was.
    fn replaced(&self);
}

/// The handing over of what one call of apply changed, right before that becomes visible.
pub(super) struct Telling<'a> {
    observer: Option<&'a Arc<dyn Observer>>,
    batch: Option<Arc<EventBatch>>,
}

impl<'a> Telling<'a> {
    /// Gets ready before the lock is taken: who reads is not to wait for a batch to be made.
    pub(super) fn prepare(observer: Option<&'a Arc<dyn Observer>>, changes: &Overlay) -> Self {
        let wanted = observer.is_some_and(|observer| observer.watches());
        let batch = wanted.then(|| EventBatch::of(changes)).flatten().map(Arc::new);
        Telling { observer, batch }
    }

    /// Hands the batch over, under the lock. Who listens is asked here: whoever has begun to since, and has read the state
    /// without these changes, is to hear of them.
    pub(super) fn hand_over(self, changes: &Overlay) {
        let Some(observer) = self.observer.filter(|observer| observer.watches()) else { return };
        let batch = self.batch.or_else(|| EventBatch::of(changes).map(Arc::new));
        if let Some(batch) = batch {
            observer.changed(batch);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Weak;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use parking_lot::Mutex;
    use redb::backends::InMemoryBackend;

    use super::super::core::{State, StateOptions};
    use super::*;
    use crate::kv::{Command, Condition, KeyRange, Write};
    use crate::raft::{Entry, Index, LogId, Payload, Term};

    /// Wants to hear once it has been asked so many times.
    #[derive(Debug)]
    struct Ear {
        state: Weak<State>,
        deaf: AtomicUsize,
        heard: Mutex<Vec<Arc<EventBatch>>>,
    }

    impl Observer for Ear {
        fn watches(&self) -> bool {
            let one_less = |left: usize| left.checked_sub(1);
            self.deaf.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less).is_err()
        }

        fn changed(&self, batch: Arc<EventBatch>) {
            let state = self.state.upgrade().unwrap();
            assert!(state.shared.try_read().is_none(), "nobody reads while it is handed over");
            self.heard.lock().push(batch);
        }

        fn replaced(&self) {}
    }

    fn observed(deaf: usize) -> (Arc<State>, Arc<Ear>) {
        let options = StateOptions::default();
        let state = Arc::new(State::open_backend(InMemoryBackend::new(), &options).unwrap());
        let ear = Arc::new(Ear {
            state: Arc::downgrade(&state),
            deaf: AtomicUsize::new(deaf),
            heard: Mutex::default(),
        });
        state.observe(ear.clone());
        (state, ear)
    }

    fn apply(state: &State, writes: Vec<Write>) {
        let after = state.applied().index.0;
        let entry = |(number, write): (u64, Write)| Entry {
            id: LogId::new(Term(1), Index(after + number)),
            payload: Payload::Command(Command::new(write).encode()),
        };
        let entries: Vec<Entry> = (1..).zip(writes).map(entry).collect();
        assert_eq!(state.apply(&entries).unwrap().len(), entries.len());
    }

    fn put(key: &'static str) -> Write {
        let _condition = Condition::default();
        Write::put(key.into(), "v".into())
    }

    #[test]
    fn a_batch_has_every_change_in_order_and_is_made_for_listeners_only() {
        let (state, ear) = observed(0);
        let pairs = vec![("c".into(), "1".into()), ("b".into(), "1".into())];
        let all = Write::delete_range(KeyRange::all(), u64::MAX);
        apply(&state, vec![put("b"), Write::put_many(pairs), put("a"), put("b"), all.clone()]);
        // What changes nothing tells nothing.
        apply(&state, vec![all]);
        let heard = std::mem::take(&mut *ear.heard.lock());
        assert_eq!(heard.len(), 1);
        let (first, last) = heard[0].revisions();
        assert_eq!((last, last.0 - first.0), (state.revision(), 4));
        let told: Vec<_> = heard[0]
            .events()
            .iter()
            .map(|event| (&event.key[..], event.id.revision.0 - first.0, event.is_live))
            .collect();
        let expected: [(&[u8], u64, bool); 8] = [
            (b"b", 0, true),
            (b"c", 1, true),
            (b"b", 1, true),
            (b"a", 2, true),
            (b"b", 3, true),
            (b"a", 4, false),
            (b"b", 4, false),
            (b"c", 4, false),
        ];
        assert_eq!(told, expected);
        assert!(heard[0].events().is_sorted_by_key(|event| event.id));
        assert!(heard[0].cost_bytes() > 8 * size_of::<Event>());
        ear.deaf.store(usize::MAX, Ordering::SeqCst);
        apply(&state, vec![put("a")]);
        assert!(ear.heard.lock().is_empty());
    }

    /// Who begins to listen just before the lock is taken may have read the state without the changes.
    #[test]
    fn who_listens_is_asked_under_the_lock() {
        let (state, ear) = observed(1);
        apply(&state, vec![put("a")]);
        assert_eq!(ear.heard.lock().len(), 1);
    }
}
