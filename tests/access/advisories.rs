//! One test for each public advisory of a comparable store, as it would look here.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::Guarded;
use crate::harness::{Cluster, PATIENCE};

fn app() -> serde_json::Value {
    json!({"rights": [{"prefix": "app/", "may": ["read", "write", "watch"]}]})
}

/// GHSA-xg4h-6gfc-h4m8: a watch from a key on saw all later keys.
#[tokio::test]
async fn what_has_no_end_needs_a_right_without_one() {
    let guarded = Guarded::start(1).await;
    guarded.admin("PUT /v1/kv/app/a", &json!(1)).await;
    guarded.admin("PUT /v1/kv/secret", &json!(2)).await;
    let token = guarded.user("app", &app()).await;
    for (query, allowed) in [
        ("prefix=app/", true),
        ("start=app/&end=app0", true),
        ("start=app/a&end=app/b", true),
        ("start=app/", false),
        ("start=app/&end=b", false),
        ("end=app0", false),
        ("prefix=app", false),
        ("prefix=", false),
        ("", false),
        ("start=secret&end=secret%00", false),
    ] {
        for accept in ["application/json", "application/x-ndjson"] {
            let asked = guarded.ask(0, &token, &format!("GET /v1/kv?{query}"));
            let answer = asked.header("accept", accept).send().await.unwrap();
            let (status, text) = (answer.status(), answer.text().await.unwrap());
            assert_eq!(status.as_u16(), if allowed { 200 } else { 403 }, "{query}: {text}");
            assert!(!text.contains(r#""value":"2""#), "{query}: {text}");
        }
        let (status, _) = guarded.send(0, &token, &format!("DELETE /v1/kv?{query}"), "").await;
        assert!(if allowed { status == 200 } else { matches!(status, 400 | 403) }, "{query}");
    }
    // A cursor says where a listing goes on, not what may be listed.
    for key in ["b1", "b2"] {
        guarded.admin(&format!("PUT /v1/kv/{key}"), &json!(1)).await;
    }
    let (_, page) = guarded.send(0, &guarded.admin, "GET /v1/kv?prefix=b&limit=1", "").await;
    let page: serde_json::Value = serde_json::from_str(&page).unwrap();
    let cursor = page["next"].as_str().unwrap();
    let (status, text) = guarded.send(0, &token, &format!("GET /v1/kv?cursor={cursor}"), "").await;
    assert_eq!(status, 403, "{text}");
}

/// GHSA-rfx7-8mwm-6hgr: nested transactions went round rights.
#[tokio::test]
async fn nested_transactions_ask_for_what_each_of_them_does() {
    let guarded = Guarded::start(1).await;
    guarded.admin("PUT /v1/kv/secret", &json!(2)).await;
    let token = guarded.user("app", &app()).await;
    let get = json!({"get": {"key": "secret"}});
    let put = json!({"put": {"key": "secret", "value": "x"}});
    let delete = json!({"delete": {"prefix": "sec"}});
    let compare = json!({"key": "secret", "compare": "value", "op": "==", "to": "2"});
    let own = json!({"put": {"key": "app/x", "value": "1"}});
    for inner in [&get, &put, &delete] {
        for depth in 0..4 {
            let mut txn = json!({"then": [inner]});
            // In the branch that is not taken, too.
            if depth % 2 == 1 {
                txn = json!({"if": [{"key": "app/x", "compare": "exists", "to": true}], "then": [own], "else": [inner]});
            }
            for _ in 0..depth {
                txn = json!({"then": [{"txn": txn}]});
            }
            let (status, text) = guarded.send(0, &token, "POST /v1/txn", txn.to_string()).await;
            assert_eq!(status, 403, "{txn}: {text}");
        }
    }
    let mut txn = json!({"if": [compare], "then": [own]});
    for _ in 0..3 {
        let (status, text) = guarded.send(0, &token, "POST /v1/txn", txn.to_string()).await;
        assert_eq!(status, 403, "{txn}: {text}");
        txn = json!({"then": [{"txn": txn}]});
    }
    let nested = json!({"then": [{"txn": {"then": [own]}}]});
    let (status, text) = guarded.send(0, &token, "POST /v1/txn", nested.to_string()).await;
    assert_eq!(status, 200, "{text}");
    let (_, text) = guarded.send(0, &guarded.admin, "GET /v1/kv/secret", "").await;
    assert_eq!(text, "2");
}

/// GHSA of previous values and the attachment of leases inside of a transaction.
#[tokio::test]
async fn previous_values_need_the_right_to_read() {
    let guarded = Guarded::start(1).await;
    guarded.admin("PUT /v1/kv/drop/a", &json!("told nobody")).await;
    let role = json!({"rights": [{"prefix": "drop/", "may": ["write"]}]});
    let token = guarded.user("dropper", &role).await;
    let previous = |op: &str, body: serde_json::Value| json!({"then": [{op: body}]}).to_string();
    for body in [
        previous("put", json!({"key": "drop/a", "value": "1", "previous": true})),
        previous("delete", json!({"key": "drop/a", "previous": true})),
        previous("delete", json!({"prefix": "drop/", "previous": true})),
        json!({"then": [{"txn": {"then": [{"put": {"key": "drop/a", "value": "1", "previous": true}}]}}]}).to_string(),
    ] {
        let (status, text) = guarded.send(0, &token, "POST /v1/txn", body).await;
        assert_eq!(status, 403, "{text}");
        assert!(!text.contains("told nobody"), "{text}");
    }
    // A condition tells what is there, too.
    let conditional = guarded.ask(0, &token, "PUT /v1/kv/drop/a").header("if-none-match", "*");
    assert_eq!(conditional.send().await.unwrap().status(), 403);
    let plain = previous("put", json!({"key": "drop/b", "value": "1"}));
    assert_eq!(guarded.send(0, &token, "POST /v1/txn", plain).await.0, 200);
    // There are no leases in this release: whoever names one hears so, and has changed nothing.
    let leased = previous("put", json!({"key": "drop/b", "value": "2", "lease": 7}));
    let (status, text) = guarded.send(0, &token, "POST /v1/txn", leased).await;
    assert!((400..500).contains(&status), "{status} {text}");
}

/// GHSA of the member list, alarms and leases without rights.
#[tokio::test]
async fn the_cluster_is_shown_to_whom_it_is_to_be_shown() {
    let guarded = Guarded::start(1).await;
    let none = guarded.user("none", &json!({})).await;
    let members = guarded.user("members", &json!({"admin": ["members"]})).await;
    for path in [
        "/v1/cluster",
        "/v1/cluster/members",
        "/v1/status",
        "/api/status",
        "/api/keys",
        "/konsen?key=a",
        "/api/kv?key=a",
        "/v1/snapshot",
        "/v1/auth/users",
        "/v1/auth/whoami",
    ] {
        let nobody = guarded.cluster.http.get(guarded.cluster.url(0, path)).send().await.unwrap();
        assert_eq!(nobody.status(), 401, "{path}");
        assert!(nobody.headers().contains_key("www-authenticate"), "{path}");
    }
    for path in ["/v1/cluster", "/v1/cluster/members"] {
        assert_eq!(guarded.send(0, &none, &format!("GET {path}"), "").await.0, 403, "{path}");
        assert_eq!(guarded.send(0, &members, &format!("GET {path}"), "").await.0, 200, "{path}");
    }
    for path in ["/v1/status", "/api/status", "/v1/auth/whoami"] {
        assert_eq!(guarded.send(0, &none, &format!("GET {path}"), "").await.0, 200, "{path}");
    }
    for path in ["/healthz", "/readyz", "/metrics", "/health", "/ready"] {
        let open = guarded.cluster.http.get(guarded.cluster.url(0, path)).send().await.unwrap();
        assert_eq!(open.status(), 200, "{path}");
    }
    for (request, body) in [
        ("GET /v1/snapshot", ""),
        ("POST /v1/compact", r#"{"revision":2}"#),
        ("POST /v1/cluster/leader", "{}"),
        (
            "POST /v1/cluster/members",
            r#"{"name":"node9","raft_address":"127.0.0.1:9","http_address":"127.0.0.1:9"}"#,
        ),
        ("DELETE /v1/cluster/members/node1", ""),
        ("POST /v1/cluster/members/node1/promote", ""),
        ("POST /v1/cluster/members/node1/replace", ""),
        ("POST /v1/cluster/members/undo", ""),
        ("GET /v1/auth/users", ""),
        ("GET /v1/auth/roles", ""),
        ("GET /v1/auth/tokens", ""),
        ("PUT /v1/auth/users/none", r#"{"roles":["admin"]}"#),
        ("PUT /v1/auth/roles/none", r#"{"admin":["auth"]}"#),
        ("PUT /v1/auth/tokens/none", r#"{"user":"admin"}"#),
        ("DELETE /v1/auth/users/admin", ""),
        ("DELETE /v1/auth/roles/members", ""),
        ("DELETE /v1/auth/tokens/root", ""),
    ] {
        let (status, text) = guarded.send(0, &none, request, body).await;
        assert_eq!(status, 403, "{request}: {text}");
    }
    let (status, _) = guarded.send(0, &guarded.admin, "GET /v1/auth/users", "").await;
    assert_eq!(status, 200, "and nothing of it was done");
}

/// GHSA of a revocation list that was not read on one of several listeners.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_deleted_is_deleted_at_every_door() {
    let guarded = Guarded::start(3).await;
    let token = guarded.user("app", &app()).await;
    guarded.settle().await;
    let h2 = reqwest::Client::builder().no_proxy().http2_prior_knowledge().build().unwrap();
    let doors = async |expected: u16| {
        for node in 0..3 {
            // The connections are those from before.
            for stale in ["", "?consistency=stale"] {
                let get = format!("GET /v1/kv/app/x{stale}");
                assert_eq!(guarded.send(node, &token, &get, "").await.0, expected, "node {node}");
                let url = guarded.cluster.url(node, &format!("/v1/kv/app/x{stale}"));
                let again = h2.get(url).basic_auth("app", Some(&token)).send().await.unwrap();
                assert_eq!(again.status().as_u16(), expected, "node {node}");
            }
            let original = guarded.send(node, &token, "GET /api/kv?key=app/x", "").await.0;
            assert_eq!(original, if expected == 404 { 200 } else { expected }, "node {node}");
        }
    };
    doors(404).await;
    guarded.admin("DELETE /v1/auth/users/app", &json!(null)).await;
    let deleted = Instant::now();
    guarded.settle().await;
    doors(401).await;
    assert!(deleted.elapsed() < Duration::from_secs(5));
}

/// GHSA-…-6vch: handshakes had no time-out.
#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_that_does_not_go_on_is_ended() {
    let mut cluster =
        Cluster::build(1, "http: { tls: true, clientAuth: optional, head: 1s, stall: 1s }\n");
    cluster.nodes[0].start();
    let deadline = Instant::now() + PATIENCE;
    while !cluster.nodes[0].has_served() {
        assert!(Instant::now() < deadline, "{}", cluster.logs());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let address = format!("127.0.0.1:{}", cluster.nodes[0].http_port);
    // Nothing at all, and the beginning of a hello whose rest does not come.
    for begins in [&b""[..], b"\x16\x03\x01\x02\x00\x01\x00"] {
        let mut stream = TcpStream::connect(&address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(begins).unwrap();
        let began = Instant::now();
        let mut rest = Vec::new();
        // A reset is an end, too.
        let _ = stream.read_to_end(&mut rest);
        assert!(began.elapsed() < PATIENCE / 2, "it was ended");
    }
}
