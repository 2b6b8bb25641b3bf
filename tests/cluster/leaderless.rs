//! Why there is no leader is said wherever somebody looks.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::{Cluster, PATIENCE, konsen};
use crate::hosts;
use crate::members::named;

/// Runs a command against a node; its exit code, standard output and standard error.
fn told(cluster: &Cluster, node: usize, words: &[&str]) -> (i32, String, String) {
    let endpoint = cluster.url(node, "");
    let words = [words, &["--timeout", "1s", "--endpoints", &endpoint]].concat();
    let output = konsen().args(words).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

/// Waits until a node warns of this.
async fn until_warned(cluster: &Cluster, node: usize, of: &str) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let status = cluster.status(node).await.unwrap_or_default();
        let warnings = status["warnings"].as_array().cloned().unwrap_or_default();
        if warnings.iter().any(|warning| warning.as_str().is_some_and(|text| text == of)) {
            return;
        }
        assert!(Instant::now() < deadline, "{of}: {warnings:?}\n{}", cluster.logs());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn row(cluster: &Cluster, asked: usize, name: &str) -> Value {
    let answer = cluster.http.get(cluster.url(asked, "/v1/cluster")).send().await.unwrap();
    let cluster: Value = answer.json().await.unwrap();
    named(&cluster["members"], name).clone()
}

/// Two of three found the cluster and one of them is lost before the third has come for the first time: nobody can
/// lead, and the third, which is there, is not mistaken for one that could help.
#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_was_never_taken_in_is_not_taken_for_a_voter_that_is_here() {
    let mut cluster = hosts::found(3, "");
    for node in [1, 2] {
        cluster.nodes[node].start();
    }
    for node in [1, 2] {
        cluster.wait_ready(node).await;
    }
    cluster.nodes[2].kill();
    let alone = "no leader: 1 of 3 voters is here, 2 are needed; missing: node3 (not connected), node1 (not \
                 connected, and never taken in, which takes a leader); bring node3 back";
    until_warned(&cluster, 1, alone).await;
    cluster.nodes[0].start();
    let because = "no leader: 1 of 3 voters is here, 2 are needed; missing: node3 (not connected), node1 \
                   (connected, but it has never been taken in, which takes a leader); bring node3 back";
    until_warned(&cluster, 1, because).await;
    // Also where nobody has told the host anything but who belongs.
    until_warned(&cluster, 0, because).await;
    let ready = cluster.http.get(cluster.url(1, "/readyz")).send().await.unwrap();
    assert_eq!(ready.status(), 503);
    assert!(ready.text().await.unwrap().contains(because));
    for words in [
        &["put", "a", "1"][..],
        &["get", "a"],
        &["list"],
        &["delete", "a"],
        &["compact", "1"],
        &["member", "remove", "node1"],
        &["leader", "transfer"],
    ] {
        let (code, out, said) = told(&cluster, 1, words);
        assert_eq!(code, 5, "{words:?}: {out}{said}");
        assert!(said.contains(because), "{words:?}: {said}");
        assert!(!said.contains("are the nodes up?"), "{words:?}: {said}");
    }
    for words in [&["status"][..], &["member", "list"]] {
        let (code, out, said) = told(&cluster, 1, words);
        assert_eq!(code, 0, "{words:?}: {out}{said}");
        assert!(said.contains(&format!("warning: {because}")), "{words:?}: {said}");
        let line = out.lines().find(|line| line.starts_with("node1")).unwrap();
        assert!(line.contains("awaited") && line.contains("once taken in"), "{words:?}: {out}");
    }
    let (code, out, said) = told(&cluster, 1, &["status", "-o", "raw"]);
    assert_eq!((code, &*out), (5, ""), "{said}");
    assert!(said.contains("error: no node leads"), "{said}");
    assert_eq!(row(&cluster, 1, "node1").await["awaited"], true);
    for (node, says) in [(1, because.to_owned()), (0, format!("let this node in yet: {because}"))] {
        let deadline = Instant::now() + PATIENCE;
        while !cluster.nodes[node].log().contains(&says) {
            assert!(Instant::now() < deadline, "{says}\n{}", cluster.logs());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    // What it says to do helps.
    cluster.nodes[2].start();
    cluster.wait_ready_all().await;
    hosts::until_it_votes(&cluster, 1, 0).await;
    assert_eq!(row(&cluster, 1, "node1").await["awaited"], false);
    for node in 0..3 {
        assert_eq!(cluster.status(node).await.unwrap()["warnings"], Value::Array(Vec::new()));
    }
}

/// The same, but the host came while the one that is left still led, which began to take it in and lost its place.
#[tokio::test(flavor = "multi_thread")]
async fn a_host_whose_admission_is_not_decided_is_not_taken_for_a_voter_either() {
    let mut cluster = hosts::found(3, "");
    for node in [1, 2] {
        cluster.nodes[node].start();
    }
    for node in [1, 2] {
        cluster.wait_ready(node).await;
    }
    let leader = cluster.wait_leader().await;
    let other = 3 - leader;
    cluster.nodes[other].kill();
    cluster.nodes[0].start();
    let because = format!(
        "no leader: the voters are being changed, so those before and those after it have to agree; before: 1 of 3 \
         voters is here, 2 are needed; missing: {0} (not connected), node1 (connected, but its admission is not \
         decided, which takes a leader); bring {0} back; after: 2 of 3, which is enough",
        cluster.nodes[other].name
    );
    for node in [leader, 0] {
        until_warned(&cluster, node, &because).await;
    }
    let (code, _, said) = told(&cluster, 0, &["put", "a", "1"]);
    assert_eq!((code, said.contains(&because)), (5, true), "{said}");
    assert_eq!(row(&cluster, leader, "node1").await["awaited"], true);
    cluster.nodes[other].start();
    cluster.wait_ready_all().await;
    hosts::until_it_votes(&cluster, 1, 0).await;
}
