//! First starts that are interrupted: one cluster comes of them, as soon as a majority stays up.

use std::fs;
use std::time::{Duration, Instant};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::Value;

use crate::harness::{Cluster, PATIENCE};
use crate::hosts;

/// Gives every host of a new cluster a data directory, one by one, so that nothing is founded; their identities.
async fn with_directories(cluster: &mut Cluster) -> Vec<String> {
    let mut identities = Vec::new();
    for node in 0..cluster.nodes.len() {
        let mut starter = cluster.nodes[node].home.clone();
        starter.push("data/identity");
        cluster.nodes[node].start();
        until("a data directory", cluster, || {
            let identity = fs::read_to_string(&starter).ok();
            identity.is_some_and(|text| text.contains("\"files_made\": true"))
        })
        .await;
        cluster.nodes[node].kill();
        let identity: Value = serde_json::from_slice(&fs::read(&starter).unwrap()).unwrap();
        identities.push(identity["id"].as_str().unwrap().to_owned());
    }
    identities
}

/// Has a host have granted the founding, when power failed.
fn granted(cluster: &Cluster, node: usize, founder: &str) {
    let file = cluster.nodes[node].home.join("data/identity");
    let mut identity: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    identity["founding_grant"] = format!("1:{founder}").into();
    fs::write(file, identity.to_string()).unwrap();
}

async fn until(what: &str, cluster: &Cluster, is: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is() {
        assert!(Instant::now() < deadline, "never {what}:\n{}", cluster.logs());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Waits until all serve, and makes sure that they are one cluster.
async fn is_one(cluster: &Cluster) {
    cluster.wait_ready_all().await;
    assert!(matches!(cluster.put(0, "k", "v").await, Ok(201)));
    let mut ids = Vec::new();
    for node in 0..cluster.nodes.len() {
        assert_eq!(cluster.get(node, "k").await.unwrap().as_deref(), Some("v"));
        ids.push(cluster.status(node).await.unwrap()["cluster_id"].clone());
    }
    assert!(ids[0].is_string() && ids.iter().all(|id| *id == ids[0]), "{ids:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn grants_that_were_split_bind_nobody() {
    let mut cluster = hosts::found(4, "");
    let ids = with_directories(&mut cluster).await;
    for (node, founder) in [(0, 0), (1, 0), (2, 2), (3, 2)] {
        granted(&cluster, node, &ids[founder]);
    }
    cluster.nodes.iter_mut().for_each(crate::harness::Node::start);
    is_one(&cluster).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_a_majority_chose_founds_it_though_another_comes_first_by_name() {
    let mut cluster = hosts::found(3, "");
    let ids = with_directories(&mut cluster).await;
    for node in [1, 2] {
        granted(&cluster, node, &ids[2]);
    }
    // It is not there: the others say what they wait for.
    for node in [0, 1] {
        cluster.nodes[node].start();
    }
    until("told whom the others wait for", &cluster, || {
        cluster.logs().contains("one that is not here (node3) may have been chosen to found it")
    })
    .await;
    cluster.nodes[2].start();
    is_one(&cluster).await;
    assert!(cluster.nodes[2].log().contains("founding the cluster"), "{}", cluster.logs());
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_that_are_killed_again_and_again_become_one_cluster_once_they_are_let_be() {
    let mut cluster = hosts::found(5, "");
    let mut chance = StdRng::seed_from_u64(5);
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(6) {
        let node = chance.random_range(0..5);
        if cluster.nodes[node].runs() {
            cluster.nodes[node].kill();
        } else {
            cluster.nodes[node].start();
        }
        let pause = Duration::from_millis(chance.random_range(1..120));
        tokio::time::sleep(pause).await;
    }
    for node in &mut cluster.nodes {
        if !node.runs() {
            node.start();
        }
    }
    is_one(&cluster).await;
}
