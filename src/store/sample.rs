//! Small files with a bit of everything in them, and all that can be read from such a file.

use super::error::StoreError;
use super::state::ReadError;
use super::state::{State, StateOptions};
use super::test_disk::{Disk, Keeps, open_log};
use crate::kv::{Command, Item, KeyRange, RangeQuery, Revision, Write};
use crate::raft::{
    ClusterId, Entry, HardState, Index, LogId, LogWrite, Membership, NodeId, Payload, Seq, Term,
};

fn membership(number: u64) -> Membership {
    let voters = [NodeId(number)].into();
    Membership { cluster: ClusterId(7), members: [].into(), voters, outgoing: None }
}

fn entry(index: u64, payload: Payload) -> Entry {
    Entry { id: LogId::new(Term(3), Index(index)), payload }
}

/// A log of a few pages: its bytes while it is open, and after it was closed. And what it held before the
/// last write.
pub(super) fn log_files() -> ([Vec<u8>; 2], LogContent) {
    let disk = Disk::default();
    let (mut log, _) = open_log(&disk).expect("a sound disk");
    let mut before = None;
    for index in 1..=60 {
        let payload = match index % 10 {
            0 => Payload::Membership(membership(index)),
            size => {
                Payload::Command("x".repeat(40 * usize::try_from(size).expect("below 10")).into())
            }
        };
        if index == 50 {
            log.compact_to(LogId::new(Term(3), Index(25))).expect("a sound disk");
        }
        if index == 60 {
            before = Some(read_log(disk.after_power_loss(Keeps::All)).expect("a sound disk"));
        }
        let hard_state =
            HardState { term: Term(3), vote: Some(NodeId(9)), commit: Index(index / 2) };
        log.append(&[LogWrite {
            seq: Seq(index),
            hard_state: Some(hard_state),
            entries: vec![entry(index, payload)],
            ..LogWrite::default()
        }])
        .expect("a sound disk");
    }
    let open = disk.bytes();
    log.close().expect("a sound disk");
    ([open, disk.bytes()], before.expect("60 entries were written"))
}

/// All that a log says.
pub(super) type LogContent = (HardState, LogId, Vec<Entry>, Vec<(Index, Membership)>);

pub(super) fn read_log(disk: Disk) -> Result<LogContent, StoreError> {
    let (log, found) = open_log(&disk)?;
    let base = LogId::new(Term(3), Index(25));
    let recovered = found.into_recovered(&log.reader(), base)?;
    let reader = log.reader();
    let last = reader.last()?;
    let entries = reader.read(Index(26), last, usize::MAX)?;
    let memberships = reader.memberships()?;
    Ok((recovered.hard_state, recovered.base, entries, memberships))
}

/// A state of a few pages: its bytes while it is open, and after it was closed.
pub(super) fn state_files() -> [Vec<u8>; 2] {
    let disk = Disk::default();
    let state = fill_state(&disk, "key", 60);
    let open = disk.bytes();
    drop(state);
    [open, disk.bytes()]
}

/// A state after so many entries, with a checkpoint after every tenth, whose keys' names begin so.
pub(super) fn fill_state(disk: &Disk, name: &str, entries: u64) -> State {
    let state = open_state(disk).expect("a sound disk");
    for index in 1..=entries {
        apply_one(&state, name, index);
        if index.is_multiple_of(10) {
            let frozen = state.freeze().expect("a sound disk");
            state.write_checkpoint(frozen).expect("a sound disk");
        }
    }
    state
}

/// So many entries more, in no checkpoint yet.
#[cfg(test)]
pub(super) fn write_more(state: &State, entries: u64) {
    let last = state.applied().index.0;
    (last + 1..=last + entries).for_each(|index| apply_one(state, "key", index));
}

/// Gives up all of the past.
#[cfg(test)]
pub(super) fn compact(state: &State) {
    let write = Write::Compact { revision: state.revision() };
    let payload = Payload::Command(Command::new(write).encode());
    let index = state.applied().index.next();
    state.apply(&[Entry { id: LogId::new(Term(3), index), payload }]).expect("a sound disk");
}

fn apply_one(state: &State, name: &str, index: u64) {
    let payload = match index % 15 {
        0 => Payload::Membership(membership(index)),
        number => Payload::Command(
            Command::new(Write::put(
                format!("{name} {}", number * index % 31).into(),
                "v".repeat(30 * usize::try_from(number).expect("below 15")).into(),
            ))
            .encode(),
        ),
    };
    state.apply(&[entry(index, payload)]).expect("a sound disk");
}

pub(super) fn open_state(disk: &Disk) -> Result<State, StoreError> {
    let options = StateOptions { cache_bytes: 1 << 20, ..StateOptions::default() };
    State::open_backend(disk.clone(), &options)
}

/// All that a state says: of each key both newest and past values, looked up and listed.
pub(super) type StateContent = ((LogId, u64), Option<(Index, Membership)>, Revision, Vec<Item>);

pub(super) fn read_state(disk: Disk) -> Result<StateContent, StoreError> {
    content(&open_state(&disk)?).map_err(|error| match error {
        ReadError::Store(error) => error,
        other => panic!("{other}"),
    })
}

pub(super) fn content(state: &State) -> Result<StateContent, ReadError> {
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
            found.extend(state.range(&query)?.items);
        }
        for key in 0..31 {
            let key = format!("key {key}");
            found.extend(state.get(key.as_bytes(), Some(at))?.1);
        }
    }
    Ok((state.hash(), state.membership(), newest, found))
}

/// A node alone, as one that was restored is.
#[cfg(test)]
pub(super) fn alone(cluster: u64, id: NodeId) -> Membership {
    let member = crate::raft::Member {
        name: "n1".to_owned(),
        raft_address: String::new(),
        http_address: String::new(),
        seen: true,
        promote: false,
        replaces: None,
    };
    Membership {
        cluster: ClusterId(cluster),
        members: [(id, member)].into(),
        voters: [id].into(),
        outgoing: None,
    }
}

/// A backup of a state, in small parts.
#[cfg(test)]
pub(super) fn backup(state: &State) -> Vec<u8> {
    let text = String::new;
    let origin = super::Origin { konsen: text(), cluster: text(), node: text(), created: text() };
    let mut reader = state.backup(origin);
    std::iter::from_fn(|| reader.next_part(700).expect("a sound disk")).flatten().collect()
}
