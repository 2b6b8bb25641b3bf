//! Who founds the cluster: the synod of "Paxos Made Simple" (Lamport 2001, section 2.2), once, before there is a log.
//!
//! Whoever wants to found the cluster asks the nodes of its configuration in two steps, under a [`Ballot`] of its
//! own: for a *promise* to answer no lower ballot any more, which tells what was granted before; then, given those of
//! a majority, for the *grant*. With the grants of a majority it is the founder, and nobody else can be: whoever asks
//! later hears from a majority, one of which has granted, and leaves the founding to that one. What only a minority
//! had granted binds nobody, so a start that is interrupted anywhere goes on with those that are there.
//!
//! The value that is agreed on is always who asks, so who finds that another may be chosen has nothing to propose; it
//! waits for that one, which finds out by asking itself.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::NodeId;

/// The number of an attempt to found the cluster. A higher one overtakes a lower one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Ballot {
    /// Higher than any that its founder had heard of.
    pub round: u64,
    /// Who asks, to found the cluster itself.
    pub founder: NodeId,
}

/// Lower than any that somebody asks with.
impl Default for Ballot {
    fn default() -> Ballot {
        Ballot { round: 0, founder: NodeId(0) }
    }
}

/// What a node has said about who founds the cluster: durable before the answer leaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Grant {
    /// It answers no lower ballot.
    pub promised: Ballot,
    /// The last ballot that it granted.
    pub granted: Option<Ballot>,
}

/// What a node is asked for that belongs to no cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ask {
    /// The promise to answer no lower ballot.
    Promise(Ballot),
    /// The grant: that the ballot's founder founds the cluster.
    Grant(Ballot),
}

/// What it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// It promises, and this is what it granted last.
    Promised(Option<Ballot>),
    /// It grants.
    Granted,
    /// It has promised this ballot, which is higher.
    Outbid(Ballot),
    /// It belongs to a cluster already.
    Founded,
    /// It is to join a cluster, and helps nobody to found one.
    Joins,
    /// Its disk failed: nothing is known.
    Failed,
}

impl Grant {
    /// What the node answers, and what has to be on its disk before it does.
    pub fn answer(self, ask: Ask) -> (Grant, Answer) {
        let (Ask::Promise(ballot) | Ask::Grant(ballot)) = ask;
        if ballot < self.promised {
            return (self, Answer::Outbid(self.promised));
        }
        match ask {
            Ask::Promise(_) => (Grant { promised: ballot, ..self }, Answer::Promised(self.granted)),
            Ask::Grant(_) => (Grant { promised: ballot, granted: Some(ballot) }, Answer::Granted),
        }
    }
}

/// What an attempt has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Answers are awaited; if no more come the attempt has failed.
    Open,
    /// A majority has promised, and nobody else may have been chosen: the grant can be asked for.
    Free,
    /// This node may have been chosen before.
    Held(NodeId),
    /// A majority has granted: whoever asks is the founder.
    Chosen,
    /// A node that was asked belongs to a cluster.
    Founded,
}

/// An attempt to found the cluster.
#[derive(Clone, Debug)]
pub struct Attempt {
    ballot: Ballot,
    size: usize,
    promises: BTreeMap<NodeId, Option<Ballot>>,
    grants: BTreeSet<NodeId>,
    heard: Ballot,
    founded: bool,
}

impl Attempt {
    /// Begins one of `founder` with so many nodes in its configuration; `heard` is the highest ballot that it has
    /// heard of.
    pub fn new(founder: NodeId, size: usize, heard: Ballot) -> Attempt {
        let ballot = Ballot { round: heard.round.saturating_add(1), founder };
        let (promises, grants) = (BTreeMap::new(), BTreeSet::new());
        Attempt { ballot, size, promises, grants, heard: ballot, founded: false }
    }

    /// Its number.
    pub fn ballot(&self) -> Ballot {
        self.ballot
    }

    /// The highest ballot that was heard of: the next attempt has to overtake it.
    pub fn heard(&self) -> Ballot {
        self.heard
    }

    /// How many have granted.
    pub fn grants(&self) -> usize {
        self.grants.len()
    }

    /// Takes in what a node answered to this ballot.
    pub fn answered(&mut self, by: NodeId, answer: Answer) {
        match answer {
            Answer::Promised(granted) => {
                self.promises.insert(by, granted);
            }
            Answer::Granted => {
                self.grants.insert(by);
            }
            Answer::Outbid(promised) => self.heard = self.heard.max(promised),
            Answer::Founded => self.founded = true,
            Answer::Joins | Answer::Failed => {}
        }
    }

    /// What it has come to.
    pub fn verdict(&self) -> Verdict {
        if self.founded {
            return Verdict::Founded;
        }
        if is_majority(self.grants.len(), self.size) {
            return Verdict::Chosen;
        }
        if !is_majority(self.promises.len(), self.size) {
            return Verdict::Open;
        }
        let newest = self.promises.values().flatten().max();
        match newest.map(|ballot| ballot.founder) {
            Some(other) if other != self.ballot.founder && self.may_be_chosen(other) => {
                Verdict::Held(other)
            }
            _ => Verdict::Free,
        }
    }

    /// Whether those that granted to a node, with all that were not heard, are a majority. Only the newest of the
    /// grants has to be looked at: had an older one been chosen, whoever asked for the newest would have left it to
    /// that one.
    fn may_be_chosen(&self, other: NodeId) -> bool {
        let granted = self.promises.values().flatten();
        let granted = granted.filter(|ballot| ballot.founder == other).count();
        let unheard = self.size.saturating_sub(self.promises.len());
        is_majority(granted + unheard, self.size)
    }
}

fn is_majority(count: usize, size: usize) -> bool {
    count * 2 > size
}

#[cfg(test)]
#[path = "founding_tests.rs"]
mod tests;
