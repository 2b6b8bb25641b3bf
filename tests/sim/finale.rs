//! After the storm: a majority is healed, the rest stays dead, and the cluster has to recover.

use std::collections::BTreeMap;

use konsen::raft::{Membership, NodeId};

use super::clients::{Answer, Ask};
use super::cut::Cut;
use super::due::Due;
use super::oracle::{Broken, ensure};
use super::plan::{Fault, Time};
use super::world::{World, host_of};

/// How long somebody waits for an answer before asking once more, when all is well, on a fast cluster.
const ASK_AGAIN: Time = 500;

/// How many times as long as asked for a storm goes on at most, for want of a change of the membership.
const CHANGE_WITHIN: u64 = 5;

/// What one seed came to.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) digest: u64,
    pub(crate) tally: BTreeMap<&'static str, u64>,
    /// Virtual milliseconds.
    pub(crate) lasted: Time,
    /// From the end of the faults to the first write served, virtual milliseconds.
    pub(crate) recovered: Time,
}

/// Runs a seed from birth to the last check.
pub(crate) fn run(seed: u64, cut: &Cut, tracing: bool) -> Result<Report, Broken> {
    let mut world = World::new(seed, cut, tracing);
    let stormy = world.plan.stormy;
    world.run(stormy, |_| false)?;
    world.run(Time::MAX, |world| world.has_had_enough())?;
    world.heal()?;
    if world.waits_for_the_lost() {
        world.count("clusters that wait for one that went with the other");
        return Ok(Report {
            digest: world.digest,
            tally: world.tally,
            lasted: world.now,
            recovered: 0,
        });
    }
    let healed = world.now;
    world.recover()?;
    let recovered = world.now - healed;
    world.converge()?;
    world.part_with_the_removed()?;
    world.read_back()?;
    world.reach_the_level()?;
    world.reach_the_settings()?;
    world.keep_the_old_out()?;
    world.same_bytes()?;
    let checked = world.history.judge(world.plan.keys, &world.oracle.reference)?;
    world.restore()?;
    world.rescue()?;
    let leaders = world.tally.get("leaderships").copied().unwrap_or_default();
    if leaders > 1 {
        world.tally.insert("changes of the leader", leaders - 1);
    }
    *world.tally.entry("operations judged").or_default() += checked;
    *world.tally.entry("entries committed").or_default() += world.entries_committed();
    let changes = world.changes_committed();
    if changes > 0 {
        world.tally.insert("membership changes committed", changes);
    }
    Ok(Report { digest: world.digest, tally: world.tally, lasted: world.now, recovered })
}

impl World {
    /// Whether the storm has had as many events as it was to have. Where the membership is to change it goes on
    /// until it did, within reason.
    fn has_had_enough(&self) -> bool {
        let events = self.plan.events_min;
        let had = self.tally.get("events").copied().unwrap_or_default();
        let awaited = self.plan.change_every.is_some() && self.changes_committed() == 0;
        had >= if awaited { CHANGE_WITHIN * events } else { events }
    }

    /// By the cluster that was lost, too.
    fn changes_committed(&self) -> u64 {
        self.lost.oracle.changes + self.oracle.changes
    }

    fn entries_committed(&self) -> u64 {
        let oracles = [&self.lost.oracle, &self.oracle];
        oracles.iter().map(|oracle| (oracle.committed.len() - oracle.began) as u64).sum()
    }

    fn heal(&mut self) -> Result<(), Broken> {
        self.trace(|_| "the storm is over".to_owned());
        if self.plan.fault_every.is_some()
            && let Some(leader) = self.leader()
        {
            self.crash(leader, false);
        }
        self.calm = true;
        self.mend_all();
        self.end_scarcity()?;
        self.plan.sync = self.plan.sync.min(5 * self.plan.slowness);
        self.end_the_lost();
        let voters = self.plan.voters;
        let mut alive: Vec<usize> = (0..self.hosts.len()).collect();
        // A membership that changed could need any of them, and so could a cluster of which not everybody has heard.
        let newest = self.oracle.newest.as_ref();
        let all_came =
            newest.is_some_and(|(_, now)| now.members.values().all(|member| member.seen));
        if all_came && self.plan.spares == 0 && !self.plan.faults.contains(&Fault::Wipe) {
            self.chance.nemesis.shuffle(&mut alive);
            let count = self.chance.nemesis.range(voters as u64 / 2 + 1, voters as u64);
            for host in alive.split_off(count as usize) {
                self.crash(host, false);
                let id = self.hosts[host].id;
                self.trace(|_| format!("{id} stays dead"));
                self.dead.insert(host);
            }
        }
        self.upgrade_all();
        self.settle_settings();
        self.end_lost_sight(&alive);
        for host in alive {
            self.after(1, Due::Start { host });
        }
        Ok(())
    }

