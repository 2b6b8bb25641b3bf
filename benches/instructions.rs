//! How many instructions the hot paths take, as callgrind counts them: a number that a busy machine does not change, so
//! that a change of a few hundredths shows. `ci/instructions` runs it and compares with `benches/instructions.txt`.
//!
//! What is set up before, and what is dropped after, does not count. Nor does the kernel, so nothing here waits for a
//! disk in what counts.
// The macros make modules, which are nobody's to use.
#![allow(missing_docs)]

use std::hint::black_box;

use bytes::{Bytes, BytesMut};
use gungraun::{
    Callgrind, LibraryBenchmarkConfig, library_benchmark, library_benchmark_group, main,
};
use konsen::kv::{Command, Write};
use konsen::net::FRAME_BYTES_MAX;
use konsen::net::frame::{self, Decoder};
use konsen::raft::{
    Body, ClusterId, Entry, Index, Input, LogId, LogWrite, Message, NodeId, Payload, ProposalId,
    ReadId, Seq, Term,
};
use konsen::store::{Log, LogOptions, State, StateOptions};
use redb::backends::InMemoryBackend;
use tempfile::TempDir;

#[path = "core/cluster.rs"]
mod cluster;

use cluster::Cluster;

const VALUE_BYTES: usize = 256;
const KEYS: u64 = 1000;
/// The key that is written and read: any but the first and the last.
const KEY: u64 = 617;

fn value() -> Bytes {
    vec![b'v'; VALUE_BYTES].into()
}

fn entries(first: u64, count: u64) -> Vec<Entry> {
    let entry =
        |index| Entry { id: LogId::new(Term(1), Index(index)), payload: Payload::Command(value()) };
    (first..first + count).map(entry).collect()
}

fn append(count: u64) -> Message {
    let prev = LogId::new(Term(1), Index(1_000_000));
    let body = Body::Append { prev, entries: entries(1_000_001, count), commit: prev.index };
    Message { cluster: ClusterId(1), from: NodeId(1), to: NodeId(2), term: Term(1), body }
}

/// A message, and a buffer that has the room for its frame.
fn to_encode(count: u64) -> (Message, BytesMut) {
    let message = append(count);
    let mut buffer = BytesMut::new();
    frame::encode(&message, FRAME_BYTES_MAX, &mut buffer).expect("fits");
    buffer.clear();
    (message, buffer)
}

fn framed(count: u64) -> Bytes {
    let mut buffer = BytesMut::new();
    frame::encode(&append(count), FRAME_BYTES_MAX, &mut buffer).expect("fits");
    buffer.freeze()
}

#[library_benchmark]
#[bench::entries_1(args = (1), setup = to_encode)]
#[bench::entries_64(args = (64), setup = to_encode)]
fn frame_encode((message, mut buffer): (Message, BytesMut)) -> (Message, BytesMut) {
    frame::encode(black_box(&message), FRAME_BYTES_MAX, &mut buffer).expect("fits");
    (message, buffer)
}

#[library_benchmark]
#[bench::entries_1(args = (1), setup = framed)]
#[bench::entries_64(args = (64), setup = framed)]
fn frame_decode(framed: Bytes) -> Message {
    let mut decoder = Decoder::new(FRAME_BYTES_MAX);
    decoder.push(black_box(framed));
    let body = decoder.next_body().expect("is a frame").expect("is whole");
    frame::decode_message(&body).expect("is a message")
}

/// Three cores that have committed something already.
fn cores() -> Cluster {
    let mut cluster = Cluster::new();
    propose(&mut cluster, 1);
    cluster
}

fn propose(cluster: &mut Cluster, count: u64) {
    let before = cluster.committed;
    for id in 0..count {
        let payload = Payload::Command(value());
        cluster.leader().step(Input::Propose { id: ProposalId(id), payload });
    }
    cluster.settle();
    assert_eq!(cluster.committed.0, before.0 + count);
}

