//! The checker itself, checked: bad histories made by hand that it must reject, good ones that it
//! must
//! accept, and every tiny history against brute force.

use std::collections::HashMap;

use proptest::prelude::*;

use super::linear::{Verdict, check, check_in_order};
use super::operation::{Action, Cell, Expect, Operation, Outcome};

fn operation(called: u64, returned: impl Into<Option<u64>>, action: Action) -> Operation {
    Operation { called, returned: returned.into(), action }
}

fn get(called: u64, returned: u64, found: Cell) -> Operation {
    operation(called, returned, Action::Get { found })
}

fn done(existed: bool) -> Outcome {
    Outcome::Done { existed }
}

fn put(called: u64, returned: u64, value: u64, existed: bool) -> Operation {
    let outcome = done(existed);
    operation(called, returned, Action::Put { value, expect: Expect::Anything, outcome })
}

fn put_if(called: u64, returned: u64, value: u64, expect: Expect, outcome: Outcome) -> Operation {
    operation(called, returned, Action::Put { value, expect, outcome })
}

fn lost_put(called: u64, value: u64, expect: Expect) -> Operation {
    operation(called, None, Action::Put { value, expect, outcome: Outcome::Unknown })
}

fn delete(called: u64, returned: u64, existed: bool) -> Operation {
    let outcome = done(existed);
    operation(called, returned, Action::Delete { expect: Expect::Anything, outcome })
}

fn lost_delete(called: u64) -> Operation {
    let outcome = Outcome::Unknown;
    operation(called, None, Action::Delete { expect: Expect::Anything, outcome })
}

fn sweep(called: u64, returned: impl Into<Option<u64>>) -> Operation {
    operation(called, returned, Action::Sweep)
}

