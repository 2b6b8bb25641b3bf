use std::thread;
use std::time::Duration;

use futures_util::FutureExt;
use proptest::prelude::*;
use redb::backends::InMemoryBackend;

use super::*;
use crate::kv::{Command, RowId, Write};
use crate::raft::{Entry, Index, LogId, Payload, Term};
use crate::store::{State, StateOptions};

fn late() -> Instant {
    Instant::now() + Duration::from_secs(30)
}

fn key(name: &str) -> KeyRange {
    KeyRange::key(&Bytes::copy_from_slice(name.as_bytes()))
}

fn batch(keys: &[&str], revision: u64) -> Arc<EventBatch> {
    let event = |(key, sub): (&&str, u32)| Event {
        key: Bytes::copy_from_slice(key.as_bytes()),
        id: RowId { revision: Revision(revision), sub },
        is_live: true,
    };
    let events: Vec<Event> = keys.iter().zip(0..).map(event).collect();
    let cost_bytes = 100 * events.len();
    Arc::new(EventBatch::new(events, cost_bytes).unwrap())
}

/// Tells of a batch and lets the dispatcher handle all that it finds.
fn tell(waiters: &Arc<Waiters>, keys: &[&str], revision: u64) {
    waiters.changed(batch(keys, revision));
    waiters.wake_dispatcher();
    dispatch(waiters);
}

fn dispatch(waiters: &Arc<Waiters>) {
    let run = waiters.clone().run();
    let mut run = std::pin::pin!(run);
    // It yields now and then, and sleeps at last.
    for _ in 0..1_000 {
        assert!(run.as_mut().now_or_never().is_none());
    }
}

fn is_woken(waiter: &mut Waiter) -> bool {
    waiter.woken.try_recv().is_ok()
}

#[test]
fn a_waiter_is_woken_by_its_keys_and_by_no_other() {
    let waiters = Waiters::new(4);
    let mut a = waiters.for_range(key("a")).unwrap();
    let mut b = waiters.for_range(KeyRange::prefix(b"b")).unwrap();
    let mut at = waiters.for_revision(Revision(7)).unwrap();
    let mut none =
        waiters.for_range(KeyRange { start: "z".into(), end: Some("b".into()) }).unwrap();
    assert_eq!(waiters.for_range(key("c")).unwrap_err(), Error::TooManyWaiters);
    assert_eq!(waiters.for_revision(Revision(1)).unwrap_err(), Error::TooManyWaiters);
    tell(&waiters, &["a", "aa", "x"], 6);
    assert!(is_woken(&mut a) && !is_woken(&mut b) && !is_woken(&mut at));
    tell(&waiters, &["c", "bc"], 8);
    assert!(is_woken(&mut b) && is_woken(&mut at) && !is_woken(&mut none));
    drop((a, b, at));
    assert!(waiters.watches());
    drop(none);
    assert!(!waiters.watches(), "all places are free again");
    let mut all = [
        waiters.for_range(key("c")).unwrap(),
        waiters.for_range(KeyRange::all()).unwrap(),
        waiters.for_revision(Revision(9)).unwrap(),
    ];
    waiters.replaced();
    dispatch(&waiters);
    assert!(all.iter_mut().all(is_woken));
    let places = waiters.places.lock();
    assert!(places.keys.is_empty() && places.ranges.is_empty() && places.revisions.is_empty());
}

#[test]
fn a_queue_without_room_wakes_everybody_once() {
    let waiters = Waiters::with_queue(10, 250);
    let other = || {
        [waiters.for_range(key("o")), waiters.for_range(KeyRange::prefix(b"o"))].map(Result::unwrap)
    };
    let mut before = other();
    // Nobody looks while these come: two of them fit.
    for revision in 1..=3 {
        waiters.changed(batch(&["x"], revision));
        waiters.wake_dispatcher();
    }
    let mut between = other();
    waiters.changed(batch(&["x"], 4));
    waiters.wake_dispatcher();
    dispatch(&waiters);
    assert!(before.iter_mut().chain(&mut between).all(is_woken));
    // From there on all is known again.
    let mut after = other();
    tell(&waiters, &["x"], 5);
    assert!(!after.iter_mut().any(is_woken));
    tell(&waiters, &["o"], 6);
    assert!(after.iter_mut().all(is_woken));
}

#[tokio::test]
async fn thousands_on_one_key_are_all_woken() {
    let waiters = Waiters::new(10_000);
    let range = |number: u32| match number % 2 {
        0 => key("a"),
        _ => KeyRange::prefix(b"a"),
    };
    let all: Vec<Waiter> =
        (0..10_000).map(|number| waiters.for_range(range(number)).unwrap()).collect();
    let running = tokio::spawn(waiters.clone().run());
    waiters.changed(batch(&["a"], 1));
    waiters.wake_dispatcher();
    for waiter in all {
        assert!(waiter.woken(late()).await);
    }
    running.abort();
}

