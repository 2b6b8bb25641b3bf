//! What a client asks next: drawn at random, with conditions from what it has seen.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::check::history::{Answer, Ask, Need};
use crate::check::txn::{Compare, Op, Txn};
use crate::kv::Revision;

/// The most operations of a branch that are drawn.
const BRANCH_MAX: u32 = 4;
/// The most keys of which it is asked whether they are unchanged; of many at once some always are not.
const UNCHANGED_KEYS_MAX: u32 = 3;

/// The questions of one client.
#[derive(Debug)]
pub(super) struct Draws {
    random: StdRng,
    keys: u32,
    /// The value that it writes next, and how far it is to the one after that.
    value: u64,
    step: u64,
    /// The last mod revision that it saw of each key.
    seen: Vec<Option<Revision>>,
    /// The newest revision that it saw.
    newest: Revision,
}

impl Draws {
    /// The questions of the `number`-th of so many clients, about so many keys.
    pub(super) fn new(seed: u64, number: u32, clients: u32, keys: u32) -> Draws {
        Draws {
            // Any other seed than its neighbours' makes another sequence.
            random: StdRng::seed_from_u64(seed.wrapping_add(u64::from(number))),
            keys,
            value: u64::from(number) + 1,
            step: u64::from(clients),
            seen: vec![None; keys as usize],
            newest: Revision(0),
        }
    }

    /// A number below that one.
    pub(super) fn below(&mut self, end: usize) -> usize {
        self.random.random_range(0..end)
    }

    /// The next question.
    pub(super) fn ask(&mut self) -> Ask {
        let (key, to) = self.range(u32::MAX);
        let unchanged = self.seen(key).map_or(Need::Nothing, Need::Revision);
        let need = match self.random.random_range(0..10) {
            0..2 => Need::Absent,
            2..6 => unchanged,
            _ => Need::Nothing,
        };
        match self.random.random_range(0..100) {
            0..32 => Ask::Get { key },
            32..38 => Ask::List { from: key, to },
            38..68 => Ask::Put { key, value: self.value(), need },
            68..76 if need == Need::Absent => Ask::Delete { key, need: Need::Nothing },
            68..76 => Ask::Delete { key, need },
            76..80 => Ask::Sweep { from: key, to },
            _ => Ask::Txn(self.txn()),
        }
    }

    /// Remembers what an answer shows.
    pub(super) fn learn(&mut self, ask: &Ask, answer: &Answer) {
        self.newest = answer.revision().map_or(self.newest, |told| told.max(self.newest));
        let mut saw = |key: u32, revision| {
            if let Some(seen) = self.seen.get_mut(key as usize) {
                *seen = Some(revision);
            }
        };
        for item in answer.items() {
            saw(item.key, item.revision);
        }
        match (ask, answer) {
            (Ask::Put { key, .. }, Answer::Put { revision, .. })
            | (
                Ask::Put { key, .. } | Ask::Delete { key, .. },
                Answer::ConditionFailed { current: Some(revision) },
            ) => saw(*key, *revision),
            (Ask::Txn(txn), Answer::Txn { revision, succeeded, .. }) => {
                for op in txn.branch(*succeeded) {
                    if let Op::Put { key, .. } = op {
                        saw(*key, *revision);
                    }
                }
            }
            _ => {}
        }
    }

    fn txn(&mut self) -> Txn {
        let compares = [0, 0, 1, 1, 1, 1, 1, 2, 2, 2][self.below(10)];
        let reads = self.random.random_ratio(1, 8);
        Txn {
            compares: (0..compares).map(|_| self.compare()).collect(),
            then: self.branch(1, reads),
            otherwise: self.branch(0, reads),
        }
    }

    fn compare(&mut self) -> Compare {
        let (key, to) = self.range(UNCHANGED_KEYS_MAX);
        // Others change most of what it saw of a key; what it saw last may still be there.
        let key_seen_last = (0..self.keys).max_by_key(|key| self.seen(*key)).unwrap_or(key);
        match self.random.random_range(0..10) {
            0..3 => Compare::Revision {
                key: key_seen_last,
                revision: self.seen(key_seen_last).unwrap_or_default(),
            },
            3 => Compare::Revision { key, revision: self.seen(key).unwrap_or_default() },
            4..6 => Compare::Exists { key, exists: self.random.random_ratio(2, 3) },
            6 => Compare::Revision { key, revision: Revision(0) },
            7 => Compare::Unchanged { from: key, to, since: self.newest },
            _ => Compare::Unchanged { from: key, to: key + 1, since: self.newest },
        }
    }

    /// Some operations; a key is changed once.
    fn branch(&mut self, least: u32, reads: bool) -> Vec<Op> {
        let mut branch: Vec<Op> = Vec::new();
        for _ in 0..self.random.random_range(least..=BRANCH_MAX) {
            let (key, to) = self.range(u32::MAX);
            let fixed = reads || branch.iter().any(|op| op.changes() == Some(key));
            branch.push(match self.random.random_range(0..10) {
                0..5 if !fixed => Op::Put { key, value: self.value() },
                5..7 if !fixed => Op::Delete { key },
                9 => Op::List { from: key, to },
                _ => Op::Get { key },
            });
        }
        branch
    }

    /// A key, and the end of a range that begins with it and has no more than so many.
    fn range(&mut self, most: u32) -> (u32, u32) {
        let key = self.random.random_range(0..self.keys);
        (key, self.random.random_range(key + 1..=self.keys.min(key.saturating_add(most))))
    }

    fn seen(&self, key: u32) -> Option<Revision> {
        self.seen.get(key as usize).copied().flatten()
    }

    fn value(&mut self) -> u64 {
        let value = self.value;
        self.value += self.step;
        value
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_fifth_are_transactions_that_may_be_asked_and_no_value_comes_twice() {
        let mut values = HashSet::new();
        for (number, keys) in [(0, 1), (1, 8), (2, 64)] {
            let mut draws = Draws::new(7, number, 3, keys);
            let mut transactions = 0;
            for _ in 0..2000 {
                let ask = draws.ask();
                assert!((0..keys).any(|key| ask.touches(key)), "{ask}");
                assert!(ask.puts().all(|(key, value)| key < keys && values.insert(value)), "{ask}");
                if let Ask::Txn(txn) = &ask {
                    transactions += 1;
                    txn.fits().unwrap();
                    assert!(txn.is_inside(keys), "{ask}");
                }
            }
            assert!((300..500).contains(&transactions), "{transactions}");
        }
    }
}