#[test]
fn bad_histories_are_rejected() {
    use Expect::{Absent, Anything, Present, Value};
    let bad: &[(&str, Vec<Operation>)] = &[
        ("stale read", vec![put(1, 2, 1, false), put(3, 4, 2, true), get(5, 6, Some(1))]),
        ("lost acknowledgement", vec![put(1, 2, 1, false), get(3, 4, None)]),
        ("phantom: nobody wrote it", vec![put(1, 2, 1, false), get(3, 4, Some(9))]),
        ("time travel: read before the call", vec![get(1, 2, Some(1)), put(3, 4, 1, false)]),
        (
            "two reads in a row go back",
            vec![put(1, 2, 1, false), put(3, 20, 2, true), get(5, 6, Some(2)), get(7, 8, Some(1))],
        ),
        (
            "two clients see two orders",
            vec![
                put(1, 20, 1, false),
                put(2, 19, 2, true),
                get(3, 4, Some(2)),
                get(5, 6, Some(1)),
                get(7, 8, Some(2)),
            ],
        ),
        (
            "both of two puts that need absence succeed",
            vec![put_if(1, 10, 1, Absent, done(false)), put_if(2, 9, 2, Absent, done(false))],
        ),
        (
            "lost update: two swaps of the same value succeed",
            vec![
                put(1, 2, 1, false),
                put_if(3, 10, 2, Value(1), done(true)),
                put_if(4, 9, 3, Value(1), done(true)),
            ],
        ),
        (
            "a condition fails that held",
            vec![put(1, 2, 1, false), put_if(3, 4, 2, Value(1), Outcome::FailedPresent(Some(1)))],
        ),
        (
            "a failed condition shows a value long overwritten",
            vec![
                put(1, 2, 1, false),
                put(3, 4, 2, true),
                put_if(5, 6, 3, Value(9), Outcome::FailedPresent(Some(1))),
            ],
        ),
        (
            "a refused put shows up",
            vec![
                put(1, 2, 1, false),
                put_if(3, 4, 2, Absent, Outcome::FailedPresent(Some(1))),
                get(5, 6, Some(2)),
            ],
        ),
        (
            "read after a deletion",
            vec![put(1, 2, 1, false), delete(3, 4, true), get(5, 6, Some(1))],
        ),
        (
            "a deletion finds nothing where there is a value",
            vec![put(1, 2, 1, false), delete(3, 4, false)],
        ),
        (
            "a key is deleted twice",
            vec![put(1, 2, 1, false), delete(3, 10, true), delete(4, 9, true)],
        ),
        ("created twice", vec![put(1, 2, 1, false), put(3, 4, 2, false)]),
        ("survives a sweep", vec![put(1, 2, 1, false), sweep(3, 4), get(5, 6, Some(1))]),
        (
            "an unknown put takes effect twice",
            vec![
                lost_put(1, 1, Anything),
                get(2, 3, Some(1)),
                put(4, 5, 2, true),
                get(6, 7, Some(2)),
                get(8, 9, Some(1)),
            ],
        ),
        ("an unknown put before its call", vec![get(1, 2, Some(1)), lost_put(3, 1, Anything)]),
        (
            "an unknown put whose condition never held",
            vec![put(1, 2, 1, false), lost_put(3, 2, Value(7)), get(4, 5, Some(2))],
        ),
        (
            "one unknown deletion explains two disappearances",
            vec![
                put(1, 2, 1, false),
                lost_delete(3),
                get(4, 5, None),
                put(6, 7, 2, false),
                get(8, 9, None),
            ],
        ),
        (
            "a deletion that needs presence succeeds on nothing",
            vec![operation(1, 2, Action::Delete { expect: Present, outcome: done(false) })],
        ),
        (
            "absence is reported while the value stands",
            vec![put(1, 2, 1, false), put_if(3, 4, 2, Value(5), Outcome::FailedAbsent)],
        ),
        (
            "resurrection: a deleted value comes back",
            vec![put(1, 2, 1, false), delete(3, 4, true), get(5, 6, None), get(7, 8, Some(1))],
        ),
        (
            "a reader goes back across a concurrent deletion",
            vec![put(1, 2, 1, false), delete(3, 20, true), get(4, 5, None), get(6, 7, Some(1))],
        ),
        (
            "an absent key is found present by a condition",
            vec![put_if(1, 2, 1, Present, Outcome::FailedAbsent), delete(3, 4, true)],
        ),
        (
            "an unknown put is seen, undone and seen again",
            vec![
                put(1, 2, 1, false),
                lost_put(3, 2, Anything),
                get(4, 5, Some(2)),
                get(6, 7, Some(1)),
                get(8, 9, Some(2)),
            ],
        ),
        (
            "a value that was swapped away is swapped once more",
            vec![
                put(1, 2, 1, false),
                put_if(3, 4, 2, Value(1), done(true)),
                put_if(5, 6, 3, Value(1), done(true)),
            ],
        ),
        (
            "a chain of swaps with a broken link",
            vec![
                put(1, 2, 1, false),
                put_if(3, 20, 2, Value(1), done(true)),
                put_if(4, 21, 3, Value(2), done(true)),
                put_if(5, 22, 4, Value(2), done(true)),
            ],
        ),
        (
            "a condition on absence fails on a key that nobody set",
            vec![put_if(1, 2, 1, Absent, Outcome::FailedPresent(None))],
        ),
        (
            "a failed condition names a value of the future",
            vec![
                put(1, 2, 1, false),
                put_if(3, 4, 2, Absent, Outcome::FailedPresent(Some(3))),
                put(5, 6, 3, true),
            ],
        ),
        (
            "a deletion and a put of the same moment, and neither took effect",
            vec![
                put(1, 2, 1, false),
                put(3, 10, 2, true),
                delete(4, 9, true),
                get(11, 12, Some(1)),
            ],
        ),
        (
            "an unknown swap happens after its value was overwritten",
            vec![
                put(1, 2, 1, false),
                lost_put(3, 2, Value(1)),
                get(4, 5, Some(1)),
                put(6, 7, 3, true),
                get(8, 9, Some(3)),
                get(10, 11, Some(2)),
            ],
        ),
        (
            "a sweep and a deletion both take the only value",
            vec![put(1, 2, 1, false), sweep(3, 4), delete(5, 6, true)],
        ),
        (
            "a put finds the key that a sweep removed",
            vec![put(1, 2, 1, false), sweep(3, 4), put(5, 6, 2, true)],
        ),
        (
            "three clients, three orders",
            vec![
                put(1, 30, 1, false),
                put(2, 31, 2, true),
                put(3, 32, 3, true),
                get(4, 5, Some(3)),
                get(6, 7, Some(2)),
                get(8, 9, Some(3)),
            ],
        ),
        (
            "the last acknowledged write is missing at the end",
            vec![
                put(1, 2, 1, false),
                lost_put(3, 2, Anything),
                put(4, 5, 3, true),
                get(6, 7, Some(3)),
                get(100, 101, Some(1)),
            ],
        ),
    ];
    for (name, history) in bad {
        assert_eq!(check(history), Verdict::Impossible, "{name}");
        assert!(!brute(history), "{name}: brute force disagrees");
    }
    assert!(bad.len() >= 30);
}

