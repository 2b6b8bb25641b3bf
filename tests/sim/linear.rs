//! Is a history of one key linearizable? The search of Wing and Gong with Lowe's memory of the
//! configurations that lead nowhere.
//!
//! Every put has a value of its own, so a value names the write that made it. An operation whose
//! outcome
//! is unknown may take effect at any time after its call, or never.

use std::collections::{BTreeSet, HashSet};

/// A moment of the run. No two calls or returns share one.
pub(crate) type Moment = u64;

/// The key's value; none if it does not exist.
pub(crate) type Cell = Option<u64>;

/// One call and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Operation {
    pub(crate) called: Moment,
    /// None if nobody knows whether it took effect.
    pub(crate) returned: Option<Moment>,
    pub(crate) action: Action,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Get {
        found: Cell,
    },
    Put {
        value: u64,
        expect: Expect,
        outcome: Outcome,
    },
    Delete {
        expect: Expect,
        outcome: Outcome,
    },
    /// Part of a deletion of many keys, of which the answer tells only the sum.
    Sweep,
}

/// What must hold for a write to be carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expect {
    Anything,
    /// That value.
    Value(u64),
    Present,
    Absent,
}

/// What a write was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Unknown,
    /// It was carried out on a key that did or did not exist.
    Done {
        existed: bool,
    },
    /// The condition did not hold: the key did not exist.
    FailedAbsent,
    /// The condition did not hold: the key existed, with that value if it is known.
    FailedPresent(Option<u64>),
}

/// Why a history is none that a linearizable store has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Linearizable,
    Impossible,
    /// The search was given up after so many steps.
    Undecided,
}

impl Expect {
    fn holds(self, cell: Cell) -> bool {
        match self {
            Expect::Anything => true,
            Expect::Value(value) => cell == Some(value),
            Expect::Present => cell.is_some(),
            Expect::Absent => cell.is_none(),
        }
    }
}

impl Action {
    /// The values that it tells apart from others.
    fn names(&self) -> Vec<u64> {
        let (expect, outcome) = match self {
            Action::Get { found } => return found.iter().copied().collect(),
            Action::Sweep => return Vec::new(),
            Action::Put { expect, outcome, .. } | Action::Delete { expect, outcome } => {
                (*expect, *outcome)
            }
        };
        let mut names = Vec::new();
        if let Expect::Value(value) = expect {
            names.push(value);
        }
        if let Outcome::FailedPresent(Some(value)) = outcome {
            names.push(value);
        }
        names
    }

    /// The cell after the action, if it can have happened on `cell` with the outcome that it had.
    pub(crate) fn apply(&self, cell: Cell) -> Option<Cell> {
        let (expect, outcome, after) = match self {
            Action::Get { found } => return (*found == cell).then_some(cell),
            Action::Sweep => return Some(None),
            Action::Put { value, expect, outcome } => (expect, outcome, Some(*value)),
            Action::Delete { expect, outcome } => (expect, outcome, None),
        };
        let holds = expect.holds(cell);
        match *outcome {
            Outcome::Unknown => Some(if holds { after } else { cell }),
            Outcome::Done { existed } => (holds && existed == cell.is_some()).then_some(after),
            Outcome::FailedAbsent => (!holds && cell.is_none()).then_some(cell),
            Outcome::FailedPresent(seen) => {
                let fits = cell.is_some() && seen.is_none_or(|seen| cell == Some(seen));
                (!holds && fits).then_some(cell)
            }
        }
    }
}

/// More than any healthy history needs by far.
const STEPS_MAX: u64 = 20_000_000;

/// Decides on a history of one key that starts out absent.
#[cfg(test)]
pub(crate) fn check(history: &[Operation]) -> Verdict {
    check_in_order(history, |_| (0, false))
}

