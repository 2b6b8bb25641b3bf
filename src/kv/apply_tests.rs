use super::super::bound::DELETED_PER_KEY_MAX;
use super::super::condition::{Condition, Matcher};
use super::super::model::Memory;
use super::super::outcome::Single;
use super::super::range::KeyRange;
use super::super::record::check_record;
use super::super::rows::KeyRow;
use super::super::txn::Txn;
use super::*;

impl Memory {
    pub(in super::super) fn write(&mut self, write: Write) -> (u64, Outcome) {
        self.apply(Prepared::of(&Command::new(write).encode(), FeatureLevel::HIGHEST).unwrap())
    }

    fn single(&mut self, write: Write) -> (u64, Single) {
        let (revision, outcome) = self.write(write);
        (revision, outcome.single().unwrap_or_else(|| panic!("{outcome:?}")))
    }

    pub(in super::super) fn put(
        &mut self,
        key: &'static str,
        value: &'static str,
    ) -> (u64, Single) {
        self.put_if(key, value, Condition::default())
    }

    fn put_if(&mut self, key: &'static str, value: &'static str, c: Condition) -> (u64, Single) {
        self.single(Write::put_if(Put::new(key.into(), value.into()), c))
    }

    pub(in super::super) fn delete(&mut self, key: &'static str) -> (u64, Single) {
        self.single(Write::delete(key.into()))
    }

    pub(in super::super) fn row(&self, key: &str) -> KeyRow {
        self.keys[key.as_bytes()].clone()
    }
}

const CREATED: Single = Single::Put { created: true };
const REPLACED: Single = Single::Put { created: false };

fn deleted(count: u64) -> Single {
    Single::Deleted { count }
}

fn all(keys_max: u64) -> Write {
    Write::delete_range(KeyRange::all(), keys_max)
}

fn if_match(matcher: Matcher) -> Condition {
    Condition { if_match: Some(matcher), if_none_match: None }
}

fn if_none_match(matcher: Matcher) -> Condition {
    Condition { if_match: None, if_none_match: Some(matcher) }
}

#[test]
fn a_key_counts_its_versions_until_it_is_deleted() {
    let mut store = Memory::default();
    assert_eq!(store.put("a", "1"), (2, CREATED), "an empty store is at revision 1");
    assert_eq!(store.put("b", "1"), (3, CREATED));
    assert_eq!(store.put("a", "2"), (4, REPLACED));
    assert_eq!((store.row("a").create_revision.0, store.row("a").version), (2, 2));
    assert_eq!(store.delete("a"), (5, deleted(1)));
    assert!(!store.row("a").is_live());
    assert_eq!(store.put("a", "3"), (6, CREATED));
    assert_eq!((store.row("a").create_revision.0, store.row("a").version), (6, 1));
    let newest = &store.rows[&store.row("a").newest];
    let previous = newest.previous.map(|id| id.revision.0);
    assert_eq!(previous, Some(5), "the chain goes through the deletion");
}

#[test]
fn deleting_what_is_not_there_is_no_change() {
    let mut store = Memory::default();
    store.put("a", "1");
    let hash = store.counters.hash;
    assert_eq!(store.delete("b"), (2, deleted(0)));
    assert_eq!(store.counters.hash, hash);
    store.delete("a");
    assert_eq!(store.delete("a"), (3, deleted(0)));
    assert_eq!(store.single(all(9)), (3, deleted(0)));
    assert_ne!(store.counters.hash, hash);
}

