//! What operators ask for, and what hosts show, turned into the next membership. Pure.
//!
//! A host is first a *stand-in* in the membership: a name and addresses under an identity drawn from
//! thin air, which counts for nothing until the host shows its own. New hosts come in as learners, and
//! are given a vote once they have caught up, so that a host that never starts costs the quorum nothing.

use serde::{Deserialize, Serialize};

use crate::raft::{ClusterId, Member, Membership, NodeId};

/// The most members of a cluster, voters and learners.
pub const MEMBERS_MAX: usize = 32;

/// A change that an operator asks for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Change {
    /// Takes in a host that the cluster has not seen.
    Add {
        /// Its name, as its certificate states it.
        name: String,
        /// Where it listens for peers, and for clients.
        addresses: Addresses,
        /// Whether it is given a vote once it has caught up.
        promote: bool,
    },
    /// Puts a member out.
    Remove {
        /// Its name.
        name: String,
    },
    /// Gives a learner a vote.
    Promote {
        /// Its name.
        name: String,
    },
    /// Puts a member out and takes in, under its name, a host with an empty data directory.
    Replace {
        /// The name of both.
        name: String,
        /// Where the new one listens; none: where the old one did.
        addresses: Option<Addresses>,
    },
}

impl Change {
    /// Whether the node that has this name now is a member no more afterwards.
    pub fn puts_out(&self, name: &str) -> bool {
        match self {
            Change::Remove { name: gone } | Change::Replace { name: gone, .. } => gone == name,
            Change::Add { .. } | Change::Promote { .. } => false,
        }
    }
}

/// Where a member listens, each `host:port`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Addresses {
    /// For its peers (UDP).
    pub raft: String,
    /// For clients (TCP).
    pub http: String,
}

/// Why a change is refused. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error, Serialize, Deserialize)]
pub enum Obstacle {
    /// The membership has nobody of that name.
    #[error("{name:?} is no member; the members are {members}")]
    NoSuchMember {
        /// The name asked for.
        name: String,
        /// Everybody's names.
        members: String,
    },
    /// The name is that of a member.
    #[error("{0} is a member already; to give its place to another host, replace it")]
    NameInUse(String),
    /// A member has one of the addresses.
    #[error("{address} is the address of {name}; every member needs its own")]
    AddressInUse {
        /// The address.
        address: String,
        /// Whose it is.
        name: String,
    },
    /// The cluster is as large as it may be.
    #[error("the cluster has {MEMBERS_MAX} members, the most there may be")]
    Full,
    /// The member votes already.
    #[error("{0} has a vote already")]
    VotesAlready(String),
    /// The learner has not caught up.
    #[error("{name} cannot vote yet: {why}; it is given a vote by itself once it has caught up")]
    NotReady {
        /// The learner.
        name: String,
        /// What is missing.
        why: String,
    },
    /// Nobody would be left to decide.
    #[error("{0} is the only voter; a cluster needs one")]
    LastVoter(String),
    /// The change would leave too few reachable voters.
    #[error(
        "afterwards {needed} voters would have to agree and only {reachable} can be reached; not reachable: \
         {missing}; bring them back first, or force it"
    )]
    QuorumAtRisk {
        /// How many make a quorum after the change.
        needed: usize,
        /// How many of the voters can be reached.
        reachable: usize,
        /// The names of the others.
        missing: String,
    },
    /// Another change is not completed.
    #[error("another change of the membership is under way; try again when it is done")]
    InProgress,
}

/// A learner that lacks no more entries than this has caught up: the rest is a moment's work.
const LAG_MAX: u64 = 1_000;

/// What the leader knows of the hosts.
#[derive(Clone, Copy)]
pub struct Sight<'a> {
    /// Whether a node can be reached now; the leader itself can.
    pub reachable: &'a dyn Fn(NodeId) -> bool,
    /// How many entries a node lacks, if that is known.
    pub lag: &'a dyn Fn(NodeId) -> Option<u64>,
}

