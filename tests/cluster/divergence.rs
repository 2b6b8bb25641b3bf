//! A replica whose state is not that of the others.

use std::time::{Duration, Instant};

use bytes::Bytes;
use konsen::kv::{Command, Write};
use konsen::raft::{Entry, Payload};
use konsen::store::{DataDir, IdentityCheck, Log, LogOptions, State, StateOptions};

use crate::harness::{Cluster, Node, PATIENCE};

/// Applies something else at the next entry than what the log says, as a fault of the memory would.
fn lead_astray(node: &Node) {
    let check = IdentityCheck { cluster: "konsen".to_owned(), node: node.name.clone() };
    let data = DataDir::open(&node.home.join("data"), &check).unwrap();
    let state = State::open(&data.state_path(), None, &StateOptions::default()).unwrap();
    let options = LogOptions { cache_bytes: 1 << 20, ..LogOptions::default() };
    let (log, _) = Log::open(&data.log_path(), None, &options).unwrap();
    let next = state.applied().index.next();
    let (_, entries) = log.reader().fetch(next, next, usize::MAX).unwrap().unwrap();
    let id = entries.first().expect("the log goes on after the checkpoint").id;
    let write = Write::put(Bytes::from_static(b"astray"), Bytes::from_static(b"astray"));
    let payload = Payload::Command(Command::new(write).encode());
    state.apply(&[Entry { id, payload }]).unwrap();
    state.write_checkpoint(state.freeze().unwrap()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_differs_from_the_majority_stops_and_is_replaced() {
    let mut cluster = Cluster::start(3).await;
    let astray = (cluster.wait_leader().await + 1) % 3;
    for round in 0..40 {
        cluster.put(0, &format!("key{round}"), "x").await.unwrap();
    }
    cluster.nodes[astray].kill();
    lead_astray(&cluster.nodes[astray]);
    cluster.nodes[astray].start();
    cluster.wait_ready(astray).await;
    // Whoever holds the same goes on; the other one says why it stops, and does so again if it is started again.
    let deadline = Instant::now() + PATIENCE;
    let mut round = 0;
    let status = loop {
        if let Some(status) = cluster.nodes[astray].ended() {
            break status;
        }
        let others = [(astray + 1) % 3, (astray + 2) % 3];
        let status = cluster.put(others[round % 2], &format!("more{round}"), "x").await.unwrap();
        assert_eq!(status, 201);
        round += 1;
        assert!(Instant::now() < deadline, "it was not found\n{}", cluster.logs());
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    assert_eq!(status.code(), Some(1));
    let log = cluster.nodes[astray].log();
    assert!(log.contains("is not that of the majority of the replicas"), "{log}");
    for node in (0..3).filter(|node| *node != astray) {
        cluster.wait_ready(node).await;
    }
    // It is rebuilt from the others.
    let name = cluster.nodes[astray].name.clone();
    let url = cluster.url((astray + 1) % 3, &format!("/v1/cluster/members/{name}/replace"));
    let answer = cluster.http.post(url).send().await.unwrap();
    assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
    std::fs::remove_dir_all(cluster.nodes[astray].home.join("data")).unwrap();
    cluster.nodes[astray].start();
    cluster.wait_ready(astray).await;
    assert_eq!(cluster.get(astray, "astray").await.unwrap(), None);
}
