//! The run: hosts, network, clients and nemesis on one clock.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use konsen::raft::{Body, ClusterId, Fetch, Input, Member, Membership, Message, NodeId, RoleName};
use konsen::replica::{Event, RequestId};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::clients::{Answer, Ask, History, key_name, value_of};
use super::host::Host;
use super::oracle::{Broken, Oracle};
use super::plan::{Fault, Plan, TICK, Time};
use super::random::Random;

/// The most ticks made up for after a pause, as the server does.
const LATE_TICKS_MAX: u64 = 20;
/// Old messages kept to be sent once more.
const ATTIC_MAX: usize = 200;
/// How late such a message comes at most.
const REPLAY_MAX: Time = 10_000;

/// Something that is due.
#[derive(Debug)]
pub(super) enum Due {
    Start {
        host: usize,
    },
    Found {
        host: usize,
        life: u64,
    },
    Tick {
        host: usize,
        life: u64,
        late: u64,
    },
    Deliver(Message),
    EndWrite {
        host: usize,
        life: u64,
    },
    Fetch {
        host: usize,
        life: u64,
        fetch: Fetch,
    },
    Freeze {
        host: usize,
        life: u64,
    },
    EndCheckpoint {
        host: usize,
        life: u64,
    },
    /// The replica's thread looks at what has gathered.
    Settle {
        host: usize,
        life: u64,
    },
    /// A client begins something.
    Client {
        client: usize,
    },
    /// A request reaches a host.
    Request {
        host: usize,
        life: u64,
        request: u64,
    },
    /// A released read looks at the state.
    Look {
        host: usize,
        life: u64,
        request: u64,
    },
    /// A client waits no longer.
    GiveUp {
        client: usize,
        request: u64,
    },
    Strike,
    /// The power fails for a moment.
    Blink {
        host: usize,
        life: u64,
    },
    /// These links work again.
    Mend {
        links: Vec<(usize, usize)>,
    },
}

#[derive(Debug, Default)]
struct Client {
    waits_for: Option<u64>,
    believes: usize,
    /// The newest mod revision that it was answered, by key.
    seen: BTreeMap<u64, konsen::kv::Revision>,
}

/// What a membership says of a host.
pub(super) fn member(id: NodeId) -> Member {
    Member {
        name: format!("n{}", id.0),
        raft_address: format!("n{}:1", id.0),
        http_address: format!("n{}:2", id.0),
        seen: true,
    }
}

/// See the module's documentation.
pub(crate) struct World {
    pub(super) plan: Plan,
    pub(super) now: Time,
    pub(super) hosts: Vec<Host>,
    pub(super) oracle: Oracle,
    pub(super) history: History,
    pub(super) tally: BTreeMap<&'static str, u64>,
    /// A hash of everything that happened.
    pub(crate) digest: u64,
    pub(super) calm: bool,
    pub(super) chance: Chance,
    due: BTreeMap<(Time, u64), Due>,
    scheduled: u64,
    /// How many faults block each link.
    blocked: Vec<Vec<u32>>,
    attic: VecDeque<Message>,
    clients: Vec<Client>,
    pub(super) changes: u64,
    /// Hosts that never come back.
    pub(super) dead: BTreeSet<usize>,
    tracing: bool,
}

/// A stream of chance for each part.
pub(super) struct Chance {
    net: Random,
    disk: Random,
    clients: Random,
    pub(super) nemesis: Random,
    pace: Random,
}

impl World {
    pub(crate) fn new(seed: u64, tracing: bool) -> World {
        let mut random = Random::new(seed);
        let plan = Plan::draw(&mut random);
        let count = plan.voters + plan.spares;
        let mut world = World {
            hosts: (1..=count as u64).map(|id| Host::new(NodeId(id))).collect(),
            now: 0,
            oracle: Oracle::default(),
            history: History::default(),
            tally: BTreeMap::new(),
            digest: seed,
            calm: false,
            chance: Chance {
                net: random.fork(),
                disk: random.fork(),
                clients: random.fork(),
                nemesis: random.fork(),
                pace: random.fork(),
            },
            due: BTreeMap::new(),
            scheduled: 0,
            blocked: vec![vec![0; count]; count],
            attic: VecDeque::new(),
            clients: (0..plan.clients).map(|_| Client::default()).collect(),
            changes: 0,
            dead: BTreeSet::new(),
            tracing,
            plan,
        };
        world.trace(|world| format!("{:#?}", world.plan));
        for host in 0..count {
            world.after(0, Due::Start { host });
        }
        for client in 0..world.clients.len() {
            world.after(100, Due::Client { client });
        }
        if let Some(every) = world.plan.fault_every {
            world.after(every, Due::Strike);
        }
        world
    }

