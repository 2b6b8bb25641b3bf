//! A cluster against chance: whatever happens, it is safe, and once healed it goes on.

use konsen::raft::{
    Entry, Index, Input, LogId, Node, NodeId, Payload, ProposalId, ReadId, RoleName,
};
use proptest::prelude::*;

use crate::any_input::config;
use crate::cluster::membership;
use crate::world::{TICK_US, World};

/// What happens next to a cluster.
#[derive(Clone, Debug)]
enum Event {
    Tick(u64),
    /// A whole election time-out of ticks, at the same time at each node of the mask.
    Silence(u8),
    Deliver(usize),
    DeliverMany(usize),
    Drop(usize),
    Duplicate(usize),
    Persist(u64),
    Crash(u64),
    Start(u64),
    Propose(u64, usize),
    Read(u64, bool),
    Change(u64, u8, u8),
    Transfer(u64),
    Cut(u64, u64),
    Heal,
    Unreachable(u64, u64),
    Apply(u64),
    Compact(u64),
    Fetch(usize),
    Install(usize),
    DiskSlow(u64),
    TellCommits(u64),
    /// All goes well for some rounds: messages arrive, disks write.
    Calm(usize),
    /// One node stands, and all goes well until it leads.
    Elect(u64),
    /// The leader is cut off while the others tick; all goes well for them. Then it is read at, and it
    /// comes back.
    Overthrow {
        ticks: usize,
        lease: bool,
    },
}

fn any_event() -> impl Strategy<Value = Event> {
    let node = || 1..6u64;
    prop_oneof![
        8 => node().prop_map(Event::Tick),
        3 => (1..32u8).prop_map(Event::Silence),
        20 => any::<usize>().prop_map(Event::Deliver),
        12 => (1..30usize).prop_map(Event::DeliverMany),
        3 => any::<usize>().prop_map(Event::Drop),
        3 => any::<usize>().prop_map(Event::Duplicate),
        24 => node().prop_map(Event::Persist),
        2 => node().prop_map(Event::Crash),
        3 => node().prop_map(Event::Start),
        8 => (node(), 1..60usize).prop_map(|(node, size)| Event::Propose(node, size)),
        5 => (node(), any::<bool>()).prop_map(|(node, lease)| Event::Read(node, lease)),
        2 => (node(), any::<u8>(), any::<u8>()).prop_map(|(node, a, b)| Event::Change(node, a, b)),
        1 => node().prop_map(Event::Transfer),
        2 => (node(), node()).prop_map(|(a, b)| Event::Cut(a, b)),
        2 => Just(Event::Heal),
        1 => (node(), node()).prop_map(|(a, b)| Event::Unreachable(a, b)),
        4 => node().prop_map(Event::Apply),
        2 => node().prop_map(Event::Compact),
        6 => any::<usize>().prop_map(Event::Fetch),
        4 => any::<usize>().prop_map(Event::Install),
        1 => node().prop_map(Event::DiskSlow),
        4 => node().prop_map(Event::TellCommits),
        6 => (1..4usize).prop_map(Event::Calm),
        2 => node().prop_map(Event::Elect),
        2 => (5..30usize, any::<bool>())
            .prop_map(|(ticks, lease)| Event::Overthrow { ticks, lease }),
    ]
}

impl World {
    /// Often the newest leader instead of `id`, so that what only a leader does gets done.
    fn leader_or(&self, id: u64) -> u64 {
        let leads = |node: &&Node| node.role() == RoleName::Leader;
        let nodes = self.cluster.hosts.values().filter_map(|host| host.node.as_ref());
        let leader = nodes.filter(leads).max_by_key(|node| node.term());
        leader.filter(|_| id != 5).map_or(id, |node| node.id().0)
    }

    fn calm(&mut self, rounds: usize) {
        for _ in 0..rounds {
            self.happen(Event::DeliverMany(100));
            for id in 1..=5 {
                for _ in 0..3 {
                    self.happen(Event::Persist(id));
                }
            }
        }
    }

