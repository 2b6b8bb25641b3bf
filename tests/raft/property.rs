//! The core against chance: what must hold whatever happens.

use std::collections::BTreeMap;

use konsen::raft::{
    Body, ClusterId, Config, Entry, HardState, Index, Input, LogId, Membership, Message, Node,
    NodeId, Payload, ProposalId, ReadId, Recovered, RoleName, Seq, Term,
};
use proptest::prelude::*;

use crate::cluster::{Cluster, Disk, membership};

/// `KONSEN_PROPERTY_CASES` asks for more than the few hundred of a usual run.
fn config() -> ProptestConfig {
    let cases = std::env::var("KONSEN_PROPERTY_CASES")
        .ok()
        .and_then(|cases| cases.parse().ok())
        .unwrap_or(256);
    ProptestConfig {
        cases,
        failure_persistence: None,
        max_shrink_iters: 20_000,
        ..Default::default()
    }
}

fn any_index() -> impl Strategy<Value = Index> {
    prop_oneof![8 => 0..12u64, 1 => Just(u64::MAX), 1 => Just(1u64 << 62), 1 => any::<u64>()]
        .prop_map(Index)
}

fn any_term() -> impl Strategy<Value = Term> {
    prop_oneof![12 => 0..6u64, 1 => Just(u64::MAX), 1 => Just(1u64 << 62), 1 => any::<u64>()]
        .prop_map(Term)
}

fn any_log_id() -> impl Strategy<Value = LogId> {
    (any_term(), any_index()).prop_map(|(term, index)| LogId { term, index })
}

fn any_membership() -> impl Strategy<Value = Membership> {
    let set = || proptest::collection::btree_set((0..6u64).prop_map(NodeId), 0..4);
    (set(), set(), proptest::option::of(set()), 0..2u64).prop_map(
        |(voters, learners, outgoing, cluster)| {
            let voters: Vec<u64> = voters.iter().map(|id| id.0).collect();
            let learners: Vec<u64> = learners.iter().map(|id| id.0).collect();
            let mut membership = membership(&voters, &learners);
            membership.outgoing = outgoing;
            membership.cluster = ClusterId(cluster);
            membership
        },
    )
}

fn any_payload() -> impl Strategy<Value = Payload> {
    prop_oneof![
        3 => Just(Payload::Noop),
        6 => (0..40usize).prop_map(|size| Payload::Command(vec![b'x'; size].into())),
        1 => any_membership().prop_map(Payload::Membership),
    ]
}

/// Mostly runs that could be true, sometimes anything.
fn any_entries() -> impl Strategy<Value = (LogId, Vec<Entry>)> {
    let run = (any_log_id(), proptest::collection::vec((0..2u64, any_payload()), 0..5)).prop_map(
        |(prev, list)| {
            let mut before = prev;
            let entries = list
                .into_iter()
                .map(|(step, payload)| {
                    before = LogId {
                        term: Term(before.term.0.saturating_add(step)),
                        index: Index(before.index.0.saturating_add(1)),
                    };
                    Entry { id: before, payload }
                })
                .collect();
            (prev, entries)
        },
    );
    let chaos = (
        any_log_id(),
        proptest::collection::vec(
            (any_log_id(), any_payload()).prop_map(|(id, payload)| Entry { id, payload }),
            0..4,
        ),
    );
    prop_oneof![5 => run, 1 => chaos]
}

