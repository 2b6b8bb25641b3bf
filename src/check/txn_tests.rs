//! Transactions before the judge: histories in which one was torn, took the wrong branch, or came at the wrong time, and good
//! ones.

use std::fmt::Write as _;

use super::judge::{Fault, Lines, Violation, judge};
use super::written::history;

const UNEXPLAINED: &str = "nothing in between explains it";
const AS_IF_ALL_HELD: &str = "as if all of its compares held";
const AS_IF_ONE_DID_NOT: &str = "as if a compare did not hold";

/// What is wrong, how the judge has to call it, the history.
const BAD: &[(&str, &str, &str)] = &[
    (
        "torn: one of its puts is not there",
        UNEXPLAINED,
        "1 2 txn then a1 b2 : then 1 put put
         3 4 list a-b : a1@1 at 1",
    ),
    (
        "torn: one of its puts is not there, and the key is as it was before",
        UNEXPLAINED,
        "1 2 put b9 : new 1
         3 4 txn then a1 b2 : then 2 put put
         5 6 get a : a1@2 at 2
         7 8 get b : b9@1 at 2",
    ),
    (
        "torn: it deleted one key and not the other",
        UNEXPLAINED,
        "1 2 txn then a1 b2 : then 1 put put
         3 4 txn then !a !b : then 2 gone gone
         5 6 list a-b : b2@1 at 2",
    ),
    (
        "torn, and nobody answered: half of it shows",
        UNEXPLAINED,
        "1 _ txn then a1 b2 : ?
         2 3 list a-b : a1@1 at 1",
    ),
    (
        "torn, and nobody answered: the deletion is missing",
        UNEXPLAINED,
        "1 2 put b9 : new 1
         3 _ txn then a1 !b : ?
         4 5 list a-b : a1@2 b9@1 at 2",
    ),
    (
        "unanswered, it shows at two revisions",
        "shows at two revisions, 1 and 2",
        "1 _ txn then a1 b2 : ?
         2 3 get a : a1@1 at 1
         4 5 get b : b2@2 at 2",
    ),
    (
        "unanswered, it shows with both branches",
        "shows with both of its branches",
        "1 _ txn if +c then a1 else b2 : ?
         2 3 list a-b : a1@1 b2@1 at 1",
    ),
    (
        "unanswered, it did what its compare forbids",
        AS_IF_ALL_HELD,
        "1 2 get c : at 0
         3 _ txn if +c then a1 else b2 : ?
         4 5 get a : a1@1 at 1",
    ),
    (
        "the branch shows that was not carried out",
        "a value of the branch that was not carried out",
        "1 2 txn if +c then a1 else b2 : else 1 put
         3 4 get a : a1@1 at 1",
    ),
    (
        "a refused one shows",
        "a value that was refused",
        "1 2 txn then a1 b2 : refused
         3 4 get b : b2@1 at 1",
    ),
    (
        "its value shows with another revision",
        "another revision than the put was told",
        "1 2 txn then a1 b2 : then 1 put put
         3 4 put c3 : new 2
         5 6 get b : b2@2 at 2",
    ),
    (
        "its value shows under another key",
        "the value of another key",
        "1 2 txn then a1 b2 : then 1 put put
         3 4 get c : c2@1 at 1",
    ),
    (
        "two have one revision",
        "two changes have revision 1",
        "1 20 txn then a1 : then 1 put
         2 21 txn then b2 : then 1 put",
    ),
    (
        "an unanswered one has the revision of another change",
        "two changes have revision 1",
        "1 20 put b2 : new 1
         2 _ txn then a1 : ?
         3 4 get a : a1@1 at 1",
    ),
    (
        "lost compare: two of them swap one revision",
        UNEXPLAINED,
        "1 2 put a1 : new 1
         3 20 txn if a@1 then a2 b3 : then 2 put put
         4 21 txn if a@1 then a4 c5 : then 3 put put",
    ),
    (
        "lost compare: it took a key to be absent",
        UNEXPLAINED,
        "1 2 put a1 : new 1
         3 4 txn if -a then b2 : then 2 put",
    ),
    (
        "lost compare: it took a key to be there",
        AS_IF_ALL_HELD,
        "1 2 get a : at 0
         3 4 txn if +a then b2 : then 1 put",
    ),
    (
        "lost compare: one of two did not hold",
        AS_IF_ALL_HELD,
        "1 2 put a1 : new 1
         3 4 txn if +a +b then c2 : then 2 put",
    ),
    (
        "a compare is said to have failed, and held",
        AS_IF_ONE_DID_NOT,
        "1 2 put a1 : new 1
         3 4 txn if a@1 then b2 else ?a : else 1 =a1@1",
    ),
    (
        "both compares held",
        AS_IF_ONE_DID_NOT,
        "1 2 put a1 : new 1
         3 4 put b2 : new 2
         5 6 txn if a@1 +b then c3 else d4 : else 3 put",
    ),
    ("no compares, and they failed", AS_IF_ONE_DID_NOT, "1 2 txn then a1 else b2 : else 1 put"),
    (
        "the absence failed of a key that was not there",
        UNEXPLAINED,
        "1 2 put a1 : new 1
         3 4 txn if +a then b2 : else 1",
    ),
    (
        "phantom: a key of the range was put since",
        AS_IF_ALL_HELD,
        "1 2 put a1 : new 1
         3 4 list a-d : a1@1 at 1
         5 6 put c2 : new 2
         7 8 txn if a-d~1 then a3 : then 3 put",
    ),
    (
        "phantom: a key of the range was deleted since",
        AS_IF_ALL_HELD,
        "1 2 put a1 : new 1
         3 4 delete a : deleted 1 at 2
         5 6 txn if a-d~1 then b3 : then 3 put",
    ),
    (
        "phantom: put and deleted since, so that it looks as before",
        AS_IF_ALL_HELD,
        "1 2 get a : at 5
         3 4 put a1 : new 6
         5 6 delete a : deleted 1 at 7
         7 8 txn if a~5 then b3 : then 8 put",
    ),
    (
        "phantom: deleted with many others since",
        AS_IF_ALL_HELD,
        "1 2 put a1 : new 1
         3 4 put b2 : new 2
         5 6 sweep a-d : deleted 2 at 3
         7 8 txn if a~2 then c3 : then 4 put",
    ),
    (
        "phantom: put by a transaction that nobody answered",
        AS_IF_ALL_HELD,
        "1 2 get a : at 0
         3 _ txn then a1 b2 : ?
         4 5 get b : b2@3 at 3
         6 7 txn if a-b~1 then c3 : then 4 put",
    ),
    (
        "nothing was changed, and it is said to be",
        AS_IF_ONE_DID_NOT,
        "1 2 put a1 : new 1
         3 4 txn if a-d~1 then b2 else ?a : else 1 =a1@1",
    ),
    (
        "only others changed since",
        AS_IF_ONE_DID_NOT,
        "1 2 put a1 : new 1
         3 4 put d2 : new 2
         5 6 txn if a-c~1 then b3 else ?a : else 2 =a1@1",
    ),
    (
        "stale read inside: the value before the newest",
        UNEXPLAINED,
        "1 2 put a1 : new 1
         3 4 put a2 : replaced 2
         5 6 txn then ?a b3 : then 3 =a1@1 put",
    ),
    (
        "stale read inside of what only reads",
        UNEXPLAINED,
        "1 2 put a1 : new 1
         3 4 put a2 : replaced 2
         5 6 txn then ?a ?b : then 2 =a1@1 =",
    ),
    (
        "it does not see its own put",
        UNEXPLAINED,
        "1 2 put a1 : new 1
         3 4 txn then a2 ?a : then 2 put =a1@1",
    ),
    (
        "it does not see its own deletion",
        UNEXPLAINED,
        "1 2 put a1 : new 1
         3 4 txn then !a ?a : then 2 gone =a1@1",
    ),
    (
        "it sees its own put too early",
        "a value of the future",
        "1 2 txn then ?a a2 : then 1 =a2@1 put",
    ),
    (
        "it reads two keys at two moments",
        UNEXPLAINED,
        "1 2 txn then a1 b2 : then 1 put put
         3 20 txn then a3 b4 : then 2 put put
         4 21 txn then ?a ?b : then 2 =a3@2 =b2@1",
    ),
    (
        "it reads and writes at two moments: a lost update",
        UNEXPLAINED,
        "1 2 put a1 : new 1
         3 20 txn then ?a a2 : then 2 =a1@1 put
         4 21 txn then ?a a3 : then 3 =a1@1 put",
    ),
    (
        "write skew: neither sees the other",
        UNEXPLAINED,
        "1 20 txn if -b then a1 : then 1 put
         2 21 txn if -a then b2 : then 2 put",
    ),
    (
        "it found nothing to delete where a key is",
        UNEXPLAINED,
        "1 2 put a1 : new 1
         3 4 txn then !a b2 : then 2 none put",
    ),
    (
        "it deleted what was not there",
        "there was none",
        "1 2 get a : at 0
         3 4 txn then !a b2 : then 1 gone put",
    ),
    (
        "order against real time: a change with an older revision",
        "a change of revision 1 began after revision 1 was seen",
        "1 2 put a1 : new 1
         3 4 txn then a2 b3 : then 1 put put",
    ),
    (
        "order against real time: it reads the past",
        "the revision went back from 2 to 1",
        "1 2 put a1 : new 1
         3 4 put a2 : replaced 2
         5 6 txn then ?a : then 1 =a1@1",
    ),
    (
        "order against real time: an unanswered one happened before it was called",
        "and 2 was seen before it was called",
        "1 2 put c9 : new 2
         3 _ txn then a1 b2 : ?
         4 5 list a-c : a1@1 b2@1 c9@2 at 2",
    ),
    (
        "it compares with what is not yet there",
        "which is later",
        "1 2 txn if a@5 then b1 : then 1 put",
    ),
    (
        "it was undone",
        UNEXPLAINED,
        "1 2 txn then a1 b2 : then 1 put put
         3 4 list a-b : a1@1 b2@1 at 1
         5 6 put c3 : new 2
         7 8 list a-c : c3@2 at 2",
    ),
    (
        "one deletion that nobody answered explains two disappearances",
        "no order of the calls",
        "1 2 txn then a1 : then 1 put
         3 _ txn then !a : ?
         4 5 txn then ?a : then 2 =
         6 7 txn then a2 : then 3 put
         8 9 get a : at 4",
    ),
];

