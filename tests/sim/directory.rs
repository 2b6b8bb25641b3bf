//! Data directories that are lost, and hosts that stay away until others have to help them with a snapshot.

use konsen::raft::{Membership, NodeId, RoleName};
use konsen::replica::roster::{self, Change, Sight};
use konsen::replica::{Event, RequestId};

use super::due::Due;
use super::oracle::Broken;
use super::plan::{Fault, Time};
use super::world::{World, addresses_of, host_of, member, name_of};

/// The longest that a host stays away on a fast cluster.
const AWAY_MAX: Time = 30_000;

impl World {
    /// A host stays down until the log of another does not reach back to it any more.
    pub(super) fn send_away(&mut self, host: usize) {
        let id = self.hosts[host].id;
        let Some(last) = self.oracle_of(host).hosts.get(&id).map(|durable| durable.last()) else {
            return;
        };
        self.count("fault: a host stays away for long");
        self.crash(host, false);
        let until = self.now + AWAY_MAX * self.plan.slowness;
        self.after(1, Due::Return { host, last, until });
    }

    pub(super) fn come_back(
        &mut self,
        host: usize,
        last: konsen::raft::Index,
        until: Time,
    ) -> Result<(), Broken> {
        let mut up = self.hosts.iter().filter_map(|host| host.running.as_ref());
        if up.any(|up| up.base().index > last) || self.now >= until {
            return self.start(host);
        }
        self.after(50 * self.plan.slowness, Due::Return { host, last, until });
        Ok(())
    }

    /// A host loses its data directory and comes back with an empty one, which has an identity of its own.
    /// Not if that could leave the cluster without a quorum for ever.
    pub(super) fn wipe(&mut self, host: usize) {
        let old = self.hosts[host].id;
        let endures = self.memberships().all(|one| self.survives(one, 1));
        if self.is_lost(host) || self.oracle.committed.is_empty() || !endures {
            return;
        }
        self.count("fault: a data directory lost");
        self.empty(host);
        let down = self.a_while(1, 1_000);
        self.after(down, Due::Start { host });
        self.replace_later(host, old);
    }

    /// Nothing is left of a host's data directory.
    pub(super) fn empty(&mut self, host: usize) {
        let old = self.hosts[host].id;
        self.crash(host, false);
        self.hosts[host].wipe(NodeId(old.0 + 100));
        self.trace(|world| format!("{old} lost its disk, and is {}", world.hosts[host].id));
    }

    fn replace_later(&mut self, host: usize, old: NodeId) {
        let patience = self.a_while(100, 2_000);
        self.after(patience, Due::Replace { host, old });
    }

    /// An operator puts a host's new identity in the place of the one that it lost, until that is done.
    pub(super) fn replace(&mut self, host: usize, old: NodeId) -> Result<(), Broken> {
        let new = self.hosts[host].id;
        let Some(leader) = self.leader() else {
            self.replace_later(host, old);
            return Ok(());
        };
        let now = self.hosts[leader].running.as_ref().and_then(|up| up.replica.membership());
        let Some(mut wanted) = now.filter(|now| now.outgoing.is_none()).cloned() else {
            self.replace_later(host, old);
            return Ok(());
        };
        if wanted.members.contains_key(&old) && self.chance.nemesis.chance(500) {
            let change = Change::Replace { name: name_of(host), addresses: None };
            self.operate(leader, &change, false)?;
            self.replace_later(host, old);
            return Ok(());
        }
        let voted = wanted.voters.contains(&old);
        if wanted.members.remove(&old).is_none() {
            return Ok(());
        }
        wanted.members.insert(new, member(new));
        if voted {
            wanted.voters.remove(&old);
            // Some take it in without a vote first, and give it one later.
            if wanted.voters.is_empty() || self.chance.nemesis.chance(500) {
                wanted.voters.insert(new);
            }
        }
        if self.survives(&wanted, 1) {
            self.count("lost members replaced");
            self.propose(leader, wanted)?;
        }
        self.replace_later(host, old);
        Ok(())
    }

