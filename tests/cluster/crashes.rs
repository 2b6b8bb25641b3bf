//! `kill -9` under load: no acknowledged write is lost, and the cluster goes on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::harness::{Cluster, PATIENCE, client};

/// Writers that each set keys of their own, one after the other, over all nodes in turn; they stop when
/// told and say how many of their writes were acknowledged, by number.
struct Load {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
    writers: Vec<tokio::task::JoinHandle<Vec<u64>>>,
}

impl Load {
    fn start(cluster: &Cluster, writers: u64) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let acknowledged = Arc::new(AtomicU64::new(0));
        let ports: Vec<u16> = cluster.nodes.iter().map(|node| node.http_port).collect();
        let writers = (0..writers).map(|writer| {
            let (stop, acknowledged, ports) = (stop.clone(), acknowledged.clone(), ports.clone());
            tokio::spawn(async move {
                let http = client();
                let mut done = Vec::new();
                let mut number = 0;
                while !stop.load(Ordering::Relaxed) {
                    let port = ports[usize::try_from(number + writer).unwrap() % ports.len()];
                    let url = format!("http://127.0.0.1:{port}/v1/kv/load/{writer}/{number}");
                    let put = http.put(url).header("konsen-timeout", "2s");
                    match put.body(format!("{writer}-{number}")).send().await {
                        Ok(answer) if answer.status().is_success() => {
                            done.push(number);
                            acknowledged.fetch_add(1, Ordering::Relaxed);
                        }
                        // Refused or unknown: another number, so that each acknowledged one is certain.
                        Ok(_) => {}
                        Err(_) => tokio::time::sleep(Duration::from_millis(2)).await,
                    }
                    number += 1;
                }
                done
            })
        });
        let writers = writers.collect();
        Load { stop, acknowledged, writers }
    }

    fn count(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// Waits until so many more writes were acknowledged; how long that took.
    async fn progress(&self, more: u64, cluster: &Cluster) -> Duration {
        let (from, began) = (self.count(), Instant::now());
        while self.count() < from + more {
            assert!(began.elapsed() < PATIENCE, "writes stopped\n{}", cluster.logs());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        began.elapsed()
    }

    async fn finish(self) -> Vec<(usize, Vec<u64>)> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Vec::new();
        for (writer, task) in self.writers.into_iter().enumerate() {
            all.push((writer, task.await.unwrap()));
        }
        all
    }
}

