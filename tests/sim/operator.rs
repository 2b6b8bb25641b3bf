//! People who look after the cluster: every command that there is, on members that are well, slow, down or lost,
//! repeated, two at once, in the middle of other changes. They follow the rules that the documentation states.

use std::collections::BTreeSet;

use konsen::cluster::{Addresses, Change, ChangeRefused, ClusterView, change, stand_in};
use konsen::raft::{Input, NodeId, Payload, Refused};
use konsen::replica::{ChangeFailed, Event, Proposed, RequestId, Step};

use super::changes::Fact;
use super::due::Due;
use super::oracle::{Broken, ensure};
use super::plan::Time;
use super::world::{CHANGES, World};

/// How long a command is tried, and its end is waited for, on a fast cluster.
const PATIENCE: Time = 1_500;
/// The pause before a command is tried again.
const PAUSE: Time = 40;

/// A command for the membership.
#[derive(Clone, Debug)]
pub(super) struct Command {
    operator: usize,
    change: Option<Change>,
    force: bool,
    /// Until when it is tried, and waited for.
    until: Time,
}

/// A command that a host has been asked to carry out.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) host: usize,
    pub(super) life: u64,
    command: Command,
    /// Who had the name before.
    old: Option<NodeId>,
    /// How many changes of other kinds there had been.
    others: u64,
    proposed: Option<Proposed>,
}

impl World {
    pub(super) fn operate_later(&mut self, operator: usize) {
        if let Some(every) = self.plan.operate_every {
            let delay = self.chance.operator.range(1, 2 * every);
            self.after(delay, Due::Operate { operator });
        }
    }

    /// An operator does something.
    pub(super) fn act(&mut self, operator: usize) -> Result<(), Broken> {
        self.operate_later(operator);
        if self.oracle.committed.is_empty() {
            return Ok(());
        }
        let host = self.chance.operator.below(self.hosts.len() as u64) as usize;
        if self.is_lost(host) {
            return Ok(());
        }
        match self.chance.operator.below(100) {
            0..22 => self.add(operator, host),
            22..40 => {
                let change = Change::Remove { name: self.hosts[host].config.name.clone() };
                self.command(operator, Some(change));
            }
            40..62 => {
                let moves = self.chance.operator.chance(200);
                let addresses = moves.then(|| self.new_addresses(host));
                let name = self.hosts[host].config.name.clone();
                self.command(operator, Some(Change::Replace { name, addresses }));
            }
            62..67 => {
                let change = Change::Promote { name: self.hosts[host].config.name.clone() };
                self.command(operator, Some(change));
            }
            67..73 => {
                if !self.undo_by_force()? {
                    self.command(operator, None);
                }
            }
            73..79 => {
                if let Some(leader) = self.leader() {
                    self.count("operator: transfer");
                    let to = Some(self.hosts[host].id).filter(|_| self.chance.operator.chance(800));
                    self.step(leader, Event::Raft(Input::TransferLeadership { to }))?;
                }
            }
            79..87 => {
                self.count("operator: restart");
                self.restart_soon(host);
            }
            87..94 => self.move_hosts(host),
            _ => {
                if let Some(command) = self.repeatable.clone() {
                    self.count("operator: the same once more");
                    let until = self.now + PATIENCE * self.plan.slowness;
                    self.send_command(Command { until, ..command });
                }
            }
        }
        Ok(())
    }

    fn restart_soon(&mut self, host: usize) {
        self.crash(host, false);
        let down = self.chance.operator.range(1, 800) * self.plan.slowness;
        self.after(down, Due::Start { host });
    }

    /// A host is to be taken in. It comes with an empty directory, or with the one that it had when it was put
    /// out, after a while or never.
    fn add(&mut self, operator: usize, host: usize) {
        if self.has_belonged(host) && self.chance.operator.chance(850) {
            self.renew(host);
        }
        let config = &self.hosts[host].config;
        let (name, addresses) = (config.name.clone(), config.addresses.clone());
        let promote = self.chance.operator.chance(850);
        self.command(operator, Some(Change::Add { name, addresses, promote }));
        self.start_newcomer(host);
    }