    /// Adds, promotes or removes one host.
    pub(super) fn change_members(
        &mut self,
        leader: Option<usize>,
        host: usize,
    ) -> Result<(), Broken> {
        let Some(leader) = leader else { return Ok(()) };
        let now = self.hosts[leader].running.as_ref().and_then(|up| up.replica.membership());
        let Some(mut wanted) = now.cloned() else { return Ok(()) };
        wanted.outgoing = None;
        let id = self.hosts[host].id;
        let is_member = wanted.members.contains_key(&id);
        let is_awaited = !is_member && wanted.by_name(&name_of(host)).is_some();
        if is_awaited || self.is_lost(host) || self.chance.nemesis.chance(500) {
            let change = self.draw_change(&wanted, host);
            let force = self.chance.nemesis.chance(200);
            return self.operate(leader, &change, force);
        }
        if !is_member {
            wanted.members.insert(id, member(id));
            if self.chance.nemesis.chance(300) {
                wanted.voters.insert(id);
            }
        } else if wanted.voters.contains(&id) {
            wanted.voters.remove(&id);
            wanted.members.remove(&id);
            // Often another takes its place in the same step.
            if self.chance.nemesis.chance(400) {
                let seen = wanted.members.iter().filter(|(_, member)| member.seen);
                wanted.voters.extend(seen.map(|(id, _)| *id));
            }
        } else if self.chance.nemesis.chance(700) {
            wanted.voters.insert(id);
        } else {
            wanted.members.remove(&id);
        }
        self.put_to(leader, wanted)
    }

    /// Has the leader change to what is wanted, unless that could leave the cluster without a quorum for ever.
    fn put_to(&mut self, leader: usize, wanted: Membership) -> Result<(), Broken> {
        if self.plan.faults.contains(&Fault::Wipe) && !self.survives(&wanted, 1) {
            return Ok(());
        }
        self.count("fault: change of the membership");
        self.propose(leader, wanted)
    }

    pub(super) fn churn_later(&mut self) {
        if let Some(every) = self.plan.change_every {
            let delay = self.chance.nemesis.range(1, 2 * every);
            self.after(delay, Due::Churn);
        }
    }

    /// Changes the membership in one of many ways, and makes the appointment for the next.
    pub(super) fn churn(&mut self) -> Result<(), Broken> {
        self.churn_later();
        if !self.plan.faults.contains(&Fault::Change) {
            return Ok(());
        }
        let host = self.chance.nemesis.below(self.hosts.len() as u64) as usize;
        match self.chance.nemesis.below(10) {
            0 if self.plan.faults.contains(&Fault::Wipe) => {
                self.wipe(host);
                Ok(())
            }
            0..=2 => self.shuffle_members(),
            _ => self.change_members(self.leader(), host),
        }
    }

    /// Many come and go in one step: any of the hosts become the members, and any of them the voters.
    fn shuffle_members(&mut self) -> Result<(), Broken> {
        let Some(leader) = self.leader() else { return Ok(()) };
        let now = self.hosts[leader].running.as_ref().and_then(|up| up.replica.membership());
        let Some(now) = now else { return Ok(()) };
        let mut ids: Vec<NodeId> = self.present().map(|host| self.hosts[host].id).collect();
        let random = &mut self.chance.nemesis;
        random.shuffle(&mut ids);
        ids.truncate(random.range(1, ids.len() as u64) as usize);
        let voters = random.range(1, ids.len() as u64) as usize;
        let wanted = Membership {
            cluster: now.cluster,
            members: ids.iter().map(|&id| (id, member(id))).collect(),
            voters: ids.into_iter().take(voters).collect(),
            outgoing: None,
        };
        self.put_to(leader, wanted)
    }

    /// What an operator could ask for with that host.
    fn draw_change(&mut self, now: &Membership, host: usize) -> Change {
        let name = name_of(host);
        let random = &mut self.chance.nemesis;
        match now.by_name(&name) {
            None => {
                let promote = random.chance(800);
                Change::Add { name, addresses: addresses_of(host), promote }
            }
            Some((id, _)) if now.voters.contains(&id) => Change::Remove { name },
            Some(_) if random.chance(600) => Change::Promote { name },
            Some(_) => Change::Remove { name },
        }
    }

