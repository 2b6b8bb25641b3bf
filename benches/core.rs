//! The core alone: three nodes in memory, disks and network that answer at once.
//!
//! What is measured is the work of all three nodes from a proposal to its commit at the leader, and
//! from a read to its release.

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use konsen::raft::{Input, Payload, ProposalId, ReadId};

#[path = "core/cluster.rs"]
mod cluster;

use cluster::Cluster;

const VALUE_BYTES: usize = 256;

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