    /// Somebody starts a new host, after a while or never.
    fn start_newcomer(&mut self, host: usize) {
        if self.hosts[host].running.is_some() || self.has_belonged(host) {
            return;
        }
        let id = self.hosts[host].id;
        let named = self.memberships().any(|now| now.members.contains_key(&id));
        if self.chance.operator.chance(150) && !named {
            self.count("operator: a host that never comes");
            self.dead.insert(host);
            return;
        }
        self.dead.remove(&host);
        let delay = self.chance.operator.range(1, 1_500) * self.plan.slowness;
        self.after(delay, Due::Start { host });
        // Another host with the same certificate comes at about the same time.
        let same = |other: &usize| self.hosts[*other].config.name == self.hosts[host].config.name;
        let twin = (0..self.hosts.len()).filter(|other| *other != host).find(same);
        if let Some(twin) = twin.filter(|twin| !self.is_lost(*twin)) {
            self.count("fault: two hosts with one certificate");
            let later = self.chance.operator.below(100) * self.plan.slowness;
            self.after(delay + later, Due::Start { host: twin });
        }
    }

    /// A host, or two that change places, gets other addresses. All configurations say so from then on, but those
    /// who have not moved read theirs at their next start only.
    fn move_hosts(&mut self, host: usize) {
        let other = self.chance.operator.below(self.hosts.len() as u64) as usize;
        if self.is_twin(host) || self.is_twin(other) {
            return;
        }
        if other != host && !self.is_lost(other) && self.chance.operator.chance(500) {
            self.count("operator: addresses swapped");
            let [one, two] = [host, other].map(|host| self.hosts[host].config.addresses.clone());
            self.move_to(host, two);
            self.move_to(other, one);
        } else {
            self.count("operator: a host moved");
            let addresses = self.new_addresses(host);
            self.move_to(host, addresses);
        }
    }

    /// Moves a host, unless another of its name is there already: one machine is there.
    fn move_to_free(&mut self, host: usize, addresses: Addresses) {
        if self.hosts.iter().all(|other| other.config.addresses != addresses) {
            self.move_to(host, addresses);
        }
    }

    fn move_to(&mut self, host: usize, addresses: Addresses) {
        self.hosts[host].config.addresses = addresses.clone();
        let name = self.hosts[host].config.name.clone();
        for other in &mut self.hosts {
            other.config.servers.insert(name.clone(), addresses.clone());
        }
        self.restart_soon(host);
    }

    fn new_addresses(&mut self, host: usize) -> Addresses {
        self.moves += 1;
        let name = format!("{}-{}", self.hosts[host].config.name, self.moves);
        Addresses { raft: format!("{name}:1"), http: format!("{name}:2") }
    }

    /// An operator types a command; none: to undo the change that is under way.
    fn command(&mut self, operator: usize, change: Option<Change>) {
        self.count(match &change {
            Some(Change::Add { .. }) => "operator: add",
            Some(Change::Remove { .. }) => "operator: remove",
            Some(Change::Replace { .. }) => "operator: replace",
            Some(Change::Promote { .. }) => "operator: promote",
            None => "operator: undo",
        });
        let force = change.is_some() && self.chance.operator.chance(350);
        let until = self.now + PATIENCE * self.plan.slowness;
        let command = Command { operator, change, force, until };
        self.repeatable = Some(command.clone());
        self.send_command(command);
    }

    /// It reaches the leader, or a host that is asked in its place.
    fn send_command(&mut self, command: Command) {
        let up: Vec<usize> =
            self.present().filter(|&host| self.hosts[host].running.is_some()).collect();
        if up.is_empty() {
            return;
        }
        let any = *self.chance.operator.pick(&up);
        let host = self.leader().filter(|_| self.chance.operator.chance(900)).unwrap_or(any);
        let life = self.hosts[host].life;
        let delay = self.chance.operator.range(1, 20);
        self.after(delay, Due::Command { host, life, command });
    }

