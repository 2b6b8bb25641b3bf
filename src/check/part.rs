//! What the calls of a history mean for one key. Those that span keys count for each, as far as they tell of it.

use std::collections::HashMap;

use super::fates::Fate;
use super::history::{ALIEN, Answer, Ask, Call, Need};
use super::linear::Place;
use super::operation::{Action, Expect, Operation, Outcome};
use super::order::{Order, Values};
use super::txn::{Came, Compare, Op, Txn};
use crate::kv::Revision;

/// The operations of one key.
pub(super) struct Part {
    /// The calls' places in the history.
    pub(super) at: Vec<usize>,
    /// When they seem to have happened.
    pub(super) places: Vec<Place>,
    pub(super) operations: Vec<Operation>,
}

/// What is known of a key's values.
struct Key<'a> {
    key: u32,
    values: &'a Values,
    /// The revisions of the values that have one.
    revisions: HashMap<u64, Revision>,
}

impl Part {
    pub(super) fn of(calls: &[Call], key: u32, order: &Order<'_>) -> Part {
        let values = &order.values;
        let of_key = values.iter().filter(|((of, _), _)| *of == key);
        let revisions = of_key.map(|((_, revision), value)| (*value, *revision)).collect();
        let known = Key { key, values, revisions };
        let mut part = Part { at: Vec::new(), places: Vec::new(), operations: Vec::new() };
        let touching = calls.iter().enumerate();
        for (at, call) in touching.filter(|(_, call)| call.ask.touches(key)) {
            match (&call.ask, &call.answer) {
                (_, Answer::Refused) => {}
                (Ask::Txn(txn), Answer::Txn { .. }) => {
                    let fate = Fate::told(at, &call.answer);
                    part.add(at, call, fate.and_then(|fate| known.step(txn, &fate)), &known);
                }
                (Ask::Txn(txn), _) => {
                    let branch = order.fates.get(at).map(|fate| fate.succeeded);
                    for succeeded in [true, false] {
                        if branch.is_none_or(|branch| branch == succeeded) {
                            part.add(at, call, known.maybe(txn, succeeded), &known);
                        }
                    }
                }
                _ => part.add(at, call, Some(known.action(call)), &known),
            }
        }
        part
    }

    fn add(&mut self, at: usize, call: &Call, action: Option<Action>, known: &Key<'_>) {
        let Some(action) = action else { return };
        let revision = match action {
            Action::Put { value, .. } => known.revisions.get(&value).copied(),
            _ => call.answer.revision(),
        };
        self.at.push(at);
        self.places.push((revision.map_or(u64::MAX, |revision| revision.0), false));
        self.operations.push(Operation { called: call.called, returned: call.returned, action });
    }
}

