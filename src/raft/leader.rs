//! A leader: takes proposals, counts acknowledgements and commits (sections 5.3 and 5.4), and
//! answers reads. How it sends the log is in `replication`, how it changes the membership and hands
//! over in `change`.

use std::collections::BTreeMap;

use super::core::Core;
use super::entry::{Entry, Payload};
use super::id::{Index, LogId, NodeId, ProposalId};
use super::io::Refused;
use super::lease::Lease;
use super::membership::Membership;
use super::message::Body;
use super::progress::{Probe, Progress, Sending};
use super::reads::{Reader, Rounds};
use super::transition::Transition;

/// Leads its term.
#[derive(Clone, Debug, Hash)]
pub(super) struct Leader {
    /// The first entry of this term. Once it is committed, so is all before it (section 5.4.2), and
    /// the commit index is one to read at.
    pub(super) first: Index,
    pub(super) peers: BTreeMap<NodeId, Progress>,
    pub(super) transfer: Option<Transfer>,
    pub(super) rounds: Rounds,
    pub(super) lease: Lease,
    heartbeat_ticks: u32,
    quorum_ticks: u32,
    pub(super) uncommitted_bytes: usize,
}

/// Leadership is being handed over (thesis 3.10).
#[derive(Clone, Debug, Hash)]
pub(super) struct Transfer {
    pub(super) to: NodeId,
    pub(super) ticks: u32,
    /// Whether the receiver, up to date, was told to stand for election.
    pub(super) told: bool,
}

impl Leader {
    /// Begins a term with `payload`, a no-op or the first membership.
    pub(super) fn new(core: &mut Core, payload: Payload) -> Leader {
        let uncommitted_bytes = core.log.cost_after(core.log.commit());
        let first = core.append_own(payload).index;
        let mut leader = Leader {
            first,
            peers: BTreeMap::new(),
            transfer: None,
            rounds: Rounds::default(),
            lease: Lease::default(),
            heartbeat_ticks: 0,
            quorum_ticks: 0,
            uncommitted_bytes,
        };
        leader.uncommitted_bytes += core.log.cost_between(first.prev(), first);
        leader.follow_membership(core, first);
        leader
    }

    /// Has a progress for each peer of the membership in force, and for nobody else.
    pub(super) fn follow_membership(&mut self, core: &Core, next: Index) {
        self.lease.restart();
        let peers = core.peers();
        self.peers.retain(|peer, _| peers.contains(peer));
        for peer in peers {
            self.peers.entry(peer).or_insert_with(|| Progress::new(next));
        }
    }

    /// A snapshot that was on its way since before the election is in place. The log held `last`, which
    /// is committed now.
    pub(super) fn installed(&mut self, core: &Core, last: LogId) {
        self.uncommitted_bytes = core.log.cost_after(core.log.commit());
        self.follow_membership(core, last.index.next());
    }

    pub(super) fn append(&mut self, core: &mut Core, payload: Payload) -> LogId {
        let id = core.append_own(payload);
        self.uncommitted_bytes += core.log.cost_between(id.index.prev(), id.index);
        id
    }

    pub(super) fn propose(&mut self, core: &mut Core, id: ProposalId, payload: Payload) {
        let accepted = if self.transfer.is_some() {
            Err(Refused::Transferring)
        } else {
            let entry = Entry { id: LogId::ZERO, payload };
            // What waits to be applied waits in memory, too: clients are held back to what the disk of the state takes.
            let waiting = core.log.unsettled_bytes().max(self.uncommitted_bytes);
            let bytes = waiting.saturating_add(entry.cost_bytes());
            if waiting > 0 && bytes > core.config.uncommitted_bytes_max {
                Err(Refused::Busy)
            } else {
                Ok(self.append(core, entry.payload))
            }
        };
        core.out.accepted.push((id, accepted));
    }

