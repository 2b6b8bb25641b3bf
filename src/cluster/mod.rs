//! Who belongs to the cluster, who is dialled, who is let in, who stops: every decision about the cluster, as
//! pure functions. The server and the network act on them, and so does the simulator.
//!
//! - [`change`]: what operators ask for, turned into the next membership.
//! - [`reconcile`]: what a leader does to the membership by itself.
//! - [`roster`]: what one node knows of who belongs, and whom it dials.
//! - [`door`]: whom it lets in, in whose place, and if not, why not.
//! - [`copies`]: whether one who speaks with a known identity is a copy, or was started again.
//! - [`removal`]: how it learns that it was put out.
//! - [`bootstrap`]: how a cluster is founded, or begun anew.
//! - [`consistency`]: whose state is wrong.
//! - [`features`]: which feature level the cluster may be raised to.
//! - [`settings`]: what the configurations of all nodes should say alike, and what is agreed on of it.
//! - [`pending`]: what a change that is not complete waits for.
//! - [`leaderless`]: why no leader can be elected.

pub mod bootstrap;
pub mod change;
pub mod consistency;
pub mod copies;
pub mod door;
pub mod features;
pub mod leaderless;
pub mod pending;
pub mod reconcile;
pub mod removal;
pub mod roster;
#[cfg(test)]
mod sample;
pub mod settings;

use serde::{Deserialize, Serialize};

use crate::raft::NodeId;

pub use crate::kv::Settings;
pub use bootstrap::begin_anew;
pub use change::{Change, ChangeRefused};
pub use door::{Seat, Visitor, Why};
pub use features::Features;
pub use reconcile::Shown;
pub use roster::{Known, Memberships, Own, Peer, Roster, memberships_of};

/// The most members of a cluster, voters and learners.
pub const MEMBERS_MAX: usize = 32;

/// Where a member listens, each `host:port`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Addresses {
    /// For its peers (UDP).
    pub raft: String,
    /// For clients (TCP).
    pub http: String,
}

/// What the leader knows of the hosts.
#[derive(Clone, Copy)]
pub struct ClusterView<'a> {
    /// Whether a node can be reached now; the leader itself can.
    pub reachable: &'a dyn Fn(NodeId) -> bool,
    /// How many entries a node lacks, if that is known.
    pub lag: &'a dyn Fn(NodeId) -> Option<u64>,
}

/// The identity that stands for a host until it shows its own. Real ones have the top bit clear.
pub fn stand_in(name: &str) -> NodeId {
    NodeId(xxhash_rust::xxh3::xxh3_64(name.as_bytes()) | 1 << 63)
}
