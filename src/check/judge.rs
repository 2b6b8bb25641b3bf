//! The judgement of a history: the rules of revisions over all keys, then each key's linearizability.

use std::fmt;

use super::history::{Answer, Ask, Call, History};
use super::linear::{self, Verdict};
use super::part::Part;
use super::{order, shrink};

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
    /// Puts, and transactions with some, that certainly were not carried out.
    pub refused: usize,
    /// Those of all that are transactions.
    pub transactions: usize,
    /// Those of them whose compares did not hold.
    pub otherwise: usize,
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
    // First what tells in the fewest calls what is wrong.
    let order = order::check(history).map_err(Fault::Violated)?;
    for key in 0..history.head.keys {
        let Part { at, places, operations } = Part::of(&history.calls, key, &order);
        match linear::check_in_order(&operations, |one| places[one]) {
            Verdict::Linearizable => {}
            Verdict::Undecided => return Err(Fault::Undecided(key)),
            Verdict::Impossible => {
                let evidence = shrink::evidence(&operations, &places);
                let mut window: Vec<usize> = evidence.into_iter().map(|one| at[one]).collect();
                // A transaction may be several operations of a key.
                window.dedup();
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
        transactions: count(|call| matches!(call.ask, Ask::Txn(_))),
        otherwise: count(|call| matches!(call.answer, Answer::Txn { succeeded: false, .. })),
        keys: (0..history.head.keys).filter(asked).count(),
    }
}
