//! Transactions as clients ask for them and are answered: what replicas carry out, and what only whoever serves the client
//! needs to know, such as which previous values to give back.

mod answer;
mod check;
mod fields;
mod parse;
mod relations;
mod write;

pub use answer::{TxnDone, TxnJson, TxnResult};
pub use relations::{RELATIONS, relation_of};

use super::kind::Kind;
use crate::kv::{Compare, Op, Over, Put, Txn, Write};

/// How many times as many compares and operations as a list may have a transaction may have in all, nested ones included.
pub const TXN_LISTS_MAX: usize = 8;
/// How deep transactions may be nested; one without nested ones has the depth 1.
pub const TXN_DEPTH_MAX: usize = 32;
/// How many bytes the keys and values of a transaction may have beyond the largest value.
pub const TXN_EXTRA_BYTES_MAX: usize = 64 * 1024;

/// What a transaction may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TxnLimits {
    /// The most operations of a list, and compares; of nested lists what the longest list around them leaves.
    pub operations_max: usize,
    /// The largest value, in bytes. All keys and values together may have [`TXN_EXTRA_BYTES_MAX`] more.
    pub value_bytes_max: usize,
}

/// A transaction that a client asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TxnRequest {
    /// What must hold for `then` to be carried out; all of it.
    pub compares: Vec<Compare>,
    /// What is done if it holds.
    pub then: Vec<TxnOp>,
    /// What is done if it does not.
    pub otherwise: Vec<TxnOp>,
}

/// One operation of a branch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TxnOp {
    /// Sets a key.
    Put {
        /// The key, and what it is set to.
        put: Put,
        /// Whether the answer has what it was before.
        previous: bool,
    },
    /// Deletes what exists of these.
    Delete {
        /// Which keys.
        over: Over,
        /// Whether the answer has what they were before.
        previous: bool,
    },
    /// Reads these, as the operations before left them.
    Get {
        /// Which keys.
        over: Over,
        /// The most items; none: as many as an answer may have.
        limit: Option<usize>,
        /// Without values.
        keys_only: bool,
    },
    /// A transaction inside of the transaction, in the same revision.
    Txn(TxnRequest),
}

/// A transaction that is not carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct TxnError {
    /// What is wrong.
    pub kind: Kind,
    /// Where, and what would be right.
    pub detail: String,
}

impl TxnError {
    fn new(kind: Kind, detail: impl Into<String>) -> TxnError {
        TxnError { kind, detail: detail.into() }
    }
}

impl TxnRequest {
    /// The command that replicas carry out: the same without what they need not know. At most `keys_max` keys of ranges are
    /// looked at.
    pub fn lower(&self, keys_max: u64) -> Write {
        Write::Txn { txn: self.txn(), keys_max }
    }

    /// Whether it changes nothing, whatever the state is.
    pub fn is_read_only(&self) -> bool {
        self.branches().all(|op| match op {
            TxnOp::Put { .. } | TxnOp::Delete { .. } => false,
            TxnOp::Get { .. } => true,
            TxnOp::Txn(nested) => nested.is_read_only(),
        })
    }

    /// Shows all keys and ranges that it names, those of nested transactions too.
    pub fn for_each_over(&self, visit: &mut dyn FnMut(&Over)) {
        self.compares.iter().for_each(|compare| visit(&compare.over));
        for op in self.branches() {
            match op {
                TxnOp::Put { put, .. } => visit(&Over::Key(put.key.clone())),
                TxnOp::Delete { over, .. } | TxnOp::Get { over, .. } => visit(over),
                TxnOp::Txn(nested) => nested.for_each_over(visit),
            }
        }
    }

    /// Whether something may have to be read for its answer, beside what replicas tell.
    pub fn reads(&self) -> bool {
        self.branches().any(|op| match op {
            TxnOp::Put { previous, .. } | TxnOp::Delete { previous, .. } => *previous,
            TxnOp::Get { .. } => true,
            TxnOp::Txn(nested) => nested.reads(),
        })
    }

    /// The operations of both branches, without those of nested transactions.
    fn branches(&self) -> impl Iterator<Item = &TxnOp> {
        self.then.iter().chain(&self.otherwise)
    }

    fn txn(&self) -> Txn {
        let ops = |ops: &[TxnOp]| ops.iter().map(TxnOp::op).collect();
        let (compares, then, otherwise) =
            (self.compares.clone(), ops(&self.then), ops(&self.otherwise));
        Txn { compares, then, otherwise }
    }
}

impl TxnOp {
    fn op(&self) -> Op {
        match self {
            TxnOp::Put { put, .. } => Op::Put(put.clone()),
            TxnOp::Delete { over, .. } => Op::Delete(over.clone()),
            TxnOp::Get { over, .. } => Op::Get(over.clone()),
            TxnOp::Txn(nested) => Op::Txn(nested.txn()),
        }
    }
}

#[cfg(test)]
mod tests;
