//! What became of a write that was applied. The order of fields and variants is part of the wire format.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::auth::{AccessRefusal, AccessRevision};
use super::revision::Revision;
use super::row_id::RowId;

/// What became of a write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// The store's revision after the write.
    pub revision: Revision,
    /// What happened.
    pub outcome: Outcome,
}

/// What a write did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// A branch was carried out. The revision has grown if that changed anything.
    Txn(TxnOutcome),
    /// What the branch asks for cannot be; nothing changed.
    Refused(Refusal),
    /// Its ranges hold more keys than may be looked at in one write; nothing changed.
    TooManyKeys,
    /// The values that it looks at are too large together; nothing changed.
    TooManyBytes,
    /// The first keys of a range were deleted, possibly none; with none the revision did not grow.
    Stepped {
        /// How many.
        count: u64,
        /// Where the next step goes on; none: the range is done.
        next: Option<Bytes>,
    },
    /// The past before the revision that was named cannot be read any more.
    Compacted,
    /// The revision that was named is compacted; nothing changed. Named by a compaction or by a compare.
    CompactedAlready {
        /// The oldest revision that can be read.
        oldest: Revision,
    },
    /// The reply's revision is the newest, and the one that was named comes after it; nothing changed.
    NotReached,
    /// The command is not one that is allowed; nothing changed.
    Invalid {
        /// Why, for the client.
        reason: String,
    },
    /// The feature level is what was asked for, or higher.
    Raised,
    /// The settings are what was asked for.
    Agreed,
    /// Who may do what is as was asked for.
    AccessChanged {
        /// As of this change, or of an earlier one.
        revision: AccessRevision,
        /// Whether what it named was there before.
        found: bool,
    },
    /// Who may do what cannot be changed so; nothing changed.
    AccessRefused(AccessRefusal),
    /// Who may do what has changed since the write was admitted: whether it is still allowed has to be found out again;
    /// nothing changed.
    Outdated,
    /// What is kept of a node's audit is what was asked for.
    Anchored,
}

/// What a transaction did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TxnOutcome {
    /// Whether all compares held, so that `then` was carried out.
    pub succeeded: bool,
    /// What each operation of the branch came to.
    pub results: Vec<OpOutcome>,
}

/// What an operation came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OpOutcome {
    /// The key is set.
    Put {
        /// The change that its value was before; none: it did not exist.
        previous: Option<RowId>,
    },
    /// Keys were deleted. Each of the changes leads back to what the key was before.
    Deleted {
        /// How many.
        count: u64,
        /// Which of the revision's changes is the first of them.
        first: u32,
    },
    /// The key, as the operations before left it.
    Got {
        /// The change that its value is; none: it does not exist.
        newest: Option<RowId>,
    },
    /// A range has to be read as the operations before left it.
    Range {
        /// The first change that does not count. If the transaction has changed nothing, that is the one which is yet to come.
        before: RowId,
    },
    /// What the nested transaction did.
    Txn(TxnOutcome),
}

/// What a branch asks for and cannot be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    /// The value of a key is to be kept that did not exist before the transaction.
    NothingToKeep {
        /// The key.
        key: Bytes,
    },
    /// A key is to belong to a lease that does not exist.
    NoSuchLease {
        /// The key.
        key: Bytes,
        /// The lease.
        lease: u64,
    },
}

/// What a write of one key came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Single {
    /// It is set; its mod revision is the reply's.
    Put {
        /// Whether it did not exist before.
        created: bool,
    },
    /// So many keys were deleted.
    Deleted {
        /// How many.
        count: u64,
    },
    /// The condition did not hold; nothing changed.
    ConditionFailed {
        /// The key's mod revision, if it exists.
        current: Option<Revision>,
    },
}

impl Outcome {
    /// What a write with one operation came to; none if it was another, or was refused.
    pub fn single(&self) -> Option<Single> {
        let Outcome::Txn(TxnOutcome { succeeded, results }) = self else { return None };
        match (succeeded, &results[..]) {
            (true, [OpOutcome::Put { previous }]) => {
                Some(Single::Put { created: previous.is_none() })
            }
            (true, [OpOutcome::Deleted { count, .. }]) => Some(Single::Deleted { count: *count }),
            (false, [OpOutcome::Got { newest }]) => {
                Some(Single::ConditionFailed { current: newest.map(|id| id.revision) })
            }
            _ => None,
        }
    }
}
