//! Nodes whose configurations disagree: what the cluster has agreed on rules at all of them.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{Cluster, Node, PATIENCE, client};

const MIB: usize = 1 << 20;
/// What some take and others do not.
const LARGE: usize = 12 * MIB;

/// Each node's file, but for the sections that a test writes.
struct Files(Vec<String>);

impl Files {
    /// Of a cluster that was built.
    fn of(cluster: &Cluster) -> Files {
        let text = |node: &Node| {
            let text = fs::read_to_string(node.home.join("cluster.yml")).unwrap();
            let mut written_by_test = false;
            let lines = text.lines().filter(|line| {
                if !line.starts_with(' ') {
                    let sections = ["limits:", "raft:", "reads:"];
                    written_by_test = sections.iter().any(|section| line.starts_with(section));
                }
                !written_by_test
            });
            lines.map(|line| format!("{line}\n")).collect()
        };
        Files(cluster.nodes.iter().map(text).collect())
    }

    fn write(&self, cluster: &Cluster, node: usize, own: &str) {
        let file = cluster.nodes[node].home.join("cluster.yml");
        fs::write(file, format!("{}{own}\n", self.0[node])).unwrap();
    }

    /// Restarts a node as an operator does, with another configuration.
    async fn restart(&self, cluster: &mut Cluster, node: usize, own: &str) {
        assert!(cluster.nodes[node].terminate().success(), "{}", cluster.logs());
        self.write(cluster, node, own);
        cluster.nodes[node].start();
        cluster.wait_ready(node).await;
    }
}

/// Writes until it is decided whether that is allowed: on a busy machine a slow disk can cost the leader its place meanwhile.
async fn put(cluster: &Cluster, node: usize, key: &str, bytes: usize) -> (u16, String) {
    let deadline = Instant::now() + 2 * PATIENCE;
    loop {
        let url = cluster.url(node, &format!("/v1/kv/{key}"));
        let answer = client().put(url).body(vec![b'x'; bytes]).send().await;
        match answer.map(|answer| (answer.status().as_u16(), answer)) {
            Ok((429 | 503 | 504, _)) | Err(_) if Instant::now() < deadline => {}
            Ok((status, answer)) => return (status, answer.text().await.unwrap_or_default()),
            Err(error) => panic!("{error}: {}", cluster.logs()),
        }
        cluster.wait_leader().await;
    }
}

async fn is_taken(cluster: &Cluster, node: usize, bytes: usize) -> bool {
    match put(cluster, node, &format!("key{node}"), bytes).await {
        (201 | 204, _) => true,
        (413, _) => false,
        other => panic!("{other:?}: {}", cluster.logs()),
    }
}

async fn warnings(cluster: &Cluster, node: usize) -> String {
    cluster.status(node).await.unwrap()["warnings"].to_string()
}

