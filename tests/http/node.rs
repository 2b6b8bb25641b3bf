//! `/v1/status`, `/v1/cluster`, `/healthz`, `/readyz`.

use std::time::{Duration, Instant};

use crate::raw::Server;

#[tokio::test]
async fn a_node_says_how_it_is() {
    let server = Server::start().await;
    let revision = server.send_body("PUT /v1/kv/a", &[], "x").revision();
    let status = server.send("GET /v1/status", &[]);
    assert_eq!((status.status, status.revision()), (200, revision));
    let status = status.json();
    assert_eq!(status["name"], "node1");
    assert_eq!(status["role"], "leader");
    assert_eq!(status["leader"], "node1");
    assert_eq!(status["revision"], revision);
    assert!(status["term"].as_u64().unwrap() >= 1);
    assert!(status["commit"].as_u64().unwrap() >= 1);
    assert!(status["applied"].as_u64().unwrap() <= status["commit"].as_u64().unwrap());
    assert!(status["version"].as_str().unwrap().starts_with(env!("CARGO_PKG_VERSION")));
    let highest = &status["features"]["highest"];
    assert!(status["features"]["level"].as_u64() <= highest.as_u64() && highest.is_u64());
    for name in ["log_bytes", "state_bytes", "uptime_ms"] {
        assert!(status[name].is_u64(), "{name}");
    }

    // It verifies its state's file beside that, and says when it has.
    let deadline = Instant::now() + Duration::from_secs(60);
    let verification = loop {
        let status = server.send("GET /v1/status", &[]).json();
        let verification = status["verification"].clone();
        assert!(verification["verified_bytes"].as_u64() <= verification["of_bytes"].as_u64());
        if verification["ended"].is_string() {
            break verification;
        }
        assert!(verification["seconds_left"].is_u64(), "{verification}");
        assert!(Instant::now() < deadline, "{verification}");
    };
    assert_eq!(verification["verified_bytes"], verification["of_bytes"]);
    assert!(
        verification["verified_bytes"].as_u64().unwrap() > 0
            && verification.get("seconds_left").is_none()
    );

    let cluster = server.send("GET /v1/cluster", &[]).json();
    assert_eq!(cluster["leader"], "node1");
    let members = cluster["members"].as_array().unwrap();
    assert_eq!(members.len(), 1);
    assert_eq!(members[0]["name"], "node1");
    assert_eq!(members[0]["voter"], true);
    assert_eq!(members[0]["role"], "leader");
    assert_eq!(&members[0]["features"], highest);
    assert!(cluster["features"]["level"].is_u64(), "{cluster}");
    assert!(members[0]["http_address"].as_str().unwrap().ends_with(&server.port.to_string()));

    for path in ["/healthz", "/readyz"] {
        let answer = server.send(&format!("GET {path}"), &[]);
        assert_eq!((answer.status, answer.text()), (200, "ok\n"));
        let head = server.send(&format!("HEAD {path}"), &[]);
        assert_eq!((head.status, head.text()), (200, ""));
    }
}

#[tokio::test]
async fn a_node_without_a_majority_says_so_and_applies_nothing() {
    let mut cluster = crate::harness::Cluster::start(3).await;
    cluster.put(0, "before", "x").await.unwrap();
    cluster.nodes[1].kill();
    cluster.nodes[2].kill();
    let server = Server { port: cluster.nodes[0].http_port, cluster };
    let timeout = ["Konsen-Timeout: 1500ms"];
    let read = server.send("GET /v1/kv/before", &timeout);
    assert!(matches!(read.status, 503 | 504), "{read:?}");
    assert_eq!(read.json()["outcome"], "not_applied");
    let write = server.send_body("PUT /v1/kv/lost", &timeout, "x");
    match write.status {
        503 => assert_eq!(write.json()["outcome"], "not_applied"),
        504 => assert_eq!(write.json()["outcome"], "unknown"),
        _ => panic!("{write:?}"),
    }
    let ready = server.send("GET /readyz", &[]);
    ready.problem(503, "not-ready");
    assert_eq!(ready.header("retry-after"), Some("1"));
    let ready = server.send("GET /ready", &[]);
    assert_eq!(ready.status, 503);
    assert_eq!(ready.json()["status"], "not ready");
    assert!(!ready.json()["reason"].as_str().unwrap().is_empty());
    // What this node has, it still gives to those who ask for no more.
    let stale = server.send("GET /v1/kv/before?consistency=stale", &[]);
    assert_eq!((stale.status, stale.text()), (200, "x"));
    assert_eq!(server.send("GET /healthz", &[]).status, 200);
}
