//! What operators ask for, turned into the next membership.
//!
//! A host is first a *stand-in* in the membership: a name and addresses under an identity drawn from
//! thin air, which counts for nothing until the host shows its own. New hosts come in as learners, and
//! are given a vote once they have caught up, so that a host that never starts costs the quorum nothing.

use serde::{Deserialize, Serialize};

use super::{Addresses, ClusterView, MEMBERS_MAX, stand_in};
use crate::raft::{Member, Membership, NodeId};

/// A learner that lacks no more entries than this has caught up: the rest is a moment's work.
pub(super) const LAG_MAX: u64 = 1_000;

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

/// Why a change is refused. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error, Serialize, Deserialize)]
pub enum ChangeRefused {
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
    #[error("{name} cannot vote yet: {why}")]
    NotReady {
        /// The learner.
        name: String,
        /// What is missing, and what to do about it.
        why: String,
    },
    /// Nobody would be left to decide.
    #[error("{0} is the only voter; a cluster needs one")]
    LastVoter(String),
    /// Too few voters can be reached, before the change or after it.
    #[error(
        "{when} the change {needed} voters have to agree and only {reachable} can be reached; not reachable: \
         {missing}; bring them back first{}", if *.forcible { ", or force it" } else { "" }
    )]
    QuorumAtRisk {
        /// Whether it is the voters from before the change or those after it.
        when: When,
        /// How many make a quorum.
        needed: usize,
        /// How many of the voters can be reached.
        reachable: usize,
        /// The names of the others.
        missing: String,
        /// Whether the change can be forced.
        forcible: bool,
    },
    /// The member that is to be replaced is well.
    #[error(
        "{0} answers, and would be put out: its data directory is lost to the cluster then. If it is to be \
         replaced all the same, force it"
    )]
    Answers(String),
    /// A voter was put out and its successor has no vote yet.
    #[error(
        "{awaited} is awaited and has no vote yet; until then the cluster survives one loss less, and {name}, \
         which answers, should not be put out as well: start {awaited} and wait until it votes, or remove it, \
         or force it"
    )]
    Awaited {
        /// Who is to be put out.
        name: String,
        /// Who is to have a vote.
        awaited: String,
    },
    /// Another change is not completed.
    #[error(
        "another change of the membership is under way; try again when it is done, or see in `konsen status` \
         what it waits for"
    )]
    InProgress,
    /// The new voters did not answer, so the change was undone.
    #[error(
        "the voters after the change did not answer in time, so it was undone; the membership is what it was before"
    )]
    Undone,
    /// A change is under way and nobody leads.
    #[error(
        "no leader can be elected, so nobody knows whether the change was decided. If the voters that are missing \
         are lost for good, force it; if they are not and have decided without these, two clusters go on, and \
         what either of them acknowledged is lost to the other"
    )]
    UndecidedWithoutLeader,
    /// No change is under way.
    #[error(
        "no change of the membership is under way that could be undone; it may have been completed"
    )]
    NothingToUndo,
    /// The name is that of a host that is awaited, and something else was asked of it before.
    #[error(
        "{name} is a member already and was added {known}; asked for is {wanted}. Its host has not come yet: remove it \
         and add it anew{}", if *.moves { ", or move its place with `konsen member replace`" } else { "" }
    )]
    AwaitedOtherwise {
        /// The name.
        name: String,
        /// As what it was added.
        known: String,
        /// As what it is to be added now.
        wanted: String,
        /// Whether its addresses are what differs.
        moves: bool,
    },
}

impl ChangeRefused {
    /// Nobody of that name is among these.
    pub fn no_such_member<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> ChangeRefused {
        let mut names: Vec<&str> = names.collect();
        names.sort_unstable();
        ChangeRefused::NoSuchMember { name: name.to_owned(), members: names.join(", ") }
    }
}

/// The voters from before a change, or those after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum When {
    /// Before.
    Before,
    /// After.
    After,
}

impl std::fmt::Display for When {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            When::Before => "before",
            When::After => "after",
        })
    }
}

