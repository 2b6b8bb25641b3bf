use std::sync::mpsc::Receiver;
use std::time::Duration;

use super::*;
use crate::kv::{Command, Revision, Write};
use crate::raft::{Entry, Index, Payload, Term};
use crate::store::StateOptions;
use crate::store::disk::space::tests::{Small, boundless};
use crate::store::test_disk::{Disk, Fault, Power};

/// How long a test waits for what must come.
const LONG: Duration = Duration::from_secs(60);

/// Every change is old enough at once.
fn options() -> StateOptions {
    StateOptions { checkpoint_age: Duration::ZERO, ..StateOptions::default() }
}

fn open(disk: &Disk, options: &StateOptions) -> Arc<State> {
    let state = State::open_backend(disk.clone(), options).unwrap();
    state.log_reached(Index(u64::MAX));
    Arc::new(state)
}

fn spawn(state: &Arc<State>) -> (Checkpointer, Receiver<Result<LogId, StoreError>>) {
    let (sender, done) = mpsc::channel();
    let tell = move |result| sender.send(result).unwrap();
    (Checkpointer::spawn(state.clone(), boundless(), tell).unwrap(), done)
}

fn apply(state: &State, index: u64) -> LogId {
    let id = LogId::new(Term(1), Index(index));
    state.apply(&[Entry { id, payload: Payload::Noop }]).unwrap();
    id
}

#[test]
fn what_is_due_is_written_when_it_is_polled() {
    let disk = Disk::default();
    let state = open(&disk, &options());
    let (mut checkpointer, done) = spawn(&state);
    for index in 1..=3 {
        let applied = apply(&state, index);
        checkpointer.poll();
        assert_eq!(done.recv_timeout(LONG).unwrap().unwrap(), applied);
        assert_eq!(state.durable(), applied);
    }
    checkpointer.poll();
    checkpointer.stop();
    assert!(done.recv().is_err(), "there was nothing more to write");
}

/// Nobody writes any more, and what compaction hid goes all the same.
#[test]
fn an_idle_state_is_swept_to_the_end() {
    const CHANGES: u64 = 50;
    let options =
        StateOptions { sweep_rows: 7, sweep_pause: Duration::ZERO, ..StateOptions::default() };
    let state = open(&Disk::default(), &options);
    let apply = |write| {
        let id = LogId::new(Term(1), state.applied().index.next());
        let command = Command::new(write).encode();
        state.apply(&[Entry { id, payload: Payload::Command(command) }]).unwrap();
    };
    for _ in 0..CHANGES {
        let pairs = vec![("a".into(), "x".into())];
        apply(Write::put_many(pairs));
    }
    state.write_checkpoint(state.freeze().unwrap()).unwrap();
    apply(Write::Compact { revision: Revision(CHANGES + 1) });
    // A little of it goes with the checkpoint that covers the command.
    state.write_checkpoint(state.freeze().unwrap()).unwrap();
    let (mut checkpointer, done) = spawn(&state);
    let mut checkpoints = 0;
    while state.checkpoint_due() {
        checkpointer.poll();
        assert_eq!(done.recv_timeout(LONG).unwrap().unwrap(), state.applied());
        checkpoints += 1;
    }
    assert_eq!(checkpoints, CHANGES.div_ceil(7) - 1);
    // A key and its newest change.
    assert_eq!(state.shared.read().view.rows().len(), 2);
    checkpointer.stop();
    assert!(done.recv().is_err(), "there was nothing more to write");
}

#[test]
fn what_is_not_due_is_written_when_it_stops() {
    let disk = Disk::default();
    let state = open(&disk, &StateOptions::default());
    let (mut checkpointer, done) = spawn(&state);
    let applied = apply(&state, 1);
    checkpointer.poll();
    assert_eq!(state.durable(), LogId::ZERO);
    checkpointer.stop();
    assert_eq!(done.recv().unwrap().unwrap(), applied);
    // A second stop, and a poll after it, do nothing.
    checkpointer.stop();
    checkpointer.poll();
    drop((checkpointer, state));
    assert_eq!(open(&disk, &options()).applied(), applied);
}

#[test]
fn a_failure_is_reported_once_and_nothing_is_written_after_it() {
    let power = Power::default();
    let state = open(&Disk::new(&power), &options());
    let (mut checkpointer, done) = spawn(&state);
    let durable = apply(&state, 1);
    checkpointer.poll();
    done.recv_timeout(LONG).unwrap().unwrap();
    power.fail(Fault::FullFrom(0));
    apply(&state, 2);
    checkpointer.poll();
    let error = done.recv_timeout(LONG).unwrap().unwrap_err();
    assert!(matches!(error, StoreError::DiskFull { what: "state" }), "{error}");
    power.fail(Fault::None);
    apply(&state, 3);
    checkpointer.poll();
    checkpointer.stop();
    assert!(done.recv().is_err());
    assert_eq!(state.durable(), durable);
}

/// Of a state that its log does not hold yet.
fn ahead_of_its_log(disk: &Disk) -> Arc<State> {
    Arc::new(State::open_backend(disk.clone(), &options()).unwrap())
}

#[test]
fn a_checkpoint_waits_until_the_log_under_it_is_durable() {
    let state = ahead_of_its_log(&Disk::default());
    let (mut checkpointer, done) = spawn(&state);
    let first = apply(&state, 1);
    checkpointer.poll();
    state.log_reached(Index(0));
    assert!(done.recv_timeout(Duration::from_millis(100)).is_err(), "its log is not durable");
    let second = apply(&state, 2);
    state.log_reached(first.index);
    assert_eq!(done.recv_timeout(LONG).unwrap().unwrap(), first);
    checkpointer.poll();
    // It will never be: the node stops.
    state.log_ended();
    checkpointer.stop();
    assert!(done.recv().is_err());
    assert_eq!((state.durable(), state.applied()), (first, second));
}