    pub(super) fn trace(&self, line: impl FnOnce(&World) -> String) {
        if self.tracing {
            println!("{:>8} {}", self.now, line(self));
        }
    }

    pub(super) fn count(&mut self, what: &'static str) {
        *self.tally.entry(what).or_default() += 1;
    }

    pub(super) fn after(&mut self, delay: Time, due: Due) {
        self.scheduled += 1;
        self.due.insert((self.now + delay, self.scheduled), due);
    }

    pub(super) fn membership(&self) -> Membership {
        let ids = || self.hosts[..self.plan.voters].iter().map(|host| host.id);
        Membership {
            cluster: ClusterId(1),
            members: ids().map(|id| (id, member(id))).collect(),
            voters: ids().collect(),
            outgoing: None,
        }
    }

    /// Runs until `until`, or until `done` says so.
    pub(super) fn run(
        &mut self,
        until: Time,
        mut done: impl FnMut(&mut World) -> bool,
    ) -> Result<bool, Broken> {
        while let Some((&(time, _), _)) = self.due.first_key_value() {
            if time > until {
                self.now = until;
                return Ok(done(self));
            }
            let Some((_, due)) = self.due.pop_first() else { break };
            self.now = time;
            self.count("events");
            self.happen(due)?;
            if done(self) {
                return Ok(true);
            }
        }
        Ok(done(self))
    }

    fn remember(&mut self, bytes: &[u8]) {
        self.digest = xxh3_64_with_seed(bytes, self.digest ^ self.now);
    }

    fn is_up(&self, host: usize, life: u64) -> bool {
        self.hosts[host].life == life && self.hosts[host].running.is_some()
    }

    fn happen(&mut self, due: Due) -> Result<(), Broken> {
        match &due {
            Due::Deliver(message) => {
                let bytes = postcard::to_stdvec(message).expect("plain data");
                self.remember(&bytes);
            }
            Due::Tick { .. } => {}
            other => {
                let line = format!("{other:?}");
                self.remember(line.as_bytes());
            }
        }
        // Whatever is meant for a host that stands still waits, but for its clock.
        let target = match &due {
            Due::Found { host, life }
            | Due::EndWrite { host, life }
            | Due::Fetch { host, life, .. }
            | Due::Freeze { host, life }
            | Due::EndCheckpoint { host, life }
            | Due::Settle { host, life }
            | Due::Request { host, life, .. }
            | Due::Look { host, life, .. } => Some((*host, *life)),
            Due::Deliver(message) => {
                let host = message.to.0 as usize - 1;
                Some((host, self.hosts[host].life))
            }
            _ => None,
        };
        if let Some((host, life)) = target {
            if !self.is_up(host, life) {
                return Ok(());
            }
            let mut wait = self.hosts[host].paused_until.saturating_sub(self.now);
            if matches!(due, Due::EndWrite { .. } | Due::EndCheckpoint { .. }) {
                wait = wait.max(self.hosts[host].stalled_until.saturating_sub(self.now));
            }
            if wait > 0 {
                self.after(wait, due);
                return Ok(());
            }
        }
        match due {
            Due::Start { host } => self.start(host),
            Due::Found { host, .. } => {
                let membership = self.membership();
                self.step(host, Event::Raft(Input::Found { membership }))
            }
            Due::Tick { host, life, late } => self.tick(host, life, late),
            Due::Deliver(message) => {
                let (from, to) = (message.from.0 as usize - 1, message.to.0 as usize - 1);
                if self.blocked[from][to] > 0 {
                    return Ok(());
                }
                self.trace(|_| format!("{:?} <- {:?}", message.to, message));
                self.count("messages delivered");
                self.step(to, Event::Raft(Input::Receive(message)))
            }
            Due::EndWrite { host, .. } => self.end_write(host),
            Due::Fetch { host, fetch, .. } => {
                let Some(running) = &self.hosts[host].running else { return Ok(()) };
                let input = running.fetch(fetch).map_err(|error| {
                    Broken(format!("{} cannot read {fetch:?}: {error}", self.hosts[host].id))
                })?;
                self.count("reads of old entries");
                self.step(host, Event::Raft(input))
            }
            Due::Freeze { host, life } => {
                self.plan_checkpoint(host, life);
                if let Some(running) = &mut self.hosts[host].running
                    && running.frozen.is_none()
                {
                    running.frozen = running.state.freeze();
                    if running.frozen.is_some() {
                        let delay = self.chance.disk.range(1, 300);
                        self.after(delay, Due::EndCheckpoint { host, life });
                    }
                }
                Ok(())
            }
            Due::EndCheckpoint { host, .. } => {
                let id = self.hosts[host].id;
                let Some(running) = &mut self.hosts[host].running else { return Ok(()) };
                let Some(frozen) = running.frozen.take() else { return Ok(()) };
                let covers = running
                    .state
                    .write_checkpoint(frozen)
                    .map_err(|error| Broken(format!("{id}: a checkpoint fails: {error}")))?;
                self.oracle.checkpointed(id, covers)?;
                self.trace(|_| format!("{id} has a checkpoint at {covers}"));
                self.count("checkpoints");
                self.settle(host)
            }
            Due::Settle { host, .. } => self.settle(host),
            Due::Client { client } => self.ask(client),
            Due::Request { host, request, .. } => {
                let call = self.history.get(request);
                let id = RequestId(request);
                let event = match call.ask.write(request) {
                    // The clock of the command names the request.
                    Some(write) => Event::Write { id, write, time_unix_ms: request },
                    None => Event::Read { id, lease: false },
                };
                self.step(host, event)
            }
            Due::Look { host, request, .. } => self.look(host, request),
            Due::GiveUp { client, request } => {
                if self.clients[client].waits_for == Some(request) {
                    self.clients[client].waits_for = None;
                    self.clients[client].believes =
                        self.chance.clients.below(self.hosts.len() as u64) as usize;
                    self.count("operations given up");
                    self.after(1, Due::Client { client });
                }
                Ok(())
            }
            Due::Strike => self.strike(),
            Due::Blink { host, life } => {
                if self.is_up(host, life) && !self.calm {
                    self.count("fault: power loss after a vote");
                    self.crash(host, false);
                    self.after(1, Due::Start { host });
                }
                Ok(())
            }
            Due::Mend { links } => {
                self.mend(&links);
                Ok(())
            }
        }
    }

