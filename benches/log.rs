//! The log: one commit of 1, 16 and 128 entries of 300 bytes, beside its floor, the same bytes appended to
//! a preallocated file and synced. On the disk of the target directory, not on a tmpfs.

use std::fs::{File, OpenOptions};
use std::hint::black_box;
use std::io::{Seek, SeekFrom, Write};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use konsen::raft::{Entry, Index, LogId, LogWrite, Payload, Seq, Term};
use konsen::store::{Log, LogOptions};
use tempfile::TempDir;

const ENTRY_BYTES: usize = 300;
const PREALLOCATED_BYTES: u64 = 256 << 20;

fn disk() -> TempDir {
    TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory")
}

fn commit(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("log");
    group.sample_size(30);
    for batch in [1_u64, 16, 128] {
        group.throughput(Throughput::Elements(batch));
        let dir = disk();
        let (mut log, _) =
            Log::open(&dir.path().join("log.redb"), None, &LogOptions::default()).expect("a log");
        let mut next = 1;
        group.bench_function(BenchmarkId::new("commit", batch), |bencher| {
            bencher.iter(|| {
                let entries = (next..next + batch).map(|index| Entry {
                    id: LogId::new(Term(1), Index(index)),
                    payload: Payload::Command(vec![7; ENTRY_BYTES].into()),
                });
                let write =
                    LogWrite { seq: Seq(next), entries: entries.collect(), ..LogWrite::default() };
                log.append(&[write]).expect("a commit");
                next += batch;
            });
        });
        let mut floor = preallocated(&dir);
        let bytes = vec![7; ENTRY_BYTES * usize::try_from(batch).expect("small")];
        group.bench_function(BenchmarkId::new("append_fdatasync", batch), |bencher| {
            bencher.iter(|| {
                if floor.stream_position().expect("a position") + bytes.len() as u64
                    > PREALLOCATED_BYTES
                {
                    floor.seek(SeekFrom::Start(0)).expect("a seek");
                }
                floor.write_all(black_box(&bytes)).expect("a write");
                floor.sync_data().expect("a sync");
            });
        });
    }
    group.finish();
}

fn preallocated(dir: &TempDir) -> File {
    let mut file = OpenOptions::new()
        .create_new(true)
        .write(true)
        .open(dir.path().join("floor"))
        .expect("a file");
    let zeros = vec![0; 1 << 20];
    for _ in 0..PREALLOCATED_BYTES >> 20 {
        file.write_all(&zeros).expect("a write");
    }
    file.sync_all().expect("a sync");
    file.seek(SeekFrom::Start(0)).expect("a seek");
    file
}

criterion_group!(benches, commit);
criterion_main!(benches);
