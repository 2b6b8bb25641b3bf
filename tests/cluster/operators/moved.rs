//! Hosts that listen elsewhere from now on.

use serde_json::json;

use crate::harness::Cluster;
use crate::hosts::{edit, readdress};
use crate::members::{named, wait_members};
use crate::operator::At;
use crate::prober::Prober;

/// Everybody is known where it listens, to everybody.
async fn all_are_known(cluster: &Cluster) {
    for asked in 0..cluster.nodes.len() {
        cluster.wait_ready(asked).await;
        wait_members(cluster, asked, "everybody is known where it is", |members| {
            cluster.nodes.iter().all(|node| {
                let (own, at) = (named(members, &node.name), At::of(node));
                own["raft_address"] == json!(at.raft) && own["http_address"] == json!(at.http)
            })
        })
        .await;
    }
}

/// Two nodes exchange their addresses; of three voters they are a majority, of five they are not.
async fn two_are_swapped(size: usize) {
    let mut cluster = crate::hosts::start(size, "").await;
    let mut prober = Prober::start(&cluster);
    let (a, b) = (size - 2, size - 1);
    for node in [a, b] {
        assert!(cluster.nodes[node].terminate().success());
    }
    let (at_a, at_b) = (At::of(&cluster.nodes[a]), At::of(&cluster.nodes[b]));
    let swapped = [
        (at_a.raft.clone(), at_b.raft.clone()),
        (at_b.raft, at_a.raft),
        (at_a.http.clone(), at_b.http.clone()),
        (at_b.http, at_a.http),
    ];
    let ports = |cluster: &Cluster, node: usize| {
        (cluster.nodes[node].raft_port, cluster.nodes[node].http_port)
    };
    let (ports_a, ports_b) = (ports(&cluster, a), ports(&cluster, b));
    for (node, ports) in [(a, ports_b), (b, ports_a)] {
        edit(&cluster.nodes[node], &swapped);
        (cluster.nodes[node].raft_port, cluster.nodes[node].http_port) = ports;
    }
    for node in [a, b] {
        cluster.nodes[node].start();
    }
    prober.follow(&cluster);
    all_are_known(&cluster).await;
    // The others do not need their files for it.
    for node in 0..size {
        assert!(cluster.nodes[node].terminate().success());
        cluster.nodes[node].start();
        cluster.wait_ready(node).await;
    }
    all_are_known(&cluster).await;
    prober.end(&cluster, &(0..size).collect::<Vec<_>>()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_of_three_have_each_others_addresses() {
    two_are_swapped(3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_of_five_have_each_others_addresses() {
    two_are_swapped(5).await;
}

/// All hosts get other addresses at once, which all files list.
#[tokio::test(flavor = "multi_thread")]
async fn a_whole_cluster_moves_at_once() {
    let mut cluster = crate::hosts::start(3, "").await;
    let mut prober = Prober::start(&cluster);
    prober.until_served(&cluster).await;
    let mut changes = Vec::new();
    let mut places = Vec::new();
    for node in &mut cluster.nodes {
        assert!(node.terminate().success());
        let (before, at) = (At::of(node), At::free());
        changes.extend([(before.raft, at.raft.clone()), (before.http, at.http.clone())]);
        places.push(at);
    }
    for (node, at) in cluster.nodes.iter_mut().zip(&places) {
        edit(node, &changes);
        readdress(node, at);
        node.start();
    }
    prober.follow(&cluster);
    all_are_known(&cluster).await;
    prober.end(&cluster, &[0, 1, 2]).await;
}

/// One host after the other, and every file says where its own host is, and nothing of the others.
#[tokio::test(flavor = "multi_thread")]
async fn a_whole_cluster_moves_one_host_after_the_other() {
    let mut cluster = crate::hosts::start(3, "").await;
    let mut prober = Prober::start(&cluster);
    for node in 0..3 {
        assert!(cluster.nodes[node].terminate().success());
        readdress(&mut cluster.nodes[node], &At::free());
        cluster.nodes[node].start();
        prober.follow(&cluster);
        all_are_known(&cluster).await;
    }
    prober.was_served(&cluster);
    // What all files say of others is out of date now.
    for node in &mut cluster.nodes {
        assert!(node.terminate().success());
    }
    for node in &mut cluster.nodes {
        node.start();
    }
    all_are_known(&cluster).await;
    prober.end(&cluster, &[0, 1, 2]).await;
}