    fn start(&mut self, host: usize) -> Result<(), Broken> {
        if self.hosts[host].running.is_some() || self.dead.contains(&host) {
            return Ok(());
        }
        let seed = self.chance.disk.next();
        let one = &mut self.hosts[host];
        let id = one.id;
        let found = one
            .start(&self.plan, seed)
            .map_err(|error| Broken(format!("{id} does not start: {error}")))?;
        self.oracle.started(id, &found, &one.unsure, one.unsure_checkpoint)?;
        let life = one.life;
        let newborn = one.running.as_ref().is_some_and(|up| up.replica.membership().is_none());
        self.trace(|_| {
            format!(
                "{id} starts with {:?}, {} entries, state at {}",
                found.hard_state,
                found.entries.len(),
                found.applied
            )
        });
        self.count("starts");
        if host == 0 && newborn {
            self.after(20, Due::Found { host, life });
        }
        self.after(TICK, Due::Tick { host, life, late: 0 });
        self.plan_checkpoint(host, life);
        self.settle(host)
    }

    fn plan_checkpoint(&mut self, host: usize, life: u64) {
        let delay = self.chance.disk.range(1, 2 * self.plan.checkpoint_every);
        self.after(delay, Due::Freeze { host, life });
    }

    fn tick(&mut self, host: usize, life: u64, late: u64) -> Result<(), Broken> {
        if !self.is_up(host, life) {
            return Ok(());
        }
        let paused = self.hosts[host].paused_until > self.now;
        let late = if paused { (late + 1).min(LATE_TICKS_MAX) } else { 0 };
        // No two clocks run alike.
        let own = if self.calm { TICK } else { self.plan.ticks[host] };
        let period = own - 1 + self.chance.pace.below(3);
        self.after(period, Due::Tick { host, life, late });
        if paused {
            return Ok(());
        }
        for _ in 0..=late {
            self.step(host, Event::Raft(Input::Tick))?;
        }
        let patience = TICK * Time::from(self.plan.election_ticks);
        if let Some(running) = &mut self.hosts[host].running {
            let slow =
                running.writing.as_ref().is_some_and(|(_, since)| self.now - since > patience);
            let news = slow && !running.told_slow;
            running.told_slow = slow;
            if news {
                self.count("slow disks noticed");
                return self.step(host, Event::Raft(Input::DiskSlow));
            }
        }
        Ok(())
    }