fn any_body() -> impl Strategy<Value = Body> {
    let round = prop_oneof![5 => 0..5u64, 1 => any::<u64>()];
    prop_oneof![
        any_log_id().prop_map(|last| Body::PreVote { last }),
        any::<bool>().prop_map(|granted| Body::PreVoteReply { granted }),
        (any_log_id(), any::<bool>()).prop_map(|(last, transfer)| Body::Vote { last, transfer }),
        any::<bool>().prop_map(|granted| Body::VoteReply { granted }),
        (any_entries(), any_index()).prop_map(|((prev, entries), commit)| Body::Append {
            prev,
            entries,
            commit
        }),
        any_index().prop_map(|matched| Body::AppendReply { matched }),
        (any_index(), any_log_id()).prop_map(|(prev, hint)| Body::AppendReject { prev, hint }),
        (any_index(), round.clone()).prop_map(|(commit, round)| Body::Heartbeat { commit, round }),
        round.prop_map(|round| Body::HeartbeatReply { round }),
        (0..5u64).prop_map(|id| Body::ReadIndex { id: ReadId(id) }),
        (0..5u64, proptest::option::of(any_index()))
            .prop_map(|(id, index)| Body::ReadIndexReply { id: ReadId(id), index }),
        any_log_id().prop_map(|last| Body::Snapshot { last }),
        Just(Body::TimeoutNow),
    ]
}

fn any_node() -> impl Strategy<Value = NodeId> {
    (0..6u64).prop_map(NodeId)
}

fn any_message() -> impl Strategy<Value = Message> {
    let to = prop_oneof![9 => Just(NodeId(1)), 1 => any_node()];
    (any_node(), to, any_term(), any_body()).prop_map(|(from, to, term, body)| Message {
        from,
        to,
        term,
        body,
    })
}

/// An input, and whether the output is taken after it.
fn any_input() -> impl Strategy<Value = (Input, bool)> {
    let id = || (0..9u64).prop_map(ProposalId);
    let input = prop_oneof![
        12 => any_message().prop_map(Input::Receive),
        6 => Just(Input::Tick),
        1 => any_membership().prop_map(|membership| Input::Found { membership }),
        3 => (id(), any_payload()).prop_map(|(id, payload)| Input::Propose { id, payload }),
        2 => (0..9u64).prop_map(|id| Input::Read { id: ReadId(id) }),
        6 => prop_oneof![9 => 0..30u64, 1 => any::<u64>()].prop_map(|seq| Input::Persisted { seq: Seq(seq) }),
        1 => (any_node(), any_entries())
            .prop_map(|(peer, (prev, entries))| Input::Fetched { peer, prev, entries }),
        2 => any_index().prop_map(|index| Input::Applied { index }),
        1 => (id(), any_membership()).prop_map(|(id, membership)| Input::ChangeMembers { id, membership }),
        1 => proptest::option::of(any_node()).prop_map(|to| Input::TransferLeadership { to }),
        1 => any_node().prop_map(|peer| Input::Unreachable { peer }),
        1 => (any_node(), any::<bool>())
            .prop_map(|(peer, installed)| Input::SnapshotEnded { peer, installed }),
        1 => Just(Input::DiskSlow),
    ];
    (input, any::<bool>())
}

/// What never goes back at one node.
#[derive(Default)]
struct Watch {
    term: Term,
    vote: Option<NodeId>,
    commit: Index,
    committed: BTreeMap<Index, Term>,
}

