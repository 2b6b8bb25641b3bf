//! A cluster that is lost, or given up, in the middle of its life, and the one that begins in its place: from a
//! backup that was taken while all went on, or from what one host still has.
//!
//! What is left of the old cluster runs on, or comes back, with its own oracle; the new one is judged from the state
//! that it began with. A host takes part in the new one once somebody empties it.

use std::collections::BTreeSet;

use konsen::cluster::begin_anew;
use konsen::kv::{FeatureLevel, Revision};
use konsen::raft::{ClusterId, Entry, HardState, Index, LogId, Membership, NodeId, Payload};

use super::anew;
use super::due::Due;
use super::host::Begun;
use super::oracle::{Broken, Oracle, ensure};
use super::plan::{Fault, Time};
use super::world::{World, addresses_of, name_of};

/// The new cluster's identity.
pub(super) const CLUSTER: ClusterId = ClusterId(2);

/// The cluster that was given up.
#[derive(Debug, Default)]
pub(super) struct Lost {
    pub(super) oracle: Oracle,
    /// The hosts that still belong to it.
    hosts: BTreeSet<usize>,
}

impl Lost {
    /// Who judges a host; `now` judges those of the cluster that is not lost.
    pub(super) fn oracle_of<'a>(&'a mut self, host: usize, now: &'a mut Oracle) -> &'a mut Oracle {
        if self.hosts.contains(&host) { &mut self.oracle } else { now }
    }
}

/// A backup that an operator keeps.
#[derive(Debug)]
pub(super) struct Backup {
    revision: Revision,
    level: FeatureLevel,
    bytes: Vec<u8>,
}

/// What a new cluster begins with.
struct Beginning {
    founder: usize,
    members: Membership,
    /// What its founder's disk says.
    hard_state: HardState,
    /// All that its state is made of.
    entries: Vec<(Entry, u64)>,
}

impl World {
    /// Whether a host belongs to the cluster that was given up.
    pub(super) fn is_lost(&self, host: usize) -> bool {
        self.lost.hosts.contains(&host)
    }

    /// A host with an empty directory belongs to whichever of the two clusters reaches it.
    pub(super) fn follow_cluster(&mut self, host: usize) {
        let cluster = self.hosts[host].running.as_ref().and_then(|up| up.replica.cluster());
        let Some(cluster) = cluster.filter(|_| self.oracle.began > 0) else { return };
        let (id, lost) = (self.hosts[host].id, cluster != CLUSTER);
        if self.is_lost(host) == lost {
            return;
        }
        let known = self.oracle_of(host).hosts.remove(&id);
        match lost {
            true => self.lost.hosts.insert(host),
            false => self.lost.hosts.remove(&host),
        };
        self.oracle_of(host).hosts.extend(known.map(|known| (id, known)));
    }

    /// Who judges a host.
    pub(super) fn oracle_of(&mut self, host: usize) -> &mut Oracle {
        self.lost.oracle_of(host, &mut self.oracle)
    }

    /// The newest membership that is committed in the cluster of a host, and the index of its entry.
    pub(super) fn newest_committed(&self, host: usize) -> Option<(Index, Membership)> {
        let oracle = if self.is_lost(host) { &self.lost.oracle } else { &self.oracle };
        oracle.newest.clone()
    }

    /// The hosts that belong to the cluster, or could.
    pub(super) fn present(&self) -> impl Iterator<Item = usize> {
        (0..self.hosts.len()).filter(|&host| !self.is_lost(host))
    }

    /// The appointments of a run in which the cluster is to be lost.
    pub(super) fn lose_later(&mut self) {
        if self.plan.faults.contains(&Fault::Rebirth) {
            let stormy = self.plan.stormy;
            let delay = self.chance.nemesis.range(stormy / 5, stormy);
            self.after(delay, Due::Rebirth);
            self.back_up_later();
        }
    }

    fn back_up_later(&mut self) {
        let delay = self.chance.nemesis.range(1, self.plan.stormy / 5);
        self.after(delay, Due::BackUp);
    }