/// Decides likewise, and tries the operations in the order of `hint`. A good guess at the real
/// order makes the
/// search short, a bad one long; neither changes the verdict.
pub(crate) fn check_in_order(
    history: &[Operation],
    hint: impl Fn(usize) -> (u64, bool),
) -> Verdict {
    let operations: Vec<(usize, &Operation)> = history
        .iter()
        .enumerate()
        // A read that was never answered says and does nothing.
        .filter(|(_, one)| one.returned.is_some() || !matches!(one.action, Action::Get { .. }))
        .collect();
    let mut places: Vec<_> = operations.iter().map(|(at, _)| hint(*at)).collect();
    let operations: Vec<&Operation> = operations.into_iter().map(|(_, one)| one).collect();
    let return_of = |at: usize| operations[at].returned.unwrap_or(Moment::MAX);
    let mut by_return: Vec<usize> = (0..operations.len()).collect();
    by_return.sort_by_key(|&at| return_of(at));
    let observed: BTreeSet<u64> = operations.iter().flat_map(|one| one.action.names()).collect();
    let mut ghosts: Vec<(Action, Vec<usize>)> = Vec::new();
    let mut actions: Vec<Action> = operations.iter().map(|one| one.action.clone()).collect();
    let mut by_call: Vec<usize> = (0..operations.len()).collect();
    by_call.sort_by_key(|&at| operations[at].called);
    for at in by_call {
        let one = operations[at];
        let action = &mut actions[at];
        if one.returned.is_none() {
            if let Action::Put { value, .. } = &mut *action
                && !observed.contains(value)
            {
                *value = GHOST;
            }
            match ghosts.iter_mut().find(|(known, _)| known == action) {
                Some((_, twins)) => twins.push(at),
                None => ghosts.push((action.clone(), vec![at])),
            }
        }
    }
    // Of those that do the same, the one called first goes first, and so has the first place.
    let mut twins = vec![None; operations.len()];
    for (_, same) in ghosts {
        let mut free: Vec<_> = same.iter().map(|&at| places[at]).collect();
        free.sort_unstable();
        for (number, &at) in same.iter().enumerate() {
            places[at] = free[number];
            twins[at] = number.checked_sub(1).map(|before| same[before]);
        }
    }
    // Without a hint: known ones in the order of their return, then the unknown.
    let mut order: Vec<usize> = (0..operations.len()).collect();
    order.sort_by_key(|&at| (places[at], return_of(at), operations[at].called));
    let mut taken = vec![0; operations.len().div_ceil(64)];
    let mut search =
        Search { operations, order, by_return, actions, twins, dead: HashSet::new(), steps: 0 };
    search.run(&mut taken, None)
}

/// Stands for every value that no answer names: writes of such values are all alike.
const GHOST: u64 = u64::MAX;

struct Search<'a> {
    operations: Vec<&'a Operation>,
    /// All of them in the order in which they are tried.
    order: Vec<usize>,
    by_return: Vec<usize>,
    actions: Vec<Action>,
    /// For an unknown one that does the same as another called before it: that one, which goes
    /// first.
    twins: Vec<Option<usize>>,
    /// Which operations were taken and what the cell was, where no way led to the end.
    dead: HashSet<(Vec<u64>, Cell)>,
    steps: u64,
}

impl Search<'_> {
    fn run(&mut self, taken: &mut [u64], start: Cell) -> Verdict {
        // The path so far: the place of the operation taken, the cell before it, and what was tried
        // by then.
        let mut path: Vec<(usize, Cell, usize)> = Vec::new();
        let mut cell = start;
        let mut next = 0;
        loop {
            // Whatever is taken next has to be called before the first return among the rest.
            let first = self.by_return.iter().copied().find(|&at| !is_set(taken, at));
            let deadline = match first.and_then(|at| self.operations[at].returned) {
                Some(returned) => returned,
                // Only unknown ones are left, which need not happen.
                None => return Verdict::Linearizable,
            };
            let mut moved = false;
            // What comes after the last one taken is tried first.
            let start = path.last().map_or(0, |(place, ..)| place + 1);
            while next < self.order.len() {
                let place = (start + next) % self.order.len();
                let at = self.order[place];
                next += 1;
                if is_set(taken, at) || self.operations[at].called > deadline {
                    continue;
                }
                if self.twins[at].is_some_and(|twin| !is_set(taken, twin)) {
                    continue;
                }
                self.steps += 1;
                if self.steps > STEPS_MAX {
                    return Verdict::Undecided;
                }
                let Some(after) = self.actions[at].apply(cell) else { continue };
                if after == cell && self.operations[at].returned.is_none() {
                    // An unknown one without effect is one that never happened.
                    continue;
                }
                flip(taken, at);
                if self.dead.contains(&(taken.to_vec(), after)) {
                    flip(taken, at);
                    continue;
                }
                path.push((place, cell, next));
                cell = after;
                next = 0;
                moved = true;
                break;
            }
            if moved {
                continue;
            }
            self.dead.insert((taken.to_vec(), cell));
            let Some((place, before, tried)) = path.pop() else { return Verdict::Impossible };
            flip(taken, self.order[place]);
            cell = before;
            next = tried;
        }
    }
}

fn is_set(bits: &[u64], at: usize) -> bool {
    bits[at / 64] & (1 << (at % 64)) != 0
}

fn flip(bits: &mut [u64], at: usize) {
    bits[at / 64] ^= 1 << (at % 64);
}
