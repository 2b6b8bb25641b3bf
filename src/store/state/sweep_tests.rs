use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use redb::backends::InMemoryBackend;

use super::*;
use crate::kv::{Command, DELETED_PER_KEY_MAX, Item, KeyRange, RangeQuery, Write};
use crate::raft::{ClusterId, Entry, Index, LogId, Membership, NodeId, Payload, Term};
use crate::store::state::core::{State, StateOptions};
use crate::store::state::count::{CountRead, Counted};
use crate::store::state::read::ReadError;
use crate::store::state::tables::REVISIONS;

fn open(sweep_rows: usize) -> State {
    let options = StateOptions { cache_bytes: 1 << 20, sweep_rows, ..StateOptions::default() };
    State::open_backend(InMemoryBackend::new(), &options).unwrap()
}

fn apply(state: &State, payload: Payload) {
    let id = LogId::new(Term(1), state.applied().index.next());
    state.apply(&[Entry { id, payload }]).unwrap();
}

fn write(state: &State, write: Write) {
    apply(state, Payload::Command(Command::new(write).encode()));
}

fn put(key: u8, value: impl Into<Bytes>) -> Write {
    let (key, value) = (vec![b'a' + key].into(), value.into());
    Write::put(key, value)
}

fn delete(key: u8) -> Write {
    Write::delete(vec![b'a' + key].into())
}

fn compact(revision: u64) -> Write {
    Write::Compact { revision: Revision(revision) }
}

/// One checkpoint; whether there was anything to do.
fn checkpoint(state: &State) -> bool {
    let frozen = state.freeze();
    frozen.map(|frozen| state.write_checkpoint(frozen).unwrap()).is_some()
}

fn sweep_all(state: &State) {
    while checkpoint(state) {}
}

fn rows(state: &State) -> Vec<(Vec<u8>, Vec<u8>)> {
    state.shared.read().view.rows()
}

/// Every change that is stored, by key, and whether the key exists after it.
fn changes(state: &State) -> BTreeMap<Bytes, Vec<(RowId, bool)>> {
    let view = state.shared.read().view.clone();
    let mut changes: BTreeMap<Bytes, Vec<(RowId, bool)>> = BTreeMap::new();
    for row in view.all_revisions().unwrap() {
        let (id, row) = row.unwrap();
        let (revision, sub) = id.value();
        let id = RowId { revision: Revision(revision), sub };
        let row = revision_row(row.value(), id).unwrap();
        changes.entry(row.key.clone()).or_default().push((id, row.is_live()));
    }
    changes
}

fn listing(state: &State, at: u64) -> Result<Vec<Item>, ReadError> {
    let query = RangeQuery {
        range: KeyRange::all(),
        at: Some(Revision(at)),
        descending: at.is_multiple_of(2),
        keys_only: false,
        items_max: usize::MAX,
        bytes_max: usize::MAX,
    };
    let items = state.range(&query)?.items;
    for item in &items {
        let (_, got) = state.get(&item.key, Some(Revision(at)))?;
        assert_eq!(got.as_ref(), Some(item));
    }
    Ok(items)
}

/// What is read from the compacted revision on is what `whole`, which keeps everything, has.
fn reads_as(state: &State, whole: &State) {
    let oldest = state.compacted().0.max(1);
    for at in oldest..=state.revision().0 {
        assert_eq!(listing(state, at).unwrap(), listing(whole, at).unwrap(), "at {at}");
        for key in 0..6 {
            let get = |state: &State| state.get(&[b'a' + key], Some(Revision(at))).unwrap().1;
            assert_eq!(get(state), get(whole), "key {key} at {at}");
        }
    }
    for at in 1..oldest {
        assert!(matches!(listing(state, at), Err(ReadError::Compacted { .. })), "at {at}");
        let get = state.get(b"a", Some(Revision(at)));
        assert!(matches!(get, Err(ReadError::Compacted { .. })), "at {at}");
    }
}

/// A write, or a compaction that gives up so many percent of what there is.
#[derive(Clone, Debug)]
enum Do {
    Write(Write),
    Compact(u64),
    Checkpoint,
    Freeze,
}

