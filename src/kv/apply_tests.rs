use super::super::model::Memory;
use super::*;

impl Memory {
    fn write(&mut self, write: Write) -> (u64, Outcome) {
        self.apply(&Command { time_unix_ms: 0, write }.encode())
    }

    fn put(&mut self, key: &'static str, value: &'static str) -> (u64, Outcome) {
        self.put_if(key, value, Condition::default())
    }

    fn put_if(&mut self, key: &'static str, value: &'static str, c: Condition) -> (u64, Outcome) {
        self.write(Write::Put(Put {
            key: key.into(),
            value: value.into(),
            content_type: None,
            condition: c,
        }))
    }

    fn delete(&mut self, key: &'static str) -> (u64, Outcome) {
        self.write(Write::Delete { key: key.into(), condition: Condition::default() })
    }

    fn row(&self, key: &str) -> KeyRow {
        self.keys[key.as_bytes()]
    }
}

const CREATED: Outcome = Outcome::Put { created: true };
const REPLACED: Outcome = Outcome::Put { created: false };

fn if_match(matcher: Matcher) -> Condition {
    Condition { if_match: Some(matcher), if_none_match: None }
}

fn if_none_match(matcher: Matcher) -> Condition {
    Condition { if_match: None, if_none_match: Some(matcher) }
}

#[test]
fn a_key_counts_its_versions_until_it_is_deleted() {
    let mut store = Memory::default();
    assert_eq!(store.put("a", "1"), (1, CREATED));
    assert_eq!(store.put("b", "1"), (2, CREATED));
    assert_eq!(store.put("a", "2"), (3, REPLACED));
    assert_eq!((store.row("a").create_revision.0, store.row("a").version), (1, 2));
    assert_eq!(store.delete("a"), (4, Outcome::Deleted { count: 1 }));
    assert!(!store.row("a").is_live());
    assert_eq!(store.put("a", "3"), (5, CREATED));
    assert_eq!((store.row("a").create_revision.0, store.row("a").version), (5, 1));
    let newest = &store.rows[&store.row("a").newest];
    assert_eq!(
        newest.previous.map(|id| id.revision.0),
        Some(4),
        "the chain goes through the deletion"
    );
}

#[test]
fn deleting_what_is_not_there_is_no_change() {
    let mut store = Memory::default();
    store.put("a", "1");
    let hash = store.counters.hash;
    assert_eq!(store.delete("b"), (1, Outcome::Deleted { count: 0 }));
    store.delete("a");
    assert_eq!(store.delete("a"), (2, Outcome::Deleted { count: 0 }));
    let range = KeyRange::all();
    assert_eq!(store.write(Write::DeleteRange { range }), (2, Outcome::Deleted { count: 0 }));
    assert_ne!(store.counters.hash, hash);
}

#[test]
fn conditions_are_those_of_rfc_9110() {
    let mut store = Memory::default();
    let failed = |current: Option<u64>| Outcome::ConditionFailed { current: current.map(Revision) };
    assert_eq!(store.put_if("a", "1", if_match(Matcher::Any)), (0, failed(None)));
    assert_eq!(store.put_if("a", "1", if_none_match(Matcher::Any)), (1, CREATED));
    assert_eq!(store.put_if("a", "2", if_none_match(Matcher::Any)), (1, failed(Some(1))));
    let one = || Matcher::Revisions(vec![Revision(1), Revision(77)]);
    assert_eq!(store.put_if("a", "2", if_none_match(one())), (1, failed(Some(1))));
    assert_eq!(store.put_if("a", "2", if_match(one())), (2, REPLACED));
    assert_eq!(store.put_if("a", "3", if_match(one())), (2, failed(Some(2))));
    assert_eq!(store.put_if("a", "3", if_none_match(one())), (3, REPLACED));
    assert_eq!(store.put_if("a", "4", if_match(Matcher::Revisions(vec![]))), (3, failed(Some(3))));
    store.delete("a");
    assert_eq!(
        store.put_if("a", "5", if_match(Matcher::Any)),
        (4, failed(None)),
        "deleted is absent"
    );
}

#[test]
fn a_range_goes_in_one_revision() {
    let mut store = Memory::default();
    for key in ["a/1", "a/2", "b/1"] {
        store.put(key, "x");
    }
    let range = KeyRange::prefix(b"a/");
    assert_eq!(store.write(Write::DeleteRange { range }), (4, Outcome::Deleted { count: 2 }));
    assert_eq!(store.row("a/2").newest, RowId { revision: Revision(4), sub: 1 });
    assert!(store.row("b/1").is_live());
}

#[test]
fn a_bounded_deletion_takes_all_or_none_or_goes_in_steps() {
    let mut store = Memory::default();
    for key in ["a", "b", "c", "d", "e"] {
        store.put(key, "x");
    }
    let delete = |range, keys_max, in_steps| Write::DeleteUpTo { range, keys_max, in_steps };
    let too_many = (5, Outcome::TooManyKeys);
    assert_eq!(store.write(delete(KeyRange::all(), 4, false)), too_many);
    let step = |count, next: Option<&'static str>| Outcome::DeletedInPart {
        count,
        next: next.map(Bytes::from),
    };
    assert_eq!(store.write(delete(KeyRange::all(), 2, true)), (6, step(2, Some("c"))));
    assert_eq!(store.write(delete(KeyRange::all(), 3, true)), (7, step(3, None)));
    assert_eq!(store.write(delete(KeyRange::all(), 3, true)), (7, step(0, None)));
    store.put("z", "x");
    let all = store.write(delete(KeyRange::all(), 1, false));
    assert_eq!(all, (9, Outcome::Deleted { count: 1 }));
}

