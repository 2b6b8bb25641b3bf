//! Of a history that is impossible, the few calls that make it so.

use std::time::{Duration, Instant};

use super::linear::{Place, Verdict, check_in_order};
use super::operation::{Action, Expect, Moment, Operation, Outcome};

/// How long to look for a smaller part.
const TIME_MAX: Duration = Duration::from_secs(10);

/// The places of operations of an impossible history that are impossible whatever became of all
/// others. Every known outcome left out is forgotten, not assumed: so the part proves the whole
/// wrong. `places` are a hint to the search.
pub(super) fn evidence(history: &[Operation], places: &[Place]) -> Vec<usize> {
    let began = Instant::now();
    let impossible = |known: &[usize]| impossible(history, places, known);
    let mut known: Vec<usize> = until_impossible(history, impossible);
    // Ever smaller pieces are forgotten, as long as the rest stays impossible.
    let mut size = known.len().div_ceil(2).max(1);
    loop {
        let mut at = 0;
        let mut smaller = false;
        while at < known.len() && began.elapsed() < TIME_MAX {
            let end = (at + size).min(known.len());
            let rest: Vec<usize> = [&known[..at], &known[end..]].concat();
            if impossible(&rest) {
                known = rest;
                smaller = true;
            } else {
                at = end;
            }
        }
        if began.elapsed() >= TIME_MAX || (size == 1 && !smaller) {
            break;
        }
        size = size.div_ceil(2).min(known.len().max(1));
    }
    // What an unknown call would have written belongs to the picture if somebody names it.
    let named: Vec<u64> = known.iter().flat_map(|at| names(&history[*at].action)).collect();
    let missing = history.iter().enumerate().filter(|(at, one)| match &one.action {
        Action::Put { value, .. } | Action::Step { sets: Some(Some(value)), .. } => {
            named.contains(value) && !known.contains(at)
        }
        _ => false,
    });
    let missing: Vec<usize> = missing.map(|(at, _)| at).collect();
    known.extend(missing);
    known.sort_by_key(|at| history[*at].called);
    known
}

/// The shortest beginning of the history that is impossible.
fn until_impossible(history: &[Operation], impossible: impl Fn(&[usize]) -> bool) -> Vec<usize> {
    let mut ends: Vec<(Moment, usize)> = Vec::new();
    for (at, one) in history.iter().enumerate() {
        ends.extend(one.returned.map(|returned| (returned, at)));
    }
    ends.sort_unstable();
    let order: Vec<usize> = ends.into_iter().map(|(_, at)| at).collect();
    let (mut good, mut bad) = (0, order.len());
    while bad - good > 1 {
        let middle = good + (bad - good) / 2;
        if impossible(&order[..middle]) {
            bad = middle;
        } else {
            good = middle;
        }
    }
    order[..bad].to_vec()
}

/// Whether no order explains the answers of those, the others' being forgotten.
fn impossible(history: &[Operation], places: &[Place], known: &[usize]) -> bool {
    let mut keep = vec![false; history.len()];
    for at in known {
        keep[*at] = true;
    }
    // Nothing that was called after all of them returned has to do with them.
    let end = known.iter().filter_map(|at| history[*at].returned).max().unwrap_or_default();
    let (places, weaker): (Vec<Place>, Vec<Operation>) = history
        .iter()
        .zip(places)
        .zip(keep)
        .filter(|((one, _), _)| one.called <= end)
        .filter_map(|((one, place), keep)| {
            Some((*place, if keep { one.clone() } else { forgotten(one)? }))
        })
        .unzip();
    check_in_order(&weaker, |at| places[at]) == Verdict::Impossible
}

/// The operation as if it had never been answered; none if it could do nothing then.
fn forgotten(one: &Operation) -> Option<Operation> {
    let action = match &one.action {
        Action::Get { .. } => return None,
        Action::Put { outcome, .. } | Action::Delete { outcome, .. }
            if matches!(outcome, Outcome::FailedAbsent | Outcome::FailedPresent(_)) =>
        {
            // That it was refused is what may be forgotten; that it could have happened would be more.
            return None;
        }
        Action::Put { value, .. } => {
            Action::Put { value: *value, expect: Expect::Anything, outcome: Outcome::Unknown }
        }
        Action::Delete { .. } => {
            Action::Delete { expect: Expect::Anything, outcome: Outcome::Unknown }
        }
        // A step that sets something is a write like another once its answer is forgotten.
        Action::Step { sets, .. } => match (*sets)? {
            Some(value) => {
                Action::Put { value, expect: Expect::Anything, outcome: Outcome::Unknown }
            }
            None => Action::Delete { expect: Expect::Anything, outcome: Outcome::Unknown },
        },
        Action::Sweep => Action::Sweep,
    };
    Some(Operation { called: one.called, returned: None, action })
}

fn names(action: &Action) -> Vec<u64> {
    match action {
        Action::Get { found } => found.iter().copied().collect(),
        Action::Put { expect: Expect::Value(value), .. }
        | Action::Step { found: Expect::Value(value), .. }
        | Action::Delete { expect: Expect::Value(value), .. } => vec![*value],
        _ => Vec::new(),
    }
}
