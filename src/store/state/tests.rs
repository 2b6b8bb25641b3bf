use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use proptest::prelude::*;
use redb::ReadableTable;
use redb::backends::InMemoryBackend;

use super::*;
use crate::kv::{Command, KeyRange, Outcome, RangeQuery, Reply, Write};
use crate::raft::{Broken, Entry, Payload, Term};
use crate::store::state::apply::APPLY_ROWS_MAX;
use crate::store::state::tables::{KEYS, REVISIONS};
use crate::store::{ReadError, meta};

fn options() -> StateOptions {
    StateOptions { cache_bytes: 1 << 20, ..StateOptions::default() }
}

fn put(key: &str, value: &str) -> Write {
    Write::put(Bytes::copy_from_slice(key.as_bytes()), Bytes::copy_from_slice(value.as_bytes()))
}

fn delete(key: &str) -> Write {
    Write::delete(Bytes::copy_from_slice(key.as_bytes()))
}

fn entry(index: u64, write: Write) -> Entry {
    let payload = Payload::Command(Command::new(write).encode());
    Entry { id: LogId::new(Term(1), Index(index)), payload }
}

fn write(state: &State, write: Write) -> Reply {
    let index = state.applied().index.0 + 1;
    let mut applied = state.apply(&[entry(index, write)]).unwrap();
    applied.pop().and_then(|applied| applied.reply).unwrap()
}

fn checkpoint(state: &State) {
    if let Some(frozen) = state.freeze() {
        state.write_checkpoint(frozen).unwrap();
    }
}

fn value(state: &State, key: &str, at: Option<u64>) -> Option<String> {
    let (read_at, item) = state.get(key.as_bytes(), at.map(Revision)).unwrap();
    if at.is_none() {
        let current = item.as_ref().map(|item| item.mod_revision);
        assert_eq!(state.mod_revision(key.as_bytes()).unwrap(), (read_at, current));
    }
    item.map(|item| String::from_utf8(item.value.to_vec()).unwrap())
}

fn query(range: KeyRange) -> RangeQuery {
    RangeQuery {
        range,
        at: None,
        descending: false,
        keys_only: false,
        items_max: usize::MAX,
        bytes_max: usize::MAX,
    }
}

#[test]
fn a_key_is_read_from_the_overlay_the_frozen_overlay_and_the_file() {
    let state = State::open_backend(InMemoryBackend::new(), &options()).unwrap();
    write(&state, put("a", "1"));
    assert_eq!(value(&state, "a", None).as_deref(), Some("1"));
    let frozen = state.freeze().unwrap();
    assert_eq!(value(&state, "a", None).as_deref(), Some("1"));
    assert!(state.freeze().is_none(), "one at a time");
    write(&state, put("a", "2"));
    write(&state, delete("a"));
    assert_eq!(value(&state, "a", None), None);
    assert_eq!(state.write_checkpoint(frozen).unwrap().index, Index(1));
    assert_eq!(value(&state, "a", None), None);
    assert_eq!(value(&state, "a", Some(2)).as_deref(), Some("1"));
    assert_eq!(value(&state, "a", Some(3)).as_deref(), Some("2"));
    checkpoint(&state);
    assert_eq!(state.durable(), state.applied());
    assert_eq!(value(&state, "a", Some(3)).as_deref(), Some("2"));
    assert_eq!(value(&state, "a", Some(4)), None);
    assert!(matches!(state.get(b"a", Some(Revision(5))), Err(ReadError::Future { .. })));
}

#[test]
fn what_was_frozen_and_not_written_is_part_of_the_next_checkpoint() {
    let state = State::open_backend(InMemoryBackend::new(), &options()).unwrap();
    write(&state, put("a", "1"));
    write(&state, put("b", "1"));
    let frozen = state.freeze().unwrap();
    write(&state, put("a", "2"));
    write(&state, delete("b"));
    state.thaw(frozen);
    let reads = || {
        assert_eq!(value(&state, "a", None).as_deref(), Some("2"));
        assert_eq!(value(&state, "a", Some(2)).as_deref(), Some("1"));
        assert_eq!(value(&state, "b", Some(3)).as_deref(), Some("1"));
        assert_eq!(value(&state, "b", None), None);
    };
    reads();
    assert!(state.frees(), "a deletion is in it");
    checkpoint(&state);
    assert_eq!(state.durable().index, Index(4));
    reads();
}

#[test]
fn what_no_checkpoint_covered_is_gone_at_the_next_start_and_the_position_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.redb");
    let state = State::open(&path, None, &options()).unwrap();
    write(&state, put("a", "1"));
    checkpoint(&state);
    let hash = state.hash();
    write(&state, put("a", "2"));
    drop(state);
    let state = State::open(&path, None, &options()).unwrap();
    assert_eq!(state.hash(), hash);
    assert_eq!(value(&state, "a", None).as_deref(), Some("1"));
    write(&state, put("a", "2"));
    assert_eq!(value(&state, "a", None).as_deref(), Some("2"));
}

