//! The run: hosts, network, clients and nemesis on one clock.

use std::collections::{BTreeMap, BTreeSet};

use konsen::cluster::{self, Addresses};
use konsen::kv::Revision;
use konsen::raft::{Input, Member, Message, NodeId, RoleName};
use konsen::replica::forwarding::Passed;
use konsen::replica::{Capacity, Event};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::asking::Client;
use super::changes::Acknowledged;
use super::clients::History;
use super::cut::Cut;
use super::due::Due;
use super::host::{Configuration, Host};
use super::links::Link;
use super::operator::{Asked, Command};
use super::oracle::{Broken, Oracle};
use super::passing::PassedOn;
use super::plan::{Fault, Plan, Time};
use super::random::Random;
use super::rebirth::{Backup, Lost};
use super::serving::Watch;
use super::transfer::Transfer;

/// The names of changes of the membership are above this.
pub(super) const CHANGES: u64 = 1 << 40;

/// The most hosts of a world, spares and all.
const HOSTS_MAX: usize = 16;

/// Which host has, or had, that identity, or is waited for under it.
pub(super) fn host_of(id: NodeId) -> usize {
    if id.0 >> 63 == 0 {
        return (id.0 as usize - 1) % 100;
    }
    let waits = |host: &usize| cluster::stand_in(&name_of(*host)) == id;
    (0..HOSTS_MAX).find(waits).expect("somebody is waited for")
}

/// A host's name, whatever its identity.
pub(super) fn name_of(host: usize) -> String {
    format!("h{host}")
}

/// Where a host is reached.
pub(super) fn addresses_of(host: usize) -> Addresses {
    Addresses { raft: format!("h{host}:1"), http: format!("h{host}:2") }
}

/// What a membership says of a host.
pub(super) fn member(id: NodeId) -> Member {
    let host = host_of(id);
    let Addresses { raft, http } = addresses_of(host);
    Member {
        name: name_of(host),
        raft_address: raft,
        http_address: http,
        seen: true,
        promote: false,
        replaces: None,
    }
}

/// A host with an empty directory: the first ones found a cluster, the others join it.
fn new_host(host: usize, plan: &Plan) -> Host {
    let join = host >= plan.voters;
    let named = if host == plan.voters + plan.spares { plan.voters } else { host };
    let known = (0..plan.voters).chain(join.then_some(named));
    let servers = known.map(|other| (name_of(other), addresses_of(other))).collect();
    let config =
        Configuration { name: name_of(named), addresses: addresses_of(host), servers, join };
    Host::new(NodeId(host as u64 + 1), config)
}

/// See the module's documentation.
pub(crate) struct World {
    pub(super) plan: Plan,
    pub(super) now: Time,
    pub(super) hosts: Vec<Host>,
    pub(super) oracle: Oracle,
    pub(super) lost: Lost,
    pub(super) backup: Option<Backup>,
    pub(super) history: History,
    pub(super) tally: BTreeMap<&'static str, u64>,
    /// A hash of everything that happened.
    pub(crate) digest: u64,
    pub(super) calm: bool,
    pub(super) chance: Chance,
    pub(super) due: BTreeMap<(Time, u64), Due>,
    scheduled: u64,
    /// How many faults block each link.
    pub(super) blocked: Vec<Vec<u32>>,
    /// How many faults keep large messages from each link.
    pub(super) holes: Vec<Vec<u32>>,
    /// Connections, by who dialled and who was dialled.
    pub(super) links: BTreeMap<(usize, usize), Link>,
    /// How many clusters were founded.
    pub(super) founded: u64,
    pub(super) attic: Vec<Message>,
    /// Snapshots on their way, and how many there have been.
    pub(super) transfers: BTreeMap<u64, Transfer>,
    pub(super) transfers_begun: u64,
    /// By each host's own count of ticks: when it last heard each of the others.
    pub(super) heard: Vec<Vec<u64>>,
    pub(super) ticks: Vec<u64>,
    /// How late messages to a host are.
    pub(super) lag: Vec<Lag>,
    pub(super) clients: Vec<Client>,
    /// Writes that were passed on and are not answered, and how many there have been.
    pub(super) passed: BTreeMap<u64, PassedOn>,
    pub(super) passes: u64,
    /// How often hosts have tried the writes that they took in.
    pub(super) tries: BTreeMap<u64, u32>,
    /// The newest revision that was committed, by time.
    pub(super) reached: BTreeMap<Time, Revision>,
    pub(super) changes: u64,
    /// What operators were told.
    pub(super) acknowledged: Acknowledged,
    /// Commands that hosts were asked to carry out.
    pub(super) asked: BTreeMap<u64, Asked>,
    /// The last command, for who types it again.
    pub(super) repeatable: Option<Command>,
    /// How often a host moved.
    pub(super) moves: u64,
    /// Hosts that never come back.
    pub(super) dead: BTreeSet<usize>,
    /// Whom leaders asked what feature level it knows before they raised the cluster's.
    pub(super) asked_for_level: BTreeSet<NodeId>,
    /// Whether all have the second kind of configuration in the end.
    pub(super) settled_settings: bool,
    pub(super) watch: Watch,
    tracing: bool,
}

