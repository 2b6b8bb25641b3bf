//! The node: routes what happens to the role it has, and moves between roles.

use std::mem;

use super::broken::Broken;
use super::candidate::{Candidate, PreCandidate};
use super::core::Core;
use super::entry::Payload;
use super::follower::Follower;
use super::id::{LogId, NodeId, Term};
use super::io::{Config, Input, Output, Recovered, Refused, SoftState};
use super::leader::Leader;
use super::membership::Membership;
use super::message::{Body, Message};
use super::publish::Published;
use super::reads::Reader;
use super::sound::{TERM_LEAP_MAX, TERM_MAX, doubt, is_from_leader, is_sound};
use super::transition::Transition;

/// One node of the protocol.
///
/// Feed it with [`Node::step`], carry out what [`Node::take_output`] says. Both are total: no input
/// can make them fail.
#[derive(Clone, Debug, Hash)]
pub struct Node {
    pub(super) core: Core,
    pub(super) role: Role,
    published: Published,
}

#[derive(Clone, Debug, Hash)]
pub(super) enum Role {
    Follower(Follower),
    PreCandidate(PreCandidate),
    Candidate(Candidate),
    Leader(Box<Leader>),
}

impl Node {
    /// A node with what its disk holds.
    ///
    /// # Panics
    /// If what was recovered contradicts itself (a hole in the log, a commit index outside it).
    pub fn new(config: Config, recovered: Recovered) -> Node {
        let mut core = Core::new(config, recovered);
        let role = Role::Follower(Follower::new(&mut core, None));
        Node { core, role, published: Published::default() }
    }

    /// Takes one input. The effects gather until [`Node::take_output`].
    pub fn step(&mut self, input: Input) {
        if self.core.broken().is_some() {
            return;
        }
        match input {
            Input::Receive(message) => self.receive(message),
            Input::Tick => self.tick(),
            Input::Found { membership } => self.found(membership),
            Input::Propose { id, payload: Payload::Membership(membership) }
            | Input::ChangeMembers { id, membership } => match &mut self.role {
                Role::Leader(leader) => leader.change_members(&mut self.core, id, membership),
                _ => self.core.out.accepted.push((id, Err(self.not_leader()))),
            },
            Input::Propose { id, payload } => match &mut self.role {
                Role::Leader(leader) => leader.propose(&mut self.core, id, payload),
                _ => self.core.out.accepted.push((id, Err(self.not_leader()))),
            },
            Input::Now(now) => self.core.clock(now),
            Input::Leases(count) => self.set_leases(count),
            Input::Read { id, lease } => match &mut self.role {
                Role::Leader(leader) => leader.read(&mut self.core, Reader::Here(id), lease),
                Role::Follower(follower) => follower.read(&mut self.core, id, lease),
                _ => self.core.refuse_reads([id], None),
            },
            Input::Persisted { seq } => {
                self.core.persisted(seq);
                let next = match &mut self.role {
                    Role::Candidate(candidate) => candidate.persisted(&self.core),
                    Role::Leader(leader) => leader.count(&mut self.core),
                    Role::Follower(_) | Role::PreCandidate(_) => None,
                };
                self.transition(next);
            }
            Input::Fetched { peer, prev, entries } => {
                if let Role::Leader(leader) = &mut self.role {
                    leader.fetched(&mut self.core, peer, prev, entries);
                }
            }
            Input::Applied { index } => self.core.log.applied(index),
            Input::Compacted { last } => self.core.log.compacted(last),
            Input::SnapshotInstalled { last, membership, from } => {
                self.installed(last, membership, from);
            }
            Input::SnapshotEnded { peer, installed } => {
                if let Role::Leader(leader) = &mut self.role {
                    leader.snapshot_ended(peer, installed);
                }
            }
            Input::UndoChange { id, force } => match &mut self.role {
                Role::Leader(leader) => leader.undo_change(&mut self.core, id),
                _ => {
                    self.core.out.accepted.push((id, Err(self.not_leader())));
                    self.core.forced = force && self.leader().is_none();
                    if self.core.undone_by_force().is_some() {
                        self.transition(Some(Transition::PreCandidate));
                    }
                }
            },
            Input::TransferLeadership { to } => {
                if let Role::Leader(leader) = &mut self.role {
                    leader.transfer(&mut self.core, to);
                }
            }
            Input::TellCommits => {
                if let Role::Leader(leader) = &mut self.role {
                    leader.tell_commits(&mut self.core);
                }
            }
            Input::DiskSlow => {
                if let Role::Leader(leader) = &mut self.role {
                    leader.transfer(&mut self.core, None);
                }
            }
            Input::Unreachable { peer } => {
                if let Role::Leader(leader) = &mut self.role {
                    leader.unreachable(peer);
                }
            }
        }
    }

