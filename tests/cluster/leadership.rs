//! `POST /v1/cluster/leader` and `konsen leader transfer`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use crate::harness::{Cluster, konsen};

async fn transfer(cluster: &Cluster, asked: usize, body: &str) -> (u16, Value) {
    let url = cluster.url(asked, "/v1/cluster/leader");
    let answer = cluster.http.post(url).body(body.to_owned()).send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn leadership_moves_to_whom_an_operator_names_and_no_client_sees_an_error() {
    let cluster = Arc::new(Cluster::start(3).await);
    let stop = Arc::new(AtomicBool::new(false));
    // One client at each node writes all the time.
    let clients: Vec<_> = (0..3)
        .map(|node| {
            let (cluster, stop) = (cluster.clone(), stop.clone());
            tokio::spawn(async move {
                let mut written = 0;
                while !stop.load(Ordering::Relaxed) {
                    let status = cluster.put(node, &format!("key{node}"), "x").await.unwrap();
                    assert!(matches!(status, 201 | 204), "{status}");
                    written += 1;
                }
                written
            })
        })
        .collect();
    for round in 0..6 {
        let leader = cluster.wait_leader().await;
        let to = (leader + 1 + round % 2) % 3;
        let name = cluster.nodes[to].name.clone();
        // Whichever node is asked passes it on.
        let (status, answer) =
            transfer(&cluster, round % 3, &json!({ "to": name }).to_string()).await;
        assert_eq!(
            (status, &answer["leader"]),
            (200, &json!(name)),
            "{answer}\n{}",
            cluster.logs()
        );
        // Who leads already is left where it is.
        let (status, again) =
            transfer(&cluster, round % 3, &json!({ "to": name }).to_string()).await;
        assert_eq!((status, again), (200, answer));
    }
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        assert!(client.await.unwrap() > 0);
    }
    // Without a name it is anybody but the one that leads.
    let (_, before) = transfer(&cluster, 0, r#"{"to":"node1"}"#).await;
    assert_eq!(before["leader"], "node1");
    let (status, answer) = transfer(&cluster, 0, "").await;
    assert_eq!(status, 200, "{answer}");
    assert_ne!(answer["leader"], "node1");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_cannot_lead_is_refused_with_a_reason() {
    let cluster = Cluster::start(1).await;
    let (status, answer) = transfer(&cluster, 0, r#"{"to":"nobody"}"#).await;
    assert_eq!((status, &answer["type"]), (404, &json!("urn:konsen:problem:no-such-member")));
    assert_eq!(answer["detail"], r#""nobody" is no member; the members are node1"#);
    let (status, answer) = transfer(&cluster, 0, "{}").await;
    assert_eq!((status, &answer["type"]), (409, &json!("urn:konsen:problem:cannot-lead")));
    for broken in ["[", r#"{"two":"node1"}"#, r#"{"to":7}"#] {
        let (status, answer) = transfer(&cluster, 0, broken).await;
        assert_eq!((status, &answer["type"]), (400, &json!("urn:konsen:problem:malformed")));
    }
    let run = |arguments: &[&str]| {
        let mut command = konsen();
        command.args(["leader", "transfer", "--endpoints", &cluster.url(0, "")]).args(arguments);
        command.output().unwrap()
    };
    let same = run(&["node1", "-o", "raw"]);
    assert_eq!((same.status.code(), &same.stdout[..]), (Some(0), &b"node1\n"[..]), "{same:?}");
    let refused = run(&["node7"]);
    assert_eq!(refused.status.code(), Some(1));
    let line = String::from_utf8(refused.stderr).unwrap();
    assert!(line.contains("the members are node1"), "{line}");
}