/// Messages to a host come later and later, so that it never hears nothing for long.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lag {
    pub(super) since: Time,
    pub(super) until: Time,
    pub(super) most: Time,
}

impl Lag {
    pub(super) fn at(&self, now: Time) -> Time {
        if now < self.until { ((now - self.since) / 2).min(self.most) } else { 0 }
    }
}

/// A stream of chance for each part.
pub(super) struct Chance {
    pub(super) net: Random,
    pub(super) disk: Random,
    pub(super) clients: Random,
    pub(super) nemesis: Random,
    pub(super) pace: Random,
    pub(super) operator: Random,
    pub(super) lookup: Random,
    pub(super) releases: Random,
    pub(super) settings: Random,
    pub(super) rights: Random,
    pub(super) anchors: Random,
}

impl World {
    pub(crate) fn new(seed: u64, cut: &Cut, tracing: bool) -> World {
        let mut random = Random::new(seed);
        let mut plan = Plan::draw(&mut random);
        plan.events_min = crate::events_min();
        cut.apply(&mut plan);
        let count = plan.voters + plan.spares + usize::from(plan.twin);
        let mut world = World {
            hosts: (0..count).map(|host| new_host(host, &plan)).collect(),
            now: 0,
            oracle: Oracle::default(),
            lost: Lost::default(),
            backup: None,
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
                operator: random.fork(),
                lookup: random.fork(),
                releases: random.fork(),
                settings: random.fork(),
                rights: random.fork(),
                anchors: random.fork(),
            },
            due: BTreeMap::new(),
            scheduled: 0,
            blocked: vec![vec![0; count]; count],
            holes: vec![vec![0; count]; count],
            links: BTreeMap::new(),
            founded: 0,
            attic: Vec::new(),
            transfers: BTreeMap::new(),
            transfers_begun: 0,
            heard: vec![vec![0; count]; count],
            ticks: vec![0; count],
            lag: vec![Lag::default(); count],
            clients: (0..plan.clients).map(|_| Client::default()).collect(),
            passed: BTreeMap::new(),
            passes: 0,
            tries: BTreeMap::new(),
            reached: BTreeMap::new(),
            changes: 0,
            acknowledged: Acknowledged::default(),
            asked: BTreeMap::new(),
            repeatable: None,
            moves: 0,
            asked_for_level: BTreeSet::new(),
            dead: BTreeSet::new(),
            settled_settings: false,
            watch: Watch::new(count),
            tracing,
            plan,
        };
        world.trace(|world| format!("{:#?}", world.plan));
        world.draw_releases();
        world.draw_settings();
        // Operators start the hosts that they add.
        let first = if world.plan.operators > 0 { world.plan.voters } else { count };
        for host in 0..first {
            world.after(0, Due::Start { host });
        }
        for client in 0..world.clients.len() {
            world.after(100, Due::Client { client });
        }
        if let Some(every) = world.plan.fault_every {
            world.after(every, Due::Strike);
        }
        world.lose_later();
        world.churn_later();
        (0..world.plan.operators).for_each(|operator| world.operate_later(operator));
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
            self.watch()?;
            if done(self) {
                return Ok(true);
            }
        }
        Ok(done(self))
    }

    pub(super) fn remember(&mut self, bytes: &[u8]) {
        self.digest = xxh3_64_with_seed(bytes, self.digest ^ self.now);
    }

    pub(super) fn is_up(&self, host: usize, life: u64) -> bool {
        self.hosts[host].life == life && self.hosts[host].running.is_some()
    }

    fn happen(&mut self, due: Due) -> Result<(), Broken> {
        match &due {
            Due::Deliver(message) | Due::Take(message) => {
                let bytes = postcard::to_stdvec(message).expect("plain data");
                self.remember(&bytes);
            }
            Due::Tick { .. } => {}
            other => {
                let line = format!("{other:?}");
                self.remember(line.as_bytes());
            }
        }
        if let Some((host, life)) = due.target() {
            if !self.is_up(host, life.unwrap_or(self.hosts[host].life)) {
                return match due {
                    Due::Place { transfer, .. } => self.never_placed(transfer),
                    _ => Ok(()),
                };
            }
            // Whatever is meant for a host that stands still waits, but for its clock.
            let mut wait = self.hosts[host].paused_until.saturating_sub(self.now);
            if matches!(due, Due::EndWrite { .. } | Due::EndCheckpoint { .. } | Due::Place { .. }) {
                wait = wait.max(self.hosts[host].stalled_until.saturating_sub(self.now));
            }
            if matches!(due, Due::Lookup { .. }) {
                let Host { stalled_until, unread_until, .. } = &self.hosts[host];
                wait = wait.max(stalled_until.max(unread_until).saturating_sub(self.now));
            }
            if wait > 0 {
                // What has come is there, whatever becomes of the way meanwhile.
                let due = match due {
                    Due::Deliver(message) if self.is_blocked(&message) => return Ok(()),
                    Due::Deliver(message) => Due::Take(message),
                    other => other,
                };
                self.after(wait, due);
                return Ok(());
            }
        }
        match due {
            Due::Start { host } => self.start(host),
            Due::Return { host, last, until } => self.come_back(host, last, until),
            Due::Replace { host, old } => self.replace(host, old),
            Due::Dial { host, life } => self.dial(host, life),
            Due::Knock(call) => self.knock(call),
            Due::Told { host, known, .. } => self.learn(host, Some(&known)),
            Due::WayLost { host, peer, .. } => self.way_lost(host, peer),
            Due::AskToFound { host, of, ask, asker, .. } => {
                self.asked_to_found(host, of, ask, asker)
            }
            Due::FoundingAnswer { host, ballot, by, answer, .. } => {
                self.founding_answered(host, ballot, by, answer)
            }
            Due::Tick { host, life, late } => self.tick(host, life, late),
            Due::TellCommits { host, .. } => self.step(host, Event::Raft(Input::TellCommits)),
            Due::Deliver(message) if self.is_blocked(&message) => Ok(()),
            Due::Deliver(message) | Due::Take(message) => self.deliver(message),
            Due::EndWrite { host, .. } => self.end_write(host),
            Due::Fetch { host, fetch, .. } => self.fetch(host, fetch),
            Due::Lookup { host, lookup, .. } => self.look_up(host, lookup),
            Due::Hold { host, rows, news, .. } => self.hold(host, rows, news),
            Due::Freeze { host, life } => self.freeze(host, life),
            Due::EndCheckpoint { host, .. } => self.end_checkpoint(host),
            Due::Piece { transfer } => self.piece(transfer),
            Due::Place { host, transfer, .. } => self.placed(host, transfer),
            Due::Settle { host, .. } => self.settle(host),
            Due::Client { client } => self.ask(client),
            Due::Request { host, request, .. } => self.arrive(host, request),
            Due::TryAgain { host, request, tries, .. } => self.write(host, request, tries),
            Due::PassedOn { host, id, request, .. } => self.take_passed(host, id, request),
            Due::PassedBack { id, answer, .. } => self.passed_back(id, answer),
            Due::Unanswered { id, .. } => self.passed_back(id, Passed::NoAnswer),
            Due::Look { host, request, .. } => self.look(host, request),
            Due::GiveUp { client, request } => self.give_up(client, request),
            Due::Roomy { host, .. } => self.step(host, Event::Capacity(Capacity::default())),
            Due::PeerCapacity { host, peer, capacity } => {
                self.step(host, Event::PeerCapacity { peer, capacity })
            }
            Due::Strike => self.strike(),
            Due::Churn => self.churn(),
            Due::Operate { operator } => self.act(operator),
            Due::Command { host, command, .. } => self.carry_command_out(host, command),
            Due::Again { command } => {
                self.command_again(command);
                Ok(())
            }
            Due::HandOver { host, .. } => {
                self.step(host, Event::Raft(Input::TransferLeadership { to: None }))
            }
            Due::BackUp => self.back_up(),
            Due::Rebirth => self.rebirth(),
            Due::Empty { host } => {
                self.empty_for_new(host);
                Ok(())
            }
            Due::Blink { host, life, what } => self.blink(host, life, what),
            Due::Cut { links, duration } => {
                self.block(links, duration);
                Ok(())
            }
            Due::Fill { links } => {
                self.fill(&links);
                Ok(())
            }
            Due::Mend { links } => {
                self.mend(&links);
                Ok(())
            }
        }
    }

    /// Who leads the newest term, of those that run.
    pub(super) fn leader(&self) -> Option<usize> {
        let mut leaders: Vec<_> = self
            .present()
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
