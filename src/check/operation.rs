//! What clients asked of one key and were answered, and what that says of the key's value. Apart from the search for an
//! order of it all, since this is what is asked of every step of such a search and of every history that is made smaller.
//!
//! Every put has a value of its own, so a value names the write that made it. An operation whose outcome
//! is unknown may take effect at any time after its call, or never.

/// A moment of the run. No two calls or returns share one.
pub type Moment = u64;

/// The key's value; none if it does not exist.
pub type Cell = Option<u64>;

/// One call and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// When the client called.
    pub called: Moment,
    /// When it was answered. None if nobody knows whether it took effect.
    pub returned: Option<Moment>,
    /// What it was.
    pub action: Action,
}

/// What was asked of the key, and the answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// A read.
    Get {
        /// What it found.
        found: Cell,
    },
    /// A write.
    Put {
        /// What it writes; no other put writes the same.
        value: u64,
        /// Its condition.
        expect: Expect,
        /// Its answer.
        outcome: Outcome,
    },
    /// A deletion of the key.
    Delete {
        /// Its condition.
        expect: Expect,
        /// Its answer.
        outcome: Outcome,
    },
    /// Part of a deletion of many keys, of which the answer tells only the sum.
    Sweep,
    /// Part of a transaction that was carried out.
    Step {
        /// What it found.
        found: Expect,
        /// What the key was after it; none: the same.
        sets: Option<Cell>,
    },
}

/// What must hold for a write to be carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Expect {
    /// Nothing.
    Anything,
    /// The key has that value.
    Value(u64),
    /// The key exists.
    Present,
    /// The key does not exist.
    Absent,
}

/// What a write was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Nobody knows.
    Unknown,
    /// It was carried out on a key that did or did not exist.
    Done {
        /// Whether the key existed before.
        existed: bool,
    },
    /// The condition did not hold: the key did not exist.
    FailedAbsent,
    /// The condition did not hold: the key existed, with that value if it is known.
    FailedPresent(Option<u64>),
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

impl Outcome {
    fn failed(self) -> bool {
        matches!(self, Outcome::FailedAbsent | Outcome::FailedPresent(_))
    }
}

impl Action {
    /// The values that it tells apart from others.
    pub(super) fn names(&self) -> Vec<u64> {
        let (expect, outcome) = match self {
            Action::Get { found } => return found.iter().copied().collect(),
            Action::Sweep => return Vec::new(),
            Action::Step { found, .. } => (*found, Outcome::Unknown),
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

    /// Whether it changed nothing, wherever it happened.
    pub(super) fn only_reads(&self) -> bool {
        match self {
            Action::Get { .. } => true,
            Action::Put { outcome, .. } => outcome.failed(),
            Action::Delete { outcome, .. } => {
                outcome.failed() || *outcome == Outcome::Done { existed: false }
            }
            Action::Step { sets, .. } => sets.is_none(),
            Action::Sweep => false,
        }
    }

    /// The value that the cell had, if the answer tells.
    pub(super) fn needs(&self) -> Cell {
        match self {
            Action::Get { found } => *found,
            Action::Put { expect, outcome, .. } | Action::Delete { expect, outcome } => {
                match (expect, outcome) {
                    (_, Outcome::FailedPresent(seen)) => *seen,
                    (Expect::Value(value), Outcome::Done { .. }) => Some(*value),
                    _ => None,
                }
            }
            Action::Step { found: Expect::Value(value), .. } => Some(*value),
            Action::Step { .. } | Action::Sweep => None,
        }
    }

    /// The cell after the action, if it can have happened on `cell` with the outcome that it had.
    pub(super) fn apply(&self, cell: Cell) -> Option<Cell> {
        let (expect, outcome, after) = match self {
            Action::Get { found } => return (*found == cell).then_some(cell),
            Action::Sweep => return Some(None),
            Action::Step { found, sets } => {
                return found.holds(cell).then_some(sets.unwrap_or(cell));
            }
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
