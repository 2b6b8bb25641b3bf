//! A host from its start to its end: its clock, its steps, and what follows from them.

use std::time::Duration;

use konsen::raft::{Body, Input, LogId, NodeId, RoleName};
use konsen::replica::{Effects, Event, Summary, is_disk_slow};
use konsen::store::StoreError;

use super::clients::Answer;
use super::due::Due;
use super::host::Found;
use super::oracle::{Broken, ensure, is_quorum};
use super::passing::PASSED;
use super::plan::Time;
use super::transfer::hold_time;
use super::world::{CHANGES, World, host_of};

impl World {
    pub(super) fn start(&mut self, host: usize) -> Result<(), Broken> {
        if self.hosts[host].running.is_some()
            || self.hosts[host].removed
            || self.dead.contains(&host)
        {
            return Ok(());
        }
        self.may_upgrade(host);
        self.may_change_settings(host);
        let seed = self.chance.disk.next();
        let one = &mut self.hosts[host];
        let id = one.id;
        match one.start(&self.plan, seed, self.now) {
            Ok(found) => self.begin(host, &found),
            Err(error) => self.halt(host, format!("{id} does not start: {error}")),
        }
    }

    /// A host has started.
    pub(super) fn begin(&mut self, host: usize, found: &Found) -> Result<(), Broken> {
        let one = &self.hosts[host];
        let id = one.id;
        let oracle = self.lost.oracle_of(host, &mut self.oracle);
        oracle.started(id, found, &one.unsure, one.unsure_checkpoint, one.unsure_install)?;
        let life = one.life;
        self.watch.is_ill(host, self.now);
        self.trace(|_| {
            format!(
                "{id} starts with {:?}, {} entries, state at {}",
                found.hard_state,
                found.entries.len(),
                found.applied
            )
        });
        self.count("starts");
        self.inspect(host)?;
        self.after(1, Due::Dial { host, life });
        self.after(self.plan.tick(), Due::Tick { host, life, late: 0 });
        self.plan_checkpoint(host, life);
        self.settle(host)
    }

    pub(super) fn tick(&mut self, host: usize, life: u64, late: u64) -> Result<(), Broken> {
        if !self.is_up(host, life) {
            return Ok(());
        }
        let paused = self.hosts[host].paused_until > self.now;
        let late = if paused { (late + 1).min(self.plan.late_ticks_max()) } else { 0 };
        // No two clocks run alike.
        let own = if self.calm { self.plan.tick() } else { self.plan.ticks[host] };
        let slowness = self.plan.slowness;
        let period = own - slowness + self.chance.pace.below(2 * slowness + 1);
        self.after(period, Due::Tick { host, life, late });
        if paused {
            return Ok(());
        }
        for _ in 0..=late {
            self.step(host, Event::Raft(Input::Tick))?;
        }
        self.leads_with_a_quorum(host)?;
        let patience = self.plan.tick() * Time::from(self.plan.election_ticks);
        if let Some(running) = &mut self.hosts[host].running {
            let write = running.writing.as_ref().map_or(self.now, |(_, since)| *since);
            let lookup = running.unread.unwrap_or(self.now);
            let [write, lookup] = [write, lookup].map(|since| self.now - since);
            let leads_for = running.leads_since.map_or(Time::MAX, |since| self.now - since);
            let times = [write, lookup, leads_for, patience].map(Duration::from_millis);
            let [write, lookup, leads_for, patience] = times;
            let slow = is_disk_slow(write, lookup, leads_for, patience);
            let news = slow && !running.told_slow;
            running.told_slow = slow;
            if news {
                self.count("slow disks noticed");
            }
            if slow {
                return self.step(host, Event::Raft(Input::DiskSlow));
            }
        }
        Ok(())
    }

    /// A leader that hears no quorum steps down within two time-outs of its own clock.
    fn leads_with_a_quorum(&self, host: usize) -> Result<(), Broken> {
        let Some(running) = &self.hosts[host].running else { return Ok(()) };
        let now = running.replica.summary();
        let in_force = running.replica.membership().filter(|_| now.role == RoleName::Leader);
        let Some(membership) = in_force else {
            return Ok(());
        };
        let patience = 2 * u64::from(self.plan.election_ticks) + 1;
        let hears = |node: NodeId| {
            let other = host_of(node);
            other == host || self.heard[host][other] + patience >= self.ticks[host]
        };
        ensure!(
            is_quorum(membership, hears),
            "{} leads {} and has heard no quorum for {patience} ticks of {:?} and {:?}",
            self.hosts[host].id,
            now.term,
            membership.voters,
            membership.outgoing
        );
        Ok(())
    }

