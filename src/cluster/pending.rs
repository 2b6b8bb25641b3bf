//! What a change of the membership waits for that is not complete.

use super::ClusterView;
use crate::raft::{Membership, NodeId};

/// A joint change: both the voters before it and those after it have to agree until it is complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// The names of the voters before the change.
    pub before: Vec<String>,
    /// The names of the voters after it.
    pub after: Vec<String>,
    /// Those that are needed and cannot be reached: of each side that has no majority, who is missing there.
    pub missing: Vec<String>,
}

/// What `now` waits for; none if no change is under way.
pub fn pending(now: &Membership, view: ClusterView<'_>) -> Option<Pending> {
    let outgoing = now.outgoing.as_ref()?;
    let name = |id: &NodeId| {
        let member = now.members.get(id).filter(|member| member.seen);
        member.map_or_else(|| format!("a new host ({id})"), |member| member.name.clone())
    };
    let mut missing = Vec::new();
    for voters in [outgoing, &now.voters] {
        let away: Vec<&NodeId> = voters.iter().filter(|id| !(view.reachable)(**id)).collect();
        if (voters.len() - away.len()) * 2 <= voters.len() {
            missing.extend(away.into_iter().map(name));
        }
    }
    missing.sort_unstable();
    missing.dedup();
    let names = |voters: &std::collections::BTreeSet<NodeId>| {
        let mut names: Vec<String> = voters.iter().map(name).collect();
        names.sort_unstable();
        names
    };
    Some(Pending { before: names(outgoing), after: names(&now.voters), missing })
}