/// What is the matter with the judgement, if that is not the one expected.
fn misjudged(name: &str, expected: &str, text: &str) -> Option<String> {
    let history = history(text);
    match judge(&history) {
        Err(Fault::Violated(Violation { rule, window, key })) => {
            let lines = Lines(&history.calls, &window);
            assert!(!window.is_empty() && window.len() <= 5, "{name}: {lines}");
            (!rule.contains(expected)).then(|| format!("{name}: {key:?} {rule}\n{lines}"))
        }
        other => Some(format!("{name}: {other:?}")),
    }
}

#[test]
fn every_bad_history_is_rejected_and_called_by_its_name() {
    let mut all = String::new();
    for (name, expected, text) in BAD {
        if let Some(wrong) = misjudged(name, expected, text) {
            let _ = writeln!(all, "{wrong}");
        }
    }
    assert!(all.is_empty(), "{all}");
}

const GOOD: &[(&str, &str)] = &[
    (
        "one after the other",
        "1 2 txn if -a -b then a1 b2 ?a-d : then 1 put put =a1@1,b2@1
         3 4 txn if a@1 a-d~1 then ?a a3 ?a !b ?b : then 2 =a1@1 put =a3@2 gone =
         5 6 txn if +b then a4 else ?a-b c5 : else 3 =a3@2 put
         7 8 txn if b@0 c@3 then !b : then 3 none
         9 10 txn if a-d~2 then a6 : else 3
         11 12 list a-d : a3@2 c5@3 at 3",
    ),
    (
        "of two at once one takes the other branch",
        "1 2 put a1 : new 1
         3 20 txn if a@1 then a2 b3 : then 2 put put
         4 21 txn if a@1 then a4 c5 else ?a : else 2 =a2@2",
    ),
    (
        "unanswered and never seen",
        "1 _ txn then a1 b2 : ?
         2 3 txn if -a then a3 : then 1 put
         4 5 list a-b : a3@1 at 1",
    ),
    (
        "unanswered, and it happens late",
        "1 2 put b9 : new 1
         3 _ txn if b@1 then a1 !b else c2 : ?
         4 5 list a-c : b9@1 at 1
         6 7 list a-c : a1@2 at 2",
    ),
    (
        "unanswered, and the other branch shows",
        "1 2 put b9 : new 1
         3 _ txn if b@1 then a1 !b else c2 : ?
         4 5 put b8 : replaced 2
         6 7 list a-c : b8@2 c2@3 at 3",
    ),
    (
        "unanswered, and only a part of what it put is left",
        "1 _ txn then a1 b2 : ?
         2 3 put a3 : new 2
         4 5 list a-b : a3@2 at 2
         6 7 put a4 : replaced 4
         8 9 list a-b : a4@4 b2@3 at 4",
    ),
    (
        "an unanswered deletion leaves open what a compare saw",
        "1 2 put a1 : new 1
         3 _ txn then !a : ?
         4 5 txn if +a then b2 else c3 : else 3 put
         6 7 txn if a~1 then d4 else c5 : else 4 put",
    ),
    (
        "unanswered puts leave open what a compare saw",
        "1 _ put a1 : ?
         2 _ txn if +d then b2 : ?
         3 4 txn if +a then c3 else d4 : then 7 put
         5 6 txn if a-b~0 then c5 else ?d : else 7 =",
    ),
    (
        "what was not told is not judged",
        "1 2 put a1 : new 1
         3 4 txn then ?a b2 : then 2 unread put",
    ),
    (
        "refused ones say nothing",
        "1 2 txn then a1 b2 : refused
         3 4 list a-b : at 0",
    ),
    (
        "a compare with the future, which did not hold",
        "1 2 txn if a@5 then b1 : else 0
         3 4 txn if a-d~9 then b2 : then 1 put",
    ),
];