    /// A host makes the change that an operator asks for, if it leads.
    pub(super) fn carry_command_out(
        &mut self,
        host: usize,
        command: Command,
    ) -> Result<(), Broken> {
        // Nobody cares for a cluster that is given up.
        if self.is_lost(host) {
            return Ok(());
        }
        // What was committed before was so by the membership before.
        self.settle(host)?;
        let Some(running) = &self.hosts[host].running else { return Ok(()) };
        let now = running.replica.membership();
        let name = command.change.as_ref().map(name_of_change);
        let old = now.zip(name).and_then(|(now, name)| Some(now.by_name(name)?.0));
        let step = match &command.change {
            Some(wanted) => {
                let here = ClusterView { reachable: &|_| true, lag: &|_| Some(0) };
                let next = now.and_then(|now| change::change(now, wanted, here, true).ok());
                // Nobody may need what is lost for good.
                if next.is_some_and(|next| !self.survives(&next, 0)) {
                    return Ok(());
                }
                Step::Operator { change: wanted.clone(), force: command.force }
            }
            None => Step::Undo { force: false },
        };
        self.changes += 1;
        let id = CHANGES + self.changes;
        let (life, others) = (self.hosts[host].life, self.acknowledged.others);
        self.asked.insert(id, Asked { host, life, command, old, others, proposed: None });
        let hosts = self.shown_to(host);
        self.step(host, Event::Change { id: RequestId(id), step, hosts })
    }

    /// What a host says to a command.
    pub(super) fn change_answered(
        &mut self,
        id: u64,
        result: &Result<Proposed, ChangeFailed>,
    ) -> Result<(), Broken> {
        let Some(mut asked) = self.asked.remove(&id) else { return Ok(()) };
        match result {
            Ok(proposed) => {
                if let Some(change) = &asked.command.change {
                    self.acknowledged.proposed(name_of_change(change), proposed.at);
                }
                asked.proposed = Some(proposed.clone());
                self.asked.insert(id, asked);
            }
            Err(failed) => {
                self.count("operator: refused");
                let again = match failed {
                    ChangeFailed::OwnSeat => {
                        let Asked { host, life, .. } = asked;
                        self.after(0, Due::HandOver { host, life });
                        true
                    }
                    ChangeFailed::Refused(why) => matches!(
                        why,
                        ChangeRefused::InProgress | ChangeRefused::QuorumAtRisk { .. }
                    ),
                    ChangeFailed::NotTaken(why) => *why != Refused::UnfitMembership,
                    ChangeFailed::Unneeded => false,
                };
                if again && self.now < asked.command.until && !self.calm {
                    let pause = PAUSE * self.plan.slowness;
                    self.after(pause, Due::Again { command: asked.command });
                }
            }
        }
        Ok(())
    }

    pub(super) fn command_again(&mut self, command: Command) {
        self.send_command(command);
    }

    /// More is committed in the cluster of a host than there was before.
    pub(super) fn committed_since(&mut self, host: usize, before: usize) -> Result<(), Broken> {
        if !self.is_lost(host) && self.oracle.committed.len() > before {
            self.note_revision();
            for (entry, _) in self.oracle.committed.iter().skip(before) {
                if let Payload::Membership(now) = &entry.payload
                    && now.outgoing.is_none()
                {
                    self.acknowledged.check(entry.id.index, now)?;
                    let names: BTreeSet<&str> =
                        now.members.values().map(|member| member.name.as_str()).collect();
                    ensure!(
                        names.len() == now.members.len() || self.acknowledged.others > 0,
                        "two members have one name as of {}: {now:?}",
                        entry.id.index
                    );
                }
            }
        }
        self.look_after_commands(host)
    }

    /// Looks which commands are complete at a host, and which of them nobody can tell of any more.
    fn look_after_commands(&mut self, host: usize) -> Result<(), Broken> {
        let ids: Vec<u64> = self
            .asked
            .iter()
            .filter(|(_, asked)| asked.host == host && asked.proposed.is_some())
            .map(|(id, _)| *id)
            .collect();
        for id in ids {
            let Some(running) = &self.hosts[host].running else { return Ok(()) };
            let asked = &self.asked[&id];
            let Some(proposed) = &asked.proposed else { continue };
            let (_, committed) = running.replica.memberships();
            let term = running.replica.summary().term;
            let known = committed.filter(|known| {
                known.at >= proposed.at.index && known.membership.outgoing.is_none()
            });
            if term != proposed.at.term
                || asked.life != self.hosts[host].life
                || self.now > asked.command.until
            {
                self.count("operator: outcome unknown");
                self.asked.remove(&id);
            } else if let Some(known) = known {
                let done = known.membership == proposed.membership;
                let Some(asked) = self.asked.remove(&id) else { continue };
                match done {
                    true => self.command_done(asked),
                    false => self.count("operator: undone, or overtaken"),
                }
            }
        }
        Ok(())
    }