#[test]
fn good_histories_are_accepted() {
    use Expect::{Absent, Anything, Value};
    let good: &[(&str, Vec<Operation>)] = &[
        ("nothing", vec![]),
        ("one after the other", vec![put(1, 2, 1, false), get(3, 4, Some(1)), delete(5, 6, true)]),
        (
            "a read during a put may see either",
            vec![put(1, 10, 1, false), get(2, 3, None), get(4, 5, Some(1))],
        ),
        ("an unknown put that never happens", vec![lost_put(1, 1, Anything), get(2, 3, None)]),
        (
            "an unknown put that happens late",
            vec![
                put(1, 2, 1, false),
                lost_put(3, 2, Anything),
                put(4, 5, 3, true),
                get(6, 7, Some(3)),
                get(8, 9, Some(2)),
            ],
        ),
        (
            "an unknown swap between two reads",
            vec![
                put(1, 2, 1, false),
                lost_put(3, 2, Value(1)),
                get(4, 5, Some(1)),
                get(6, 7, Some(2)),
            ],
        ),
        (
            "one of two wins",
            vec![
                put_if(1, 10, 1, Absent, done(false)),
                put_if(2, 9, 2, Absent, Outcome::FailedPresent(Some(1))),
            ],
        ),
        (
            "a failed condition with an unknown value",
            vec![lost_put(1, 1, Anything), put_if(2, 3, 2, Absent, Outcome::FailedPresent(None))],
        ),
        (
            "a sweep that is never answered",
            vec![put(1, 2, 1, false), sweep(3, None), get(4, 5, Some(1)), get(6, 7, None)],
        ),
    ];
    for (name, history) in good {
        assert_eq!(check(history), Verdict::Linearizable, "{name}");
        assert!(brute(history), "{name}: brute force disagrees");
    }
}

#[test]
fn a_long_history_with_many_unknown_outcomes_is_decided_quickly() {
    let mut history = Vec::new();
    for value in 1..=300 {
        let at = value * 10;
        if value % 3 == 0 {
            history.push(lost_put(at, value, Expect::Anything));
        } else {
            history.push(put(at, at + 15, value, value > 1));
        }
    }
    assert_eq!(check(&history), Verdict::Linearizable);
    history.push(get(4001, 4002, Some(2)));
    assert_eq!(check(&history), Verdict::Impossible);
}

