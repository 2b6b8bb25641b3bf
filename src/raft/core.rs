//! What a node has whatever its role: term, vote, log, and the output that gathers.

use std::collections::VecDeque;

use super::broken::Broken;
use super::entry::{Entry, HardState, Payload};
use super::id::{Index, LogId, Moment, NodeId, ReadId, Seq, Term};
use super::io::{Config, LogWrite, Output, Recovered, Refused};
use super::log::Log;
use super::membership::{ClusterId, Membership};
use super::message::{Body, Message};
use super::timer::{ElectionTimer, SplitMix64};

/// The most messages that are held back until the term and vote are durable. Beyond it they are
/// dropped, as a network may.
const HELD_MAX: usize = 1024;

/// The part of a node that all roles share.
#[derive(Clone, Debug, Hash)]
pub(super) struct Core {
    pub(super) config: Config,
    pub(super) log: Log,
    pub(super) out: Output,
    random: SplitMix64,
    term: Term,
    vote: Option<NodeId>,
    /// Whether the next write has to hold the hard state.
    unwritten: bool,
    /// The write that holds the newest term and vote.
    durable_after: Seq,
    /// The commit index that the newest write holds.
    written_commit: Index,
    /// The number of the next write.
    next_seq: Seq,
    /// The last write that is durable.
    persisted: Seq,
    /// Messages that leave once the write is durable.
    deferred: VecDeque<(Seq, Message)>,
    next_question: u64,
    /// What the clock showed last.
    now: Moment,
    /// The cluster that was heard of first, or last while no leader is heard; a membership rules.
    heard_of: Option<ClusterId>,
    /// An operator takes the risk that a joint change is undone although it may have been decided: the
    /// outgoing voters alone elect this node.
    pub(super) forced: bool,
    /// Ticks since a leader was heard, in whatever term; since the start if one may have been heard
    /// right before.
    silent_ticks: u32,
    /// Since there was a leader this node refused its vote to somebody whose log is older, to whom it is a voter.
    counted_on: bool,
    /// Ticks until what may have been promised before the start is over.
    start_guard_ticks: u32,
    /// Whether leases count here.
    leases: bool,
    /// How many votes came when their ballot was over, since there was a leader.
    late_votes: u32,
    /// What was seen that cannot be: nothing happens here any more.
    broken: Option<Broken>,
}

/// How often late votes double the time that a candidate waits for the next ones.
const DOUBLED_MAX: u32 = 3;

impl Core {
    pub(super) fn new(config: Config, recovered: Recovered) -> Core {
        let mut random = SplitMix64::new(config.seed ^ config.id.0);
        Core {
            term: recovered.hard_state.term,
            vote: recovered.hard_state.vote,
            unwritten: false,
            durable_after: Seq(0),
            written_commit: recovered.hard_state.commit,
            next_seq: Seq(1),
            persisted: Seq(0),
            deferred: VecDeque::new(),
            next_question: random.next(),
            now: Moment::default(),
            heard_of: None,
            forced: false,
            silent_ticks: if recovered.heard_leader { 0 } else { u32::MAX },
            counted_on: false,
            start_guard_ticks: if recovered.heard_leader { config.start_guard_ticks } else { 0 },
            leases: false,
            late_votes: 0,
            broken: None,
            random,
            log: Log::new(recovered),
            out: Output::default(),
            config,
        }
    }

    pub(super) fn id(&self) -> NodeId {
        self.config.id
    }

    pub(super) fn term(&self) -> Term {
        self.term
    }

    pub(super) fn vote(&self) -> Option<NodeId> {
        self.vote
    }

    pub(super) fn hard_state(&self) -> HardState {
        HardState { term: self.term, vote: self.vote, commit: self.log.commit() }
    }

    /// How long a follower waits for a leader.
    pub(super) fn election_timer(&mut self) -> ElectionTimer {
        ElectionTimer::start(&mut self.random, self.config.election_ticks)
    }

    /// How long answers to a candidate are waited for: whoever answers at all does so in less than half
    /// of an election time-out, and a vote that was split should not cost a whole one more.
    pub(super) fn ballot_timer(&mut self) -> ElectionTimer {
        ElectionTimer::start(&mut self.random, self.config.election_ticks / 2)
    }

    /// How long votes are waited for: as long, and twice as long for each that came too late, since where disks
    /// and ways are slower than a time-out allows nobody else would ever be elected.
    pub(super) fn vote_timer(&mut self) -> ElectionTimer {
        let least = self.config.election_ticks / 2;
        let doubled = self.late_votes.min(DOUBLED_MAX);
        ElectionTimer::start(&mut self.random, least.max(1) << doubled)
    }

    /// A vote came after its ballot was over.
    pub(super) fn voted_late(&mut self) {
        self.late_votes = self.late_votes.saturating_add(1);
    }

