//! How a node learns that it is a member no more: those who decide without it say so.

use std::collections::BTreeMap;

use super::{Known, Own, Roster, stand_in};
use crate::raft::NodeId;

/// Those who disown a node, each with the newest that it has said: one speaker may have been met at several places, and what it
/// said at one of them long ago says nothing against what it says now.
pub fn newest_words(said: impl IntoIterator<Item = (NodeId, Known)>) -> BTreeMap<NodeId, Known> {
    let mut newest: BTreeMap<NodeId, Known> = BTreeMap::new();
    for (speaker, known) in said {
        if newest.get(&speaker).is_none_or(|before| before.as_of() <= known.as_of()) {
            newest.insert(speaker, known);
        }
    }
    newest
}

/// Whether the node of `roster` was put out. `disowners` are those who do not let it in because it is no
/// member, each with the newest committed membership that it knows of.
///
/// The entry that puts a node out need not reach it, and who says so may lag: the node may have been taken in
/// again since. So it counts what is committed and complete, newer than all that names this node, and what a
/// majority of the voters of that membership says.
///
/// A node that nothing has reached yet waits to be taken in, unless its place is kept for another host. So does one that
/// nothing names which has reached it: a leader lets a host in before that is decided, and others may not have heard of it.
/// Neither waits once one of those who disown it knows that it was a member: what was put out is never let in again.
pub fn is_removed(roster: &Roster, disowners: &BTreeMap<NodeId, Known>) -> bool {
    let Some(newest) = newest(roster, disowners) else { return false };
    let waits = match roster.cluster() {
        None => !roster.was_put_out(roster.own().id) && !has_lost_its_place(roster, newest),
        Some(_) => !roster.was_named(),
    };
    if waits {
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

/// Whether its place is kept for another host, in its stead.
fn has_lost_its_place(roster: &Roster, newest: &Known) -> bool {
    let Own { name, id } = roster.own();
    let place = newest.membership.members.get(&stand_in(name));
    place.is_some_and(|place| place.replaces == Some(*id))
}

/// The newest membership that is known to be committed, of the cluster that the node belongs to, or that waits for it.
fn newest<'a>(roster: &'a Roster, disowners: &'a BTreeMap<NodeId, Known>) -> Option<&'a Known> {
    let own = roster.cluster().or_else(|| Some(roster.newest()?.membership.cluster));
    let told = disowners.values().chain(roster.newest());
    told.filter(|known| own.is_none_or(|own| known.membership.cluster == own))
        .max_by_key(|known| known.as_of())
}

#[cfg(test)]
#[path = "removal_tests.rs"]
mod tests;