/// Forty writes at once, of which an answer names the first: whatever went before that, which needs another value,
/// cannot come after it. (A simulated cluster that came back after two minutes had such a history.)
#[test]
fn what_replaces_a_value_too_early_is_seen_at_once() {
    let seen = Outcome::FailedPresent(Some(3));
    let mut history = vec![
        lost_put(1, 1, Expect::Anything),
        lost_put(2, 2, Expect::Anything),
        put(3, 1000, 3, true),
        get(4, 5, Some(2)),
        put_if(6, 1001, 4, Expect::Absent, seen),
    ];
    for at in 0..20 {
        history.push(put(10 + 2 * at, 1010 + 2 * at, 10 + at, true));
        history.push(delete(11 + 2 * at, 1011 + 2 * at, true));
        history.push(put_if(60 + at, 1060 + at, 40 + at, Expect::Absent, done(false)));
    }
    let order = [0, 1, 3, 2, 4].into_iter().chain(5..);
    let places: HashMap<usize, u64> = order.zip(0..).take(history.len()).collect();
    assert_eq!(check_in_order(&history, |at| (places[&at], false)), Verdict::Linearizable);
}

/// Tries every order of every subset that holds all answered operations.
fn brute(history: &[Operation]) -> bool {
    fn go(history: &[Operation], left: u32, cell: Cell) -> bool {
        let rest = || (0..history.len()).filter(|at| left & (1 << at) != 0);
        if rest().all(|at| history[at].returned.is_none()) {
            return true;
        }
        rest().any(|at| {
            // Nothing that is left may have returned before this one was called.
            let in_time = rest()
                .all(|other| history[other].returned.is_none_or(|end| end > history[at].called));
            in_time
                && history[at]
                    .action
                    .apply(cell)
                    .is_some_and(|after| go(history, left & !(1 << at), after))
        })
    }
    go(history, (1 << history.len()) - 1, None)
}

fn expects() -> impl Strategy<Value = Expect> {
    prop_oneof![
        3 => Just(Expect::Anything),
        1 => Just(Expect::Present),
        1 => Just(Expect::Absent),
        2 => (1..6_u64).prop_map(Expect::Value),
    ]
}

fn outcomes() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        2 => Just(Outcome::Unknown),
        4 => any::<bool>().prop_map(done),
        1 => Just(Outcome::FailedAbsent),
        1 => prop::option::of(1..6_u64).prop_map(Outcome::FailedPresent),
    ]
}

fn histories() -> impl Strategy<Value = Vec<Operation>> {
    let action = prop_oneof![
        4 => prop::option::of(1..6_u64).prop_map(|found| Action::Get { found }),
        5 => (expects(), outcomes())
            .prop_map(|(expect, outcome)| Action::Put { value: 0, expect, outcome }),
        2 => (expects(), outcomes()).prop_map(|(expect, outcome)| Action::Delete { expect, outcome }),
        1 => Just(Action::Sweep),
        3 => (expects(), prop::option::of(prop::option::of(Just(0))))
            .prop_map(|(found, sets)| Action::Step { found, sets }),
    ];
    prop::collection::vec((action, 0..16_u64, 1..8_u64, any::<bool>()), 0..6).prop_map(|all| {
        let number = |(at, drawn): (usize, (Action, u64, u64, bool))| {
            let (mut action, called, length, answered) = drawn;
            if let Action::Put { value, .. } | Action::Step { sets: Some(Some(value)), .. } =
                &mut action
            {
                *value = at as u64 + 1;
            }
            let unknown = match &action {
                Action::Put { outcome, .. } | Action::Delete { outcome, .. } => {
                    *outcome == Outcome::Unknown
                }
                Action::Get { .. } | Action::Step { .. } => false,
                Action::Sweep => !answered,
            };
            // No two moments are the same.
            let moment = |time: u64, end: u64| (time * 16 + at as u64) * 2 + end;
            let returned = (!unknown).then(|| moment(called + length, 1));
            Operation { called: moment(called, 0), returned, action }
        };
        all.into_iter().enumerate().map(number).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn tiny_histories_are_judged_as_brute_force_does(history in histories()) {
        let expected =
            if brute(&history) { Verdict::Linearizable } else { Verdict::Impossible };
        prop_assert_eq!(check(&history), expected);
    }
}
