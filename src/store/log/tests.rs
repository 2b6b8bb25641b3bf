use proptest::prelude::*;
use redb::backends::InMemoryBackend;
use redb::{ReadableTable, WriteTransaction};

use super::super::rows::{BASE_KEY, ENTRIES, HARD_STATE_KEY, MEMBERSHIPS};
use super::*;
use crate::raft::{ClusterId, Entry, HardState, Membership, NodeId, Payload, Seq, Term};
use crate::store::meta::META;

/// Nothing stays that a checkpoint covers.
fn options() -> LogOptions {
    LogOptions { tail_bytes: 0, ..LogOptions::default() }
}

/// The next commit of a log whose entries up to `to` a checkpoint covers.
fn compact(log: &mut Log, to: LogId) {
    log.compact_to(to).unwrap();
    log.append(&[LogWrite::default()]).unwrap();
    assert_eq!(log.base(), to);
}

fn open() -> (Log, RecoveredLog) {
    Log::open_backends(InMemoryBackend::new(), InMemoryBackend::new(), &options()).unwrap()
}

fn entry(term: u64, index: u64) -> Entry {
    let payload = Payload::Command(format!("{term}/{index}").into());
    Entry { id: LogId::new(Term(term), Index(index)), payload }
}

fn membership(cluster: u64) -> Membership {
    let voters = [NodeId(1)].into();
    Membership { cluster: ClusterId(cluster), members: [].into(), voters, outgoing: None }
}

fn write(truncate_from: Option<u64>, entries: Vec<Entry>) -> LogWrite {
    let truncate_from = truncate_from.map(Index);
    LogWrite { seq: Seq(1), truncate_from, entries, ..LogWrite::default() }
}

#[test]
fn a_suffix_is_replaced_in_one_commit_with_its_memberships() {
    let (mut log, found) = open();
    let mut entries: Vec<Entry> = (1..=5).map(|index| entry(1, index)).collect();
    entries[0].payload = Payload::Membership(membership(1));
    entries[3].payload = Payload::Membership(membership(2));
    log.append(&[write(None, entries)]).unwrap();
    log.append(&[write(Some(3), vec![entry(2, 3)]), write(None, vec![entry(2, 4)])]).unwrap();
    let all = log.reader().read(Index(1), Index(4), usize::MAX).unwrap();
    assert_eq!(all[3], entry(2, 4));
    assert!(log.reader().read(Index(4), Index(5), usize::MAX).is_err());
    let found = RecoveredLog { last: Index(4), ..found };
    let recovered = found.into_recovered(&log.reader(), LogId::ZERO).unwrap();
    assert_eq!(recovered.tail.len(), 4);
    assert_eq!(recovered.memberships, [(Index(1), membership(1))], "the second was undone");
}

#[test]
fn a_start_reads_only_what_is_not_known_to_be_committed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log.redb");
    let (mut log, _) = Log::open(&path, None, &LogOptions::default()).unwrap();
    let hard_state = HardState { term: Term(7), vote: Some(NodeId(3)), commit: Index(8) };
    let batch = LogWrite {
        hard_state: Some(hard_state),
        ..write(None, (1..=10).map(|index| entry(7, index)).collect())
    };
    log.append(&[batch]).unwrap();
    drop(log);
    let (log, found) = Log::open(&path, None, &LogOptions::default()).unwrap();
    let recovered = found.into_recovered(&log.reader(), LogId::new(Term(7), Index(4))).unwrap();
    assert_eq!(recovered.hard_state, hard_state);
    assert_eq!(recovered.committed, LogId::new(Term(7), Index(8)));
    assert_eq!(recovered.tail, [entry(7, 9), entry(7, 10)]);
    assert_eq!(recovered.applied, Index(4));
}

#[test]
fn a_state_that_is_ahead_of_the_log_or_of_another_history_is_refused() {
    let (mut log, found) = open();
    log.append(&[write(None, vec![entry(1, 1)])]).unwrap();
    let found = RecoveredLog { last: Index(1), ..found };
    let ahead = found.clone().into_recovered(&log.reader(), LogId::new(Term(1), Index(2)));
    assert!(ahead.unwrap_err().to_string().contains("entry 2"));
    assert!(found.into_recovered(&log.reader(), LogId::new(Term(2), Index(1))).is_err());
}