#[test]
fn conditions_are_those_of_rfc_9110() {
    let mut store = Memory::default();
    let failed = |current: Option<u64>| Single::ConditionFailed { current: current.map(Revision) };
    assert_eq!(store.put_if("a", "1", if_match(Matcher::Any)), (1, failed(None)));
    assert_eq!(store.put_if("a", "1", if_none_match(Matcher::Any)), (2, CREATED));
    assert_eq!(store.put_if("a", "2", if_none_match(Matcher::Any)), (2, failed(Some(2))));
    let two = || Matcher::Revisions(vec![Revision(2), Revision(77)]);
    assert_eq!(store.put_if("a", "2", if_none_match(two())), (2, failed(Some(2))));
    assert_eq!(store.put_if("a", "2", if_match(two())), (3, REPLACED));
    assert_eq!(store.put_if("a", "3", if_match(two())), (3, failed(Some(3))));
    assert_eq!(store.put_if("a", "3", if_none_match(two())), (4, REPLACED));
    assert_eq!(store.put_if("a", "4", if_match(Matcher::Revisions(vec![]))), (4, failed(Some(4))));
    store.delete("a");
    let absent = store.put_if("a", "5", if_match(Matcher::Any));
    assert_eq!(absent, (5, failed(None)), "deleted is absent");
}

#[test]
fn a_range_goes_in_one_revision() {
    let mut store = Memory::default();
    for key in ["a/1", "a/2", "b/1"] {
        store.put(key, "x");
    }
    let range = KeyRange::prefix(b"a/");
    assert_eq!(store.single(Write::delete_range(range, 9)), (5, deleted(2)));
    assert_eq!(store.row("a/2").newest, RowId { revision: Revision(5), sub: 1 });
    assert!(store.row("b/1").is_live());
}

#[test]
fn a_bounded_deletion_takes_all_or_none_or_goes_in_steps() {
    let mut store = Memory::default();
    for key in ["a", "b", "c", "d", "e"] {
        store.put(key, "x");
    }
    let step = |keys_max| Write::DeleteStep { range: KeyRange::all(), keys_max };
    assert_eq!(store.write(all(4)), (6, Outcome::TooManyKeys));
    let stepped =
        |count, next: Option<&'static str>| Outcome::Stepped { count, next: next.map(Bytes::from) };
    assert_eq!(store.write(step(2)), (7, stepped(2, Some("c"))));
    assert_eq!(store.write(step(3)), (8, stepped(3, None)));
    assert_eq!(store.write(step(3)), (8, stepped(0, None)));
    store.put("z", "x");
    assert_eq!(store.single(all(1)), (10, deleted(1)));
}

#[test]
fn what_was_deleted_counts_towards_the_bound_until_compaction_has_passed_it() {
    let mut store = Memory::default();
    for number in 0..=DELETED_PER_KEY_MAX {
        let key = Bytes::from(format!("a/{number:04}"));
        store.write(Write::put(key.clone(), Bytes::new()));
        store.write(Write::delete(key));
    }
    let (revision, _) = store.put("a/z", "x");
    let step = Write::DeleteStep { range: KeyRange::all(), keys_max: 1 };
    assert_eq!(store.write(all(1)), (revision, Outcome::TooManyKeys));
    let next = Some(Bytes::from(format!("a/{DELETED_PER_KEY_MAX:04}")));
    assert_eq!(store.write(step), (revision, Outcome::Stepped { count: 0, next }));
    store.write(Write::Compact { revision: Revision(revision) });
    assert_eq!(store.single(all(1)), (revision + 1, deleted(1)));
}

#[test]
fn the_past_is_given_up_once_and_never_the_future() {
    let mut store = Memory::default();
    let compact =
        |store: &mut Memory, revision| store.write(Write::Compact { revision: Revision(revision) });
    let already = |oldest| Outcome::CompactedAlready { oldest: Revision(oldest) };
    assert_eq!(compact(&mut store, 0), (1, already(0)), "there is nothing before the first one");
    assert_eq!(compact(&mut store, 2), (1, Outcome::NotReached));
    for value in ["1", "2", "3"] {
        store.put("a", value);
    }
    let hash = store.counters.hash;
    assert_eq!(compact(&mut store, 5), (4, Outcome::NotReached));
    assert_eq!(store.counters.hash, hash);
    assert_eq!(compact(&mut store, 3), (4, Outcome::Compacted), "it is no revision of its own");
    assert_ne!(store.counters.hash, hash);
    assert_eq!(compact(&mut store, 3), (4, already(3)));
    assert_eq!(compact(&mut store, 2), (4, already(3)));
    assert_eq!(compact(&mut store, 4), (4, Outcome::Compacted), "the newest may be the oldest");
    assert_eq!(store.put("a", "4"), (5, REPLACED));
    assert_eq!((store.row("a").create_revision.0, store.row("a").version), (2, 4));
}

