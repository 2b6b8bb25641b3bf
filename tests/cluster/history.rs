//! The past is given up on all nodes, by themselves and on demand.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::harness::{Cluster, PATIENCE, konsen};

/// Waits until a node says that it has given up the past before a revision, of which it is told the newest.
async fn wait_compacted(cluster: &Cluster, node: usize, wanted: impl Fn(u64) -> u64) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let status = cluster.status(node).await;
        let number = |name: &str| status.as_ref().and_then(|status| status[name].as_u64());
        if let Some(newest) = number("revision")
            && number("compact_revision") == Some(wanted(newest))
        {
            return;
        }
        assert!(Instant::now() < deadline, "node {node}: {status:?}\n{}", cluster.logs());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn write(cluster: &Cluster, node: usize, times: usize) {
    for number in 0..times {
        let status = cluster.put(node, &format!("k{}", number % 3), &number.to_string()).await;
        assert!(matches!(status, Ok(201 | 204)), "{status:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_older_than_it_is_kept_for_is_given_up_whoever_leads() {
    let mut cluster = Cluster::start_configured(3, "history:\n  keep: 1s\n").await;
    write(&cluster, 0, 30).await;
    for node in 0..3 {
        wait_compacted(&cluster, node, |newest| newest).await;
    }
    let leader = cluster.wait_leader().await;
    cluster.nodes[leader].kill();
    let other = (leader + 1) % 3;
    cluster.wait_ready(other).await;
    write(&cluster, other, 30).await;
    for node in (0..3).filter(|node| *node != leader) {
        wait_compacted(&cluster, node, |newest| newest).await;
    }
    cluster.nodes[leader].start();
    wait_compacted(&cluster, leader, |newest| newest).await;
    assert_eq!(cluster.get(other, "k2").await.unwrap().as_deref(), Some("29"));
}

#[tokio::test(flavor = "multi_thread")]
async fn so_many_revisions_are_kept_and_an_operator_gives_up_more() {
    let history = "history:\n  keep: off\n  revisions: 50\n";
    let cluster = Cluster::start_configured(3, history).await;
    write(&cluster, 1, 120).await;
    for node in 0..3 {
        wait_compacted(&cluster, node, |newest| newest - 49).await;
    }
    let newest = cluster.status(0).await.unwrap()["revision"].as_u64().unwrap();
    // Whichever node is asked passes it on.
    let run = |node: usize, arguments: &[&str]| {
        let mut command = konsen();
        command.args(["compact", "--endpoints", &cluster.url(node, "")]).args(arguments);
        command.output().unwrap()
    };
    for (node, given_up) in [(0, 20), (1, 10), (2, 0)] {
        let revision = (newest - given_up).to_string();
        let done = run(node, &[&revision, "-o", "raw"]);
        assert_eq!(done.stdout, format!("{revision}\n").as_bytes(), "{done:?}");
    }
    for node in 0..3 {
        wait_compacted(&cluster, node, |newest| newest).await;
    }
    for (revision, code, why) in
        [(newest, 0, "is compacted already"), (newest + 1, 1, "not reached yet")]
    {
        let told = run(0, &[&revision.to_string()]);
        let line = String::from_utf8(told.stderr).unwrap();
        assert_eq!(told.status.code(), Some(code), "{line}");
        assert!(line.starts_with("error: ") == (code == 1) && line.contains(why), "{line}");
    }
    assert_eq!(run(0, &["0"]).status.code(), Some(2), "there is no revision 0");
}

/// The log is cut, and so is the past: what stays is what the keys hold, whatever was written.
#[tokio::test(flavor = "multi_thread")]
async fn disks_stay_flat_while_the_same_keys_are_set_again_and_again() {
    const CLIENTS: usize = 8;
    const WRITES: usize = 1_500;
    const VALUE_BYTES: usize = 64 << 10;
    let small = "history:\n  keep: off\n  revisions: 10\nlimits:\n  overlay: 1MiB\n  logTail: 0B\n";
    let cluster = Arc::new(Cluster::start_configured(1, small).await);
    let clients = (0..CLIENTS).map(|client| {
        let cluster = cluster.clone();
        tokio::spawn(async move {
            let value = "v".repeat(VALUE_BYTES);
            for _ in 0..WRITES {
                let status = cluster.put(0, &format!("k{client}"), &value).await;
                assert!(matches!(status, Ok(201 | 204)), "{status:?}");
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.unwrap();
    }
    wait_compacted(&cluster, 0, |newest| newest - 9).await;
    let status = cluster.status(0).await.unwrap();
    let written = u64::try_from(CLIENTS * WRITES * VALUE_BYTES).unwrap();
    for file in ["log_bytes", "state_bytes"] {
        // Without compaction it is up to three times what was written.
        let bytes = status[file].as_u64().unwrap();
        assert!(bytes < written / 2, "{written} bytes were written, {file} is {bytes}");
    }
}