    /// An operator is told that a change is made.
    fn command_done(&mut self, asked: Asked) {
        let Asked { command, old, others, proposed, .. } = asked;
        let (Some(change), Some(proposed)) = (command.change, proposed) else { return };
        self.count("operator: done");
        let name = name_of_change(&change).to_owned();
        self.trace(|_| format!("operator {}: {change:?} is done", command.operator));
        let host = (0..self.hosts.len()).find(|&host| Some(self.hosts[host].id) == old);
        let fact = match &change {
            Change::Add { .. } | Change::Promote { .. } => Fact::Member,
            Change::Remove { .. } => Fact::Absent,
            Change::Replace { .. } => match old {
                Some(old) if old != stand_in(&name) => Fact::Replaced(old),
                // Nobody had come yet: the next who comes is welcome.
                _ => Fact::Member,
            },
        };
        self.acknowledged.done(&name, proposed.at, fact, others);
        let Some(host) = host else {
            // It has another directory already, and moves to where the command says that it is.
            let named = self.hosts.iter().position(|host| host.config.name == name);
            if let (Some(host), Change::Replace { addresses: Some(to), .. }) = (named, change) {
                self.move_to_free(host, to);
            }
            return;
        };
        match change {
            // The old directory is of no use any more.
            Change::Replace { addresses, .. } if self.chance.operator.chance(900) => {
                self.renew(host);
                self.start_newcomer(host);
                if let Some(addresses) = addresses {
                    self.move_to_free(host, addresses);
                }
            }
            Change::Remove { .. } if self.chance.operator.chance(300) => self.crash(host, false),
            _ => {}
        }
    }

    /// Whether nobody who could decide without the voters from before a change will ever be there again, and
    /// nobody can be elected with them: then, as documented, an operator may undo it at any risk. True if that
    /// was done.
    pub(super) fn undo_by_force(&mut self) -> Result<bool, Broken> {
        let mut ready = Vec::new();
        for host in self.present() {
            let Some(running) = &self.hosts[host].running else { continue };
            let (in_force, _) = running.replica.memberships();
            let Some((at, now)) = in_force else { continue };
            let Some(outgoing) = &now.outgoing else { continue };
            let last = running.replica.summary().last;
            let gone = |id: &&NodeId| self.is_gone(**id);
            let lost = now.voters.iter().filter(gone).count();
            let here = outgoing.iter().filter(|id| !self.is_gone(**id)).count();
            let decided = self.oracle.committed.len() as u64 >= at.index.0;
            if lost * 2 >= now.voters.len() && here * 2 > outgoing.len() && !decided {
                ready.push((last, host));
            }
        }
        let Some(&(_, host)) = ready.iter().max() else { return Ok(false) };
        let id = self.hosts[host].id;
        self.trace(|_| format!("{id} is to undo a change by force"));
        self.count("changes undone by force");
        self.oracle.forced = true;
        self.changes += 1;
        let id = RequestId(CHANGES + self.changes);
        let hosts = self.shown_to(host);
        self.step(host, Event::Change { id, step: Step::Undo { force: true }, hosts })?;
        Ok(true)
    }

    /// Whether an identity will never be there again.
    fn is_gone(&self, id: NodeId) -> bool {
        let host = super::world::host_of(id);
        self.hosts[host].id != id || self.hosts[host].removed || self.dead.contains(&host)
    }
}

fn name_of_change(change: &Change) -> &str {
    match change {
        Change::Add { name, .. }
        | Change::Remove { name }
        | Change::Promote { name }
        | Change::Replace { name, .. } => name,
    }
}