    /// This node leads: its candidacy was long enough.
    pub(super) fn elected(&mut self) {
        self.counted_on = false;
        self.late_votes = 0;
    }

    pub(super) fn tick(&mut self) {
        self.silent_ticks = self.silent_ticks.saturating_add(1);
        self.start_guard_ticks = self.start_guard_ticks.saturating_sub(1);
    }

    pub(super) fn heard_leader(&mut self) {
        self.forced = false;
        self.counted_on = false;
        self.silent_ticks = 0;
        self.late_votes = 0;
    }

    /// Whether a leader counts on this node not to help anybody to its place (thesis 4.2.3).
    pub(super) fn guards_leader(&self) -> bool {
        self.silent_ticks < self.config.election_ticks || self.is_bound_by_start()
    }

    /// Whether a leader may count on what was promised before the start: then this node does not stand, either.
    pub(super) fn is_bound_by_start(&self) -> bool {
        self.start_guard_ticks > 0
    }

    /// Leases count here from now on, or do not.
    pub(super) fn set_leases(&mut self, leases: bool) {
        self.leases = leases;
    }

    /// How long a lease lasts, in microseconds; 0 while none counts.
    pub(super) fn lease_us(&self) -> u64 {
        if self.leases { self.config.lease_us } else { 0 }
    }

    /// What the clock showed last.
    pub(super) fn now(&self) -> Moment {
        self.now
    }

    /// The clock shows `now`.
    pub(super) fn clock(&mut self, now: Moment) {
        self.now = self.now.max(now);
    }

    /// A name for a question to a leader. They start at a random number, so that answers to an
    /// earlier life of this node find nobody.
    pub(super) fn name_question(&mut self) -> ReadId {
        self.next_question = self.next_question.wrapping_add(1);
        ReadId(self.next_question)
    }

    pub(super) fn membership(&self) -> Option<&Membership> {
        self.log.membership().map(|(_, membership)| membership)
    }

    /// The cluster that this node belongs to, or has heard of; none before that.
    pub(super) fn cluster(&self) -> Option<ClusterId> {
        self.membership().map(|membership| membership.cluster).or(self.heard_of)
    }

    /// Takes part in `cluster` from now on, unless a membership says of which one this node is.
    pub(super) fn hear_of(&mut self, cluster: ClusterId) {
        self.heard_of = Some(cluster);
    }

    /// Whether `node` takes part as far as is known here: by the membership in force, or by the one that is
    /// committed, since what is not committed may be undone. Everybody does before there is a membership.
    pub(super) fn is_member(&self, node: NodeId) -> bool {
        let Some(in_force) = self.membership() else { return true };
        let committed = self.log.committed_membership().map(|(_, membership)| membership);
        std::iter::once(in_force)
            .chain(committed)
            .any(|membership| membership.members.contains_key(&node) || membership.is_voter(node))
    }

    /// Whether what `node` says counts against what is held here: it is a member, and this node belongs to its cluster for
    /// good.
    pub(super) fn believes(&self, node: NodeId) -> bool {
        self.membership().is_some() && self.is_member(node)
    }

    /// The committed entry that cannot be if `said` is one; none if it has left the memory.
    pub(super) fn contradicted(&self, said: LogId) -> Option<LogId> {
        let term = self.log.term_at(said.index).filter(|_| said.index <= self.log.commit())?;
        (term != said.term).then(|| LogId::new(term, said.index))
    }

    /// The leader that is followed has `said` in its log, where this node has committed `held`.
    pub(super) fn contradicts_committed(
        &mut self,
        leader: Option<NodeId>,
        said: LogId,
        held: LogId,
    ) {
        if let Some(from) = leader.filter(|from| self.believes(*from)) {
            let (term, commit) = (self.term, self.log.commit());
            self.breaks(Broken::ContradictsCommitted { from, term, said, held, commit });
        }
    }

    /// An invariant is broken. What was seen first counts.
    pub(super) fn breaks(&mut self, broken: Broken) {
        self.broken.get_or_insert(broken);
    }

    /// What was seen that cannot be.
    pub(super) fn broken(&self) -> Option<&Broken> {
        self.broken.as_ref()
    }

    /// Whether those for whom `yes` answers true elect this node.
    pub(super) fn elects(&self, yes: impl Fn(NodeId) -> bool) -> Option<bool> {
        let membership = self.membership()?;
        Some(match self.undone_by_force() {
            Some(undone) => undone.is_quorum(yes),
            None => membership.is_quorum(yes),
        })
    }

    /// The membership that an operator wants back at any risk.
    pub(super) fn undone_by_force(&self) -> Option<Membership> {
        self.membership().filter(|_| self.forced)?.undone()
    }

    /// Whether this node has a say in elections.
    pub(super) fn is_voter(&self) -> bool {
        self.membership().is_some_and(|membership| membership.is_voter(self.config.id))
    }

