//! Every order of events, for a small cluster and few events.
//!
//! Three nodes, a few ticks (each an election time-out or a heartbeat), proposals, repetitions of messages
//! and losses of power, in every order in which they can come. A message that is never delivered is a lost
//! one, so losses need no event of their own. States that were seen before are not looked at again.

use std::collections::{BTreeMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};

use konsen::raft::{
    Body, Config, Entry, HardState, Index, Input, LogId, LogWrite, Message, Node, NodeId, Payload,
    ProposalId, Recovered, RoleName, Term,
};

use crate::cluster::membership;

const NODES: u64 = 3;

/// How many events of each kind there may be.
#[derive(Clone, Copy, Debug, Hash)]
struct Budget {
    ticks: u32,
    proposals: u32,
    repetitions: u32,
    crashes: u32,
    /// Whether disks write when it is their turn, or at once.
    slow_disks: bool,
}

#[derive(Clone, Debug)]
enum Event {
    Tick(usize),
    Propose(usize),
    Persist(usize),
    Crash(usize),
    Deliver { at: usize, again: bool },
}

#[derive(Clone, Hash)]
struct Host {
    node: Node,
    hard_state: HardState,
    log: Vec<Entry>,
    writes: Vec<LogWrite>,
}

#[derive(Clone, Hash)]
struct World {
    hosts: Vec<Host>,
    /// On their way, in an order that says nothing.
    network: Vec<Message>,
    budget: Budget,
    leaders: BTreeMap<Term, NodeId>,
    /// With the term by which each was committed: leaders of later terms hold it.
    committed: Vec<(LogId, Term)>,
}

impl Host {
    fn start(id: NodeId, hard_state: HardState, log: Vec<Entry>, heard_leader: bool) -> Host {
        let config = Config { heartbeat_ticks: 1, election_ticks: 1, ..Config::new(id, 0) };
        let ids: Vec<u64> = (1..=NODES).collect();
        let recovered = Recovered {
            hard_state: HardState { commit: Index(0), ..hard_state },
            tail: log.clone(),
            memberships: vec![(Index(1), membership(&ids, &[]))],
            heard_leader,
            ..Recovered::default()
        };
        Host { node: Node::new(config, recovered), hard_state, log, writes: Vec::new() }
    }

    fn write(&mut self, write: &LogWrite) {
        if let Some(from) = write.truncate_from {
            self.log.retain(|entry| entry.id.index < from);
        }
        self.log.extend(write.entries.iter().cloned());
        self.hard_state = write.hard_state.unwrap_or(self.hard_state);
    }
}

impl World {
    fn new(budget: Budget) -> World {
        let ids: Vec<u64> = (1..=NODES).collect();
        let first = Entry {
            id: LogId::new(Term(1), Index(1)),
            payload: Payload::Membership(membership(&ids, &[])),
        };
        let hard_state = HardState { term: Term(1), vote: None, commit: Index(0) };
        let host = |id: &u64| Host::start(NodeId(*id), hard_state, vec![first.clone()], false);
        World {
            hosts: ids.iter().map(host).collect(),
            network: Vec::new(),
            budget,
            leaders: BTreeMap::new(),
            committed: vec![(first.id, Term(1))],
        }
    }

    fn events(&self) -> Vec<Event> {
        let mut events = Vec::new();
        for at in 0..self.network.len() {
            // Two of the same are one.
            if at > 0 && self.network[at] == self.network[at - 1] {
                continue;
            }
            events.push(Event::Deliver { at, again: false });
            if self.budget.repetitions > 0 {
                events.push(Event::Deliver { at, again: true });
            }
        }
        for (at, host) in self.hosts.iter().enumerate() {
            if self.budget.ticks > 0 {
                events.push(Event::Tick(at));
            }
            if self.budget.proposals > 0 && host.node.role() == RoleName::Leader {
                events.push(Event::Propose(at));
            }
            if !host.writes.is_empty() {
                events.push(Event::Persist(at));
            }
            if self.budget.crashes > 0 {
                events.push(Event::Crash(at));
            }
        }
        events
    }

    fn happen(&mut self, event: &Event) {
        match *event {
            Event::Tick(at) => {
                self.budget.ticks -= 1;
                self.step(at, Input::Tick);
            }
            Event::Propose(at) => {
                self.budget.proposals -= 1;
                let payload = Payload::Command(vec![self.budget.proposals as u8].into());
                self.step(at, Input::Propose { id: ProposalId(1), payload });
            }
            Event::Persist(at) => self.persist(at),
            Event::Crash(at) => {
                self.budget.crashes -= 1;
                let host = &self.hosts[at];
                let id = host.node.id();
                self.hosts[at] = Host::start(id, host.hard_state, host.log.clone(), true);
            }
            Event::Deliver { at, again } => {
                let message = if again {
                    self.budget.repetitions -= 1;
                    self.network[at].clone()
                } else {
                    self.network.remove(at)
                };
                self.step(message.to.0 as usize - 1, Input::Receive(message));
            }
        }
    }