/// A state with its rows in the file, changed there by `change`.
fn tampered(change: impl FnOnce(&redb::WriteTransaction)) -> Result<State, StoreError> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.redb");
    let state = State::open(&path, None, &options()).unwrap();
    write(&state, put("a", "1"));
    write(&state, put("b", "2"));
    write(&state, put("b", "3"));
    checkpoint(&state);
    drop(state);
    let db = Database::create(&path).unwrap();
    let write = db.begin_write().unwrap();
    change(&write);
    write.commit().unwrap();
    drop(db);
    State::open(&path, None, &options())
}

fn damage<T: std::fmt::Debug>(result: Result<T, ReadError>) -> String {
    let error = result.unwrap_err();
    assert!(matches!(error, ReadError::Store(StoreError::Damaged { what: "state", .. })));
    error.to_string()
}

#[test]
fn a_row_of_another_key_is_found_with_the_key() {
    let state = tampered(|tx| {
        let mut keys = tx.open_table(KEYS).unwrap();
        let moved = keys.get(&b"b"[..]).unwrap().unwrap().value().to_vec();
        keys.insert(&b"a"[..], &moved[..]).unwrap();
    });
    let state = state.unwrap();
    assert!(damage(state.get(b"a", None)).contains("key \"a\""));
    assert!(damage(state.range(&query(KeyRange::all()))).contains("key \"a\""));
    assert!(state.apply(&[entry(4, delete("a"))]).is_err(), "nor does a command work on it");
    assert_eq!(value(&state, "b", None).as_deref(), Some("3"));
}

#[test]
fn a_row_of_another_revision_is_found_with_the_revision() {
    let state = tampered(|tx| {
        let mut rows = tx.open_table(REVISIONS).unwrap();
        let moved = rows.get((3, 0)).unwrap().unwrap().value().to_vec();
        rows.insert((4, 0), &moved[..]).unwrap();
    });
    let state = state.unwrap();
    assert!(damage(state.get(b"b", None)).contains("revision 4"));
    assert!(damage(state.range(&query(KeyRange::all()))).contains("revision 4"));
    assert_eq!(value(&state, "a", None).as_deref(), Some("1"));
}

#[test]
fn a_row_that_is_lost_is_no_compacted_one() {
    let state = tampered(|tx| {
        tx.open_table(REVISIONS).unwrap().remove((3, 0)).unwrap();
    });
    let state = state.unwrap();
    assert!(damage(state.get(b"b", Some(Revision(3)))).contains("revision 3"));
    assert_eq!(value(&state, "b", None).as_deref(), Some("3"));
}

#[test]
fn a_position_that_is_damaged_or_missing_is_refused() {
    for lost in [false, true] {
        let refused = tampered(|tx| {
            let mut meta = tx.open_table(meta::META).unwrap();
            let mut bytes = meta.remove("position").unwrap().unwrap().value().to_vec();
            bytes[1] ^= 1;
            if !lost {
                meta.insert("position", &bytes[..]).unwrap();
            }
        });
        let refused = refused.unwrap_err().to_string();
        assert!(refused.contains("position"), "{refused}");
    }
}

#[test]
fn a_listing_of_keys_is_the_listing_without_values() {
    let state = State::open_backend(InMemoryBackend::new(), &options()).unwrap();
    for (key, value) in [("a", "1"), ("b", "1"), ("c", "1")] {
        write(&state, put(key, value));
    }
    checkpoint(&state);
    let then = state.revision();
    write(&state, put("a", "2"));
    write(&state, delete("b"));
    for (at, keys) in [(Some(then), 3), (None, 2)] {
        let full = RangeQuery { at, ..query(KeyRange::all()) };
        let mut expected = state.range(&full).unwrap().items;
        assert_eq!(expected.len(), keys);
        for item in &mut expected {
            item.value = bytes::Bytes::new();
            item.content_type = None;
        }
        let keys_only = RangeQuery { keys_only: true, ..full };
        assert_eq!(state.range(&keys_only).unwrap().items, expected);
    }
}

