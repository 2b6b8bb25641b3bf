//! What the clients do in the run.

use std::collections::BTreeMap;

use konsen::raft::NodeId;
use konsen::replica::{Event, RequestId};

use super::clients::{Answer, Ask, key_name, value_of};
use super::due::Due;
use super::oracle::Broken;
use super::world::{World, host_of};

#[derive(Debug, Default)]
pub(super) struct Client {
    pub(super) waits_for: Option<u64>,
    pub(super) believes: usize,
    /// The newest mod revision that it was answered, by key.
    pub(super) seen: BTreeMap<u64, konsen::kv::Revision>,
}

impl World {
    pub(super) fn ask(&mut self, client: usize) -> Result<(), Broken> {
        if self.calm || self.clients[client].waits_for.is_some() {
            return Ok(());
        }
        let random = &mut self.chance.clients;
        let seen = &self.clients[client].seen;
        let newest = self.history.newest();
        let ask = Ask::draw(random, self.plan.keys, seen, newest, self.plan.compactions);
        let host = if client % 3 == 2 {
            // Some clients know one host only.
            client % self.hosts.len()
        } else if random.chance(700) {
            self.clients[client].believes
        } else {
            random.below(self.hosts.len() as u64) as usize
        };
        // Nobody asks a cluster that is given up.
        let host = if self.is_lost(host) {
            let present: Vec<usize> = self.present().collect();
            *self.chance.clients.pick(&present)
        } else {
            host
        };
        let request = self.history.call(ask);
        self.clients[client].waits_for = Some(request);
        self.after(self.plan.patience, Due::GiveUp { client, request });
        self.request(host, request);
        Ok(())
    }

    /// Sends a request to a host.
    pub(super) fn request(&mut self, host: usize, request: u64) {
        self.trace(|world| {
            format!(
                "request {request} to {}: {:?}",
                world.hosts[host].id,
                world.history.get(request).ask
            )
        });
        self.count("operations");
        let life = self.hosts[host].life;
        let delay = self.chance.clients.below(3);
        self.after(delay, Due::Request { host, life, request });
    }

    pub(super) fn look(&mut self, host: usize, request: u64) -> Result<(), Broken> {
        let id = self.hosts[host].id;
        let Some(running) = self.hosts[host].running.as_ref().filter(|_| !self.is_lost(host))
        else {
            return Ok(());
        };
        let Ask::Get { key } = self.history.get(request).ask else { return Ok(()) };
        let (revision, item) = match running.state.get(&key_name(key), None) {
            Ok(found) => found,
            Err(error) => return self.halt(host, format!("{id} cannot read: {error}")),
        };
        let item = item.map(|item| (value_of(&item.value).unwrap_or(0), item.mod_revision));
        let leader = running.replica.summary().leader;
        if self.chance.clients.chance(30) {
            self.inspect(host)?;
        }
        self.answer(request, Answer::Read { revision, item }, leader)
    }

    pub(super) fn answer(
        &mut self,
        request: u64,
        answer: Answer,
        leader: Option<NodeId>,
    ) -> Result<(), Broken> {
        self.trace(|_| format!("request {request} is answered {answer:?}"));
        let waiting = self.clients.iter().position(|one| one.waits_for == Some(request));
        let probe = self.calm && !self.history.is_of_before(request);
        if waiting.is_none() && !probe {
            return Ok(());
        }
        let news = match (&self.history.get(request).ask, &answer) {
            (Ask::Get { key }, Answer::Read { item: Some((_, revision)), .. }) => {
                Some((*key, *revision))
            }
            (Ask::Put { key, .. }, Answer::Written(reply))
                if matches!(reply.outcome.single(), Some(konsen::kv::Single::Put { .. })) =>
            {
                Some((*key, reply.revision))
            }
            _ => None,
        };
        match &answer {
            Answer::Refused => self.count("operations refused"),
            Answer::Read { .. } => self.count("reads answered"),
            Answer::Written(reply) => self.count(match reply.outcome {
                konsen::kv::Outcome::Compacted => "compactions of the past",
                _ => "writes answered",
            }),
        }
        self.history.answer(request, answer, &self.oracle.reference)?;
        if let Some(client) = waiting {
            let one = &mut self.clients[client];
            one.waits_for = None;
            one.seen.extend(news);
            if let Some(leader) = leader {
                one.believes = host_of(leader);
            }
            let delay = 1 + self.chance.clients.below(self.plan.think);
            self.after(delay, Due::Client { client });
        }
        Ok(())
    }

    pub(super) fn arrive(&mut self, host: usize, request: u64) -> Result<(), Broken> {
        if self.history.get(request).ask.write(request).is_some() {
            return self.write(host, request, 0);
        }
        let id = RequestId(request);
        self.step(host, Event::Read { id, lease: request.is_multiple_of(2) })
    }

    pub(super) fn give_up(&mut self, client: usize, request: u64) -> Result<(), Broken> {
        if self.clients[client].waits_for == Some(request) {
            self.clients[client].waits_for = None;
            self.clients[client].believes =
                self.chance.clients.below(self.hosts.len() as u64) as usize;
            self.count("operations given up");
            self.after(1, Due::Client { client });
        }
        Ok(())
    }
}
