//! The power fails at every operation of a restore and of a rescue, whose two files are on one machine's disks.
//!
//! While either is under way a marker in the directory keeps nodes out (`identity.rs`; in which order it comes and
//! goes is watched in `tests/cluster/markers.rs`). So what counts is: once all is done, nothing is lost any more, and
//! before that a rescue can be done again. That the two files fit each other at every moment is more than is needed.

use super::*;
use crate::kv::{Command, Write};
use crate::raft::{ClusterId, Entry, Index, Payload, Term};
use crate::store::disk::coalesce::Coalesce;
use crate::store::sample::{self, StateContent, backup, content, fill_state};
use crate::store::test_disk::{Disk, Fault, Keeps, Power, log_parts, open_log};

const OWN: NodeId = NodeId(7000);

/// The disks of the state and of the log.
type Disks = [Disk; 2];

fn open_state(disk: &Disk) -> Result<State, StoreError> {
    // So small that every entry fills it.
    let options =
        StateOptions { cache_bytes: 1 << 20, overlay_bytes: 1, ..StateOptions::default() };
    State::open_backend(disk.clone(), &options)
}

/// What a start finds.
fn start([state, log]: &Disks) -> Result<(State, Log, Recovered), StoreError> {
    let state = open_state(state)?;
    let (mut log, found) = open_log(log)?;
    let recovered = recover(&state, &mut log, found)?;
    Ok((state, log, recovered))
}

/// Databases that are made and hold nothing yet, as [`files::open`] puts them in their place.
fn empty(power: &Power) -> Disks {
    let disks = [(); 2].map(|()| Disk::new(power));
    let make = |made: Result<_, StoreError>| drop(made.unwrap());
    let coalesce = Coalesce::default();
    make(files::open_backend(disks[0].clone(), &coalesce, 1 << 20, "file"));
    make(files::open_backend(log_parts(&disks[1]).0, &coalesce, 1 << 20, "file"));
    disks
}

/// Disks with the content of others.
fn copies(of: &[Vec<u8>; 2], power: &Power) -> Disks {
    of.each_ref().map(|bytes| Disk::holding(bytes.clone()).powered_by(power))
}

fn after_power_loss(disks: &Disks, keeps: Keeps) -> Disks {
    disks.each_ref().map(|disk| disk.after_power_loss(keeps))
}

fn bytes(disks: &Disks) -> [Vec<u8>; 2] {
    disks.each_ref().map(Disk::bytes)
}

/// This node alone, in that cluster.
fn alone(cluster: u64) -> Membership {
    sample::alone(cluster, OWN)
}

#[test]
fn a_restore_is_whole_once_it_is_done_and_its_files_fit_each_other_at_every_power_loss() {
    let source = fill_state(&Disk::default(), "key", 60);
    let (backup, last) = (backup(&source), LogId::new(Term(3), Index(60)));
    let (hash, _, revision, items) = content(&source).unwrap();
    let restored: StateContent = (hash, Some((last.index, alone(99))), revision, items);
    let nothing = content(&open_state(&Disk::default()).unwrap()).unwrap();
    let (mut found_nothing, mut found_all) = (0, 0);
    for operation in 1.. {
        let power = Power::default();
        let disks = empty(&power);
        let stop = power.operations() + operation;
        power.fail(Fault::StopAt(stop));
        let done = open_state(&disks[0])
            .map_err(BackupError::from)
            .and_then(|state| fill(&backup[..], state, || open_log(&disks[1]), alone(99)));
        for keeps in Keeps::all(operation) {
            let at = format!("operation {operation}, {keeps:?}, done: {}", done.is_ok());
            let disks = after_power_loss(&disks, keeps);
            // The second start finds what the first one left.
            for _ in 0..2 {
                let (state, log, recovered) =
                    start(&disks).unwrap_or_else(|error| panic!("{at}: {error}"));
                let content = content(&state).unwrap();
                if content == nothing {
                    assert!(done.is_err(), "{at}: nothing is there");
                    assert_eq!(
                        (log.base(), recovered.committed),
                        (LogId::ZERO, LogId::ZERO),
                        "{at}"
                    );
                    found_nothing += 1;
                    continue;
                }
                assert_eq!(content, restored, "{at}");
                assert_eq!((log.base(), recovered.committed), (last, last), "{at}");
                assert_eq!(recovered.applied, last.index, "{at}");
                assert_eq!(recovered.memberships, [(last.index, alone(99))], "{at}");
                assert_eq!(recovered.hard_state.term, last.term, "{at}");
                assert!(recovered.tail.is_empty(), "{at}");
                found_all += 1;
            }
        }
        if done.is_ok() && power.operations() < stop {
            break;
        }
    }
    eprintln!("{found_nothing} starts with nothing, {found_all} with all");
    assert!(found_nothing > 100 && found_all > 100, "{found_nothing} {found_all}");
}

const LAST: LogId = LogId { term: Term(3), index: Index(14) };
const HARD_STATE: HardState =
    HardState { term: Term(5), vote: Some(NodeId(5000)), commit: Index(7) };

fn old(cluster: u64) -> Membership {
    Membership { voters: [OWN, NodeId(5000), NodeId(6000)].into(), ..alone(cluster) }
}

/// The log of a node of three; a change of the members is among what is not decided.
fn entry(index: u64) -> Entry {
    let payload = match index {
        1 | 10 => Payload::Membership(Membership { cluster: ClusterId(index), ..old(7) }),
        // The last one leaves nothing in memory either.
        4 | 14 => Payload::Noop,
        _ => Payload::Command(
            Command::new(Write::put(
                format!("key {}", index % 5).into(),
                format!("{index}/{}", "v".repeat(900)).into(),
            ))
            .encode(),
        ),
    };
    Entry { id: LogId::new(Term(if index < 4 { 1 } else { 3 }), Index(index)), payload }
}

