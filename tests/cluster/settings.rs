//! Nodes whose configurations disagree.

use std::fs;
use std::time::{Duration, Instant};

use crate::harness::{Cluster, client};

/// Two nodes take values of up to 16 MiB, the third of up to 1 MiB: it follows all the same.
#[tokio::test]
async fn a_node_that_takes_smaller_values_takes_larger_ones_from_its_leader() {
    let mut cluster = Cluster::build(3, "limits: { value: 16MiB }\n");
    let file = cluster.nodes[2].home.join("cluster.yml");
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains("16"), "{text}");
    let text: String =
        text.lines()
            .map(|line| {
                if line.contains("value:") { "  value: 1MiB\n".into() } else { format!("{line}\n") }
            })
            .collect();
    fs::write(&file, text).unwrap();
    for node in &mut cluster.nodes {
        node.start();
    }
    cluster.wait_ready_all().await;
    let value = vec![b'x'; 12 << 20];
    for (node, key) in [(0, "a"), (1, "b")] {
        put(&cluster, node, key, value.clone()).await;
    }
    // With it a majority goes on without the other that takes large values.
    let leader = cluster.wait_leader().await;
    let other = (0..2).find(|node| *node != leader).unwrap();
    cluster.nodes[other].kill();
    put(&cluster, 2, "c", b"small".to_vec()).await;
    cluster.wait_ready(2).await;
    let found = client().get(cluster.url(2, "/v1/kv/a")).send().await.unwrap();
    assert_eq!(found.bytes().await.unwrap().len(), value.len());
    // Its own clients are held to its own limit, and both sides say what differs.
    let larger = vec![b'x'; (1 << 20) + 1];
    let put = client().put(cluster.url(2, "/v1/kv/d")).body(larger).send().await.unwrap();
    assert_eq!(put.status(), 413);
    for node in [leader, 2] {
        let status = cluster.status(node).await.unwrap();
        assert!(status["warnings"].to_string().contains("limits.value is"), "{status}");
        let log = cluster.nodes[node].log();
        assert!(log.contains("limits.value is"), "node{}: {log}", node + 1);
    }
}

/// Writes until it is done: on a busy machine a slow disk can cost the leader its place meanwhile.
async fn put(cluster: &Cluster, node: usize, key: &str, value: Vec<u8>) {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let put = client().put(cluster.url(node, &format!("/v1/kv/{key}"))).body(value.clone());
        let status = put.send().await.map(|answer| answer.status().as_u16());
        match status {
            Ok(201 | 204) => return,
            Ok(503 | 504) | Err(_) if Instant::now() < deadline => {}
            other => panic!("{other:?}: {}", cluster.logs()),
        }
        cluster.wait_leader().await;
    }
}
