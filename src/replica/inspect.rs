//! What others see of a replica.

use super::{Replica, Summary};
use crate::cluster::{Memberships, memberships_of};
use crate::kv::{AccessRevision, FeatureLevel, Revision, Settings};
use crate::raft::{ClusterId, Index, Load, Membership, PeerProgress};

impl Replica {
    /// Whether so much waits for a checkpoint for which there is no room that nothing more can be applied.
    pub fn is_stuck(&self) -> bool {
        self.state.is_put_off() && self.state.overlay_full()
    }

    /// Whether there is more to apply than one call to [`Replica::take_effects`] did.
    pub fn has_more(&self) -> bool {
        self.applied.index < self.commit && self.may_apply() && !self.awaits_lookup()
    }

    /// The cluster's clock, in milliseconds: as this node's state has it, or further if it leads.
    pub fn clock_ms(&self) -> u64 {
        self.clock.now_ms(self.state.clock_ms())
    }

    /// The cluster's feature level, as this node's state has it.
    pub fn level(&self) -> FeatureLevel {
        self.state.level()
    }

    /// Which state of who may do what this node has.
    pub fn access_revision(&self) -> AccessRevision {
        self.state.access().revision()
    }

    /// The settings that the cluster has agreed on, as this node's state has them.
    pub fn agreed(&self) -> Option<Settings> {
        self.state.settings()
    }

    /// Whether apply waits for something that is being looked up.
    pub fn awaits_lookup(&self) -> bool {
        self.awaits_rows || self.awaits_entries
    }

    /// The membership in force.
    pub fn membership(&self) -> Option<&Membership> {
        self.node.membership()
    }

    /// The membership in force and its entry, and the newest one that is committed.
    pub fn memberships(&self) -> Memberships {
        memberships_of(&self.node)
    }

    /// The cluster that this node takes part in.
    pub fn cluster(&self) -> Option<ClusterId> {
        self.node.cluster()
    }

    /// What this node knows of itself and, if it leads, of its peers.
    pub fn summary(&self) -> Summary {
        Summary {
            role: self.node.role(),
            term: self.node.term(),
            leader: self.node.leader(),
            commit: self.node.commit(),
            applied: self.applied.index,
            last: self.node.last().index,
            revision: self.state.revision(),
            peers: self.node.peers(),
        }
    }

    /// What the protocol holds in memory.
    pub fn load(&self) -> Load {
        self.node.load()
    }

    /// The last index applied.
    pub fn applied(&self) -> Index {
        self.applied.index
    }

    /// The newest commit index that is known, of the leader's log.
    pub fn heard_commit(&self) -> Index {
        self.node.heard_commit()
    }

    /// What it knows of its peers, if it leads; otherwise nothing.
    pub fn peers(&self) -> Vec<PeerProgress> {
        self.node.peers()
    }

    /// The revision that the state reflects.
    pub fn revision(&self) -> Revision {
        self.state.revision()
    }

    /// The last entry that the state's file covers.
    pub fn durable(&self) -> Index {
        self.state.durable().index
    }
}
