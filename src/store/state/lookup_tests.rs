use bytes::Bytes;
use proptest::prelude::*;
use redb::backends::InMemoryBackend;

use super::*;
use crate::kv::{Command, Condition, Write};
use crate::raft::{Entry, Index, LogId, Payload, Term};
use crate::store::state::at_hand::AtHand;
use crate::store::test_disk::{Disk, Power};
use crate::store::{Carried, StateOptions};

/// Nothing stays at hand that was only changed.
fn options() -> StateOptions {
    StateOptions { cache_bytes: 1 << 20, rows_bytes: 0, ..StateOptions::default() }
}

fn state() -> State {
    State::open_backend(InMemoryBackend::new(), &options()).unwrap()
}

fn state_that_holds(rows_bytes: usize) -> State {
    let options = StateOptions { rows_bytes, ..options() };
    State::open_backend(InMemoryBackend::new(), &options).unwrap()
}

fn key(number: u16) -> Bytes {
    Bytes::from(format!("k{number:05}"))
}

fn put(number: u16) -> Write {
    let _condition = Condition::default();
    Write::put(key(number), key(number))
}

fn range(from: u16, to: u16) -> KeyRange {
    KeyRange { start: key(from), end: Some(key(to)) }
}

fn delete(range: KeyRange, keys_max: u64) -> Write {
    Write::DeleteStep { range, keys_max }
}

fn entry(index: u64, write: Write) -> Entry {
    let payload = Payload::Command(Command::new(write).encode());
    Entry { id: LogId::new(Term(1), Index(index)), payload }
}

/// Everything in the file, and nothing in the overlays.
fn checkpoint(state: &State) {
    if let Some(frozen) = state.freeze() {
        state.write_checkpoint(frozen).unwrap();
    }
}

/// The same, and no row at hand of what was changed.
fn put_away(state: &State) {
    checkpoint(state);
    state.shared.write().at_hand = AtHand::nothing(0);
}

fn at_hand(state: &State, entries: &[Entry]) -> (usize, bool) {
    let Carried { applied, lacks_rows } = state.apply_at_hand(entries).unwrap();
    (applied.len(), lacks_rows)
}

fn commands(entries: &[Entry]) -> impl Iterator<Item = &Bytes> {
    entries.iter().filter_map(|entry| entry.payload.command())
}

fn fetch(state: &State, entries: &[Entry]) {
    state.fetch_rows(commands(entries)).unwrap();
}

fn fetch_ahead(state: &State, entries: &[Entry]) {
    state.fetch_rows_ahead(commands(entries)).unwrap();
}

#[test]
fn nothing_is_applied_without_its_rows_and_all_of_it_with_them() {
    let state = state();
    state.apply(&[entry(1, put(1)), entry(2, put(2))]).unwrap();
    put_away(&state);
    // A write of many keys changes nothing as long as the last of them is not at hand.
    let pairs = vec![(key(7), key(7)), (key(1), key(8))];
    let entries = [entry(3, put(7)), entry(4, Write::put_many(pairs)), entry(5, put(2))];
    let before = state.hash();
    assert_eq!(at_hand(&state, &entries), (0, true));
    fetch(&state, &entries[..1]);
    assert_eq!(at_hand(&state, &entries), (1, true));
    assert_eq!(state.applied().index, Index(3));
    assert_ne!(state.hash(), before);
    fetch(&state, &entries[1..]);
    assert_eq!(at_hand(&state, &entries[1..]), (2, false));
    // What the overlays hold is at hand; what they held is in the file then.
    assert_eq!(at_hand(&state, &[entry(6, put(7))]), (1, false));
    put_away(&state);
    assert_eq!(at_hand(&state, &[entry(7, put(7))]), (0, true));
}

#[test]
fn what_was_changed_lately_is_at_hand_when_the_file_holds_it() {
    let state = state_that_holds(1 << 20);
    let gone = Write::delete(key(2));
    state.apply(&[entry(1, put(1)), entry(2, put(2)), entry(3, gone)]).unwrap();
    checkpoint(&state);
    assert!(state.shared.read().active.keys.is_empty());
    assert_eq!(at_hand(&state, &[entry(4, put(1)), entry(5, put(2))]), (2, false));
    assert_eq!(at_hand(&state, &[entry(6, put(3))]), (0, true));
    let (_, item) = state.get(&key(1), None).unwrap();
    assert_eq!(item.map(|item| item.version), Some(2));
    let (_, item) = state.get(&key(2), None).unwrap();
    assert_eq!(item.map(|item| item.version), Some(1));
}

