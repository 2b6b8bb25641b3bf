use redb::ReadableTable;

use super::*;
use crate::kv::{Command, KeyRange, RangeQuery, Write};
use crate::raft::{
    ClusterId, Entry, HardState, Index, LogWrite, Membership, NodeId, Payload, Recovered, Term,
};
use crate::store::test_disk::{Disk, Journal, open_log, subsets_of};
use crate::store::{Incoming, IncomingError, StateOptions, Verify, recover};

fn open(disk: &Disk) -> Arc<State> {
    let options = StateOptions { cache_bytes: 1 << 20, ..StateOptions::default() };
    Arc::new(State::open_backend(disk.clone(), &options).unwrap())
}

/// As a node does: with pages that are still to be verified.
fn open_later(disk: &Disk) -> Arc<State> {
    let verify = Verify::Later;
    let options = StateOptions { cache_bytes: 1 << 20, verify, ..StateOptions::default() };
    Arc::new(State::open_backend(disk.clone(), &options).unwrap())
}

fn membership(number: u64) -> Membership {
    let voters = [NodeId(number)].into();
    Membership { cluster: ClusterId(1), members: [].into(), voters, outgoing: None }
}

/// Of another history where `term` is another.
fn entry(term: u64, index: u64) -> Entry {
    let payload = match index {
        1 => Payload::Membership(membership(term)),
        _ => {
            let write = Write::put(
                format!("key {}", index * term % 9).into(),
                format!("{term}/{index}/{}", "v".repeat(300)).into(),
            );
            Payload::Command(Command::new(write).encode())
        }
    };
    Entry { id: LogId::new(Term(term), Index(index)), payload }
}

fn apply(state: &State, term: u64, to: u64) {
    let entries: Vec<Entry> =
        (state.applied().index.0 + 1..=to).map(|index| entry(term, index)).collect();
    state.apply(&entries).unwrap();
}

fn checkpoint(state: &State) {
    state.write_checkpoint(state.freeze().unwrap()).unwrap();
}

/// Everything that can be read, at the newest and at an older revision.
fn content(state: &State) -> (LogId, u64, Vec<crate::kv::Item>) {
    let newest = state.revision();
    let mut items = Vec::new();
    for at in [newest, Revision(newest.0 / 2)] {
        let query = RangeQuery {
            range: KeyRange::all(),
            at: Some(at),
            descending: false,
            keys_only: false,
            items_max: usize::MAX,
            bytes_max: usize::MAX,
        };
        items.extend(state.range(&query).unwrap().items);
    }
    let (applied, hash) = state.hash();
    (applied, hash, items)
}

fn source() -> Arc<State> {
    let state = open(&Disk::default());
    apply(&state, 2, 40);
    checkpoint(&state);
    apply(&state, 2, 45);
    state
}

fn pieces(state: &State, bytes_max: usize) -> Vec<Vec<u8>> {
    let mut reader = state.snapshot();
    std::iter::from_fn(|| reader.next_piece(bytes_max).unwrap()).collect()
}

fn take_all(state: &Arc<State>, pieces: &[Vec<u8>]) -> Result<Incoming, IncomingError> {
    let mut incoming = state.receive()?;
    pieces.chunks(3).try_for_each(|pieces| incoming.take(pieces))?;
    Ok(incoming)
}

#[test]
fn what_a_snapshot_took_the_place_of_need_not_be_verified() {
    let source = source();
    let pieces = pieces(&source, 1_000);
    // Before any of it was verified, and after some.
    for strides in [0, 3] {
        let disk = Disk::default();
        let old = open(&disk);
        (1..=30).for_each(|to| {
            apply(&old, 1, to);
            checkpoint(&old);
        });
        drop(old);
        let state = open_later(&disk);
        (0..strides).for_each(|_| assert!(state.verify(4096).unwrap()));
        let incoming = take_all(&state, &pieces).unwrap();
        assert_eq!(state.verified().ended, None);
        assert!(state.put_in_place(incoming).unwrap());
        assert!(state.verified().ended.is_some() && !state.verify(1 << 20).unwrap());
        apply(&state, 2, 50);
        checkpoint(&state);
        let now = content(&state);
        drop(state);
        let again = open_later(&disk);
        assert_eq!(content(&again), now);
        assert!(!again.verify(u64::MAX).unwrap() && again.verified().ended.is_some());
    }
}