    /// Of two members of which neither knows where the other is, since one has moved while it heard of nobody who is left,
    /// an operator starts one again with the file that says so.
    fn end_lost_sight(&mut self, alive: &[usize]) {
        let Some((_, now)) = self.oracle.newest.clone() else { return };
        let there = alive.iter().copied();
        let there = there.filter(|&host| now.members.contains_key(&self.hosts[host].id));
        let members: Vec<usize> = there
            .filter(|&host| self.hosts[host].running.is_some() && !self.is_lost(host))
            .collect();
        let blind = |&one: &usize| {
            let sees = |other| self.knows_the_way(one, other) || self.knows_the_way(other, one);
            members.iter().any(|&other| other != one && !sees(other))
        };
        for host in members.iter().copied().filter(|host| blind(host)).collect::<Vec<_>>() {
            self.count("hosts that have lost sight of another");
            self.crash(host, false);
        }
    }

    /// Whether the new cluster needs, for a quorum, a host that it took in while that had an empty directory, and that has gone
    /// with the cluster that was given up, since that reached it first: only who restores can see to that.
    fn waits_for_the_lost(&self) -> bool {
        let anew = self.memberships().filter(|now| now.cluster == super::rebirth::CLUSTER);
        let mut sets = anew.flat_map(|now| std::iter::once(&now.voters).chain(&now.outgoing));
        let gone = |id: &&NodeId| self.is_lost(host_of(**id));
        sets.any(|voters| {
            let there =
                voters.iter().filter(|id| self.hosts[host_of(**id)].id == **id && !gone(id));
            voters.iter().any(|id| gone(&id)) && there.count() * 2 <= voters.len()
        })
    }

    /// A host with an empty directory that two clusters wait for goes with the first that it hears of. So where there
    /// is one, somebody ends the cluster that was given up, as whoever restores a backup is told to.
    fn end_the_lost(&mut self) {
        let is_empty = |host: usize| {
            let known = [&self.oracle, &self.lost.oracle];
            let mut known = known.iter().filter_map(|one| one.hosts.get(&self.hosts[host].id));
            !known.any(|durable| durable.stated().is_some())
        };
        let empty: Vec<bool> = (0..self.hosts.len()).map(is_empty).collect();
        if self.oracle.began == 0 || empty.iter().all(|empty| !empty) {
            return;
        }
        self.count("lost clusters ended for good");
        for (host, empty) in empty.into_iter().enumerate() {
            if empty || self.is_lost(host) {
                self.crash(host, false);
            }
            if self.is_lost(host) && !empty {
                self.dead.insert(host);
            }
        }
    }

    /// How long recovery may take.
    pub(super) fn bound(&self) -> Time {
        // With the smallest windows every entry takes a round trip and a sync of its own.
        let entries = self.oracle.hosts.values().map(|host| host.last().0).max().unwrap_or(0);
        40 * self.plan.election() + (100 * entries + 20_000) * self.plan.slowness
    }

    /// Asks until there is an answer.
    fn insist(&mut self, ask: Ask, what: &str) -> Result<(), Broken> {
        let until = self.now + self.bound();
        let slowness = self.plan.slowness;
        let (healed, mut leaderless) = (self.now, 0);
        while self.now < until {
            let Some(leader) = self.leader() else {
                leaderless += 1;
                if self.now > healed + 10 * self.plan.election() && leaderless % 10 == 0 {
                    self.undo_by_force()?;
                }
                self.run((self.now + 50 * slowness).min(until), |world| world.leader().is_some())?;
                continue;
            };
            let host = match ask {
                Ask::Get { .. } => {
                    let up: Vec<usize> =
                        self.present().filter(|&host| self.hosts[host].running.is_some()).collect();
                    *self.chance.nemesis.pick(&up)
                }
                _ => leader,
            };
            let request = self.history.call(ask.clone());
            self.request(host, request);
            let deadline = self.now + ASK_AGAIN * self.plan.slowness;
            self.run(deadline, |world| world.history.get(request).answer.is_some())?;
            match self.history.get(request).answer {
                Some((_, Answer::Refused)) => {
                    self.run(self.now + 50 * slowness, |_| false)?;
                }
                Some(_) => return Ok(()),
                None => {}
            }
        }
        self.trace(World::describe);
        Err(Broken(format!("{what} is not done {} ms after the faults ended", self.bound())))
    }