/// What a stopped node left: its state is at entry 5, it knows of 7 that it is decided, and has all up to [`LAST`].
fn survivor() -> [Vec<u8>; 2] {
    let disks = empty(&Power::default());
    let (state, mut log, _) = start(&disks).unwrap();
    let entries: Vec<Entry> = (1..=LAST.index.0).map(entry).collect();
    state.apply(&entries[..5]).unwrap();
    state.write_checkpoint(state.freeze().unwrap()).unwrap();
    log.append(&[LogWrite { hard_state: Some(HARD_STATE), entries, ..LogWrite::default() }])
        .unwrap();
    // So that its log does not begin with the first entry.
    log.compact_to(LogId::new(Term(1), Index(3))).unwrap();
    log.append(&[LogWrite::default()]).unwrap();
    log.close().unwrap();
    drop(state);
    bytes(&disks)
}

/// Makes the node the only voter of that cluster, as [`rescue`] does.
fn begin(disks: &Disks, cluster: u64) -> Result<(), StoreError> {
    let (state, mut log, recovered) = start(disks)?;
    begin_alone(&state, &mut log, &recovered, alone(cluster))?;
    log.close()
}

/// What a state is that never saw a disk, after all entries of the log, of that cluster.
fn model(cluster: u64) -> StateContent {
    let state = open_state(&Disk::default()).unwrap();
    state.apply(&(1..=LAST.index.0).map(entry).collect::<Vec<_>>()).unwrap();
    let (hash, _, revision, items) = content(&state).unwrap();
    (hash, Some((LAST.index, alone(cluster))), revision, items)
}

/// Whether a start finds all entries carried out, the members of that cluster only, and no term or vote of the
/// other one; the second start what the first one left.
fn is_whole(disks: &Disks, model: &StateContent, at: &str) {
    let members = model.1.clone().unwrap();
    for _ in 0..2 {
        let (state, log, recovered) = start(disks).unwrap_or_else(|error| panic!("{at}: {error}"));
        assert_eq!(content(&state).unwrap(), *model, "{at}");
        assert_eq!((log.base(), recovered.committed), (LAST, LAST), "{at}");
        assert_eq!(recovered.memberships, std::slice::from_ref(&members), "{at}");
        assert_eq!(
            recovered.hard_state,
            HardState { term: LAST.term, vote: None, commit: LAST.index },
            "{at}"
        );
        assert!(recovered.tail.is_empty(), "{at}");
    }
}

#[test]
fn a_rescue_is_whole_once_it_is_done_and_can_be_done_again_after_every_power_loss() {
    let survivor = survivor();
    let (first, second) = (model(90), model(91));
    let (mut applied, mut losses) = (std::collections::BTreeSet::new(), 0);
    for operation in 1.. {
        let power = Power::default();
        let disks = copies(&survivor, &power);
        power.fail(Fault::StopAt(operation));
        let done = begin(&disks, 90);
        for keeps in Keeps::all(operation) {
            let at = format!("operation {operation}, {keeps:?}, done: {}", done.is_ok());
            let disks = after_power_loss(&disks, keeps);
            if done.is_ok() {
                is_whole(&disks, &first, &at);
            }
            let (state, _, recovered) = start(&disks).unwrap_or_else(|e| panic!("{at}: {e}"));
            assert_eq!(last_of(&recovered), LAST, "{at}");
            applied.insert(state.applied().index);
            losses += 1;
            drop(state);
            if !matches!(keeps, Keeps::None | Keeps::Random(_)) {
                continue;
            }
            begin(&disks, 91).unwrap_or_else(|error| panic!("{at}: {error}"));
            is_whole(&disks, &second, &at);
        }
        if done.is_ok() && power.operations() < operation {
            break;
        }
    }
    eprintln!("{losses} losses of power");
    assert!(losses > 500, "{losses}");
    // A membership takes no room in memory that a checkpoint would have to make.
    let last_of_one = (5..=LAST.index.0).filter(|index| *index != 10).map(Index);
    assert!(last_of_one.eq(applied), "not every checkpoint was the last before a power loss");
}

#[test]
fn a_second_power_loss_while_a_rescue_is_done_again_takes_nothing_either() {
    let survivor = survivor();
    let (second, third) = (model(91), model(92));
    let mut losses = 0;
    // What two neighbouring losses leave is much alike: not every one needs its own.
    for operation in (1..).step_by(11) {
        let power = Power::default();
        let disks = copies(&survivor, &power);
        power.fail(Fault::StopAt(operation));
        let done = begin(&disks, 90).is_ok();
        let left = bytes(&after_power_loss(&disks, Keeps::Random(operation)));
        for again in (1..).step_by(5) {
            let at = format!("operation {operation}, then {again} of the second try");
            let power = Power::default();
            let disks = copies(&left, &power);
            power.fail(Fault::StopAt(again));
            let done_again = begin(&disks, 91).is_ok();
            let disks = after_power_loss(&disks, Keeps::Random(again));
            if done_again {
                is_whole(&disks, &second, &at);
            }
            begin(&disks, 92).unwrap_or_else(|error| panic!("{at}: {error}"));
            is_whole(&disks, &third, &at);
            losses += 1;
            if done_again {
                break;
            }
        }
        if done {
            break;
        }
    }
    eprintln!("{losses} second losses of power");
    assert!(losses > 200, "{losses}");
}
