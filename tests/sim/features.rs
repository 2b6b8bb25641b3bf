//! Releases of different age in one cluster: hosts that know one feature level more than others, and come to know it
//! when they start again. The leader raises the level by the rule of the server, and from then on every command is of the
//! higher one. No member that a leader asked what it knows meets what it cannot read, or it would stop, which is no
//! failure of its disk. One that was let in between that look and the raise stops before it, until it is upgraded.

use std::collections::BTreeSet;

use konsen::cluster::features::{known_by, raise_to};
use konsen::cluster::{Change, Features};
use konsen::kv::{FeatureLevel, Write};
use konsen::raft::{NodeId, RoleName};
use konsen::replica::{Event, Origin, RequestId, Step};

use super::due::Due;
use super::oracle::{Broken, ensure};
use super::plan::{Fault, Plan};
use super::random::Random;
use super::world::{CHANGES, World, addresses_of, name_of};

/// What old releases know.
pub(crate) const OLD: FeatureLevel = FeatureLevel(1);
/// What new ones know.
pub(crate) const NEW: FeatureLevel = FeatureLevel(2);

/// Which releases there are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Releases {
    /// How high the level may be raised, if that is held.
    pub(crate) hold: Option<FeatureLevel>,
    /// Whether nobody comes or goes but one host of the older release, when all others are of the newer.
    pub(crate) late: bool,
}

impl Plan {
    /// Has hosts of two releases.
    pub(super) fn mix_releases(&mut self, random: &mut Random) {
        let hold = random.chance(250).then_some(OLD);
        let late = random.chance(400) && !crate::operator() && !crate::churn();
        if late {
            let others = [Fault::Change, Fault::Operator, Fault::Rebirth, Fault::Wipe];
            self.faults.retain(|fault| !others.contains(fault));
            self.spares = 1;
        }
        self.releases = Some(Releases { hold, late });
    }
}

impl World {
    /// Draws who runs which release.
    pub(super) fn draw_releases(&mut self) {
        if self.plan.releases.is_none() {
            let all = if self.plan.rights { NEW } else { OLD };
            self.hosts.iter_mut().for_each(|host| host.highest = all);
            return;
        }
        for host in 0..self.hosts.len() {
            let new = !self.is_late(host) && self.chance.releases.chance(500);
            self.hosts[host].highest = if new { NEW } else { OLD };
        }
    }

    /// Whether a host is the one that comes last, and keeps its release.
    fn is_late(&self, host: usize) -> bool {
        self.plan.releases.is_some_and(|releases| releases.late) && host >= self.plan.voters
    }

    /// A host that starts may have been given the newer release.
    pub(super) fn may_upgrade(&mut self, host: usize) {
        let old = self.plan.releases.is_some() && self.hosts[host].highest == OLD;
        if old && !self.is_late(host) && self.chance.releases.chance(500) {
            self.count("hosts upgraded");
            self.hosts[host].highest = NEW;
        }
    }

    /// Everybody runs the newer release from now on, but for the one that comes last.
    pub(super) fn upgrade_all(&mut self) {
        if self.plan.releases.is_none() {
            return;
        }
        for host in 0..self.hosts.len() {
            if self.hosts[host].highest == OLD && !self.is_late(host) {
                self.crash(host, false);
                self.hosts[host].highest = NEW;
                self.after(1, Due::Start { host });
            }
        }
    }

    /// Whether a host's release is too old for the cluster, and rightly so: nobody had asked what it knows before the level was
    /// raised. Only a change that no operator could make, or one at that very moment, makes it a member.
    pub(super) fn is_too_old(&self, host: usize) -> bool {
        let (one, asked) = (&self.hosts[host], &self.asked_for_level);
        one.highest == OLD && !asked.is_empty() && !asked.contains(&one.id)
    }

    /// Whether a host stops rightly before what its release cannot read. Somebody gives it the newer one.
    pub(super) fn was_outgrown(&mut self, host: usize, why: &str) -> bool {
        if !why.contains("newer release") || !self.is_too_old(host) {
            return false;
        }
        self.count("hosts that stop before what they cannot read");
        self.hosts[host].highest = NEW;
        true
    }

    /// What a host says of feature levels.
    pub(super) fn features_of(&self, host: usize) -> Features {
        let one = &self.hosts[host];
        let level = one.running.as_ref().map(|up| up.replica.level());
        Features { level: level.unwrap_or_default(), highest: one.highest }
    }