    fn set_leases(&mut self, count: bool) {
        self.core.set_leases(count);
        if let Role::Leader(leader) = &mut self.role
            && !count
        {
            // Whoever answered meanwhile may have promised less than a lease takes.
            leader.lease.restart();
        }
    }

    /// Hands over what has gathered since the last call. What is to be written is one write.
    pub fn take_output(&mut self) -> Output {
        if let Some(broken) = self.core.broken() {
            let fatal = Some(broken.clone());
            self.core.out = Output::default();
            return Output { fatal, ..Output::default() };
        }
        match &mut self.role {
            Role::Leader(leader) => {
                leader.flush(&mut self.core);
                self.core.out.untold = leader.has_untold(&self.core);
            }
            Role::Follower(follower) => follower.flush(&mut self.core),
            Role::PreCandidate(_) | Role::Candidate(_) => {}
        }
        self.core.gather_write();
        let standing = SoftState { role: self.role(), term: self.term(), leader: self.leader() };
        self.published.publish(&mut self.core, standing);
        let tail_bytes_max = self.core.config.tail_bytes_max;
        self.core.log.shrink(tail_bytes_max);
        mem::take(&mut self.core.out)
    }

    fn tick(&mut self) {
        self.core.tick();
        let next = match &mut self.role {
            Role::Follower(follower) => follower.tick(&mut self.core),
            Role::PreCandidate(candidate) => candidate.tick(&mut self.core),
            Role::Candidate(candidate) => candidate.tick(&self.core),
            Role::Leader(leader) => leader.tick(&mut self.core),
        };
        self.transition(next);
    }

    fn found(&mut self, membership: Membership) {
        let core = &mut self.core;
        let is_empty = core.term() == Term(0)
            && core.vote().is_none()
            && core.log.last() == LogId::ZERO
            && core.membership().is_none();
        let fits = membership.outgoing.is_none()
            && membership.voters.contains(&core.id())
            && membership.voters.iter().all(|voter| membership.members.contains_key(voter));
        if is_empty && fits {
            core.enter_term(Term(1));
            core.vote_for(core.id());
            let leader = Leader::new(core, Payload::Membership(membership));
            self.role = Role::Leader(Box::new(leader));
        }
    }

    fn installed(&mut self, last: LogId, membership: Membership, from: NodeId) {
        let core = &mut self.core;
        let leads = matches!(self.role, Role::Leader(_));
        if let Some(doubt) = doubt(core, leads, last, &membership) {
            let (term, commit) = (core.term(), core.log.commit());
            return core.breaks(Broken::SnapshotNotCredible { from, last, term, commit, doubt });
        }
        if last.index <= core.log.commit() {
            return;
        }
        self.core.log.install(last, membership);
        match &mut self.role {
            Role::Follower(follower) => follower.installed(&self.core, last),
            Role::Leader(leader) => leader.installed(&self.core, last),
            Role::PreCandidate(_) | Role::Candidate(_) => {}
        }
    }

