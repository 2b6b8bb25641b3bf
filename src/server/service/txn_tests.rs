use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use redb::backends::InMemoryBackend;

use super::*;
use crate::api::{TxnLimits, TxnOp, TxnResult};
use crate::kv::{Attach, Command, Compare, Item, KeyRange, Over, Put, Relation, Revision, Test};
use crate::raft::{Entry, LogId, Payload, Term};
use crate::store::StateOptions;

/// What transactions mean, on a plain map.
#[derive(Clone, Debug)]
struct Model {
    items: BTreeMap<Bytes, Item>,
    revision: Revision,
}

impl Model {
    fn carry_out(&mut self, request: &TxnRequest) -> TxnDone {
        let before = self.clone();
        let mut changed = false;
        let (succeeded, results) = self.txn(request, &before, &mut changed);
        self.revision.0 += u64::from(changed);
        TxnDone { succeeded, revision: self.revision, unread: None, results }
    }

    fn txn(
        &mut self,
        request: &TxnRequest,
        before: &Model,
        changed: &mut bool,
    ) -> (bool, Vec<TxnResult>) {
        let succeeded = request.compares.iter().all(|compare| before.holds(compare));
        let ops = if succeeded { &request.then } else { &request.otherwise };
        let results = ops.iter().map(|op| self.op(op, before, changed)).collect();
        (succeeded, results)
    }

    fn op(&mut self, op: &TxnOp, before: &Model, changed: &mut bool) -> TxnResult {
        match op {
            TxnOp::Put { put, previous } => {
                let old = self.items.get(&put.key).cloned();
                let kept = before.items.get(&put.key).map(|item| item.value.clone());
                let revision = Revision(self.revision.0 + 1);
                let item = Item {
                    value: put.value.clone().or(kept).unwrap(),
                    create_revision: old.as_ref().map_or(revision, |old| old.create_revision),
                    mod_revision: revision,
                    version: old.as_ref().map_or(0, |old| old.version) + 1,
                    ..Item { key: put.key.clone(), ..blank() }
                };
                self.items.insert(put.key.clone(), item);
                *changed = true;
                TxnResult::Put { previous: old.filter(|_| *previous), more: false }
            }
            TxnOp::Delete { over, previous } => {
                let old = self.all(over);
                old.iter().for_each(|item| {
                    self.items.remove(&item.key);
                });
                *changed |= !old.is_empty();
                let deleted = old.len() as u64;
                TxnResult::Delete { deleted, previous: previous.then_some(old), more: false }
            }
            TxnOp::Get { over, limit, keys_only } => {
                let mut items = self.all(over);
                let limit = match over {
                    Over::Key(_) => usize::MAX,
                    Over::Range(_) => limit.unwrap_or(usize::MAX),
                };
                let more = items.len() > limit;
                items.truncate(limit);
                if *keys_only {
                    items.iter_mut().for_each(|item| item.value.clear());
                }
                TxnResult::Get { items, keys_only: *keys_only, more }
            }
            TxnOp::Txn(nested) => {
                let (succeeded, results) = self.txn(nested, before, changed);
                TxnResult::Txn { succeeded, results }
            }
        }
    }

    fn all(&self, over: &Over) -> Vec<Item> {
        self.items.values().filter(|item| over.contains(&item.key)).cloned().collect()
    }

    fn holds(&self, compare: &Compare) -> bool {
        let test = |item: Option<&Item>| match &compare.test {
            Test::Exists(exists) => item.is_some() == *exists,
            Test::Version(relation, to) => relation.holds(&item.map_or(0, |item| item.version), to),
            Test::Value(relation, to) => item.is_some_and(|item| relation.holds(&item.value, to)),
            other => panic!("{other:?} is not drawn"),
        };
        match &compare.over {
            Over::Key(key) => test(self.items.get(key)),
            over => self.all(over).iter().all(|item| test(Some(item))),
        }
    }