    /// Everybody's standing, for who looks for a reason.
    pub(super) fn describe(&self) -> String {
        let mut lines = String::new();
        for (host, one) in self.hosts.iter().enumerate() {
            let (id, lost) = (one.id, self.is_lost(host));
            let removed = one.removed;
            lines.push_str(&format!("\n  {id}: lost {lost}, removed {removed}"));
            let Some(running) = &one.running else { continue };
            let summary = running.replica.summary();
            let linked: Vec<usize> =
                self.links.keys().filter(|key| key.0 == host).map(|key| key.1).collect();
            let (in_force, committed) = running.replica.memberships();
            let voters = |now: &Membership| (now.voters.clone(), now.outgoing.clone());
            lines.push_str(&format!(
                ", {:?} of {} under {:?}, at {} of {}, links to {linked:?}, in force {:?}, committed {:?}",
                summary.role,
                summary.term,
                summary.leader,
                summary.commit,
                summary.last,
                in_force.map(|(at, now)| (at, voters(&now))),
                committed.map(|known| (known.at, voters(&known.membership))),
            ));
            lines.push_str(&format!(", disowned by {:?}", running.disowners.keys()));
            let ways = running.roster.peers().into_iter().map(|(seat, peer)| {
                let met = running.met.get(&seat);
                let said = met.and_then(|met| met.said.as_ref()).map(|said| said.raft.clone());
                let heard = met.and_then(|met| met.heard_from.clone());
                (seat, peer.addresses, said, heard)
            });
            let (own, ways) = (&one.config.addresses.raft, ways.collect::<Vec<_>>());
            lines.push_str(&format!(", listens at {own}, dials {ways:?}"));
        }
        lines
    }

    fn recover(&mut self) -> Result<(), Broken> {
        self.insist(Ask::Put { key: 0, need: super::clients::Need::Nothing }, "a write")
    }

    /// Everybody who belongs to it comes to the same state, and nobody stands for election any
    /// more.
    fn converge(&mut self) -> Result<(), Broken> {
        let mut until = self.now + self.bound();
        let mut members = Vec::new();
        while members.is_empty() {
            if self.now >= until && self.give_up_whom_nobody_finds() {
                until = self.now + self.bound();
            }
            if self.now >= until {
                self.trace(World::describe);
            }
            ensure!(self.now < until, "the members do not come to the same state");
            self.run(self.now + 100 * self.plan.slowness, |_| false)?;
            members = self.agreed();
        }
        // Who comes in late may know of a term that others have not heard of.
        loop {
            let before = self.terms(&members);
            self.run(self.now + 6 * self.plan.election(), |_| false)?;
            let after = self.terms(&members);
            if before == after {
                break;
            }
            ensure!(self.now < until, "terms go on growing: {before:?}, {after:?}");
        }
        for &host in &members {
            self.inspect(host)?;
        }
        Ok(())
    }

    /// Takes down members that nothing has ever reached, that listen elsewhere than the others were told, and that know none of them
    /// as they listen now: there an operator has to help. Whether there was one.
    fn give_up_whom_nobody_finds(&mut self) -> bool {
        let Some(now) = self.membership_in_force() else { return false };
        let is_member = |host: usize| now.members.contains_key(&self.hosts[host].id);
        let members: Vec<usize> = (0..self.hosts.len()).filter(|&host| is_member(host)).collect();
        let is_apart = |&host: &usize| {
            self.roster(host).is_some_and(|roster| roster.cluster().is_none())
                && members.iter().filter(|&&other| other != host).all(|&other| {
                    !self.knows_the_way(host, other) && !self.knows_the_way(other, host)
                })
        };
        let apart: Vec<usize> = members.iter().copied().filter(is_apart).collect();
        for &host in &apart {
            self.count("hosts that nobody finds any more");
            self.crash(host, false);
            self.dead.insert(host);
        }
        !apart.is_empty()
    }