    /// Takes a backup of any host, as a timer does it, until the cluster is lost. Not each of them is kept.
    pub(super) fn back_up(&mut self) -> Result<(), Broken> {
        if self.oracle.began > 0 {
            return Ok(());
        }
        self.back_up_later();
        let host = self.chance.nemesis.below(self.hosts.len() as u64) as usize;
        let Some(running) = &self.hosts[host].running else { return Ok(()) };
        // A server waits for a checkpoint.
        if running.state.durable().index == Index(0) {
            return Ok(());
        }
        let level = running.state.level();
        match anew::back_up(&running.state) {
            Ok((revision, bytes)) => {
                self.count("backups taken");
                if self.backup.is_none() || self.chance.nemesis.chance(500) {
                    self.backup = Some(Backup { revision, level, bytes });
                }
                Ok(())
            }
            Err(_) if self.hosts[host].disk_failed() => Ok(()),
            Err(error) => Err(Broken(format!("no backup of {}: {error}", self.hosts[host].id))),
        }
    }

    /// The cluster is lost or given up, and another begins.
    pub(super) fn rebirth(&mut self) -> Result<(), Broken> {
        let fates = self.draw_fates();
        let backup = self.backup.take().filter(|_| self.chance.nemesis.chance(600));
        let beginning = match backup {
            Some(backup) => self.restore_backup(&fates, &backup)?,
            None => self.leave_survivor(&fates)?,
        };
        let Some(beginning) = beginning else {
            // Nobody has anything yet.
            let later = self.a_while(100, 1_000);
            self.after(later, Due::Rebirth);
            return Ok(());
        };
        self.count("clusters begun anew");
        let founder = beginning.founder;
        self.trace(|world| format!("{} begins a cluster anew", world.hosts[founder].id));
        self.leave_behind(beginning)?;
        self.dead.remove(&founder);
        let goes_down = self.chance.nemesis.chance(500);
        for (host, fate) in fates.into_iter().enumerate().filter(|(host, _)| *host != founder) {
            if goes_down {
                self.crash(host, false);
                if self.chance.nemesis.chance(600) {
                    let down = self.a_while(1, 3_000);
                    self.after(down, Due::Start { host });
                }
            }
            if let Some(later) = fate {
                self.after(later, Due::Empty { host });
            }
        }
        self.start(founder)
    }

    /// For each host when somebody empties it for the new cluster; none: never.
    fn draw_fates(&mut self) -> Vec<Option<Time>> {
        let fate = |world: &mut World| {
            let later = world.a_while(1, 3_000);
            world.chance.nemesis.chance(750).then_some(later)
        };
        (0..self.hosts.len()).map(|_| fate(self)).collect()
    }

    /// Any host, emptied, becomes what a backup holds.
    fn restore_backup(
        &mut self,
        fates: &[Option<Time>],
        backup: &Backup,
    ) -> Result<Option<Beginning>, Broken> {
        let founder = self.chance.nemesis.below(self.hosts.len() as u64) as usize;
        self.empty(founder);
        let id = self.hosts[founder].id;
        let members = self.draw_members(fates, founder);
        // An older release says that it cannot read a backup of a newer one.
        self.hosts[founder].highest = self.hosts[founder].highest.max(backup.level);
        let begun = self.hosts[founder].take_in(&self.plan, &backup.bytes, members.clone());
        let begun = begun.map_err(|error| Broken(format!("{id} takes no backup: {error}")))?;
        let last = begun.state.applied();
        let entries = self.oracle.committed.get(..last.index.0 as usize);
        let entries = entries.unwrap_or_default().to_vec();
        ensure!(
            entries.last().is_some_and(|(entry, _)| entry.id == last)
                && begun.state.revision() == backup.revision,
            "{id} has a backup of {last} at {}, which never was; it was taken at {}",
            begun.state.revision(),
            backup.revision
        );
        self.count("clusters begun anew from a backup");
        let hard_state = HardState { term: last.term, vote: None, commit: last.index };
        Ok(Some(Beginning { founder, members, hard_state, entries }))
    }

