use super::super::bound::DELETED_PER_KEY_MAX;
use super::super::command::Write;
use super::super::level::FeatureLevel;
use super::super::model::Memory;
use super::super::txn::Relation;
use super::*;

fn key(key: &str) -> Over {
    Over::Key(Bytes::copy_from_slice(key.as_bytes()))
}

fn prefix(prefix: &str) -> Over {
    Over::Range(KeyRange::prefix(prefix.as_bytes()))
}

fn put(key: &'static str, value: &'static str) -> Op {
    Op::Put(Put::new(key.into(), value.into()))
}

fn if_then(over: Over, test: Test, then: Vec<Op>) -> Txn {
    Txn { compares: vec![Compare { over, test }], then, otherwise: vec![] }
}

impl Memory {
    fn txn(&mut self, txn: Txn) -> (u64, Outcome) {
        self.write(Write::Txn { txn, keys_max: 100 })
    }

    /// Whether a compare holds.
    fn holds(&mut self, over: Over, test: Test) -> bool {
        match self.txn(if_then(over, test, vec![])).1 {
            Outcome::Txn(outcome) => outcome.succeeded,
            other => panic!("{other:?}"),
        }
    }

    fn results(&mut self, txn: Txn) -> Vec<OpOutcome> {
        match self.txn(txn).1 {
            Outcome::Txn(outcome) => outcome.results,
            other => panic!("{other:?}"),
        }
    }

    fn value(&self, key: &str) -> Option<&[u8]> {
        let row = self.keys.get(key.as_bytes()).filter(|row| row.is_live())?;
        Some(&self.rows[&row.newest].value)
    }
}

fn id(revision: u64, sub: u32) -> RowId {
    RowId { revision: Revision(revision), sub }
}

#[test]
fn all_of_it_has_one_revision_and_each_operation_sees_what_came_before() {
    let mut store = Memory::default();
    store.put("a", "1");
    let ops = vec![
        put("a", "2"),
        Op::Get(key("a")),
        Op::Delete(key("a")),
        Op::Get(key("a")),
        put("b", "1"),
        Op::Delete(prefix("")),
        Op::Get(prefix("")),
        put("a", "3"),
    ];
    let results = store.results(Txn::always(ops));
    assert_eq!(
        results,
        [
            OpOutcome::Put { previous: Some(id(2, 0)) },
            OpOutcome::Got { newest: Some(id(3, 0)) },
            OpOutcome::Deleted { count: 1, first: 1 },
            OpOutcome::Got { newest: None },
            OpOutcome::Put { previous: None },
            OpOutcome::Deleted { count: 1, first: 3 },
            OpOutcome::Range { before: id(3, 4) },
            OpOutcome::Put { previous: None },
        ]
    );
    assert_eq!(store.counters.revision, Revision(3));
    let row = store.row("a");
    assert_eq!((row.newest, row.create_revision, row.version), (id(3, 4), Revision(3), 1));
    // The chain leads through all of it.
    let chain: Vec<RowId> =
        std::iter::successors(Some(row.newest), |id| store.rows[id].previous).collect();
    assert_eq!(chain, [id(3, 4), id(3, 1), id(3, 0), id(2, 0)]);
}

#[test]
fn compares_see_the_state_before_also_those_of_nested_transactions() {
    let mut store = Memory::default();
    store.put("a", "1");
    let is = |value: &'static str| Test::Value(Relation::Eq, value.into());
    let nested = if_then(key("a"), is("1"), vec![put("c", "then")]);
    let outer = if_then(key("a"), is("1"), vec![put("a", "2"), Op::Txn(nested)]);
    store.txn(outer.clone());
    assert_eq!(store.value("c"), Some(&b"then"[..]));
    let outcome = store.txn(outer).1;
    assert_eq!(outcome, Outcome::Txn(TxnOutcome { succeeded: false, results: vec![] }));
}