#[test]
fn a_flipped_bit_is_found_with_its_index_and_nothing_is_skipped() {
    let (mut log, found) = open();
    log.append(&[write(None, (1..=5).map(|index| entry(1, index)).collect())]).unwrap();
    log.settle();
    let tx = log.shared.db.begin_write().unwrap();
    {
        let mut table = tx.open_table(ENTRIES).unwrap();
        let mut bytes = table.get(3).unwrap().unwrap().value().to_vec();
        *bytes.last_mut().unwrap() ^= 1;
        table.insert(3, &bytes[..]).unwrap();
        // And one that is whole, but in another's place.
        let moved = table.get(1).unwrap().unwrap().value().to_vec();
        table.insert(5, &moved[..]).unwrap();
    }
    tx.commit().unwrap();
    let reader = log.reader();
    let corrupt = |result: Result<Vec<Entry>, StoreError>| match result {
        Err(StoreError::CorruptEntry { index, .. }) => index.0,
        other => panic!("{other:?}"),
    };
    assert_eq!(corrupt(reader.read(Index(1), Index(5), usize::MAX)), 3);
    assert_eq!(corrupt(reader.read(Index(4), Index(5), usize::MAX)), 5);
    assert_eq!(reader.read(Index(1), Index(2), usize::MAX).unwrap().len(), 2);
    let found = RecoveredLog { last: Index(5), ..found };
    assert!(
        found.into_recovered(&log.reader(), LogId::ZERO).is_err(),
        "a start does not skip it either"
    );
}

/// Changes the log's tables behind its back.
fn tamper(log: &Log, change: impl FnOnce(&WriteTransaction)) {
    let tx = log.shared.db.begin_write().unwrap();
    change(&tx);
    tx.commit().unwrap();
}

#[test]
fn a_membership_that_is_not_what_was_written_is_named() {
    for moved in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.redb");
        let (mut log, _) = Log::open(&path, None, &LogOptions::default()).unwrap();
        let mut entries: Vec<Entry> = (1..=3).map(|index| entry(1, index)).collect();
        for entry in &mut entries {
            entry.payload = Payload::Membership(membership(entry.id.index.0));
        }
        log.append(&[write(None, entries)]).unwrap();
        log.settle();
        tamper(&log, |tx| {
            let mut table = tx.open_table(MEMBERSHIPS).unwrap();
            let from = if moved { 3 } else { 2 };
            let mut bytes = table.get(from).unwrap().unwrap().value().to_vec();
            bytes[0] ^= u8::from(!moved);
            table.insert(2, &bytes[..]).unwrap();
        });
        drop(log);
        let refused = Log::open(&path, None, &LogOptions::default()).unwrap_err();
        assert!(matches!(refused, StoreError::CorruptEntry { index: Index(2), .. }), "{refused}");
        assert!(refused.to_string().contains("memberships"), "{refused}");
    }
}

#[test]
fn a_record_that_is_damaged_moved_or_missing_is_named() {
    type Change = fn(&mut redb::Table<'_, &str, &[u8]>, &'static str);
    let flipped: Change = |meta, key| {
        let mut bytes = meta.get(key).unwrap().unwrap().value().to_vec();
        bytes[0] ^= 1;
        meta.insert(key, &bytes[..]).unwrap();
    };
    let moved: Change = |meta, key| {
        let other = if key == BASE_KEY { HARD_STATE_KEY } else { BASE_KEY };
        let bytes = meta.get(other).unwrap().unwrap().value().to_vec();
        meta.insert(key, &bytes[..]).unwrap();
    };
    let missing: Change = |meta, key| drop(meta.remove(key).unwrap());
    for key in ["format", HARD_STATE_KEY, BASE_KEY] {
        for change in [flipped, moved, missing] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("log.redb");
            let (log, _) = Log::open(&path, None, &LogOptions::default()).unwrap();
            tamper(&log, |tx| change(&mut tx.open_table(META).unwrap(), key));
            drop(log);
            let refused = Log::open(&path, None, &LogOptions::default()).unwrap_err();
            assert!(matches!(refused, StoreError::Damaged { what: "log", .. }), "{refused}");
            assert!(refused.to_string().contains(key), "{refused}");
        }
    }
}