    pub(super) fn step(&mut self, host: usize, event: Event) -> Result<(), Broken> {
        let leases = self.plan.leases.is_some() && self.may_lease(host);
        let one = &mut self.hosts[host];
        let life = one.life;
        let Some(running) = &mut one.running else { return Ok(()) };
        if let Some(now) = self.plan.clock(host, self.now) {
            running.replica.step(Event::Raft(Input::Leases(leases)));
            running.replica.step(Event::Raft(Input::Now(now)));
        }
        if matches!(event, Event::Raft(Input::Tick)) {
            self.ticks[host] += 1;
        }
        let changes = matches!(
            event,
            Event::Change { .. }
                | Event::Raft(
                    Input::Found { .. } | Input::ChangeMembers { .. } | Input::UndoChange { .. }
                )
        );
        running.replica.step(event);
        if changes {
            // Newcomers have some time to answer, from when the change is taken in.
            self.heard[host].fill(self.ticks[host]);
        }
        // The server's thread often takes several letters before it looks at what follows.
        if self.chance.pace.chance(200) {
            let delay = self.chance.pace.below(3);
            self.after(delay, Due::Settle { host, life });
            return Ok(());
        }
        self.settle(host)
    }

    /// Carries out what the replica wants, and checks everything.
    pub(super) fn settle(&mut self, host: usize) -> Result<(), Broken> {
        loop {
            self.follow_cluster(host);
            let one = &mut self.hosts[host];
            let (id, life) = (one.id, one.life);
            let operations = one.disk_operations();
            let Some(running) = &mut one.running else { return Ok(()) };
            let mut effects = match running.replica.take_effects() {
                Ok(effects) => effects,
                // No failure of a disk makes this right.
                Err(StoreError::Broken(broken)) => return Err(Broken(format!("{id}: {broken}"))),
                Err(error) => return self.halt(host, format!("{id} stops: {error}")),
            };
            if let Some(broken) = effects.fatal {
                return Err(Broken(format!("{id}: {broken}")));
            }
            let summary = running.replica.summary();
            let state = running.state.hash();
            self.plan
                .bounds(&running.replica.load())
                .map_err(|what| Broken(format!("{id}: {what}")))?;
            let more = running.replica.has_more();
            let now = self.now;
            let unread = running.replica.awaits_lookup();
            running.unread = unread.then(|| *running.unread.get_or_insert(now));
            running.queue.append(&mut effects.persist);
            if let Some(checkpoint) = effects.compact_to.take() {
                let now = hold_time(self.now, self.plan.slowness);
                let checkpoint = running.holds.may_cut(checkpoint, now);
                running.compact_to(checkpoint);
            }
            let idle = running.writing.is_none() && running.queue.is_empty();
            let begin = running.writing.is_none() && !running.queue.is_empty();
            if begin {
                running.writing = Some((std::mem::take(&mut running.queue), self.now));
                let delay = self.chance.disk.range(0, self.plan.sync);
                self.after(delay, Due::EndWrite { host, life });
            }
            self.carry_out(host, effects, &summary, state, operations)?;
            if idle && let Some(running) = &self.hosts[host].running {
                let oracle = self.lost.oracle_of(host, &mut self.oracle);
                oracle.in_force(id, running.replica.membership())?;
            }
            if !more {
                return Ok(());
            }
        }
    }

    /// Checks what the replica came to, and sends, reads and answers what it wants.
    fn carry_out(
        &mut self,
        host: usize,
        effects: Effects,
        summary: &Summary,
        state: (LogId, u64),
        operations: u64,
    ) -> Result<(), Broken> {
        let (id, life) = (self.hosts[host].id, self.hosts[host].life);
        if let Some(standing) = effects.standing {
            self.trace(|_| format!("{id} is {standing:?}"));
            let leads = standing.role == RoleName::Leader;
            let now = self.now;
            if let Some(running) = &mut self.hosts[host].running {
                running.leads_since = leads.then_some(now);
            }
            self.another_leads(host, standing.leader)?;
            if standing.role == RoleName::Leader {
                self.heard[host].fill(self.ticks[host]);
                self.count("leaderships");
            }
            self.oracle_of(host).leads(id, standing.role, standing.term)?;
        }
        let line = [
            id.0,
            summary.term.0,
            summary.commit.0,
            summary.applied.0,
            summary.last.0,
            state.1,
            operations,
        ];
        let mut bytes = [0; 56];
        for (place, number) in bytes.chunks_exact_mut(8).zip(line) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        self.remember(&bytes);
        let in_force = self.hosts[host].running.as_ref().and_then(|up| up.replica.memberships().0);
        let in_force = in_force.map(|(entry, now)| (entry.index, now));
        let news = effects.membership.as_ref();
        let before = self.oracle_of(host).committed.len();
        self.oracle_of(host).stepped(id, summary, news, in_force.as_ref(), state)?;
        self.committed_since(host, before)?;
        if effects.membership.is_some() || effects.committed.is_some() {
            self.follow_memberships(host)?;
            if !self.is_up(host, life) {
                return Ok(());
            }
        }
        if effects.membership.is_some() {
            // Newcomers have some time to answer.
            self.heard[host].fill(self.ticks[host]);
        }
        for message in effects.send {
            self.oracle_of(host).sent(&message)?;
            if matches!(message.body, Body::Snapshot { .. }) {
                self.begin_transfer(&message);
            }
            self.send(message);
        }
        if effects.untold && self.chance.pace.chance(300) {
            let delay = self.chance.pace.below(3);
            self.after(delay, Due::TellCommits { host, life });
        }
        if let Some((leader, capacity)) = effects.tell_capacity {
            self.tell_capacity(host, leader, capacity);
        }
        for fetch in effects.fetch {
            let delay = self.chance.disk.range(0, 20);
            self.after(delay, Due::Fetch { host, life, fetch });
        }
        for lookup in effects.lookups {
            self.look_up_later(host, lookup);
        }
        for (request, result) in effects.writes {
            // A change that no operator could ask for is a proposal like any to the replica.
            if request.0 < CHANGES || request.0 > PASSED {
                self.write_ended(host, request.0, result)?;
            }
        }
        for (request, result) in effects.reads {
            match result {
                Ok(()) => {
                    let delay =
                        if self.chance.pace.chance(300) { self.chance.pace.below(30) } else { 0 };
                    if delay == 0 {
                        self.look(host, request.0)?;
                    } else {
                        self.after(delay, Due::Look { host, life, request: request.0 });
                    }
                }
                Err(_) if self.is_lost(host) => {}
                Err(_) => self.answer(request.0, Answer::Refused, summary.leader)?,
            }
        }
        for (request, result) in effects.changes {
            self.change_answered(request.0, &result)?;
            match result {
                Ok(taken) => {
                    self.trace(|_| format!("{id} takes in at {}: {}", taken.at, taken.what));
                    self.count("membership changes");
                }
                Err(refused) => self.trace(|_| format!("{id} refuses a change: {refused:?}")),
            }
        }
        Ok(())
    }

