//! What the configurations of all nodes should say alike, and what the cluster has agreed on of it.
//!
//! Each node tells the others what its configuration says. A leader of a cluster that has agreed on nothing yet has it agree
//! on what its own says; from then on something else is agreed on only once all members say it. So a value that an operator
//! changes on one host after the other rules at all of them from the last one on, and at none before. As with feature levels,
//! nothing is known of a member that is away: what was agreed on stays until it is back.

use std::collections::BTreeMap;

use crate::kv::Settings;
use crate::raft::{Membership, NodeId};

use super::features::everybody;

/// What each member says, those too who go with the change that is under way; none where that is unknown.
pub fn said_by(
    membership: &Membership,
    said: impl Fn(NodeId) -> Option<Settings>,
) -> BTreeMap<NodeId, Option<Settings>> {
    everybody(membership).map(|id| (id, said(id))).collect()
}

/// What a leader that says `own` has the cluster agree on, where `agreed` is what it has agreed on.
pub fn to_agree(
    agreed: Option<Settings>,
    own: Settings,
    members: &BTreeMap<NodeId, Option<Settings>>,
) -> Option<Settings> {
    match agreed {
        None => Some(own),
        Some(agreed) if agreed == own => None,
        Some(_) => members.values().all(|said| *said == Some(own)).then_some(own),
    }
}

/// Whether a leader that says `own` may rely on a lease: the cluster has agreed that it may, and for how long, and of the
/// `others` that it may need for one, each said last that it guards a leader for as long as this one believes, also over a
/// start. Of whom nothing was ever heard, nothing counts for the lease.
pub fn may_lease(
    agreed: Option<Settings>,
    own: Settings,
    mut others: impl Iterator<Item = Option<Settings>>,
) -> bool {
    let fits =
        |said: Settings| said.lease_reads && said.election_timeout_ms == own.election_timeout_ms;
    let allowed = own.lease_reads && agreed.is_some_and(fits);
    allowed && others.all(|other| other.is_some_and(fits))
}

/// For how many milliseconds a node that says `own` guards a leader that relies on leases, also if it starts again meanwhile;
/// none, if no leader may count on it.
pub fn promised_ms(own: &Settings) -> u64 {
    if own.lease_reads { own.election_timeout_ms } else { 0 }
}

/// For how many milliseconds a node that starts helps nobody to the leader's place: for its own election time-out, for the
/// one that is `agreed` on, and for what it may have `promised` a leader before it stopped, with another configuration.
pub fn guards_at_start_ms(agreed: Option<Settings>, own: Settings, promised_ms: u64) -> u64 {
    let agreed_ms = agreed.map_or(0, |agreed| agreed.election_timeout_ms);
    agreed_ms.max(own.election_timeout_ms).max(promised_ms)
}

/// Where this node, which says `own`, and the peer `name` differ in a cluster that has agreed on nothing, each as a sentence
/// for whoever runs them.
pub fn differences(own: Settings, name: &str, theirs: Settings) -> Vec<String> {
    let differing = differing(own, theirs).into_iter();
    let sentence = |(key, own, theirs)| {
        format!("{key} is {own} here and {theirs} at {name}; it should be the same on all nodes")
    };
    differing.map(sentence).collect()
}

/// A member's own rules for whom it helps to the leader's place and when, whatever was agreed on.
const ELECTION_TIMEOUT: &str = "raft.electionTimeout";

/// Where somebody says something else than the cluster has agreed on: this node, or the peer `name`.
pub fn deviations(said: Settings, name: Option<&str>, agreed: Settings) -> Vec<String> {
    let place = name.map_or("here".to_owned(), |name| format!("at {name}"));
    let differing = differing(said, agreed).into_iter();
    let sentence = |(key, said, agreed)| match key {
        ELECTION_TIMEOUT => format!(
            "{key} is {said} {place}, and the cluster has agreed on {agreed}: until all members say the same, how long the \
             cluster may be without a leader is for the longest of them to say"
        ),
        key => format!(
            "{key} is {said} {place}, and the cluster has agreed on {agreed}, which rules until all members say the same"
        ),
    };
    differing.map(sentence).collect()
}

/// The settings that differ, each with both values.
fn differing(one: Settings, other: Settings) -> Vec<(&'static str, String, String)> {
    let [one, other] = [one, other].map(|settings| {
        let Settings { value_bytes_max, election_timeout_ms, lease_reads } = settings;
        [
            ("limits.value", format!("{value_bytes_max} bytes")),
            (ELECTION_TIMEOUT, format!("{election_timeout_ms} ms")),
            ("reads.lease", lease_reads.to_string()),
        ]
    });
    let both = one.into_iter().zip(other).map(|((key, one), (_, other))| (key, one, other));
    both.filter(|(_, one, other)| one != other).collect()
}

#[cfg(test)]
#[path = "settings_tests.rs"]
mod tests;