#[test]
fn good_histories_are_accepted() {
    for (name, text) in GOOD {
        let history = history(text);
        match judge(&history) {
            Ok(summary) => assert_eq!(summary.operations, history.calls.len(), "{name}"),
            Err(Fault::Violated(Violation { rule, window, .. })) => {
                panic!("{name}: {rule}\n{}", Lines(&history.calls, &window))
            }
            Err(fault) => panic!("{name}: {fault:?}"),
        }
    }
}

#[test]
fn transactions_are_counted() {
    let summary = judge(&history(GOOD[0].1)).unwrap();
    assert_eq!((summary.transactions, summary.otherwise, summary.reads), (5, 2, 1));
    assert_eq!((summary.writes, summary.keys), (5, 4));
    let lines = Lines(&history(GOOD[0].1).calls, &[1, 4]).to_string();
    let expected = "transaction if key 0 is at revision 1, keys 0 to 3 are unchanged since 1 then get key 0, put key 0 = 3, \
         get key 0, delete key 1, get key 1: then, revision 2; key 0 = 1 of revision 1; put; key 0 = 3 of revision 2; \
         deleted 1; nothing\n";
    assert!(lines.contains(expected), "{lines}");
    assert!(lines.ends_with("then put key 0 = 6: else, revision 3\n"), "{lines}");
}

#[test]
fn of_many_calls_the_few_are_shown_that_no_order_explains() {
    let mut text = String::new();
    for at in 0..60 {
        let (called, value) = (100 + 2 * at, 100 + at);
        let _ =
            writeln!(text, "{called} {} txn then b{value} ?d : then {} put =", called + 1, at + 10);
    }
    let (.., evidence) = BAD.last().unwrap();
    text.push_str(evidence);
    let history = history(&text);
    let Err(Fault::Violated(violation)) = judge(&history) else { panic!("accepted") };
    assert!(violation.window.len() <= 5, "{}", Lines(&history.calls, &violation.window));
}
