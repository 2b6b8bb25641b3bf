//! One byte of a file is not what was written: what is read is an error or exactly what was written.

use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::error::StoreError;
use super::log::{Log, LogOptions, RecoveredLog};
use super::state::{ReadError, State, StateOptions};
use super::test_disk::{Disk, Keeps};
use crate::kv::{Command, Condition, Item, KeyRange, Put, RangeQuery, Revision, Write};
use crate::raft::{
    ClusterId, Entry, HardState, Index, LogId, LogWrite, Membership, NodeId, Payload, Seq, Term,
};

/// Changes one byte after the other, `step` apart, and reads all. What is found is one of `written`,
/// the first of which is what the file holds, or an error.
fn flip<T: PartialEq + Debug>(
    bytes: &[u8],
    step: usize,
    written: &[T],
    read: impl Fn(Disk) -> Result<T, StoreError>,
) {
    assert_eq!(Some(&read(Disk::holding(bytes.to_vec())).unwrap()), written.first());
    let mut refused = 0;
    for at in (0..bytes.len()).step_by(step) {
        let mut changed = bytes.to_vec();
        changed[at] ^= if at.is_multiple_of(2) { 1 } else { 0xff };
        match catch_unwind(AssertUnwindSafe(|| read(Disk::holding(changed)))) {
            Err(_) => panic!("byte {at} made it panic"),
            Ok(Err(_)) => refused += 1,
            Ok(Ok(found)) => assert!(written.contains(&found), "byte {at}: {found:#?}"),
        }
    }
    // Most of a file is free space.
    assert!(refused > 20, "of {} changes {refused} were found", bytes.len() / step);
}

fn membership(number: u64) -> Membership {
    let voters = [NodeId(number)].into();
    Membership { cluster: ClusterId(7), members: [].into(), voters, outgoing: None }
}

fn entry(index: u64, payload: Payload) -> Entry {
    Entry { id: LogId::new(Term(3), Index(index)), payload }
}

/// A log of a few pages: its bytes while it is open, and after it was closed. And what it held before the
/// last write.
fn log_files() -> ([Vec<u8>; 2], LogContent) {
    let disk = Disk::default();
    let (mut log, _) = open_log(&disk).unwrap();
    let mut before = None;
    for index in 1..=60 {
        let payload = match index % 10 {
            0 => Payload::Membership(membership(index)),
            size => Payload::Command("x".repeat(40 * usize::try_from(size).unwrap()).into()),
        };
        if index == 50 {
            log.compact_to(LogId::new(Term(3), Index(25))).unwrap();
        }
        if index == 60 {
            before = Some(read_log(disk.after_power_loss(Keeps::All)).unwrap());
        }
        let hard_state =
            HardState { term: Term(3), vote: Some(NodeId(9)), commit: Index(index / 2) };
        log.append(&[LogWrite {
            seq: Seq(index),
            hard_state: Some(hard_state),
            entries: vec![entry(index, payload)],
            ..LogWrite::default()
        }])
        .unwrap();
    }
    let open = disk.bytes();
    log.close().unwrap();
    ([open, disk.bytes()], before.unwrap())
}

fn open_log(disk: &Disk) -> Result<(Log, RecoveredLog), StoreError> {
    Log::open_backend(disk.clone(), &LogOptions { cache_bytes: 1 << 20 })
}

/// All that a log says.
type LogContent = (HardState, LogId, Vec<Entry>, Vec<(Index, Membership)>);

fn read_log(disk: Disk) -> Result<LogContent, StoreError> {
    let (log, found) = open_log(&disk)?;
    let base = LogId::new(Term(3), Index(25));
    let recovered = found.into_recovered(&log, base)?;
    let reader = log.reader();
    let last = reader.last()?;
    let entries = reader.read(Index(26), last, usize::MAX)?;
    let memberships = reader.memberships()?;
    Ok((recovered.hard_state, recovered.base, entries, memberships))
}

/// A state of a few pages: its bytes while it is open, and after it was closed.
fn state_files() -> [Vec<u8>; 2] {
    let disk = Disk::default();
    let state = open_state(&disk).unwrap();
    for index in 1..=60_u64 {
        let payload = match index % 15 {
            0 => Payload::Membership(membership(index)),
            number => Payload::Command(
                Command {
                    time_unix_ms: 0,
                    write: Write::Put(Put {
                        key: format!("key {}", number * index % 31).into(),
                        value: "v".repeat(30 * usize::try_from(number).unwrap()).into(),
                        content_type: None,
                        condition: Condition::default(),
                    }),
                }
                .encode(),
            ),
        };
        state.apply(&[entry(index, payload)]).unwrap();
        if index.is_multiple_of(10) {
            let frozen = state.freeze().unwrap();
            state.write_checkpoint(frozen).unwrap();
        }
    }
    let open = disk.bytes();
    drop(state);
    [open, disk.bytes()]
}

fn open_state(disk: &Disk) -> Result<State, StoreError> {
    let options = StateOptions { cache_bytes: 1 << 20, ..StateOptions::default() };
    State::open_backend(disk.clone(), &options)
}

/// All that a state says: of each key both newest and past values, looked up and listed.
type StateContent = ((LogId, u64), Option<(Index, Membership)>, Revision, Vec<Item>);

fn read_state(disk: Disk) -> Result<StateContent, StoreError> {
    let state = open_state(&disk)?;
    let stored = |error| match error {
        ReadError::Store(error) => error,
        other => panic!("{other}"),
    };
    let mut found = Vec::new();
    let newest = state.revision();
    for at in [newest, Revision(newest.0 / 2)] {
        for descending in [false, true] {
            let query = RangeQuery {
                range: KeyRange::all(),
                at: Some(at),
                descending,
                keys_only: false,
                items_max: usize::MAX,
                bytes_max: usize::MAX,
            };
            found.extend(state.range(&query).map_err(stored)?.items);
        }
        for key in 0..31 {
            let key = format!("key {key}");
            found.extend(state.get(key.as_bytes(), Some(at)).map_err(stored)?.1);
        }
    }
    Ok((state.hash(), state.membership(), newest, found))
}

fn flip_log(step: usize) {
    let ([open, closed], before) = log_files();
    let written = read_log(Disk::holding(closed.clone())).unwrap();
    // Of a log that was not closed the last write cannot be told from one that a crash cut short.
    flip(&open, step, &[written.clone(), before], read_log);
    flip(&closed, step, &[written], read_log);
}

fn flip_state(step: usize) {
    let [open, closed] = state_files();
    let written = read_state(Disk::holding(closed.clone())).unwrap();
    flip(&open, step, std::slice::from_ref(&written), read_state);
    flip(&closed, step, &[written], read_state);
}

#[test]
fn a_damaged_log_is_read_as_it_was_written_or_not_at_all() {
    flip_log(67);
}

#[test]
fn a_damaged_state_is_read_as_it_was_written_or_not_at_all() {
    flip_state(197);
}

#[test]
#[ignore = "takes minutes"]
fn every_single_byte_of_a_log_is_told_when_it_is_damaged() {
    flip_log(1);
}

#[test]
#[ignore = "takes minutes"]
fn every_single_byte_of_a_state_is_told_when_it_is_damaged() {
    flip_state(1);
}