/// The membership that `change` asks for; the present one if it is as wanted, so that a command can be repeated.
///
/// With `force` even if a member that answers is replaced, if another is awaited, or if too few of the voters
/// after the change can be reached: then it is undone unless they come in time. Never without a majority of
/// the present voters: nothing could be decided.
pub fn change(
    now: &Membership,
    change: &Change,
    view: ClusterView<'_>,
    force: bool,
) -> Result<Membership, ChangeRefused> {
    if now.outgoing.is_some() {
        return Err(ChangeRefused::InProgress);
    }
    let mut next = now.clone();
    match change {
        Change::Add { name, addresses, promote } => {
            if let Some((id, member)) = now.by_name(name) {
                let votes = member.promote || now.voters.contains(&id);
                return match member.seen {
                    true => Err(ChangeRefused::NameInUse(name.clone())),
                    false => is_awaited_so(member, votes, addresses, *promote).map(|()| next),
                };
            }
            if now.members.len() >= MEMBERS_MAX {
                return Err(ChangeRefused::Full);
            }
            take_in(&mut next, name, addresses.clone(), *promote, None)?;
        }
        Change::Remove { name } => {
            let (id, _) = find(now, name)?;
            next.members.remove(&id);
            if next.voters.remove(&id) && next.voters.is_empty() {
                return Err(ChangeRefused::LastVoter(name.clone()));
            }
        }
        Change::Promote { name } => {
            let (id, member) = find(now, name)?;
            if now.voters.contains(&id) {
                return Err(ChangeRefused::VotesAlready(name.clone()));
            }
            if let Some(missing) = unready(id, member, view) {
                let then = match member.promote {
                    true => "it is given a vote by itself once it has caught up",
                    false => {
                        "it was added to stay a learner, so promote it again once it has caught up"
                    }
                };
                let why = format!("{missing}; {then}");
                return Err(ChangeRefused::NotReady { name: name.clone(), why });
            }
            give_vote(&mut next, id);
        }
        Change::Replace { name, addresses } => {
            let (id, old) = find(now, name)?;
            let addresses = addresses.clone().unwrap_or_else(|| addresses_of(old));
            if !old.seen {
                // Nobody has that name yet: at most the host is to come from elsewhere.
                taken(&next, id, &addresses)?;
                put_at(&mut next, id, &addresses);
                return Ok(next);
            }
            let voted = next.voters.remove(&id);
            if voted && next.voters.is_empty() {
                return Err(ChangeRefused::LastVoter(name.clone()));
            }
            if (view.reachable)(id) && !force {
                return Err(ChangeRefused::Answers(name.clone()));
            }
            let promote = voted || old.promote;
            next.members.remove(&id);
            take_in(&mut next, name, addresses, promote, Some(id))?;
        }
    }
    if next.voters != now.voters {
        has_quorum(now, When::Before, now, view, force)?;
        if !force {
            has_quorum(&next, When::After, now, view, force)?;
            spares_voters(now, &next, view)?;
        }
    }
    Ok(next)
}

/// Refuses to put out a voter that answers while another is awaited. One that does not answer helps nobody.
fn spares_voters(
    now: &Membership,
    next: &Membership,
    view: ClusterView<'_>,
) -> Result<(), ChangeRefused> {
    let mut awaited = now.members.iter().filter(|(id, member)| {
        member.promote && !now.voters.contains(id) && next.members.contains_key(id)
    });
    let mut gone = now.voters.difference(&next.voters).filter(|id| (view.reachable)(**id));
    match (awaited.next(), gone.next()) {
        (Some((_, awaited)), Some(gone)) => {
            Err(ChangeRefused::Awaited { name: name_of(now, *gone), awaited: awaited.name.clone() })
        }
        _ => Ok(()),
    }
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

fn find<'a>(now: &'a Membership, name: &str) -> Result<(NodeId, &'a Member), ChangeRefused> {
    let names = now.members.values().map(|member| member.name.as_str());
    now.by_name(name).ok_or_else(|| ChangeRefused::no_such_member(name, names))
}

