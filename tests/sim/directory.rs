//! Data directories that are lost, and hosts that stay away until others have to help them with a snapshot.

use konsen::cluster::{self, Change, ClusterView};
use konsen::raft::{Entry, Input, Membership, NodeId, Payload, ProposalId, RoleName};
use konsen::replica::{Event, RequestId, Step};

use super::due::Due;
use super::oracle::{Broken, Durable};
use super::plan::{Fault, Time};
use super::world::{CHANGES, World, addresses_of, host_of, member, name_of};

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
        // A majority of empty hosts would found a cluster of their own: whoever looks after them sees to it.
        let remembers = |one: &usize| {
            let durable = self.oracle.hosts.get(&self.hosts[*one].id);
            durable.is_some_and(|durable| durable.last().0 > 0)
        };
        let remember = (0..self.plan.voters).filter(remembers).count();
        self.hosts[host].config.join |= remember * 2 <= self.plan.voters;
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
        let by_command = self.plan.operators > 0 || self.chance.nemesis.chance(500);
        if wanted.members.contains_key(&old) && by_command {
            let name = self.hosts[host].config.name.clone();
            let change = Change::Replace { name, addresses: None };
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
            let all_known = self.plan.spares == 0;
            if wanted.voters.is_empty() || (all_known && self.chance.nemesis.chance(500)) {
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
        if self.is_twin(host) || (!is_member && self.dead.contains(&host)) {
            return Ok(());
        }
        if !is_member && self.has_belonged(host) {
            self.renew(host);
            return Ok(());
        }
        let is_awaited = !is_member && wanted.by_name(&name_of(host)).is_some();
        if is_awaited || self.is_lost(host) || self.chance.nemesis.chance(500) {
            let change = self.draw_change(&wanted, host);
            let force = self.chance.nemesis.chance(200);
            return self.operate(leader, &change, force);
        }
        if !is_member {
            // It may know nobody yet, so it cannot vote at once.
            wanted.members.insert(id, member(id));
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

    /// Whether a host is the one that has another's certificate.
    pub(super) fn is_twin(&self, host: usize) -> bool {
        host == self.plan.voters + self.plan.spares
    }

    /// Whether a host has ever been a member of the cluster, with its present directory: whether its log says so, or
    /// the cluster does, or it found out that it was put out before its log was on the disk.
    pub(super) fn has_belonged(&self, host: usize) -> bool {
        let id = self.hosts[host].id;
        let stated = |known: &Durable| known.stated().is_some();
        let named = |(entry, _): &(Entry, u64)| match &entry.payload {
            Payload::Membership(stated) => stated.members.contains_key(&id),
            _ => false,
        };
        self.hosts[host].removed
            || self.oracle.hosts.get(&id).is_some_and(stated)
            || self.oracle.committed.iter().any(named)
    }

    /// Empties a host that was put out, so that it can be taken in again as another; unless somebody may still
    /// count on it.
    pub(super) fn renew(&mut self, host: usize) {
        let id = self.hosts[host].id;
        let names = |now: &Membership| now.members.contains_key(&id) || now.is_voter(id);
        let newest = self.oracle.newest.as_ref().map(|(_, now)| now);
        let named = (0..self.hosts.len())
            .filter(|other| *other != host)
            .any(|other| self.stated_at(other).is_some_and(names));
        if self.is_lost(host) || named || newest.is_none_or(names) {
            return;
        }
        self.count("removed hosts emptied");
        self.empty(host);
        self.hosts[host].config.join = true;
        let down = self.a_while(1, 500);
        self.after(down, Due::Start { host });
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
        let ids = self.present().filter(|&host| {
            let is_member = now.members.contains_key(&self.hosts[host].id);
            let is_new = !self.has_belonged(host) && !self.dead.contains(&host);
            !self.is_twin(host) && (is_member || is_new)
        });
        let mut ids: Vec<NodeId> = ids.map(|host| self.hosts[host].id).collect();
        if ids.is_empty() {
            return Ok(());
        }
        let random = &mut self.chance.nemesis;
        random.shuffle(&mut ids);
        ids.truncate(random.range(1, ids.len() as u64) as usize);
        let voters = random.range(1, ids.len() as u64) as usize;
        // Who was no member before may know nobody yet, so it cannot vote at once.
        let known = ids.iter().filter(|id| now.members.contains_key(id)).copied();
        let wanted = Membership {
            cluster: now.cluster,
            members: ids.iter().map(|&id| (id, member(id))).collect(),
            voters: known.take(voters).collect(),
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

    /// Makes the change that an operator asks for, unless that could leave the cluster without a quorum for ever.
    fn operate(&mut self, leader: usize, change: &Change, force: bool) -> Result<(), Broken> {
        let Some(running) = &self.hosts[leader].running else { return Ok(()) };
        let here = ClusterView { reachable: &|_| true, lag: &|_| Some(0) };
        let next = running
            .replica
            .membership()
            .and_then(|now| cluster::change::change(now, change, here, true).ok());
        if next.is_none_or(|next| !self.survives(&next, 0)) {
            return Ok(());
        }
        self.count("fault: change of the membership");
        self.acknowledged.forget();
        let step = Step::Operator { change: change.clone(), force };
        self.change(leader, step)
    }

    /// Has a host make a change of the membership, if it leads.
    pub(super) fn change(&mut self, leader: usize, step: Step) -> Result<(), Broken> {
        self.settle(leader)?;
        self.changes += 1;
        let id = RequestId(CHANGES + self.changes);
        let hosts = self.shown_to(leader);
        self.step(leader, Event::Change { id, step, hosts })
    }

    /// What a leader does by itself: lets hosts in that show themselves, learns where they are, gives votes.
    pub(super) fn lead_the_members(&mut self, host: usize) -> Result<(), Broken> {
        let Some(running) = &self.hosts[host].running else { return Ok(()) };
        if running.replica.summary().role != RoleName::Leader {
            return Ok(());
        }
        self.change(host, Step::Reconcile)
    }

    /// Changes to any membership, as no operator can.
    fn propose(&mut self, leader: usize, membership: Membership) -> Result<(), Broken> {
        // What was committed before was so by the membership before.
        self.settle(leader)?;
        self.acknowledged.forget();
        self.changes += 1;
        let id = ProposalId(CHANGES + self.changes);
        self.step(leader, Event::Raft(Input::ChangeMembers { id, membership }))
    }

    /// Whether a quorum of voters who still have their disks is left when `more` of them lose theirs.
    pub(super) fn survives(&self, membership: &Membership, more: usize) -> bool {
        let has_disk = |id: &&NodeId| {
            let host = host_of(**id);
            // One with an empty directory that was taken in may have gone with a cluster that was given up.
            let gone = membership.cluster == super::rebirth::CLUSTER && self.is_lost(host);
            self.hosts[host].id == **id && !gone
        };
        std::iter::once(&membership.voters).chain(&membership.outgoing).all(|voters| {
            let left = voters.iter().filter(has_disk).count();
            left > voters.len() / 2 + more
        })
    }

    /// Every membership that anybody may go by.
    pub(super) fn memberships(&self) -> impl Iterator<Item = &Membership> {
        let running = self.present().filter_map(|host| self.hosts[host].running.as_ref());
        let in_force = running.filter_map(|up| up.replica.membership());
        in_force.chain((0..self.hosts.len()).filter_map(|host| self.stated_at(host)))
    }

    /// The newest membership that a host's log states on its disk.
    fn stated_at(&self, host: usize) -> Option<&Membership> {
        let durable = self.oracle.hosts.get(&self.hosts[host].id)?;
        durable.stated().map(|(_, membership)| membership)
    }

    /// Whose acknowledgements count, as the newest leader sees it.
    pub(super) fn membership_in_force(&self) -> Option<Membership> {
        let leader = self.leader()?;
        let replica = &self.hosts[leader].running.as_ref()?.replica;
        let leads = replica.summary().role == RoleName::Leader;
        replica.membership().filter(|_| leads).cloned()
    }
}
