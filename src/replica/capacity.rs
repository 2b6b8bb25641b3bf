//! Who has room on its disk: while there is little, clients' writes are refused, entries are neither sent nor
//! taken beyond what fits, and a leader hands over to somebody who has more.

use std::collections::BTreeMap;

use super::effects::Capacity;
use crate::kv::Write;
use crate::raft::{Body, Entry, Input, Message, Node, NodeId, Payload};

/// How often a node says that it has little room, in ticks.
const TELL_TICKS: u32 = 20;
/// How long that counts, in ticks.
const COUNTS_TICKS: u32 = 5 * TELL_TICKS;
/// How long a leader waits after a try to hand over, in ticks.
const RETRY_TICKS: u32 = 200;

/// What an entry takes beside its keys. An estimate.
const FREEING_BYTES: u64 = 1024;

/// What a node knows of its own disk and, if it leads, of its peers'.
#[derive(Debug, Default)]
pub(super) struct Capacities {
    own: Capacity,
    peers: BTreeMap<NodeId, Peer>,
    told: Option<Told>,
    retry_ticks: u32,
}

/// What was said last.
#[derive(Debug)]
struct Told {
    leader: NodeId,
    /// That there is little room.
    low: bool,
    ticks_left: u32,
}

#[derive(Debug)]
struct Peer {
    capacity: Capacity,
    ticks_left: u32,
}

impl Capacities {
    pub(super) fn set_own(&mut self, capacity: Capacity) {
        self.own = capacity;
    }

    /// A peer says how much room it has: little, or enough again. So it has, too, if it says no more.
    pub(super) fn heard(&mut self, peer: NodeId, capacity: Capacity) {
        if capacity.low {
            self.peers.insert(peer, Peer { capacity, ticks_left: COUNTS_TICKS });
        } else {
            self.peers.remove(&peer);
        }
    }

    /// A tick went by. Whom to tell how much room there is here: the leader, while there is little, and twice when there
    /// is enough again, since what was said before may arrive after it.
    pub(super) fn tick(&mut self, node: &Node) -> Option<(NodeId, Capacity)> {
        self.peers.retain(|_, peer| {
            peer.ticks_left -= 1;
            peer.ticks_left > 0
        });
        self.retry_ticks = self.retry_ticks.saturating_sub(1);
        let leader = node.leader().filter(|leader| *leader != node.id());
        let low = self.own.low;
        if let (Some(leader), Some(told)) = (leader, &mut self.told)
            && (leader, low) == (told.leader, told.low)
            && told.ticks_left > 1
        {
            told.ticks_left -= 1;
            return None;
        }
        let before = self.told.take();
        if low || before.as_ref().is_some_and(|before| before.low) {
            self.told = leader.map(|leader| Told { leader, low, ticks_left: TELL_TICKS });
        }
        leader.filter(|_| low || before.is_some()).map(|leader| (leader, self.own))
    }

    /// Whether nobody has little room, as far as is known.
    fn all_well(&self) -> bool {
        !self.own.low && self.peers.is_empty()
    }

    fn has(&self, node: NodeId, own: NodeId) -> bool {
        if node == own { !self.own.low } else { !self.peers.contains_key(&node) }
    }

    /// Whether a client's write has to be refused: this node leads, and it or a quorum lacks room. One that
    /// comes while leadership is handed over waits for the next leader.
    pub(super) fn refuses(&self, node: &Node) -> bool {
        let leads = node.leader() == Some(node.id());
        leads && !self.all_well() && !node.is_transferring() && (self.own.low || !self.quorum(node))
    }

    /// Whether a write that would be refused passes all the same: it makes room, and what this node and a quorum keep for
    /// entries has some left for it.
    pub(super) fn spares(&self, node: &Node, write: &Write) -> bool {
        let bytes = write.cost_bytes() as u64 + FREEING_BYTES;
        let fits = |capacity: &Capacity| !capacity.low || capacity.entries_bytes >= bytes;
        let has = |one: NodeId| match one == node.id() {
            true => fits(&self.own),
            false => self.peers.get(&one).is_none_or(|peer| fits(&peer.capacity)),
        };
        write.frees() && has(node.id()) && node.membership().is_some_and(|now| now.is_quorum(has))
    }

    /// Whether a quorum has room.
    fn quorum(&self, node: &Node) -> bool {
        node.membership().is_some_and(|now| now.is_quorum(|one| self.has(one, node.id())))
    }

    /// To whom a leader with little room hands over: of those who have more, and a quorum has, whoever is
    /// furthest. So leadership never goes back and forth. One that can apply nothing more answers no read and decides no
    /// deletion: it hands over to anybody who can.
    pub(super) fn transferee(&mut self, node: &Node) -> Option<Input> {
        let leads = node.leader() == Some(node.id());
        let must = self.own.low && (self.own.stuck || self.quorum(node));
        if !must || !leads || self.retry_ticks > 0 {
            return None;
        }
        let membership = node.membership()?;
        let peers = node.peers().into_iter().filter(|peer| {
            peer.active && membership.voters.contains(&peer.id) && self.is_better_off(peer.id)
        });
        let to = peers.max_by_key(|peer| (!self.peers.contains_key(&peer.id), peer.matched))?.id;
        self.retry_ticks = RETRY_TICKS;
        Some(Input::TransferLeadership { to: Some(to) })
    }

    /// Whether a peer is to lead rather than this node, as far as is known.
    fn is_better_off(&self, peer: NodeId) -> bool {
        self.peers.get(&peer).is_none_or(|peer| self.own.stuck && !peer.capacity.stuck)
    }

    /// Whether this node has room for what a message brings.
    pub(super) fn takes(&mut self, message: &Message) -> bool {
        if !self.own.low {
            return true;
        }
        let bytes = client_bytes(message);
        let fits = bytes <= self.own.entries_bytes;
        if fits {
            self.own.entries_bytes -= bytes;
        }
        fits
    }

    /// Whether the receiver has room for what a message brings, as far as is known.
    pub(super) fn sends(&self, message: &Message) -> bool {
        let capacity = self.peers.get(&message.to).map(|peer| peer.capacity);
        capacity.is_none_or(|capacity| client_bytes(message) <= capacity.entries_bytes)
    }
}

/// The bytes of the entries with clients' commands. There is always room for the cluster's own: without
/// them a new leader could not even answer reads.
fn client_bytes(message: &Message) -> u64 {
    let Body::Append { entries, .. } = &message.body else { return 0 };
    let clients = |entry: &&Entry| matches!(entry.payload, Payload::Command(_));
    entries.iter().filter(clients).map(|entry| entry.cost_bytes() as u64).sum()
}

#[cfg(test)]
#[path = "capacity_tests.rs"]
mod tests;
