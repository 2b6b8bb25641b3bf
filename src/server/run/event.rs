//! What the replica is asked or told, by the lane of its mailbox that it goes through. Each kind is a type of its own, so
//! that nothing can be put where it would wait behind others, or be lost with them.

use tokio::sync::oneshot;

use crate::cluster::Shown;
use crate::kv::{Reply, Write};
use crate::raft::{ClusterId, Entry, LogId, Membership, NodeId, Refused, Seq, Term};
use crate::replica::{
    Capacity, ChangeFailed, LookedUp, Origin, Proposed, Step, Summary, WriteFailed,
};

/// Where one who asks for a write waits for the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asker {
    /// A client, on any thread.
    Client,
    /// A peer that passes a write on: on the thread that speaks QUIC, which is the replica's, and best woken from there.
    Peer,
}

/// What a client asks for. There are as many as clients like, so beyond a bound they are told to come back.
#[derive(Debug)]
pub(crate) enum Request {
    /// A write.
    Write {
        write: Write,
        origin: Origin,
        from: Asker,
        reply: oneshot::Sender<Result<Reply, WriteFailed>>,
    },
    /// A read.
    Read { lease: bool, reply: oneshot::Sender<Result<(), Refused>> },
}

impl Request {
    /// The bytes that it counts for.
    pub(crate) fn cost_bytes(&self) -> usize {
        match self {
            Request::Write { write, .. } => write.cost_bytes(),
            Request::Read { .. } => 0,
        }
    }

    /// Whether the leader has to hear from a majority for it, as for all others that wait with it.
    pub(crate) fn needs_round(&self) -> bool {
        matches!(self, Request::Read { lease: false, .. })
    }
}

/// A question about how things stand: of health checks, of the watchdog, of operators.
#[derive(Debug)]
pub(crate) struct Question(pub(crate) oneshot::Sender<Summary>);

/// What keeps the cluster going or an operator asks for, which must not depend on how much clients write.
#[derive(Debug)]
pub(crate) enum Control {
    /// The membership is to change.
    Change { step: Step, hosts: Vec<Shown>, reply: oneshot::Sender<Result<Proposed, ChangeFailed>> },
    /// Leadership is to be handed over, to that voter or to the one that is furthest.
    TransferLeadership { to: Option<NodeId> },
    /// Whether the snapshot that `from` offers as the leader of `term` is wanted.
    OfferSnapshot { from: NodeId, term: Term, last: LogId, reply: oneshot::Sender<bool> },
    /// A snapshot has come and is to take the state's place, if it is still wanted.
    InstallSnapshot { cluster: ClusterId, last: LogId, reply: oneshot::Sender<bool> },
    /// A peer says how much room its disk has.
    PeerCapacity { peer: NodeId, capacity: Capacity },
}

/// News that must not be lost. No client has a say in how many there are: the replica has asked for them itself, or a
/// connection has ended.
#[derive(Debug)]
pub(crate) enum Notice {
    /// The log's write `seq`, and all before it, are durable.
    Persisted { seq: Seq },
    /// The log holds nothing up to and including `last` any more.
    Compacted { last: LogId },
    /// The entries that were asked for, for a peer that is far behind; none if they could not be read.
    Fetched { peer: NodeId, prev: LogId, entries: Vec<Entry> },
    /// What apply waited for.
    LookedUp(LookedUp),
    /// A checkpoint ended, which covers everything up to there: there may be room to apply again, and the
    /// log may be cut.
    Checkpointed(LogId),
    /// The snapshot on its way to `peer` ended there.
    SnapshotEnded { peer: NodeId, installed: bool },
    /// The snapshot of `from` took the state's place, or was found not to be newer.
    SnapshotInstalled { from: NodeId },
    /// The way to a peer is lost.
    Unreachable { peer: NodeId },
    /// This node founds the cluster.
    Found { membership: Membership },
}