#[test]
fn what_was_deleted_counts_towards_the_bound_until_compaction_reaches_it() {
    let mut store = Memory::default();
    for number in 0..=DELETED_PER_KEY_MAX {
        let key = Bytes::from(format!("a/{number:04}"));
        let put = Put {
            key: key.clone(),
            value: Bytes::new(),
            content_type: None,
            condition: Condition::default(),
        };
        store.write(Write::Put(put));
        store.write(Write::Delete { key, condition: Condition::default() });
    }
    let (revision, _) = store.put("a/z", "x");
    let delete = |in_steps| Write::DeleteUpTo { range: KeyRange::all(), keys_max: 1, in_steps };
    assert_eq!(store.write(delete(false)), (revision, Outcome::TooManyKeys));
    let next = Some(Bytes::from(format!("a/{DELETED_PER_KEY_MAX:04}")));
    let nothing = Outcome::DeletedInPart { count: 0, next };
    assert_eq!(store.write(delete(true)), (revision, nothing));
    store.write(Write::Compact { revision: Revision(revision) });
    assert_eq!(store.write(delete(false)), (revision + 1, Outcome::Deleted { count: 1 }));
}

#[test]
fn many_keys_are_set_in_one_revision_and_the_first_value_counts() {
    let mut store = Memory::default();
    let pairs = [("a", "1"), ("b", "2"), ("a", "3")].map(|(k, v)| (k.into(), v.into())).to_vec();
    assert_eq!(store.write(Write::PutMany { pairs }), (1, Outcome::PutMany));
    assert_eq!(&store.rows[&store.row("a").newest].value[..], b"1");
    assert_eq!(store.row("b").newest, RowId { revision: Revision(1), sub: 1 });
    assert_eq!(store.put("a", "4"), (2, REPLACED));
}

#[test]
fn the_past_is_given_up_once_and_never_the_future() {
    let mut store = Memory::default();
    let compact =
        |store: &mut Memory, revision| store.write(Write::Compact { revision: Revision(revision) });
    let already = |oldest| Outcome::CompactedAlready { oldest: Revision(oldest) };
    assert_eq!(
        compact(&mut store, 0),
        (0, already(0)),
        "there is nothing before the first revision"
    );
    assert_eq!(compact(&mut store, 1), (0, Outcome::NotReached));
    for value in ["1", "2", "3"] {
        store.put("a", value);
    }
    let hash = store.counters.hash;
    assert_eq!(compact(&mut store, 4), (3, Outcome::NotReached));
    assert_eq!(store.counters.hash, hash);
    assert_eq!(compact(&mut store, 2), (3, Outcome::Compacted), "it is no revision of its own");
    assert_ne!(store.counters.hash, hash);
    assert_eq!(compact(&mut store, 2), (3, already(2)));
    assert_eq!(compact(&mut store, 1), (3, already(2)));
    assert_eq!(compact(&mut store, 3), (3, Outcome::Compacted), "the newest may be the oldest");
    assert_eq!(store.put("a", "4"), (4, REPLACED));
    assert_eq!((store.row("a").create_revision.0, store.row("a").version), (1, 4));
}

/// The rows of deletions go at their own pace on each replica, and nothing may show it.
#[test]
fn a_compacted_deletion_is_as_if_it_had_never_been() {
    let [mut keeps, mut drops] = [(); 2].map(|()| {
        let mut store = Memory::default();
        store.put("a", "1");
        store.delete("a");
        store.put("b", "1");
        store.write(Write::Compact { revision: Revision(3) });
        store
    });
    drops.keys.remove(&b"a"[..]);
    drops.rows.retain(|id, _| id.revision.0 > 2);
    for store in [&mut keeps, &mut drops] {
        assert_eq!(store.delete("a"), (3, Outcome::Deleted { count: 0 }));
        assert_eq!(store.put("a", "2"), (4, CREATED));
        assert_eq!(store.rows[&store.row("a").newest].previous, None);
    }
    assert_eq!(keeps.counters, drops.counters);
    assert_eq!(keeps.keys, drops.keys);
}

#[test]
fn what_is_no_command_changes_nothing() {
    let mut store = Memory::default();
    let long: &'static str = Box::leak("k".repeat(KEY_BYTES_MAX + 1).into_boxed_str());
    let kind = Some("k".repeat(CONTENT_TYPE_BYTES_MAX + 1));
    let condition = Condition::default();
    let typed = Put { key: "a".into(), value: "x".into(), content_type: kind, condition };
    for outcome in [
        store.write(Write::Put(typed)).1,
        store.put("", "x").1,
        store.put(long, "x").1,
        store.apply(b"").1,
        store.apply(b"\x02abc").1,
        store.apply(b"\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff").1,
    ] {
        assert!(matches!(outcome, Outcome::Invalid { .. }), "{outcome:?}");
    }
    assert_eq!(store.counters, Counters::default());
}
