//! A follower: takes what its leader sends, and answers once it is durable (section 5.3).

use super::core::Core;
use super::entry::Entry;
use super::id::{Index, LogId, NodeId, ReadId};
use super::io::Refused;
use super::message::Body;
use super::reads::PendingReadIndex;
use super::sound::INDEX_MAX;
use super::timer::ElectionTimer;
use super::transition::Transition;

/// A question that is out for so many heartbeats is asked again: a round takes a heartbeat if its first was lost.
const ANSWERED_IN_HEARTBEATS: u32 = 2;

/// Follows a leader, or waits for one.
#[derive(Clone, Debug, Hash)]
pub(super) struct Follower {
    leader: Option<NodeId>,
    /// Runs since the leader was last heard, or since a vote was given.
    timer: ElectionTimer,
    /// Up to here the log is known to be the leader's.
    verified: Index,
    /// The last index that the leader was told.
    told: Index,
    /// The newest commit index that the leader told of, whether or not the log reaches it.
    heard_commit: Index,
    /// The leader waits for an answer even if there is no news.
    answer_due: bool,
    pending: PendingReadIndex,
}

impl Follower {
    pub(super) fn new(core: &mut Core, leader: Option<NodeId>) -> Follower {
        Follower {
            leader,
            timer: core.election_timer(),
            verified: core.log.commit(),
            told: core.log.commit(),
            heard_commit: Index(0),
            answer_due: false,
            pending: PendingReadIndex::default(),
        }
    }

    pub(super) fn leader(&self) -> Option<NodeId> {
        self.leader
    }

    /// The newest commit index that the leader told of.
    pub(super) fn heard_commit(&self) -> Index {
        self.heard_commit
    }

    /// Whether the leader was heard within the shortest election time-out: then nobody else is taken
    /// for one.
    pub(super) fn hears_leader(&self, core: &Core) -> bool {
        self.leader.is_some() && self.timer.elapsed() < core.config.election_ticks
    }

    pub(super) fn tick(&mut self, core: &mut Core) -> Option<Transition> {
        let given_up = self.pending.tick(core.config.election_ticks);
        core.refuse_reads(given_up, self.leader);
        let every = core.config.heartbeat_ticks.saturating_mul(ANSWERED_IN_HEARTBEATS);
        if let Some((leader, (id, lease))) = self.leader.zip(self.pending.ask_again(every)) {
            core.send(leader, Body::ReadIndex { id, lease });
        }
        if !self.timer.tick() || core.is_bound_by_start() {
            return None;
        }
        if core.may_stand() {
            return Some(Transition::PreCandidate);
        }
        // Without a vote it can only wait.
        self.lose_leader(core);
        self.timer.reset();
        None
    }

    fn lose_leader(&mut self, core: &mut Core) {
        self.leader = None;
        self.leave(core, None);
    }

    /// Refuses whoever reads here when this leader is not followed any more.
    pub(super) fn leave(&mut self, core: &mut Core, leader: Option<NodeId>) {
        core.refuse_reads(self.pending.drain(), leader);
    }

    /// `from` leads this term, or who is known to, if that is another.
    pub(super) fn hear(&mut self, from: NodeId) -> Result<(), NodeId> {
        if let Some(leader) = self.leader.filter(|leader| *leader != from) {
            return Err(leader);
        }
        self.leader = Some(from);
        self.timer.reset();
        Ok(())
    }

    /// Waits for the candidacy that this node has promised to help. Who cannot win asks whoever has answered again only
    /// after twice as long, so it holds up nobody for good.
    pub(super) fn give_way(&mut self, core: &Core) {
        self.timer.hold(core.config.election_ticks / 4);
    }

    /// Decides on a vote in the current term.
    pub(super) fn vote(&mut self, core: &mut Core, from: NodeId, last: LogId) {
        let free = core.vote().map_or(self.leader.is_none(), |vote| vote == from);
        let granted = free && core.is_fresh(last);
        if granted {
            core.vote_for(from);
            self.timer.reset();
        }
        core.send(from, Body::VoteReply { granted });
    }