    /// Whether a put keeps a value that is not there.
    fn refuses(&self, request: &TxnRequest) -> bool {
        let succeeded = request.compares.iter().all(|compare| self.holds(compare));
        let ops = if succeeded { &request.then } else { &request.otherwise };
        ops.iter().any(|op| match op {
            TxnOp::Put { put, .. } => put.value.is_none() && !self.items.contains_key(&put.key),
            TxnOp::Txn(nested) => self.refuses(nested),
            _ => false,
        })
    }
}

fn blank() -> Item {
    Item {
        key: Bytes::new(),
        value: Bytes::new(),
        content_type: None,
        create_revision: Revision(0),
        mod_revision: Revision(0),
        version: 0,
    }
}

fn key() -> impl Strategy<Value = Bytes> {
    "[a-c]{1,2}".prop_map(Bytes::from)
}

fn over() -> impl Strategy<Value = Over> {
    prop_oneof![
        key().prop_map(Over::Key),
        (key(), proptest::option::of(key()))
            .prop_map(|(start, end)| Over::Range(KeyRange { start, end })),
    ]
}

fn compare() -> impl Strategy<Value = Compare> {
    let relation = prop_oneof![Just(Relation::Eq), Just(Relation::Ne), Just(Relation::Gt)];
    let test = prop_oneof![
        any::<bool>().prop_map(Test::Exists),
        (relation.clone(), 0_u64..3).prop_map(|(relation, to)| Test::Version(relation, to)),
        (relation, "[xy]").prop_map(|(relation, to)| Test::Value(relation, to.into())),
    ];
    (over(), test).prop_map(|(over, test)| Compare { over, test })
}

fn op() -> impl Strategy<Value = TxnOp> {
    let value = proptest::option::weighted(0.8, "[xy]{0,2}".prop_map(Bytes::from));
    let put = (key(), value).prop_map(|(key, value)| Put {
        key,
        value,
        content_type: None,
        lease: Attach::Detach,
    });
    let limit = proptest::option::of(1_usize..4);
    let leaf = prop_oneof![
        3 => (put, any::<bool>()).prop_map(|(put, previous)| TxnOp::Put { put, previous }),
        2 => (over(), any::<bool>()).prop_map(|(over, previous)| TxnOp::Delete { over, previous }),
        3 => (over(), limit, any::<bool>())
            .prop_map(|(over, limit, keys_only)| TxnOp::Get { over, limit, keys_only }),
    ];
    leaf.prop_recursive(2, 12, 3, |inner| {
        let list = || proptest::collection::vec(inner.clone(), 0..3);
        (proptest::collection::vec(compare(), 0..2), list(), list()).prop_map(
            |(compares, then, otherwise)| TxnOp::Txn(TxnRequest { compares, then, otherwise }),
        )
    })
}

fn request() -> impl Strategy<Value = TxnRequest> {
    let list = || proptest::collection::vec(op(), 0..5);
    let limits = TxnLimits { operations_max: 128, value_bytes_max: 1000 };
    (proptest::collection::vec(compare(), 0..2), list(), list())
        .prop_map(|(compares, then, otherwise)| TxnRequest { compares, then, otherwise })
        .prop_filter("no key is changed twice", move |request| request.check(&limits).is_ok())
}

fn apply(state: &State, write: Write) -> Reply {
    let id = LogId::new(Term(1), state.applied().index.next());
    let payload = Payload::Command(Command::new(write).encode());
    state.apply(&[Entry { id, payload }]).unwrap().remove(0).reply.unwrap()
}