impl Watch {
    fn check(&mut self, node: &Node) {
        let HardState { term, vote, commit } = node.hard_state();
        assert!(term >= self.term, "term went back");
        if term == self.term && self.vote.is_some() {
            assert_eq!(vote, self.vote, "second vote in {term}");
        }
        assert!(commit >= self.commit, "commit went back");
        assert!(node.applicable() <= commit && node.durable() <= node.last().index);
        assert!(commit <= node.last().index);
        for index in self.commit.0 + 1..=commit.0 {
            if let Some(term) = node.term_at(Index(index)) {
                self.committed.insert(Index(index), term);
            }
        }
        for (index, term) in &self.committed {
            assert!(node.term_at(*index).is_none_or(|now| now == *term), "committed entry changed");
        }
        (self.term, self.vote, self.commit) = (term, vote, commit);
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn no_input_makes_a_node_fail(
        born in any::<bool>(),
        voters in 1..4u64,
        inputs in proptest::collection::vec(any_input(), 1..300),
    ) {
        let config = Config {
            election_ticks: 4,
            heartbeat_ticks: 1,
            append_bytes_max: 100,
            inflight_bytes_max: 200,
            inflight_appends_max: 3,
            uncommitted_bytes_max: 500,
            tail_bytes_max: 200,
            reads_max: 4,
            ..Config::new(NodeId(1), 5)
        };
        let mut cluster = Cluster::default();
        let recovered = if born {
            let ids: Vec<u64> = (1..=voters).collect();
            cluster.add_member(NodeId(1), &membership(&ids, &[]), &[1, 1, 2], 2);
            cluster.hosts[&NodeId(1)].disk.recover()
        } else {
            Recovered::default()
        };
        let mut node = Node::new(config, recovered);
        let mut watch = Watch::default();
        let mut written = Seq(0);
        for (input, take) in inputs {
            node.step(input);
            watch.check(&node);
            if take {
                let output = node.take_output();
                prop_assert!(output.persist.len() <= 1);
                for write in output.persist {
                    prop_assert_eq!(write.seq, Seq(written.0 + 1));
                    written = write.seq;
                }
                watch.check(&node);
            }
        }
    }
}

/// What happens next to a cluster.
#[derive(Clone, Debug)]
enum Event {
    Tick(u64),
    /// A whole election time-out of ticks at one node.
    Silence(u64),
    Deliver(usize),
    DeliverMany(usize),
    Drop(usize),
    Duplicate(usize),
    Persist(u64),
    Crash(u64),
    Start(u64),
    Propose(u64, usize),
    Read(u64),
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
    /// All goes well for some rounds: messages arrive, disks write.
    Calm(usize),
    /// One node stands, and all goes well until it leads.
    Elect(u64),
}

fn any_event() -> impl Strategy<Value = Event> {
    let node = || 1..6u64;
    prop_oneof![
        8 => node().prop_map(Event::Tick),
        3 => node().prop_map(Event::Silence),
        20 => any::<usize>().prop_map(Event::Deliver),
        12 => (1..30usize).prop_map(Event::DeliverMany),
        3 => any::<usize>().prop_map(Event::Drop),
        3 => any::<usize>().prop_map(Event::Duplicate),
        24 => node().prop_map(Event::Persist),
        2 => node().prop_map(Event::Crash),
        3 => node().prop_map(Event::Start),
        8 => (node(), 1..60usize).prop_map(|(node, size)| Event::Propose(node, size)),
        5 => node().prop_map(Event::Read),
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
        6 => (1..4usize).prop_map(Event::Calm),
        2 => node().prop_map(Event::Elect),
    ]
}

/// A cluster with the checks of the whole.
struct World {
    cluster: Cluster,
    leaders: BTreeMap<Term, NodeId>,
    committed: BTreeMap<Index, Entry>,
    votes: BTreeMap<(Term, NodeId), NodeId>,
    fetches: Vec<(NodeId, konsen::raft::Fetch)>,
    /// Snapshots on their way: from, to, state.
    snapshots: Vec<(NodeId, NodeId, LogId, Membership)>,
    /// The highest index committed anywhere when each read arrived.
    reads: BTreeMap<ReadId, Index>,
    next_id: u64,
    figures: Figures,
}

#[derive(Default, Debug)]
struct Figures {
    commits: u64,
    reads: u64,
    leaders: u64,
    changes: u64,
    fetches: u64,
    snapshots: u64,
}

impl World {
    fn new(voters: u64, seed: u64) -> World {
        let mut cluster = Cluster::default();
        cluster.settings.seed = seed;
        cluster.settings.append_bytes_max = 150;
        cluster.settings.inflight_appends_max = 3;
        cluster.settings.uncommitted_bytes_max = 2000;
        cluster.settings.tail_bytes_max = 150;
        cluster.settings.reads_max = 16;
        let ids: Vec<u64> = (1..=voters).collect();
        for id in 1..=5 {
            if id <= voters {
                cluster.add_member(NodeId(id), &membership(&ids, &[]), &[], 1);
            } else {
                cluster.add(NodeId(id), Disk::default());
            }
        }
        World {
            cluster,
            leaders: BTreeMap::new(),
            committed: BTreeMap::new(),
            votes: BTreeMap::new(),
            fetches: Vec::new(),
            snapshots: Vec::new(),
            reads: BTreeMap::new(),
            next_id: 0,
            figures: Figures::default(),
        }
    }

