//! What the shipped binary asks of the kernel: no acknowledgement leaves before the log that holds the write
//! is on the disks of a majority. The system calls are traced by `strace`, whose tracer stops a thread at both
//! ends of a call, so that what it notes as ended had ended before anybody could act on it.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::harness::{Cluster, PATIENCE};
use crate::strace::{judge, parse};

const WRITES: usize = 20;

fn marker(number: usize) -> String {
    format!("a-value-that-is-nowhere-else-{number:04}")
}

const CALLS: &str =
    "recvfrom,read,readv,write,writev,sendto,sendmsg,pwrite64,pwritev2,fdatasync,fsync";

/// The words before a command that have these of its calls traced into a file. The process becomes the command.
pub(crate) fn tracing(file: &str, calls: &str) -> Vec<String> {
    let calls = format!("trace={calls}");
    let words = [
        // The tracer is a grandchild, the node the child.
        &["strace", "-D", "-f", "--seccomp-bpf"][..],
        // Times since the epoch and how long each took; what descriptors stand for; whole pages.
        &["-ttt", "-T", "-yy", "-s", "20000"],
        &["-e", &calls, "-o", file],
    ];
    words.concat().into_iter().map(String::from).collect()
}

/// Says so where it cannot.
pub(crate) fn can_trace() -> bool {
    let words = tracing("/dev/null", CALLS);
    let traced = Command::new(&words[0]).args(&words[1..]).arg("true").output();
    let can = traced.is_ok_and(|output| output.status.success());
    if !can {
        eprintln!("skipped: tracing system calls needs `strace`, and the right to trace");
    }
    can
}

/// Writes values one after the other to all nodes in turn; what each node asked of its kernel meanwhile.
async fn traced(size: usize) -> Vec<String> {
    let mut cluster = Cluster::build(size, "");
    for node in &mut cluster.nodes {
        node.wrapper = tracing("trace.txt", CALLS);
        node.start();
    }
    cluster.wait_ready_all().await;
    for number in 0..WRITES {
        let node = number % size;
        let deadline = Instant::now() + PATIENCE;
        // A leader may have to be found anew: traced nodes are slow.
        while !matches!(
            cluster.put(node, &format!("key{number}"), &marker(number)).await,
            Ok(201 | 204)
        ) {
            assert!(Instant::now() < deadline, "no write\n{}", cluster.logs());
        }
    }
    let mut traces = Vec::new();
    for node in &mut cluster.nodes {
        let _ = node.terminate();
        traces.push(whole(&node.home.join("trace.txt")));
    }
    traces
}

/// The trace, once its last line is there; nobody tells when the tracer ends.
pub(crate) fn whole(file: &Path) -> String {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let text = fs::read_to_string(file).unwrap_or_default();
        if text.trim_end().lines().next_back().is_some_and(|line| line.contains("+++ exited")) {
            return text;
        }
        assert!(Instant::now() < deadline, "{} has no end", file.display());
        std::thread::sleep(Duration::from_millis(20));
    }
}

async fn check(size: usize, quorum: usize) {
    if !can_trace() {
        return;
    }
    let traces: Vec<_> = traced(size).await.iter().map(|text| parse(text)).collect();
    for number in 0..WRITES {
        let slack = judge(&traces, &marker(number), quorum).unwrap_or_else(|why| panic!("{why}"));
        eprintln!(
            "write {number}: acknowledged {slack} µs after the last fdatasync that it needed"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_node_acknowledges_only_what_its_disk_has() {
    check(1, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_nodes_acknowledge_only_what_the_disks_of_two_have() {
    check(3, 2).await;
}
