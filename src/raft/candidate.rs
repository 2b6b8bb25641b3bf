//! Elections (section 5.2) with the pre-vote that keeps a returning node from disturbing
//! (thesis 9.6).

use std::collections::BTreeMap;

use super::core::Core;
use super::id::NodeId;
use super::message::Body;
use super::timer::ElectionTimer;
use super::transition::Transition;

/// So many ticks after it asked a pre-candidate asks those again who have not answered. A voter that still guarded the
/// leader did not hear it, and its guard ends soon: ticks of two nodes are less than one apart, heartbeats little more.
const ASKS_AGAIN_TICKS: u32 = 2;

/// Asks whether an election would be won. Term and vote stay as they are.
#[derive(Clone, Debug, Hash)]
pub(super) struct PreCandidate(Ballot);

/// Stands for election in its term.
#[derive(Clone, Debug, Hash)]
pub(super) struct Candidate(Ballot);

/// The answers so far, and how long they are waited for.
#[derive(Clone, Debug, Hash)]
struct Ballot {
    timer: ElectionTimer,
    answers: BTreeMap<NodeId, bool>,
}

impl PreCandidate {
    /// Asks the other voters.
    pub(super) fn new(core: &mut Core) -> PreCandidate {
        let answers = BTreeMap::from([(core.id(), true)]);
        let candidate = PreCandidate(Ballot { timer: core.ballot_timer(), answers });
        candidate.ask(core);
        candidate
    }

    /// Asks whoever has not answered.
    fn ask(&self, core: &mut Core) {
        let last = core.log.last();
        for voter in core.voters() {
            if !self.0.answers.contains_key(&voter) {
                core.send_in(core.term().next(), voter, Body::PreVote { last });
            }
        }
    }

    pub(super) fn tick(&mut self, core: &mut Core) -> Option<Transition> {
        let next = self.0.tick(core);
        if self.0.timer.elapsed() == ASKS_AGAIN_TICKS && next.is_none() && core.may_stand() {
            self.ask(core);
        }
        next
    }

    pub(super) fn answered(
        &mut self,
        core: &Core,
        from: NodeId,
        granted: bool,
    ) -> Option<Transition> {
        self.0.answers.insert(from, granted);
        self.outcome(core)
    }

    pub(super) fn outcome(&self, core: &Core) -> Option<Transition> {
        self.0.outcome(core, Transition::Candidate { transfer: false })
    }
}

impl Candidate {
    /// Votes for itself in a new term and asks the others. The requests leave, and its own vote
    /// counts, once vote and log are durable: the log that it stands with must survive.
    pub(super) fn new(core: &mut Core, transfer: bool) -> Candidate {
        core.enter_term(core.term().next());
        core.vote_for(core.id());
        let last = core.log.last();
        for voter in core.voters() {
            core.send(voter, Body::Vote { last, transfer });
        }
        Candidate(Ballot { timer: core.vote_timer(), answers: BTreeMap::new() })
    }

    /// Time counts once its own vote is durable: until then nobody was asked.
    pub(super) fn tick(&mut self, core: &Core) -> Option<Transition> {
        if self.0.answers.contains_key(&core.id()) { self.0.tick(core) } else { None }
    }

    pub(super) fn answered(
        &mut self,
        core: &Core,
        from: NodeId,
        granted: bool,
    ) -> Option<Transition> {
        self.0.answers.insert(from, granted);
        // Without its own vote, durable, a node leads nobody.
        if !self.0.answers.contains_key(&core.id()) {
            return None;
        }
        self.0.outcome(core, Transition::Leader)
    }

    pub(super) fn persisted(&mut self, core: &Core) -> Option<Transition> {
        if core.is_vouched() { self.answered(core, core.id(), true) } else { None }
    }
}

impl Ballot {
    /// Starts over with a pre-vote once the time-out is reached.
    fn tick(&mut self, core: &Core) -> Option<Transition> {
        if !self.timer.tick() {
            None
        } else if core.may_stand() {
            Some(Transition::PreCandidate)
        } else {
            Some(Transition::Follower { term: core.term(), leader: None })
        }
    }

    /// On to `won`, back to following, or not yet decided.
    fn outcome(&self, core: &Core, won: Transition) -> Option<Transition> {
        if core.elects(|node| self.answers.get(&node) == Some(&true))? {
            Some(won)
        } else if !core.elects(|node| self.answers.get(&node) != Some(&false))? {
            Some(Transition::Follower { term: core.term(), leader: None })
        } else {
            None
        }
    }
}
