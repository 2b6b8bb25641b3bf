//! Which feature level a leader may raise the cluster to, and who keeps it from that.
//!
//! A level is only ever raised to what every member knows, so that none meets a command that it cannot read. What a member
//! knows is what it says in the hello of the connection that the leader has to it now: one that is away may come back with
//! an older release, so nothing is known of it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::kv::FeatureLevel;
use crate::raft::{Membership, NodeId};

/// What a node says of feature levels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Features {
    /// The cluster's, as far as the node has applied its log; the base before it belongs to one.
    pub level: FeatureLevel,
    /// The highest that the node knows.
    pub highest: FeatureLevel,
}

/// What each member knows, those too who go with the change that is under way; none where that is unknown.
pub fn known_by(
    membership: &Membership,
    known: impl Fn(NodeId) -> Option<FeatureLevel>,
) -> BTreeMap<NodeId, Option<FeatureLevel>> {
    everybody(membership).map(|id| (id, known(id))).collect()
}

/// All who have to be able to follow what is agreed on: members, and who goes with the change that is under way.
pub(super) fn everybody(membership: &Membership) -> impl Iterator<Item = NodeId> + use<'_> {
    let Membership { members, voters, outgoing, .. } = membership;
    members.keys().chain(voters).chain(outgoing.iter().flatten()).copied()
}

/// What a leader may raise the cluster's level to: the highest that all members and the leader itself know, no higher than
/// `hold` says. None if that is not above the `current` one, or while it is unknown of anybody.
pub fn raise_to(
    current: FeatureLevel,
    own_highest: FeatureLevel,
    members: &BTreeMap<NodeId, Option<FeatureLevel>>,
    hold: Option<FeatureLevel>,
) -> Option<FeatureLevel> {
    let mut level = hold.map_or(own_highest, |hold| own_highest.min(hold));
    for known in members.values() {
        level = level.min((*known)?);
    }
    (level > current).then_some(level)
}

/// Who keeps the level where it is, although others know more: those who know no more than the `current` one, and those
/// of whom nothing is known.
pub fn held_back_by(
    current: FeatureLevel,
    members: &BTreeMap<NodeId, Option<FeatureLevel>>,
) -> Vec<NodeId> {
    let more = |known: &Option<FeatureLevel>| known.is_some_and(|known| known > current);
    if !members.values().any(more) {
        return Vec::new();
    }
    members.iter().filter(|(_, known)| !more(known)).map(|(id, _)| *id).collect()
}

#[cfg(test)]
#[path = "features_tests.rs"]
mod tests;