    /// Whether a host finds so many of the voters who remember that it was put out that it has to believe them.
    fn hears_a_majority(&self, host: usize, now: &Membership) -> bool {
        let voters =
            (0..self.hosts.len()).filter(|&other| now.voters.contains(&self.hosts[other].id));
        let id = self.hosts[host].id;
        let heard = voters.filter(|&other| {
            self.roster(other).is_some_and(|other| other.was_put_out(id))
                && !self.is_lost(other)
                && self.knows_the_way(host, other)
        });
        heard.count() * 2 > now.voters.len()
    }

    /// Whoever was put out finds out and stops, and no member listens to it.
    fn part_with_the_removed(&mut self) -> Result<(), Broken> {
        let until = self.now + self.bound();
        loop {
            let Some((at, now)) = self.oracle.newest.clone() else { return Ok(()) };
            let is_member = |host: usize| now.members.contains_key(&self.hosts[host].id);
            // Who knows none of the members that are left, or not where they are, finds nobody who could tell.
            let finds = |one: usize| {
                (0..self.hosts.len()).any(|host| {
                    let up = self.hosts[host].running.is_some();
                    up && is_member(host) && !self.is_lost(host) && self.knows_the_way(one, host)
                })
            };
            let left = self.present().find(|&host| {
                let Some(roster) = self.roster(host) else { return false };
                // Whom nothing has ever named waits to be let in.
                let id = self.hosts[host].id;
                let is_known =
                    (0..self.hosts.len()).filter(|&other| is_member(other)).any(|other| {
                        let remembers =
                            self.roster(other).is_some_and(|other| other.was_put_out(id));
                        remembers && self.knows_the_way(host, other)
                    });
                let must_know = match roster.cluster() {
                    Some(own) => own == now.cluster && (roster.was_named() || is_known),
                    // What nothing has reached is told of no others than it knows.
                    None => is_known && self.hears_a_majority(host, &now),
                };
                !is_member(host) && must_know && finds(host)
            });
            let Some(host) = left else {
                let stranger = self.links.keys().find(|(from, to)| {
                    let awaited =
                        self.roster(*from).is_none_or(|roster| roster.cluster().is_none());
                    // Whom the cluster given up has is linked as that one likes.
                    let listens = is_member(*to) && !self.is_lost(*to);
                    listens && !is_member(*from) && !awaited
                });
                ensure!(stranger.is_none(), "a link of one who was put out stays: {stranger:?}");
                return Ok(());
            };
            if self.now > until {
                self.trace(World::describe);
                return Err(Broken(format!(
                    "{} is no member as of {at} and does not stop",
                    self.hosts[host].id
                )));
            }
            self.run(self.now + 200 * self.plan.slowness, |_| false)?;
        }
    }

    /// Who is no member any more may still learn of a term that has long begun.
    fn terms(&self, members: &[usize]) -> Vec<u64> {
        let running = members.iter().filter_map(|&host| self.hosts[host].running.as_ref());
        running.map(|up| up.term().0).collect()
    }

    /// The members that run, if all of them have applied all there is.
    fn agreed(&self) -> Vec<usize> {
        let Some(membership) = self.membership_in_force() else { return Vec::new() };
        // Everybody whose host is there at all is up. Whom the cluster given up took in before this one
        // reached it cannot come: an operator has to replace it.
        let members: Vec<usize> = (0..self.hosts.len())
            .filter(|&host| {
                let is_there = !self.dead.contains(&host) && !self.is_lost(host);
                is_there && membership.members.contains_key(&self.hosts[host].id)
            })
            .collect();
        let everything = self.oracle.committed.len() as u64;
        let is_done = |&host: &usize| {
            self.hosts[host].running.as_ref().is_some_and(|up| {
                let summary = up.replica.summary();
                summary.applied.0 == everything
                    && summary.last == summary.applied
                    && summary.leader.is_some()
            })
        };
        if membership.outgoing.is_none() && members.iter().all(is_done) {
            members
        } else {
            Vec::new()
        }
    }

    /// The last reads: what was acknowledged, or something later, must be there.
    fn read_back(&mut self) -> Result<(), Broken> {
        for key in 0..self.plan.keys {
            self.insist(Ask::Get { key }, "a read")?;
        }
        Ok(())
    }
}
