//! `POST /v1/compact`, and reads of what it gave up.

use serde_json::json;

use crate::raw::{Answer, Server};

fn compact(server: &Server, revision: u64) -> Answer {
    server.send_body("POST /v1/compact", &[], json!({ "revision": revision }).to_string())
}

#[tokio::test]
async fn the_past_is_given_up_and_the_rest_stays() {
    let mut server = Server::start().await;
    let first = server.send_body("PUT /v1/kv/a", &[], "1").revision();
    server.send_body("PUT /v1/kv/gone", &[], "x");
    let listing = server.send("GET /v1/kv?limit=1", &[]).json();
    let next = listing["next"].as_str().unwrap().to_owned();
    server.send("DELETE /v1/kv/gone", &[]);
    let oldest = server.send_body("PUT /v1/kv/a", &[], "2").revision();
    let newest = server.send_body("PUT /v1/kv/a", &[], "3").revision();
    assert_eq!(server.send("GET /v1/status", &[]).json()["compact_revision"], 0);

    let done = compact(&server, oldest);
    assert_eq!((done.status, done.text()), (200, &*format!(r#"{{"revision":{oldest}}}"#)));
    assert_eq!(done.header("content-type"), Some("application/json"));
    assert_eq!(done.revision(), newest, "giving up the past is no revision of its own");
    // As it was, and as it is after a start from the disk.
    for _ in 0..2 {
        assert_eq!(server.send("GET /v1/status", &[]).json()["compact_revision"], oldest);
        assert_eq!(server.send("GET /v1/kv/a", &[]).text(), "3");
        assert_eq!(server.send(&format!("GET /v1/kv/a?revision={newest}"), &[]).text(), "3");
        assert_eq!(server.send(&format!("GET /v1/kv/a?revision={oldest}"), &[]).text(), "2");
        server.send(&format!("GET /v1/kv/gone?revision={oldest}"), &[]).problem(404, "no-such-key");
        for path in [
            format!("/v1/kv/a?revision={first}"),
            format!("/v1/kv/a?revision={first}&consistency=stale"),
            format!("/v1/kv?revision={}", oldest - 1),
            format!("/v1/kv?cursor={next}"),
        ] {
            let refused = server.send(&format!("GET {path}"), &[]).problem(410, "compacted");
            assert!(refused.contains(&format!("the oldest readable one is {oldest}")), "{refused}");
        }
        server.cluster.nodes[0].kill();
        server.cluster.nodes[0].start();
        server.cluster.wait_ready(0).await;
    }
    // What was deleted and given up can be made anew, and deleted again.
    assert_eq!(server.send_body("PUT /v1/kv/gone", &["If-None-Match: *"], "y").status, 201);
    assert_eq!(server.send("DELETE /v1/kv/gone", &[]).status, 204);
    assert_eq!(server.send("DELETE /v1/kv/gone", &[]).status, 404);
}

#[tokio::test]
async fn what_cannot_be_given_up_is_refused_with_a_reason() {
    let server = Server::start().await;
    let mut newest = 0;
    for value in ["1", "2", "3"] {
        newest = server.send_body("PUT /v1/kv/a", &[], value).revision();
    }
    let future = compact(&server, newest + 1);
    let detail = future.problem(400, "future-revision");
    assert!(detail.contains(&format!("the store is at {newest}")), "{detail}");
    assert_eq!(
        (future.json()["outcome"].as_str(), future.revision()),
        (Some("not_applied"), newest)
    );
    assert_eq!(compact(&server, newest).status, 200);
    for again in [newest, newest - 1] {
        let detail = compact(&server, again).problem(410, "compacted");
        assert!(detail.contains(&format!("the oldest readable one is {newest}")), "{detail}");
    }
    for body in ["", "[", "{}", r#"{"revision":0}"#, r#"{"revision":"1"}"#, r#"{"rev":1}"#] {
        server.send_body("POST /v1/compact", &[], body).problem(400, "malformed");
    }
    server.send_body("POST /v1/compact?revision=1", &[], "{}").problem(400, "unknown-parameter");
    let token = ["Idempotency-Key: t"];
    server.send_body("POST /v1/compact", &token, "{}").problem(400, "not-supported");
    let wrong = server.send("GET /v1/compact", &[]);
    wrong.problem(405, "method-not-allowed");
    assert_eq!(wrong.header("allow"), Some("POST"));
}
