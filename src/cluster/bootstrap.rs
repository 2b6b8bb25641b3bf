//! How a cluster is founded, once, and how one begins anew.
//!
//! A node with an empty data directory belongs to no cluster and is inert. One node founds the cluster:
//! it writes the first entry of the log, the membership with everybody's identity, and leads term 1;
//! all others take that entry from it as they would any other. For there to be one founder only, it
//! needs a grant from a majority of the configured nodes, itself among them. A grant is durable and
//! given once, and only by a node that belongs to no cluster. So a node whose disk was wiped founds
//! nothing while a majority of the others remembers the cluster.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{Addresses, stand_in};
use crate::mutant::{Mutant, on};
use crate::raft::{ClusterId, Member, Membership, NodeId};

/// What a node sees that belongs to no cluster.
#[derive(Clone, Debug)]
pub struct Situation<'a> {
    /// Its name.
    pub own: &'a str,
    /// The servers of its configuration, itself included.
    pub servers: &'a BTreeMap<String, Addresses>,
    /// Whether it is to join a cluster, and never to found one.
    pub join: bool,
    /// Who is connected, by name: its identity, and the cluster that it belongs to.
    pub present: &'a BTreeMap<String, (NodeId, Option<ClusterId>)>,
    /// Whether those that are not there have had the time to come.
    pub waited: bool,
}

/// What it does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Waits for what the sentence says.
    Wait(String),
    /// Asks this node, which belongs to a cluster, who the others are, and waits to be let in.
    Meet {
        /// Its name.
        name: String,
        /// Its identity.
        id: NodeId,
    },
    /// Founds the cluster, with the grants of a majority.
    Found,
}

/// Decides what a node does that belongs to no cluster.
pub fn decide(now: &Situation<'_>) -> Next {
    let member = now.present.iter().find(|(_, (_, cluster))| cluster.is_some());
    if let Some((name, (id, _))) = member {
        return Next::Meet { name: name.clone(), id: *id };
    }
    if now.join && !on(Mutant::JoinerFounds) {
        return Next::Wait(
            "no member of the cluster to join has let this node in, or can be reached".to_owned(),
        );
    }
    let size = now.servers.len();
    let configured = |name: &&str| now.servers.contains_key(*name);
    let mut present: BTreeSet<&str> =
        now.present.keys().map(String::as_str).filter(configured).collect();
    present.insert(now.own);
    if present.len() * 2 <= size {
        let missing = now.servers.keys().map(String::as_str);
        let missing: Vec<&str> = missing.filter(|name| !present.contains(name)).collect();
        return Next::Wait(format!("no majority is here; missing: {}", missing.join(", ")));
    }
    if let Some(first) = present.first()
        && *first != now.own
    {
        return Next::Wait(format!("{first} is to found it"));
    }
    if present.len() < size && !now.waited {
        return Next::Wait("giving the others a moment".to_owned());
    }
    Next::Found
}

/// The answer to a request for the grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Founding {
    /// Granted, durably.
    Granted,
    /// Another node has the grant.
    GrantedTo(NodeId),
    /// The node asked belongs to a cluster already.
    Born,
    /// The disk of the node asked failed: nothing is known.
    Failed,
}

/// Whether `founder` has the grant of a node: `born`, whether that node belongs to a cluster or is to join one,
/// so that it helps nobody to found another; `store` notes the
/// founder durably unless another has the grant, and tells who has it.
pub fn grant<E>(
    born: bool,
    founder: NodeId,
    store: impl FnOnce(NodeId) -> Result<NodeId, E>,
) -> Result<Founding, E> {
    if born && !on(Mutant::GrantedThoughBorn) {
        return Ok(Founding::Born);
    }
    Ok(match store(founder)? {
        holder if holder == founder => Founding::Granted,
        holder => Founding::GrantedTo(holder),
    })
}

/// Whether so many grants suffice to found a cluster of that size.
pub fn suffice(grants: usize, size: usize) -> bool {
    let half = on(Mutant::HalfFounds) && grants * 2 == size;
    grants * 2 > size || half
}

/// The membership that the node with this name and identity founds: who is not there gets a stand-in. None while
/// those that are there are no majority: nobody could ever decide anything.
pub fn first_membership(
    cluster: ClusterId,
    own: (&str, NodeId),
    now: &Situation<'_>,
) -> Option<Membership> {
    let member = |(name, Addresses { raft, http }): (&String, &Addresses)| {
        let id = match now.present.get(name) {
            _ if name == own.0 => Some(own.1),
            present => present.map(|(id, _)| *id),
        };
        let member = Member {
            name: name.clone(),
            raft_address: raft.clone(),
            http_address: http.clone(),
            seen: id.is_some(),
            promote: false,
            replaces: None,
        };
        (id.unwrap_or_else(|| stand_in(name)), member)
    };
    let members: BTreeMap<NodeId, Member> = now.servers.iter().map(member).collect();
    let there = members.values().filter(|member| member.seen).count();
    let voters = members.keys().copied().collect();
    (there * 2 > members.len()).then_some(Membership { cluster, voters, members, outgoing: None })
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