    pub(super) fn append(
        &mut self,
        core: &mut Core,
        prev: LogId,
        entries: Vec<Entry>,
        commit: Index,
    ) {
        self.heard_commit = self.heard_commit.max(commit);
        // As if it were lost: what is committed is applied first, which needs nothing of what comes.
        let waiting_max = core.config.uncommitted_bytes_max;
        if !entries.is_empty()
            && core.log.unsettled_bytes() > waiting_max.saturating_mul(2)
            && core.log.unsettled_committed_bytes() > waiting_max
        {
            return;
        }
        let log = &mut core.log;
        if prev.index > log.commit() && log.term_at(prev.index) != Some(prev.term) {
            let limit = prev.index.prev().min(log.last().index);
            let hint = log.last_not_above(limit, prev.term);
            // What is committed cannot differ, so the search never goes below it.
            let floor = log.commit();
            let hint = match log.term_at(floor) {
                Some(term) if hint.index < floor => LogId::new(term, floor),
                _ => hint,
            };
            if let Some(leader) = self.leader {
                core.send(leader, Body::AppendReject { prev: prev.index, hint });
            }
            return;
        }
        let contradiction = std::iter::once(prev)
            .chain(entries.iter().map(|entry| entry.id))
            .find_map(|said| Some((said, core.contradicted(said)?)));
        if let Some((said, held)) = contradiction {
            return core.contradicts_committed(self.leader, said, held);
        }
        let log = &mut core.log;
        let end = entries.last().map_or(prev.index, |entry| entry.id.index);
        let known = entries
            .iter()
            .take_while(|entry| {
                let id = entry.id;
                id.index <= log.commit() || log.term_at(id.index) == Some(id.term)
            })
            .count();
        for entry in entries.into_iter().skip(known) {
            if entry.id.index <= log.last().index {
                log.truncate(entry.id.index);
            }
            log.append(entry);
        }
        log.commit_to(commit.min(end));
        self.verified = self.verified.max(end).max(log.commit());
        // An answer at once only if it says all that was asked; otherwise once that is durable. Half
        // an answer would make a leader that probes send the other half again.
        if end <= log.durable() {
            self.answer_due = true;
        } else {
            self.told = self.told.max(self.verified.min(log.durable()));
        }
    }

    pub(super) fn heartbeat(&mut self, core: &mut Core, commit: Index, round: u64) {
        // The leader knows what it says to be durable here; the bound guards against liars.
        let commit = commit.min(core.log.durable()).min(INDEX_MAX);
        if core.log.commit_to(commit) {
            self.verified = self.verified.max(core.log.commit());
        }
        if let Some(leader) = self.leader {
            core.send(leader, Body::HeartbeatReply { round });
        }
    }

    /// The leader offers a snapshot. What is here already needs none.
    pub(super) fn offer(&mut self, core: &mut Core, last: LogId) {
        if let Some(held) = core.contradicted(last) {
            return core.contradicts_committed(self.leader, last, held);
        }
        if core.log.term_at(last.index) == Some(last.term) {
            core.log.commit_to(last.index.min(core.log.durable()));
        }
        self.installed(core, last);
    }

    /// The log reaches `last` by a snapshot.
    pub(super) fn installed(&mut self, core: &Core, last: LogId) {
        self.verified = self.verified.max(core.log.commit());
        self.answer_due |= core.log.commit() >= last.index;
    }

    pub(super) fn read(&mut self, core: &mut Core, id: ReadId, lease: bool) {
        if self.leader.is_none() {
            core.refuse_reads([id], None);
        } else if self.pending.len() >= core.config.reads_max {
            core.out.reads.push((id, Err(Refused::Busy)));
        } else {
            self.pending.wait(id, lease);
        }
    }

    pub(super) fn read_index(&mut self, core: &mut Core, id: ReadId, index: Option<Index>) {
        let reads = self.pending.answered(id);
        match index {
            Some(index) => {
                self.heard_commit = self.heard_commit.max(index);
                // The leader has committed that much of a log that is the same up to what is verified: who reads need not
                // wait for the next heartbeat to say so.
                core.log.commit_to(index.min(self.verified));
                core.out.reads.extend(reads.into_iter().map(|read| (read, Ok(index))));
            }
            None => core.refuse_reads(reads, None),
        }
    }

    /// Sends what has gathered: an acknowledgement of what is durable, and a question for reads.
    pub(super) fn flush(&mut self, core: &mut Core) {
        let Some(leader) = self.leader else { return };
        let matched = self.verified.min(core.log.durable());
        if core.is_vouched() && (self.answer_due || matched > self.told) {
            self.answer_due = false;
            self.told = matched;
            core.send(leader, Body::AppendReply { matched });
        }
        if let Some((id, lease)) = self.pending.ask(|| core.name_question()) {
            core.send(leader, Body::ReadIndex { id, lease });
        }
    }
}