    fn step(&mut self, id: NodeId, input: Input) {
        if self.cluster.node(id).is_none() {
            return;
        }
        let sent = self.cluster.network.len();
        let Some(output) = self.cluster.step(id, input) else { return };
        for message in &self.cluster.network[sent..] {
            self.justified(id, message);
        }
        let messages = self.cluster.network[sent..].to_vec();
        for message in messages {
            if let Body::VoteReply { granted: true } = message.body {
                self.voted(message.term, id, message.to);
            }
            if let Body::Snapshot { .. } = message.body {
                self.offer(id, message.to);
            }
        }
        for fetch in output.fetch {
            self.fetches.push((id, fetch));
        }
        for (read, outcome) in output.reads {
            let arrived = self.reads.remove(&read).expect("a read that was asked, answered once");
            if let Ok(index) = outcome {
                assert!(index >= arrived, "{id} reads at {index}, {arrived} was committed before");
                self.figures.reads += 1;
            }
        }
        self.figures.changes += output
            .accepted
            .iter()
            .filter(|(id, accepted)| id.0 >= 1 << 40 && accepted.is_ok())
            .count() as u64;
        self.check(id);
    }

    fn voted(&mut self, term: Term, voter: NodeId, candidate: NodeId) {
        let vote = *self.votes.entry((term, voter)).or_insert(candidate);
        assert_eq!(vote, candidate, "{voter} voted twice in {term}");
    }

    /// What a message claims is on the sender's disk.
    fn justified(&self, id: NodeId, message: &Message) {
        let disk = &self.cluster.hosts[&id].disk;
        let hypothetical =
            matches!(message.body, Body::PreVote { .. } | Body::PreVoteReply { granted: true });
        assert!(
            hypothetical || message.term <= disk.hard_state.term,
            "term of {message:?} not durable"
        );
        match &message.body {
            Body::VoteReply { granted: true } => assert!(
                disk.hard_state.term > message.term || disk.hard_state.vote == Some(message.to),
                "vote not durable"
            ),
            Body::Vote { last, .. } => {
                assert_eq!(disk.id_at(last.index), Some(*last), "candidate's log not durable");
            }
            Body::AppendReply { matched } => {
                assert!(
                    disk.last().index >= *matched,
                    "{id} acknowledges {matched}, which is not durable"
                );
            }
            _ => {}
        }
    }

    fn check(&mut self, id: NodeId) {
        let node = self.cluster.node(id).expect("it runs");
        let disk = &self.cluster.hosts[&id].disk;
        assert!(disk.last().index.0 >= node.durable().0, "durable mark ahead of the disk");
        if node.role() == RoleName::Leader {
            if !self.leaders.contains_key(&node.term()) {
                self.figures.leaders += 1;
                // Leader completeness: whoever leads a later term holds all that is committed.
                for (index, entry) in self.committed.range(node.first_in_memory()..) {
                    assert_eq!(
                        node.term_at(*index),
                        Some(entry.id.term),
                        "leader {id} of {} lacks {}",
                        node.term(),
                        entry.id
                    );
                }
            }
            let leader = *self.leaders.entry(node.term()).or_insert(id);
            assert_eq!(leader, id, "two leaders in {}", node.term());
        }
        let mut news = Vec::new();
        for index in disk.base.index.0 + 1..=node.commit().0 {
            // What left the memory is on the disk.
            let term = node.term_at(Index(index)).or_else(|| Some(disk.id_at(Index(index))?.term));
            let term = term.expect("the log has no hole");
            match self.committed.get(&Index(index)) {
                Some(entry) => {
                    assert_eq!(entry.id.term, term, "{id}: committed entry {index} differs")
                }
                None => news.push(LogId::new(term, Index(index))),
            }
        }
        // What is new as committed must be durable at a quorum, crashed disks included.
        for entry_id in news {
            self.figures.commits += 1;
            let holders: Vec<NodeId> = self
                .cluster
                .hosts
                .iter()
                .filter(|(_, host)| {
                    host.disk.id_at(entry_id.index) == Some(entry_id)
                        || host.disk.base.index > entry_id.index
                })
                .map(|(holder, _)| *holder)
                .collect();
            let node = self.cluster.node(id).expect("it runs");
            let membership = node.membership().expect("only members commit");
            assert!(
                membership.is_quorum(|node| holders.contains(&node)),
                "{entry_id} is committed at {id} but durable only at {holders:?}"
            );
            let entry = holders
                .iter()
                .find_map(|holder| self.cluster.hosts[holder].disk.get(entry_id.index))
                .expect("whoever compacts it was seen to commit it");
            self.committed.insert(entry_id.index, entry.clone());
        }
        // Log matching, on disks.
        let disk = &self.cluster.hosts[&id].disk;
        for (other, host) in &self.cluster.hosts {
            if *other == id {
                continue;
            }
            let mut same = false;
            for entry in disk.log.iter().rev() {
                match host.disk.get(entry.id.index) {
                    Some(theirs) if theirs.id == entry.id => {
                        assert_eq!(theirs.payload, entry.payload, "entries of one id differ");
                        same = true;
                    }
                    Some(_) => assert!(!same, "logs of {id} and {other} part below {}", entry.id),
                    None => {}
                }
            }
        }
    }