#[library_benchmark]
#[bench::batch_1(args = (1), setup = with_cores)]
#[bench::batch_64(args = (64), setup = with_cores)]
fn raft_propose_to_commit((mut cluster, count): (Cluster, u64)) -> Cluster {
    propose(&mut cluster, black_box(count));
    cluster
}

fn with_cores(count: u64) -> (Cluster, u64) {
    (cores(), count)
}

#[library_benchmark]
#[bench::batch_1(args = (1), setup = with_cores)]
#[bench::batch_64(args = (64), setup = with_cores)]
fn raft_read_index((mut cluster, count): (Cluster, u64)) -> Cluster {
    let before = cluster.released as u64;
    for id in 0..black_box(count) {
        cluster.leader().step(Input::Read { id: ReadId(id), lease: false });
    }
    cluster.settle();
    assert_eq!(cluster.released as u64, before + count);
    cluster
}

fn key(number: u64) -> Bytes {
    // Scattered, as keys of many clients are.
    format!("key/{:016x}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15)).into()
}

fn put(index: u64, number: u64) -> Entry {
    let payload = Payload::Command(Command::new(Write::put(key(number), value())).encode());
    Entry { id: LogId::new(Term(1), Index(index)), payload }
}

/// A state of `KEYS` keys, in the overlay or in its file, and an entry that changes one of them.
fn state(in_file: bool) -> (TempDir, State, Entry) {
    let dir = TempDir::new().expect("a directory");
    let state = State::open(&dir.path().join("state.redb"), None, &StateOptions::default());
    let state = state.expect("a state");
    let all: Vec<Entry> = (0..KEYS).map(|number| put(number + 1, number)).collect();
    state.apply(&all).expect("applied");
    if in_file {
        let frozen = state.freeze().expect("something to write");
        state.write_checkpoint(frozen).expect("a checkpoint");
    }
    // What is read for the first time is another matter.
    state.get(&key(KEY), None).expect("read");
    (dir, state, put(KEYS + 1, KEY))
}

#[library_benchmark]
#[bench::overlay(args = (false), setup = state)]
#[bench::file(args = (true), setup = state)]
fn state_apply_put((dir, state, entry): (TempDir, State, Entry)) -> (TempDir, State, Entry) {
    black_box(state.apply(std::slice::from_ref(&entry)).expect("applied"));
    (dir, state, entry)
}

#[library_benchmark]
#[bench::overlay(args = (false), setup = state)]
#[bench::file(args = (true), setup = state)]
fn state_get((dir, state, entry): (TempDir, State, Entry)) -> (TempDir, State, Entry) {
    let found = black_box(state.get(&key(KEY), None)).expect("read");
    drop(found);
    (dir, state, entry)
}

/// A log in memory that has taken a group already, and the write that makes the next one.
fn log(count: u64) -> (Log, LogWrite) {
    let options = LogOptions::default();
    let log = Log::open_backends(InMemoryBackend::new(), InMemoryBackend::new(), &options);
    let (mut log, _) = log.expect("a log");
    let first = LogWrite { seq: Seq(1), entries: entries(1, count), ..LogWrite::default() };
    log.append(&[first]).expect("a group");
    let next = LogWrite { seq: Seq(2), entries: entries(count + 1, count), ..LogWrite::default() };
    (log, next)
}

#[library_benchmark]
#[bench::entries_1(args = (1), setup = log)]
#[bench::entries_64(args = (64), setup = log)]
fn wal_group((mut log, write): (Log, LogWrite)) -> (Log, LogWrite) {
    log.append(black_box(std::slice::from_ref(&write))).expect("a group");
    (log, write)
}

library_benchmark_group!(
    name = hot_paths,
    benchmarks = [
        frame_encode,
        frame_decode,
        raft_propose_to_commit,
        raft_read_index,
        state_apply_put,
        state_get,
        wal_group
    ]
);

main!(
    config = LibraryBenchmarkConfig::default().tool(Callgrind::with_args(["--cache-sim=no"])),
    library_benchmark_groups = [hot_paths]
);