#[test]
fn a_snapshot_takes_the_place_of_whatever_was_there() {
    let source = source();
    let expected = {
        let state = open(&Disk::default());
        apply(&state, 2, 40);
        content(&state)
    };
    for bytes_max in [1, 1_000, 1 << 20] {
        let pieces = pieces(&source, bytes_max);
        for before in [0, 1, 30] {
            let disk = Disk::default();
            let state = open(&disk);
            // Some of it in the file, some frozen, some fresh.
            apply(&state, 1, before / 2);
            let frozen = state.freeze();
            apply(&state, 1, before);
            let incoming = take_all(&state, &pieces).unwrap();
            assert!(incoming.is_whole());
            assert_eq!(incoming.last(), Some(expected.0));
            assert!(state.put_in_place(incoming).unwrap());
            assert_eq!(content(&state), expected);
            assert_eq!(state.durable(), expected.0);
            assert_eq!(state.membership(), Some((Index(1), membership(2))));
            // A checkpoint that was under way comes too late.
            if let Some(frozen) = frozen {
                assert_eq!(state.write_checkpoint(frozen).unwrap(), expected.0);
            }
            assert_eq!(content(&state), expected);
            apply(&state, 2, 50);
            checkpoint(&state);
            let now = content(&state);
            drop(state);
            assert_eq!(content(&open(&disk)), now);
        }
    }
}

#[test]
fn an_older_snapshot_changes_nothing() {
    let pieces = pieces(&source(), 1_000);
    let state = open(&Disk::default());
    apply(&state, 2, 40);
    let before = content(&state);
    let incoming = take_all(&state, &pieces).unwrap();
    assert!(!state.put_in_place(incoming).unwrap());
    assert_eq!(content(&state), before);
}

#[test]
fn one_snapshot_comes_in_at_a_time() {
    let state = open(&Disk::default());
    let first = state.receive().unwrap();
    assert!(matches!(state.receive(), Err(IncomingError::Busy)));
    drop(first);
    state.receive().unwrap();
}

#[test]
fn whatever_is_missing_doubled_moved_or_changed_is_found() {
    let pieces = pieces(&source(), 1_000);
    let state = open(&Disk::default());
    apply(&state, 1, 5);
    let before = content(&state);
    let refused = |pieces: &[Vec<u8>]| match take_all(&state, pieces) {
        Ok(incoming) => !incoming.is_whole() && !state.put_in_place(incoming).unwrap(),
        Err(
            IncomingError::Damaged(_) | IncomingError::Format(_) | IncomingError::NewerPiece(_),
        ) => true,
        Err(other) => panic!("{other}"),
    };
    for at in 0..pieces.len() {
        let without = [&pieces[..at], &pieces[at + 1..]].concat();
        assert!(refused(&without), "without {at}");
        assert!(refused(&[&pieces[..=at], &pieces[at..]].concat()), "{at} twice");
        if at > 0 {
            let mut swapped = pieces.clone();
            swapped.swap(at - 1, at);
            assert!(refused(&swapped), "{at} too early");
        }
        for byte in (0..pieces[at].len()).step_by(41) {
            let mut changed = pieces.clone();
            changed[at][byte] ^= 0x10;
            assert!(refused(&changed), "byte {byte} of {at}");
            changed[at].truncate(byte);
            assert!(refused(&changed), "{at} cut at {byte}");
        }
    }
    assert_eq!(content(&state), before);
    assert!(!refused(&pieces), "and whole it is taken");
}

#[test]
fn rows_out_of_order_are_refused_though_everything_fits() {
    let mut pieces = pieces(&source(), 1);
    let keys = pieces.iter().position(|piece| piece[0] == KEY_ROWS).unwrap();
    pieces.swap(keys, keys + 1);
    let last = pieces.pop().unwrap();
    let mut digest = Xxh3::new();
    pieces.iter().for_each(|piece| digest.update(piece));
    let end = End { digest: digest.digest(), ..postcard::from_bytes(&last[1..]).unwrap() };
    pieces.push(encode(END, &end).unwrap());
    let refused = take_all(&open(&Disk::default()), &pieces).unwrap_err().to_string();
    assert!(refused.contains("not in order"), "{refused}");
}

