//! A release and the next one in one cluster: two real builds.
//!
//! `ci/test` builds the second one, with the cargo feature `next-level`, and names it in `KONSEN_NEXT`; without that there is
//! nothing to do here. By hand:
//!
//! ```text
//! cargo build --locked --features next-level && cp target/debug/konsen /tmp/next
//! KONSEN_NEXT=/tmp/next cargo test --locked --test cluster upgrade -- --nocapture
//! ```

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{Cluster, Node, PATIENCE, free_ports, konsen};

/// The highest feature level of this release, and of the next one.
const OLD: u64 = 2;
const NEW: u64 = 3;

/// The next release.
fn next_release() -> Option<PathBuf> {
    let next = std::env::var_os("KONSEN_NEXT").map(PathBuf::from);
    if next.is_none() {
        eprintln!("KONSEN_NEXT names no next release: nothing to test");
    }
    next
}

/// What `konsen` prints, in the folder where the authority is.
fn run(cluster: &Cluster, arguments: &[&str]) -> String {
    let endpoints: Vec<String> = cluster.nodes.iter().map(|node| node.url("")).collect();
    let output = konsen()
        .current_dir(cluster.dir.path())
        .args(arguments)
        .args(["--endpoints", &endpoints.join(",")])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {said}\n{}", cluster.logs());
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Restarts a node as an operator does, with another release.
async fn restart(cluster: &mut Cluster, node: usize, program: Option<&Path>) {
    assert!(cluster.nodes[node].terminate().success());
    cluster.nodes[node].program = program.map(Path::to_path_buf);
    cluster.nodes[node].start();
    cluster.wait_ready(node).await;
}

/// The cluster's level as a node has it, and the highest that the node knows.
async fn features(cluster: &Cluster, node: usize) -> Option<(u64, u64)> {
    let status = cluster.status(node).await?;
    let features = &status["features"];
    Some((features["level"].as_u64()?, features["highest"].as_u64()?))
}

async fn cluster_features(cluster: &Cluster, node: usize) -> Value {
    let answer = cluster.http.get(cluster.url(node, "/v1/cluster")).send().await.unwrap();
    answer.json::<Value>().await.unwrap()["features"].clone()
}

async fn wait_level(cluster: &Cluster, wanted: u64) -> Duration {
    let began = Instant::now();
    for node in 0..cluster.nodes.len() {
        while features(cluster, node).await.is_none_or(|(level, _)| level != wanted) {
            assert!(began.elapsed() < PATIENCE, "node{}: {}", node + 1, cluster.logs());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    began.elapsed()
}

/// The level is that for as long as a raise would take, several times over.
async fn stays(cluster: &Cluster, level: u64) {
    let until = Instant::now() + Duration::from_secs(4);
    while Instant::now() < until {
        for node in 0..cluster.nodes.len() {
            let features = features(cluster, node).await;
            assert!(features.is_none_or(|now| now.0 == level), "{features:?}: {}", cluster.logs());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn serves(cluster: &Cluster, key: &str) {
    for node in 0..cluster.nodes.len() {
        let value = format!("by node{}", node + 1);
        let put = cluster.put(node, key, &value).await.unwrap();
        assert!(put == 201 || put == 204, "{put}: {}", cluster.logs());
        for other in 0..cluster.nodes.len() {
            assert_eq!(cluster.get(other, key).await, Ok(Some(value.clone())));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_upgrade_raises_the_level_with_the_last_node_and_not_before() {
    let Some(next) = next_release() else { return };
    let mut cluster = Cluster::start(3).await;
    // What this release knows.
    wait_level(&cluster, OLD).await;
    serves(&cluster, "old").await;
    restart(&mut cluster, 0, Some(&next)).await;
    stays(&cluster, OLD).await;
    assert_eq!(features(&cluster, 0).await, Some((OLD, NEW)));
    assert_eq!(features(&cluster, 1).await, Some((OLD, OLD)));
    let held = cluster_features(&cluster, 0).await;
    let raised_by = env!("CARGO_PKG_VERSION");
    let expected =
        json!({"level": OLD, "raised_by": raised_by, "held_back_by": ["node2", "node3"]});
    assert_eq!(held, expected);
    let listed = run(&cluster, &["member", "list"]);
    assert!(listed.contains("at feature level 2") && listed.contains("node2, node3"), "{listed}");
    serves(&cluster, "mixed").await;

    // The way back.
    restart(&mut cluster, 0, None).await;
    assert_eq!(features(&cluster, 0).await, Some((OLD, OLD)));
    serves(&cluster, "mixed").await;

    for node in 0..3 {
        restart(&mut cluster, node, Some(&next)).await;
        if node < 2 {
            serves(&cluster, "mixed").await;
        }
    }
    let took = wait_level(&cluster, NEW).await;
    eprintln!("the level was raised {took:?} after the last node was ready");
    let raised = cluster_features(&cluster, 0).await;
    assert_eq!(raised, json!({"level": NEW, "raised_by": raised_by}));
    let shown = run(&cluster, &["status"]);
    assert!(shown.contains("at feature level 3, raised by konsen "), "{shown}");
    let committed = "a command of the next release is committed";
    let until = Instant::now() + PATIENCE;
    while !cluster.nodes.iter().any(|node| node.log().contains(committed)) {
        assert!(Instant::now() < until, "{}", cluster.logs());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    serves(&cluster, "new").await;
    no_way_back(&mut cluster, &next).await;
    an_old_host_is_kept_out(&mut cluster, &next).await;
}

/// The older release does not start on a directory of the higher level.
async fn no_way_back(cluster: &mut Cluster, next: &Path) {
    let node = &mut cluster.nodes[2];
    assert!(node.terminate().success());
    node.program = None;
    let before = node.log().len();
    node.start();
    let ended = node.wait();
    let said = node.log()[before..].to_owned();
    assert!(!ended.success() && said.contains("written by a newer release"), "{said}");
    eprintln!("the old release on a new directory: {}", said.lines().last().unwrap_or_default());
    // It has changed nothing.
    node.program = Some(next.to_path_buf());
    node.start();
    cluster.wait_ready(2).await;
    serves(cluster, "after").await;
}

/// A host of the older release that joins hears why it is not let in, and is as good as any with the newer one.
async fn an_old_host_is_kept_out(cluster: &mut Cluster, next: &Path) {
    let (raft_port, http_port) = free_ports(1)[0];
    let (raft, http) = (format!("127.0.0.1:{raft_port}"), format!("127.0.0.1:{http_port}"));
    let words = ["member", "add", "node4", "--raft-address", &raft, "--http-address", &http];
    run(cluster, &[&words[..], &["--config", "cluster.yml"]].concat());
    let home = cluster.dir.path().join("output").join("node4");
    let mut late = Node::at("node4", home, raft_port, http_port);
    late.start();
    cluster.nodes.push(late);
    let told = "this cluster is at feature level 3 (konsen ";
    let until = Instant::now() + PATIENCE;
    loop {
        let ready = cluster.http.get(cluster.url(3, "/readyz")).send().await;
        let ready = match ready {
            Ok(ready) => ready.text().await.unwrap_or_default(),
            Err(error) => error.to_string(),
        };
        let status = cluster.status(3).await.unwrap_or_default();
        let log = cluster.nodes[3].log();
        if [&ready, &status["warnings"].to_string(), &log].iter().all(|said| said.contains(told)) {
            eprintln!("an old host that joins: {ready}");
            assert_eq!(status["applied"], 0);
            break;
        }
        assert!(Instant::now() < until, "{ready}\n{status}\n{}", cluster.logs());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(cluster.nodes[3].terminate().success());
    cluster.nodes[3].program = Some(next.to_path_buf());
    cluster.nodes[3].start();
    cluster.wait_ready(3).await;
    wait_level(cluster, NEW).await;
    serves(cluster, "four").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_level_that_is_held_is_raised_once_it_is_let_go() {
    let Some(next) = next_release() else { return };
    let mut cluster = Cluster::build(1, "features: {hold: 1}\n");
    cluster.nodes[0].program = Some(next);
    cluster.nodes[0].start();
    cluster.wait_ready(0).await;
    stays(&cluster, 1).await;
    assert_eq!(features(&cluster, 0).await, Some((1, NEW)));
    assert!(cluster.nodes[0].terminate().success());
    let file = cluster.nodes[0].home.join("cluster.yml");
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.contains("hold: 1"), "{text}");
    std::fs::write(&file, text.replace("hold: 1", "hold: off")).unwrap();
    cluster.nodes[0].start();
    wait_level(&cluster, NEW).await;
}
