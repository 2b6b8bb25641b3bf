//! The judge, judged: histories with one thing wrong, each of which it must find, and good ones.

use std::fmt::Write as _;

use super::judge::{Fault, Lines, Violation, judge};
use super::written::history;

/// What is wrong, how the judge has to call it, the history.
const BAD: &[(&str, &str, &str)] = &[
    (
        "stale read",
        "the revision went back from 2 to 1",
        "1 2 put a1 : new 1
         3 4 put a2 : replaced 2
         5 6 get a : a1@1 at 1",
    ),
    (
        "stale read under a new revision",
        "nothing in between explains it",
        "1 2 put a1 : new 1
         3 4 put a2 : replaced 2
         5 6 get a : a1@1 at 2",
    ),
    (
        "lost acknowledgement: the key is not there",
        "nothing in between explains it",
        "1 2 put a1 : new 1
         3 4 get a : at 1",
    ),
    (
        "lost acknowledgement: the value before is there",
        "nothing in between explains it",
        "1 2 put a1 : new 1
         3 4 put a2 : replaced 2
         5 6 put b3 : new 3
         7 8 get a : a1@1 at 3",
    ),
    (
        "lost acknowledgement after all lost power: the store began anew",
        "the revision went back from 5 to 0",
        "1 2 put a1 : new 5
         3 4 list a-d : at 0",
    ),
    ("phantom: nobody wrote it", "nobody wrote", "1 2 get a : a9@1 at 1"),
    (
        "phantom in a listing",
        "nobody wrote",
        "1 2 put a1 : new 1
         3 4 list a-d : a1@1 b7@1 at 1",
    ),
    (
        "time travel: a read finds what is written later",
        "a change of revision 1 began after revision 1 was seen",
        "1 2 get a : a1@1 at 1
         3 4 put a1 : new 1",
    ),
    (
        "time travel: of an unknown put",
        "and 7 was seen before it was called",
        "1 2 put b9 : new 7
         3 4 get a : a1@5 at 7
         5 _ put a1 : ?",
    ),
    (
        "a value of the future",
        "a value of the future",
        "1 2 put a1 : new 8
         1 3 get a : a1@8 at 7",
    ),
    (
        "revision reuse: two puts have one",
        "two changes have revision 1",
        "1 20 put a1 : new 1
         2 19 put b2 : new 1",
    ),
    (
        "revision reuse: it stands for two values",
        "revision 1 stands for two values",
        "1 _ put a1 : ?
         2 _ put a2 : ?
         3 4 get a : a1@1 at 1
         5 6 get a : a2@1 at 1",
    ),
    (
        "a change whose revision was seen before",
        "a change of revision 3 began after revision 3 was seen",
        "1 2 put a1 : new 3
         3 4 put b2 : new 3",
    ),
    (
        "a put with a revision of the past",
        "a change of revision 2 began after revision 3 was seen",
        "1 2 put a1 : new 3
         3 4 put b2 : new 2",
    ),
    (
        "a read gives another revision than the put was told",
        "another revision than the put was told",
        "1 2 put a1 : new 1
         3 4 put b2 : new 2
         5 6 get a : a1@2 at 2",
    ),
    (
        "a read finds the value of another key",
        "the value of another key",
        "1 2 put a1 : new 1
         3 4 get b : b1@1 at 1",
    ),
    (
        "a refused put shows up",
        "a value that was refused",
        "1 2 put a1 : refused
         3 4 get a : a1@1 at 1",
    ),
    (
        "a put whose condition failed shows up",
        "a value that was refused",
        "1 2 put a1 : new 1
         3 4 put a2 if absent : failed 1
         5 6 get a : a2@2 at 2",
    ),
    (
        "torn range read: half before and half after a write",
        "nothing in between explains it",
        "1 2 put a1 : new 1
         3 4 put b2 : new 2
         5 20 put a3 : replaced 3
         6 21 put b4 : replaced 4
         7 22 list a-b : a1@1 b4@4 at 4",
    ),
    (
        "torn range read: a range delete half done",
        "nothing in between explains it",
        "1 2 put a1 : new 1
         3 4 put b2 : new 2
         5 20 sweep a-b : deleted 2 at 3
         6 19 list a-b : b2@2 at 3",
    ),
    (
        "torn range read that only two listings show",
        "nothing in between explains it",
        "1 _ put a1 : ?
         2 _ put b2 : ?
         3 4 list a-b : a1@5 at 6
         5 6 list a-b : a1@5 b2@6 at 6",
    ),
    (
        "non-atomic range delete: a key in the middle survives",
        "nothing in between explains it",
        "1 2 put a1 : new 1
         3 4 put b2 : new 2
         5 6 put c3 : new 3
         7 8 sweep a-c : deleted 3 at 4
         9 10 get b : b2@2 at 4",
    ),
    (
        "range delete that finds too few",
        "a deletion of many keys found 1, there were 2",
        "1 2 put a1 : new 1
         3 4 put b2 : new 2
         5 6 sweep a-c : deleted 1 at 3",
    ),
    (
        "range delete that finds too many",
        "a deletion of many keys found 2, there were 1",
        "1 2 put a1 : new 1
         3 4 sweep a-c : deleted 2 at 2",
    ),
    (
        "range delete that finds more than unknown puts explain",
        "a deletion of many keys found 3, there were 1 to 2",
        "1 2 put a1 : new 1
         3 _ put b2 : ?
         4 5 sweep a-d : deleted 3 at 9",
    ),
    (
        "range delete that finds nothing where a key is",
        "nothing in between explains it",
        "1 2 put a1 : new 1
         3 4 sweep a-c : deleted 0 at 1",
    ),
    (
        "range delete outside its bounds",
        "nothing in between explains it",
        "1 2 put a1 : new 1
         3 4 put c2 : new 2
         5 6 sweep a-b : deleted 1 at 3
         7 8 get c : at 3",
    ),
    (
        "resurrected delete",
        "nothing in between explains it",
        "1 2 put a1 : new 1
         3 4 delete a : deleted 1 at 2
         5 6 get a : a1@1 at 2",
    ),
    (
        "resurrected delete, later",
        "nothing in between explains it",
        "1 2 put a1 : new 1
         3 4 delete a : deleted 1 at 2
         5 6 put b2 : new 3
         7 8 get a : at 3
         9 10 get a : a1@1 at 3",
    ),
    (
        "conditional put that succeeded on the wrong revision",
        "nothing in between explains it",
        "1 2 put a1 : new 1
         3 4 put a2 : replaced 2
         5 6 put a3 if 1 : replaced 3",
    ),
    (
        "conditional delete that succeeded on the wrong revision",
        "nothing in between explains it",
        "1 2 put a1 : new 1
         3 4 put a2 : replaced 2
         5 6 delete a if 1 : deleted 1 at 3",
    ),
    (
        "conditional put that succeeded although the key exists",
        "nothing in between explains it",
        "1 2 put a1 : new 1
         3 4 put a2 if absent : new 2",
    ),
    (
        "two conditional puts of the same revision succeed",
        "nothing in between explains it",
        "1 2 put a1 : new 1
         3 20 put a2 if 1 : replaced 2
         4 19 put a3 if 1 : replaced 3",
    ),
    (
        "two puts of an absent key succeed",
        "nothing in between explains it",
        "1 20 put a1 if absent : new 1
         2 19 put a2 if absent : new 2",
    ),
    (
        "conditional put that failed although its condition held",
        "no order of the calls",
        "1 2 put a1 : new 1
         3 4 put a2 if 1 : failed 1",
    ),
    (
        "condition that failed on a key that was long gone",
        "which was gone at revision 2",
        "1 2 put a1 : new 1
         3 4 delete a : deleted 1 at 2
         5 6 put a2 if absent : failed 1",
    ),
    (
        "condition that failed as absent while the key is there",
        "no order of the calls",
        "1 2 put a1 : new 1
         3 4 put a2 if 7 : failed absent",
    ),
    (
        "created twice",
        "nothing in between explains it",
        "1 2 put a1 : new 1
         3 4 put a2 : new 2",
    ),
    ("replaced a key that was not there", "no order of the calls", "1 2 put a1 : replaced 1"),
    (
        "deleted twice",
        "no order of the calls",
        "1 2 put a1 : new 1
         3 20 delete a : deleted 1 at 2
         4 19 delete a : deleted 1 at 3",
    ),
    (
        "a deletion finds nothing where a key is",
        "no order of the calls",
        "1 2 put a1 : new 1
         3 4 delete a : deleted 0",
    ),
    (
        "one unknown deletion explains two disappearances",
        "no order of the calls",
        "1 2 put a1 : new 1
         3 _ delete a : ?
         4 5 get a : at 2
         6 7 put a2 : new 3
         8 9 get a : at 4",
    ),
    (
        "a key disappears before the unknown deletion was called",
        "nothing in between explains it",
        "1 2 put a1 : new 1
         3 4 get a : at 2
         5 _ delete a : ?",
    ),
    (
        "an unknown put is seen, gone, and seen again",
        "the revision went back from 3 to 2",
        "1 2 put a1 : new 1
         3 _ put a2 : ?
         4 5 get a : a2@2 at 2
         6 7 put a3 : replaced 3
         8 9 get a : a2@2 at 2",
    ),
    (
        "an unknown put happens twice",
        "a put shows at two revisions, 1 and 2",
        "1 _ put a1 : ?
         2 3 get a : a1@1 at 1
         4 5 get a : a1@2 at 2",
    ),
    (
        "two clients see two orders",
        "nothing in between explains it",
        "1 20 put a1 : replaced 2
         2 21 put a2 : new 1
         3 4 get a : a1@2 at 2
         5 6 get a : a2@1 at 2",
    ),
    (
        "write skew over two keys: neither sees the other",
        "nothing in between explains it",
        "1 20 put a1 : new 1
         2 21 put b2 : new 2
         3 22 get b : at 3
         23 24 get a : a1@1 at 3",
    ),
];

