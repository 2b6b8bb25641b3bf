//! The ways in which a request may end badly.

use serde::{Deserialize, Serialize};

use crate::kv::Revision;

/// Why a request was not, or perhaps not, carried out. The order of the variants is part of the wire format.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum Error {
    /// No leader took the request within the deadline. Not applied.
    #[error("no leader is known; the cluster may be electing one")]
    NoLeader,
    /// A queue is full. Not applied.
    #[error("too many requests are waiting")]
    Busy,
    /// The node is stopping. Not applied.
    #[error("the node is shutting down")]
    ShuttingDown,
    /// The write was given up before any leader had it, or another entry took its place. Not applied.
    #[error("the write was not applied: leadership changed")]
    NotApplied,
    /// The leader's release does not know such a request. Not applied.
    #[error("the leader runs a release that does not know such a request; upgrade it")]
    NotUnderstood,
    /// The deadline passed while the write may be on its way, or the leader that had it is gone. Unknown.
    #[error(
        "nobody tells what became of it: the deadline passed, or the leader that had it is gone"
    )]
    Unknown,
    /// The deadline of a read passed. A read has no effect.
    #[error("the deadline passed before the read could be answered")]
    ReadTimedOut,
    /// The leader's disk, or those of too many others, have less room than `limits.freeSpace`. Not applied.
    #[error(
        "too little room on the disk of the leader, or of too many others; writes go on once there is more"
    )]
    DiskFull,
    /// The revision asked for is compacted away.
    #[error("revision {asked} is compacted; the oldest readable one is {oldest}")]
    Compacted {
        /// What was asked for.
        asked: Revision,
        /// The oldest revision that can be read.
        oldest: Revision,
    },
    /// The revision asked for lies in the future.
    #[error("revision {asked} is not reached yet; the store is at {newest}")]
    Future {
        /// What was asked for.
        asked: Revision,
        /// The newest revision.
        newest: Revision,
    },
    /// Lease reads are off in this cluster.
    #[error("lease reads are off; set reads.lease: true")]
    LeaseReadsOff,
    /// The state could not be read; the node stops.
    #[error("the state could not be read")]
    Storage,
    /// Too many listings and reads of the past are under way. Not applied.
    #[error("too many listings and reads of the past are under way (limits.reads)")]
    TooManyReads,
    /// Too many wait for a change. Not applied.
    #[error("too many requests wait for a change (limits.waiters)")]
    TooManyWaiters,
    /// The node knows of no cluster that it could say something of. Not applied.
    #[error(
        "this node belongs to no cluster yet: none was founded, or it was not taken into the one that there is"
    )]
    NoCluster,
    /// What the node would say of the cluster is out of date. Not applied.
    #[error("this node is no member of the cluster, as far as it knows; ask one that is")]
    NotAMember,
    /// No leader took the request within the deadline, and none can be elected, for the reason given. Not applied.
    #[error("{0}")]
    NoElection(String),
    /// So many backups are under way, the most at a time. Nothing was read.
    #[error("{0} backups are under way, the most at a time (limits.backups)")]
    TooManyBackups(usize),
    /// The request belongs to a feature level that the cluster is not raised to. Not applied.
    #[error("{0}")]
    LevelTooLow(String),
    /// Nobody shows who asks, and not everybody may. Nothing was done.
    #[error(
        "this cluster asks who you are: show a client certificate of its authority, or a token (Authorization: Bearer TOKEN)"
    )]
    Unauthenticated,
    /// Whoever asks may not do all of this. Nothing was done.
    #[error("{0}")]
    Forbidden(String),
}

/// Why leadership was not handed over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransferError {
    /// The membership has nobody of that name.
    #[error("{name:?} is no member; the members are {members}")]
    NoSuchMember {
        /// Who was to lead.
        name: String,
        /// Everybody's names.
        members: String,
    },
    /// The member has no vote, so it cannot lead.
    #[error("{0} is a learner, which cannot lead; promote it first")]
    Learner(String),
    /// There is no other voter.
    #[error("there is no other voter that could lead")]
    Alone,
    /// The leader does not hear the voter, which therefore cannot take over.
    #[error(
        "{name} cannot be reached from the leader, so it cannot lead; see in `konsen status` who can{}",
        if *.tried { ". It was asked to while it still seemed to answer, so leadership may yet move" } else { "" }
    )]
    Unreachable {
        /// Who was to lead.
        name: String,
        /// Whether it was asked to take over before that was noticed.
        tried: bool,
    },
    /// As with any request. If the deadline passed, leadership may still move.
    #[error(transparent)]
    Failed(#[from] Error),
}

/// Why the membership was not changed. The order of the variants is part of the wire format.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum ChangeError {
    /// Nobody of that name belongs to the cluster. Nothing was changed.
    #[error("{0}")]
    NoSuchMember(String),
    /// The change is not to be made, for the reason given. Nothing was changed.
    #[error("{0}")]
    Refused(String),
    /// As with any request.
    #[error(transparent)]
    Failed(#[from] Error),
}