/// The log gets the room for which it waits, and what was to be written is written once there is room for that, too.
#[test]
fn a_checkpoint_that_waits_for_its_log_keeps_no_room_from_it() {
    let state = ahead_of_its_log(&Disk::default());
    let (sender, done) = mpsc::channel();
    let tell = move |result: Result<LogId, StoreError>| sender.send(result).unwrap();
    let small = Small::new(1016 << 20);
    let space = small.space(64 << 20);
    let checkpointer = Checkpointer::spawn(state.clone(), space.clone(), tell).unwrap();
    apply(&state, 1);
    checkpointer.poll();
    while state.checkpoint_due() {
        std::thread::yield_now();
    }
    small.fill(1000 << 20);
    let second = apply(&state, 2);
    state.log_reached(second.index);
    while !state.is_put_off() || !state.checkpoint_due() {
        std::thread::yield_now();
    }
    assert!(done.try_recv().is_err());
    small.fill(0);
    checkpointer.poll();
    assert_eq!(done.recv_timeout(LONG).unwrap().unwrap(), second);
}

#[test]
fn a_panic_in_a_checkpoint_is_told_as_a_failure() {
    let power = Power::default();
    let state = open(&Disk::new(&power), &options());
    let (mut checkpointer, done) = spawn(&state);
    apply(&state, 1);
    power.fail(Fault::PanicAt(0));
    checkpointer.poll();
    let error = done.recv_timeout(LONG).unwrap().unwrap_err().to_string();
    assert!(error.contains("panicked"), "{error}");
    checkpointer.stop();
    assert!(done.recv().is_err());
    assert_eq!(state.applied().index, Index(1), "what memory holds can still be read");
}

#[test]
fn a_checkpoint_without_room_is_put_off() {
    let state = open(&Disk::default(), &options());
    let (sender, done) = std::sync::mpsc::channel();
    let tell = move |result: Result<LogId, StoreError>| sender.send(result).unwrap();
    let small = Small::new(1016 << 20);
    let space = small.space(64 << 20);
    let checkpointer = Checkpointer::spawn(state.clone(), space.clone(), tell).unwrap();
    small.fill(1000 << 20);
    let applied = apply(&state, 1);
    checkpointer.poll();
    assert!(done.recv_timeout(Duration::from_millis(200)).is_err(), "there was no room");
    assert!(space.is_low() && state.checkpoint_due());
    small.fill(0);
    checkpointer.poll();
    assert_eq!(done.recv_timeout(LONG).unwrap().unwrap(), applied);
    space.look();
    assert!(!space.is_low());
}

#[test]
fn a_checkpoint_that_makes_room_gets_half_of_what_is_kept() {
    const CHANGES: usize = 100;
    let state = open(&Disk::default(), &StateOptions { sweep_pause: Duration::ZERO, ..options() });
    let write = |write| {
        let id = LogId::new(Term(1), state.applied().index.next());
        let command = Command::new(write).encode();
        state.apply(&[Entry { id, payload: Payload::Command(command) }]).unwrap();
        id
    };
    let put = |key: usize| Write::put_many(vec![(key.to_string().into(), "x".into())]);
    for key in 0..CHANGES {
        write(put(key));
    }
    state.write_checkpoint(state.freeze().unwrap()).unwrap();
    let (sender, done) = mpsc::channel();
    let tell = move |result: Result<LogId, StoreError>| sender.send(result).unwrap();
    let small = Small::new(1016 << 20);
    let space = small.space(64 << 20);
    let checkpointer = Checkpointer::spawn(state.clone(), space.clone(), tell).unwrap();
    // To the last byte.
    small.fill(1000 << 20);
    write(put(0));
    checkpointer.poll();
    assert!(done.recv_timeout(Duration::from_millis(200)).is_err(), "a put can wait");
    let deleted = write(Write::delete("0".into()));
    checkpointer.poll();
    assert_eq!(done.recv_timeout(LONG).unwrap().unwrap(), deleted);
    assert!(!state.is_put_off());
    // What compaction hides goes, a little at a time.
    let rows = || state.shared.read().view.rows().len();
    let before = rows();
    write(put(7));
    let compacted = write(Write::Compact { revision: state.revision() });
    while state.checkpoint_due() {
        checkpointer.poll();
        assert_eq!(done.recv_timeout(LONG).unwrap().unwrap(), compacted);
    }
    // A key with its put, the put before, and the deletion.
    assert_eq!(rows(), before - 4);
    assert!(space.reserve(8 << 20, Purpose::Vital).is_some(), "half is kept");
    // What is large waits: of half the ballast, 8 MiB, it would take more.
    let pairs = vec![("large".into(), vec![0; 4 << 20].into())];
    write(Write::put_many(pairs));
    write(Write::delete("1".into()));
    checkpointer.poll();
    assert!(done.recv_timeout(Duration::from_millis(200)).is_err(), "there was no room");
    small.fill(0);
    checkpointer.poll();
    done.recv_timeout(LONG).unwrap().unwrap();
}

#[test]
fn a_panic_outside_of_a_checkpoint_is_told_too() {
    let state = open(&Disk::default(), &options());
    let (sender, done) = mpsc::channel();
    let tell = move |result: Result<LogId, StoreError>| {
        assert!(result.is_err(), "of the listener");
        sender.send(result).unwrap();
    };
    let mut checkpointer = Checkpointer::spawn(state.clone(), boundless(), tell).unwrap();
    apply(&state, 1);
    checkpointer.poll();
    let error = done.recv_timeout(LONG).unwrap().unwrap_err();
    assert_eq!(error.to_string(), "checkpoint ended: of the listener");
    checkpointer.stop();
}