/// Waits until every node's log says last that a value may have so many bytes.
async fn wait_agreed(cluster: &Cluster, bytes: usize) {
    let deadline = Instant::now() + PATIENCE;
    let says = format!("agreed on limits.value: {bytes} bytes");
    for node in 0..cluster.nodes.len() {
        loop {
            let log = cluster.nodes[node].log();
            let last = log.lines().rfind(|line| line.contains("agreed on limits.value: "));
            if last.is_some_and(|last| last.contains(&says)) {
                break;
            }
            assert!(Instant::now() < deadline, "node{}: {}", node + 1, cluster.logs());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let url = cluster.url(node, "/v1/cluster");
        let told: Value = cluster.http.get(url).send().await.unwrap().json().await.unwrap();
        assert_eq!(told["settings"]["value_bytes"], bytes, "{told}");
    }
}

/// Nothing else is agreed on for as long as a leader looks several times.
async fn stays(cluster: &Cluster, bytes: usize) {
    tokio::time::sleep(Duration::from_secs(4)).await;
    wait_agreed(cluster, bytes).await;
}

async fn lead(cluster: &Cluster, node: usize) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let body = json!({ "to": cluster.nodes[node].name }).to_string();
        let url = cluster.url(node, "/v1/cluster/leader");
        let answer = cluster.http.post(url).body(body).send().await.unwrap();
        if answer.status().is_success() && cluster.wait_leader().await == node {
            return;
        }
        assert!(Instant::now() < deadline, "{}", cluster.logs());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_is_changed_node_by_node_rules_from_the_last_one_on() {
    let mut cluster = Cluster::build(3, "");
    let files = Files::of(&cluster);
    for node in &mut cluster.nodes {
        node.start();
    }
    cluster.wait_ready_all().await;
    wait_agreed(&cluster, MIB).await;
    let (small, large) = ("limits: { value: 1MiB }", "limits: { value: 16MiB }");
    let differs = format!("limits.value is {} bytes", 16 * MIB);

    for node in [2, 1] {
        files.restart(&mut cluster, node, large).await;
        stays(&cluster, MIB).await;
        for node in 0..3 {
            assert!(!is_taken(&cluster, node, MIB + 1).await, "node{}", node + 1);
        }
        let (own, log) = (warnings(&cluster, node).await, cluster.nodes[node].log());
        let here = format!("{differs} here, and the cluster has agreed on {MIB} bytes");
        assert!(own.contains(&here) && log.contains(&here), "{own}: {log}");
        assert!(!warnings(&cluster, 0).await.contains("limits.value is 1048576"));
    }
    // Whoever leads, and names who says something else.
    for leader in [2, 0] {
        lead(&cluster, leader).await;
        stays(&cluster, MIB).await;
        assert!(!is_taken(&cluster, 2, MIB + 1).await && !is_taken(&cluster, 0, MIB + 1).await);
        let warnings = warnings(&cluster, leader).await;
        assert!(warnings.contains(&format!("{differs} at node2")), "{warnings}");
    }
    // One that is away keeps what there is, although all that are there say the same.
    cluster.nodes[0].kill();
    lead(&cluster, 2).await;
    assert!(!is_taken(&cluster, 1, MIB + 1).await);
    files.write(&cluster, 0, large);
    cluster.nodes[0].start();
    cluster.wait_ready(0).await;
    wait_agreed(&cluster, 16 * MIB).await;
    for node in 0..3 {
        assert!(is_taken(&cluster, node, LARGE).await, "node{}", node + 1);
        assert!(!warnings(&cluster, node).await.contains("limits.value"));
    }

    // And back. The first one has less memory for bodies than the cluster allows.
    files.restart(&mut cluster, 0, "limits: { value: 1MiB, bodies: 4MiB }").await;
    wait_agreed(&cluster, 16 * MIB).await;
    lead(&cluster, 0).await;
    assert!(is_taken(&cluster, 1, LARGE).await, "the leader follows what is agreed on");
    assert!(is_taken(&cluster, 0, 2 * MIB).await);
    let (status, refused) = put(&cluster, 0, "a", LARGE).await;
    assert!(status == 413 && refused.contains("limits.bodies"), "{status}: {refused}");
    // It follows with what it says itself, too, and after a loss of all.
    cluster.nodes[1].kill();
    assert!(is_taken(&cluster, 2, LARGE).await);
    cluster.nodes[0].kill();
    cluster.nodes[2].kill();
    files.write(&cluster, 1, small);
    for node in &mut cluster.nodes {
        node.start();
    }
    cluster.wait_ready_all().await;
    assert!(is_taken(&cluster, 1, LARGE).await);
    files.restart(&mut cluster, 2, small).await;
    wait_agreed(&cluster, MIB).await;
    for node in 0..3 {
        assert!(!is_taken(&cluster, node, MIB + 1).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lease_reads_are_answered_whether_or_not_leases_count() {
    let lease = "reads: { lease: true }";
    let mut cluster = Cluster::build(3, "");
    let files = Files::of(&cluster);
    for node in 0..3 {
        files.write(&cluster, node, lease);
        cluster.nodes[node].start();
    }
    cluster.wait_ready_all().await;
    wait_agreed(&cluster, MIB).await;
    let other = "reads: { lease: true }\nraft: { electionTimeout: 700ms }";
    for (node, own) in [(1, other), (2, "reads: { lease: false }"), (0, lease)] {
        files.restart(&mut cluster, node, own).await;
        let put = cluster.put(node, "key", own).await.unwrap();
        assert!(matches!(put, 201 | 204), "{put}: {}", cluster.logs());
        for asked in 0..3 {
            let found = cluster.get_as(asked, "key", "lease").await;
            match asked == 2 && node != 1 {
                // Its own configuration does not allow them.
                true => assert!(found.unwrap_err().contains("lease-reads-off")),
                false => assert_eq!(found, Ok(Some(own.to_owned())), "{}", cluster.logs()),
            }
        }
    }
    let told = warnings(&cluster, 1).await;
    let differs = "raft.electionTimeout is 700 ms here, and the cluster has agreed on 500 ms";
    assert!(told.contains(differs), "{told}");
    let told = warnings(&cluster, 2).await;
    assert!(
        told.contains("reads.lease is false here, and the cluster has agreed on true"),
        "{told}"
    );
}