    pub(super) fn tick(&mut self, core: &mut Core) -> Option<Transition> {
        for progress in self.peers.values_mut() {
            progress.idle_ticks = progress.idle_ticks.saturating_add(1);
        }
        self.quorum_ticks += 1;
        if self.quorum_ticks >= core.config.election_ticks {
            self.quorum_ticks = 0;
            let id = core.id();
            let is_active =
                |node| node == id || self.peers.get(&node).is_some_and(|progress| progress.active);
            let quorum = core.membership().is_some_and(|now| now.is_quorum(is_active));
            // A change whose new voters do not answer is given up rather than the place.
            let before = core.membership().and_then(Membership::undone);
            let goes_back = before.is_some_and(|before| before.is_quorum(is_active));
            let stays = quorum || (goes_back && self.undo(core).is_some());
            if !stays {
                return Some(Transition::Follower { term: core.term(), leader: None });
            }
            for progress in self.peers.values_mut() {
                progress.active = false;
            }
        }
        self.tick_transfer(core);
        self.heartbeat_ticks += 1;
        if self.heartbeat_ticks >= core.config.heartbeat_ticks {
            self.heartbeat(core);
        }
        None
    }

    fn heartbeat(&mut self, core: &mut Core) {
        self.heartbeat_ticks = 0;
        let round = self.rounds.next();
        if core.lease_us() > 0 {
            self.lease.left(round, core.now());
        }
        for (&peer, progress) in &mut self.peers {
            let commit = progress.committed(&core.log);
            progress.told = progress.told.max(commit);
            core.send(peer, Body::Heartbeat { commit, round });
        }
    }

    /// Whether a peer holds what is committed and was not told that it is.
    pub(super) fn has_untold(&self, core: &Core) -> bool {
        core.is_vouched()
            && self.peers.values().any(|progress| progress.told < progress.committed(&core.log))
    }

    /// Tells those peers. It is a heartbeat out of turn, of the round that is the newest anyhow.
    pub(super) fn tell_commits(&mut self, core: &mut Core) {
        if !core.is_vouched() {
            return;
        }
        let round = self.rounds.newest();
        for (&peer, progress) in &mut self.peers {
            let commit = progress.committed(&core.log);
            if progress.told < commit {
                progress.told = commit;
                core.send(peer, Body::Heartbeat { commit, round });
            }
        }
    }

    pub(super) fn heartbeat_answered(&mut self, core: &mut Core, from: NodeId, round: u64) {
        let newest = self.rounds.newest();
        let Some(progress) = self.peers.get_mut(&from) else { return };
        progress.active = true;
        progress.round = progress.round.max(round.min(newest));
        self.revive(core, from);
        self.round_answered(core);
    }

    pub(super) fn appended(
        &mut self,
        core: &mut Core,
        from: NodeId,
        matched: Index,
    ) -> Option<Transition> {
        let last = core.log.last().index;
        let progress = self.peers.get_mut(&from)?;
        progress.active = true;
        // Nobody holds durably what this leader has not sent.
        if matched > last {
            return None;
        }
        if !progress.acknowledged(matched) {
            return None;
        }
        self.send_timeout_now_if_ready(core);
        self.count(core)
    }

    pub(super) fn rejected(&mut self, core: &mut Core, from: NodeId, prev: Index, hint: LogId) {
        if let Some(progress) = self.peers.get_mut(&from) {
            progress.active = true;
            progress.rejected(prev, hint, &core.log);
        }
    }

    /// Commits what a quorum holds durably, this node as far as its own disk says, if it is of this
    /// term (section 5.4.2 and figure 8).
    pub(super) fn count(&mut self, core: &mut Core) -> Option<Transition> {
        loop {
            let id = core.id();
            let durable = core.log.durable();
            let reached = core.membership()?.quorum_value(|node| {
                if node == id {
                    durable
                } else {
                    self.peers.get(&node).map_or(Index(0), |progress| progress.matched)
                }
            });
            let before = core.log.commit();
            if reached <= before || reached < self.first {
                return None;
            }
            let bytes = core.log.cost_between(before, reached);
            core.log.commit_to(reached);
            self.uncommitted_bytes = self.uncommitted_bytes.saturating_sub(bytes);
            if let Some(transition) = self.membership_committed(core) {
                return Some(transition);
            }
        }
    }

    pub(super) fn is_established(&self, core: &Core) -> bool {
        core.log.commit() >= self.first
    }