    pub(super) fn step(&mut self, host: usize, event: Event) -> Result<(), Broken> {
        let one = &mut self.hosts[host];
        let life = one.life;
        let Some(running) = &mut one.running else { return Ok(()) };
        running.replica.step(event);
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
            let one = &mut self.hosts[host];
            let (id, life) = (one.id, one.life);
            let operations = one.disk_operations();
            let Some(running) = &mut one.running else { return Ok(()) };
            let effects = running
                .replica
                .take_effects()
                .map_err(|error| Broken(format!("{id} stops: {error}")))?;
            let summary = running.replica.summary();
            let state = running.state.hash();
            let more = running.replica.has_more();
            running.queue.extend(effects.persist);
            let begin = running.writing.is_none() && !running.queue.is_empty();
            if begin {
                running.writing = Some((std::mem::take(&mut running.queue), self.now));
                let delay = self.chance.disk.range(0, self.plan.sync);
                self.after(delay, Due::EndWrite { host, life });
            }
            if let Some(standing) = effects.standing {
                self.trace(|_| format!("{id} is {standing:?}"));
                if standing.role == RoleName::Leader {
                    self.count("leaderships");
                }
                self.oracle.leads(id, standing.role, standing.term)?;
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
            self.oracle.stepped(id, &summary, state)?;
            for message in effects.send {
                self.oracle.sent(&message)?;
                self.send(message);
            }
            for fetch in effects.fetch {
                let delay = self.chance.disk.range(0, 20);
                self.after(delay, Due::Fetch { host, life, fetch });
            }
            for (request, result) in effects.writes {
                let answer = match result {
                    Ok(reply) => Answer::Written(reply),
                    Err(_) => Answer::Refused,
                };
                self.answer(request.0, answer, summary.leader)?;
            }
            for (request, result) in effects.reads {
                match result {
                    Ok(()) => {
                        let delay = if self.chance.pace.chance(300) {
                            self.chance.pace.below(30)
                        } else {
                            0
                        };
                        if delay == 0 {
                            self.look(host, request.0)?;
                        } else {
                            self.after(delay, Due::Look { host, life, request: request.0 });
                        }
                    }
                    Err(_) => self.answer(request.0, Answer::Refused, summary.leader)?,
                }
            }
            for (_, result) in effects.changes {
                match result {
                    Ok(at) => {
                        self.trace(|_| format!("{id} takes a membership change in at {at}"));
                        self.count("membership changes");
                    }
                    Err(refused) => self.trace(|_| format!("{id} refuses a change: {refused:?}")),
                }
            }
            if !more {
                return Ok(());
            }
        }
    }