#[test]
fn a_listing_goes_on_at_its_revision_over_many_pieces() {
    let state = State::open_backend(InMemoryBackend::new(), &options()).unwrap();
    for number in 0..1500 {
        write(&state, put(&format!("{number:05}"), "x"));
        if number == 700 {
            checkpoint(&state);
        }
    }
    let at = state.revision();
    write(&state, put("00003", "newer"));
    write(&state, delete("00004"));
    write(&state, put("zzz", "newer"));
    for descending in [false, true] {
        let page = state
            .range(&RangeQuery { at: Some(at), descending, ..query(KeyRange::all()) })
            .unwrap();
        assert_eq!(page.items.len(), 1500);
        assert!(page.items.iter().all(|item| &item.value[..] == b"x"));
        let sorted = page.items.is_sorted_by(|a, b| (a.key < b.key) != descending);
        assert!(sorted && page.rest.is_none());
    }
    let page = state.range(&RangeQuery { items_max: 10, ..query(KeyRange::all()) }).unwrap();
    assert!(page.rest.is_some() && page.items.len() == 10);
    let page = state.range(&RangeQuery { bytes_max: 12, ..query(KeyRange::all()) }).unwrap();
    assert!(
        page.rest.is_some() && page.items.len() == 2,
        "the item that reaches the bound is the last"
    );
}

#[derive(Clone, Debug)]
enum Step {
    Put(u8, u8),
    Delete(u8),
    DeleteRange(u8, u8),
    PutMany(Vec<(u8, u8)>),
    Freeze,
    Write,
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let key = 0..12_u8;
    let step = prop_oneof![
        6 => (key.clone(), any::<u8>()).prop_map(|(k, v)| Step::Put(k, v)),
        3 => key.clone().prop_map(Step::Delete),
        1 => (key.clone(), key.clone()).prop_map(|(a, b)| Step::DeleteRange(a, b)),
        1 => prop::collection::vec((key, any::<u8>()), 0..4).prop_map(Step::PutMany),
        2 => Just(Step::Freeze),
        2 => Just(Step::Write),
        1 => Just(Step::Reopen),
    ];
    prop::collection::vec(step, 0..60)
}

fn key(number: u8) -> String {
    format!("k{number:02}")
}

fn command(step: &Step) -> Option<Write> {
    match step {
        Step::Put(k, v) => Some(put(&key(*k), &v.to_string())),
        Step::Delete(k) => Some(delete(&key(*k))),
        Step::DeleteRange(a, b) => Some(Write::delete_range(
            KeyRange { start: key(*a).into(), end: Some(key(*b).into()) },
            u64::MAX,
        )),
        Step::PutMany(pairs) => Some(Write::put_many(
            pairs.iter().map(|(k, v)| (key(*k).into(), v.to_string().into())).collect(),
        )),
        Step::Freeze | Step::Write | Step::Reopen => None,
    }
}

/// What every key is at every revision.
#[derive(Default)]
struct Model {
    newest: BTreeMap<String, String>,
    at: Vec<BTreeMap<String, String>>,
}

impl Model {
    fn write(&mut self, step: &Step) {
        let before = self.newest.clone();
        let mut changed = true;
        match step {
            Step::Put(k, v) => drop(self.newest.insert(key(*k), v.to_string())),
            Step::Delete(k) => changed = self.newest.remove(&key(*k)).is_some(),
            Step::DeleteRange(a, b) => {
                self.newest.retain(|k, _| *k < key(*a) || *k >= key(*b));
                changed = self.newest.len() != before.len();
            }
            Step::PutMany(pairs) => {
                changed = !pairs.is_empty();
                for (k, v) in pairs {
                    self.newest.insert(key(*k), v.to_string());
                }
            }
            Step::Freeze | Step::Write | Step::Reopen => changed = false,
        }
        if changed {
            self.at.push(self.newest.clone());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn overlay_and_file_together_are_a_map_at_every_revision(steps in steps()) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.redb");
        let mut state = State::open(&path, None, &options()).unwrap();
        let mut frozen = None;
        let mut log = Vec::new();
        let mut model = Model { at: vec![BTreeMap::new()], ..Model::default() };
        for step in &steps {
            match step {
                Step::Freeze => if frozen.is_none() { frozen = state.freeze() },
                Step::Write => if let Some(frozen) = frozen.take() {
                    state.write_checkpoint(frozen).unwrap();
                },
                Step::Reopen => {
                    frozen = None;
                    let before = state.hash();
                    drop(state);
                    state = State::open(&path, None, &options()).unwrap();
                    // What a crash took is replayed from the log.
                    let from = usize::try_from(state.applied().index.0).unwrap();
                    state.apply(&log[from..]).unwrap();
                    prop_assert_eq!(state.hash(), before);
                }
                _ => {
                    let write = command(step).unwrap();
                    let entry = entry(log.len() as u64 + 1, write);
                    log.push(entry.clone());
                    let applied = state.apply(&[entry]).unwrap();
                    let reply = applied[0].reply.as_ref().unwrap();
                    let invalid = matches!(reply.outcome, Outcome::Invalid { .. });
                    prop_assert!(!invalid);
                    model.write(step);
                }
            }
        }
        prop_assert_eq!(state.revision().0 as usize, model.at.len());
        for (revision, expected) in (1..).zip(&model.at) {
            for descending in [false, true] {
                let at = Some(Revision(revision));
                let page = state
                    .range(&RangeQuery { at, descending, ..query(KeyRange::all()) })
                    .unwrap();
                let mut found: Vec<_> = page.items.iter().map(|item| (
                    String::from_utf8(item.key.to_vec()).unwrap(),
                    String::from_utf8(item.value.to_vec()).unwrap(),
                )).collect();
                if descending {
                    found.reverse();
                }
                let expected: Vec<_> = expected.clone().into_iter().collect();
                prop_assert_eq!(found, expected);
            }
            for number in 0..12 {
                let found = value(&state, &key(number), Some(revision));
                prop_assert_eq!(found.as_ref(), expected.get(&key(number)));
            }
        }
    }
}

#[test]
fn an_entry_of_many_rows_shows_that_it_gets_further() {
    let state = State::open_backend(InMemoryBackend::new(), &options()).unwrap();
    let keys = 30_000;
    let puts: Vec<Entry> =
        (1..=keys).map(|number| entry(number, put(&format!("key{number}"), "v"))).collect();
    let mut rest = puts.as_slice();
    while !rest.is_empty() {
        rest = &rest[state.apply(rest).unwrap().len()..];
    }
    checkpoint(&state);
    assert_eq!(state.life.apply.still_for(), None, "it has nothing to do");
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let (mut seen, mut longest) = (0, Duration::ZERO);
            while !done.load(Ordering::Acquire) {
                if let Some(still) = state.life.apply.still_for() {
                    seen += 1;
                    longest = longest.max(still);
                }
            }
            (seen, longest)
        });
        let range = KeyRange { start: Bytes::from_static(b"key"), end: None };
        let began = Instant::now();
        write(&state, Write::delete_range(range, u64::MAX));
        let took = began.elapsed();
        done.store(true, Ordering::Release);
        let (seen, longest) = watcher.join().unwrap();
        println!("{keys} keys in {took:?}, {seen} looks, {longest:?} at most without progress");
        assert!(seen > 0 && longest < Duration::from_secs(5), "{longest:?} of {took:?}");
    });
    assert_eq!(state.life.apply.still_for(), None);
}

