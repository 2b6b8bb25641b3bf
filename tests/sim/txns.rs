//! Transactions over several keys: which are asked for, and what one means for each key.

use std::collections::BTreeMap;

use konsen::check::operation::{Action, Expect, Outcome as Came};
use konsen::kv::{
    Attach, Compare, KeyRange, Op, OpOutcome, Over, Put, Relation, Revision, Test, Txn, TxnOutcome,
    Write,
};

use super::clients::{key_name, key_of, value_bytes};
use super::random::Random;

/// What a transaction is made from.
#[derive(Clone, Debug)]
pub(crate) struct TxnAsk {
    seed: u64,
    keys: u64,
    /// Mod revisions that the client has seen, by key.
    seen: BTreeMap<u64, Revision>,
    newest: Revision,
    /// Whether puts may keep the value that a key has. Then no value names the write that made it any more.
    keeps: bool,
}

impl TxnAsk {
    pub(crate) fn draw(
        random: &mut Random,
        keys: u64,
        seen: &BTreeMap<u64, Revision>,
        newest: Revision,
    ) -> TxnAsk {
        TxnAsk { seed: random.next(), keys, seen: seen.clone(), newest, keeps: false }
    }

    /// The same, with puts that keep values.
    pub(crate) fn keeping(self) -> TxnAsk {
        TxnAsk { keeps: true, ..self }
    }

    /// The write; its puts carry the request's value.
    pub(crate) fn write(&self, request: u64) -> Write {
        let mut random = Random::new(self.seed);
        let txn = self.txn(&mut random, request, 2);
        // Now and then so few that it is refused, on all replicas or on none.
        let keys_max = if random.chance(200) { random.below(4) } else { 1000 };
        Write::Txn { txn, keys_max }
    }

    fn txn(&self, random: &mut Random, request: u64, depth: u64) -> Txn {
        let compares = (0..random.below(3)).map(|_| self.compare(random)).collect();
        let then = self.branch(random, request, depth);
        let otherwise =
            if random.chance(500) { self.branch(random, request, depth) } else { Vec::new() };
        Txn { compares, then, otherwise }
    }

    /// Puts and deletions of keys of their own, as servers ask of a branch; nested ones may touch them again.
    fn branch(&self, random: &mut Random, request: u64, depth: u64) -> Vec<Op> {
        let mut free: Vec<u64> = (0..self.keys).collect();
        random.shuffle(&mut free);
        let mut ops = Vec::new();
        for _ in 0..random.below(5) {
            let get = Op::Get(self.over(random));
            let Some(key) = free.pop() else { break };
            ops.push(match random.below(10) {
                0..5 => Op::Put(self.put(random, key, request)),
                5 | 6 => Op::Delete(Over::Key(key_name(key))),
                7 if ops.is_empty() && random.chance(300) => {
                    let from = random.below(self.keys);
                    let to = random.range(from, self.keys);
                    free.retain(|key| !(from..to).contains(key));
                    Op::Delete(range(from, to))
                }
                8 if depth > 0 => Op::Txn(self.txn(random, request, depth - 1)),
                _ => get,
            });
        }
        ops
    }

    fn put(&self, random: &mut Random, key: u64, request: u64) -> Put {
        let put = Put::new(key_name(key), value_bytes(request));
        match random.below(40) {
            0 if self.keeps => Put { value: None, lease: Attach::Keep, ..put },
            1 => Put { lease: Attach::To(1 + random.below(9)), ..put },
            2..5 => Put { content_type: Some("text/plain".to_owned()), ..put },
            _ => put,
        }
    }

    fn over(&self, random: &mut Random) -> Over {
        let from = random.below(self.keys);
        match random.chance(700) {
            true => Over::Key(key_name(from)),
            false => range(from, random.range(from, self.keys)),
        }
    }

    fn compare(&self, random: &mut Random) -> Compare {
        let over = match self.seen.iter().nth(random.below(8) as usize) {
            Some((&key, _)) if random.chance(700) => Over::Key(key_name(key)),
            _ => self.over(random),
        };
        let known = match &over {
            Over::Key(key) => key_of(key).and_then(|key| self.seen.get(&key)).copied(),
            Over::Range(_) => None,
        };
        let relation = *random.pick(&[
            Relation::Eq,
            Relation::Ne,
            Relation::Lt,
            Relation::Le,
            Relation::Gt,
            Relation::Ge,
        ]);
        let near = Revision(self.newest.0.saturating_sub(random.below(20)));
        let test = match (random.below(9), known) {
            (0..2, Some(known)) => Test::ModRevision(Relation::Eq, known),
            (2, Some(known)) => Test::OneOf(vec![known, near]),
            (3, known) => Test::NoneOf(vec![known.unwrap_or(near)]),
            (4, known) => Test::Value(relation, value_bytes(known.unwrap_or(near).0)),
            (5, _) => Test::Version(relation, random.below(4)),
            (6, _) => Test::Exists(random.chance(500)),
            (7, _) => Test::CreateRevision(relation, near),
            _ => Test::UnchangedSince(near),
        };
        Compare { over, test }
    }

    /// What it did to a key; none if nothing. Whether the key existed counts only if it was answered.
    pub(crate) fn action(
        &self,
        request: u64,
        key: u64,
        outcome: &TxnOutcome,
        answered: bool,
    ) -> Option<Action> {
        let Write::Txn { txn, .. } = self.write(request) else { return None };
        let mut did = Did::default();
        did.follow(&txn, outcome, &key_name(key));
        let Did { before, after } = did;
        let came = match before.filter(|_| answered) {
            Some(existed) => Came::Done { existed },
            None => Came::Unknown,
        };
        Some(match after? {
            After::Put => Action::Put { value: request, expect: Expect::Anything, outcome: came },
            After::Deleted => Action::Delete { expect: Expect::Anything, outcome: came },
            After::Swept => Action::Sweep,
        })
    }
}

fn range(from: u64, to: u64) -> Over {
    Over::Range(KeyRange { start: key_name(from), end: Some(key_name(to)) })
}

/// What became of a key in the course of a transaction.
#[derive(Default)]
struct Did {
    /// Whether it existed before, if the first thing that happened to it tells.
    before: Option<bool>,
    after: Option<After>,
}

#[derive(Clone, Copy)]
enum After {
    Put,
    Deleted,
    /// It was in a range that was deleted, whether or not it existed.
    Swept,
}

impl Did {
    fn follow(&mut self, txn: &Txn, outcome: &TxnOutcome, key: &[u8]) {
        let branch = if outcome.succeeded { &txn.then } else { &txn.otherwise };
        for (op, result) in branch.iter().zip(&outcome.results) {
            match (op, result) {
                (Op::Put(put), OpOutcome::Put { previous }) if put.key == key => {
                    self.does(Some(previous.is_some()), After::Put);
                }
                (Op::Delete(Over::Key(one)), OpOutcome::Deleted { count, .. }) if one == key => {
                    self.does(Some(*count > 0), After::Deleted);
                }
                (Op::Delete(Over::Range(range)), OpOutcome::Deleted { .. })
                    if range.contains(key) =>
                {
                    self.does(None, After::Swept);
                }
                (Op::Txn(nested), OpOutcome::Txn(outcome)) => self.follow(nested, outcome, key),
                _ => {}
            }
        }
    }

    fn does(&mut self, existed: Option<bool>, after: After) {
        if self.after.is_none() {
            self.before = existed;
        }
        self.after = Some(match (after, self.after) {
            (After::Deleted, Some(After::Swept)) => After::Swept,
            (after, _) => after,
        });
    }
}
