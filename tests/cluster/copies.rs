//! Two hosts that run on copies of one data directory.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{Cluster, Node, PATIENCE, konsen};
use crate::hosts::{members, readdress};
use crate::members::named;
use crate::operator::{At, By, Order};
use crate::operators::done;

/// A copy of a node that runs, with its data, to listen elsewhere.
fn copy(cluster: &Cluster, of: usize) -> Node {
    let node = &cluster.nodes[of];
    let to = cluster.dir.path().join("copy");
    assert!(Command::new("cp").arg("-r").args([&node.home, &to]).status().unwrap().success());
    fs::remove_file(to.join("log.txt")).unwrap();
    let mut copy = Node::at(&node.name, to, node.raft_port, node.http_port);
    readdress(&mut copy, &At::free());
    copy
}

async fn until(what: &str, cluster: &Cluster, mut is: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is().await {
        assert!(Instant::now() < deadline, "never {what}:\n{}", cluster.logs());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn is_at(cluster: &Cluster, asked: usize, node: usize) -> bool {
    let (now, at) = (members(cluster, asked).await, At::of(&cluster.nodes[node]));
    let own = named(&now, &cluster.nodes[node].name);
    own["raft_address"] == json!(at.raft) && own["http_address"] == json!(at.http)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_runs_is_refused_and_told_of_and_moves_nobody() {
    let cluster = crate::hosts::start(3, "").await;
    done(&cluster, By::Http, 0, &Order::transfer("node1")).await;
    let before = cluster.status(0).await.unwrap()["term"].clone();
    let mut copy = copy(&cluster, 0);
    copy.start();
    let told = "two hosts run with the identity of \"node1\"";
    for node in [1, 2] {
        until("warned of", &cluster, async || {
            let status = cluster.status(node).await.unwrap();
            status["warnings"].to_string().contains("two hosts run with the identity of")
        })
        .await;
        // The log is written by a thread of its own.
        until("told by its log", &cluster, async || cluster.nodes[node].log().contains(told)).await;
    }
    until("told itself", &cluster, async || copy.log().contains(told)).await;
    let listed = konsen().args(["member", "list", "--endpoints", &cluster.url(1, "")]).output();
    let said = String::from_utf8_lossy(&listed.unwrap().stderr).into_owned();
    assert!(said.contains(told), "{said}");
    // It disturbs nobody.
    for node in 0..3 {
        cluster.wait_ready(node).await;
    }
    assert_eq!(cluster.status(0).await.unwrap()["term"], before);
    copy.kill();
    // Whoever leads looks where everybody is.
    done(&cluster, By::Http, 0, &Order::transfer("node2")).await;
    let looked = Instant::now() + Duration::from_secs(4);
    while Instant::now() < looked {
        for asked in 0..3 {
            assert!(is_at(&cluster, asked, 0).await, "{}", members(&cluster, asked).await);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// A host that is killed and started again elsewhere is let in although its old connections are not known to be dead.
#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_was_killed_comes_back_elsewhere_at_once() {
    let mut cluster = crate::hosts::start(3, "").await;
    // Who leads is not killed, so that nobody has to be elected.
    done(&cluster, By::Http, 0, &Order::transfer("node2")).await;
    for node in [0, 2] {
        cluster.nodes[node].kill();
        readdress(&mut cluster.nodes[node], &At::free());
        cluster.nodes[node].start();
        let begun = Instant::now();
        cluster.wait_ready(node).await;
        println!("ready after {:?}", begun.elapsed());
        for asked in 0..3 {
            until("known where it is", &cluster, async || is_at(&cluster, asked, node).await).await;
        }
        let status = cluster.status(1).await.unwrap();
        assert_eq!(status["warnings"], Value::Array(Vec::new()), "{}", cluster.logs());
    }
    // And at the same address nothing has to be found out.
    cluster.nodes[0].kill();
    cluster.nodes[0].start();
    let begun = Instant::now();
    cluster.wait_ready(0).await;
    let ready = begun.elapsed();
    println!("ready after {ready:?}");
    // Sooner than a silence of its old connections would tell anything.
    assert!(ready < Duration::from_millis(1500), "{ready:?}\n{}", cluster.logs());
    assert!(!cluster.logs().contains("two hosts run"), "{}", cluster.logs());
}
