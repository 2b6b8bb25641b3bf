//! The seam of the core: what goes in, what comes out.
//!
//! `Node::step` takes one [`Input`]; `Node::take_output` hands over what has gathered since the
//! last call. Effects are data: whoever runs the core carries them out in any order, with one duty,
//! to answer each [`LogWrite`] with [`Input::Persisted`] once it is durable, in the order of `seq`.
//! Every message in [`Output::send`] may leave at once: the core itself holds back what is not yet
//! justified by what is durable.

use super::broken::Broken;
use super::entry::{Entry, HardState, Payload};
use super::id::{Index, LogId, Moment, NodeId, ProposalId, ReadId, Seq, Term};
use super::membership::Membership;
use super::message::Message;

/// What happens to a node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Input {
    /// A message came.
    Receive(Message),
    /// A tick of time went by; time-outs are counted in ticks.
    Tick,
    /// This node founds the cluster: `membership` becomes the first entry, and the node the leader of
    /// term 1. Ignored unless log, term and membership are empty. Whoever sends it must know, durably,
    /// that nobody else does.
    Found {
        /// The first membership, not joint, this node a voter in it.
        membership: Membership,
    },
    /// A client wants `payload` in the log.
    Propose {
        /// Comes back in [`Output::accepted`].
        id: ProposalId,
        /// A command or a no-op; a membership goes through `ChangeMembers`.
        payload: Payload,
    },
    /// A client wants to read linearizably.
    Read {
        /// Comes back in [`Output::reads`].
        id: ReadId,
        /// Whether the leader's lease suffices, if it holds one.
        lease: bool,
    },
    /// The clock. Needed for leases only; then it is to be read after the inputs came that are stepped
    /// next, and stepped before them.
    Now(Moment),
    /// Whether each node whose answer to a heartbeat may count for a lease is known to guard a leader for as long as this
    /// one's leases take for granted. Until that is said no lease counts, and none counts for which answers came before.
    Leases(bool),
    /// The write `seq`, and all before it, are durable.
    Persisted {
        /// The write's number.
        seq: Seq,
    },
    /// The entries asked for by [`Output::fetch`].
    Fetched {
        /// Whose they are for.
        peer: NodeId,
        /// The entry right before them.
        prev: LogId,
        /// The entries; empty when they could not be read.
        entries: Vec<Entry>,
    },
    /// The state machine has applied everything up to `index`.
    Applied {
        /// The last index applied.
        index: Index,
    },
    /// The log holds nothing up to and including `last` any more (a durable checkpoint covers it).
    Compacted {
        /// The last entry that is gone.
        last: LogId,
    },
    /// A snapshot is durably in place of the state. From then on a start begins the log anew after it,
    /// if the write that does has not ended yet.
    SnapshotInstalled {
        /// The last entry that it covers.
        last: LogId,
        /// The membership as of `last`.
        membership: Membership,
        /// Who sent it.
        from: NodeId,
    },
    /// The snapshot on its way to `peer` ended there, well or badly.
    SnapshotEnded {
        /// Its receiver.
        peer: NodeId,
        /// Whether it was installed.
        installed: bool,
    },
    /// An operator wants another membership. The core goes through the joint phase by itself.
    ChangeMembers {
        /// Comes back in [`Output::accepted`].
        id: ProposalId,
        /// The membership wanted, not joint.
        membership: Membership,
    },
    /// An operator wants the change that is under way undone. A leader does it if that is safe, which it is until
    /// the joint phase is committed. With `force` a node without a leader stands for election with the votes of
    /// the outgoing voters alone, and undoes the change when it leads: if the other side has decided without
    /// them, two clusters go on.
    UndoChange {
        /// Comes back in [`Output::accepted`]; of a node that stands for election with `Refused::NotLeader`.
        id: ProposalId,
        /// Whether to take that risk.
        force: bool,
    },
    /// Hand leadership over.
    TransferLeadership {
        /// To whom; none: to the voter that is furthest.
        to: Option<NodeId>,
    },
    /// The transport lost the way to a peer.
    Unreachable {
        /// The peer.
        peer: NodeId,
    },
    /// Nothing else has told the peers of what is committed for a while: see [`Output::untold`].
    TellCommits,
    /// The log's disk has not answered for longer than an election time-out. To be said until it does.
    DiskSlow,
}

/// What a node wants done.
#[must_use = "what the core decided must be carried out"]
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Output {
    /// An invariant of the protocol is broken: stop, and tell what was seen. There is nothing else in this output, nor in
    /// any later one.
    pub fatal: Option<Broken>,
    /// What to make durable. In order; each answered by [`Input::Persisted`].
    pub persist: Vec<LogWrite>,
    /// What to send. May leave at once; loss, repetition and reordering are allowed.
    pub send: Vec<Message>,
    /// Ranges of the log that are no longer in memory, to be read and answered by [`Input::Fetched`].
    pub fetch: Vec<Fetch>,
    /// The fate of proposals' admission. An accepted one is decided by the entry applied at its index.
    pub accepted: Vec<(ProposalId, Result<LogId, Refused>)>,
    /// Reads that may go ahead once the state machine has applied their index, or that may not.
    pub reads: Vec<(ReadId, Result<Index, Refused>)>,
    /// The rounds for reads that began or ended at a leader, for whoever counts.
    pub read_rounds: ReadRounds,
    /// How far the state machine may apply, if that grew. What a majority holds need not be durable here: only a
    /// checkpoint of the state waits for that, so that it never runs ahead of the log on the same disk.
    pub commit: Option<Index>,
    /// The role, term or leader, if any of them changed.
    pub standing: Option<SoftState>,
    /// The membership in force, if it changed (appended, or undone by a truncation).
    pub membership: Option<Membership>,
    /// The newest membership that is committed, and from which index on, if that changed or the first entry of a term is
    /// committed.
    pub committed: Option<(Index, Membership)>,
    /// Whether this node leads, and a peer holds what is committed without having been told that it is. The next append
    /// tells it; where none follows soon, [`Input::TellCommits`] does, rather than the next heartbeat.
    pub untold: bool,
}

