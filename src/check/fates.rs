//! What became of each transaction: as its client was told or, if nobody told, as values give away that only it can have
//! written. Apart from the judges, since all of them ask for it.

use std::collections::{HashMap, HashSet};

use super::history::{Answer, Ask, Call, Seen};
use super::judge::Violation;
use super::operation::Moment;
use super::txn::{Came, Txn};
use crate::kv::Revision;

/// Which write a value names.
#[derive(Clone, Copy, Debug)]
pub(super) struct Write {
    pub(super) call: usize,
    pub(super) key: u32,
    /// Of a transaction, whether it stands in `then`.
    pub(super) in_then: Option<bool>,
}

/// The write of each value.
pub(super) fn writes(calls: &[Call]) -> HashMap<u64, Write> {
    let mut writes = HashMap::new();
    for (call, one) in calls.iter().enumerate() {
        match &one.ask {
            Ask::Put { key, value, .. } => {
                writes.insert(*value, Write { call, key: *key, in_then: None });
            }
            Ask::Txn(txn) => {
                let write = |in_then, key| Write { call, key, in_then: Some(in_then) };
                writes.extend(txn.puts().map(|put| (put.value, write(put.in_then, put.key))));
            }
            _ => {}
        }
    }
    writes
}

/// How a transaction was carried out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fate<'a> {
    /// The revision after it.
    pub(super) at: Revision,
    /// Which branch.
    pub(super) succeeded: bool,
    /// Whether the revision is its own.
    pub(super) changed: bool,
    /// What its operations came to, if that was told.
    pub(super) results: Option<&'a [Came]>,
    /// The call that tells: itself, or one that read what it wrote.
    pub(super) witness: usize,
}

/// What became of all transactions.
#[derive(Debug, Default)]
pub(super) struct Fates<'a> {
    known: HashMap<usize, Fate<'a>>,
    /// The values that somebody read.
    seen: HashSet<u64>,
}

impl<'a> Fate<'a> {
    /// What became of an answered transaction.
    pub(super) fn told(call: usize, answer: &'a Answer) -> Option<Fate<'a>> {
        let Answer::Txn { revision, succeeded, results } = answer else { return None };
        Some(Fate {
            at: *revision,
            succeeded: *succeeded,
            changed: answer.changed(),
            results: Some(results),
            witness: call,
        })
    }

    /// The revision of the state that its compares looked at.
    pub(super) fn before(&self) -> Revision {
        Revision(self.at.0.saturating_sub(u64::from(self.changed)))
    }

    /// The revision as of which its `op`-th operation sees a key.
    pub(super) fn as_of(&self, txn: &Txn, op: usize, key: u32) -> Revision {
        if txn.is_changed(self.succeeded, op, key) { self.at } else { self.before() }
    }

    /// What the operation came to, if that was told.
    pub(super) fn came(&self, op: usize) -> Option<&'a Came> {
        self.results?.get(op)
    }

    /// When somebody knew of it.
    pub(super) fn returned(&self, calls: &[Call]) -> Moment {
        calls[self.witness].returned.unwrap_or(Moment::MAX)
    }
}

impl<'a> Fates<'a> {
    /// Gathers them. That an unanswered one is seen at two revisions, or in both branches, is a violation.
    pub(super) fn of(
        calls: &'a [Call],
        writes: &HashMap<u64, Write>,
    ) -> Result<Fates<'a>, Violation> {
        let mut fates = Fates::default();
        for (at, call) in calls.iter().enumerate() {
            fates.known.extend(Fate::told(at, &call.answer).map(|fate| (at, fate)));
            for item in call.answer.items() {
                fates.seen.insert(item.value);
                fates.see(item, at, calls, writes)?;
            }
        }
        Ok(fates)
    }

    /// What became of this call.
    pub(super) fn get(&self, call: usize) -> Option<&Fate<'a>> {
        self.known.get(&call)
    }

    /// Whether somebody read the value.
    pub(super) fn is_seen(&self, value: u64) -> bool {
        self.seen.contains(&value)
    }

    fn see(
        &mut self,
        item: &Seen,
        witness: usize,
        calls: &[Call],
        writes: &HashMap<u64, Write>,
    ) -> Result<(), Violation> {
        let Some(write) = writes.get(&item.value) else { return Ok(()) };
        let (Some(succeeded), Answer::Unknown) = (write.in_then, &calls[write.call].answer) else {
            return Ok(());
        };
        let fate = Fate { at: item.revision, succeeded, changed: true, results: None, witness };
        let known = self.known.entry(write.call).or_insert(fate);
        if known.at == fate.at && known.succeeded == succeeded {
            if fate.returned(calls) < known.returned(calls) {
                known.witness = witness;
            }
            return Ok(());
        }
        let rule = if known.succeeded == succeeded {
            format!("a transaction shows at two revisions, {} and {}", known.at, fate.at)
        } else {
            "a transaction shows with both of its branches".to_owned()
        };
        Err(Violation::of(Some(item.key), rule, vec![write.call, known.witness, witness]))
    }
}