    /// Takes a read; `lease`: while this leader holds one, that suffices.
    pub(super) fn read(&mut self, core: &mut Core, reader: Reader, lease: bool) {
        let holds = || self.is_established(core) && self.lease.holds(core.now(), core.lease_us());
        if lease && holds() {
            let index = core.log.commit();
            release(core, reader, index);
        } else if self.rounds.len() >= core.config.reads_max {
            match reader {
                Reader::Here(id) => core.out.reads.push((id, Err(Refused::Busy))),
                Reader::There(peer, id) => {
                    core.send(peer, Body::ReadIndexReply { id, index: None })
                }
            }
        } else {
            self.rounds.wait(reader);
        }
    }

    fn begin_round(&mut self, core: &mut Core) {
        if self.is_established(core) && self.rounds.begin(core.log.commit()) {
            core.out.read_rounds.started.push(self.rounds.readers_out());
            self.heartbeat(core);
        }
        // Also without another answer: whom it waited for may have left the membership.
        self.round_answered(core);
    }

    /// Releases the reads whose round a quorum has answered, and prolongs the lease.
    fn round_answered(&mut self, core: &mut Core) {
        if !self.rounds.is_out() && !self.lease.is_waiting() {
            return;
        }
        let id = core.id();
        let Some(membership) = core.membership() else { return };
        let answered = membership.quorum_value(|node| {
            if node == id {
                self.rounds.newest()
            } else {
                self.peers.get(&node).map_or(0, |progress| progress.round)
            }
        });
        self.lease.answered(answered);
        if let Some((index, readers)) = self.rounds.end(answered) {
            core.out.read_rounds.confirmed += 1;
            for reader in readers {
                release(core, reader, index);
            }
        }
    }

    /// Refuses whoever still waits when leadership ends.
    pub(super) fn leave(&mut self, core: &mut Core, leader: Option<NodeId>) {
        let mut here = Vec::new();
        for reader in self.rounds.drain() {
            match reader {
                Reader::Here(id) => here.push(id),
                Reader::There(peer, id) => {
                    core.send(peer, Body::ReadIndexReply { id, index: None })
                }
            }
        }
        core.refuse_reads(here, leader);
    }

    pub(super) fn unreachable(&mut self, peer: NodeId) {
        if let Some(progress) = self.peers.get_mut(&peer)
            && matches!(progress.sending, Sending::Replicate(_))
        {
            progress.probe_from(progress.matched.next(), Probe::Due);
        }
    }

    /// Sends what has gathered: a round for reads, and the log.
    pub(super) fn flush(&mut self, core: &mut Core) {
        self.begin_round(core);
        // Only a founder leads before its term is durable; nobody may hear of it until then.
        if core.is_vouched() {
            self.replicate(core);
        }
    }

    /// The membership of an operator's wish that may follow the one in force, joint if need be.
    pub(super) fn next_membership(now: &Membership, wanted: Membership) -> Option<Membership> {
        let fits = wanted.outgoing.is_none()
            && wanted.cluster == now.cluster
            && !wanted.voters.is_empty()
            && wanted.voters.iter().all(|voter| wanted.members.contains_key(voter))
            // Once the joint phase ends, an outgoing voter leaves the members: the joint entry
            // cannot say that it is to stay as a learner.
            && wanted.members.keys().all(|node| wanted.voters.contains(node) || !now.is_voter(*node));
        if !fits {
            return None;
        }
        if wanted.voters == now.voters {
            return Some(wanted);
        }
        let mut joint = wanted;
        for voter in &now.voters {
            // Outgoing voters stay reachable.
            if let Some(member) = now.members.get(voter) {
                joint.members.entry(*voter).or_insert_with(|| member.clone());
            }
        }
        joint.outgoing = Some(now.voters.clone());
        Some(joint)
    }
}

/// Lets a read go ahead once `index` is applied where it was asked for.
fn release(core: &mut Core, reader: Reader, index: Index) {
    match reader {
        Reader::Here(id) => core.out.reads.push((id, Ok(index))),
        Reader::There(peer, id) => {
            core.send(peer, Body::ReadIndexReply { id, index: Some(index) });
        }
    }
}