#[test]
fn what_is_damaged_on_the_disk_is_not_sent() {
    for (in_keys, named) in [(false, "revision 7"), (true, "key \"key 4\"")] {
        let state = source();
        let write = state.db.begin_write().unwrap();
        if in_keys {
            let mut rows = write.open_table(KEYS).unwrap();
            let mut row = rows.get(&b"key 4"[..]).unwrap().unwrap().value().to_vec();
            row[4] ^= 1;
            rows.insert(&b"key 4"[..], &row[..]).unwrap();
        } else {
            let mut rows = write.open_table(REVISIONS).unwrap();
            let mut row = rows.get((7, 0)).unwrap().unwrap().value().to_vec();
            row[40] ^= 1;
            rows.insert((7, 0), &row[..]).unwrap();
        }
        write.commit().unwrap();
        apply(&state, 2, 46);
        checkpoint(&state);
        let mut reader = state.snapshot();
        let refused = loop {
            match reader.next_piece(1_000) {
                Ok(piece) => assert!(piece.is_some(), "it was sent"),
                Err(error) => break error.to_string(),
            }
        };
        assert!(refused.contains(named), "{refused}");
    }
}

/// What a node does that gets a snapshot over its log; what it may find when the power fails anywhere.
#[test]
fn every_crash_point_of_an_installation_leaves_the_old_node_or_the_new_one() {
    let source = source();
    let pieces = pieces(&source, 2_000);
    let last = source.snapshot().last();
    let journals = [Journal::default(), Journal::default()];
    let disks = journals.each_ref().map(Disk::recorded);
    let begin = |disks: [&Disk; 2]| {
        let state = open(disks[0]);
        let (log, found) = open_log(disks[1]).unwrap();
        (state, log, found)
    };
    let (state, mut log, _) = begin(disks.each_ref());
    let hard_state = HardState { term: Term(1), vote: Some(NodeId(3)), commit: Index(20) };
    let entries = (1..=60).map(|index| entry(1, index)).collect();
    log.append(&[LogWrite { hard_state: Some(hard_state), entries, ..LogWrite::default() }])
        .unwrap();
    apply(&state, 1, 20);
    checkpoint(&state);
    let (old, built) = (content(&state), journals.each_ref().map(Journal::len));
    let log_before = disks[1].bytes();
    let incoming = take_all(&state, &pieces).unwrap();
    assert!(state.put_in_place(incoming).unwrap());
    let (new, placed) = (content(&state), journals[0].len());
    let (seq, hard_state) =
        (Default::default(), HardState { term: Term(3), vote: None, commit: last.index });
    let reset = Some((last, membership(2)));
    let entries = vec![entry(3, last.index.0 + 1)];
    log.append(&[LogWrite {
        seq,
        hard_state: Some(hard_state),
        reset,
        entries,
        ..LogWrite::default()
    }])
    .unwrap();
    let check = |state: Disk, log: Disk, at: String, may_be_old: bool, may_be_new: bool| {
        let (state, mut log, found) = begin([&state, &log]);
        let recovered: Recovered =
            recover(&state, &mut log, found).unwrap_or_else(|error| panic!("{at}: {error}"));
        let now = content(&state);
        let is_new = now == new;
        assert!(if is_new { may_be_new } else { may_be_old && now == old }, "{at}: at {}", now.0);
        assert_eq!(recovered.applied, now.0.index, "{at}");
        if is_new {
            assert_eq!(recovered.base, last, "{at}");
            assert!(recovered.tail.iter().all(|entry| entry.id.term == Term(3)), "{at}");
            assert!(recovered.hard_state.term >= last.term, "{at}");
            assert_eq!(recovered.memberships, [(last.index, membership(2))], "{at}");
        } else {
            assert_eq!(recovered.tail.len(), 40, "{at}");
            assert_eq!(recovered.hard_state.vote, Some(NodeId(3)), "{at}");
        }
        is_new
    };
    // The state's file is written first, while the log is as it was.
    let mut found = [0, 0];
    journals[0].power_losses(
        subsets_of(),
        |now| usize::from(now >= placed),
        |loss| {
            if loss.operations >= built[0] {
                let at = format!("operation {} of the state", loss.operations);
                let log = Disk::holding(log_before.clone());
                let done = loss.operations >= placed;
                found[usize::from(check(Disk::holding(loss.bytes), log, at, !done, true))] += 1;
            }
        },
    );
    // Then the log's.
    let state_after = disks[0].bytes();
    journals[1].power_losses(
        subsets_of(),
        |_| 0,
        |loss| {
            if loss.operations >= built[1] {
                let at = format!("operation {} of the log", loss.operations);
                let state = Disk::holding(state_after.clone());
                found[1] += usize::from(check(state, Disk::holding(loss.bytes), at, false, true));
            }
        },
    );
    eprintln!("{} ends before, {} after", found[0], found[1]);
    assert!(found.iter().all(|count| *count > 10), "{found:?}");
}