    fn happen(&mut self, event: Event) {
        let count = self.cluster.network.len();
        match event {
            Event::Tick(id) => {
                self.clock.0 += TICK_US;
                self.step(NodeId(id), Input::Tick);
            }
            Event::Silence(mask) => {
                for _ in 0..20 {
                    self.clock.0 += TICK_US;
                    for id in (1..=5).filter(|id| mask >> (id - 1) & 1 == 1) {
                        self.step(NodeId(id), Input::Tick);
                    }
                }
            }
            Event::Deliver(n) if count > 0 => self.deliver(n % count),
            Event::DeliverMany(n) => {
                for _ in 0..n.min(count) {
                    self.deliver(0);
                }
            }
            Event::Drop(n) if count > 0 => {
                self.cluster.network.remove(n % count);
            }
            Event::Duplicate(n) if count > 0 => {
                let message = self.cluster.network[n % count].clone();
                self.cluster.network.push(message);
            }
            Event::Persist(id) => {
                if let Some(seq) = self.cluster.persist(NodeId(id)) {
                    self.step(NodeId(id), Input::Persisted { seq });
                }
            }
            Event::Crash(id) => {
                let id = NodeId(id);
                self.cluster.crash(id);
                self.fetches.retain(|(node, _)| *node != id);
            }
            Event::Start(id) if self.cluster.node(NodeId(id)).is_none() => {
                self.cluster.start(NodeId(id));
            }
            Event::Propose(id, size) => {
                self.next_id += 1;
                let mut text = self.next_id.to_string();
                text.push_str(&"x".repeat(size));
                let payload = Payload::Command(text.into_bytes().into());
                let id = self.leader_or(id);
                self.step(NodeId(id), Input::Propose { id: ProposalId(self.next_id), payload });
            }
            Event::Read(id, lease) if self.cluster.node(NodeId(id)).is_some() => {
                self.next_id += 1;
                let read = ReadId(self.next_id);
                self.reads.insert(read, self.highest_commit());
                self.step(NodeId(id), Input::Read { id: read, lease });
            }
            Event::Change(id, voters, learners) => {
                // Mostly small steps away from what is in force, which a leader may take.
                let id = self.leader_or(id);
                let Some(now) = self.cluster.node(NodeId(id)).and_then(Node::membership) else {
                    return;
                };
                let (mut voter_ids, mut learner_ids) = (Vec::new(), Vec::new());
                for n in 1..=5u64 {
                    let turned = voters >> (n - 1) & 1 == 1 && voters >> (n + 2) & 1 == 1;
                    if now.voters.contains(&NodeId(n)) != turned {
                        voter_ids.push(n);
                    } else if learners >> (n - 1) & 1 == 1 && !now.is_voter(NodeId(n)) {
                        learner_ids.push(n);
                    }
                }
                let membership = membership(&voter_ids, &learner_ids);
                self.next_id += 1;
                let id_of_change = ProposalId((1 << 40) + self.next_id);
                self.step(NodeId(id), Input::ChangeMembers { id: id_of_change, membership });
            }
            Event::Transfer(id) => {
                let id = self.leader_or(id);
                self.step(NodeId(id), Input::TransferLeadership { to: None });
            }
            Event::DiskSlow(id) => self.step(NodeId(id), Input::DiskSlow),
            Event::TellCommits(id) => self.step(NodeId(id), Input::TellCommits),
            Event::Calm(rounds) => self.calm(rounds),
            Event::Elect(id) => {
                for node in 1..=5 {
                    for _ in 0..if node == id { 40 } else { 10 } {
                        self.clock.0 += TICK_US;
                        self.step(NodeId(node), Input::Tick);
                    }
                    self.calm(1);
                }
                self.calm(4);
            }
            Event::Overthrow { ticks, lease } => {
                let old = self.leader_or(1);
                let others: Vec<u64> = (1..=5).filter(|&id| id != old).collect();
                let before = self.cluster.cut.clone();
                self.calm(3);
                for &id in &others {
                    self.cluster.cut.insert((NodeId(old), NodeId(id)));
                    self.cluster.cut.insert((NodeId(id), NodeId(old)));
                }
                for _ in 0..ticks {
                    self.clock.0 += TICK_US;
                    for &id in &others {
                        self.step(NodeId(id), Input::Tick);
                    }
                    self.calm(3);
                }
                self.happen(Event::Propose(1, 5));
                self.calm(3);
                self.happen(Event::Read(old, lease));
                self.cluster.cut = before;
            }
            Event::Cut(a, b) => {
                self.cluster.cut.insert((NodeId(a), NodeId(b)));
            }
            Event::Heal => self.cluster.cut.clear(),
            Event::Unreachable(id, peer) => {
                self.step(NodeId(id), Input::Unreachable { peer: NodeId(peer) });
            }
            Event::Apply(id) => {
                if let Some(index) = self.cluster.node(NodeId(id)).map(Node::commit) {
                    self.cluster.hosts.get_mut(&NodeId(id)).expect("a host").applied = index;
                    self.step(NodeId(id), Input::Applied { index });
                }
            }
            Event::Compact(id) => {
                let host = self.cluster.hosts.get_mut(&NodeId(id)).expect("a host");
                // A checkpoint waits until the log under it is durable.
                if host.node.as_ref().is_some_and(|node| host.applied <= node.durable())
                    && let Some(last) = host.disk.id_at(host.applied)
                    && last.index > host.disk.base.index
                {
                    host.disk.compact(last);
                    self.step(NodeId(id), Input::Compacted { last });
                }
            }
            Event::Fetch(n) if !self.fetches.is_empty() => {
                let (id, fetch) = self.fetches.remove(n % self.fetches.len());
                self.figures.fetches += 1;
                let disk = &self.cluster.hosts[&id].disk;
                let prev = disk.id_at(fetch.from.prev());
                let entries: Vec<Entry> = (fetch.from.0..=fetch.to.0)
                    .map_while(|index| disk.get(Index(index)).cloned())
                    .take(2)
                    .collect();
                let (prev, entries) = match prev {
                    Some(prev) => (prev, entries),
                    None => (LogId::ZERO, Vec::new()),
                };
                self.step(id, Input::Fetched { peer: fetch.peer, prev, entries });
            }
            Event::Install(n) if !self.snapshots.is_empty() => {
                let (from, to, last, membership) = self.snapshots.remove(n % self.snapshots.len());
                // One that was restarted meanwhile may not have heard of any cluster yet: as the replica does, it asks.
                let wanted = self.cluster.node(to).is_some_and(|node| {
                    node.wants_snapshot(last) && node.cluster() == Some(membership.cluster)
                });
                if wanted {
                    self.figures.snapshots += 1;
                    let host = self.cluster.hosts.get_mut(&to).expect("a host");
                    host.disk.install(last, membership.clone());
                    // What was under way for the log that is gone is dropped with it.
                    for write in &mut host.writes {
                        write.entries.clear();
                        (write.reset, write.truncate_from) = (None, None);
                    }
                    host.applied = last.index;
                    self.step(to, Input::SnapshotInstalled { last, membership, from });
                }
                self.step(from, Input::SnapshotEnded { peer: to, installed: wanted });
            }
            _ => {}
        }
    }

