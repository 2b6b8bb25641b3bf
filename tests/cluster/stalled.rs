//! A disk that answers nothing: an ext4 in a file, frozen by `fsfreeze` while its node leads.
//!
//! Needs root, `mkfs.ext4` and loop devices; says so and does nothing where they are missing.

use std::time::{Duration, Instant};

use crate::disks::Freezable;
use crate::harness::{Cluster, PATIENCE};

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_whose_disk_answers_nothing_hands_over() {
    let mut cluster = Cluster::build(3, "");
    let Some(disk) = Freezable::mount(&cluster.nodes[0].home) else {
        eprintln!("skipped: mounting an ext4 needs root, mkfs.ext4 and loop devices");
        return;
    };
    cluster.nodes[0].env.push(("KONSEN_DATA".into(), "disk/data".into()));
    cluster.nodes.iter_mut().for_each(|node| node.start());
    cluster.wait_ready_all().await;
    let url = cluster.url(1, "/v1/cluster/leader");
    let moved = cluster.http.post(url).body(r#"{"to":"node1"}"#).send().await.unwrap();
    assert_eq!(moved.status(), 200);

    if !disk.freeze() {
        eprintln!("skipped: the file system cannot be frozen");
        return;
    }
    let frozen = Instant::now();
    // The others make it durable; the leader cannot tell, since its own disk stands still.
    let put = cluster.put(1, "key", "x").await;
    let mut leader = 0;
    while leader == 0 && frozen.elapsed() < PATIENCE {
        for node in [1, 2] {
            let status = cluster.status(node).await.unwrap();
            if status["role"] == "leader" {
                leader = node;
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let took = frozen.elapsed();
    let again = cluster.put(2, "key", "y").await;
    disk.thaw();
    assert!(leader > 0 && took < Duration::from_secs(5), "{took:?}\n{}", cluster.logs());
    assert!(matches!(put.unwrap(), 201 | 504));
    assert_eq!(again.unwrap(), 204, "the first write is there");
    cluster.wait_ready_all().await;
    assert_eq!(cluster.get(0, "key").await.unwrap().as_deref(), Some("y"));
    drop(disk);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_log_gets_no_further_is_not_healthy_until_it_does() {
    let mut cluster = Cluster::build(1, "");
    let Some(disk) = Freezable::mount(&cluster.nodes[0].home) else {
        eprintln!("skipped: mounting an ext4 needs root, mkfs.ext4 and loop devices");
        return;
    };
    cluster.nodes[0].env.push(("KONSEN_DATA".into(), "disk/data".into()));
    cluster.nodes[0].start();
    cluster.wait_ready_all().await;
    if !disk.freeze() {
        eprintln!("skipped: the file system cannot be frozen");
        return;
    }
    let url = cluster.url(0, "/v1/kv/key");
    let put = cluster.http.put(url).header("konsen-timeout", "1s").body("x").send().await.unwrap();
    assert_eq!(put.status(), 504);
    let mut why = String::new();
    for wanted in [503, 200] {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = cluster.http.get(cluster.url(0, "/healthz")).send().await.unwrap();
            let (status, text) = (answer.status().as_u16(), answer.text().await.unwrap());
            if status == wanted {
                why = if wanted == 503 { text } else { why };
                break;
            }
            assert!(Instant::now() < deadline, "never {wanted}: {text}\n{}", cluster.logs());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        disk.thaw();
    }
    assert!(why.contains("a commit of the log has taken"), "{why}");
}