/// The membership that `change` asks for. With `force`, even if too few voters can be reached.
pub fn change(
    now: &Membership,
    change: &Change,
    sight: Sight<'_>,
    force: bool,
) -> Result<Membership, Obstacle> {
    if now.outgoing.is_some() {
        return Err(Obstacle::InProgress);
    }
    let mut next = now.clone();
    match change {
        Change::Add { name, addresses, promote } => {
            if now.by_name(name).is_some() {
                return Err(Obstacle::NameInUse(name.clone()));
            }
            if now.members.len() >= MEMBERS_MAX {
                return Err(Obstacle::Full);
            }
            take_in(&mut next, name, addresses.clone(), *promote, None)?;
        }
        Change::Remove { name } => {
            let (id, _) = find(now, name)?;
            next.members.remove(&id);
            if next.voters.remove(&id) && next.voters.is_empty() {
                return Err(Obstacle::LastVoter(name.clone()));
            }
        }
        Change::Promote { name } => {
            let (id, member) = find(now, name)?;
            if now.voters.contains(&id) {
                return Err(Obstacle::VotesAlready(name.clone()));
            }
            if let Some(why) = unready(id, member, sight) {
                return Err(Obstacle::NotReady { name: name.clone(), why });
            }
            give_vote(&mut next, id);
        }
        Change::Replace { name, addresses } => {
            let (id, old) = find(now, name)?;
            let voted = next.voters.remove(&id);
            if voted && next.voters.is_empty() {
                return Err(Obstacle::LastVoter(name.clone()));
            }
            let promote = voted || old.promote;
            let (seen, replaces) = (old.seen, old.replaces);
            let old = Addresses { raft: old.raft_address.clone(), http: old.http_address.clone() };
            next.members.remove(&id);
            let replaces = if seen { Some(id) } else { replaces };
            take_in(&mut next, name, addresses.clone().unwrap_or(old), promote, replaces)?;
        }
    }
    if next.voters != now.voters && !force {
        keeps_quorum(&next, now, sight)?;
    }
    Ok(next)
}

/// A host shows its identity: it takes the place that was kept for its name. None if there is nothing to
/// do; one that is known under another identity has to be replaced by an operator.
pub fn admit(now: &Membership, name: &str, id: NodeId) -> Option<Membership> {
    let (stand_in, member) = now.by_name(name)?;
    let known = now.members.contains_key(&id) || member.replaces == Some(id);
    if member.seen || known || now.outgoing.is_some() {
        return None;
    }
    let mut next = now.clone();
    next.members.remove(&stand_in);
    next.members.insert(id, Member { seen: true, replaces: None, ..member.clone() });
    if next.voters.remove(&stand_in) {
        next.voters.insert(id);
    }
    Some(next)
}

/// A member says where it listens. None if that is known, or another member has the address.
pub fn relocate(now: &Membership, id: NodeId, addresses: &Addresses) -> Option<Membership> {
    let member = now.members.get(&id)?;
    let known = member.raft_address == addresses.raft && member.http_address == addresses.http;
    if known || now.outgoing.is_some() || taken(now, id, addresses).is_err() {
        return None;
    }
    let mut next = now.clone();
    let member = next.members.get_mut(&id)?;
    member.raft_address.clone_from(&addresses.raft);
    member.http_address.clone_from(&addresses.http);
    Some(next)
}

/// Gives a vote to a learner that is to have one and has caught up. None if there is none.
pub fn promote(now: &Membership, sight: Sight<'_>) -> Option<Membership> {
    if now.outgoing.is_some() {
        return None;
    }
    let ready = |(id, member): (&NodeId, &Member)| {
        let waits = member.promote && !now.voters.contains(id);
        (waits && unready(*id, member, sight).is_none()).then_some(*id)
    };
    let id = now.members.iter().find_map(ready)?;
    let mut next = now.clone();
    give_vote(&mut next, id);
    keeps_quorum(&next, now, sight).is_ok().then_some(next)
}

/// The membership of a cluster that begins anew with one node, which has all there is: the other hosts come
/// in as learners with empty directories, and are given votes once they have caught up.
pub fn begin_anew(
    cluster: ClusterId,
    (own, id): (&str, NodeId),
    hosts: impl IntoIterator<Item = (String, Addresses)>,
) -> Membership {
    let member = |(name, Addresses { raft, http }): (String, Addresses)| {
        let first = name == own;
        let id = if first { id } else { stand_in(&name) };
        let member = Member {
            name,
            raft_address: raft,
            http_address: http,
            seen: first,
            promote: !first,
            replaces: None,
        };
        (id, member)
    };
    let members = hosts.into_iter().map(member).collect();
    Membership { cluster, members, voters: [id].into(), outgoing: None }
}