/// The rows of deletions go at their own pace on each replica, and nothing may show it.
#[test]
fn a_deletion_before_the_compacted_revision_is_as_if_it_had_never_been() {
    let [mut keeps, mut drops] = [(); 2].map(|()| {
        let mut store = Memory::default();
        store.put("a", "1");
        store.delete("a");
        store.put("b", "1");
        store.write(Write::Compact { revision: Revision(4) });
        store
    });
    drops.keys.remove(&b"a"[..]);
    drops.rows.retain(|id, _| id.revision.0 > 3);
    for store in [&mut keeps, &mut drops] {
        assert_eq!(store.delete("a"), (4, deleted(0)));
        assert_eq!(store.put("a", "2"), (5, CREATED));
        let newest = &store.rows[&store.row("a").newest];
        assert_eq!((newest.previous, newest.jump), (None, None));
    }
    assert_eq!(keeps.counters, drops.counters);
    assert_eq!(keeps.keys, drops.keys);
}

#[test]
fn a_deletion_of_the_compacted_revision_still_counts() {
    let mut store = Memory::default();
    store.put("a", "1");
    store.delete("a");
    store.write(Write::Compact { revision: Revision(3) });
    store.put("a", "2");
    let previous = store.rows[&store.row("a").newest].previous;
    assert_eq!(previous.map(|id| id.revision), Some(Revision(3)));
}

#[test]
fn what_is_not_allowed_changes_nothing() {
    let mut store = Memory::default();
    let key = |bytes: usize| Bytes::from("k".repeat(bytes));
    let kind = Some("k".repeat(CONTENT_TYPE_BYTES_MAX + 1));
    let typed = Put { content_type: kind, ..Put::new("a".into(), "x".into()) };
    let nested = |op| Write::txn(Txn::always(vec![Op::Txn(Txn::always(vec![op]))]));
    for write in [
        Write::put_if(typed, Condition::default()),
        Write::put(key(0), "x".into()),
        Write::put(key(KEY_BYTES_MAX + 1), "x".into()),
        nested(Op::Get(Over::Key(key(0)))),
        nested(Op::Put(Put::new(key(KEY_BYTES_MAX + 1), "x".into()))),
    ] {
        let outcome = store.write(write).1;
        assert!(matches!(outcome, Outcome::Invalid { .. }), "{outcome:?}");
    }
    assert_eq!(store.counters, Counters::default());
}

/// What a node cannot read, others may have carried out: it must stop, and never say that nothing happened.
#[test]
fn what_cannot_be_read_is_not_carried_out_and_what_is_newer_is_called_so() {
    let sound = Command::new(Write::put("a".into(), "x".into())).encode();
    let mut longer = sound.to_vec();
    longer.push(0);
    let newer_layout = [&[9], &sound[1..]].concat();
    let newer_level = [&[sound[0], 77], &sound[2..]].concat();
    let cases: [(&[u8], &str); 6] = [
        (b"", "it is empty"),
        (&sound[..sound.len() - 1], "it cannot be read"),
        (&longer, "something follows it"),
        (b"\x01\x01\x01", "it has no layout"),
        (&newer_layout, "it has layout 9"),
        (&newer_level, "it has feature level 77"),
    ];
    for (bytes, why) in cases {
        let refused = Prepared::of(bytes, FeatureLevel::HIGHEST).unwrap_err().to_string();
        assert!(refused.contains(why), "{refused}");
        let newer = refused.contains("written by a newer release");
        assert_eq!(newer, why.starts_with("it has ") && !why.ends_with("no layout"), "{refused}");
    }
    let raise = Write::Raise { level: FeatureLevel(77), release: "9.8.7".to_owned() };
    let refused =
        Prepared::of(&Command::new(raise).encode(), FeatureLevel::HIGHEST).unwrap_err().to_string();
    for word in ["feature level 77", "konsen 9.8.7", "written by a newer release"] {
        assert!(refused.contains(word), "{word}: {refused}");
    }
}

