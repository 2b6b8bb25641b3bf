//! Disks with little room: the guard that a server has is a fault here, and what the replica makes of it is
//! real.

use konsen::raft::NodeId;
use konsen::replica::{Capacity, Event};

use super::due::Due;
use super::oracle::Broken;
use super::world::{World, host_of};

impl World {
    /// One disk has little room for a while, or all have.
    pub(super) fn make_scarce(&mut self, any: usize) -> Result<(), Broken> {
        let all = self.chance.nemesis.chance(300);
        let hosts = if all { 0..self.hosts.len() } else { any..any + 1 };
        for host in hosts {
            let life = self.hosts[host].life;
            if !self.is_up(host, life) {
                continue;
            }
            self.count("fault: little room on a disk");
            let fits = self.chance.nemesis.chance(500);
            let entries_bytes = if fits { self.chance.nemesis.below(1_000) } else { 0 };
            // What waits for a checkpoint may be all that a host can hold: then it is not to lead.
            let stuck = self.chance.nemesis.chance(300);
            self.step(host, Event::Capacity(Capacity { low: true, entries_bytes, stuck }))?;
            let scarce = self.a_while(50, 4_000);
            self.watch.is_ill(host, self.now + scarce);
            self.after(scarce, Due::Roomy { host, life });
        }
        Ok(())
    }

    /// A host tells the leader. That goes the way of any message, but has no order.
    pub(super) fn tell_capacity(&mut self, host: usize, leader: NodeId, capacity: Capacity) {
        let (to, peer) = (host_of(leader), self.hosts[host].id);
        if self.blocked[host][to] == 0 && self.is_linked(host, to, leader) {
            let delay = self.chance.net.below(20) * self.plan.slowness;
            self.after(delay, Due::PeerCapacity { host: to, peer, capacity });
        }
    }

    /// Everybody has enough.
    pub(super) fn end_scarcity(&mut self) -> Result<(), Broken> {
        (0..self.hosts.len())
            .try_for_each(|host| self.step(host, Event::Capacity(Capacity::default())))
    }
}
