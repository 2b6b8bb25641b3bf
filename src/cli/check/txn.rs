//! Transactions on their way to the store and back: numbers become keys and values, and items become numbers again.

use super::endpoint::listed;
use super::names::{Names, value};
use crate::api::{TxnDone, TxnOp, TxnRequest, TxnResult};
use crate::check::history::Answer;
use crate::check::txn::{Came, Compare, Op, Txn};
use crate::kv::{self, KeyRange, Over, Put, Relation, Test};

/// What to ask the store for.
pub(super) fn request(names: &Names, txn: &Txn) -> TxnRequest {
    let ops = |ops: &[Op]| ops.iter().map(|op| operation(names, op)).collect();
    TxnRequest {
        compares: txn.compares.iter().map(|one| compare(names, one)).collect(),
        then: ops(&txn.then),
        otherwise: ops(&txn.otherwise),
    }
}

fn over(names: &Names, keys: std::ops::Range<u32>) -> Over {
    if keys.len() == 1 {
        return Over::Key(names.key(keys.start).into());
    }
    let (start, end) = (names.key(keys.start).into(), Some(names.key(keys.end).into()));
    Over::Range(KeyRange { start, end })
}

fn compare(names: &Names, compare: &Compare) -> kv::Compare {
    let test = match *compare {
        Compare::Revision { revision, .. } => Test::ModRevision(Relation::Eq, revision),
        Compare::Exists { exists, .. } => Test::Exists(exists),
        Compare::Unchanged { since, .. } => Test::UnchangedSince(since),
    };
    kv::Compare { over: over(names, compare.keys()), test }
}

fn operation(names: &Names, op: &Op) -> TxnOp {
    let over = over(names, op.keys());
    match *op {
        Op::Put { key, value: written } => TxnOp::Put {
            put: Put {
                key: names.key(key).into(),
                value: Some(value(written)),
                content_type: None,
                lease: kv::Attach::Detach,
            },
            previous: false,
        },
        Op::Delete { .. } => TxnOp::Delete { over, previous: false },
        Op::Get { .. } | Op::List { .. } => TxnOp::Get { over, limit: None, keys_only: false },
    }
}

/// What the store answered; none if that is no answer to it.
pub(super) fn answer(names: &Names, txn: &Txn, done: &TxnDone) -> Option<Answer> {
    let TxnDone { succeeded, revision, unread, results } = done;
    let branch = txn.branch(*succeeded);
    if branch.len() != results.len() {
        return None;
    }
    let came = |(op, result): (&Op, &TxnResult)| match (op, result) {
        (Op::Put { .. }, TxnResult::Put { .. }) => Some(Came::Put),
        (Op::Delete { .. }, TxnResult::Delete { deleted, .. }) => {
            Some(Came::Deleted { count: *deleted })
        }
        (Op::Get { .. } | Op::List { .. }, TxnResult::Get { items, more, .. }) => {
            if *more || unread.is_some() {
                return Some(Came::Unread);
            }
            Some(Came::Found { items: listed(names, op.keys(), items) })
        }
        _ => None,
    };
    let results = branch.iter().zip(results).map(came).collect::<Option<Vec<Came>>>()?;
    Some(Answer::Txn { revision: *revision, succeeded: *succeeded, results })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::history::Seen;
    use crate::kv::{Item, Revision};

    fn get(items: Vec<Item>, more: bool) -> TxnResult {
        TxnResult::Get { items, keys_only: false, more }
    }

    #[test]
    fn answers_are_believed_as_far_as_they_fit() {
        let names = Names::new("p/".to_owned(), 4);
        let txn = Txn {
            then: vec![Op::Put { key: 0, value: 5 }, Op::List { from: 0, to: 2 }],
            otherwise: vec![Op::Delete { key: 1 }],
            ..Txn::default()
        };
        let item = Item {
            key: names.key(0).into(),
            value: value(5),
            content_type: None,
            create_revision: Revision(7),
            mod_revision: Revision(7),
            version: 1,
        };
        let put = TxnResult::Put { previous: None, more: false };
        let done = |succeeded, results| TxnDone {
            succeeded,
            revision: Revision(7),
            unread: None,
            results,
        };
        let came = |done: &TxnDone| match answer(&names, &txn, done) {
            Some(Answer::Txn { results, .. }) => Some(results),
            _ => None,
        };
        let whole = done(true, vec![put.clone(), get(vec![item.clone()], false)]);
        let items = vec![Seen { key: 0, value: 5, revision: Revision(7) }];
        assert_eq!(came(&whole).unwrap(), [Came::Put, Came::Found { items }]);
        let unread = TxnDone { unread: Some("why".to_owned()), ..whole };
        assert_eq!(came(&unread).unwrap(), [Came::Put, Came::Unread]);
        let part = done(true, vec![put.clone(), get(vec![item], true)]);
        assert_eq!(came(&part).unwrap(), [Came::Put, Came::Unread]);
        let gone = TxnResult::Delete { deleted: 1, previous: None, more: false };
        let otherwise = came(&done(false, vec![gone.clone()]));
        assert_eq!(otherwise.unwrap(), [Came::Deleted { count: 1 }]);
        for results in [vec![], vec![put.clone()], vec![put, gone]] {
            assert_eq!(came(&done(true, results)), None);
        }
    }

    #[test]
    fn a_request_states_what_was_drawn() {
        let names = Names::new("p/".to_owned(), 4);
        let txn = Txn {
            compares: vec![
                Compare::Revision { key: 0, revision: Revision(0) },
                Compare::Exists { key: 1, exists: true },
                Compare::Unchanged { from: 0, to: 4, since: Revision(9) },
            ],
            then: vec![Op::Put { key: 0, value: 5 }, Op::Delete { key: 1 }],
            otherwise: vec![Op::Get { key: 0 }, Op::List { from: 1, to: 3 }],
        };
        let expected = concat!(
            r#"{"else":[{"get":{"key":"p/0000"}},{"get":{"end":"p/0003","start":"p/0001"}}],"#,
            r#""if":[{"compare":"mod_revision","key":"p/0000","op":"==","to":0},"#,
            r#"{"compare":"exists","key":"p/0001","to":true},"#,
            r#"{"compare":"unchanged_since","end":"p/0004","start":"p/0000","to":9}],"#,
            r#""then":[{"put":{"key":"p/0000","value":"5"}},{"delete":{"key":"p/0001"}}]}"#
        );
        let stated: serde_json::Value = serde_json::from_str(expected).unwrap();
        assert_eq!(request(&names, &txn).to_json(), stated);
    }
}