    /// Makes the change that an operator asks for, as the leader's server would.
    fn operate(&mut self, leader: usize, change: &Change, force: bool) -> Result<(), Broken> {
        let Some(wanted) =
            self.sees(leader, |now, sight| roster::change(now, change, sight, force))
        else {
            return Ok(());
        };
        match wanted {
            Ok(wanted) if self.survives(&wanted, 0) => {
                self.count("fault: change of the membership");
                self.propose(leader, wanted)
            }
            Ok(_) => Ok(()),
            Err(_) => {
                self.count("changes of the membership refused");
                Ok(())
            }
        }
    }

    /// What a leader does by itself: lets hosts in that show themselves, and gives votes.
    pub(super) fn upkeep(&mut self) -> Result<(), Broken> {
        self.upkeep_later();
        let Some(leader) = self.leader() else { return Ok(()) };
        let shown: Vec<(String, NodeId)> = self
            .present()
            .filter(|&host| {
                let linked = self.blocked[host][leader] == 0 && self.blocked[leader][host] == 0;
                linked && self.hosts[host].running.is_some()
            })
            .map(|host| (name_of(host), self.hosts[host].id))
            .collect();
        let next = self.sees(leader, |now, sight| {
            let admitted = shown.iter().find_map(|(name, id)| roster::admit(now, name, *id));
            admitted.or_else(|| roster::promote(now, sight))
        });
        match next.flatten() {
            Some(next) if self.survives(&next, 0) => {
                self.count("steps of the membership's upkeep");
                self.propose(leader, next)
            }
            _ => Ok(()),
        }
    }

    pub(super) fn upkeep_later(&mut self) {
        if self.plan.spares > 0 || self.plan.faults.contains(&Fault::Wipe) {
            self.after(150 * self.plan.slowness, Due::Upkeep);
        }
    }

    /// The membership and the hosts as a leader sees them; none if it does not lead.
    fn sees<T>(&self, leader: usize, look: impl FnOnce(&Membership, Sight<'_>) -> T) -> Option<T> {
        let replica = &self.hosts[leader].running.as_ref()?.replica;
        let summary = replica.summary();
        let now = replica.membership().filter(|_| summary.role == RoleName::Leader)?;
        let own = self.hosts[leader].id;
        let peer = |id| summary.peers.iter().find(|peer| peer.id == id);
        let sight = Sight {
            reachable: &|id| id == own || peer(id).is_some_and(|peer| peer.active),
            lag: &|id| Some(summary.last.0.saturating_sub(peer(id)?.matched.0)),
        };
        Some(look(now, sight))
    }

    fn propose(&mut self, leader: usize, membership: Membership) -> Result<(), Broken> {
        // What was committed before was so by the membership before.
        self.settle(leader)?;
        self.changes += 1;
        let id = RequestId((1 << 40) + self.changes);
        self.step(leader, Event::ChangeMembers { id, membership })?;
        // Newcomers have some time to answer, from when the change is taken in.
        self.heard[leader].fill(self.ticks[leader]);
        Ok(())
    }

    /// Whether a quorum of voters who still have their disks is left when `more` of them lose theirs.
    fn survives(&self, membership: &Membership, more: usize) -> bool {
        let has_disk = |id: &&NodeId| self.hosts[host_of(**id)].id == **id;
        std::iter::once(&membership.voters).chain(&membership.outgoing).all(|voters| {
            let left = voters.iter().filter(has_disk).count();
            left > voters.len() / 2 + more
        })
    }

    /// Every membership that anybody may go by.
    fn memberships(&self) -> impl Iterator<Item = &Membership> {
        let running = self.present().filter_map(|host| self.hosts[host].running.as_ref());
        let in_force = running.filter_map(|up| up.replica.membership());
        let stated = self.hosts.iter().filter_map(|host| self.oracle.hosts.get(&host.id)?.stated());
        in_force.chain(stated.map(|(_, membership)| membership))
    }

    /// Whose acknowledgements count, as the newest leader sees it.
    pub(super) fn membership_in_force(&self) -> Option<Membership> {
        let leader = self.leader()?;
        let replica = &self.hosts[leader].running.as_ref()?.replica;
        let leads = replica.summary().role == RoleName::Leader;
        replica.membership().filter(|_| leads).cloned()
    }
}