/// What an operator should know of a membership.
pub fn warnings(now: &Membership) -> Vec<String> {
    let becoming = |(id, member): &(&NodeId, &Member)| member.promote || now.voters.contains(id);
    let voters = now.members.iter().filter(becoming).count();
    if voters > 1 && voters.is_multiple_of(2) {
        let fewer = voters - 1;
        return vec![format!(
            "{voters} voters survive no more losses than {fewer} do; use an odd number"
        )];
    }
    Vec::new()
}

/// The identity that stands for a host until it shows its own. Real ones have the top bit clear.
pub fn stand_in(name: &str) -> NodeId {
    NodeId(xxhash_rust::xxh3::xxh3_64(name.as_bytes()) | 1 << 63)
}

fn find<'a>(now: &'a Membership, name: &str) -> Result<(NodeId, &'a Member), Obstacle> {
    now.by_name(name).ok_or_else(|| {
        let names = now.members.values().map(|member| member.name.as_str());
        let mut names: Vec<&str> = names.collect();
        names.sort_unstable();
        let members = names.join(", ");
        Obstacle::NoSuchMember { name: name.to_owned(), members }
    })
}

fn taken(now: &Membership, id: NodeId, addresses: &Addresses) -> Result<(), Obstacle> {
    for (_, member) in now.members.iter().filter(|(other, _)| **other != id) {
        for (theirs, address) in
            [(&member.raft_address, &addresses.raft), (&member.http_address, &addresses.http)]
        {
            if theirs == address && !stands_for_all(address) {
                let name = member.name.clone();
                return Err(Obstacle::AddressInUse { address: address.clone(), name });
            }
        }
    }
    Ok(())
}

/// Whether the host stands for all addresses of a machine: every machine has such a one.
fn stands_for_all(address: &str) -> bool {
    address.starts_with("0.0.0.0:") || address.starts_with("[::]:")
}

fn take_in(
    next: &mut Membership,
    name: &str,
    addresses: Addresses,
    promote: bool,
    replaces: Option<NodeId>,
) -> Result<(), Obstacle> {
    let id = stand_in(name);
    taken(next, id, &addresses)?;
    let Addresses { raft, http } = addresses;
    let name = name.to_owned();
    let member =
        Member { name, raft_address: raft, http_address: http, seen: false, promote, replaces };
    next.members.insert(id, member);
    Ok(())
}

fn give_vote(next: &mut Membership, id: NodeId) {
    next.voters.insert(id);
    if let Some(member) = next.members.get_mut(&id) {
        member.promote = false;
    }
}

fn unready(id: NodeId, member: &Member, sight: Sight<'_>) -> Option<String> {
    if !member.seen {
        return Some("its host was never seen".to_owned());
    }
    if !(sight.reachable)(id) {
        return Some("its host cannot be reached".to_owned());
    }
    match (sight.lag)(id) {
        None => Some("how far it is is not known yet".to_owned()),
        Some(lag) if lag > LAG_MAX => Some(format!("it lacks {lag} entries of the log")),
        Some(_) => None,
    }
}

/// Refuses a change after which the voters that can be reached are no quorum.
fn keeps_quorum(next: &Membership, now: &Membership, sight: Sight<'_>) -> Result<(), Obstacle> {
    let (here, gone): (Vec<_>, Vec<_>) = next.voters.iter().partition(|id| (sight.reachable)(**id));
    let needed = next.voters.len() / 2 + 1;
    if here.len() >= needed {
        return Ok(());
    }
    let name =
        |id: &&NodeId| now.members.get(*id).map_or_else(|| id.to_string(), |m| m.name.clone());
    let missing = gone.iter().map(name).collect::<Vec<_>>().join(", ");
    Err(Obstacle::QuorumAtRisk { needed, reachable: here.len(), missing })
}

#[cfg(test)]
#[path = "roster_tests.rs"]
mod tests;
