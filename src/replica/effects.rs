//! The seam of a replica: what happens to it, and what it wants done.

use std::collections::BTreeSet;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::cluster::{Change, ChangeRefused, Known, Shown};
use crate::kv::{AccessRevision, Reply, Revision, Write};
use crate::raft::{
    Broken, Entry, Fetch, Index, Input, LogId, LogWrite, Membership, Message, NodeId, PeerProgress,
    ReadRounds, Refused, RoleName, SoftState, Term,
};

/// Names a client's request between the replica and the one who asks. Never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// Who asks for a write, and what it names that by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The caller, if that is known.
    pub caller: Option<String>,
    /// The caller's name for the request.
    pub token: Option<String>,
    /// By which state of who may do what the caller was found to be allowed; none: the cluster itself asks.
    pub admitted: Option<AccessRevision>,
}

/// What happens to a replica.
#[derive(Clone, Debug)]
pub enum Event {
    /// Something that concerns the protocol: a message, a tick, a finished write.
    Raft(Input),
    /// A client wants something changed.
    Write {
        /// Comes back in [`Effects::writes`].
        id: RequestId,
        /// What.
        write: Write,
        /// Who asks.
        origin: Origin,
    },
    /// A client wants to read linearizably.
    Read {
        /// Comes back in [`Effects::reads`].
        id: RequestId,
        /// Whether the leader's lease suffices, if it holds one.
        lease: bool,
    },
    /// How much room this node's disk has, if that has changed.
    Capacity(Capacity),
    /// A peer says how much room its disk has: little, or enough again.
    PeerCapacity {
        /// The peer.
        peer: NodeId,
        /// Its room.
        capacity: Capacity,
    },
    /// A [`Lookup`] that was waited for has ended.
    LookedUp(LookedUp),
    /// The membership is to change, from the one in force when this is stepped.
    Change {
        /// Comes back in [`Effects::changes`].
        id: RequestId,
        /// How.
        step: Step,
        /// Who is connected, this node included, as each showed itself.
        hosts: Vec<Shown>,
    },
}

/// What apply needs of a file, to be looked up by a thread that may wait for the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// Apply will need the rows of these commands: see [`State::fetch_rows_ahead`](crate::store::State::fetch_rows_ahead). May
    /// be dropped.
    RowsAhead(Vec<Bytes>),
    /// Apply waits for the rows of these commands; answered by [`LookedUp::Rows`].
    Rows(Vec<Bytes>),
    /// Apply waits for entries that have left the memory; answered by [`LookedUp::Entries`].
    Entries {
        /// The first.
        from: Index,
        /// The last, inclusive.
        to: Index,
        /// Stop after the entry with which this many bytes are reached.
        max_bytes: usize,
    },
}

/// What became of a [`Lookup`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LookedUp {
    /// The rows have been fetched.
    Rows,
    /// The entries, one after the other; none if the log begins after them.
    Entries(Vec<Entry>),
}

/// A change of the membership.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// What an operator asks for.
    Operator {
        /// What.
        change: Change,
        /// Whether to take the risks that the refusals name.
        force: bool,
    },
    /// What a leader does by itself, if there is anything to do.
    Reconcile,
    /// The change that is under way is to be undone; see [`Input::UndoChange`].
    Undo {
        /// Whether at any risk.
        force: bool,
    },
}

/// A change of the membership that was taken into the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposed {
    /// Its entry.
    pub at: LogId,
    /// The voters before it.
    pub before: BTreeSet<NodeId>,
    /// The membership once the change is complete.
    pub membership: Membership,
    /// What it is, for a log.
    pub what: String,
}

/// Why a change of the membership was not taken into the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChangeFailed {
    /// It is not to be made.
    Refused(ChangeRefused),
    /// The membership is as wanted, or there is nothing to do.
    Unneeded,
    /// This node leads and would lose its vote: another has to lead first.
    OwnSeat,
    /// As with any proposal.
    NotTaken(Refused),
}

/// How much room there is on a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capacity {
    /// Whether it is so little that clients' writes are to be refused.
    pub low: bool,
    /// How many bytes of entries fit; counts only while it is low.
    pub entries_bytes: u64,
    /// Whether so much waits for a checkpoint that nothing more can be applied: such a node serves nothing but what is
    /// old. Counts only while there is little room.
    pub stuck: bool,
}

impl Default for Capacity {
    /// Enough for everything.
    fn default() -> Capacity {
        Capacity { low: false, entries_bytes: u64::MAX, stuck: false }
    }
}

/// What a replica wants done. The messages may leave at once and in any order with the rest.
#[must_use = "what the replica decided must be carried out"]
#[derive(Debug, Default)]
pub struct Effects {
    /// An invariant of the protocol is broken: stop, and tell what was seen. Nothing else is to be done then.
    pub fatal: Option<Broken>,
    /// To make durable, in order; each answered by `Input::Persisted`.
    pub persist: Vec<LogWrite>,
    /// What the log need not hold any more, once all of that is written: the state's file does.
    pub compact_to: Option<LogId>,
    /// To send.
    pub send: Vec<Message>,
    /// To read from the log off this thread; each answered by `Input::Fetched`.
    pub fetch: Vec<Fetch>,
    /// To look up off this thread, in order.
    pub lookups: Vec<Lookup>,
    /// Writes that are decided.
    pub writes: Vec<(RequestId, Result<Reply, WriteFailed>)>,
    /// Reads for which the local state is fresh enough now, or that were refused.
    pub reads: Vec<(RequestId, Result<(), ReadRefused>)>,
    /// Membership changes that were taken into the log, or refused.
    pub changes: Vec<(RequestId, Result<Proposed, ChangeFailed>)>,
    /// Role, term or leader, if one changed.
    pub standing: Option<SoftState>,
    /// The membership in force, if it changed.
    pub membership: Option<Membership>,
    /// The newest membership that is committed, if that changed.
    pub committed: Option<Known>,
    /// The rounds for reads that began or ended, for whoever counts.
    pub read_rounds: ReadRounds,
    /// The last index applied, if it grew.
    pub applied: Option<Index>,
    /// Whom to tell how much room this node's disk has, if that is little or was; it comes back there as [`Event::PeerCapacity`]. May
    /// be lost.
    pub tell_capacity: Option<(NodeId, Capacity)>,
    /// Whether a peer has not been told of what is committed. If no other effects follow within a moment, step
    /// `Input::TellCommits`.
    pub untold: bool,
}

/// Why a write has no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteFailed {
    /// It was not taken into the log, and certainly not applied.
    Refused(Refused),
    /// The leader's disk, or those of too many others, have little room. It was certainly not applied.
    NoRoom,
    /// It is of a feature level that the cluster has not reached, or that the leader does not know. It was certainly not
    /// applied.
    NewerLevel,
    /// Another leader's entry was committed in its place: it was certainly not applied.
    Overwritten,
    /// A snapshot replaced the part of the log where its entry was: nobody here knows what became of it.
    Superseded,
}

/// Why a read was not released.
pub type ReadRefused = Refused;

/// What a node knows of itself.
#[derive(Clone, Debug)]
pub struct Summary {
    /// Its role.
    pub role: RoleName,
    /// Its term.
    pub term: Term,
    /// The leader, if known.
    pub leader: Option<NodeId>,
    /// The commit index.
    pub commit: Index,
    /// The last index applied.
    pub applied: Index,
    /// The last index in the log.
    pub last: Index,
    /// The store's revision.
    pub revision: Revision,
    /// At a leader: how far each peer is.
    pub peers: Vec<PeerProgress>,
}