    /// What a leader does from time to time: raises the level, if all members know a higher one.
    pub(super) fn raise_level(&mut self, host: usize) -> Result<(), Broken> {
        let hold = match self.plan.releases {
            Some(Releases { hold, .. }) => hold,
            None if self.plan.rights => None,
            None => return Ok(()),
        };
        let Some(running) = &self.hosts[host].running else { return Ok(()) };
        let replica = &running.replica;
        let now = replica.membership().filter(|_| replica.summary().role == RoleName::Leader);
        let Some(now) = now else { return Ok(()) };
        let own = &self.hosts[host];
        let known = known_by(now, |id| match id == own.id {
            true => Some(own.highest),
            false => self.highest_shown(host, id),
        });
        let Some(level) = raise_to(replica.level(), own.highest, &known, hold) else {
            return Ok(());
        };
        ensure!(
            hold.is_none_or(|hold| level <= hold),
            "{} raises the level to {level}, and {hold:?} is to hold it",
            own.id
        );
        let everybody = now.members.keys().chain(&now.voters).chain(now.outgoing.iter().flatten());
        let everybody: Vec<NodeId> = everybody.copied().collect();
        for id in &everybody {
            // One that has just lost its disk may still seem to be connected.
            let known = self.hosts.iter().find(|one| one.id == *id).map(|one| one.highest);
            ensure!(
                known.is_none_or(|known| known >= level),
                "{} raises the level to {level}, and {id} knows {known:?}",
                own.id
            );
        }
        self.asked_for_level.extend(everybody);
        self.count("feature levels raised");
        self.changes += 1;
        let id = RequestId(CHANGES + self.changes);
        let write = Write::Raise { level, release: "simulated".to_owned() };
        self.step(host, Event::Write { id, write, origin: Origin::default() })
    }

    /// All members come to the level that they all know, or stay where it is held.
    pub(super) fn reach_the_level(&mut self) -> Result<(), Broken> {
        let Some(Releases { hold, .. }) = self.plan.releases else { return Ok(()) };
        let expected = hold.unwrap_or(NEW);
        let until = self.now + self.bound();
        loop {
            let Some((_, now)) = self.oracle.newest.clone() else { return Ok(()) };
            let host = |id| {
                self.present()
                    .find(|&host| self.hosts[host].id == id && self.hosts[host].running.is_some())
            };
            let members =
                now.members.keys().chain(&now.voters).chain(now.outgoing.iter().flatten());
            let members: Option<BTreeSet<usize>> = members.map(|&id| host(id)).collect();
            let Some(members) = members else {
                self.count("levels that somebody who is away keeps");
                return Ok(());
            };
            let levels: Vec<_> = members.iter().map(|&host| self.features_of(host).level).collect();
            if levels.iter().all(|level| *level == expected) {
                self.count("clusters of one release again");
                return Ok(());
            }
            if self.now > until {
                self.trace(World::describe);
                return Err(Broken(format!("the levels are {levels:?}, and not {expected}")));
            }
            self.run(self.now + 100 * self.plan.slowness, |_| false)?;
        }
    }

    /// A host of the older release that is added now is not let in, and is sent nothing.
    pub(super) fn keep_the_old_out(&mut self) -> Result<(), Broken> {
        let late = self.plan.voters;
        let raised =
            self.plan.releases.is_some_and(|releases| releases.late && releases.hold.is_none());
        if !raised || self.hosts[late].running.is_none() {
            return Ok(());
        }
        let Some(leader) = self.leader() else { return Ok(()) };
        let (name, addresses) = (name_of(late), addresses_of(late));
        let change = Change::Add { name: name.clone(), addresses, promote: true };
        self.change(leader, Step::Operator { change, force: true })?;
        self.run(self.now + 20 * self.plan.election() + 2_000 * self.plan.slowness, |_| false)?;
        let Some((_, now)) = self.oracle.newest.clone() else { return Ok(()) };
        if now.by_name(&name).is_none() {
            // The leader was another by then.
            self.count("old hosts that were not added");
            return Ok(());
        }
        let linked = self.links.keys().find(|(from, to)| *from == late || *to == late);
        ensure!(linked.is_none(), "a host of an old release is let in: {linked:?}");
        let applied = self.hosts[late].running.as_ref().map(|up| up.replica.applied());
        ensure!(
            applied.is_some_and(|applied| applied.0 == 0),
            "a host of an old release has applied {applied:?}"
        );
        let refused = self.tally.get("refused: its release is too old").copied();
        ensure!(refused.is_some(), "a host of an old release was not told so");
        self.count("old hosts kept out");
        Ok(())
    }
}