impl Key<'_> {
    fn value(&self, revision: Revision) -> Option<u64> {
        self.values.get(&(self.key, revision)).copied()
    }

    /// What a call is that is no transaction.
    fn action(&self, call: &Call) -> Action {
        let outcome = match &call.answer {
            Answer::Put { created, .. } => Outcome::Done { existed: !created },
            // Without a key the answer is that, whatever the condition says.
            Answer::Deleted { count: 0, .. } if conditional(&call.ask) => Outcome::FailedAbsent,
            Answer::Deleted { count, .. } => Outcome::Done { existed: *count > 0 },
            Answer::ConditionFailed { current: None } => Outcome::FailedAbsent,
            Answer::ConditionFailed { current: Some(at) } => {
                Outcome::FailedPresent(self.value(*at))
            }
            _ => Outcome::Unknown,
        };
        match (&call.ask, &call.answer) {
            (Ask::Put { value, need, .. }, _) => {
                Action::Put { value: *value, expect: self.expect(*need, outcome), outcome }
            }
            (Ask::Delete { need, .. }, _) => {
                Action::Delete { expect: self.expect(*need, outcome), outcome }
            }
            // One that found nothing says that each key was absent, and one that found as many as
            // there could be that each existed.
            (Ask::Sweep { .. }, Answer::Deleted { count: 0, .. }) => Action::Get { found: None },
            (Ask::Sweep { from, to }, Answer::Deleted { count, .. })
                if *count == u64::from(to - from) =>
            {
                Action::Delete {
                    expect: Expect::Anything,
                    outcome: Outcome::Done { existed: true },
                }
            }
            (Ask::Sweep { .. }, _) => Action::Sweep,
            (Ask::Get { .. } | Ask::List { .. } | Ask::Txn(_), answer) => {
                let item = answer.items().find(|item| item.key == self.key);
                Action::Get { found: item.map(|item| item.value) }
            }
        }
    }

    fn expect(&self, need: Need, outcome: Outcome) -> Expect {
        match need {
            Need::Nothing => Expect::Anything,
            Need::Revision(revision) => match (self.value(revision), outcome) {
                (Some(value), _) => Expect::Value(value),
                // Nobody told what it stands for: all that a success says is that there was something.
                (None, Outcome::Done { .. } | Outcome::Unknown) => Expect::Present,
                (None, Outcome::FailedAbsent | Outcome::FailedPresent(_)) => Expect::Value(ALIEN),
            },
            Need::Absent => Expect::Absent,
        }
    }

    /// What a transaction that was carried out is; none if it says and does nothing.
    fn step(&self, txn: &Txn, fate: &Fate<'_>) -> Option<Action> {
        let mut found = Expect::Anything;
        // The first that names a value is enough: others would say the same, which `states` checks.
        let mut finds = |expect: Expect| {
            if !matches!(found, Expect::Value(_)) && expect != Expect::Anything {
                found = expect;
            }
        };
        for compare in &txn.compares {
            if compare.keys().contains(&self.key) {
                finds(self.compared(compare, fate.succeeded, txn.compares.len() == 1));
            }
        }
        let mut sets = None;
        let branch = txn.branch(fate.succeeded).iter().enumerate();
        for (number, op) in branch.filter(|(_, op)| op.keys().contains(&self.key)) {
            match (op, fate.came(number)) {
                (Op::Put { value, .. }, _) => sets = Some(Some(*value)),
                (Op::Delete { .. }, Some(Came::Deleted { count: 0 })) => finds(Expect::Absent),
                (Op::Delete { .. }, _) => {
                    finds(Expect::Present);
                    sets = Some(None);
                }
                (Op::Get { .. } | Op::List { .. }, Some(Came::Found { items }))
                    if sets.is_none() =>
                {
                    let item = items.iter().find(|item| item.key == self.key);
                    finds(item.map_or(Expect::Absent, |item| Expect::Value(item.value)));
                }
                (Op::Get { .. } | Op::List { .. }, _) => {}
            }
        }
        (found != Expect::Anything || sets.is_some()).then_some(Action::Step { found, sets })
    }

    /// What a compare says that held, or that did not and was the only one.
    fn compared(&self, compare: &Compare, held: bool, only: bool) -> Expect {
        match *compare {
            Compare::Revision { revision: Revision(0), .. } if held => Expect::Absent,
            Compare::Revision { revision: Revision(0), .. } if only => Expect::Present,
            Compare::Revision { revision, .. } if held => {
                self.value(revision).map_or(Expect::Present, Expect::Value)
            }
            Compare::Exists { exists, .. } if held || only => {
                if exists == held {
                    Expect::Present
                } else {
                    Expect::Absent
                }
            }
            _ => Expect::Anything,
        }
    }

    /// What a branch does that may have been carried out.
    fn maybe(&self, txn: &Txn, succeeded: bool) -> Option<Action> {
        let (expect, outcome) = (Expect::Anything, Outcome::Unknown);
        txn.branch(succeeded).iter().find_map(|op| match *op {
            Op::Put { key, value } if key == self.key => {
                Some(Action::Put { value, expect, outcome })
            }
            Op::Delete { key } if key == self.key => Some(Action::Delete { expect, outcome }),
            _ => None,
        })
    }
}

fn conditional(ask: &Ask) -> bool {
    matches!(ask, Ask::Delete { need: Need::Revision(_) | Need::Absent, .. })
}
