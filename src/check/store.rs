//! A store in one piece to make histories of. It keeps its promise, unless it is told to break it now and then.

use super::history::{Answer, Ask, Need, Seen};
use super::txn::{Came, Compare, Op, Txn};
use crate::kv::Revision;

/// How a store breaks its promise with some transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lie {
    /// The last put is thrown away.
    Torn,
    /// The other branch is carried out.
    Compare,
    /// Reads find what each key was before its last change.
    Stale,
}

/// One transaction in so many is lied about.
const LIED_EVERY: u64 = 25;

/// A store in one piece.
#[derive(Debug)]
pub(super) struct Store {
    cells: Vec<Option<(u64, Revision)>>,
    revision: Revision,
    /// When each key was last put or deleted.
    changed: Vec<Revision>,
    /// What each key was before its last change.
    former: Vec<Option<(u64, Revision)>>,
    lie: Option<Lie>,
    transactions: u64,
}

impl Store {
    /// A store of so many keys, all of them absent.
    pub(super) fn new(keys: u32, lie: Option<Lie>) -> Store {
        let none = vec![None; keys as usize];
        let changed = vec![Revision(0); none.len()];
        let revision = Revision(0);
        Store { former: none.clone(), cells: none, revision, changed, lie, transactions: 0 }
    }

    fn next(&mut self) -> Revision {
        self.revision = Revision(self.revision.0 + 1);
        self.revision
    }

    fn holds(&self, key: u32, need: Need) -> bool {
        match need {
            Need::Nothing => true,
            Need::Absent => self.cells[key as usize].is_none(),
            Need::Revision(at) => self.cells[key as usize].is_some_and(|(_, mine)| mine == at),
        }
    }

    /// Carries out what a client asks.
    pub(super) fn answer(&mut self, ask: &Ask) -> Answer {
        let failed = |cell: Option<(u64, Revision)>| Answer::ConditionFailed {
            current: cell.map(|(_, at)| at),
        };
        match *ask {
            Ask::Get { key } => {
                Answer::Found { revision: self.revision, items: seen(&self.cells, key..key + 1) }
            }
            Ask::List { from, to } => {
                Answer::Found { revision: self.revision, items: seen(&self.cells, from..to) }
            }
            Ask::Txn(ref txn) => self.txn(txn),
            Ask::Put { key, need, .. } if !self.holds(key, need) => {
                failed(self.cells[key as usize])
            }
            Ask::Put { key, value, .. } => {
                let revision = self.next();
                let before = self.set(key, revision, Some(value));
                Answer::Put { revision, created: !before }
            }
            Ask::Delete { key, .. } if self.cells[key as usize].is_none() => {
                Answer::Deleted { revision: None, count: 0 }
            }
            Ask::Delete { key, need } if !self.holds(key, need) => failed(self.cells[key as usize]),
            Ask::Delete { key, .. } => {
                let revision = self.next();
                self.set(key, revision, None);
                Answer::Deleted { revision: Some(revision), count: 1 }
            }
            Ask::Sweep { from, to } => {
                let there: Vec<u32> =
                    seen(&self.cells, from..to).iter().map(|item| item.key).collect();
                let count = there.len() as u64;
                let revision = if count > 0 { self.next() } else { self.revision };
                for key in there {
                    self.set(key, revision, None);
                }
                Answer::Deleted { revision: Some(revision), count }
            }
        }
    }

    /// Sets or deletes a key; whether it existed.
    fn set(&mut self, key: u32, revision: Revision, value: Option<u64>) -> bool {
        let cell = value.map(|value| (value, revision));
        let before = std::mem::replace(&mut self.cells[key as usize], cell);
        if before.is_some() || value.is_some() {
            self.changed[key as usize] = revision;
            self.former[key as usize] = before;
        }
        before.is_some()
    }

    fn compare(&self, compare: &Compare) -> bool {
        match *compare {
            Compare::Revision { key, revision } => {
                self.cells[key as usize].map_or(Revision(0), |(_, at)| at) == revision
            }
            Compare::Exists { key, exists } => self.cells[key as usize].is_some() == exists,
            Compare::Unchanged { from, to, since } => {
                (from..to).all(|key| self.changed[key as usize] <= since)
            }
        }
    }

    fn txn(&mut self, txn: &Txn) -> Answer {
        self.transactions += 1;
        let lie = self.lie.filter(|_| self.transactions.is_multiple_of(LIED_EVERY));
        let succeeded = txn.compares.iter().all(|compare| self.compare(compare));
        let succeeded = succeeded != (lie == Some(Lie::Compare));
        let own = Revision(self.revision.0 + 1);
        let mut results = Vec::new();
        for op in txn.branch(succeeded) {
            results.push(match *op {
                Op::Put { key, value } => {
                    self.set(key, own, Some(value));
                    Came::Put
                }
                Op::Delete { key } => Came::Deleted { count: self.set(key, own, None).into() },
                Op::Get { .. } | Op::List { .. } if lie == Some(Lie::Stale) => {
                    Came::Found { items: seen(&self.former, op.keys()) }
                }
                Op::Get { .. } | Op::List { .. } => {
                    Came::Found { items: seen(&self.cells, op.keys()) }
                }
            });
        }
        let last = txn.branch(succeeded).iter().rev().find_map(|op| match op {
            Op::Put { key, .. } => Some(*key as usize),
            _ => None,
        });
        if let (Some(key), Some(Lie::Torn)) = (last, lie) {
            self.cells[key] = self.former[key];
        }
        if results.iter().any(Came::changed) {
            self.revision = own;
        }
        Answer::Txn { revision: self.revision, succeeded, results }
    }
}

/// Those of a range that exist.
fn seen(cells: &[Option<(u64, Revision)>], range: std::ops::Range<u32>) -> Vec<Seen> {
    let seen = |key: u32| {
        let (value, revision) = cells[key as usize]?;
        Some(Seen { key, value, revision })
    };
    range.filter_map(seen).collect()
}
