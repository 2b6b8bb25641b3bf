//! What a leader does to the membership by itself: lets hosts in that show themselves, learns where they
//! are, gives votes to learners that have caught up.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::change::{When, addresses_of, give_vote, has_quorum, put_at, stands_for_all, unready};
use super::{Addresses, ClusterView, Seat, stand_in};
use crate::raft::{Member, Membership, NodeId};

/// Whether a host that is connected still has the place that the door gave it: whoever was put out stays connected
/// for a moment, and is not to come in the place of another of its name.
pub fn has_place(seat: Seat, name: &str, now: Option<&Membership>) -> bool {
    seat == stand_in(name) || now.is_some_and(|now| now.members.contains_key(&seat))
}

/// A host that is connected, as it showed itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shown {
    /// The identity of its data directory.
    pub id: NodeId,
    /// Its name.
    pub name: String,
    /// Where it says that it listens, if it does.
    pub addresses: Option<Addresses>,
}

/// The next thing to do, in words, and the membership then; none if there is nothing to do now.
pub fn next(
    now: &Membership,
    hosts: &[Shown],
    view: ClusterView<'_>,
) -> Option<(String, Membership)> {
    if now.outgoing.is_some() {
        return None;
    }
    for host in hosts {
        if let Some(next) = admit(now, &host.name, host.id) {
            return Some((format!("{} shows itself for the first time", host.name), next));
        }
    }
    if let Some(next) = relocate(now, hosts) {
        return Some(("members have moved".to_owned(), next));
    }
    let next = promote(now, view)?;
    Some(("a learner has caught up and is given a vote".to_owned(), next))
}

/// Whether a learner that was seen is to have a vote.
pub fn somebody_waits(now: &Membership) -> bool {
    now.members.values().any(|member| member.promote && member.seen)
}

/// A host shows its identity: it takes the place that was kept for its name. None if there is nothing to
/// do; one that is known under another identity has to be replaced by an operator.
fn admit(now: &Membership, name: &str, id: NodeId) -> Option<Membership> {
    let seat = stand_in(name);
    let member = now.members.get(&seat)?;
    if now.members.contains_key(&id) || member.replaces == Some(id) {
        return None;
    }
    let mut next = now.clone();
    next.members.remove(&seat);
    next.members.insert(id, Member { seen: true, replaces: None, ..member.clone() });
    if next.voters.remove(&seat) {
        next.voters.insert(id);
    }
    Some(next)
}

/// Members say where they listen, some of them perhaps where another was known to be: all of it counts at
/// once, but for an address that two of them claim. None if that is all known.
fn relocate(now: &Membership, hosts: &[Shown]) -> Option<Membership> {
    let mut claims: BTreeMap<&str, BTreeSet<NodeId>> = BTreeMap::new();
    for host in hosts {
        for address in host.addresses.iter().flat_map(|said| [&said.raft, &said.http]) {
            claims.entry(address).or_default().insert(host.id);
        }
    }
    let is_own = |address: &String| {
        stands_for_all(address) || claims.get(address.as_str()).is_none_or(|by| by.len() < 2)
    };
    let mut next = now.clone();
    for host in hosts {
        let Some(said) = &host.addresses else { continue };
        let known = now.members.get(&host.id).map(addresses_of);
        let whole = !said.raft.is_empty() && !said.http.is_empty();
        if known.is_some_and(|known| known != *said)
            && whole
            && is_own(&said.raft)
            && is_own(&said.http)
        {
            put_at(&mut next, host.id, said);
        }
    }
    (next != *now).then_some(next)
}

/// Gives a vote to a learner that is to have one and has caught up. None if there is none.
fn promote(now: &Membership, view: ClusterView<'_>) -> Option<Membership> {
    let ready = |(id, member): (&NodeId, &Member)| {
        let waits = member.promote && !now.voters.contains(id);
        (waits && unready(*id, member, view).is_none()).then_some(*id)
    };
    let id = now.members.iter().find_map(ready)?;
    let mut next = now.clone();
    give_vote(&mut next, id);
    let safe = has_quorum(now, When::Before, now, view, false).is_ok()
        && has_quorum(&next, When::After, &next, view, false).is_ok();
    safe.then_some(next)
}

#[cfg(test)]
#[path = "reconcile_tests.rs"]
mod tests;