#[test]
fn the_clock_goes_on_and_never_back_and_the_hash_shows_it() {
    let mut store = Memory::default();
    let mut at = |clock_ms| {
        let header = Header { clock_ms, ..Header::default() };
        let write = Write::delete("a".into());
        store.apply(
            Prepared::of(&Command { header, write }.encode(), FeatureLevel::HIGHEST).unwrap(),
        );
        (store.counters.clock_ms, store.counters.hash)
    };
    let (_, first) = at(0);
    assert_eq!(at(0), (0, first));
    let (clock, later) = at(70);
    assert_eq!(clock, 70);
    assert_ne!(later, first);
    assert_eq!(at(60), (70, later));
    let moved = store.counters;
    let (key, record) = moved.clock_record(&Counters::default()).unwrap();
    let read = |asked: &RecordKey| Ok::<_, Unreadable>((*asked == key).then(|| record.clone()));
    assert_eq!(Counters::default().with_records(FeatureLevel::HIGHEST, read).unwrap().clock_ms, 70);
    assert_eq!(moved.clock_record(&moved), None);
}

#[test]
fn settings_are_agreed_on_and_kept_as_a_record() {
    let first = Settings { value_bytes_max: 1, election_timeout_ms: 500, lease_reads: false };
    let second = Settings { lease_reads: true, ..first };
    let mut store = Memory::default();
    let mut hashes = vec![store.counters.hash];
    for settings in [first, second, first] {
        assert_eq!(store.write(Write::Agree { settings }), (1, Outcome::Agreed));
        assert_eq!(store.counters.settings, Some(settings));
        let records = &store.records;
        let read = |asked: &RecordKey| Ok::<_, Unreadable>(records.get(asked).cloned());
        let counters = Counters::default().with_records(FeatureLevel::HIGHEST, read).unwrap();
        assert_eq!(counters.settings, Some(settings));
        let key = RecordKey::settings();
        check_record(key.kind, &key.key, &records[&key], FeatureLevel::HIGHEST).unwrap();
        assert!(check_record(key.kind, b"x", &records[&key], FeatureLevel::HIGHEST).is_err());
        hashes.push(store.counters.hash);
    }
    store.write(Write::Agree { settings: first });
    assert_eq!(hashes[3], store.counters.hash, "nothing has changed");
    hashes.dedup();
    assert_eq!(hashes.len(), 4);
}

#[test]
fn a_level_is_raised_once_and_kept_as_a_record() {
    let mut store = Memory::default();
    let raise = |level| Write::Raise { level, release: "0.1.0".to_owned() };
    assert_eq!(store.write(raise(FeatureLevel::BASE)), (1, Outcome::Raised));
    assert_eq!(store.records.len(), 0, "that is what a cluster begins with");
    store.counters.level = FeatureLevel(0);
    let hash = store.counters.hash;
    store.write(raise(FeatureLevel::BASE));
    assert_eq!(store.counters.level, FeatureLevel::BASE);
    assert_ne!(store.counters.hash, hash);
    let records = &store.records;
    let read = |asked: &RecordKey| Ok::<_, Unreadable>(records.get(asked).cloned());
    assert_eq!(
        Counters::default().with_records(FeatureLevel::HIGHEST, read).unwrap().level,
        FeatureLevel::BASE
    );
}
