//! The core alone: three nodes in memory, disks and network that answer at once.
//!
//! What is measured is the work of all three nodes from a proposal to its commit at the leader, and
//! from a read to its release.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use konsen::raft::{
    ClusterId, Config, Entry, HardState, Index, Input, LogId, Member, Membership, Message, Node,
    NodeId, Payload, ProposalId, ReadId, Recovered, RoleName, Term,
};

const VALUE_BYTES: usize = 256;

struct Cluster {
    nodes: BTreeMap<NodeId, Node>,
    released: usize,
    committed: Index,
}

impl Cluster {
    fn new() -> Cluster {
        let ids = [NodeId(1), NodeId(2), NodeId(3)];
        let member = |id: NodeId| Member {
            name: id.to_string(),
            raft_address: String::new(),
            http_address: String::new(),
            seen: true,
            promote: false,
            replaces: None,
        };
        let membership = Membership {
            cluster: ClusterId(1),
            members: ids.iter().map(|&id| (id, member(id))).collect(),
            voters: BTreeSet::from(ids),
            outgoing: None,
        };
        let first = LogId::new(Term(1), Index(1));
        let recovered = Recovered {
            hard_state: HardState { term: Term(1), vote: None, commit: Index(0) },
            tail: vec![Entry { id: first, payload: Payload::Membership(membership.clone()) }],
            memberships: vec![(first.index, membership)],
            ..Recovered::default()
        };
        let nodes = ids
            .into_iter()
            .map(|id| (id, Node::new(Config::new(id, 1), recovered.clone())))
            .collect();
        let mut cluster = Cluster { nodes, released: 0, committed: Index(0) };
        while cluster.leader().role() != RoleName::Leader {
            cluster.leader().step(Input::Tick);
            cluster.settle();
        }
        cluster
    }

    fn leader(&mut self) -> &mut Node {
        self.nodes.get_mut(&NodeId(1)).expect("node 1")
    }

    fn settle(&mut self) {
        loop {
            let mut messages: Vec<Message> = Vec::new();
            let mut busy = false;
            for (id, node) in &mut self.nodes {
                let output = node.take_output();
                for write in output.persist {
                    busy = true;
                    node.step(Input::Persisted { seq: write.seq });
                }
                if let Some(index) = output.commit {
                    node.step(Input::Applied { index });
                    if *id == NodeId(1) {
                        self.committed = index;
                    }
                }
                self.released += output.reads.len();
                messages.extend(output.send);
            }
            if messages.is_empty() && !busy {
                return;
            }
            for message in messages {
                if let Some(node) = self.nodes.get_mut(&message.to) {
                    node.step(Input::Receive(message));
                }
            }
        }
    }
}

fn propose(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("core/propose_to_commit");
    let value = Bytes::from(vec![7; VALUE_BYTES]);
    for batch in [1u64, 64] {
        let mut cluster = Cluster::new();
        group.throughput(Throughput::Elements(batch));
        group.bench_function(batch.to_string(), |bencher| {
            bencher.iter(|| {
                let before = cluster.committed;
                for id in 0..batch {
                    let payload = Payload::Command(value.clone());
                    cluster.leader().step(Input::Propose { id: ProposalId(id), payload });
                }
                cluster.settle();
                assert_eq!(cluster.committed.0, before.0 + batch);
            });
        });
    }
    group.finish();
}

fn read(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("core/read_index");
    for batch in [1usize, 64] {
        let mut cluster = Cluster::new();
        group.throughput(Throughput::Elements(batch as u64));
        group.bench_function(batch.to_string(), |bencher| {
            bencher.iter(|| {
                let before = cluster.released;
                for id in 0..batch {
                    cluster.leader().step(Input::Read { id: ReadId(id as u64), lease: false });
                }
                cluster.settle();
                assert_eq!(cluster.released, before + batch);
            });
        });
    }
    group.finish();
}

fn elect(criterion: &mut Criterion) {
    criterion.bench_function("core/start_and_elect", |bencher| {
        bencher.iter_batched(|| (), |()| Cluster::new(), BatchSize::SmallInput);
    });
}

criterion_group!(benches, propose, read, elect);
criterion_main!(benches);