/// Reads every acknowledged write back, from every node.
async fn all_there(cluster: &Cluster, written: &[(usize, Vec<u64>)]) {
    for node in 0..cluster.nodes.len() {
        // One linearizable read, then the node's own state: it has everything from before.
        cluster.wait_ready(node).await;
        for (writer, numbers) in written {
            for number in numbers {
                let url = format!("/v1/kv/load/{writer}/{number}?consistency=stale");
                let answer = cluster.http.get(cluster.url(node, &url)).send().await.unwrap();
                assert_eq!(answer.status(), 200, "node{} lost {writer}/{number}", node + 1);
                assert_eq!(answer.text().await.unwrap(), format!("{writer}-{number}"));
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killing_every_node_in_turn_under_load_loses_no_acknowledged_write() {
    let mut cluster = Cluster::start(3).await;
    let load = Load::start(&cluster, 8);
    load.progress(200, &cluster).await;
    let mut longest = Duration::ZERO;
    for round in 0..2 {
        for node in 0..3 {
            cluster.nodes[node].kill();
            longest = longest.max(load.progress(100, &cluster).await);
            cluster.nodes[node].start();
            cluster.wait_ready(node).await;
            load.progress(50, &cluster).await;
            eprintln!("round {round}: node{} killed and back", node + 1);
        }
        let leader = cluster.wait_leader().await;
        cluster.nodes[leader].kill();
        longest = longest.max(load.progress(100, &cluster).await);
        cluster.nodes[leader].start();
        cluster.wait_ready(leader).await;
    }
    let written = load.finish().await;
    let count: usize = written.iter().map(|(_, numbers)| numbers.len()).sum();
    eprintln!("{count} acknowledged writes; 100 more after a kill took at most {longest:?}");
    all_there(&cluster, &written).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_nodes_killed_at_once_lose_no_acknowledged_write() {
    let mut cluster = Cluster::start(3).await;
    for _ in 0..2 {
        let load = Load::start(&cluster, 8);
        load.progress(300, &cluster).await;
        for node in &mut cluster.nodes {
            node.kill();
        }
        let written = load.finish().await;
        for node in &mut cluster.nodes {
            node.start();
        }
        cluster.wait_ready_all().await;
        all_there(&cluster, &written).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_at_a_leader_that_is_gone_does_not_wait_for_its_deadline() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.wait_leader().await;
    let other = (leader + 1) % 3;
    cluster.nodes[leader].signal("STOP");
    // Longer than the test's patience: what answers is that another leads.
    let put = cluster.http.put(cluster.url(other, "/v1/kv/waits")).body("x");
    let put = put.header("konsen-timeout", "5m").timeout(PATIENCE);
    let status = put.send().await.map(|answer| answer.status().as_u16());
    cluster.nodes[leader].signal("CONT");
    // It may have met the new leader at once.
    assert!(matches!(status, Ok(504 | 201)), "{status:?}\n{}", cluster.logs());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_leader_is_replaced_and_answers_nothing_stale_when_it_wakes() {
    pause_the_leader(Cluster::start(3).await, "linearizable").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_does_not_outlast_a_pause() {
    let cluster = Cluster::start_configured(3, "reads:\n  lease: true\n").await;
    pause_the_leader(cluster, "lease").await;
}

async fn pause_the_leader(cluster: Cluster, consistency: &str) {
    let old = cluster.wait_leader().await;
    assert_eq!(cluster.put(old, "paused", "before").await.unwrap(), 201);
    for node in 0..3 {
        let value = cluster.get_as(node, "paused", consistency).await.unwrap();
        assert_eq!(value.as_deref(), Some("before"));
    }
    cluster.nodes[old].signal("STOP");
    let other = (old + 1) % 3;
    let deadline = Instant::now() + PATIENCE;
    loop {
        // The other node forwards to the paused leader until it knows of the new one.
        match cluster.put(other, "paused", "after").await {
            Ok(204) => break,
            answer => assert!(Instant::now() < deadline, "{answer:?}\n{}", cluster.logs()),
        }
    }
    cluster.nodes[old].signal("CONT");
    // Asked at once, it may fail, but it may not answer with what was.
    for _ in 0..50 {
        if let Ok(value) = cluster.get_as(old, "paused", consistency).await {
            assert_eq!(value.as_deref(), Some("after"));
        }
    }
    cluster.wait_ready(old).await;
    let value = cluster.get_as(old, "paused", consistency).await.unwrap();
    assert_eq!(value.as_deref(), Some("after"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_majority_starts_the_cluster_and_the_late_host_joins() {
    let mut cluster = Cluster::build(3, "");
    // Not the first of the file: nobody in particular is needed.
    cluster.nodes[1].start();
    cluster.nodes[2].start();
    cluster.wait_ready(1).await;
    assert_eq!(cluster.put(2, "early", "yes").await.unwrap(), 201);
    cluster.nodes[0].start();
    cluster.wait_ready(0).await;
    assert_eq!(cluster.get(0, "early").await.unwrap().as_deref(), Some("yes"));
    // It counts as any other: one of the first two may go now.
    cluster.nodes[1].kill();
    cluster.wait_ready(0).await;
    assert_eq!(cluster.put(0, "late", "yes").await.unwrap(), 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wiped_disk_is_not_let_back_in_under_the_old_name() {
    let mut cluster = Cluster::start(3).await;
    assert_eq!(cluster.put(0, "kept", "yes").await.unwrap(), 201);
    cluster.nodes[2].kill();
    std::fs::remove_dir_all(cluster.nodes[2].home.join("data")).unwrap();
    cluster.nodes[2].start();
    let deadline = Instant::now() + PATIENCE;
    while !cluster.nodes[2].log().contains("data directory") || !refused(&cluster.nodes[2].log()) {
        assert!(Instant::now() < deadline, "no refusal in the log\n{}", cluster.logs());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // The others go on, and the wiped one makes no majority with either of them.
    assert_eq!(cluster.put(0, "kept", "still").await.unwrap(), 204);
    cluster.nodes[1].kill();
    let url = cluster.url(0, "/v1/kv/kept");
    let answer = cluster.http.put(url).header("konsen-timeout", "2s").body("no").send().await;
    assert!(answer.unwrap().status().is_server_error());
}

fn refused(log: &str) -> bool {
    log.contains("identity")
}