    fn persist(&mut self, at: usize) {
        let host = &mut self.hosts[at];
        let write = host.writes.remove(0);
        host.write(&write);
        self.step(at, Input::Persisted { seq: write.seq });
    }

    fn step(&mut self, at: usize, input: Input) {
        let host = &mut self.hosts[at];
        host.node.step(input);
        let output = host.node.take_output();
        assert_eq!(output.fatal, None, "{} stops among honest nodes", host.node.id());
        host.writes.extend(output.persist);
        let durable = host.hard_state.term;
        for message in output.send {
            let pre_vote = matches!(message.body, Body::PreVote { .. } | Body::PreVoteReply { .. });
            assert!(
                pre_vote || message.term <= durable,
                "{message:?} in a term that is not durable"
            );
            let place = self.network.partition_point(|other| key(other) < key(&message));
            self.network.insert(place, message);
        }
        self.check(at);
        if !self.budget.slow_disks && !self.hosts[at].writes.is_empty() {
            self.persist(at);
        }
    }

    fn check(&mut self, at: usize) {
        let node = &self.hosts[at].node;
        if node.role() == RoleName::Leader {
            let leader = *self.leaders.entry(node.term()).or_insert(node.id());
            assert_eq!(leader, node.id(), "two leaders in term {}", node.term());
            for (id, _) in self.committed.iter().filter(|(_, by)| *by < node.term()) {
                let held = node.term_at(id.index);
                assert_eq!(held, Some(id.term), "{} leads without committed {id}", node.id());
            }
        }
        for index in 1..=node.commit().0 {
            let index = Index(index);
            let id = LogId::new(node.term_at(index).expect("all is in memory"), index);
            match self.committed.get(index.0 as usize - 1) {
                Some((known, _)) => assert_eq!(*known, id, "two entries are committed at {index}"),
                None => {
                    let holds = |host: &&Host| host.log.iter().any(|entry| entry.id == id);
                    let holders = self.hosts.iter().filter(holds).count() as u64;
                    assert!(holders * 2 > NODES, "{id} is committed, {holders} disks hold it");
                    self.committed.push((id, node.term()));
                }
            }
        }
        self.logs_match();
    }

    /// Entries of one index and term are the same, and so is all before them (5.3).
    fn logs_match(&self) {
        for one in &self.hosts {
            for other in &self.hosts {
                let same = one.log.iter().zip(&other.log).rposition(|(a, b)| a.id == b.id);
                let same = same.map_or(0, |last| last + 1);
                assert!(one.log[..same] == other.log[..same], "logs differ before a common entry");
            }
        }
    }
}

/// An order of messages in which equal ones stand together.
fn key(message: &Message) -> (NodeId, NodeId, Term, u64) {
    (message.from, message.to, message.term, hash(&message.body))
}

fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// What a search came to.
#[derive(Debug, Default)]
struct Found {
    states: usize,
    leaders_max: usize,
    committed_max: usize,
    exhausted: bool,
}

fn search(budget: Budget, states_max: usize) -> Found {
    let mut found = Found { exhausted: true, ..Found::default() };
    let mut seen = HashSet::new();
    let mut open = vec![(World::new(budget), Vec::<Event>::new())];
    // Where not all can be looked at, those that are should not all lie close together.
    while let Some(last) = open.len().checked_sub(1) {
        let pick = hash(&seen.len()) as usize % (last + 1);
        let (world, path) = open.swap_remove(pick);
        found.leaders_max = found.leaders_max.max(world.leaders.len());
        found.committed_max = found.committed_max.max(world.committed.len());
        for event in world.events() {
            let mut way = path.clone();
            way.push(event.clone());
            let ran = catch_unwind(AssertUnwindSafe(|| {
                let mut next = world.clone();
                next.happen(&event);
                next
            }));
            let Ok(next) = ran else { panic!("after {way:#?}") };
            if seen.len() >= states_max {
                found.exhausted = false;
            } else if seen.insert(hash(&next)) {
                open.push((next, way));
            }
        }
    }
    found.states = seen.len();
    println!("{budget:?}: {found:?}");
    found
}

/// As many states as `KONSEN_INTERLEAVINGS` says, or few.
fn states_max(few: usize) -> usize {
    let asked = std::env::var("KONSEN_INTERLEAVINGS").ok().and_then(|text| text.parse().ok());
    asked.unwrap_or(few)
}

#[test]
fn an_election_and_a_write_are_safe_in_every_order() {
    let budget = Budget { ticks: 1, proposals: 1, repetitions: 0, crashes: 0, slow_disks: false };
    let found = search(budget, usize::MAX);
    assert!(found.exhausted && found.leaders_max == 1 && found.committed_max == 3, "{found:?}");
}

#[test]
fn elections_writes_crashes_and_repetitions_are_safe_in_many_orders() {
    for budget in [
        Budget { ticks: 3, proposals: 1, repetitions: 0, crashes: 0, slow_disks: false },
        Budget { ticks: 2, proposals: 1, repetitions: 1, crashes: 1, slow_disks: true },
    ] {
        let found = search(budget, states_max(4_000));
        assert!(found.leaders_max > 0, "{found:?}");
    }
}
