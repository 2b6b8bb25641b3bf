//! The disk refuses a checkpoint: the error is reported, and neither memory nor file loses anything.

use super::*;
use crate::kv::{Command, Item, KeyRange, RangeQuery, Write};
use crate::raft::{Entry, Payload, Term};
use crate::store::test_disk::{Disk, Fault, Keeps, Power};

fn options() -> StateOptions {
    StateOptions { cache_bytes: 1 << 20, overlay_bytes: 4096, ..StateOptions::default() }
}

fn open(disk: &Disk) -> State {
    State::open_backend(disk.clone(), &options()).unwrap()
}

/// Sets as many keys as there are indexes, each to its own index.
fn put(state: &State, indexes: std::ops::RangeInclusive<u64>) {
    let entry = |index| {
        let key = format!("{:03}", index % 100).into();
        let value = format!("{index} {}", "x".repeat(900)).into();
        let write = Write::put(key, value);
        let payload = Payload::Command(Command::new(write).encode());
        Entry { id: LogId::new(Term(1), Index(index)), payload }
    };
    state.apply(&indexes.map(entry).collect::<Vec<_>>()).unwrap();
}

/// The index that each key in its order was set at, as a listing and as lookups say.
fn indexes(state: &State) -> Vec<u64> {
    let query = RangeQuery {
        range: KeyRange::all(),
        at: None,
        descending: false,
        keys_only: false,
        items_max: usize::MAX,
        bytes_max: usize::MAX,
    };
    let items = state.range(&query).unwrap().items;
    let index = |item: &Item| {
        assert_eq!(state.get(&item.key, None).unwrap().1.as_ref(), Some(item));
        let text = std::str::from_utf8(&item.value).unwrap();
        text.split_once(' ').unwrap().0.parse().unwrap()
    };
    items.iter().map(index).collect()
}

/// A checkpoint of the first 20 entries went well; that of the next 40 meets `fault`.
fn refused(fault: impl Fn(u64) -> Fault) -> (Disk, Power, StoreError) {
    let power = Power::default();
    let disk = Disk::new(&power);
    let state = open(&disk);
    put(&state, 1..=20);
    state.write_checkpoint(state.freeze().unwrap()).unwrap();
    put(&state, 21..=60);
    let frozen = state.freeze().unwrap();
    power.fail(fault(power.operations()));
    let error = state.write_checkpoint(frozen).unwrap_err();
    // The node is about to stop; until then memory has it all.
    assert_eq!(state.durable().index, Index(20));
    assert_eq!(indexes(&state), (1..=60).collect::<Vec<_>>());
    put(&state, 61..=70);
    assert_eq!(indexes(&state), (1..=70).collect::<Vec<_>>());
    assert!(state.freeze().is_none(), "an error is final");
    power.fail(Fault::StopAt(0));
    drop(state);
    (disk, power, error)
}

/// What the disk may hold then: all of the first checkpoint or all of both.
fn check(disk: &Disk, may_be_complete: bool) {
    for keeps in Keeps::all(3) {
        let state = open(&disk.after_power_loss(keeps));
        let applied = state.applied().index.0;
        assert!(applied == 20 || applied == 60 && may_be_complete, "{keeps:?}: {applied}");
        assert_eq!(indexes(&state), (1..=applied).collect::<Vec<_>>(), "{keeps:?}");
        put(&state, applied + 1..=70);
        state.write_checkpoint(state.freeze().unwrap()).unwrap();
        assert_eq!(indexes(&state), (1..=70).collect::<Vec<_>>(), "{keeps:?}");
    }
}

#[test]
fn a_full_disk_is_named_and_loses_nothing() {
    // From the first write of the checkpoint on, and from later ones.
    for later in [0, 3, 9] {
        let (disk, _, error) = refused(|now| Fault::FullFrom(now + later));
        assert!(matches!(error, StoreError::DiskFull { what: "state" }), "{error}");
        check(&disk, false);
    }
}

#[test]
fn a_failed_write_is_reported_and_loses_nothing() {
    for later in [1, 4, 10] {
        let (disk, _, error) = refused(|now| Fault::StopAt(now + later));
        assert!(matches!(error, StoreError::Database { what: "state", .. }), "{error}");
        check(&disk, false);
    }
}

#[test]
fn a_failed_sync_is_reported_and_loses_nothing() {
    let (disk, power, error) = refused(Fault::SyncAt);
    assert!(matches!(error, StoreError::Database { what: "state", .. }), "{error}");
    drop(power);
    check(&disk, true);
}

#[test]
fn apply_has_to_wait_only_while_a_checkpoint_is_written_and_another_overlay_is_full() {
    let state = open(&Disk::default());
    assert!(!state.overlay_full() && !state.checkpoint_due());
    put(&state, 1..=3);
    assert!(!state.checkpoint_due(), "neither large nor old");
    put(&state, 4..=40);
    assert!(state.checkpoint_due());
    assert!(!state.overlay_full(), "none is being written: there is nothing to wait for");
    let frozen = state.freeze().unwrap();
    assert!(!state.checkpoint_due() && !state.overlay_full(), "one is under way");
    put(&state, 41..=45);
    assert!(!state.overlay_full());
    put(&state, 46..=60);
    assert!(state.overlay_full() && !state.checkpoint_due());
    state.write_checkpoint(frozen).unwrap();
    assert!(!state.overlay_full());
    assert!(state.checkpoint_due(), "the next one");
    assert_eq!(indexes(&state), (1..=60).collect::<Vec<_>>());
}

#[test]
fn a_checkpoint_is_due_when_the_oldest_change_is_old() {
    let options = StateOptions { checkpoint_age: Duration::ZERO, ..options() };
    let state = State::open_backend(Disk::default(), &options).unwrap();
    assert!(!state.checkpoint_due(), "there is no change");
    put(&state, 1..=1);
    assert!(state.checkpoint_due());
    state.write_checkpoint(state.freeze().unwrap()).unwrap();
    assert!(!state.checkpoint_due());
}