    fn offer(&mut self, from: NodeId, to: NodeId) {
        // The state as of the sender's newest durable checkpoint: here, what its log lacks.
        let disk = &self.cluster.hosts[&from].disk;
        if let Some((_, membership)) = &disk.membership {
            self.snapshots.push((from, to, disk.base, membership.clone()));
        }
    }

    fn highest_commit(&self) -> Index {
        self.committed.keys().next_back().copied().unwrap_or_default()
    }

    fn deliver(&mut self, position: usize) {
        let message = self.cluster.network.remove(position);
        if self.cluster.passes(&message) {
            self.step(message.to, Input::Receive(message));
        }
    }

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
            Event::Tick(id) => self.step(NodeId(id), Input::Tick),
            Event::Silence(id) => {
                for _ in 0..20 {
                    self.step(NodeId(id), Input::Tick);
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
            Event::Read(id) if self.cluster.node(NodeId(id)).is_some() => {
                self.next_id += 1;
                let read = ReadId(self.next_id);
                self.reads.insert(read, self.highest_commit());
                self.step(NodeId(id), Input::Read { id: read });
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
            Event::Calm(rounds) => self.calm(rounds),
            Event::Elect(id) => {
                for node in 1..=5 {
                    for _ in 0..if node == id { 40 } else { 10 } {
                        self.step(NodeId(node), Input::Tick);
                    }
                    self.calm(1);
                }
                self.calm(4);
            }
            Event::Cut(a, b) => {
                self.cluster.cut.insert((NodeId(a), NodeId(b)));
            }
            Event::Heal => self.cluster.cut.clear(),
            Event::Unreachable(id, peer) => {
                self.step(NodeId(id), Input::Unreachable { peer: NodeId(peer) });
            }
            Event::Apply(id) => {
                if let Some(index) = self.cluster.node(NodeId(id)).map(Node::applicable) {
                    self.cluster.hosts.get_mut(&NodeId(id)).expect("a host").applied = index;
                    self.step(NodeId(id), Input::Applied { index });
                }
            }
            Event::Compact(id) => {
                let host = self.cluster.hosts.get_mut(&NodeId(id)).expect("a host");
                if host.node.is_some()
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
                let wanted = self.cluster.node(to).is_some_and(|node| node.wants_snapshot(last));
                if wanted {
                    self.figures.snapshots += 1;
                    let host = self.cluster.hosts.get_mut(&to).expect("a host");
                    host.disk.log.clear();
                    host.disk.base = last;
                    host.disk.membership = Some((last.index, membership.clone()));
                    // The log writer drops what was under way for the log that is gone.
                    for write in &mut host.writes {
                        write.entries.clear();
                        write.truncate_from = None;
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