    /// Whether this node may stand for election. One that is on its way out still may until its
    /// removal is committed: it can be the only one with a log that others would vote for (thesis
    /// 4.2.2). So can a learner be that refused its vote to an older log: by a change that is not in its own log it is a
    /// voter, without which nobody might be elected. It counts its vote only where its own log makes it a voter.
    pub(super) fn may_stand(&self) -> bool {
        let id = self.config.id;
        let is_learner = || self.membership().is_some_and(|now| now.members.contains_key(&id));
        let former = self.log.former_membership();
        self.is_voter()
            || former.is_some_and(|former| former.is_voter(id))
            || self.counted_on && is_learner()
    }

    /// This node does not give the vote that somebody asks for whose log ends with `last`.
    pub(super) fn refuses(&mut self, last: LogId) {
        self.counted_on |= !self.is_fresh(last);
    }

    /// Whether a log that ends with `last` holds all that this node's could have helped to commit
    /// (section 5.4.1).
    pub(super) fn is_fresh(&self, last: LogId) -> bool {
        last >= self.log.last()
    }

    /// Everybody else who is sent the log.
    pub(super) fn peers(&self) -> Vec<NodeId> {
        let Some(membership) = self.membership() else { return Vec::new() };
        let mut peers: Vec<NodeId> = membership
            .members
            .keys()
            .chain(&membership.voters)
            .chain(membership.outgoing.iter().flatten())
            .copied()
            .filter(|&peer| peer != self.config.id)
            .collect();
        peers.sort_unstable();
        peers.dedup();
        peers
    }

    /// The other voters, of both sets while joint.
    pub(super) fn voters(&self) -> Vec<NodeId> {
        let mut peers = self.peers();
        peers.retain(|&peer| self.membership().is_some_and(|membership| membership.is_voter(peer)));
        peers
    }

    /// Enters a newer term. Whatever was held back belongs to an old one and is dropped.
    pub(super) fn enter_term(&mut self, term: Term) {
        assert!(term > self.term, "term {term} does not follow {}", self.term);
        self.term = term;
        self.vote = None;
        self.deferred.clear();
        self.change_hard_state();
    }

    pub(super) fn vote_for(&mut self, node: NodeId) {
        assert!(self.vote.is_none_or(|vote| vote == node), "second vote in {}", self.term);
        if self.vote.is_none() {
            self.vote = Some(node);
            self.change_hard_state();
        }
    }

    fn change_hard_state(&mut self) {
        self.unwritten = true;
        self.durable_after = self.next_seq;
    }

    /// Whether the newest term and vote are durable.
    pub(super) fn is_vouched(&self) -> bool {
        self.durable_after <= self.persisted
    }

    /// Sends in this term; held back until term and vote are durable.
    pub(super) fn send(&mut self, to: NodeId, body: Body) {
        self.send_in(self.term, to, body);
    }

    /// Sends in another term, as the two pre-vote messages do.
    pub(super) fn send_in(&mut self, term: Term, to: NodeId, body: Body) {
        // Whoever has heard of no cluster has nobody to talk to.
        let Some(cluster) = self.cluster() else { return };
        let message = Message { cluster, from: self.config.id, to, term, body };
        if self.is_vouched() {
            self.out.send.push(message);
        } else if self.deferred.len() < HELD_MAX {
            self.deferred.push_back((self.durable_after, message));
        }
    }

    pub(super) fn refuse_reads(
        &mut self,
        reads: impl IntoIterator<Item = ReadId>,
        leader: Option<NodeId>,
    ) {
        let refused = Refused::NotLeader { leader };
        self.out.reads.extend(reads.into_iter().map(|read| (read, Err(refused))));
    }

    /// The write `seq` and all before it are durable.
    pub(super) fn persisted(&mut self, seq: Seq) {
        let issued = Seq(self.next_seq.0 - 1);
        let seq = seq.min(issued);
        if seq <= self.persisted {
            return;
        }
        self.persisted = seq;
        self.log.persisted(seq);
        while self.deferred.front().is_some_and(|(needed, _)| *needed <= seq) {
            self.out.send.extend(self.deferred.pop_front().map(|(_, message)| message));
        }
    }

    /// Appends an entry of this node's own term.
    pub(super) fn append_own(&mut self, payload: Payload) -> LogId {
        let id = LogId::new(self.term, self.log.last().index.next());
        self.log.append(Entry { id, payload });
        id
    }

    /// Gathers everything that waits to be written into one write.
    pub(super) fn gather_write(&mut self) {
        if !self.unwritten && !self.log.has_unwritten() {
            return;
        }
        let seq = self.next_seq;
        self.next_seq = Seq(seq.0 + 1);
        let write = self.log.take_write(seq);
        let changed = self.unwritten || self.written_commit != self.log.commit();
        self.unwritten = false;
        self.written_commit = self.log.commit();
        let hard_state = changed.then(|| self.hard_state());
        self.out.persist.push(LogWrite { hard_state, ..write });
    }
}