#[test]
fn an_absent_key_has_zeros_and_no_value() {
    let mut store = Memory::default();
    let mut holds = |test| store.holds(key("a"), test);
    for relation in [Relation::Eq, Relation::Le, Relation::Ge] {
        assert!(holds(Test::Version(relation, 0)));
        assert!(holds(Test::CreateRevision(relation, Revision(0))));
        assert!(holds(Test::ModRevision(relation, Revision(0))));
        assert!(holds(Test::Lease(relation, 0)));
    }
    for relation in [Relation::Eq, Relation::Ne, Relation::Lt, Relation::Ge] {
        assert!(!holds(Test::Value(relation, "".into())));
    }
    assert!(!holds(Test::Exists(true)) && holds(Test::Exists(false)));
    assert!(!holds(Test::OneOf(vec![Revision(0)])) && holds(Test::NoneOf(vec![Revision(0)])));
}

#[test]
fn relations_are_those_of_the_order() {
    let mut store = Memory::default();
    store.put("a", "b");
    use Relation::{Eq, Ge, Gt, Le, Lt, Ne};
    let all = [Eq, Ne, Lt, Le, Gt, Ge];
    for (value, expected) in [
        ("a", [false, true, false, false, true, true]),
        ("b", [true, false, false, true, false, true]),
        ("c", [false, true, true, true, false, false]),
    ] {
        let got = all.map(|relation| store.holds(key("a"), Test::Value(relation, value.into())));
        assert_eq!(got, expected, "b against {value}");
    }
    for (number, expected) in [
        (1, [false, true, false, false, true, true]),
        (2, [true, false, false, true, false, true]),
        (3, [false, true, true, true, false, false]),
    ] {
        let got = all
            .map(|relation| store.holds(key("a"), Test::ModRevision(relation, Revision(number))));
        assert_eq!(got, expected, "2 against {number}");
    }
}

#[test]
fn a_compare_of_a_range_holds_for_every_key_of_it_that_exists() {
    let mut store = Memory::default();
    for name in ["a/1", "a/2", "a/3", "b"] {
        store.put(name, "x");
    }
    store.put("b", "y");
    store.delete("a/2");
    let x = || Test::Value(Relation::Eq, "x".into());
    assert!(store.holds(prefix("a/"), x()));
    assert!(!store.holds(prefix(""), x()));
    assert!(store.holds(prefix("none/"), x()), "there is none for which it does not hold");
    assert!(store.holds(prefix("a/"), Test::Version(Relation::Eq, 1)));
    assert!(!store.holds(prefix(""), Test::Version(Relation::Eq, 1)));
}

#[test]
fn what_is_unchanged_counts_deletions_and_new_keys() {
    let mut store = Memory::default();
    store.put("a/1", "x");
    store.put("b", "x");
    let since = |revision| Test::UnchangedSince(Revision(revision));
    assert!(store.holds(prefix("a/"), since(2)) && !store.holds(prefix("a/"), since(1)));
    assert!(store.holds(key("b"), since(3)) && !store.holds(key("b"), since(2)));
    store.delete("a/1");
    assert!(!store.holds(prefix("a/"), since(3)), "a deletion is a change");
    assert!(store.holds(prefix("a/"), since(4)));
    store.put("a/0", "a phantom");
    assert!(!store.holds(prefix("a/"), since(4)));
    store.write(Write::Compact { revision: Revision(4) });
    let compacted = Outcome::CompactedAlready { oldest: Revision(4) };
    assert_eq!(store.txn(if_then(prefix("a/"), since(3), vec![put("z", "1")])), (5, compacted));
    let future = store.txn(if_then(prefix("none/"), since(6), vec![put("z", "1")]));
    assert_eq!(future, (5, Outcome::NotReached), "there is no 6 yet");
    assert!(store.holds(prefix("a/"), since(5)));
    assert_eq!(store.value("z"), None);
    assert!(store.holds(key("a/1"), since(4)), "the deletion at the compacted revision is known");
}

