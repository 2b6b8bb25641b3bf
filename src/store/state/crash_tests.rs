//! The power fails at every operation of a script, and the state is what it was at the entry that is stored
//! with it.

use bytes::Bytes;

use super::*;
use crate::kv::{Command, Condition, Item, KeyRange, Put, RangeQuery, Write};
use crate::raft::{ClusterId, Entry, NodeId, Payload, Term};
use crate::store::ReadError;
use crate::store::test_disk::{Disk, Fault, Journal, Keeps, Power, subsets_of};

fn options() -> StateOptions {
    // So small that a sweep takes several checkpoints.
    let verify = Verify::Later;
    StateOptions { cache_bytes: 1 << 20, sweep_rows: 1, verify, ..StateOptions::default() }
}

/// As a node does; whatever a loss of power left, no page of it is taken for damaged.
fn open(disk: &Disk) -> Result<State, StoreError> {
    let state = State::open_backend(disk.clone(), &options())?;
    while state.verify(1 << 20)? {}
    Ok(state)
}

fn key(number: u64) -> Bytes {
    format!("key {number:02}").into()
}

/// The entry at an index; every kind comes up.
fn entry(index: u64) -> Entry {
    let write = match index % 9 {
        _ if index % 10 == 4 => Write::Compact { revision: Revision(index / 2) },
        0 => Write::delete_range(
            KeyRange { start: key(index % 4), end: Some(key(index % 4 + 3)) },
            u64::MAX,
        ),
        1 => Write::delete(key(index % 5)),
        2 => Write::put_many(
            (0..6).map(|n| (key(n * index % 11), format!("{index}/{n}").into())).collect(),
        ),
        _ => Write::put_if(
            Put {
                content_type: index.is_multiple_of(3).then(|| "text/plain".to_owned()),
                ..Put::new(
                    key(index % 8),
                    "v".repeat(usize::try_from(index % 7 * 500).unwrap()).into(),
                )
            },
            Condition::default(),
        ),
    };
    let payload = match index % 10 {
        6 => Payload::Noop,
        7 => Payload::Membership(Membership {
            cluster: ClusterId(1),
            members: [].into(),
            voters: [NodeId(index)].into(),
            outgoing: None,
        }),
        _ => Payload::Command(Command::new(write).encode()),
    };
    Entry { id: LogId::new(Term(index / 7 + 1), Index(index)), payload }
}

enum Step {
    /// Applies so many entries together.
    Apply(u64),
    Freeze,
    Write,
    /// Checkpoints until nothing is left to sweep.
    Sweep,
}

/// Checkpoints of one entry and of many, entries that come between a freeze and its checkpoint, and sweeps
/// that take several checkpoints.
fn script() -> Vec<Step> {
    use Step::{Apply, Freeze, Sweep, Write};
    vec![
        Apply(1),
        Freeze,
        Write,
        Apply(8),
        Freeze,
        Apply(5),
        Write,
        Apply(1),
        Freeze,
        Write,
        Apply(20),
        Apply(4),
        Freeze,
        Apply(2),
        Write,
        Freeze,
        Write,
        Apply(3),
        Sweep,
        Apply(3),
    ]
}

const ENTRIES: u64 = 47;

/// All that a state says, but for what is in which file or overlay.
type Content = ((LogId, u64), Option<(Index, Membership)>, Vec<(Revision, Option<Vec<Item>>)>);

fn content(state: &State) -> Content {
    let newest = state.revision();
    let at = |revision| {
        let query = RangeQuery {
            range: KeyRange::all(),
            at: Some(revision),
            descending: false,
            keys_only: false,
            items_max: usize::MAX,
            bytes_max: usize::MAX,
        };
        let mut items = match state.range(&query) {
            Ok(page) => page.items,
            Err(ReadError::Compacted { .. }) => return (revision, None),
            Err(error) => panic!("{error}"),
        };
        items.extend((0..11).filter_map(|n| state.get(&key(n), Some(revision)).unwrap().1));
        (revision, Some(items))
    };
    let revisions = [newest.0, newest.0 / 2, state.compacted().0, 1].map(Revision);
    let revisions = revisions.into_iter().filter(|revision| *revision <= newest);
    (state.hash(), state.membership(), revisions.map(at).collect())
}

/// What a state is after each number of entries, none of which ever saw a disk.
fn models(entries: u64) -> Vec<Content> {
    let state = open(&Disk::default()).unwrap();
    let mut models = vec![content(&state)];
    for index in 1..=entries {
        state.apply(&[entry(index)]).unwrap();
        models.push(content(&state));
    }
    models
}

/// What is left in the file once nothing is to be swept any more.
fn swept_rows(state: &State) -> Vec<(Vec<u8>, Vec<u8>)> {
    while let Some(frozen) = state.freeze() {
        state.write_checkpoint(frozen).unwrap();
    }
    state.shared.read().view.rows()
}

fn index(id: LogId) -> usize {
    usize::try_from(id.index.0).unwrap()
}