fn any_do() -> impl Strategy<Value = Do> {
    let range = (0..6_u8, 0..6_u8).prop_map(|(start, end)| {
        let range =
            KeyRange { start: vec![b'a' + start].into(), end: Some(vec![b'a' + end].into()) };
        Do::Write(Write::delete_range(range, u64::MAX))
    });
    let many = proptest::collection::vec((0..6_u8, 0..9_u8), 1..6).prop_map(|pairs| {
        let pairs = pairs.iter().map(|(key, value)| (vec![b'a' + key].into(), vec![*value].into()));
        Do::Write(Write::put_many(pairs.collect()))
    });
    prop_oneof![
        6 => (0..6_u8, 0..9_u8).prop_map(|(key, value)| Do::Write(put(key, vec![value]))),
        4 => (0..6_u8).prop_map(|key| Do::Write(delete(key))),
        1 => range,
        1 => many,
        2 => (0..=100_u64).prop_map(Do::Compact),
        2 => Just(Do::Checkpoint),
        1 => Just(Do::Freeze),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// One replica sweeps after all is done, another a few rows at any time, and neither can be told from
    /// one that keeps everything, but by what is refused. In the end both hold the same bytes: what can
    /// still be read, and nothing else.
    #[test]
    fn replicas_agree_whatever_their_sweeps_did(
        script in proptest::collection::vec(any_do(), 1..60),
        sweep_rows in 1..4_usize,
    ) {
        let (late, early, whole) = (open(1_000), open(sweep_rows), open(1));
        let mut frozen = None;
        for step in script {
            match step {
                Do::Write(one) => {
                    for state in [&late, &early, &whole] {
                        write(state, one.clone());
                    }
                }
                Do::Compact(percent) => {
                    let revision = late.revision().0 * percent / 100;
                    for state in [&late, &early] {
                        write(state, compact(revision));
                    }
                    apply(&whole, Payload::Noop);
                }
                Do::Checkpoint | Do::Freeze if frozen.is_some() => {
                    early.write_checkpoint(frozen.take().unwrap()).unwrap();
                }
                Do::Checkpoint => drop(checkpoint(&early)),
                Do::Freeze => frozen = early.freeze(),
            }
            prop_assert_eq!(early.hash(), late.hash());
            reads_as(&early, &whole);
        }
        if let Some(frozen) = frozen {
            early.write_checkpoint(frozen).unwrap();
        }
        for state in [&late, &early, &whole] {
            sweep_all(state);
        }
        prop_assert_eq!(rows(&early), rows(&late));
        reads_as(&late, &whole);
        let compacted = late.compacted();
        let mut expected = changes(&whole);
        for changes in expected.values_mut() {
            let newest = changes.iter().rfind(|(id, _)| id.revision <= compacted).copied();
            changes.retain(|one| {
                let (id, live) = *one;
                let stays = Some(*one) == newest && (live || id.revision == compacted);
                id.revision > compacted || stays
            });
        }
        expected.retain(|_, changes| !changes.is_empty());
        prop_assert_eq!(changes(&late), expected.clone());
        prop_assert_eq!(rows(&late).len(), expected.len() + expected.values().map(Vec::len).sum::<usize>());
    }
}

#[test]
fn a_checkpoint_looks_at_a_bounded_number_of_changes() {
    let state = open(10);
    for round in 0..30 {
        write(&state, put(0, vec![round]));
        assert!(checkpoint(&state));
    }
    write(&state, compact(31));
    let mut left = Vec::new();
    while checkpoint(&state) {
        left.push(changes(&state)[&b"a"[..]].len());
    }
    // The change after a row is what removes it.
    assert_eq!(left, [21, 11, 1]);
    assert_eq!(listing(&state, 31).unwrap()[0].value, vec![29]);
}

#[test]
fn a_snapshot_with_rows_that_are_to_go_is_swept_where_it_arrives() {
    let sender = open(3);
    let voters = [NodeId(1)].into();
    let membership =
        Membership { cluster: ClusterId(1), members: [].into(), voters, outgoing: None };
    apply(&sender, Payload::Membership(membership));
    for round in 0..20 {
        write(&sender, put(round % 4, vec![round]));
        write(&sender, delete(round % 3));
    }
    checkpoint(&sender);
    write(&sender, compact(sender.revision().0 - 5));
    checkpoint(&sender);
    let receiver = Arc::new(open(3));
    // Had come further in a past of its own.
    for round in 0..20 {
        write(&receiver, put(5, vec![round]));
    }
    write(&receiver, compact(20));
    sweep_all(&receiver);
    let (mut snapshot, mut incoming) = (sender.snapshot(), receiver.receive().unwrap());
    while let Some(piece) = snapshot.next_piece(50).unwrap() {
        incoming.take(&[piece]).unwrap();
    }
    assert!(receiver.put_in_place(incoming).unwrap());
    assert_eq!(rows(&receiver), rows(&sender));
    assert_eq!(receiver.compacted(), sender.compacted());
    let before = rows(&sender).len();
    sweep_all(&receiver);
    sweep_all(&sender);
    assert!(rows(&sender).len() < before);
    assert_eq!(rows(&receiver), rows(&sender));
}

/// What is missing is taken for a deletion that went only where there was one.
#[test]
fn a_lost_row_is_told_in_a_compacted_state() {
    let state = open(100);
    for (key, value) in [(0, "1"), (1, "1"), (0, "2")] {
        write(&state, put(key, value));
    }
    write(&state, delete(1));
    write(&state, put(1, "2"));
    write(&state, compact(3));
    sweep_all(&state);
    let lose = |revision| {
        let write = state.db.begin_write().unwrap();
        write.open_table(REVISIONS).unwrap().remove((revision, 0)).unwrap();
        write.commit().unwrap();
        write_and_checkpoint(&state);
    };
    assert_eq!(listing(&state, 3).unwrap().len(), 2);
    lose(2);
    let lost = state.get(b"a", Some(Revision(3))).unwrap_err().to_string();
    assert!(lost.contains("revision 2") && lost.contains("missing"), "{lost}");
    assert_eq!(state.get(b"b", Some(Revision(5))).unwrap().1, None);
    lose(5);
    let lost = state.get(b"b", Some(Revision(5))).unwrap_err().to_string();
    assert!(lost.contains("revision 5") && lost.contains("missing"), "{lost}");
    write(&state, compact(6));
    assert_eq!(&state.get(b"b", Some(Revision(6))).unwrap().1.unwrap().value[..], b"2");
}

fn write_and_checkpoint(state: &State) {
    write(state, put(5, "x"));
    checkpoint(state);
}

#[test]
fn a_damaged_row_is_told_and_nothing_is_removed_for_it() {
    let state = open(100);
    for value in ["1", "2", "3"] {
        write(&state, put(0, value));
    }
    checkpoint(&state);
    let change = state.db.begin_write().unwrap();
    change.open_table(REVISIONS).unwrap().insert((2, 0), &b"?"[..]).unwrap();
    change.commit().unwrap();
    write(&state, compact(4));
    let told = state.write_checkpoint(state.freeze().unwrap()).unwrap_err().to_string();
    assert!(told.contains("revision 2"), "{told}");
    assert_eq!(changes_of_file(&state), 3);
}

fn changes_of_file(state: &State) -> usize {
    use redb::{ReadableDatabase, ReadableTableMetadata};
    let read = state.db.begin_read().unwrap();
    let count = read.open_table(REVISIONS).unwrap().len().unwrap();
    usize::try_from(count).unwrap()
}

/// The same keys set again and again, and all but the newest revisions given up: the file ends as large as
/// it was early on. Without compaction it would be some thirty times that.
#[test]
fn a_file_whose_past_is_given_up_stays_flat() {
    const KEYS: u8 = 20;
    const VALUE_BYTES: usize = 4_000;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.redb");
    let options = StateOptions { cache_bytes: 1 << 20, sweep_rows: 8, ..StateOptions::default() };
    let state = State::open(&path, None, &options).unwrap();
    let mut sizes = Vec::new();
    for round in 0..400_u64 {
        for key in 0..KEYS {
            let value = vec![u8::try_from(round % 251).unwrap(); VALUE_BYTES];
            match (round + u64::from(key)) % 7 {
                0 => write(&state, delete(key)),
                _ => write(&state, put(key, value)),
            }
        }
        write(&state, compact(state.revision().0.saturating_sub(30).max(1)));
        checkpoint(&state);
        sizes.push(std::fs::metadata(&path).unwrap().len());
    }
    let early = sizes[..50].iter().max().unwrap();
    let late = sizes[50..].iter().max().unwrap();
    assert!(late <= early, "{early} bytes after 50 rounds, {late} later");
    let written = 400 * u64::from(KEYS) * u64::try_from(VALUE_BYTES).unwrap();
    assert!(10 * late < written, "{written} bytes were written, the file takes {late}");
    let kept = changes(&state).values().map(Vec::len).sum::<usize>();
    assert!(kept <= 30 + usize::from(KEYS), "{kept} changes are kept");
}

#[test]
fn no_revision_is_the_last() {
    let new = Swept { next: RowId { revision: Revision(1), sub: 0 }, spared: Revision(0) };
    assert!(!new.is_behind(Revision(0)) && new.is_behind(Revision(1)));
    let empty = open(1);
    assert!(!checkpoint(&empty), "there is nothing to sweep in a new file");
    assert_eq!(empty.applied().index, Index(0));
}

/// What apply cannot count, whoever proposes it does.
#[test]
fn rows_that_are_not_swept_yet_count_before_a_deletion_is_proposed() {
    let state = open(1);
    for key in 0..25 {
        write(&state, put(key, "x"));
        write(&state, delete(key));
    }
    write(&state, put(30, "x"));
    write(&state, compact(state.revision().0));
    let count = |keys_max| {
        let mut read = CountRead::new(&Write::delete_range(KeyRange::all(), keys_max));
        read.step(&state, &mut || false).unwrap().unwrap()
    };
    let bound = Bytes::from(vec![b'a' + u8::try_from(DELETED_PER_KEY_MAX).unwrap()]);
    assert_eq!(count(1), Counted::UpTo(bound));
    assert_eq!(count(2), Counted::Fits);
    sweep_all(&state);
    assert_eq!(count(1), Counted::Fits);
}

/// A sweep that ends among the changes of the compacted revision comes back to the deletions that it has left alone.
#[test]
fn deletions_of_the_compacted_revision_go_with_the_next_whenever_the_sweep_paused() {
    for rows in 1..5 {
        let state = open(rows);
        for key in 0..6 {
            write(&state, put(key, "x"));
        }
        write(&state, Write::delete_range(KeyRange::all(), 9));
        let deleted = state.revision().0;
        write(&state, put(7, "y"));
        write(&state, compact(deleted));
        // Anywhere among them.
        for _ in 0..rows + 6 {
            checkpoint(&state);
        }
        write(&state, compact(deleted + 1));
        sweep_all(&state);
        assert_eq!(changes(&state).len(), 1, "{rows} at once");
    }
}
