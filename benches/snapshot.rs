//! A snapshot without a network: giving out and taking in 200,000 keys of a kilobyte each.

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use konsen::kv::{Command, Write};
use konsen::raft::{ClusterId, Entry, Index, LogId, Membership, NodeId, Payload, Term};
use konsen::store::{State, StateOptions};
use std::path::Path;
use std::sync::Arc;
use tempfile::TempDir;

const KEYS: u64 = 200_000;
const VALUE_BYTES: usize = 1024;
const PIECE_BYTES: usize = 256 << 10;
/// How many pieces are taken in together.
const BATCH: usize = 16;

fn key(number: u64) -> Bytes {
    // Scattered, as keys of many clients are.
    format!("key/{:016x}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15)).into()
}

fn payload(index: u64) -> Payload {
    if index == 1 {
        let voters = [NodeId(1)].into();
        let cluster = ClusterId(1);
        return Payload::Membership(Membership {
            cluster,
            members: [].into(),
            voters,
            outgoing: None,
        });
    }
    let write = Write::put(key(index), vec![b'v'; VALUE_BYTES].into());
    Payload::Command(Command::new(write).encode())
}

fn open(path: &Path) -> State {
    State::open(&path.join("state.redb"), None, &StateOptions::default()).expect("a state")
}

fn filled(dir: &TempDir) -> State {
    let state = open(dir.path());
    for first in (1..=KEYS).step_by(1000) {
        let entries: Vec<_> = (first..first + 1000)
            .map(|index| Entry { id: LogId::new(Term(1), Index(index)), payload: payload(index) })
            .collect();
        state.apply(&entries).expect("applied");
        if state.checkpoint_due()
            && let Some(frozen) = state.freeze()
        {
            state.write_checkpoint(frozen).expect("a checkpoint");
        }
    }
    while let Some(frozen) = state.freeze() {
        state.write_checkpoint(frozen).expect("a checkpoint");
    }
    state
}

fn pieces(state: &State) -> Vec<Vec<u8>> {
    let mut reader = state.snapshot();
    std::iter::from_fn(|| reader.next_piece(PIECE_BYTES).expect("read")).collect()
}

fn snapshot(criterion: &mut Criterion) {
    let dir = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let state = filled(&dir);
    let all = pieces(&state);
    let bytes: usize = all.iter().map(Vec::len).sum();
    let mut group = criterion.benchmark_group("snapshot");
    group.throughput(Throughput::Bytes(bytes as u64)).sample_size(10);
    group.bench_function("give_out", |bencher| {
        bencher.iter(|| {
            let mut reader = state.snapshot();
            while reader.next_piece(PIECE_BYTES).expect("read").is_some() {}
        });
    });
    group.bench_function("take_in", |bencher| {
        bencher.iter_batched(
            || {
                let dir = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
                let state = Arc::new(open(dir.path()));
                (dir, state)
            },
            |(dir, state)| {
                let mut incoming = state.receive().expect("nothing else comes");
                for pieces in all.chunks(BATCH) {
                    incoming.take(pieces).expect("taken");
                }
                assert!(state.put_in_place(incoming).expect("in place"));
                (dir, state)
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

criterion_group!(benches, snapshot);
criterion_main!(benches);
