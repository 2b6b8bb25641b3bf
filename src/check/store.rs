//! A store that keeps its promise, in one piece, to make histories of.

use super::history::{Answer, Ask, Need, Seen};
use super::txn::{Came, Compare, Op, Txn};
use crate::kv::Revision;

/// A store in one piece.
#[derive(Debug)]
pub(super) struct Store {
    cells: Vec<Option<(u64, Revision)>>,
    revision: Revision,
    /// When each key was last put or deleted.
    changed: Vec<Revision>,
}

impl Store {
    /// A store of so many keys, all of them absent.
    pub(super) fn new(keys: u32) -> Store {
        let none = vec![None; keys as usize];
        Store { cells: none.clone(), revision: Revision(0), changed: vec![Revision(0); none.len()] }
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
                Answer::Found { revision: self.revision, items: self.items(key, key + 1) }
            }
            Ask::List { from, to } => {
                Answer::Found { revision: self.revision, items: self.items(from, to) }
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
                let there: Vec<u32> = self.items(from, to).iter().map(|item| item.key).collect();
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
        let existed = std::mem::replace(&mut self.cells[key as usize], cell).is_some();
        if existed || value.is_some() {
            self.changed[key as usize] = revision;
        }
        existed
    }

    fn items(&self, from: u32, to: u32) -> Vec<Seen> {
        let seen = |key: u32| {
            let (value, revision) = self.cells[key as usize]?;
            Some(Seen { key, value, revision })
        };
        (from..to).filter_map(seen).collect()
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
        let succeeded = txn.compares.iter().all(|compare| self.compare(compare));
        let own = Revision(self.revision.0 + 1);
        let mut results = Vec::new();
        for op in txn.branch(succeeded) {
            results.push(match *op {
                Op::Put { key, value } => {
                    self.set(key, own, Some(value));
                    Came::Put
                }
                Op::Delete { key } => Came::Deleted { count: self.set(key, own, None).into() },
                Op::Get { key } => Came::Found { items: self.items(key, key + 1) },
                Op::List { from, to } => Came::Found { items: self.items(from, to) },
            });
        }
        if results.iter().any(Came::changed) {
            self.revision = own;
        }
        Answer::Txn { revision: self.revision, succeeded, results }
    }
}
