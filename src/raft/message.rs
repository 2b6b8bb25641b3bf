//! What nodes say to each other.

use serde::{Deserialize, Serialize};

use super::entry::Entry;
use super::id::{Index, LogId, NodeId, ReadId, Term};
use super::membership::ClusterId;

/// One message from one node to another.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Message {
    /// The cluster that it is about: an old cluster and one that was restored from it never mix.
    pub cluster: ClusterId,
    /// Who says it.
    pub from: NodeId,
    /// To whom.
    pub to: NodeId,
    /// The sender's term; for the two pre-vote messages the term that the candidate would have.
    pub term: Term,
    /// What it says.
    pub body: Body,
}

/// What a message says. The order of the variants is part of the wire format.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Body {
    /// Would you vote for me in `term`? Changes nothing at the voter (Ongaro's thesis, 9.6).
    PreVote {
        /// The last entry of the candidate's log.
        last: LogId,
    },
    /// The answer to a `PreVote`.
    PreVoteReply {
        /// Whether the vote would be granted.
        granted: bool,
    },
    /// Vote for me (RequestVote, section 5.2).
    Vote {
        /// The last entry of the candidate's log.
        last: LogId,
        /// The sitting leader asked for this election: do not protect it (thesis 4.2.3).
        transfer: bool,
    },
    /// The answer to a `Vote`.
    VoteReply {
        /// Whether the voter has, durably, voted for the candidate.
        granted: bool,
    },
    /// Entries to append after `prev` (AppendEntries, section 5.3).
    Append {
        /// The entry right before `entries`.
        prev: LogId,
        /// Consecutive entries; empty in a probe.
        entries: Vec<Entry>,
        /// The leader's commit index.
        commit: Index,
    },
    /// The entries, and all before them, are durable at the follower.
    AppendReply {
        /// The last index known to match the leader's log and to be durable.
        matched: Index,
    },
    /// The follower's log does not hold `prev`.
    AppendReject {
        /// The index of the `prev` that was refused: tells stale rejections apart.
        prev: Index,
        /// Where to go on: the follower's last entry whose term is not above `prev`'s, by which a whole
        /// term is skipped.
        hint: LogId,
    },
    /// I lead. Sent apart from entries, so that none delays it; carries a round of read-index.
    Heartbeat {
        /// The leader's commit index, no further than what is known to match at the follower.
        commit: Index,
        /// The number of the newest round when it was sent; grows within a term.
        round: u64,
    },
    /// The answer to a `Heartbeat`.
    HeartbeatReply {
        /// The heartbeat's round.
        round: u64,
    },
    /// A follower asks for an index to read at.
    ReadIndex {
        /// Names the question; not reused by the asker in its lifetime.
        id: ReadId,
        /// Whether the leader's lease suffices.
        lease: bool,
    },
    /// The answer to a `ReadIndex`.
    ReadIndexReply {
        /// The question's name.
        id: ReadId,
        /// The index to wait for; none if the one asked does not lead, or ceased to before it was sure.
        index: Option<Index>,
    },
    /// The entries that the follower needs are gone: it is to take the state up to `last` instead.
    /// The state itself travels on a stream of its own.
    Snapshot {
        /// The last entry that the snapshot covers.
        last: LogId,
    },
    /// Stand for election now (thesis, 3.10).
    TimeoutNow,
}

impl Message {
    /// The bytes that it counts for in queues.
    pub fn cost_bytes(&self) -> usize {
        const OVERHEAD_BYTES: usize = 64;
        OVERHEAD_BYTES
            + match &self.body {
                Body::Append { entries, .. } => entries.iter().map(Entry::cost_bytes).sum(),
                _ => 0,
            }
    }
}