/// Rounds of heartbeats for reads. One that begins and is not confirmed ends with the leader's term.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ReadRounds {
    /// Those that began: how many readers each is for, which are reads of this node's and followers' questions.
    pub started: Vec<usize>,
    /// How many a quorum has answered.
    pub confirmed: u64,
}

/// One write to the log. What it holds becomes durable as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct LogWrite {
    /// Its number.
    pub seq: Seq,
    /// The hard state from now on, if it changed.
    pub hard_state: Option<HardState>,
    /// Drop everything: the log begins anew after this snapshot, which states that membership.
    pub reset: Option<(LogId, Membership)>,
    /// Drop the entries from this index on, before appending.
    pub truncate_from: Option<Index>,
    /// Entries to append; consecutive.
    pub entries: Vec<Entry>,
}

/// A range of the log to read from disk for a peer that is far behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fetch {
    /// Whose it is for.
    pub peer: NodeId,
    /// The first index wanted; the `LogId` of the entry before it is wanted too.
    pub from: Index,
    /// The last index wanted, inclusive.
    pub to: Index,
    /// Stop after the entry with which this many bytes are reached.
    pub max_bytes: usize,
}

/// Why a proposal or a read was not taken. It certainly had no effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refused {
    /// This node does not lead; perhaps that one does.
    NotLeader {
        /// The leader, as far as known.
        leader: Option<NodeId>,
    },
    /// Too much waits to be committed, or to be applied.
    Busy,
    /// Another membership change is under way, or this leader has not yet committed in its own term.
    ChangeInProgress,
    /// No membership change is under way that could be undone.
    NothingToUndo,
    /// Leadership is being handed over.
    Transferring,
    /// The membership asked for cannot follow the one in force: joint, of another cluster, without
    /// voters, with a voter that is no member, or with a voter that becomes a learner (it has to leave
    /// and come back as one).
    UnfitMembership,
}

/// A node's place in the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SoftState {
    /// What it is.
    pub role: RoleName,
    /// Its term.
    pub term: Term,
    /// The leader of that term, if known.
    pub leader: Option<NodeId>,
}

/// The names of the roles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RoleName {
    /// Follows a leader, or waits for one.
    Follower,
    /// Asks whether an election would be won.
    PreCandidate,
    /// Stands for election.
    Candidate,
    /// Leads.
    Leader,
}

/// What a node finds on its disk when it starts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Recovered {
    /// Its hard state. `commit` is at least what the state machine has durably applied.
    pub hard_state: HardState,
    /// The entry before the first one that the log holds; zero if it holds all.
    pub base: LogId,
    /// The entry at `hard_state.commit`; the tail in memory starts after it.
    pub committed: LogId,
    /// All entries after `committed`.
    pub tail: Vec<Entry>,
    /// The memberships that the log or the snapshot state, by index, at least the last one at or below
    /// `committed` and all after it; none before the node belongs to a cluster.
    pub memberships: Vec<(Index, Membership)>,
    /// The last index that the state machine has durably applied.
    pub applied: Index,
    /// Whether the node may have heard a leader right before it stopped, who counts on it now.
    pub heard_leader: bool,
}

/// What a core is told once. Times are in ticks, sizes in bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Config {
    /// This node.
    pub id: NodeId,
    /// Ticks between heartbeats. Default 5 (of 10 ms).
    pub heartbeat_ticks: u32,
    /// The shortest election time-out; each is drawn from this to half as much again.
    /// Default 50.
    pub election_ticks: u32,
    /// The most payload in one append. Default 1 MiB. A single larger entry goes alone.
    pub append_bytes_max: usize,
    /// The most payload on its way to one peer without an answer. Default 8 MiB.
    pub inflight_bytes_max: usize,
    /// The most appends on their way to one peer without an answer. Default 256.
    pub inflight_appends_max: usize,
    /// The most payload that a leader takes in before it is applied and durable; beyond it proposals are `Busy`. A follower
    /// takes in no more while as much waits that is committed. Default 64 MiB.
    pub uncommitted_bytes_max: usize,
    /// How much of the committed log to keep in memory for peers that lag. Default 16 MiB.
    pub tail_bytes_max: usize,
    /// The most reads that wait for a round; beyond it reads are `Busy`. Default 65,536.
    pub reads_max: usize,
    /// How long a quorum's answer to a heartbeat keeps others from being elected, in microseconds since
    /// the heartbeat left: less than every node's `election_ticks`, by what clocks and ticks may err.
    /// Default 0: no leases.
    pub lease_us: u64,
    /// For how many ticks after a start the node helps nobody to the leader's place, not even itself, if it may have heard a
    /// leader right before: what it may have promised then, if that is more than `election_ticks`. Default 0.
    pub start_guard_ticks: u32,
    /// Seeds the election time-outs and the names of a follower's questions: another one each start.
    pub seed: u64,
}

impl Config {
    /// The defaults for `id`.
    pub fn new(id: NodeId, seed: u64) -> Config {
        Config {
            id,
            heartbeat_ticks: 5,
            election_ticks: 50,
            append_bytes_max: 1 << 20,
            inflight_bytes_max: 8 << 20,
            inflight_appends_max: 256,
            uncommitted_bytes_max: 64 << 20,
            tail_bytes_max: 16 << 20,
            reads_max: 1 << 16,
            lease_us: 0,
            start_guard_ticks: 0,
            seed,
        }
    }
}
