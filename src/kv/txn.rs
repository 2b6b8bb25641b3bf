//! The transaction: what every write of keys is a case of.
//!
//! Compares choose a branch, whose operations are carried out in order, in one revision. Compares, also those of nested
//! transactions, see the state before; operations see what earlier ones did.

use std::cell::Cell;

use bytes::Bytes;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};

use super::range::KeyRange;
use super::revision::Revision;

/// A transaction. The order of fields and variants, here and below, is part of the log's format.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Txn {
    /// What must hold for `then` to be carried out; all of it.
    pub compares: Vec<Compare>,
    /// What is done if it holds.
    pub then: Vec<Op>,
    /// What is done if it does not.
    pub otherwise: Vec<Op>,
}

/// A question about the state before the transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compare {
    /// About which keys. Of a range it must hold for every key; so it does for an empty one.
    pub over: Over,
    /// What must hold. A key that does not exist has the numbers 0, and no value: none equals or differs from it.
    pub test: Test,
}

/// One key, or the keys of a range that exist.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Over {
    /// One key, 1 to [`KEY_BYTES_MAX`](super::KEY_BYTES_MAX) bytes.
    Key(Bytes),
    /// A range.
    Range(KeyRange),
}

/// What must hold for a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Test {
    /// Its value, compared byte by byte.
    Value(Relation, Bytes),
    /// How many times it was set since it was created.
    Version(Relation, u64),
    /// The revision that created it.
    CreateRevision(Relation, Revision),
    /// The revision that last changed it.
    ModRevision(Relation, Revision),
    /// The lease that it belongs to; 0: none.
    Lease(Relation, u64),
    /// Whether it exists.
    Exists(bool),
    /// It exists, and its mod revision is one of these.
    OneOf(Vec<Revision>),
    /// It does not exist, or its mod revision is none of these.
    NoneOf(Vec<Revision>),
    /// Nothing has changed in it after that revision; deletions count. Compacted revisions have no answer.
    UnchangedSince(Revision),
}

/// How the left side of a compare has to stand to the right one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Relation {
    /// Equal.
    Eq,
    /// Not equal.
    Ne,
    /// Less.
    Lt,
    /// Less or equal.
    Le,
    /// Greater.
    Gt,
    /// Greater or equal.
    Ge,
}

/// One operation of a branch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Op {
    /// Sets one key.
    Put(Put),
    /// Deletes what exists of these.
    Delete(Over),
    /// Notes where to read these: who serves the client reads them there.
    Get(Over),
    /// A transaction inside of the transaction, in the same revision.
    Txn(#[serde(deserialize_with = "nested")] Txn),
}

/// How deep transactions may be nested.
pub const DEPTH_MAX: usize = 128;

thread_local! {
    /// How deep the transaction is nested that this thread is reading.
    static DEPTH: Cell<usize> = const { Cell::new(0) };
}

/// Reads a nested transaction, unless it is too deep: whatever bytes say, reading them takes no more than a bounded stack.
fn nested<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Txn, D::Error> {
    let depth = DEPTH.get() + 1;
    if depth > DEPTH_MAX {
        return Err(D::Error::custom("transactions are nested too deep"));
    }
    DEPTH.set(depth);
    let txn = Txn::deserialize(deserializer);
    DEPTH.set(depth - 1);
    txn
}

/// Sets one key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Put {
    /// The key, 1 to [`KEY_BYTES_MAX`](super::KEY_BYTES_MAX) bytes.
    pub key: Bytes,
    /// The value; none: the one that it had before the transaction, and its media type.
    pub value: Option<Bytes>,
    /// The media type to give back with the value.
    pub content_type: Option<String>,
    /// The lease that it belongs to from now on.
    pub lease: Attach,
}

/// Which lease a key belongs to once it is set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Attach {
    /// None.
    #[default]
    Detach,
    /// The one that it belonged to before the transaction.
    Keep,
    /// That one, 1 to 2^63-1.
    To(u64),
}

impl Put {
    /// Sets a key to a value that has no media type and belongs to no lease.
    pub fn new(key: Bytes, value: Bytes) -> Put {
        Put { key, value: Some(value), content_type: None, lease: Attach::Detach }
    }
}

impl Over {
    /// Whether `key` is meant.
    pub fn contains(&self, key: &[u8]) -> bool {
        match self {
            Over::Key(one) => one == key,
            Over::Range(range) => range.contains(key),
        }
    }

    /// Its bytes.
    pub fn cost_bytes(&self) -> usize {
        match self {
            Over::Key(key) => key.len(),
            Over::Range(range) => range.start.len() + range.end.as_ref().map_or(0, Bytes::len),
        }
    }
}

impl Txn {
    /// These operations, whatever the state is.
    pub fn always(ops: Vec<Op>) -> Txn {
        Txn { compares: Vec::new(), then: ops, otherwise: Vec::new() }
    }

    /// All operations of both branches, those of nested transactions too.
    pub fn for_each_op<'a>(&'a self, visit: &mut dyn FnMut(&'a Op)) {
        for op in self.then.iter().chain(&self.otherwise) {
            visit(op);
            if let Op::Txn(nested) = op {
                nested.for_each_op(visit);
            }
        }
    }

    /// All compares, those of nested transactions too.
    pub fn for_each_compare<'a>(&'a self, visit: &mut dyn FnMut(&'a Compare)) {
        self.compares.iter().for_each(&mut *visit);
        for op in self.then.iter().chain(&self.otherwise) {
            if let Op::Txn(nested) = op {
                nested.for_each_compare(visit);
            }
        }
    }

    /// Whether it changes nothing, whatever the state is.
    pub fn is_read_only(&self) -> bool {
        let mut reads = true;
        self.for_each_op(&mut |op| reads &= matches!(op, Op::Get(_) | Op::Txn(_)));
        reads
    }

    /// The bytes of keys and values in it, and of what holds them, roughly.
    pub fn cost_bytes(&self) -> usize {
        /// What a compare or an operation takes beside them.
        const EACH_BYTES: usize = 16;
        let mut bytes = 0;
        self.for_each_compare(&mut |compare| {
            bytes += EACH_BYTES + compare.over.cost_bytes();
            match &compare.test {
                Test::Value(_, value) => bytes += value.len(),
                Test::OneOf(revisions) | Test::NoneOf(revisions) => bytes += 8 * revisions.len(),
                _ => {}
            }
        });
        self.for_each_op(&mut |op| {
            bytes += EACH_BYTES;
            match op {
                Op::Put(put) => bytes += put.key.len() + put.value.as_ref().map_or(0, Bytes::len),
                Op::Delete(over) | Op::Get(over) => bytes += over.cost_bytes(),
                Op::Txn(_) => {}
            }
        });
        bytes
    }
}

impl Relation {
    /// Whether `left` stands so to `right`.
    pub fn holds<T: Ord + ?Sized>(self, left: &T, right: &T) -> bool {
        let order = left.cmp(right);
        match self {
            Relation::Eq => order.is_eq(),
            Relation::Ne => order.is_ne(),
            Relation::Lt => order.is_lt(),
            Relation::Le => order.is_le(),
            Relation::Gt => order.is_gt(),
            Relation::Ge => order.is_ge(),
        }
    }
}
