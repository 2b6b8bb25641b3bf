//! Writes that reach a host that does not lead: it passes them on to the leader, by one hop, and says what became
//! of them.

use konsen::kv::{Outcome, Reply};
use konsen::raft::{NodeId, RoleName};
use konsen::replica::forwarding::{Fate, Passed};
use konsen::replica::{Event, Origin, RequestId, WriteFailed};

use super::clients::Answer;
use super::due::Due;
use super::oracle::Broken;
use super::world::{World, host_of};

/// The names of writes that are passed on are above this.
pub(super) const PASSED: u64 = 1 << 50;
/// How often a host tries a write that went nowhere.
const TRIES_MAX: u32 = 5;

/// A write that a host has passed on.
#[derive(Clone, Copy, Debug)]
pub(super) struct PassedOn {
    request: u64,
    tries: u32,
    /// Who asked, in which of its lives.
    host: usize,
    life: u64,
    leader: NodeId,
}

impl World {
    /// The token of a command names the request; the host that takes it in finds it to be allowed.
    fn origin(&self, host: usize, request: u64) -> Origin {
        let (token, admitted) = (Some(request.to_string()), self.admitted_by(host));
        Origin { token, admitted, ..Origin::default() }
    }

    /// A host takes a client's write in, or passes it on.
    pub(super) fn write(&mut self, host: usize, request: u64, tries: u32) -> Result<(), Broken> {
        let Some(write) = self.history.get(request).ask.write(request) else { return Ok(()) };
        let Some(running) = &self.hosts[host].running else { return Ok(()) };
        let summary = running.replica.summary();
        if summary.role == RoleName::Leader || !self.plan.passes_on {
            self.tries.insert(request, tries);
            let id = RequestId(request);
            let origin = self.origin(host, request);
            return self.step(host, Event::Write { id, write, origin });
        }
        let Some(leader) = summary.leader else {
            return self.became(host, request, tries, Err(Fate::Again));
        };
        let to = host_of(leader);
        if !self.is_linked(host, to, leader) {
            return self.became(host, request, tries, Passed::NotSent.outcome());
        }
        self.count("writes passed on");
        self.passes += 1;
        let (id, life) = (PASSED + self.passes, self.hosts[host].life);
        self.passed.insert(id, PassedOn { request, tries, host, life, leader });
        self.after(self.plan.patience, Due::Unanswered { host, life, id });
        if self.reaches(host, to) {
            let delay = 1 + self.chance.net.below(self.plan.delay);
            let life = self.hosts[to].life;
            self.after(delay, Due::PassedOn { host: to, life, id, request });
        }
        Ok(())
    }

    fn reaches(&mut self, from: usize, to: usize) -> bool {
        let lost = !self.calm && self.chance.net.chance(self.plan.loss);
        self.is_open(from, to) && !lost
    }

    /// A write that another host passed on reaches the one that it takes for the leader.
    pub(super) fn take_passed(&mut self, host: usize, id: u64, request: u64) -> Result<(), Broken> {
        let Some(write) = self.history.get(request).ask.write(request) else { return Ok(()) };
        let origin = self.origin(host, request);
        self.step(host, Event::Write { id: RequestId(id), write, origin })
    }

    /// What became of a write at the host that took it in.
    pub(super) fn write_ended(
        &mut self,
        host: usize,
        id: u64,
        result: Result<Reply, WriteFailed>,
    ) -> Result<(), Broken> {
        match result {
            Err(WriteFailed::NoRoom) => self.count("writes refused for want of room"),
            Err(WriteFailed::Superseded) => self.count("writes that a snapshot came over"),
            _ => {}
        }
        let result = result.map_err(Fate::from);
        if id < PASSED {
            let tries = self.tries.remove(&id).unwrap_or_default();
            return self.became(host, id, tries, result);
        }
        // The answer goes back the way that the question came.
        let Some(passed) = self.passed.get(&id).copied() else { return Ok(()) };
        let linked = self.is_linked(passed.host, host, passed.leader);
        if linked && self.reaches(host, passed.host) {
            let delay = 1 + self.chance.net.below(self.plan.delay);
            let PassedOn { host, life, .. } = passed;
            let answer = Passed::Answered(result);
            self.after(delay, Due::PassedBack { host, life, id, answer });
        } else {
            self.count("answers to what was passed on that are lost");
        }
        Ok(())
    }

    /// The passing on of a write ends at the host that began it.
    pub(super) fn passed_back(&mut self, id: u64, answer: Passed) -> Result<(), Broken> {
        let Some(passed) = self.passed.remove(&id) else { return Ok(()) };
        if !self.is_up(passed.host, passed.life) {
            return Ok(());
        }
        self.trace(|_| format!("request {} was passed on: {answer:?}", passed.request));
        self.became(passed.host, passed.request, passed.tries, answer.outcome())
    }

    /// A host follows another leader than before: from the last one no answer is to come.
    pub(super) fn another_leads(
        &mut self,
        host: usize,
        leader: Option<NodeId>,
    ) -> Result<(), Broken> {
        let waiting = self.passed.iter();
        let waiting = waiting.filter(|(_, one)| one.host == host && Some(one.leader) != leader);
        let ids: Vec<u64> = waiting.map(|(id, _)| *id).collect();
        ids.into_iter().try_for_each(|id| self.passed_back(id, Passed::NoAnswer))
    }

    /// A host knows what became of a client's write, or that nobody knows.
    fn became(
        &mut self,
        host: usize,
        request: u64,
        tries: u32,
        result: Result<Reply, Fate>,
    ) -> Result<(), Broken> {
        let leader = self.hosts[host].running.as_ref().and_then(|up| up.replica.summary().leader);
        // Who asked a host that the old cluster took in then hears nothing of the new one.
        if self.is_lost(host) {
            return Ok(());
        }
        // Whoever took it in asks anew whether it is allowed, and it always is.
        let result = match result {
            Ok(Reply { outcome: Outcome::Outdated, .. }) => {
                self.count("writes whose admission was out of date");
                Err(Fate::Again)
            }
            result => result,
        };
        match result {
            Ok(reply) => self.answer(request, Answer::Written(reply), leader),
            Err(Fate::Again) if self.plan.passes_on && tries < TRIES_MAX => {
                self.count("writes tried again");
                let life = self.hosts[host].life;
                let delay = self.chance.clients.range(5, 60) * self.plan.slowness;
                let tries = tries + 1;
                self.after(delay, Due::TryAgain { host, life, request, tries });
                Ok(())
            }
            Err(Fate::Again | Fate::NotApplied(_)) => self.answer(request, Answer::Refused, leader),
            Err(Fate::Unknown) => {
                self.count("writes with an unknown outcome");
                Ok(())
            }
        }
    }
}