/// The promise of [`Waiter`]: who registers, then reads, and then waits for what it has not read, sees every change.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_change_is_missed_however_it_falls_in_with_who_begins_to_wait() {
    const CHANGES: u64 = 3_000;
    for bytes_max in [QUEUE_BYTES_MAX, 300] {
        let options = StateOptions::default();
        let state = Arc::new(State::open_backend(InMemoryBackend::new(), &options).unwrap());
        let waiters = Waiters::with_queue(8, bytes_max);
        state.observe(waiters.clone());
        let running = tokio::spawn(waiters.clone().run());
        let readers: Vec<_> = (0..4)
            .map(|reader| {
                let (state, waiters) = (state.clone(), waiters.clone());
                tokio::spawn(async move {
                    let mut seen = Revision(0);
                    while seen.0 < CHANGES {
                        let waiter = match reader {
                            0 => waiters.for_range(key("k")),
                            1 => waiters.for_range(KeyRange::all()),
                            2 => waiters.for_range(KeyRange::prefix(b"k")),
                            _ => waiters.for_revision(Revision(seen.0 + 1)),
                        };
                        let waiter = waiter.unwrap();
                        let now = state.revision();
                        if now == seen {
                            assert!(waiter.woken(late()).await, "{seen} was missed by {reader}");
                        }
                        seen = now;
                    }
                })
            })
            .collect();
        let dispatcher = waiters.clone();
        let writer = thread::spawn(move || {
            for index in 1..=CHANGES {
                let command = Command::new(Write::put("k".into(), "v".into()));
                let id = LogId::new(Term(1), Index(index));
                state.apply(&[Entry { id, payload: Payload::Command(command.encode()) }]).unwrap();
                dispatcher.wake_dispatcher();
                if index % 3 == 0 {
                    thread::yield_now();
                }
            }
        });
        for reader in readers {
            reader.await.unwrap();
        }
        writer.join().unwrap();
        assert!(!waiters.watches());
        running.abort();
    }
}

#[derive(Clone, Debug)]
enum Step {
    Wait(KeyRange),
    WaitFor(u64),
    Leave(usize),
    Change(Vec<String>),
}

fn step() -> impl Strategy<Value = Step> {
    let name = || "[ab]{0,3}";
    prop_oneof![
        3 => name().prop_map(|name| Step::Wait(key(&name))),
        2 => name().prop_map(|name| Step::Wait(KeyRange::prefix(name.as_bytes()))),
        2 => (name(), name()).prop_map(|(start, end)| {
            Step::Wait(KeyRange { start: start.into(), end: Some(end.into()) })
        }),
        1 => (0_u64..40).prop_map(Step::WaitFor),
        2 => any::<usize>().prop_map(Step::Leave),
        3 => proptest::collection::vec(name(), 1..4).prop_map(Step::Change),
    ]
}

proptest! {
    #[test]
    fn exactly_those_are_woken_whom_a_look_at_everybody_finds(
        steps in proptest::collection::vec(step(), 0..60)
    ) {
        let waiters = Waiters::new(100);
        let mut waiting: Vec<Waiter> = Vec::new();
        let mut revision = 1;
        for step in steps {
            match step {
                Step::Wait(range) => waiting.push(waiters.for_range(range).unwrap()),
                Step::WaitFor(wanted) => {
                    waiting.push(waiters.for_revision(Revision(wanted.max(revision + 1))).unwrap());
                }
                Step::Leave(which) => {
                    if !waiting.is_empty() {
                        waiting.swap_remove(which % waiting.len());
                    }
                }
                Step::Change(keys) => {
                    revision += 1;
                    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
                    tell(&waiters, &keys, revision);
                    let mut left = Vec::new();
                    for mut waiter in waiting {
                        let changed = |range: &KeyRange| {
                            keys.iter().any(|key| range.contains(key.as_bytes()))
                        };
                        let concerned = match &waiter.wanted {
                            Wanted::Key(key) => keys.iter().any(|changed| changed.as_bytes() == key),
                            Wanted::Range(range) => changed(range),
                            Wanted::Revision(wanted) => wanted.0 <= revision,
                        };
                        prop_assert_eq!(is_woken(&mut waiter), concerned);
                        if !concerned {
                            left.push(waiter);
                        }
                    }
                    waiting = left;
                }
            }
            prop_assert_eq!(waiters.count.load(Ordering::SeqCst), waiting.len());
        }
        drop(waiting);
        let places = waiters.places.lock();
        prop_assert!(places.keys.is_empty() && places.ranges.is_empty() && places.revisions.is_empty());
    }
}
