//! Configurations that differ: hosts of which some say one thing and some another of what the cluster has to agree on, and
//! may say something else when they start again. The leader proposes by the rule of the server. Once something is agreed
//! on, nothing else is while a member does not say it, and in the end, when all say the same, that is agreed on. Their
//! election time-outs differ, too, and leaders rely on leases by the rule of the server: what clients read shows whether
//! they may.

use konsen::cluster::settings::{may_lease, said_by, to_agree};
use konsen::kv::{Settings, Write};
use konsen::raft::{NodeId, RoleName};
use konsen::replica::{Event, Origin, RequestId};

use super::due::Due;
use super::oracle::{Broken, ensure};
use super::plan::Plan;
use super::world::{CHANGES, World};

impl Plan {
    /// What a configuration says of which there are two kinds: the second one has the shorter election time-out.
    pub(crate) fn settings(&self, second: bool) -> Settings {
        let shorter = (self.election_ticks / 2).max(4 * self.heartbeat_ticks);
        let ticks = if second { shorter.min(self.election_ticks) } else { self.election_ticks };
        Settings {
            value_bytes_max: 1 + u64::from(second),
            election_timeout_ms: u64::from(ticks) * self.tick(),
            lease_reads: self.leases.is_some(),
        }
    }
}

impl World {
    /// Draws whose configuration says what.
    pub(super) fn draw_settings(&mut self) {
        if self.plan.settings_differ {
            for host in 0..self.hosts.len() {
                self.hosts[host].second_settings = self.chance.settings.chance(500);
            }
        }
    }

    /// A host that starts may have been given another configuration.
    pub(super) fn may_change_settings(&mut self, host: usize) {
        let differ = self.plan.settings_differ && !self.calm;
        if differ && self.chance.settings.chance(300) {
            self.count("configurations changed");
            self.hosts[host].second_settings ^= true;
        }
    }

    /// All have the same configuration from now on.
    pub(super) fn settle_settings(&mut self) {
        if !self.plan.settings_differ {
            return;
        }
        let second = self.chance.settings.chance(500);
        self.settled_settings = second;
        for host in 0..self.hosts.len() {
            if self.hosts[host].second_settings != second {
                self.crash(host, false);
                self.hosts[host].second_settings = second;
                self.after(1, Due::Start { host });
            }
        }
    }

    /// What a host's configuration says.
    pub(super) fn settings_of(&self, host: usize) -> Settings {
        self.plan.settings(self.hosts[host].second_settings)
    }

    /// Whether a host may rely on leases, as it sees it.
    pub(super) fn may_lease(&self, host: usize) -> bool {
        let one = &self.hosts[host];
        let Some(running) = &one.running else { return false };
        let Some(now) = running.replica.membership() else { return false };
        let belongs = |id: &NodeId| now.members.contains_key(id) || now.is_voter(*id);
        let said = running.said.iter().filter(|(id, _)| belongs(id)).map(|(_, said)| Some(*said));
        may_lease(running.replica.agreed(), self.settings_of(host), said)
    }

    /// What a leader does from time to time: has the cluster agree on settings, by the rule.
    pub(super) fn agree_on_settings(&mut self, host: usize) -> Result<(), Broken> {
        let own = &self.hosts[host];
        let Some(running) = &own.running else { return Ok(()) };
        let replica = &running.replica;
        let now = replica.membership().filter(|_| replica.summary().role == RoleName::Leader);
        let Some(now) = now else { return Ok(()) };
        let said = said_by(now, |id| match id == own.id {
            true => Some(self.settings_of(host)),
            false => self.settings_shown(host, id),
        });
        let agreed = replica.agreed();
        let Some(settings) = to_agree(agreed, self.settings_of(host), &said) else {
            return Ok(());
        };
        for &id in said.keys().filter(|_| agreed.is_some()) {
            // One that has just lost its disk may still seem to be connected.
            let one = (0..self.hosts.len()).find(|&one| self.hosts[one].id == id);
            let says = one.map(|one| self.settings_of(one));
            ensure!(
                says.is_none_or(|says| says == settings),
                "{} has {settings:?} agreed on in place of {agreed:?}, and {id} says {says:?}",
                own.id
            );
        }
        self.count(match agreed {
            None => "first agreements on settings",
            Some(_) => "agreements on other settings",
        });
        self.changes += 1;
        let id = RequestId(CHANGES + self.changes);
        self.step(
            host,
            Event::Write { id, write: Write::Agree { settings }, origin: Origin::default() },
        )
    }

    /// What all say is agreed on in the end.
    pub(super) fn reach_the_settings(&mut self) -> Result<(), Broken> {
        let expected = self.plan.settings(self.settled_settings);
        let until = self.now + self.bound();
        loop {
            let Some((_, now)) = self.oracle.newest.clone() else { return Ok(()) };
            let agreed = |id| {
                let host = self.present().find(|&host| self.hosts[host].id == id)?;
                Some(self.hosts[host].running.as_ref()?.replica.agreed())
            };
            let agreed = said_by(&now, |id| agreed(id).flatten());
            let up = |id| {
                self.present()
                    .any(|host| self.hosts[host].id == id && self.hosts[host].running.is_some())
            };
            if agreed.keys().any(|&id| !up(id)) {
                self.count("settings that somebody who is away keeps");
                return Ok(());
            }
            if agreed.values().all(|agreed| *agreed == Some(expected)) {
                self.count("clusters that follow what all say");
                return Ok(());
            }
            if self.now > until {
                self.trace(World::describe);
                return Err(Broken(format!("{agreed:?} is agreed on, and all say {expected:?}")));
            }
            self.run(self.now + 100 * self.plan.slowness, |_| false)?;
        }
    }
}