    fn end_write(&mut self, host: usize) -> Result<(), Broken> {
        let id = self.hosts[host].id;
        let Some(running) = &mut self.hosts[host].running else { return Ok(()) };
        let batch =
            running.end_write().map_err(|error| Broken(format!("{id}: a write fails: {error}")))?;
        let Some(last) = batch.last().map(|write| write.seq) else { return Ok(()) };
        self.oracle.persisted(id, &batch)?;
        self.count("log commits");
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

    fn send(&mut self, message: Message) {
        let (from, to) = (message.from.0 as usize - 1, message.to.0 as usize - 1);
        if self.blocked[from][to] > 0 {
            self.count("messages blocked");
            return;
        }
        if matches!(message.body, Body::VoteReply { granted: true })
            && self.plan.faults.contains(&Fault::CrashVoter)
            && self.chance.nemesis.chance(300)
        {
            let life = self.hosts[from].life;
            let delay = self.chance.nemesis.below(20);
            self.after(delay, Due::Blink { host: from, life });
        }
        let delay = 1 + self.chance.net.below(self.plan.delay);
        if self.calm {
            self.after(delay, Due::Deliver(message));
            return;
        }
        if self.chance.net.chance(self.plan.replay) {
            if let Some(old) = self.attic.pop_front() {
                let late = self.chance.net.below(REPLAY_MAX);
                self.after(late, Due::Deliver(old));
                self.count("messages replayed");
            }
            self.attic.push_back(message.clone());
        } else if self.attic.len() < ATTIC_MAX && self.chance.net.chance(100) {
            self.attic.push_back(message.clone());
        }
        if self.chance.net.chance(self.plan.loss) {
            self.count("messages lost");
            return;
        }
        if self.chance.net.chance(self.plan.duplication) {
            let late = 1 + self.chance.net.below(self.plan.long_delay.0);
            self.after(late, Due::Deliver(message.clone()));
            self.count("messages doubled");
        }
        let delay = if self.chance.net.chance(self.plan.long_delay.1) {
            self.count("messages delayed");
            1 + self.chance.net.below(self.plan.long_delay.0)
        } else {
            delay
        };
        self.after(delay, Due::Deliver(message));
    }

    fn ask(&mut self, client: usize) -> Result<(), Broken> {
        if self.calm || self.clients[client].waits_for.is_some() {
            return Ok(());
        }
        let random = &mut self.chance.clients;
        let ask = Ask::draw(random, self.plan.keys, &self.clients[client].seen);
        let host = if client % 3 == 2 {
            // Some clients know one host only.
            client % self.hosts.len()
        } else if random.chance(700) {
            self.clients[client].believes
        } else {
            random.below(self.hosts.len() as u64) as usize
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

    fn look(&mut self, host: usize, request: u64) -> Result<(), Broken> {
        let id = self.hosts[host].id;
        let Some(running) = &self.hosts[host].running else { return Ok(()) };
        let Ask::Get { key } = self.history.get(request).ask else { return Ok(()) };
        let (revision, item) = running
            .state
            .get(&key_name(key), None)
            .map_err(|error| Broken(format!("{id} cannot read: {error}")))?;
        let item = item.map(|item| (value_of(&item.value).unwrap_or(0), item.mod_revision));
        let leader = running.replica.summary().leader;
        self.answer(request, Answer::Read { revision, item }, leader)
    }

    fn answer(
        &mut self,
        request: u64,
        answer: Answer,
        leader: Option<NodeId>,
    ) -> Result<(), Broken> {
        self.trace(|_| format!("request {request} is answered {answer:?}"));
        let waiting = self.clients.iter().position(|one| one.waits_for == Some(request));
        let probe = self.calm;
        if waiting.is_none() && !probe {
            return Ok(());
        }
        let news = match (&self.history.get(request).ask, &answer) {
            (Ask::Get { key }, Answer::Read { item: Some((_, revision)), .. }) => {
                Some((*key, *revision))
            }
            (Ask::Put { key, .. }, Answer::Written(reply))
                if matches!(reply.outcome, konsen::kv::Outcome::Put { .. }) =>
            {
                Some((*key, reply.revision))
            }
            _ => None,
        };
        match &answer {
            Answer::Refused => self.count("operations refused"),
            Answer::Read { .. } => self.count("reads answered"),
            Answer::Written(_) => self.count("writes answered"),
        }
        self.history.answer(request, answer, &self.oracle.reference)?;
        if let Some(client) = waiting {
            let one = &mut self.clients[client];
            one.waits_for = None;
            one.seen.extend(news);
            if let Some(leader) = leader {
                one.believes = leader.0 as usize - 1;
            }
            let delay = 1 + self.chance.clients.below(self.plan.think);
            self.after(delay, Due::Client { client });
        }
        Ok(())
    }

    pub(super) fn block(&mut self, links: Vec<(usize, usize)>, duration: Time) {
        for &(from, to) in &links {
            self.blocked[from][to] += 1;
        }
        self.after(duration, Due::Mend { links });
    }

    fn mend(&mut self, links: &[(usize, usize)]) {
        for &(from, to) in links {
            self.blocked[from][to] = self.blocked[from][to].saturating_sub(1);
        }
    }

    /// All links work, and nothing stands still any more.
    pub(super) fn mend_all(&mut self) {
        for row in &mut self.blocked {
            row.fill(0);
        }
        self.due.retain(|_, due| !matches!(due, Due::Mend { .. } | Due::Strike));
        for host in &mut self.hosts {
            host.paused_until = host.paused_until.min(self.now);
            host.stalled_until = host.stalled_until.min(self.now);
        }
    }

    pub(super) fn crash(&mut self, host: usize, in_write: bool) {
        if self.hosts[host].running.is_none() {
            return;
        }
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
            self.hosts[host].crash_in_start(&self.plan, &mut self.chance.disk);
            self.count("power losses in a start");
        }
    }

    /// Who leads the newest term, of those that run.
    pub(super) fn leader(&self) -> Option<usize> {
        let mut leaders: Vec<_> = (0..self.hosts.len())
            .filter_map(|host| {
                let summary = self.hosts[host].running.as_ref()?.replica.summary();
                (summary.role == RoleName::Leader).then_some((summary.term, host))
            })
            .collect();
        leaders.sort();
        leaders.last().map(|(_, host)| *host)
    }

    /// What the nemesis may do.
    pub(super) fn faults(&self) -> &[Fault] {
        &self.plan.faults
    }
}
