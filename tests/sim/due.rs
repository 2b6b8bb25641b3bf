//! What can be due at some time.

use konsen::cluster::Known;
use konsen::raft::founding::{Answer, Ask, Ballot};
use konsen::raft::{Fetch, Index, Message, NodeId};
use konsen::replica::forwarding::Passed;
use konsen::replica::{Capacity, LookedUp, Lookup};
use konsen::store::RowsRead;

use super::links::Call;
use super::operator::Command;
use super::plan::Time;
use super::world::host_of;

#[derive(Debug)]
pub(super) enum Due {
    Start {
        host: usize,
    },
    /// A host that is away looks whether it is time to come back.
    Return {
        host: usize,
        last: Index,
        until: Time,
    },
    /// Somebody replaces an identity that a host lost.
    Replace {
        host: usize,
        old: NodeId,
    },
    /// A host looks whom to dial.
    Dial {
        host: usize,
        life: u64,
    },
    /// A call reaches whoever listens.
    Knock(Call),
    /// A host is told of a membership.
    Told {
        host: usize,
        life: u64,
        known: Known,
    },
    /// A host hears that a way is lost.
    WayLost {
        host: usize,
        life: u64,
        peer: NodeId,
    },
    /// A host is asked to let another found the cluster.
    AskToFound {
        host: usize,
        life: u64,
        /// The identity that is asked.
        of: NodeId,
        ask: Ask,
        asker: usize,
    },
    /// The answer to that.
    FoundingAnswer {
        host: usize,
        life: u64,
        /// To what it answers.
        ballot: Ballot,
        by: NodeId,
        answer: Answer,
    },
    Tick {
        host: usize,
        life: u64,
        late: u64,
    },
    /// Peers are told of commits that nothing else has told them of.
    TellCommits {
        host: usize,
        life: u64,
    },
    Deliver(Message),
    /// A message that came while its receiver stood still is taken.
    Take(Message),
    EndWrite {
        host: usize,
        life: u64,
    },
    Fetch {
        host: usize,
        life: u64,
        fetch: Fetch,
    },
    /// A host looks up what it is to apply.
    Lookup {
        host: usize,
        life: u64,
        lookup: Lookup,
    },
    /// What was looked up is put where apply finds it.
    Hold {
        host: usize,
        life: u64,
        rows: RowsRead,
        news: Option<LookedUp>,
    },
    Freeze {
        host: usize,
        life: u64,
    },
    EndCheckpoint {
        host: usize,
        life: u64,
    },
    /// A piece of a snapshot arrives.
    Piece {
        transfer: u64,
    },
    /// A snapshot takes the state's place.
    Place {
        host: usize,
        life: u64,
        transfer: u64,
    },
    /// The replica's thread looks at what has gathered.
    Settle {
        host: usize,
        life: u64,
    },
    /// A client begins something.
    Client {
        client: usize,
    },
    /// A request reaches a host.
    Request {
        host: usize,
        life: u64,
        request: u64,
    },
    /// A host tries a write again that went nowhere.
    TryAgain {
        host: usize,
        life: u64,
        request: u64,
        tries: u32,
    },
    /// A write that was passed on reaches the leader.
    PassedOn {
        host: usize,
        life: u64,
        id: u64,
        request: u64,
    },
    /// What became of it is told to who passed it on.
    PassedBack {
        host: usize,
        life: u64,
        id: u64,
        answer: Passed,
    },
    /// Who passed a write on waits no longer.
    Unanswered {
        host: usize,
        life: u64,
        id: u64,
    },
    /// A released read looks at the state.
    Look {
        host: usize,
        life: u64,
        request: u64,
    },
    /// A client waits no longer.
    GiveUp {
        client: usize,
        request: u64,
    },
    /// A host's disk has enough room again.
    Roomy {
        host: usize,
        life: u64,
    },
    /// A host hears that a peer's disk has little room.
    PeerCapacity {
        host: usize,
        peer: NodeId,
        capacity: Capacity,
    },
    Strike,
    /// The membership changes, beside the faults.
    Churn,
    /// An operator does something.
    Operate {
        operator: usize,
    },
    /// An operator's command reaches a host.
    Command {
        host: usize,
        life: u64,
        command: Command,
    },
    /// An operator tries a command again.
    Again {
        command: Command,
    },
    /// A leader is to hand over, since it is to go.
    HandOver {
        host: usize,
        life: u64,
    },
    /// Somebody takes a backup.
    BackUp,
    /// The cluster is lost, and another begins.
    Rebirth,
    /// A host of a lost cluster is emptied.
    Empty {
        host: usize,
    },
    /// The power fails for a moment.
    Blink {
        host: usize,
        life: u64,
        what: &'static str,
    },
    /// These links fail for so long.
    Cut {
        links: Vec<(usize, usize)>,
        duration: Time,
    },
    /// These links let large messages through again.
    Fill {
        links: Vec<(usize, usize)>,
    },
    /// These links work again.
    Mend {
        links: Vec<(usize, usize)>,
    },
}

impl Due {
    /// The host that it is meant for, and in which of its lives; none if that does not matter.
    pub(super) fn target(&self) -> Option<(usize, Option<u64>)> {
        match self {
            Due::Dial { host, life }
            | Due::Command { host, life, .. }
            | Due::HandOver { host, life }
            | Due::TellCommits { host, life }
            | Due::TryAgain { host, life, .. }
            | Due::PassedOn { host, life, .. }
            | Due::PassedBack { host, life, .. }
            | Due::Unanswered { host, life, .. }
            | Due::Told { host, life, .. }
            | Due::WayLost { host, life, .. }
            | Due::AskToFound { host, life, .. }
            | Due::FoundingAnswer { host, life, .. }
            | Due::EndWrite { host, life }
            | Due::Fetch { host, life, .. }
            | Due::Lookup { host, life, .. }
            | Due::Hold { host, life, .. }
            | Due::Freeze { host, life }
            | Due::EndCheckpoint { host, life }
            | Due::Place { host, life, .. }
            | Due::Settle { host, life }
            | Due::Request { host, life, .. }
            | Due::Look { host, life, .. }
            | Due::Roomy { host, life } => Some((*host, Some(*life))),
            Due::Deliver(message) | Due::Take(message) => Some((host_of(message.to), None)),
            Due::PeerCapacity { host, .. } => Some((*host, None)),
            _ => None,
        }
    }
}
