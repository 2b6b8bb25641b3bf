//! Nodes that the log does not reach any more are sent the state.

use std::time::{Duration, Instant};

use crate::harness::{Cluster, PATIENCE};

/// Checkpoints come soon, and nothing of the log stays that one covers.
const SMALL: &str = "limits:\n  overlay: 1MiB\n  logTail: 0B\n";
const KEYS: usize = 100;
/// All together are more than a leader keeps of its log in memory.
const VALUE_BYTES: usize = 256 << 10;

fn value(number: usize) -> String {
    format!("{number}/{}", "v".repeat(VALUE_BYTES))
}

/// Writes what takes several checkpoints.
async fn fill(cluster: &Cluster, node: usize) {
    for number in 0..KEYS {
        let status = cluster.put(node, &format!("k{number}"), &value(number)).await;
        assert!(matches!(status, Ok(201 | 204)), "{status:?}");
    }
}

/// Waits until a node itself has the value.
async fn wait_value(cluster: &Cluster, node: usize, key: &str, value: &str) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let found = cluster.get_as(node, key, "stale").await;
        if found.as_ref().is_ok_and(|found| found.as_deref() == Some(value)) {
            return;
        }
        assert!(Instant::now() < deadline, "{key}: {found:.80?}\n{}", cluster.logs());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn wait_logged(cluster: &Cluster, node: usize, text: &str) {
    let deadline = Instant::now() + PATIENCE;
    while !cluster.nodes[node].log().contains(text) {
        assert!(Instant::now() < deadline, "no {text:?}\n{}", cluster.logs());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_the_log_does_not_reach_is_sent_the_state() {
    let mut cluster = Cluster::start_configured(3, SMALL).await;
    assert_eq!(cluster.put(0, "k0", "what the state of all holds").await.unwrap(), 201);
    wait_value(&cluster, 2, "k0", "what the state of all holds").await;
    // One that was away for long, and goes down once more as the snapshot arrives.
    cluster.nodes[2].kill();
    fill(&cluster, 0).await;
    cluster.nodes[2].start();
    wait_logged(&cluster, 2, "receiving a snapshot").await;
    cluster.nodes[2].kill();
    cluster.nodes[2].start();
    for number in (0..KEYS).rev() {
        wait_value(&cluster, 2, &format!("k{number}"), &value(number)).await;
    }
    wait_logged(&cluster, 2, "the snapshot is in place").await;

    // It has a full say from then on.
    cluster.nodes[0].kill();
    cluster.wait_ready(2).await;
    let status = cluster.put(2, "after", "all").await;
    assert_eq!(status.unwrap(), 201);
    cluster.nodes[1].kill();
    cluster.nodes[2].kill();
    for node in &mut cluster.nodes {
        node.start();
    }
    cluster.wait_ready_all().await;
    for node in 0..3 {
        assert_eq!(cluster.get(node, "after").await, Ok(Some("all".to_owned())));
        assert_eq!(cluster.get(node, "k0").await, Ok(Some(value(0))));
    }
}

/// A snapshot would only set it back further.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_slow_is_sent_the_log_and_not_the_state() {
    let cluster = Cluster::start_configured(3, "limits:\n  overlay: 1MiB\n  logTail: 2MiB\n").await;
    let slow = (cluster.wait_leader().await + 1) % 3;
    assert_eq!(cluster.put(slow, "before", "x").await.unwrap(), 201);
    cluster.nodes[slow].signal("STOP");
    // More than ten times as much as the log keeps for those who are down, and checkpoints cover it.
    let other = (0..3).find(|node| *node != slow).unwrap();
    fill(&cluster, other).await;
    cluster.nodes[slow].signal("CONT");
    wait_value(&cluster, slow, &format!("k{}", KEYS - 1), &value(KEYS - 1)).await;
    for node in &cluster.nodes {
        assert!(!node.log().contains("sending a snapshot"), "{}", cluster.logs());
    }
}