    /// With everything healed, a cluster goes on by itself.
    fn settle(&mut self) {
        self.cluster.cut.clear();
        for id in 1..=5 {
            self.happen(Event::Start(id));
        }
        for _ in 0..400 {
            if self.unsettled().is_none() {
                break;
            }
            self.clock.0 += TICK_US;
            for id in 1..=5 {
                self.step(NodeId(id), Input::Tick);
            }
            for _ in 0..6 {
                while !self.fetches.is_empty() {
                    self.happen(Event::Fetch(0));
                }
                while !self.snapshots.is_empty() {
                    self.happen(Event::Install(0));
                }
                self.happen(Event::DeliverMany(10_000));
                for id in 1..=5 {
                    while !self.cluster.hosts[&NodeId(id)].writes.is_empty() {
                        self.happen(Event::Persist(id));
                    }
                    // Who has much to apply takes in no more until it has.
                    self.happen(Event::Apply(id));
                }
            }
        }
        if let Some(what) = self.unsettled() {
            panic!("after healing: {what}");
        }
    }

    /// What a healed cluster still lacks.
    fn unsettled(&self) -> Option<String> {
        let leader = self
            .cluster
            .hosts
            .values()
            .filter_map(|host| host.node.as_ref())
            .filter(|node| node.role() == RoleName::Leader)
            .max_by_key(|node| node.term());
        let Some(leader) = leader else { return Some("no leader".into()) };
        if leader.commit() != leader.last().index {
            return Some(format!(
                "{} commits {} of {}",
                leader.id(),
                leader.commit(),
                leader.last()
            ));
        }
        let membership = leader.membership()?;
        if membership.outgoing.is_some() {
            return Some("the joint phase does not end".into());
        }
        for id in membership.members.keys().filter(|id| **id != leader.id()) {
            let node = self.cluster.node(*id).expect("it runs");
            if node.last() != leader.last() || node.commit() != leader.commit() {
                return Some(format!("{id} has {}, not {}", node.last(), leader.last()));
            }
        }
        None
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_cluster_is_safe_and_recovers(
        voters in prop_oneof![1 => Just(1u64), 6 => Just(3u64), 2 => Just(4u64), 2 => Just(5u64)],
        seed in any::<u32>(),
        events in proptest::collection::vec(any_event(), 1..600),
    ) {
        let mut world = World::new(voters, u64::from(seed));
        for event in events {
            world.happen(event);
        }
        world.settle();
        if std::env::var_os("KONSEN_PROPERTY_FIGURES").is_some() {
            println!("{:?}", world.figures);
        }
    }
}

/// It has heard of no cluster any more when the snapshot has come.
#[test]
fn a_learner_that_loses_power_before_a_snapshot_is_in_place_is_offered_another() {
    let mut world = World::new(3, 1_356_572_527);
    for event in [
        Event::Compact(3),
        Event::Elect(1),
        Event::Tick(1),
        Event::Tick(1),
        Event::Tick(1),
        Event::Tick(4),
        Event::Silence(4),
        Event::Elect(1),
        Event::Change(1, 64, 80),
        Event::Calm(1),
        Event::DiskSlow(3),
        Event::Crash(5),
        Event::Deliver(0),
        Event::Calm(2),
    ] {
        world.happen(event);
    }
    world.settle();
}
