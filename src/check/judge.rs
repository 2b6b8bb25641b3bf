//! The judgement of a history: each key's linearizability, then the rules of revisions over all keys.

use std::collections::HashMap;
use std::fmt;

use super::history::{ALIEN, Answer, Ask, Call, History, Need};
use super::linear::{self, Place, Verdict};
use super::operation::{Action, Expect, Operation, Outcome};
use super::{order, shrink};
use crate::kv::Revision;

/// What a history consists of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// All calls.
    pub operations: usize,
    /// Those that read.
    pub reads: usize,
    /// Those that change something, and were answered.
    pub writes: usize,
    /// Those whose outcome nobody knows.
    pub unknown: usize,
    /// Puts that certainly were not carried out.
    pub refused: usize,
    /// The keys that were asked for.
    pub keys: usize,
}

/// What no linearizable store does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The key, if it is about one.
    pub key: Option<u32>,
    /// What was broken.
    pub rule: String,
    /// The calls that show it, by their place in the history.
    pub window: Vec<usize>,
}

/// Why a history is not known to be good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is bad.
    Violated(Violation),
    /// The key's history took the checker too long.
    Undecided(u32),
}

impl Violation {
    pub(super) fn of(key: Option<u32>, rule: String, mut window: Vec<usize>) -> Violation {
        window.sort_unstable();
        window.dedup();
        Violation { key, rule, window }
    }
}

/// Some calls, one a line.
#[derive(Debug)]
pub struct Lines<'a>(pub &'a [Call], pub &'a [usize]);

impl fmt::Display for Lines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.1.iter().try_for_each(|at| writeln!(f, "{}", self.0[*at]))
    }
}

/// Judges a history of keys that start out absent. Decides histories of a million calls in seconds,
/// if few of a key's are at once.
pub fn judge(history: &History) -> Result<Summary, Fault> {
    let calls = &history.calls;
    // First what tells in the fewest calls what is wrong.
    order::check(history).map_err(Fault::Violated)?;
    let values = values(calls);
    for key in 0..history.head.keys {
        let Part { at, places, operations } = part(calls, key, &values);
        match linear::check_in_order(&operations, |one| places[one]) {
            Verdict::Linearizable => {}
            Verdict::Undecided => return Err(Fault::Undecided(key)),
            Verdict::Impossible => {
                let evidence = shrink::evidence(&operations, &places);
                let window = evidence.into_iter().map(|one| at[one]).collect();
                let rule = "no order of the calls explains the answers".to_owned();
                return Err(Fault::Violated(Violation { key: Some(key), rule, window }));
            }
        }
    }
    Ok(summary(history))
}

/// What a history consists of, good or bad.
pub fn summary(history: &History) -> Summary {
    let calls = &history.calls;
    let asked = |key: &u32| {
        calls.iter().any(|call| call.ask.touches(*key) && call.answer != Answer::Refused)
    };
    let count = |which: fn(&Call) -> bool| calls.iter().filter(|call| which(call)).count();
    Summary {
        operations: calls.len(),
        reads: count(|call| call.ask.reads()),
        writes: count(|call| {
            !call.ask.reads() && !matches!(call.answer, Answer::Unknown | Answer::Refused)
        }),
        unknown: count(|call| call.answer == Answer::Unknown),
        refused: count(|call| call.answer == Answer::Refused),
        keys: (0..history.head.keys).filter(asked).count(),
    }
}

/// Which value a key's mod revision stands for, as far as answers tell.
fn values(calls: &[Call]) -> HashMap<(u32, Revision), u64> {
    let mut values = HashMap::new();
    for call in calls {
        match (&call.ask, &call.answer) {
            (Ask::Put { key, value, .. }, Answer::Put { revision, .. }) => {
                values.insert((*key, *revision), *value);
            }
            (_, Answer::Found { items, .. }) => {
                for item in items {
                    values.entry((item.key, item.revision)).or_insert(item.value);
                }
            }
            _ => {}
        }
    }
    values
}

/// What the calls mean for one key. Those that span keys count for each.
struct Part {
    /// The calls' places in the history.
    at: Vec<usize>,
    /// When they seem to have happened.
    places: Vec<Place>,
    operations: Vec<Operation>,
}

fn part(calls: &[Call], key: u32, values: &HashMap<(u32, Revision), u64>) -> Part {
    let revisions: HashMap<u64, Revision> = values
        .iter()
        .filter(|((of, _), _)| *of == key)
        .map(|((_, revision), value)| (*value, *revision))
        .collect();
    let touching = calls
        .iter()
        .enumerate()
        .filter(|(_, call)| call.ask.touches(key) && call.answer != Answer::Refused);
    let place = |call: &Call| {
        let revision = match call.ask {
            Ask::Put { value, .. } => revisions.get(&value).copied(),
            _ => call.answer.revision(),
        };
        (revision.map_or(u64::MAX, |revision| revision.0), false)
    };
    let operation = |call: &Call| {
        let value = |revision: &Revision| values.get(&(key, *revision)).copied();
        let outcome = match &call.answer {
            Answer::Put { created, .. } => Outcome::Done { existed: !created },
            // Without a key the answer is that, whatever the condition says.
            Answer::Deleted { count: 0, .. } if conditional(&call.ask) => Outcome::FailedAbsent,
            Answer::Deleted { count, .. } => Outcome::Done { existed: *count > 0 },
            Answer::ConditionFailed { current: None } => Outcome::FailedAbsent,
            Answer::ConditionFailed { current: Some(at) } => Outcome::FailedPresent(value(at)),
            Answer::Unknown | Answer::Refused | Answer::Found { .. } => Outcome::Unknown,
        };
        let expect = |need: &Need| match need {
            Need::Nothing => Expect::Anything,
            Need::Revision(revision) => match (value(revision), outcome) {
                (Some(value), _) => Expect::Value(value),
                // Nobody told what it stands for: all that a success says is that there was something.
                (None, Outcome::Done { .. } | Outcome::Unknown) => Expect::Present,
                (None, Outcome::FailedAbsent | Outcome::FailedPresent(_)) => Expect::Value(ALIEN),
            },
            Need::Absent => Expect::Absent,
        };
        let action = match (&call.ask, &call.answer) {
            (Ask::Get { .. } | Ask::List { .. }, Answer::Found { items, .. }) => {
                let item = items.iter().find(|item| item.key == key);
                Action::Get { found: item.map(|item| item.value) }
            }
            (Ask::Get { .. } | Ask::List { .. }, _) => Action::Get { found: None },
            (Ask::Put { value, need, .. }, _) => {
                Action::Put { value: *value, expect: expect(need), outcome }
            }
            (Ask::Delete { need, .. }, _) => Action::Delete { expect: expect(need), outcome },
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
        };
        Operation { called: call.called, returned: call.returned, action }
    };
    let mut part = Part { at: Vec::new(), places: Vec::new(), operations: Vec::new() };
    for (at, call) in touching {
        part.at.push(at);
        part.places.push(place(call));
        part.operations.push(operation(call));
    }
    part
}

fn conditional(ask: &Ask) -> bool {
    matches!(ask, Ask::Delete { need: Need::Revision(_) | Need::Absent, .. })
}