#[test]
fn an_entry_that_does_not_follow_what_is_applied_is_not_applied() {
    let state = State::open_backend(InMemoryBackend::new(), &options()).unwrap();
    state.apply(&[entry(1, put("a", "1")), entry(2, put("a", "2"))]).unwrap();
    let of_term = |term, index| Entry {
        id: LogId::new(Term(term), Index(index)),
        ..entry(index, put("a", "wrong"))
    };
    for wrong in [of_term(1, 4), of_term(1, 2), of_term(0, 3)] {
        let (applied, next) = (LogId::new(Term(1), Index(2)), wrong.id);
        match state.apply(&[wrong]).unwrap_err() {
            StoreError::Broken(broken) => assert_eq!(broken, Broken::Gap { applied, next }),
            error => panic!("{error}"),
        }
    }
    // Nor is anything of what comes with it.
    assert!(state.apply(&[of_term(1, 3), of_term(1, 5)]).is_err());
    assert_eq!((state.applied().index, value(&state, "a", None)), (Index(2), Some("2".into())));
}

/// Deletions of ranges are short entries, and no short work.
#[test]
fn one_call_applies_no_more_rows_than_is_short_and_the_next_goes_on_there() {
    let state = State::open_backend(InMemoryBackend::new(), &options()).unwrap();
    let (ranges, keys) = (100, 100);
    let prefix = |range| format!("{range:03}/");
    for range in 0..ranges {
        let pairs = (0..keys).map(|key| (format!("{}{key}", prefix(range)).into(), Bytes::new()));
        write(&state, Write::put_many(pairs.collect()));
    }
    let next = state.applied().index.0 + 1;
    let deletions: Vec<Entry> = (0..ranges)
        .map(|range| {
            let write = Write::delete_range(KeyRange::prefix(prefix(range).as_bytes()), u64::MAX);
            entry(next + range, write)
        })
        .collect();
    let (mut rest, mut calls) = (deletions.as_slice(), 0);
    while !rest.is_empty() {
        let applied = state.apply(rest).unwrap();
        // Each looks at its keys and deletes them.
        assert!(applied.len() <= APPLY_ROWS_MAX / (2 * keys) + 1, "{}", applied.len());
        let deleted = Some(crate::kv::Single::Deleted { count: keys as u64 });
        assert!(applied.iter().all(|one| one.reply.as_ref().unwrap().outcome.single() == deleted));
        assert_eq!(state.applied(), rest[applied.len() - 1].id);
        rest = &rest[applied.len()..];
        calls += 1;
    }
    assert!((2..20).contains(&calls), "{calls}");
}
