//! Who takes part: voters, learners, and the two sets of voters while a change is under way.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::id::NodeId;

/// The members of a cluster as an entry of the log states them.
///
/// While `outgoing` is set the membership is joint: whatever needs a quorum needs one of `voters`
/// and one of `outgoing` (section 6 of the paper).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Membership {
    /// The cluster, named by chance at its birth, so that two clusters never mix.
    pub cluster: ClusterId,
    /// Everybody, voters and learners, with what a peer needs to reach them.
    pub members: BTreeMap<NodeId, Member>,
    /// Those whose votes and acknowledgements count.
    pub voters: BTreeSet<NodeId>,
    /// The voters before the change that is under way.
    pub outgoing: Option<BTreeSet<NodeId>>,
}

/// A cluster's identity, drawn at random when it is founded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ClusterId(pub u64);

/// One member.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Member {
    /// Its name, as its certificate states it.
    pub name: String,
    /// Where it listens for its peers, `host:port` (UDP).
    pub raft_address: String,
    /// Where it serves clients, `host:port` (TCP).
    pub http_address: String,
    /// Whether the host has shown its identity. Until then its id is drawn from thin air: it counts
    /// for the size of a quorum and can be no part of one.
    pub seen: bool,
    /// Of a learner: whether it is given a vote once it has caught up.
    pub promote: bool,
    /// Of a host that was not seen: the identity that was put out for it, which is not let in again.
    pub replaces: Option<NodeId>,
}

impl Membership {
    /// Whether `node` has a say in elections and commits, in either set while joint.
    pub fn is_voter(&self, node: NodeId) -> bool {
        self.voters.contains(&node) || self.outgoing.as_ref().is_some_and(|old| old.contains(&node))
    }

    /// Whether those for whom `yes` answers true are a majority of the voters, of both sets while joint.
    pub fn is_quorum(&self, yes: impl Fn(NodeId) -> bool) -> bool {
        let majority =
            |set: &BTreeSet<NodeId>| set.iter().filter(|&&node| yes(node)).count() * 2 > set.len();
        majority(&self.voters) && self.outgoing.as_ref().is_none_or(majority)
    }

    /// The largest value that a quorum has reached, given each node's: the commit rule of section 5.3.
    pub fn quorum_value<T: Ord + Copy + Default>(&self, value: impl Fn(NodeId) -> T) -> T {
        let of = |set: &BTreeSet<NodeId>| {
            let mut values: Vec<T> = set.iter().map(|&node| value(node)).collect();
            values.sort_unstable_by(|a, b| b.cmp(a));
            values.get(set.len() / 2).copied().unwrap_or_default()
        };
        let new = of(&self.voters);
        self.outgoing.as_ref().map_or(new, |old| new.min(of(old)))
    }

    /// The membership without the change that is under way, of a joint one: the outgoing voters decide, those that
    /// were to come in their place, under their names, are gone, and who was to be given a vote is a learner that
    /// still is to have one.
    pub fn undone(&self) -> Option<Membership> {
        let voters = self.outgoing.clone()?;
        let names: BTreeSet<&str> =
            voters.iter().filter_map(|id| Some(self.members.get(id)?.name.as_str())).collect();
        let mut members = self.members.clone();
        members.retain(|id, member| voters.contains(id) || !names.contains(member.name.as_str()));
        for id in self.voters.difference(&voters) {
            if let Some(member) = members.get_mut(id) {
                member.promote = true;
            }
        }
        Some(Membership { cluster: self.cluster, members, voters, outgoing: None })
    }

    /// The member of that name.
    pub fn by_name(&self, name: &str) -> Option<(NodeId, &Member)> {
        self.members
            .iter()
            .find(|(_, member)| member.name == name)
            .map(|(id, member)| (*id, member))
    }
}

impl std::fmt::Display for ClusterId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

#[cfg(test)]
#[path = "membership_tests.rs"]
mod tests;
