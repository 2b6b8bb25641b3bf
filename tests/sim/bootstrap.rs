//! How clusters are founded: hosts with empty directories find each other, grant the founding to one of them, or
//! wait for the members of a cluster to let them in.

use std::time::Duration;

use konsen::cluster::bootstrap::{self, Next, Situation, Standing};
use konsen::raft::founding::{Answer, Ask, Attempt, Ballot, Verdict};
use konsen::raft::{ClusterId, Input, NodeId};
use konsen::replica::Event;

use super::due::Due;
use super::oracle::{Broken, ensure};
use super::plan::Time;
use super::world::World;

/// How long hosts wait for those that are not there yet, and for answers, on a fast cluster.
const GRACE: Time = 400;

/// What a host that runs remembers of its attempts to found the cluster.
#[derive(Debug)]
pub(super) struct Founding {
    /// Since when a majority is there, or since the last attempt ended.
    idle: Time,
    tried: bool,
    /// The highest ballot that it heard of.
    heard: Ballot,
    under_way: Option<UnderWay>,
}

#[derive(Debug)]
struct UnderWay {
    attempt: Attempt,
    asked: Vec<(usize, NodeId)>,
    /// Whether the grants were asked for.
    free: bool,
    until: Time,
}

impl Founding {
    pub(super) fn new(now: Time) -> Founding {
        Founding { idle: now, tried: false, heard: Ballot::default(), under_way: None }
    }

    /// An attempt that was not answered in time has come to nothing.
    fn end_attempt(&mut self, now: Time) {
        if let Some(over) = self.under_way.take() {
            self.heard = self.heard.max(over.attempt.heard());
            (self.idle, self.tried) = (now, true);
        }
    }
}

impl World {
    /// What a host does that belongs to no cluster: waits, asks who the members are, or asks to found one.
    pub(super) fn bootstrap(&mut self, host: usize) -> Result<(), Broken> {
        let (now, grace) = (self.now, GRACE * self.plan.slowness);
        let Some(running) = &mut self.hosts[host].running else { return Ok(()) };
        if running.replica.membership().is_some() {
            return Ok(());
        }
        if running.founding.under_way.as_ref().is_some_and(|one| now < one.until) {
            return Ok(());
        }
        running.founding.end_attempt(now);
        let (idle, tried) = (now - running.founding.idle, running.founding.tried);
        let present = self.present_at(host);
        let named = present.iter();
        let named = named.map(|(name, (_, id, cluster))| (name.clone(), (*id, *cluster))).collect();
        let config = &self.hosts[host].config;
        let situation = Situation {
            own: &config.name,
            servers: &config.servers,
            join: config.join,
            present: &named,
            idle: Duration::from_millis(idle),
            tried,
            grace: Duration::from_millis(grace),
        };
        match bootstrap::decide(&situation) {
            Next::Gather(_) => {
                if let Some(running) = &mut self.hosts[host].running {
                    running.founding.idle = now;
                }
                Ok(())
            }
            Next::Wait(_) => Ok(()),
            Next::Meet { name, .. } => {
                if let Some((other, ..)) = present.get(&name) {
                    self.ask_members(host, *other);
                }
                Ok(())
            }
            Next::Ask => {
                let servers = &config.servers;
                let others = present.iter().filter(|(name, _)| servers.contains_key(*name));
                let asked = others.map(|(_, (other, id, _))| (*other, *id)).collect();
                let size = servers.len();
                self.begin_attempt(host, size, asked, now + grace)
            }
        }
    }

    fn begin_attempt(
        &mut self,
        host: usize,
        size: usize,
        asked: Vec<(usize, NodeId)>,
        until: Time,
    ) -> Result<(), Broken> {
        let (id, promised) = (self.hosts[host].id, self.hosts[host].grant.promised);
        let Some(running) = &mut self.hosts[host].running else { return Ok(()) };
        let heard = running.founding.heard.max(promised);
        let attempt = Attempt::new(id, size, heard);
        let ask = Ask::Promise(attempt.ballot());
        running.founding.under_way = Some(UnderWay { attempt, asked, free: false, until });
        self.count("attempts to found a cluster");
        self.ask_to_found(host, ask)
    }

