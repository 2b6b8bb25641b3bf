//! How a node learns that it is a member no more: those who decide without it say so.

use std::collections::BTreeMap;

use super::{Known, Own, Roster, stand_in};
use crate::raft::NodeId;

/// Whether the node of `roster` was put out. `disowners` are those who do not let it in because it is no
/// member, each with the newest committed membership that it knows of. `hears_leader` says whether it follows somebody.
///
/// Whom a leader sends to belongs to the membership in the leader's log, be it as of an entry that neither the node has nor
/// those who disown it: a host is let in before its admission is decided, and catches up from the log's beginning.
/// A leader that was overtaken, and alone still sends, steps down within an election time-out.
///
/// The entry that puts a node out need not reach it, and who says so may lag: the node may have been taken in
/// again since. So it counts what is committed and complete, newer than all that names this node, and what a
/// majority of the voters of that membership says.
///
/// A node that nothing has reached yet waits to be taken in, unless its place is kept for another host.
pub fn is_removed(
    roster: &Roster,
    disowners: &BTreeMap<NodeId, Known>,
    hears_leader: bool,
) -> bool {
    if hears_leader {
        return false;
    }
    let Some(newest) = newest(roster, disowners) else { return false };
    if roster.cluster().is_none() && !has_lost_its_place(roster, newest) {
        return false;
    }
    let named_since = roster.named_at(newest) >= Some(newest.at);
    let within = newest.membership.members.contains_key(&roster.own().id)
        || newest.membership.is_voter(roster.own().id);
    if newest.membership.outgoing.is_some() || within || named_since {
        return false;
    }
    let says = |id: &NodeId| {
        disowners
            .get(id)
            .filter(|said| said.membership.cluster == newest.membership.cluster)
            .is_some_and(|said| {
                said.as_of() >= newest.as_of() || said.membership == newest.membership
            })
    };
    let voters = &newest.membership.voters;
    voters.iter().filter(|voter| says(voter)).count() * 2 > voters.len()
}

/// Of a node that was put out: whether another host has its name, or is to have it.
pub fn is_replaced(roster: &Roster, disowners: &BTreeMap<NodeId, Known>) -> bool {
    let newest = newest(roster, disowners);
    newest.is_some_and(|newest| newest.membership.by_name(&roster.own().name).is_some())
}

/// Whether the node had shown itself, and its place is kept for another host now.
fn has_lost_its_place(roster: &Roster, newest: &Known) -> bool {
    let Own { name, id } = roster.own();
    let place = newest.membership.members.get(&stand_in(name));
    place.is_some_and(|place| place.replaces == Some(*id) || roster.was_put_out(*id))
}

/// The newest membership that is known to be committed, of the cluster that the node belongs to if it does.
fn newest<'a>(roster: &'a Roster, disowners: &'a BTreeMap<NodeId, Known>) -> Option<&'a Known> {
    let own = roster.cluster();
    let told = disowners.values().chain(roster.newest());
    told.filter(|known| own.is_none_or(|own| known.membership.cluster == own))
        .max_by_key(|known| known.as_of())
}

#[cfg(test)]
#[path = "removal_tests.rs"]
mod tests;
