//! Broken invariants: what the protocol rules out, and was seen all the same.

use super::id::{Index, LogId, NodeId, Term};
use super::membership::ClusterId;

/// What was seen that cannot be. Somebody has lost what was on its disk, has had an old copy of it put in its place, or
/// carries out the protocol wrongly; which of the nodes, none of them can tell. Whoever goes on might acknowledge what
/// others have decided otherwise, so the node stops, and says what it saw.
///
/// None of this comes of loss, delay, repetition or reordering. A message of an earlier term is answered with the newer
/// one and believed in nothing, and one that comes twice says what is held already. Strangers, who are heard since a node may
/// lag behind the membership, are not believed against what is held here, nor is anybody by a node that has no membership
/// yet and may have heard of two clusters: what they say is dropped. So it takes a member that claims to lead the present
/// or a newer term. One that lies could stop others by this; but a member that lies can do worse, and the protocol is none
/// against liars.
///
/// By an operator it can come about: who undoes a change of the membership by force, although the other side has decided it,
/// makes two clusters of one name, of which each stops at what the other one says as a member.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Broken {
    /// A leader's log has another entry where this node's is committed (section 5.4.3: leader completeness). By one message.
    #[error(
        "node {from}, as the leader of term {}, has an entry of term {} at index {} of its log, where this node has one of \
         term {}, which is decided, as is all up to {commit}: what was decided is lost or changed",
        .term.0, .said.term.0, .said.index, .held.term.0
    )]
    ContradictsCommitted {
        /// Who says so.
        from: NodeId,
        /// The term that it leads.
        term: Term,
        /// The entry in its log.
        said: LogId,
        /// The one in this node's.
        held: LogId,
        /// How far this node's is committed.
        commit: Index,
    },
    /// Two nodes lead the same term (section 5.2: election safety). By a message of each, or of one if the other is this
    /// node.
    #[error("nodes {leader} and {other} both lead term {}: somebody has voted twice", .term.0)]
    SecondLeader {
        /// The term.
        term: Term,
        /// Whom this node knew to lead it; it may be this node itself.
        leader: NodeId,
        /// Who says that it does, too.
        other: NodeId,
    },
    /// A snapshot is in the state's place that cannot be one of what was decided. By no message of the protocol alone: who
    /// takes a snapshot in has asked the core first whether it wants it.
    #[error(
        "the snapshot up to entry {} of term {} that node {from} sent is in the state's place, and {doubt}; this node is in \
         term {}, and all up to {commit} is decided",
        .last.index, .last.term.0, .term.0
    )]
    SnapshotNotCredible {
        /// Who sent it.
        from: NodeId,
        /// The last entry that it covers.
        last: LogId,
        /// This node's term.
        term: Term,
        /// How far its log is committed.
        commit: Index,
        /// Why it cannot be right.
        doubt: Doubt,
    },
    /// The state machine is to apply an entry that does not follow the last one. By no message: within this node alone.
    #[error(
        "entry {} of term {} is to be applied after entry {} of term {}, which it does not follow",
        .next.index, .next.term.0, .applied.index, .applied.term.0
    )]
    Gap {
        /// The last entry that was applied.
        applied: LogId,
        /// The one that is to be.
        next: LogId,
    },
}

/// Why a snapshot cannot be one of what was decided.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Doubt {
    /// A leader holds all that is committed.
    #[error("this node leads and does not hold that entry")]
    UnknownToLeader,
    /// Whoever sent it spoke in its term or a newer one.
    #[error("nobody has told this node of such a term")]
    NewerTerm,
    /// Committed entries are the same everywhere.
    #[error("another entry, of term {}, is decided there", .0.0)]
    ContradictsCommitted(Term),
    /// Snapshots of other clusters are not taken in.
    #[error("it is one of cluster {0}, which is another")]
    OtherCluster(ClusterId),
    /// No log is that long.
    #[error("no log can be that long")]
    TooFar,
}