#[test]
fn the_write_ahead_log_has_a_bound_which_may_change() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log.redb");
    let slot = 64 << 10;
    let bytes = || std::fs::metadata(dir.path().join("log.wal")).unwrap().len();
    let mut last = 0;
    for slots in [6, 10, 3, 0] {
        let options = LogOptions { wal_slot_bytes: slot, wal_bytes: slots * slot, ..options() };
        let (mut log, _) = Log::open(&path, None, &options).unwrap();
        assert_eq!(log.reader().last().unwrap(), Index(last));
        // Much of each slot is needed, so that another one is wanted.
        for _ in 0..60 {
            let payload = Payload::Command(vec![7; 20 << 10].into());
            last += 1;
            let entry = Entry { id: LogId::new(Term(1), Index(last)), payload };
            log.append(&[write(None, vec![entry])]).unwrap();
            assert!(slots < 6 || bytes() <= slots * slot, "{} of {slots} slots", bytes() / slot);
        }
        // What there was of more has been settled by now.
        assert!(bytes() <= slots.max(3) * slot, "{} of {slots} slots", bytes() / slot);
        assert_eq!(
            log.reader().read(Index(1), Index(last), usize::MAX).unwrap().len() as u64,
            last
        );
        assert!(slots < 6 || bytes() == slots * slot, "{} of {slots} slots", bytes() / slot);
    }
}

#[test]
fn compaction_keeps_the_end_and_the_membership_in_force() {
    let (mut log, found) = open();
    let mut entries: Vec<Entry> = (1..=10).map(|index| entry(1, index)).collect();
    entries[0].payload = Payload::Membership(membership(1));
    entries[1].payload = Payload::Membership(membership(2));
    log.append(&[write(None, entries)]).unwrap();
    compact(&mut log, LogId::new(Term(1), Index(6)));
    let reader = log.reader();
    assert_eq!(reader.id_at(Index(6)).unwrap(), Some(LogId::new(Term(1), Index(6))));
    assert_eq!(reader.id_at(Index(5)).unwrap(), None);
    assert_eq!(reader.memberships().unwrap(), [(Index(2), membership(2))]);
    log.append(&[write(None, vec![entry(1, 11)])]).unwrap();
    assert_eq!(reader.read(Index(7), Index(11), usize::MAX).unwrap().len(), 5);
    let found = RecoveredLog { last: Index(11), base: LogId::new(Term(1), Index(6)), ..found };
    assert!(found.clone().into_recovered(&log.reader(), LogId::new(Term(1), Index(3))).is_err());
    let recovered = found.into_recovered(&log.reader(), LogId::new(Term(1), Index(6))).unwrap();
    assert_eq!(recovered.tail.len(), 5);
}

#[test]
fn a_file_that_is_open_elsewhere_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log.redb");
    let (log, _) = Log::open(&path, None, &LogOptions::default()).unwrap();
    let refused = Log::open(&path, None, &LogOptions::default()).unwrap_err();
    assert!(matches!(&refused, StoreError::InUse { path } if path == dir.path()), "{refused}");
    log.close().unwrap();
    Log::open(&path, None, &LogOptions::default()).unwrap();
}

#[test]
fn the_last_index_is_that_of_the_last_entry_or_of_the_one_before_the_first() {
    let (mut log, _) = open();
    let reader = log.reader();
    assert_eq!(reader.last().unwrap(), Index(0));
    log.append(&[write(None, vec![entry(1, 1), entry(1, 2)])]).unwrap();
    assert_eq!(reader.last().unwrap(), Index(2));
    compact(&mut log, LogId::new(Term(1), Index(2)));
    assert_eq!(reader.last().unwrap(), Index(2));
    log.close().unwrap();
    assert!(reader.last().is_err());
    assert!(reader.read(Index(1), Index(1), 1).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn the_log_is_a_list_whose_end_is_replaced(
        steps in prop::collection::vec((0..8_u64, 0..5_u64, any::<bool>()), 1..30)
    ) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.redb");
        let (mut log, _) = Log::open(&path, None, &LogOptions::default()).unwrap();
        let mut model: Vec<Entry> = Vec::new();
        for (term, (back, count, reopen)) in steps.into_iter().enumerate() {
            let keep = model.len().saturating_sub(usize::try_from(back).unwrap());
            let from = (back > 0).then_some(keep as u64 + 1);
            if back > 0 {
                model.truncate(keep);
            }
            let next = model.len() as u64 + 1;
            let entries: Vec<_> =
                (next..next + count).map(|index| entry(term as u64 + 1, index)).collect();
            model.extend(entries.clone());
            log.append(&[write(from, entries)]).unwrap();
            if reopen {
                drop(log);
                let opened = Log::open(&path, None, &LogOptions::default()).unwrap();
                log = opened.0;
                let recovered = opened.1.into_recovered(&log.reader(), LogId::ZERO).unwrap();
                prop_assert_eq!(&recovered.tail, &model);
            }
            if !model.is_empty() {
                let last = Index(model.len() as u64);
                let all = log.reader().read(Index(1), last, usize::MAX).unwrap();
                prop_assert_eq!(&all, &model);
            }
        }
    }
}
