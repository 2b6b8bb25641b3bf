//! How a cluster is founded, once, and how one begins anew.
//!
//! A node with an empty data directory belongs to no cluster and is inert. One node founds the cluster:
//! it writes the first entry of the log, the membership with everybody's identity, and leads term 1;
//! all others take that entry from it as they would any other. That there is one founder only is the matter of
//! [`crate::raft::founding`]: it needs the durable grants of a majority of the configured nodes, itself among them, and
//! only nodes that belong to no cluster grant anything. So a node whose disk was wiped founds nothing while a majority
//! of the others remembers the cluster. Here it is decided who asks, and when.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{Addresses, stand_in};
use crate::raft::founding::{Answer, Ask};
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
    /// Since when a majority is there, or since its last attempt to found the cluster ended.
    pub idle: Duration,
    /// Whether there was such an attempt.
    pub tried: bool,
    /// How long those that are not there have to come, and how long an attempt may take.
    pub grace: Duration,
}

/// What it does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Waits for a majority, as the sentence says; only then the time begins that it gives to others.
    Gather(String),
    /// Waits for what the sentence says.
    Wait(String),
    /// Asks this node, which belongs to a cluster, who the others are, and waits to be let in.
    Meet {
        /// Its name.
        name: String,
        /// Its identity.
        id: NodeId,
    },
    /// Asks those that are there to let it found the cluster.
    Ask,
}

/// Decides what a node does that belongs to no cluster.
pub fn decide(now: &Situation<'_>) -> Next {
    let member = now.present.iter().find(|(_, (_, cluster))| cluster.is_some());
    if let Some((name, (id, _))) = member {
        return Next::Meet { name: name.clone(), id: *id };
    }
    if now.join {
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
        return Next::Gather(format!("no majority is here; missing: {}", missing.join(", ")));
    }
    // The first by name asks; those after it, one after the other, once it had the time to do so: it may not reach a
    // majority itself, or may have to leave the founding to one of them.
    let turn = present.iter().position(|name| *name == now.own).unwrap_or_default();
    let turns = match u32::try_from(turn).unwrap_or(u32::MAX) {
        0 if present.len() == size && !now.tried => 0,
        turn => turn.saturating_add(1),
    };
    if now.idle < now.grace.saturating_mul(turns) {
        return Next::Wait(match present.first().filter(|first| **first != now.own) {
            Some(first) => format!("{first} is to found it"),
            None => "giving the others a moment".to_owned(),
        });
    }
    Next::Ask
}

/// Whether a node may help another to found a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Whether it belongs to a cluster.
    pub founded: bool,
    /// Whether it is to join one.
    pub joins: bool,
}

/// What a node answers to who wants to found the cluster; `say` has its disk remember what it says.
pub fn answer<E>(
    node: Standing,
    ask: Ask,
    say: impl FnOnce(Ask) -> Result<Answer, E>,
) -> Result<Answer, E> {
    match node {
        Standing { founded: true, .. } => Ok(Answer::Founded),
        Standing { joins: true, .. } => Ok(Answer::Joins),
        Standing { .. } => say(ask),
    }
}

/// The membership that the node with this name and identity founds: who is not there gets a stand-in. None while
/// those that are there are no majority: nobody could ever decide anything.
pub fn first_membership(
    cluster: ClusterId,
    own: (&str, NodeId),
    servers: &BTreeMap<String, Addresses>,
    present: &BTreeMap<String, (NodeId, Option<ClusterId>)>,
) -> Option<Membership> {
    let member = |(name, Addresses { raft, http }): (&String, &Addresses)| {
        let id = match present.get(name) {
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
    let members: BTreeMap<NodeId, Member> = servers.iter().map(member).collect();
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