    pub(super) fn end_write(&mut self, host: usize) -> Result<(), Broken> {
        let id = self.hosts[host].id;
        let Some(running) = &mut self.hosts[host].running else { return Ok(()) };
        let before = running.base();
        let batch = match running.end_write() {
            Ok(batch) => batch,
            Err(error) => return self.halt(host, format!("{id} cannot write: {error}")),
        };
        let Some(last) = batch.last().map(|write| write.seq) else { return Ok(()) };
        self.oracle_of(host).persisted(id, &batch)?;
        self.count("log commits");
        let base = self.hosts[host].running.as_ref().map_or(before, |up| up.base());
        if base != before && batch.iter().all(|write| write.reset.is_none()) {
            self.count("log compactions");
            self.spares_receivers(host, base)?;
            self.oracle_of(host).compacted(id, base)?;
            self.step(host, Event::Raft(Input::Compacted { last: base }))?;
        }
        self.step(host, Event::Raft(Input::Persisted { seq: last }))?;
        let life = self.hosts[host].life;
        if let Some(running) = &mut self.hosts[host].running
            && running.writing.is_none()
            && !running.queue.is_empty()
        {
            running.writing = Some((std::mem::take(&mut running.queue), self.now));
            let delay = self.chance.disk.range(0, self.plan.sync);
            self.after(delay, Due::EndWrite { host, life });
        }
        Ok(())
    }

    /// A host stops because of an error. That is right if its disk has failed, or if its release is too old.
    pub(super) fn halt(&mut self, host: usize, why: String) -> Result<(), Broken> {
        if self.was_outgrown(host, &why) {
            self.trace(|_| why);
            self.crash(host, false);
            let down = self.chance.disk.range(1, 1_000) * self.plan.slowness;
            self.after(down, Due::Start { host });
            return Ok(());
        }
        if !self.hosts[host].disk_failed() {
            return Err(Broken(why));
        }
        self.trace(|_| why);
        self.count("stops after a failure of the disk");
        if self.hosts[host].running.is_some() {
            self.crash(host, false);
        } else {
            self.hosts[host].replace_disks(&mut self.chance.disk);
        }
        let down = self.chance.disk.range(1, 1_000) * self.plan.slowness;
        self.after(down, Due::Start { host });
        Ok(())
    }

    pub(super) fn crash(&mut self, host: usize, in_write: bool) {
        if self.hosts[host].running.is_none() {
            return;
        }
        self.end_links_of(host);
        let survival = self.hosts[host].crash(&mut self.chance.disk, in_write);
        self.hosts[host].paused_until = 0;
        self.trace(|world| format!("{} loses power, {survival:?}", world.hosts[host].id));
        self.count("power losses");
        if survival.lost > 0 && survival.kept > 0 {
            self.count("power losses with torn writes");
        } else if survival.lost > 0 {
            self.count("power losses with lost writes");
        }
        if self.chance.disk.chance(100) {
            self.hosts[host].crash_in_start(&self.plan, &mut self.chance.disk, self.now);
            self.count("power losses in a start");
        }
    }

    pub(super) fn blink(
        &mut self,
        host: usize,
        life: u64,
        what: &'static str,
    ) -> Result<(), Broken> {
        if self.is_up(host, life) && !self.calm {
            self.count(what);
            self.crash(host, false);
            self.after(1, Due::Start { host });
        }
        Ok(())
    }
}