/// Reads to the end, with a pause wherever there may be one.
fn filled(mut fill: Fill, state: &State, pin: &Pin) -> TxnDone {
    if fill.is_filled() {
        return fill.unread(None);
    }
    loop {
        if let Some(done) = fill.step(state, pin, &mut || true).unwrap() {
            return done;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn what_is_read_back_is_what_was_there(
        requests in proptest::collection::vec((request(), any::<[bool; 2]>()), 1..12),
    ) {
        let options = StateOptions::default();
        let state = Arc::new(State::open_backend(InMemoryBackend::new(), &options).unwrap());
        let mut model = Model { items: BTreeMap::new(), revision: state.revision() };
        for (request, [is_late, is_stored]) in requests {
            let pin = state.pin();
            let write = request.lower(1000);
            let reply = match request.is_read_only() {
                true => {
                    let until = Instant::now() + Duration::from_secs(60);
                    evaluate(&write, &state, &pin, until).unwrap().unwrap()
                }
                false => apply(&state, write),
            };
            let Outcome::Txn(outcome) = reply.outcome else {
                prop_assert!(model.refuses(&request), "{:?}", reply);
                continue;
            };
            prop_assert!(!model.refuses(&request));
            let expected = model.carry_out(&request);
            let fill = Fill::new(request.clone(), outcome.clone(), reply.revision);
            if is_late {
                // All of it is changed, given up and swept meanwhile.
                let all = model.items.keys().map(|key| (key.clone(), Bytes::from_static(b"z")));
                let all: Vec<_> = all.collect();
                let ops = all.iter().map(|(key, value)| TxnOp::Put {
                    put: Put::new(key.clone(), value.clone()),
                    previous: false,
                });
                let later = TxnRequest { then: ops.collect(), ..TxnRequest::default() };
                apply(&state, later.lower(0));
                model.carry_out(&later);
                apply(&state, Write::Compact { revision: model.revision });
            }
            if is_stored {
                for _ in 0..3 {
                    if let Some(frozen) = state.freeze() {
                        state.write_checkpoint(frozen).unwrap();
                    }
                }
            }
            prop_assert_eq!(filled(fill, &state, &pin), expected.clone());
            let mut unread = Fill::new(request, outcome, reply.revision).unread(None);
            prop_assert_eq!(unread.succeeded, expected.succeeded);
            let (mut shown, mut whole) = (unread.clone(), expected);
            whole.leave_out("");
            unread.leave_out("");
            shown.unread = whole.unread.clone();
            prop_assert_eq!(counts(&shown.results), counts(&whole.results));
        }
    }
}

/// How many keys each deletion deleted.
fn counts(results: &[TxnResult]) -> Vec<u64> {
    let count = |result: &TxnResult| match result {
        TxnResult::Delete { deleted, .. } => vec![*deleted],
        TxnResult::Txn { results, .. } => counts(results),
        _ => Vec::new(),
    };
    results.iter().flat_map(count).collect()
}

#[test]
fn what_was_not_read_is_missing_and_said_to_be() {
    let state =
        Arc::new(State::open_backend(InMemoryBackend::new(), &StateOptions::default()).unwrap());
    let of = |text: &str| {
        let limits = TxnLimits { operations_max: 128, value_bytes_max: 1000 };
        TxnRequest::parse(text.as_bytes(), &limits).unwrap()
    };
    apply(&state, of(r#"{"then":[{"put":{"key":"a","value":"1"}}]}"#).lower(0));
    let request = of(
        r#"{"then":[{"get":{"key":"a"}},{"get":{"key":"none"}},{"put":{"key":"a","value":"2","previous":true}},
        {"put":{"key":"b","value":"2","previous":true}},{"delete":{"key":"none","previous":true}},{"get":{"prefix":"x"}}]}"#,
    );
    let Reply { revision, outcome: Outcome::Txn(outcome) } = apply(&state, request.lower(0)) else {
        panic!("it was refused");
    };
    let done = Fill::new(request, outcome, revision).unread(Some("why".to_owned()));
    let get = |more| TxnResult::Get { items: Vec::new(), keys_only: false, more };
    let put = |more| TxnResult::Put { previous: None, more };
    let delete = TxnResult::Delete { deleted: 0, previous: Some(Vec::new()), more: false };
    let results = vec![get(true), get(false), put(true), put(false), delete, get(true)];
    assert_eq!(
        done,
        TxnDone { succeeded: true, revision, unread: Some("why".to_owned()), results }
    );
}