#[test]
fn a_range_is_gone_through_part_by_part_and_again_after_a_checkpoint() {
    let state = state();
    let keys = 9_000;
    let long = |n: u16| Bytes::from(format!("{n:04000}"));
    let put_long = |n: u16| {
        let (key, value, _condition) = (long(n), Bytes::new(), Condition::default());
        Write::put(key, value)
    };
    let entries: Vec<Entry> = (1..=keys).map(|n| entry(u64::from(n), put_long(n))).collect();
    let mut rest = entries.as_slice();
    while !rest.is_empty() {
        rest = &rest[state.apply(rest).unwrap().len()..];
    }
    checkpoint(&state);
    let all = [entry(u64::from(keys) + 1, delete(KeyRange::all(), u64::MAX))];
    let mut fetches = 0;
    while at_hand(&state, &all) == (0, true) {
        fetch(&state, &all);
        fetches += 1;
    }
    assert_eq!(fetches, usize::from(keys) * row_bytes(&long(0)) / RANGE_BYTES_MAX + 1);
    assert_eq!(state.get(&long(keys), None).unwrap().1, None);
    // With the last part of it fetched the file holds more.
    let again = [entry(u64::from(keys) + 2, delete(range(0, 5), 3))];
    fetch(&state, &again);
    checkpoint(&state);
    assert_eq!(at_hand(&state, &again), (0, true));
    fetch(&state, &again);
    assert_eq!(at_hand(&state, &again), (1, false));
}

#[test]
fn a_write_of_more_keys_than_are_held_of_others_is_carried_out() {
    let state = state();
    let long = |n: usize| Bytes::from(format!("{n:04000}"));
    let pairs = (0..6000).map(|n| (long(n), Bytes::new())).collect();
    let all = [entry(1, Write::put_many(pairs))];
    assert_eq!(at_hand(&state, &all), (0, true));
    fetch(&state, &all);
    assert_eq!(at_hand(&state, &all), (1, false));
}

#[test]
fn whatever_else_is_wanted_what_is_needed_first_is_fetched() {
    let state = state();
    let entries: Vec<Entry> = (1..=500).map(|n| entry(u64::from(n), put(n))).collect();
    state.apply(&entries).unwrap();
    checkpoint(&state);
    let deletions: Vec<Entry> =
        (1..=200).map(|n| entry(500 + u64::from(n), delete(range(n, n + 2), 1))).collect();
    let mut rest = deletions.as_slice();
    while !rest.is_empty() {
        fetch_ahead(&state, &deletions);
        fetch(&state, rest);
        let (applied, lacks_rows) = at_hand(&state, rest);
        assert!(applied > 0 && lacks_rows == (applied < rest.len()));
        rest = &rest[applied..];
    }
}

/// Who applies sends heartbeats, too: whatever a disk does, it has to come back at once.
#[test]
fn while_a_disk_answers_no_read_whoever_applies_goes_on() {
    let power = Power::default();
    let disk = Disk::new(&power);
    let first = State::open_backend(disk.clone(), &options()).unwrap();
    let entries: Vec<Entry> = (1..=2000).map(|n| entry(u64::from(n), put(n))).collect();
    first.apply(&entries).unwrap();
    checkpoint(&first);
    drop(first);
    // Nothing of it is in the cache.
    let state = State::open_backend(Disk::holding(disk.bytes()).powered_by(&power), &options());
    let state = state.unwrap();
    power.stall_reads();
    let of_file = [entry(2002, put(1))];
    std::thread::scope(|scope| {
        let lookup = scope.spawn(|| fetch(&state, &of_file));
        power.await_stalled_read();
        let id = LogId::new(Term(1), Index(2001));
        let entries = [Entry { id, payload: Payload::Noop }, of_file[0].clone()];
        assert_eq!(at_hand(&state, &entries), (1, true));
        assert_eq!(at_hand(&state, &of_file), (0, true));
        assert!(!lookup.is_finished());
        power.answer_reads();
        lookup.join().unwrap();
        assert_eq!(at_hand(&state, &of_file), (1, false));
    });
}

