//! Elections (section 5.2) with the pre-vote that keeps a returning node from disturbing
//! (thesis 9.6).

use std::collections::BTreeMap;

use super::core::Core;
use super::id::NodeId;
use super::message::Body;
use super::node::Transition;
use super::timer::ElectionTimer;
use crate::mutant::{Mutant, on};

/// Asks whether an election would be won. Term and vote stay as they are.
#[derive(Debug)]
pub(super) struct PreCandidate {
    timer: ElectionTimer,
    answers: BTreeMap<NodeId, bool>,
}

/// Stands for election in its term.
#[derive(Debug)]
pub(super) struct Candidate {
    timer: ElectionTimer,
    answers: BTreeMap<NodeId, bool>,
}

impl PreCandidate {
    /// Asks the other voters.
    pub(super) fn new(core: &mut Core) -> PreCandidate {
        let last = core.log.last();
        for voter in core.voters() {
            core.send_in(core.term().next(), voter, Body::PreVote { last });
        }
        PreCandidate { timer: core.timer(), answers: BTreeMap::from([(core.id(), true)]) }
    }

    pub(super) fn tick(&mut self, core: &Core) -> Option<Transition> {
        retry(&mut self.timer, core)
    }

    pub(super) fn answered(
        &mut self,
        core: &Core,
        from: NodeId,
        granted: bool,
    ) -> Option<Transition> {
        self.answers.insert(from, granted);
        self.outcome(core)
    }

    pub(super) fn outcome(&self, core: &Core) -> Option<Transition> {
        match count(core, &self.answers)? {
            true => Some(Transition::Candidate { transfer: false }),
            false => Some(Transition::Follower { term: core.term(), leader: None }),
        }
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
        Candidate { timer: core.timer(), answers: BTreeMap::new() }
    }

    pub(super) fn tick(&mut self, core: &Core) -> Option<Transition> {
        retry(&mut self.timer, core)
    }

    pub(super) fn answered(
        &mut self,
        core: &Core,
        from: NodeId,
        granted: bool,
    ) -> Option<Transition> {
        self.answers.insert(from, granted);
        self.outcome(core)
    }

    pub(super) fn persisted(&mut self, core: &Core) -> Option<Transition> {
        if !core.is_vouched() && !on(Mutant::OwnVoteEarly) {
            return None;
        }
        self.answers.insert(core.id(), true);
        self.outcome(core)
    }

    fn outcome(&self, core: &Core) -> Option<Transition> {
        // Without its own vote, durable, a node leads nobody.
        if !self.answers.contains_key(&core.id()) {
            return None;
        }
        match count(core, &self.answers)? {
            true => Some(Transition::Leader),
            false => Some(Transition::Follower { term: core.term(), leader: None }),
        }
    }
}

/// Starts over with a pre-vote once the time-out is reached.
fn retry(timer: &mut ElectionTimer, core: &Core) -> Option<Transition> {
    if !timer.tick() {
        None
    } else if core.may_stand() {
        Some(Transition::PreCandidate)
    } else {
        Some(Transition::Follower { term: core.term(), leader: None })
    }
}

/// Won, lost, or not yet decided.
fn count(core: &Core, answers: &BTreeMap<NodeId, bool>) -> Option<bool> {
    let membership = core.membership()?;
    if membership.is_quorum(|node| answers.get(&node) == Some(&true)) {
        Some(true)
    } else if !membership.is_quorum(|node| answers.get(&node) != Some(&false)) {
        Some(false)
    } else {
        None
    }
}
