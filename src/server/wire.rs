//! What a node asks another outside of the protocol: forwarded writes, the founding of a cluster, and
//! how things stand.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::api::{Caller, ChangeError, Error, Get, Got, List, Members};
use crate::cluster::{Change, Known};
use crate::kv::{Administration, Anchor, Ask, Asks, Page, Reply, Write};
use crate::raft::NodeId;
use crate::raft::founding;
use crate::replica::Capacity;
use crate::replica::forwarding::Fate;
use crate::store::HashAt;

/// A question. The order of the variants is part of the wire format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum PeerRequest {
    /// Carry this out if you lead; do not pass it on.
    Write { write: Write, deadline: Duration },
    /// May I found the cluster?
    Found(founding::Ask),
    /// How far is everybody? For the leader.
    Progress,
    /// Hand leadership over, to that voter or to the one that is furthest, if you lead.
    TransferLeadership { to: Option<NodeId> },
    /// Change the membership if you lead; do not pass it on.
    Change { operation: Operation, force: bool, deadline: Duration },
    /// Who belongs to your cluster? From a node that belongs to none yet, or hears no leader.
    Members,
    /// What are the hashes of your state?
    StateHashes,
    /// Your state is not that of the majority: stop.
    Diverged { own: HashAt, majority: HashAt },
    /// So much room my disk has: little, or enough again. For the leader.
    Capacity(Capacity),
    /// Answer this in my place, as you have it.
    Read { read: PeerRead, deadline: Duration },
    /// This, for a client of mine: whether that may be, you find out yourself. From
    /// [`FeatureLevel::ACCESS`](crate::kv::FeatureLevel::ACCESS) on; what clients ask for and comes without a caller is anybody's.
    For { caller: Caller, asked: Asked, deadline: Duration },
    /// This is the last record of my audit: have the cluster keep it, if you lead.
    Anchor(Anchor),
    /// Sign my next certificate, if you have the authority's key: a request in PEM form.
    Sign { request: Bytes },
}

/// What a client asks for, passed on. The order of the variants is part of the wire format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Asked {
    /// As [`PeerRequest::Write`].
    Write(Write),
    /// As [`PeerRequest::Read`].
    Read(PeerRead),
    /// As [`PeerRequest::Change`].
    Change { operation: Operation, force: bool },
    /// As [`PeerRequest::TransferLeadership`].
    TransferLeadership { to: Option<NodeId> },
    /// Renew your certificate now.
    Renew,
}

impl Asked {
    /// The question to a peer: with its caller where all members know such questions, else as earlier releases have it.
    pub(crate) fn passed_on(self, caller: &Caller, deadline: Duration, known: bool) -> PeerRequest {
        let with_caller = |asked| PeerRequest::For { caller: caller.clone(), asked, deadline };
        match self {
            asked if known => with_caller(asked),
            Asked::Write(write) => PeerRequest::Write { write, deadline },
            Asked::Read(read) => PeerRequest::Read { read, deadline },
            Asked::Change { operation, force } => {
                PeerRequest::Change { operation, force, deadline }
            }
            Asked::TransferLeadership { to } => PeerRequest::TransferLeadership { to },
            // No earlier release knows it in any form.
            Asked::Renew => with_caller(Asked::Renew),
        }
    }
}

/// A question by whose it is.
pub(crate) enum Whose {
    /// A client's of the peer: whose, what, and how long it may take.
    Clients(Caller, Asked, Duration),
    /// The peer's own.
    Peers(PeerRequest),
}

impl From<PeerRequest> for Whose {
    /// What clients ask for and comes without a caller is anybody's.
    fn from(request: PeerRequest) -> Whose {
        let anybodys = |asked, deadline| Whose::Clients(Caller::Anybody, asked, deadline);
        match request {
            PeerRequest::For { caller, asked, deadline } => Whose::Clients(caller, asked, deadline),
            PeerRequest::Write { write, deadline } => anybodys(Asked::Write(write), deadline),
            PeerRequest::Read { read, deadline } => anybodys(Asked::Read(read), deadline),
            PeerRequest::Change { operation, force, deadline } => {
                anybodys(Asked::Change { operation, force }, deadline)
            }
            PeerRequest::TransferLeadership { to } => {
                anybodys(Asked::TransferLeadership { to }, Duration::ZERO)
            }
            request => Whose::Peers(request),
        }
    }
}

/// A read that is forwarded. The order of the variants is part of the wire format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum PeerRead {
    Get(Get),
    List(List),
    /// A transaction that changes nothing, as clients state it in JSON: whoever reads that looks how deep and how much it is.
    Txn(Bytes),
}

/// What a [`PeerRead`] came to. The order of the variants is part of the wire format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum PeerAnswer {
    Got(Got),
    Page(Page),
    /// In JSON, as clients are answered, or why it was refused.
    Txn(Result<Bytes, Reply>),
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum PeerReply {
    /// What became of the write.
    Write(Result<Reply, Fate>),
    /// What there is to say to that.
    Founding(founding::Answer),
    /// The last index of the leader's log, and the last durable one of each peer; none if it does not
    /// lead.
    Progress(Option<LeaderProgress>),
    /// The question could not be read.
    NotUnderstood,
    /// It is begun, if it can be; who leads then shows whether it went well.
    TransferBegun,
    /// What became of the change.
    Change(ChangeOutcome),
    /// The newest committed membership; none if there is none.
    Members(Option<Known>),
    /// Hashes of the state at some indexes.
    StateHashes(Vec<HashAt>),
    /// It is noted.
    Noted,
    /// What the read came to; none if that does not fit into a frame.
    Read(Option<Result<PeerAnswer, Error>>),
    /// Its client may not ask for that, or not any more.
    NotAllowed(Error),
    /// The certificate in PEM form, or why there is none.
    Signed(Result<String, NotSigned>),
    /// Until when the new certificate is good, RFC 3339, or why there is none.
    Renewed(Result<String, ChangeError>),
}

/// Why a certificate was not signed. The order of the variants is part of the wire format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum NotSigned {
    /// Whoever was asked does not have the authority's key.
    NoSigner,
    /// It does not sign this, for the reason given.
    Refused(String),
}

/// What an operator asks for. The order of the variants is part of the wire format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Operation {
    /// Another membership.
    Change(Change),
    /// That the change which is under way be undone.
    Undo,
}

impl Asks for Operation {
    fn asks(&self, ask: &mut dyn FnMut(Ask<'_>)) {
        ask(Ask::Admin(Administration::Members));
    }
}

/// What became of it at the node that was asked. The order of the variants is part of the wire format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ChangeOutcome {
    Done(Members),
    NotLeader,
    Not(ChangeError),
}

/// How far the members are, as the leader knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LeaderProgress {
    pub(crate) last: u64,
    pub(crate) matched: Vec<(NodeId, u64)>,
    /// Who has answered since the leader last counted.
    pub(crate) active: Vec<NodeId>,
}

/// Bytes of a request or a reply.
pub(crate) fn encode<T: Serialize>(message: &T) -> Bytes {
    // Serializing plain data into a growing vector has no way to fail.
    postcard::to_stdvec(message).map(Bytes::from).unwrap_or_default()
}

/// A request or a reply from bytes; none if they are not one.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    postcard::from_bytes(bytes).ok()
}