    /// A host asks itself, and then the others.
    fn ask_to_found(&mut self, host: usize, ask: Ask) -> Result<(), Broken> {
        let Some(running) = &self.hosts[host].running else { return Ok(()) };
        let Some(under_way) = &running.founding.under_way else { return Ok(()) };
        let (asked, id) = (under_way.asked.clone(), self.hosts[host].id);
        let ballot = under_way.attempt.ballot();
        let standing = Standing { founded: false, joins: false };
        let own = self.say(host, standing, ask);
        for (other, of) in asked {
            // Both the question and the answer may be lost.
            if self.calm || !self.chance.net.chance(self.plan.loss) {
                let delay = 1 + self.chance.net.below(self.plan.delay);
                let life = self.hosts[other].life;
                self.after(delay, Due::AskToFound { host: other, life, of, ask, asker: host });
            }
        }
        self.founding_answered(host, ballot, id, own)
    }

    /// Somebody asks a host to let it found the cluster.
    pub(super) fn asked_to_found(
        &mut self,
        host: usize,
        of: NodeId,
        ask: Ask,
        asker: usize,
    ) -> Result<(), Broken> {
        let Some(running) = self.hosts[host].running.as_ref() else { return Ok(()) };
        if self.hosts[host].id != of {
            return Ok(());
        }
        let founded = running.replica.membership().is_some();
        let answer = self.say(host, Standing { founded, joins: self.hosts[host].config.join }, ask);
        self.trace(|_| format!("{of} is asked for {ask:?}: {answer:?}"));
        let lost = !self.calm && self.chance.net.chance(self.plan.loss);
        if !lost {
            let (Ask::Promise(ballot) | Ask::Grant(ballot)) = ask;
            let delay = 1 + self.chance.net.below(self.plan.delay);
            let life = self.hosts[asker].life;
            self.after(delay, Due::FoundingAnswer { host: asker, life, ballot, by: of, answer });
        }
        Ok(())
    }

    fn say(&mut self, host: usize, standing: Standing, ask: Ask) -> Answer {
        let place = &mut self.hosts[host].grant;
        let said = bootstrap::answer(standing, ask, |ask| {
            let (grant, answer) = place.answer(ask);
            *place = grant;
            Ok::<_, Broken>(answer)
        });
        said.unwrap_or(Answer::Failed)
    }

    /// A host is answered, by another or by itself: with enough grants it founds the cluster.
    pub(super) fn founding_answered(
        &mut self,
        host: usize,
        ballot: Ballot,
        by: NodeId,
        answer: Answer,
    ) -> Result<(), Broken> {
        let Some(running) = self.hosts[host].running.as_mut() else { return Ok(()) };
        let under_way = running.founding.under_way.as_mut();
        let Some(under_way) = under_way.filter(|one| one.attempt.ballot() == ballot) else {
            return Ok(());
        };
        under_way.attempt.answered(by, answer);
        match under_way.attempt.verdict() {
            Verdict::Free if !under_way.free => {
                under_way.free = true;
                self.ask_to_found(host, Ask::Grant(ballot))
            }
            Verdict::Chosen => {
                let founded = running.replica.membership().is_some();
                running.founding.end_attempt(self.now);
                if founded { Ok(()) } else { self.found(host) }
            }
            Verdict::Held(_) | Verdict::Founded | Verdict::Open | Verdict::Free => Ok(()),
        }
    }

    /// A host founds the cluster.
    fn found(&mut self, host: usize) -> Result<(), Broken> {
        let present = self.present_at(host);
        let founder = self.hosts[host].id;
        let config = &self.hosts[host].config;
        let present = present.into_iter();
        let present = present.map(|(name, (_, id, cluster))| (name, (id, cluster))).collect();
        // Each birth is another cluster, though it is one with the same name.
        let cluster = ClusterId(1_001 + self.founded);
        let own = (config.name.as_str(), founder);
        let Some(membership) = bootstrap::first_membership(cluster, own, &config.servers, &present)
        else {
            self.count("foundings that came too late");
            return Ok(());
        };
        self.founded += 1;
        self.trace(|_| format!("{founder} founds the cluster: {membership:?}"));
        self.count("clusters founded");
        self.step(host, Event::Raft(Input::Found { membership }))?;
        ensure!(!self.hosts[host].config.join, "{founder} was to join a cluster and founds one");
        Ok(())
    }
}