/// Refuses to add a host that is awaited already, but not so. `votes`: whether it has a vote or is to have one.
fn is_awaited_so(
    member: &Member,
    votes: bool,
    addresses: &Addresses,
    promote: bool,
) -> Result<(), ChangeRefused> {
    let moves = *addresses != addresses_of(member);
    if !moves && promote == votes {
        return Ok(());
    }
    let shown = |votes: bool, at: &Addresses| {
        let kind = if votes { "to vote" } else { "to stay a learner" };
        format!("{kind}, at {} and {}", at.raft, at.http)
    };
    let (known, wanted) = (shown(votes, &addresses_of(member)), shown(promote, addresses));
    Err(ChangeRefused::AwaitedOtherwise { name: member.name.clone(), known, wanted, moves })
}

fn taken(now: &Membership, id: NodeId, addresses: &Addresses) -> Result<(), ChangeRefused> {
    for (_, member) in now.members.iter().filter(|(other, _)| **other != id) {
        for (theirs, address) in
            [(&member.raft_address, &addresses.raft), (&member.http_address, &addresses.http)]
        {
            if theirs == address && !stands_for_all(address) {
                let name = member.name.clone();
                return Err(ChangeRefused::AddressInUse { address: address.clone(), name });
            }
        }
    }
    Ok(())
}

pub(super) fn addresses_of(member: &Member) -> Addresses {
    Addresses { raft: member.raft_address.clone(), http: member.http_address.clone() }
}

pub(super) fn put_at(next: &mut Membership, id: NodeId, addresses: &Addresses) {
    if let Some(member) = next.members.get_mut(&id) {
        member.raft_address.clone_from(&addresses.raft);
        member.http_address.clone_from(&addresses.http);
    }
}

/// Whether the host stands for all addresses of a machine: every machine has such a one.
pub(super) fn stands_for_all(address: &str) -> bool {
    address.starts_with("0.0.0.0:") || address.starts_with("[::]:")
}

fn take_in(
    next: &mut Membership,
    name: &str,
    addresses: Addresses,
    promote: bool,
    replaces: Option<NodeId>,
) -> Result<(), ChangeRefused> {
    let id = stand_in(name);
    taken(next, id, &addresses)?;
    let Addresses { raft, http } = addresses;
    let name = name.to_owned();
    let member =
        Member { name, raft_address: raft, http_address: http, seen: false, promote, replaces };
    next.members.insert(id, member);
    Ok(())
}

pub(super) fn give_vote(next: &mut Membership, id: NodeId) {
    next.voters.insert(id);
    if let Some(member) = next.members.get_mut(&id) {
        member.promote = false;
    }
}

pub(super) fn unready(id: NodeId, member: &Member, view: ClusterView<'_>) -> Option<String> {
    if !member.seen {
        return Some("its host was never seen".to_owned());
    }
    if !(view.reachable)(id) {
        return Some("its host cannot be reached".to_owned());
    }
    match (view.lag)(id) {
        None => Some("how far it is is not known yet".to_owned()),
        Some(lag) if lag > LAG_MAX => Some(format!("it lacks {lag} entries of the log")),
        Some(_) => None,
    }
}

/// Refuses a change if those of the voters that can be reached are no quorum.
pub(super) fn has_quorum(
    voters: &Membership,
    when: When,
    now: &Membership,
    view: ClusterView<'_>,
    force: bool,
) -> Result<(), ChangeRefused> {
    let (here, gone): (Vec<_>, Vec<_>) =
        voters.voters.iter().partition(|id| (view.reachable)(**id));
    let needed = voters.voters.len() / 2 + 1;
    if here.len() >= needed {
        return Ok(());
    }
    let mut missing: Vec<String> = gone.into_iter().map(|id: &NodeId| name_of(now, *id)).collect();
    missing.sort_unstable();
    let missing = missing.join(", ");
    let forcible = when == When::After && !force;
    Err(ChangeRefused::QuorumAtRisk { when, needed, reachable: here.len(), missing, forcible })
}

fn name_of(now: &Membership, id: NodeId) -> String {
    now.members.get(&id).map_or_else(|| id.to_string(), |member| member.name.clone())
}

#[cfg(test)]
#[path = "change_tests.rs"]
mod tests;
