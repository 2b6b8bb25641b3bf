//! The state: applying puts of 256 bytes with checkpoints as they fall due, and reading one key and a page
//! of 1,000 from 100,000 keys, in the overlay and in the file; removing what compaction hides.

use std::hint::black_box;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use konsen::kv::{Command, KeyRange, RangeQuery, Revision, Write};
use konsen::raft::{Entry, Index, LogId, Payload, Term};
use konsen::store::{State, StateOptions};
use tempfile::TempDir;

const KEYS: u64 = 100_000;
const BATCH: u64 = 64;
const VALUE_BYTES: usize = 256;
/// Overwritten values that one checkpoint removes.
const SWEPT: u64 = 16_384;

fn key(number: u64) -> Bytes {
    // Scattered, as keys of many clients are.
    format!("key/{:016x}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15)).into()
}

fn entry(index: u64, key_number: u64) -> Entry {
    command(index, Write::put(key(key_number), vec![b'v'; VALUE_BYTES].into()))
}

fn command(index: u64, write: Write) -> Entry {
    let payload = Payload::Command(Command::new(write).encode());
    Entry { id: LogId::new(Term(1), Index(index)), payload }
}

fn filled(dir: &TempDir, checkpoint: bool) -> State {
    let state = State::open(&dir.path().join("state.redb"), None, &StateOptions::default());
    let state = state.expect("a state");
    for first in (0..KEYS).step_by(1000) {
        let entries: Vec<_> = (first..first + 1000).map(|n| entry(n + 1, n)).collect();
        state.apply(&entries).expect("applied");
    }
    if checkpoint && let Some(frozen) = state.freeze() {
        state.write_checkpoint(frozen).expect("a checkpoint");
    }
    state
}

fn apply(criterion: &mut Criterion) {
    let dir = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let state = filled(&dir, true);
    let mut group = criterion.benchmark_group("state");
    group.throughput(Throughput::Elements(BATCH));
    let mut index = state.applied().index.0;
    group.bench_function("apply", |bencher| {
        bencher.iter_batched(
            || {
                let first = index + 1;
                index += BATCH;
                let overwritten = (first..=index).map(|at| entry(at, at * 7919 % KEYS));
                overwritten.collect::<Vec<_>>()
            },
            |entries| {
                black_box(state.apply(&entries).expect("applied"));
                if state.checkpoint_due()
                    && let Some(frozen) = state.freeze()
                {
                    state.write_checkpoint(frozen).expect("a checkpoint");
                }
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

fn read(criterion: &mut Criterion) {
    for (name, checkpoint) in [("overlay", false), ("file", true)] {
        let dir = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
        let state = filled(&dir, checkpoint);
        let mut group = criterion.benchmark_group(format!("state/{name}"));
        let mut number = 0;
        group.bench_function("get", |bencher| {
            bencher.iter(|| {
                number = (number + 7919) % KEYS;
                black_box(state.get(&key(number), None).expect("read"));
            });
        });
        let query = RangeQuery {
            range: KeyRange::prefix(b"key/8"),
            at: None,
            descending: false,
            keys_only: false,
            items_max: 1000,
            bytes_max: usize::MAX,
        };
        group.bench_function("page_of_1000", |bencher| {
            bencher.iter(|| black_box(state.range(&query).expect("read").items.len()));
        });
        group.finish();
    }
}

fn sweep(criterion: &mut Criterion) {
    let dir = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let state = filled(&dir, true);
    let mut group = criterion.benchmark_group("state");
    group.throughput(Throughput::Elements(SWEPT)).sample_size(20);
    let checkpoint = |state: &State| {
        let frozen = state.freeze().expect("something to write");
        state.write_checkpoint(frozen).expect("a checkpoint");
    };
    group.bench_function("sweep", |bencher| {
        bencher.iter_batched(
            || {
                let first = state.applied().index.0 + 1;
                let overwritten = (first..first + SWEPT).map(|at| entry(at, at * 7919 % KEYS));
                state.apply(&overwritten.collect::<Vec<_>>()).expect("applied");
                checkpoint(&state);
                let Revision(revision) = state.revision();
                let compact = Write::Compact { revision: Revision(revision) };
                state.apply(&[command(first + SWEPT, compact)]).expect("applied");
            },
            |()| checkpoint(&state),
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

criterion_group!(benches, apply, read, sweep);
criterion_main!(benches);