#[test]
fn every_bad_history_is_rejected_and_called_by_its_name() {
    assert!(BAD.len() >= 30);
    let mut all = String::new();
    for (name, expected, text) in BAD {
        let history = history(text);
        match judge(&history) {
            Err(Fault::Violated(Violation { rule, window, key })) => {
                let lines = Lines(&history.calls, &window);
                if !rule.contains(expected) {
                    let _ = writeln!(all, "{name}: {key:?} {rule}\n{lines}");
                }
                assert!(!window.is_empty() && window.len() <= 5, "{name}: {lines}");
            }
            other => {
                let _ = writeln!(all, "{name}: {other:?}");
            }
        }
    }
    assert!(all.is_empty(), "{all}");
}

const GOOD: &[(&str, &str)] = &[
    ("nothing", ""),
    (
        "one after the other",
        "1 2 put a1 : new 1
         3 4 get a : a1@1 at 1
         5 6 put a2 if 1 : replaced 2
         7 8 delete a if 2 : deleted 1 at 3
         9 10 delete a : deleted 0
         11 12 put a3 if absent : new 4",
    ),
    (
        "somebody else's keys move the revision on",
        "1 2 put a1 : new 100
         3 4 get a : a1@100 at 170
         5 6 list a-d : a1@100 at 180",
    ),
    (
        "a read beside a put sees either",
        "1 20 put a1 : new 1
         2 3 get a : at 0
         4 5 get a : a1@1 at 1",
    ),
    (
        "an unknown put happens late",
        "1 2 put a1 : new 1
         3 _ put a2 : ?
         4 5 put a3 : replaced 2
         6 7 get a : a3@2 at 2
         8 9 get a : a2@3 at 3",
    ),
    (
        "unknown puts that nobody ever sees",
        "1 _ put a1 : ?
         2 _ put a2 : ?
         3 4 put a3 : replaced 9
         5 6 get a : a3@9 at 9",
    ),
    (
        "an unknown deletion",
        "1 2 put a1 : new 1
         3 _ delete a : ?
         4 5 get a : a1@1 at 1
         6 7 get a : at 2",
    ),
    (
        "an unknown range delete that takes one key and finds another gone",
        "1 2 put a1 : new 1
         3 4 put b2 : new 2
         5 _ sweep a-b : ?
         6 7 delete b : deleted 1 at 3
         8 9 list a-b : at 4",
    ),
    (
        "a range delete beside a put",
        "1 2 put a1 : new 1
         3 20 sweep a-c : deleted 2 at 3
         4 19 put b2 : new 2
         21 22 list a-d : at 3",
    ),
    (
        "a range delete whose count unknown puts explain",
        "1 _ put a1 : ?
         2 _ put b2 : ?
         3 4 sweep a-d : deleted 1 at 5",
    ),
    (
        "a refusal says nothing",
        "1 2 put a1 : refused
         3 4 put a2 if 7 : failed absent
         5 6 get a : at 0",
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