#[test]
fn a_snapshot_of_another_format_or_without_members_is_refused() {
    let mut newer = pieces(&source(), 1_000);
    newer[0][1] = 9;
    let state = open(&Disk::default());
    assert!(matches!(take_all(&state, &newer), Err(IncomingError::Format(9))));
    let nothing = pieces(&open(&Disk::default()), 1_000);
    let Err(IncomingError::Damaged(what)) = take_all(&state, &nothing) else { panic!("taken") };
    assert!(what.contains("members"), "{what}");
}

#[test]
fn a_state_that_went_on_after_a_snapshot_does_not_start_without_its_log() {
    let state = open(&Disk::default());
    let incoming = take_all(&state, &pieces(&source(), 1_000)).unwrap();
    assert!(state.put_in_place(incoming).unwrap());
    apply(&state, 2, 50);
    checkpoint(&state);
    let (mut log, found) = open_log(&Disk::default()).unwrap();
    let refused = recover(&state, &mut log, found).unwrap_err().to_string();
    assert!(refused.contains("the log does not follow it"), "{refused}");
}

/// Snapshots that break off, checkpoints and restarts in any order leave the file whole.
#[test]
fn interrupted_snapshots_leave_the_file_whole() {
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    let rounds = std::env::var("KONSEN_ROUNDS").map_or(20, |text| text.parse().unwrap());
    for seed in 0..rounds {
        let mut random = StdRng::seed_from_u64(seed);
        let source = open(&Disk::default());
        let disk = Disk::default();
        let mut state = open(&disk);
        let mut last = 5;
        apply(&source, 2, last);
        checkpoint(&source);
        let mut story = Vec::new();
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for _ in 0..60 {
                match random.random_range(0..6) {
                    0 => {
                        last += random.random_range(1..10);
                        apply(&source, 2, last);
                        checkpoint(&source);
                        story.push(format!("source at {last}"));
                    }
                    1 => {
                        let to = state.applied().index.0 + random.random_range(1..5);
                        if to <= last {
                            apply(&state, 2, to);
                            checkpoint(&state);
                            story.push(format!("checkpoint at {to}"));
                        }
                    }
                    2 | 3 => {
                        let pieces = pieces(&source, random.random_range(1..2_000));
                        let some = random.random_range(0..=pieces.len());
                        let mut incoming = state.receive().unwrap();
                        incoming.take(&pieces[..some]).unwrap();
                        story.push(format!("{some} of {} pieces", pieces.len()));
                    }
                    4 => {
                        let pieces = pieces(&source, random.random_range(1..2_000));
                        let incoming = take_all(&state, &pieces).unwrap();
                        let new = state.put_in_place(incoming).unwrap();
                        story.push(format!("{} pieces, new: {new}", pieces.len()));
                    }
                    _ => {
                        drop(std::mem::replace(&mut state, open(&Disk::default())));
                        state = open(&disk);
                        story.push("restart".to_owned());
                    }
                }
            }
        }));
        assert!(done.is_ok(), "seed {seed}: {story:?}");
    }
}