#[test]
fn what_was_read_before_a_checkpoint_ended_is_not_held() {
    let state = state();
    let next = [entry(1, put(1)), entry(2, put(1))];
    let read = state.read_rows(commands(&next)).unwrap();
    state.apply(&next[..1]).unwrap();
    // The overlay has the key.
    let again = state.read_rows(commands(&next)).unwrap();
    assert_eq!(again.rows.len(), 0);
    put_away(&state);
    state.hold_rows(read, true);
    assert_eq!(at_hand(&state, &next[1..]), (0, true), "the file says something else now");
    fetch(&state, &next);
    let held = state.shared.read().at_hand.key(&key(1)).unwrap();
    assert_eq!(held.map(|row| row.version), Some(1));
    assert_eq!(at_hand(&state, &next[1..]), (1, false));
    let held = state.shared.read().at_hand.key(&key(1)).unwrap();
    assert_eq!(held.map(|row| row.version), Some(2), "the overlay has it");
}

#[derive(Clone, Debug)]
enum Step {
    Write(Write),
    Fetch(usize),
    Apply,
    Freeze,
    Checkpoint,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let number = || 0..12u16;
    let write = prop_oneof![
        4 => number().prop_map(put),
        2 => number().prop_map(|n| Write::delete(key(n))),
        2 => (number(), number(), 1..4u64).prop_map(|(a, b, max)| delete(range(a, b), max)),
        1 => prop::collection::vec(number(), 0..4).prop_map(|all| Write::put_many(all.into_iter().map(|n| (key(n), key(n))).collect())),
        1 => (1..9u64).prop_map(|at| Write::Compact { revision: crate::kv::Revision(at) }),
    ];
    let step = prop_oneof![
        5 => write.prop_map(Step::Write),
        3 => (1..4usize).prop_map(Step::Fetch),
        3 => Just(Step::Apply),
        1 => Just(Step::Freeze),
        1 => Just(Step::Checkpoint),
    ];
    prop::collection::vec(step, 0..80)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// Whatever is fetched when, and whenever checkpoints begin and end.
    #[test]
    fn what_is_applied_at_hand_is_what_is_applied_from_the_file(
        steps in steps(),
        rows_bytes in prop_oneof![Just(0), Just(600), Just(1 << 20)],
    ) {
        let (state, plain) = (state_that_holds(rows_bytes), state());
        let mut log: Vec<Entry> = Vec::new();
        let mut replies = Vec::new();
        let mut frozen = None;
        let done = |state: &State| usize::try_from(state.applied().index.0).unwrap();
        for step in steps {
            match step {
                Step::Write(write) => {
                    log.push(entry(log.len() as u64 + 1, write));
                    let applied = plain.apply(&log[log.len() - 1..]).unwrap();
                    replies.push(applied[0].reply.clone());
                }
                Step::Fetch(count) => {
                    let next = done(&state);
                    fetch(&state, &log[next..(next + count).min(log.len())]);
                }
                Step::Apply => {
                    let next = done(&state);
                    let Carried { applied, lacks_rows } = state.apply_at_hand(&log[next..]).unwrap();
                    for one in &applied {
                        let index = usize::try_from(one.id.index.0).unwrap();
                        prop_assert_eq!(&one.reply, &replies[index - 1]);
                    }
                    prop_assert_eq!(lacks_rows, done(&state) < log.len());
                }
                Step::Freeze => if frozen.is_none() { frozen = state.freeze() },
                Step::Checkpoint => if let Some(frozen) = frozen.take() {
                    state.write_checkpoint(frozen).unwrap();
                },
            }
        }
        while done(&state) < log.len() {
            let next = done(&state);
            fetch(&state, &log[next..]);
            state.apply_at_hand(&log[next..]).unwrap();
        }
        prop_assert_eq!(state.hash(), plain.hash());
    }
}
