//! What can be seen of a node from outside.

use super::broken::Broken;
use super::entry::{Entry, HardState};
use super::id::{Index, LogId, NodeId, Term};
use super::io::RoleName;
use super::membership::{ClusterId, Membership};
use super::node::{Node, Role};
use super::progress::PeerProgress;

/// What a node holds in memory: each of these is bounded by its [`Config`](super::Config).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Entries in memory, in bytes.
    pub tail_bytes: usize,
    /// Those of them that nobody here needs any more.
    pub spare_bytes: usize,
    /// Entries that a leader took in and that are not committed, in bytes.
    pub uncommitted_bytes: usize,
    /// Reads that wait at a leader for a round.
    pub reads: usize,
    /// The most appends on their way to one peer without an answer.
    pub window_appends: usize,
    /// The most bytes of appends on their way to one peer without an answer.
    pub window_bytes: usize,
}

impl Node {
    /// This node.
    pub fn id(&self) -> NodeId {
        self.core.id()
    }

    /// Its role.
    pub fn role(&self) -> RoleName {
        match &self.role {
            Role::Follower(_) => RoleName::Follower,
            Role::PreCandidate(_) => RoleName::PreCandidate,
            Role::Candidate(_) => RoleName::Candidate,
            Role::Leader(_) => RoleName::Leader,
        }
    }

    /// The broken invariant that it saw, since which it takes no input and says nothing.
    pub fn broken(&self) -> Option<&Broken> {
        self.core.broken()
    }

    /// The newest term that it has seen.
    pub fn term(&self) -> Term {
        self.core.term()
    }

    /// Who leads that term, as far as it knows; itself if it does.
    pub fn leader(&self) -> Option<NodeId> {
        match &self.role {
            Role::Follower(follower) => follower.leader(),
            Role::Leader(_) => Some(self.core.id()),
            Role::PreCandidate(_) | Role::Candidate(_) => None,
        }
    }

    /// Whether it leads and is handing leadership over.
    pub fn is_transferring(&self) -> bool {
        matches!(&self.role, Role::Leader(leader) if leader.transfer.is_some())
    }

    /// The commit index: how far the state machine may apply. Its entries may not be durable here yet.
    pub fn commit(&self) -> Index {
        self.core.log.commit()
    }

    /// The newest commit index that is known, of the leader's log: this node may lack entries up to it.
    pub fn heard_commit(&self) -> Index {
        match &self.role {
            Role::Follower(follower) => follower.heard_commit().max(self.commit()),
            _ => self.commit(),
        }
    }

    /// The last entry that is durable here.
    pub fn durable(&self) -> Index {
        self.core.log.durable()
    }

    /// Up to here everything is committed and durable here. Never goes back, while what is durable and not committed may be
    /// cut off again.
    pub fn durable_commit(&self) -> Index {
        self.core.log.durable().min(self.core.log.commit())
    }

    /// The last entry of the log.
    pub fn last(&self) -> LogId {
        self.core.log.last()
    }

    /// The first index that is in memory (or will be, if there is none yet).
    pub fn first_in_memory(&self) -> Index {
        self.core.log.before().index.next()
    }

    /// The term of the entry at `index`, if it is in memory.
    pub fn term_at(&self, index: Index) -> Option<Term> {
        self.core.log.term_at(index)
    }

    /// Entries to apply from `from` on, up to about `max_bytes` (at least one if there is one): a
    /// part of what is committed and durable, so ask on from where it ends. Empty when there is
    /// nothing; none when they left the memory and have to be read from the log on disk.
    pub fn entries(&self, from: Index, max_bytes: usize) -> Option<&[Entry]> {
        self.core.log.applicable_from(from, max_bytes)
    }

    /// The membership in force.
    pub fn membership(&self) -> Option<&Membership> {
        self.core.membership()
    }

    /// The membership in force, and the newest one that is committed. Each with the index of its entry and a term: that
    /// of the entry if it is not committed, else that of the last entry that is.
    pub fn memberships(&self) -> [Option<(LogId, &Membership)>; 2] {
        let log = &self.core.log;
        let decided = log.term_at(log.commit()).unwrap_or_default();
        let entry = |index: Index| {
            let own = log.term_at(index).filter(|_| index > log.commit());
            LogId::new(own.unwrap_or(decided), index)
        };
        [log.membership(), log.committed_membership()]
            .map(|stated| stated.map(|(index, membership)| (entry(*index), membership)))
    }

    /// The cluster that it takes part in, if it has heard of any.
    pub fn cluster(&self) -> Option<ClusterId> {
        self.core.cluster()
    }

    /// Term, vote and commit index.
    pub fn hard_state(&self) -> HardState {
        self.core.hard_state()
    }

    /// What it knows of its peers, if it leads; otherwise nothing.
    pub fn peers(&self) -> Vec<PeerProgress> {
        let Role::Leader(leader) = &self.role else { return Vec::new() };
        leader
            .peers
            .iter()
            .map(|(&id, progress)| PeerProgress {
                id,
                matched: progress.matched,
                next: progress.next,
                state: progress.state(),
                active: progress.active,
            })
            .collect()
    }

    /// What it holds in memory.
    pub fn load(&self) -> Load {
        let (tail_bytes, spare_bytes) = self.core.log.memory_bytes();
        let mut load = Load { tail_bytes, spare_bytes, ..Load::default() };
        let Role::Leader(leader) = &self.role else { return load };
        load.reads = leader.rounds.len();
        load.uncommitted_bytes = leader.uncommitted_bytes;
        for progress in leader.peers.values() {
            let (appends, bytes) = progress.on_the_way();
            load.window_appends = load.window_appends.max(appends);
            load.window_bytes = load.window_bytes.max(bytes);
        }
        load
    }

    /// Whether a snapshot up to `last` would bring this node further. To be asked when one is
    /// offered, and again right before it is put in place: meanwhile the log may have grown past it,
    /// and entries that were acknowledged must not be replaced.
    pub fn wants_snapshot(&self, last: LogId) -> bool {
        let log = &self.core.log;
        last.index > log.commit() && log.term_at(last.index) != Some(last.term)
    }
}