/// Applies what the state lacks of the entries up to `last`.
fn replay(state: &State, last: u64) {
    let entries: Vec<Entry> = (state.applied().index.0 + 1..=last).map(entry).collect();
    state.apply(&entries).unwrap();
}

/// Runs the script until an operation fails: the entries that the last checkpoint that ended covers, and
/// those of the one that was under way.
fn run(state: &State) -> (LogId, Option<LogId>) {
    let (mut done, mut frozen) = (LogId::ZERO, None);
    for step in script() {
        match step {
            Step::Apply(count) => replay(state, state.applied().index.0 + count),
            Step::Freeze => frozen = Some(state.freeze().unwrap()),
            Step::Write | Step::Sweep => {
                let mut next = frozen.take().or_else(|| state.freeze());
                while let Some(taken) = next {
                    let under_way = taken.applied();
                    match state.write_checkpoint(taken) {
                        Ok(applied) => done = applied,
                        Err(_) => return (done, Some(under_way)),
                    }
                    next = if matches!(step, Step::Sweep) { state.freeze() } else { None };
                }
            }
        }
    }
    assert_eq!(state.applied().index, Index(ENTRIES));
    (done, None)
}

#[test]
fn a_power_loss_at_any_operation_leaves_the_state_of_a_checkpoint() {
    let models = models(ENTRIES);
    let calm = open(&Disk::default()).unwrap();
    replay(&calm, ENTRIES);
    let rows = swept_rows(&calm);
    let (mut crashes, mut found_later, mut found_unswept) = (0, 0, 0);
    for operation in 1.. {
        let power = Power::default();
        let disk = Disk::new(&power);
        drop(open(&disk).unwrap());
        let stop = power.operations() + operation;
        power.fail(Fault::StopAt(stop));
        let opened = open(&disk);
        let (done, under_way) = opened.as_ref().map_or((LogId::ZERO, None), run);
        // Before it is dropped: closing a file writes, too.
        let whole = power.operations() < stop;
        for keeps in Keeps::all(operation) {
            let at = format!("operation {operation}, {keeps:?}, {done} done, {under_way:?} begun");
            let disk = disk.after_power_loss(keeps);
            let state = open(&disk).unwrap_or_else(|error| panic!("{at}: {error}"));
            let applied = state.applied();
            assert!(applied == done || Some(applied) == under_way, "{at}: at {applied}");
            assert_eq!(state.durable(), applied, "{at}");
            assert_eq!(content(&state), models[index(applied)], "{at}");
            found_later += usize::from(applied != done);
            found_unswept += usize::from(state.shared.read().view.is_unswept(&state.pins));
            crashes += 1;
            if !matches!(keeps, Keeps::None | Keeps::Random(_)) {
                continue;
            }
            // And it goes on from there.
            replay(&state, ENTRIES);
            state.write_checkpoint(state.freeze().unwrap()).unwrap();
            drop(state);
            let state = open(&disk).unwrap();
            assert_eq!(content(&state), models[index(state.applied())], "{at}");
            assert_eq!(state.durable().index, Index(ENTRIES), "{at}");
            assert_eq!(swept_rows(&state), rows, "{at}");
            assert_eq!(content(&state), models[index(state.applied())], "{at}");
        }
        drop(opened);
        if whole {
            break;
        }
    }
    assert!(crashes > 100, "{crashes}");
    assert!(found_later > 0, "none that was under way was ever found");
    assert!(found_unswept > 0, "no crash came in the middle of a sweep");
}

#[test]
fn every_crash_point_of_a_long_life_leaves_a_checkpoint() {
    const LONG: u64 = 200;
    let models = models(LONG);
    let journal = Journal::default();
    let state = open(&Disk::recorded(&journal)).unwrap();
    // After how many operations each checkpoint had ended, and what it covers.
    let mut ends = vec![(journal.len(), LogId::ZERO)];
    while state.applied().index < Index(LONG) {
        let applied = state.applied().index.0;
        replay(&state, (applied + 1 + applied % 5).min(LONG));
        let frozen = state.freeze().unwrap();
        // What comes in the meantime belongs to the next one.
        replay(&state, (state.applied().index.0 + applied % 3).min(LONG));
        let covers = state.write_checkpoint(frozen).unwrap();
        ends.push((journal.len(), covers));
    }
    let ended = |operations| ends.partition_point(|(end, _)| *end <= operations);
    let mut losses = 0;
    journal.power_losses(subsets_of(), ended, |loss| {
        let ended = ended(loss.operations);
        // A file that was never made whole is made anew; see `files`.
        let Some(last) = ended.checked_sub(1) else { return };
        let at = format!("after operation {}, {last} checkpoints ended", loss.operations);
        let state = open(&Disk::holding(loss.bytes));
        let state = state.unwrap_or_else(|error| panic!("{at}: {error}"));
        let applied = state.applied();
        let allowed = ends.iter().skip(last).take(2).any(|(_, covers)| *covers == applied);
        assert!(allowed, "{at}: at {applied}");
        assert_eq!(content(&state), models[index(applied)], "{at}");
        losses += 1;
    });
    eprintln!("{} operations, {losses} losses of power", journal.len());
    assert!(losses > 500, "{losses}");
}
