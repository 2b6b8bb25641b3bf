//! Whom a node lets in, in whose place, and if not, why not. Both ends of every connection decide so.

use std::collections::BTreeMap;

use super::{Features, Roster, stand_in};
use crate::kv::FeatureLevel;
use crate::raft::{ClusterId, Index, NodeId};

/// Somebody whose certificate is one of this cluster's nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Visitor<'a> {
    /// The name in its certificate.
    pub name: &'a str,
    /// The identity of its data directory.
    pub id: NodeId,
    /// The cluster that it belongs to, if it does.
    pub cluster: Option<ClusterId>,
    /// What it says of feature levels.
    pub features: Features,
}

/// The key of a peer in [`Roster::peers`]: its identity, or the stand-in that waits for it.
pub type Seat = NodeId;

/// Why somebody is not let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// It belongs to another cluster of the same name.
    OtherCluster {
        /// The one that this node belongs to.
        own: ClusterId,
        /// The visitor's.
        theirs: ClusterId,
    },
    /// It shows this node's identity, or that of another peer: a copy of its data directory.
    Copy {
        /// Whose identity it is.
        of: String,
    },
    /// The name is that of a member with another identity, and the visitor was never one.
    OtherIdentity {
        /// The member's.
        expected: NodeId,
    },
    /// The visitor was a member, and another host has its place, or is to have it.
    Replaced {
        /// As of this index.
        at: Index,
    },
    /// Nobody of that name belongs to the cluster.
    NoMember {
        /// As of this index; none before there is a cluster.
        at: Option<Index>,
    },
    /// Another host shows the same certificate, and is connected in the place that is kept for it.
    Taken {
        /// The other's identity.
        by: NodeId,
    },
    /// The visitor's release does not know the cluster's feature level: it could not read what it would be sent.
    TooOld {
        /// The cluster's level.
        level: FeatureLevel,
        /// The highest that the visitor knows.
        knows: FeatureLevel,
    },
    /// The visitor belongs to the cluster at a feature level that this node's release does not know.
    Outgrown {
        /// The cluster's level.
        level: FeatureLevel,
        /// The highest that this node knows.
        knows: FeatureLevel,
    },
}

impl Why {
    /// Whether it says that the visitor does not belong to the cluster.
    pub fn disowns(&self) -> bool {
        matches!(self, Why::Replaced { .. } | Why::NoMember { at: Some(_) })
    }
}

/// Decides about a visitor, for a node that says `own` of feature levels. `connected` says who is connected in which
/// place, by the identity that it showed.
///
/// What the visitor tells of the membership has to be learnt before: who lags lets in whom it does not know.
pub fn decide(
    roster: &Roster,
    own: Features,
    visitor: Visitor<'_>,
    connected: &BTreeMap<Seat, NodeId>,
) -> Result<Seat, Why> {
    // Who has no place hears that rather than that its release is old.
    let seat = place_of(roster, visitor, connected)?;
    let theirs = visitor.features;
    if theirs.highest < own.level {
        return Err(Why::TooOld { level: own.level, knows: theirs.highest });
    }
    if own.highest < theirs.level {
        return Err(Why::Outgrown { level: theirs.level, knows: own.highest });
    }
    Ok(seat)
}

fn place_of(
    roster: &Roster,
    visitor: Visitor<'_>,
    connected: &BTreeMap<Seat, NodeId>,
) -> Result<Seat, Why> {
    let Visitor { name, id, cluster, .. } = visitor;
    if let (Some(own), Some(theirs)) = (roster.cluster(), cluster)
        && own != theirs
    {
        return Err(Why::OtherCluster { own, theirs });
    }
    if id == roster.own().id {
        return Err(Why::Copy { of: roster.own().name.clone() });
    }
    let peers = roster.peers();
    let named =
        |seat: &Seat| peers.get(seat).map_or_else(|| seat.to_string(), |peer| peer.name.clone());
    if let Some(peer) = peers.get(&id) {
        return match peer.name == name {
            true => Ok(id),
            false => Err(Why::Copy { of: peer.name.clone() }),
        };
    }
    let at = roster.newest().map(|known| known.at);
    let seat = stand_in(name);
    if let Some(peer) = peers.get(&seat) {
        if let (Some(at), true) = (at, peer.replaces == Some(id) || roster.was_put_out(id)) {
            return Err(Why::Replaced { at });
        }
        if let Some((other, _)) =
            connected.iter().find(|(other, shown)| **other != seat && **shown == id)
        {
            return Err(Why::Copy { of: named(other) });
        }
        return match connected.get(&seat) {
            Some(&by) if by != id => Err(Why::Taken { by }),
            _ => Ok(seat),
        };
    }
    let expected = peers.iter().find(|(_, peer)| peer.name == name).map(|(expected, _)| *expected);
    match (expected, at) {
        // Whoever has been in this cluster was a member of it; so was one that went before anything had reached it.
        (Some(_), Some(at)) if cluster.is_some() || roster.was_put_out(id) => {
            Err(Why::Replaced { at })
        }
        (Some(expected), _) => Err(Why::OtherIdentity { expected }),
        (None, at) => Err(Why::NoMember { at }),
    }
}

#[cfg(test)]
#[path = "door_tests.rs"]
mod tests;