    /// Any host that has something goes on alone.
    fn leave_survivor(&mut self, fates: &[Option<Time>]) -> Result<Option<Beginning>, Broken> {
        let has_some = |host: &usize| {
            let durable = self.oracle.hosts.get(&self.hosts[*host].id);
            durable.is_some_and(|durable| durable.last().0 > 0)
        };
        let with_log: Vec<usize> = (0..self.hosts.len()).filter(has_some).collect();
        if with_log.is_empty() {
            return Ok(None);
        }
        let founder = *self.chance.nemesis.pick(&with_log);
        let in_write = self.chance.nemesis.chance(500);
        self.hosts[founder].removed = false;
        self.crash(founder, in_write);
        // What a loss of power left on the disk, the next start finds out.
        self.hosts[founder].cure();
        self.start(founder)?;
        self.end_transfers_of(founder)?;
        self.end_links_of(founder);
        self.hosts[founder].stop();
        let id = self.hosts[founder].id;
        let members = self.draw_members(fates, founder);
        while self.chance.nemesis.chance(400) {
            self.count("power losses in a new beginning");
            let random = &mut self.chance.nemesis;
            self.hosts[founder].crash_in_beginning(&self.plan, &members, random);
        }
        let begun = self.hosts[founder].begin_anew(&self.plan, &members);
        let (last, Begun { .. }) =
            begun.map_err(|error| Broken(format!("{id} cannot begin anew: {error}")))?;
        let durable = &self.oracle.hosts[&id];
        ensure!(
            durable.entries.last().is_some_and(|(entry, _)| entry.id == last),
            "{id} begins anew after {last}, its log ends at {}",
            durable.last()
        );
        let hard_state = HardState { term: last.term, vote: None, commit: last.index };
        let entries = durable.entries.clone();
        self.count("clusters begun anew from a survivor");
        Ok(Some(Beginning { founder, members, hard_state, entries }))
    }

    /// The founder and those who are to come, among them some who never will.
    fn draw_members(&mut self, fates: &[Option<Time>], founder: usize) -> Membership {
        let mut named = Vec::new();
        let own = self.hosts[founder].config.name.clone();
        for (host, fate) in fates.iter().enumerate() {
            if self.is_twin(host) {
                continue;
            }
            let name = name_of(host);
            if name == own || fate.is_some() || self.chance.nemesis.chance(300) {
                named.push((name, addresses_of(host)));
            }
        }
        begin_anew(CLUSTER, (&own, self.hosts[founder].id), named)
    }

    /// All but the founder belong to the old cluster from now on, and everybody begins to count anew.
    fn leave_behind(&mut self, beginning: Beginning) -> Result<(), Broken> {
        let founder = beginning.founder;
        let checked = self.history.judge(self.plan.keys, &self.oracle.reference)?;
        *self.tally.entry("operations judged").or_default() += checked;
        let anew = Oracle::anew(self.hosts[founder].id, beginning)?;
        self.lost = Lost {
            oracle: std::mem::replace(&mut self.oracle, anew),
            hosts: (0..self.hosts.len()).filter(|&host| host != founder).collect(),
        };
        self.acknowledged.forget();
        self.asked.clear();
        self.passed.clear();
        self.note_revision();
        self.history.begin_anew(self.plan.keys, &self.oracle.reference);
        self.due.retain(|_, due| !matches!(due, Due::Replace { .. }));
        for client in 0..self.clients.len() {
            let one = &mut self.clients[client];
            one.seen.clear();
            one.believes = founder;
            if one.waits_for.take().is_some() {
                let delay = 1 + self.chance.clients.below(self.plan.think);
                self.after(delay, Due::Client { client });
            }
        }
        Ok(())
    }

    /// Somebody empties a host of the old cluster, so that it can take part in the new one.
    pub(super) fn empty_for_new(&mut self, host: usize) {
        if self.is_lost(host) {
            self.count("hosts of a lost cluster emptied");
            self.empty(host);
            // Else a majority of empty hosts would found a cluster of their own.
            self.hosts[host].config.join = true;
            self.lost.hosts.remove(&host);
            let down = self.a_while(1, 500);
            self.after(down, Due::Start { host });
        }
    }
}

impl Oracle {
    /// Of a cluster that begins with some entries, the last of which counts as stating its members.
    fn anew(founder: NodeId, beginning: Beginning) -> Result<Oracle, Broken> {
        let Beginning { members, hard_state, mut entries, .. } = beginning;
        let mut oracle = Oracle::default();
        oracle.began = entries.len();
        for (entry, _) in &entries {
            oracle.reference.apply(entry)?;
        }
        let mut base = LogId::default();
        if let Some((last, _)) = entries.last_mut() {
            base = last.id;
            oracle.newest = Some((base.index, members.clone()));
            last.payload = Payload::Membership(members);
        }
        oracle.committed_in = vec![base.term; entries.len()];
        oracle.committed.clone_from(&entries);
        let host = oracle.host(founder);
        host.hard_state = hard_state;
        host.replace(entries);
        host.begins_after(base);
        Ok(oracle)
    }
}
