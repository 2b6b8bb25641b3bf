//! How clusters are founded: hosts with empty directories find each other, grant the founding to one of them, or
//! wait for the members of a cluster to let them in.

use konsen::cluster::bootstrap::{self, Founding, Next, Situation};
use konsen::raft::{ClusterId, Input, NodeId};
use konsen::replica::Event;

use super::due::Due;
use super::oracle::{Broken, ensure};
use super::plan::Time;
use super::world::World;

/// How long a founder waits for hosts that are not there yet, on a fast cluster.
const GRACE: Time = 400;

impl World {
    /// What a host does that belongs to no cluster: waits, asks who the members are, or founds one.
    pub(super) fn bootstrap(&mut self, host: usize) -> Result<(), Broken> {
        let Some(running) = &self.hosts[host].running else { return Ok(()) };
        if running.replica.membership().is_some() {
            return Ok(());
        }
        let waited = self.now - running.began >= GRACE * self.plan.slowness;
        let present = self.present_at(host);
        let named = present.iter();
        let named = named.map(|(name, (_, id, cluster))| (name.clone(), (*id, *cluster))).collect();
        let config = &self.hosts[host].config;
        let situation = Situation {
            own: &config.name,
            servers: &config.servers,
            join: config.join,
            present: &named,
            waited,
        };
        match bootstrap::decide(&situation) {
            Next::Wait(_) => Ok(()),
            Next::Meet { name, .. } => {
                if let Some((other, ..)) = present.get(&name) {
                    self.ask_members(host, *other);
                }
                Ok(())
            }
            Next::Found => {
                let id = self.hosts[host].id;
                let answer = self.give_grant(host, id);
                self.granted(host, id, id, answer)?;
                for (other, id, _) in present.values() {
                    self.ask_for_grant(host, *other, *id);
                }
                Ok(())
            }
        }
    }

    /// A host asks another for the grant; both the question and the answer may be lost.
    fn ask_for_grant(&mut self, host: usize, to: usize, id: NodeId) {
        if self.calm || !self.chance.net.chance(self.plan.loss) {
            let founder = self.hosts[host].id;
            let delay = 1 + self.chance.net.below(self.plan.delay);
            let (life, of) = (self.hosts[to].life, id);
            self.after(delay, Due::Grant { host: to, life, of, founder, asker: host });
        }
    }

    /// A host is asked for its grant.
    pub(super) fn grant(
        &mut self,
        host: usize,
        of: NodeId,
        founder: NodeId,
        asker: usize,
    ) -> Result<(), Broken> {
        if self.hosts[host].id != of {
            return Ok(());
        }
        let answer = self.give_grant(host, founder);
        self.trace(|_| format!("{of} is asked to let {founder} found the cluster: {answer:?}"));
        let lost = !self.calm && self.chance.net.chance(self.plan.loss);
        if !lost {
            let delay = 1 + self.chance.net.below(self.plan.delay);
            let life = self.hosts[asker].life;
            self.after(delay, Due::Granted { host: asker, life, founder, by: of, answer });
        }
        Ok(())
    }

    fn give_grant(&mut self, host: usize, founder: NodeId) -> Founding {
        let Some(running) = &self.hosts[host].running else { return Founding::Failed };
        // Who is to join a cluster helps nobody to found another.
        let born = running.replica.membership().is_some() || self.hosts[host].config.join;
        let place = &mut self.hosts[host].grant;
        let store = |founder| Ok::<_, Broken>(*place.get_or_insert(founder));
        bootstrap::grant(born, founder, store).unwrap_or(Founding::Failed)
    }

    /// A host has the grant of another, or its own: with enough of them it founds the cluster.
    pub(super) fn granted(
        &mut self,
        host: usize,
        founder: NodeId,
        by: NodeId,
        answer: Founding,
    ) -> Result<(), Broken> {
        let present = self.present_at(host);
        let is_founder = self.hosts[host].id == founder;
        let Some(running) = self.hosts[host].running.as_mut().filter(|_| is_founder) else {
            return Ok(());
        };
        match answer {
            Founding::Granted => running.grants.insert(by),
            Founding::GrantedTo(_) | Founding::Failed => return Ok(()),
            Founding::Born => {
                running.grants.clear();
                return Ok(());
            }
        };
        let (grants, born) = (running.grants.len(), running.replica.membership().is_some());
        let config = &self.hosts[host].config;
        if born || !bootstrap::suffice(grants, config.servers.len()) {
            return Ok(());
        }
        let present = present.into_iter();
        let present = present.map(|(name, (_, id, cluster))| (name, (id, cluster))).collect();
        let situation = Situation {
            own: &config.name,
            servers: &config.servers,
            join: config.join,
            present: &present,
            waited: true,
        };
        // Each birth is another cluster, though it is one with the same name.
        let cluster = ClusterId(1_001 + self.births);
        let own = (config.name.as_str(), founder);
        let Some(membership) = bootstrap::first_membership(cluster, own, &situation) else {
            self.count("foundings that came too late");
            return Ok(());
        };
        self.births += 1;
        self.trace(|_| format!("{founder} founds the cluster: {membership:?}"));
        self.count("clusters founded");
        self.step(host, Event::Raft(Input::Found { membership }))?;
        ensure!(!self.hosts[host].config.join, "{founder} was to join a cluster and founds one");
        Ok(())
    }

    /// Where the one that asks cannot have a majority of the grants, because they are split, or held by another or by
    /// an identity that is lost, an operator starts anew, as the nodes' logs say: the directories are empty.
    pub(super) fn begin_births_again(&mut self) {
        let has_begun = |host: usize| {
            let id = self.hosts[host].id;
            let stated = self.hosts[host].running.as_ref().and_then(|up| up.replica.membership());
            let durable = self.oracle.hosts.get(&id).is_some_and(|durable| durable.last().0 > 0);
            stated.is_some() || durable
        };
        if (0..self.hosts.len()).any(has_begun) {
            return;
        }
        let founders = &self.hosts[..self.plan.voters];
        let is_there = |host: &usize| self.hosts[*host].running.is_some();
        let Some(first) = (0..founders.len()).find(is_there).map(|host| self.hosts[host].id) else {
            return;
        };
        let in_reach =
            founders.iter().filter(|host| host.grant.is_none_or(|holder| holder == first));
        if bootstrap::suffice(in_reach.count(), founders.len()) {
            return;
        }
        self.count("births begun again by an operator");
        for host in &mut self.hosts {
            host.grant = None;
            if let Some(running) = &mut host.running {
                running.grants.clear();
            }
        }
    }
}