    /// Routes a message after the rules that hold for all of them: whom to listen to, and terms.
    ///
    /// Non-members: a node may lag behind the membership, so it listens to a leader that it does not
    /// know, but only while it hears none; and it answers a candidate that it does not know only
    /// then, and only if the candidate's log is no older than its own (or it has no vote itself yet):
    /// otherwise three voters that lag could never elect the one that does not. Everything else from
    /// non-members is dropped before it can change anything, its term included.
    fn receive(&mut self, message: Message) {
        let Message { cluster, from, to, term, body } = message;
        if to != self.core.id()
            || from == to
            || term == Term(0)
            || term > self.term_limit()
            || !is_sound(&body, term)
        {
            return;
        }
        let quiet = !self.hears_leader();
        if self.core.cluster() != Some(cluster) {
            // Who belongs to none yet goes with the first that it hears of, until that is quiet.
            if self.core.membership().is_some() || !quiet {
                return;
            }
            self.core.hear_of(cluster);
        }
        if !self.core.is_member(from) && self.leader() != Some(from) {
            let heard = quiet
                && match &body {
                    Body::Append { .. } | Body::Heartbeat { .. } | Body::Snapshot { .. } => true,
                    Body::Vote { last, .. } | Body::PreVote { last } => {
                        !self.core.is_voter() || self.core.is_fresh(*last)
                    }
                    _ => false,
                };
            if !heard || term < self.core.term() {
                return;
            }
        }
        let guards = self.guards_leader();
        match &body {
            // Neither protects nor helps: the leader lives (thesis 4.2.3).
            Body::PreVote { .. } if guards => return,
            Body::Vote { transfer: false, .. } if guards && term >= self.core.term() => return,
            Body::PreVote { last } => return self.pre_vote(from, term, *last),
            Body::PreVoteReply { granted: true } => {
                if term == self.core.term().next()
                    && let Role::PreCandidate(candidate) = &mut self.role
                {
                    let next = candidate.answered(&self.core, from, true);
                    self.transition(next);
                }
                return;
            }
            _ => {}
        }
        if term > self.core.term() {
            let leader = is_from_leader(&body).then_some(from);
            self.transition(Some(Transition::Follower { term, leader }));
        }
        if term < self.core.term() {
            if body == (Body::VoteReply { granted: true }) {
                self.core.voted_late();
            }
            return self.answer_old(from, &body);
        }
        if is_from_leader(&body) && !self.hear(from) {
            return;
        }
        self.deliver(from, body);
    }

    /// Handles what a peer says in the current term.
    fn deliver(&mut self, from: NodeId, body: Body) {
        let core = &mut self.core;
        let next = match (&mut self.role, body) {
            (Role::Follower(follower), Body::Append { prev, entries, commit }) => {
                follower.append(core, prev, entries, commit);
                None
            }
            (Role::Follower(follower), Body::Heartbeat { commit, round }) => {
                follower.heartbeat(core, commit, round);
                None
            }
            (Role::Follower(follower), Body::Snapshot { last }) => {
                follower.offer(core, last);
                None
            }
            (Role::Follower(follower), Body::Vote { last, .. }) => {
                follower.vote(core, from, last);
                None
            }
            (_, Body::Vote { .. }) => {
                core.send(from, Body::VoteReply { granted: false });
                None
            }
            (Role::Follower(follower), Body::ReadIndexReply { id, index }) => {
                if follower.leader() == Some(from) {
                    follower.read_index(core, id, index);
                }
                None
            }
            (Role::Follower(follower), Body::TimeoutNow) => (follower.leader() == Some(from)
                && core.is_voter())
            .then_some(Transition::Candidate { transfer: true }),
            (Role::PreCandidate(candidate), Body::PreVoteReply { granted: false }) => {
                candidate.answered(core, from, false)
            }
            // Of the ballot before, which is over.
            (Role::PreCandidate(_), Body::VoteReply { granted: true }) => {
                core.voted_late();
                None
            }
            (Role::Candidate(candidate), Body::VoteReply { granted }) => {
                candidate.answered(core, from, granted)
            }
            (Role::Leader(leader), Body::AppendReply { matched }) => {
                leader.appended(core, from, matched)
            }
            (Role::Leader(leader), Body::AppendReject { prev, hint }) => {
                leader.rejected(core, from, prev, hint);
                None
            }
            (Role::Leader(leader), Body::HeartbeatReply { round }) => {
                leader.heartbeat_answered(core, from, round);
                None
            }
            (Role::Leader(leader), Body::ReadIndex { id, lease }) => {
                leader.read(core, Reader::There(from, id), lease);
                None
            }
            (_, Body::ReadIndex { id, .. }) => {
                core.send(from, Body::ReadIndexReply { id, index: None });
                None
            }
            _ => None,
        };
        self.transition(next);
    }

    /// Tells the sender of an old term which one it is, so that a leader or candidate that was left
    /// behind gives way. A node that is stuck outside with a higher term is freed by this.
    fn answer_old(&mut self, from: NodeId, body: &Body) {
        let answer = match body {
            Body::Append { .. } | Body::Heartbeat { .. } | Body::Snapshot { .. } => {
                Body::HeartbeatReply { round: 0 }
            }
            Body::Vote { .. } => Body::VoteReply { granted: false },
            Body::ReadIndex { id, .. } => Body::ReadIndexReply { id: *id, index: None },
            _ => return,
        };
        self.core.send(from, answer);
    }

    fn pre_vote(&mut self, from: NodeId, term: Term, last: LogId) {
        if term > self.core.term() && self.core.is_fresh(last) {
            self.core.send_in(term, from, Body::PreVoteReply { granted: true });
            self.give_way(from);
        } else {
            self.core.refuses(last);
            self.core.send(from, Body::PreVoteReply { granted: false });
        }
    }