#[test]
fn what_is_kept_is_what_there_was_before() {
    let mut store = Memory::default();
    let keep = |key: &'static str| Put { value: None, ..Put::new(key.into(), Bytes::new()) };
    let refused = Outcome::Refused(Refusal::NothingToKeep { key: "a".into() });
    assert_eq!(store.txn(Txn::always(vec![put("b", "1"), Op::Put(keep("a"))])), (1, refused));
    assert_eq!(store.value("b"), None, "all or nothing");
    let typed =
        Put { content_type: Some("text/plain".to_owned()), ..Put::new("a".into(), "1".into()) };
    store.txn(Txn::always(vec![Op::Put(typed)]));
    let first = Txn::always(vec![Op::Delete(key("a"))]);
    let second = Txn::always(vec![Op::Put(keep("a"))]);
    store.txn(Txn::always(vec![Op::Txn(first), Op::Txn(second)]));
    let row = &store.rows[&store.row("a").newest];
    assert_eq!((&row.value[..], row.content_type.as_deref()), (&b"1"[..], Some("text/plain")));
    assert_eq!((row.version, row.create_revision), (1, Revision(3)), "but it was deleted between");
    let lease = Put { lease: Attach::To(7), ..Put::new("a".into(), "2".into()) };
    let no_lease = Outcome::Refused(Refusal::NoSuchLease { key: "a".into(), lease: 7 });
    assert_eq!(store.txn(Txn::always(vec![Op::Put(lease)])), (3, no_lease));
}

#[test]
fn nothing_changed_is_no_revision() {
    let mut store = Memory::default();
    store.put("a", "1");
    let ops = vec![Op::Delete(key("b")), Op::Get(prefix("")), Op::Get(key("a"))];
    let (revision, outcome) = store.txn(Txn::always(ops));
    let results = vec![
        OpOutcome::Deleted { count: 0, first: 0 },
        OpOutcome::Range { before: id(3, 0) },
        OpOutcome::Got { newest: Some(id(2, 0)) },
    ];
    assert_eq!((revision, outcome), (2, Outcome::Txn(TxnOutcome { succeeded: true, results })));
}

#[test]
fn all_ranges_of_a_transaction_share_one_bound() {
    let mut store = Memory::default();
    for name in ["a/1", "a/2", "b/1", "b/2"] {
        store.put(name, "x");
    }
    let txn = Txn {
        compares: vec![Compare { over: prefix("a/"), test: Test::Exists(true) }],
        then: vec![Op::Delete(prefix("b/"))],
        otherwise: vec![],
    };
    let mut within = |keys_max| store.write(Write::Txn { txn: txn.clone(), keys_max });
    assert_eq!(within(3), (5, Outcome::TooManyKeys));
    assert_eq!(within(4).0, 6);
    let many = (0..DELETED_PER_KEY_MAX)
        .map(|number| Op::Put(Put::new(format!("d/{number}").into(), Bytes::new())));
    store.txn(Txn::always(many.collect()));
    store.txn(Txn::always(vec![Op::Delete(prefix("d/"))]));
    let range = KeyRange::prefix(b"d/");
    store.put("d/z", "x");
    let (revision, outcome) = store.write(Write::delete_range(range, 1));
    assert_eq!((revision, outcome), (9, Outcome::TooManyKeys), "deletions are stepped over");
}

#[test]
fn nesting_has_a_bound() {
    use super::super::command::Command;
    use super::super::txn::DEPTH_MAX;
    let mut txn = Txn::always(vec![put("a", "1")]);
    for _ in 0..DEPTH_MAX {
        txn = Txn::always(vec![Op::Txn(txn)]);
    }
    let command = Command::new(Write::txn(txn.clone()));
    assert_eq!(Command::decode(&command.encode(), FeatureLevel::HIGHEST).as_ref(), Ok(&command));
    let deeper = Command::new(Write::txn(Txn::always(vec![Op::Txn(txn)])));
    assert!(Command::decode(&deeper.encode(), FeatureLevel::HIGHEST).is_err());
    assert_eq!(
        Command::decode(&command.encode(), FeatureLevel::HIGHEST),
        Ok(command),
        "and the next one is read again"
    );
}