    /// Follows `from`, which speaks as the leader of the current term. False if another leads it.
    fn hear(&mut self, from: NodeId) -> bool {
        let leader = match &mut self.role {
            Role::Follower(follower) => follower.hear(from).err(),
            Role::Leader(_) => Some(self.core.id()),
            Role::PreCandidate(_) | Role::Candidate(_) => {
                let term = self.core.term();
                self.transition(Some(Transition::Follower { term, leader: Some(from) }));
                None
            }
        };
        let Some(leader) = leader else {
            self.core.heard_leader();
            return true;
        };
        if self.core.believes(from) {
            let term = self.core.term();
            self.core.breaks(Broken::SecondLeader { term, leader, other: from });
        }
        false
    }

    /// Lets `from`, who was promised a vote, stand first: whoever stands in the same term takes the votes
    /// that the other needs. Of two who ask each other at once, the one with the lower name gives way.
    fn give_way(&mut self, from: NodeId) {
        match &mut self.role {
            Role::Follower(follower) => follower.give_way(&self.core),
            Role::PreCandidate(_) if self.core.id() < from => {
                let term = self.core.term();
                self.transition(Some(Transition::Follower { term, leader: None }));
            }
            _ => {}
        }
    }

    fn hears_leader(&self) -> bool {
        match &self.role {
            Role::Follower(follower) => follower.hears_leader(&self.core),
            Role::Leader(_) => true,
            Role::PreCandidate(_) | Role::Candidate(_) => false,
        }
    }

    /// Whether a leader counts on this node not to help anybody to its place: this one itself, or one
    /// that was heard within the shortest time-out, in whatever term.
    fn guards_leader(&self) -> bool {
        matches!(self.role, Role::Leader(_)) || self.core.guards_leader()
    }

    /// Goes from role to role until one stays: a single voter goes all the way to leader.
    fn transition(&mut self, next: Option<Transition>) {
        let mut next = next;
        while let Some(transition) = next {
            next = match transition {
                Transition::Follower { term, leader } => self.become_follower(term, leader),
                Transition::PreCandidate => self.become_pre_candidate(),
                Transition::Candidate { transfer } => self.become_candidate(transfer),
                Transition::Leader => self.become_leader(),
            };
        }
    }

    fn become_follower(&mut self, term: Term, leader: Option<NodeId>) -> Option<Transition> {
        self.leave_role(leader);
        if term > self.core.term() {
            self.core.enter_term(term);
        }
        self.role = Role::Follower(Follower::new(&mut self.core, leader));
        None
    }

    fn become_pre_candidate(&mut self) -> Option<Transition> {
        if self.core.term() >= TERM_MAX {
            return None;
        }
        self.leave_role(None);
        let candidate = PreCandidate::new(&mut self.core);
        let next = candidate.outcome(&self.core);
        self.role = Role::PreCandidate(candidate);
        next
    }

    fn become_candidate(&mut self, transfer: bool) -> Option<Transition> {
        if self.core.term() >= TERM_MAX {
            return None;
        }
        self.leave_role(None);
        self.role = Role::Candidate(Candidate::new(&mut self.core, transfer));
        None
    }

    fn become_leader(&mut self) -> Option<Transition> {
        self.leave_role(Some(self.core.id()));
        self.core.elected();
        let undone = self.core.undone_by_force().map(Payload::Membership);
        self.core.forced = false;
        let leader = Leader::new(&mut self.core, undone.unwrap_or(Payload::Noop));
        self.role = Role::Leader(Box::new(leader));
        None
    }

    /// Ends what only the present role can finish.
    fn leave_role(&mut self, leader: Option<NodeId>) {
        match &mut self.role {
            Role::Follower(follower) => follower.leave(&mut self.core, leader),
            Role::Leader(old) => old.leave(&mut self.core, leader),
            Role::PreCandidate(_) | Role::Candidate(_) => {}
        }
    }

    /// The newest term that is believed. Who belongs to no cluster yet has no measure of its own.
    fn term_limit(&self) -> Term {
        match self.core.membership() {
            Some(_) => TERM_MAX.min(Term(self.core.term().0.saturating_add(TERM_LEAP_MAX))),
            None => TERM_MAX,
        }
    }

    fn not_leader(&self) -> Refused {
        Refused::NotLeader { leader: self.leader() }
    }
}

#[cfg(test)]
#[path = "node_tests.rs"]
mod tests;
