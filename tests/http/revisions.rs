//! The counter of changes: where it begins, and what does not move it.

use serde_json::json;

use crate::raw::{Answer, Server};

fn list(server: &Server, query: &str) -> Answer {
    server.send(&format!("GET /v1/kv?{query}"), &[])
}

fn compact(server: &Server, revision: u64) -> Answer {
    server.send_body("POST /v1/compact", &[], json!({ "revision": revision }).to_string())
}

#[tokio::test]
async fn an_empty_store_is_at_revision_1_and_the_first_change_makes_2() {
    let server = Server::start().await;
    let status = server.send("GET /v1/status", &[]);
    assert_eq!((status.revision(), &status.json()["revision"]), (1, &json!(1)));
    assert_eq!(status.json()["compact_revision"], 0, "nothing is given up");
    for query in ["", "revision=1", "min_revision=1", "revision=1&consistency=stale"] {
        let empty = list(&server, query);
        assert_eq!((empty.revision(), empty.text()), (1, r#"{"revision":1,"items":[]}"#));
        let absent = server.send(&format!("GET /v1/kv/a?{query}"), &[]);
        absent.problem(404, "no-such-key");
        assert_eq!(absent.revision(), 1);
    }
    for path in ["/v1/kv", "/v1/kv/a"] {
        let of = |query: &str| server.send(&format!("GET {path}?{query}"), &[]);
        let future = of("revision=2").problem(400, "future-revision");
        assert!(future.contains("the store is at 1"), "{future}");
        for query in ["revision=0", "min_revision=0", "revision=0&consistency=stale"] {
            let refused = of(query).problem(400, "invalid-parameter");
            assert!(refused.contains("revisions begin at 1"), "{refused}");
        }
    }

    // No key was ever changed by revision 1.
    for condition in ["If-Match: \"0\"", "If-Match: \"1\"", "If-Match: *"] {
        let failed = server.send_body("PUT /v1/kv/a", &[condition], "x");
        failed.problem(412, "condition-failed");
        assert_eq!((failed.revision(), failed.header("etag")), (1, None), "{condition}");
    }
    let absent = server.send("DELETE /v1/kv/a", &[]);
    absent.problem(404, "no-such-key");
    assert_eq!(absent.revision(), 1);
    for (query, told) in [
        ("prefix=a", r#"{"deleted":0,"revision":1}"#),
        ("prefix=a&atomic=false", r#"{"deleted":0,"revision":1,"steps":0}"#),
    ] {
        let deleted = server.send(&format!("DELETE /v1/kv?{query}"), &[]);
        assert_eq!((deleted.revision(), deleted.text()), (1, told));
    }

    let created = server.send_body("PUT /v1/kv/a", &["If-None-Match: *"], "x");
    assert_eq!((created.status, created.revision(), created.etag()), (201, 2, "\"2\""));
    let read = server.send("GET /v1/kv/a", &[]);
    assert_eq!((read.revision(), read.etag()), (2, "\"2\""));
    assert_eq!(read.header("konsen-create-revision"), Some("2"));
    assert_eq!(list(&server, "revision=1").text(), r#"{"revision":1,"items":[]}"#);
    server.send("GET /v1/kv/a?revision=1", &[]).problem(404, "no-such-key");
}

#[tokio::test]
async fn what_changes_nothing_makes_no_revision() {
    let server = Server::start().await;
    assert_eq!(server.send_body("PUT /v1/kv/a", &[], "x").revision(), 2);
    let failed = server.send_body("PUT /v1/kv/a", &["If-None-Match: *"], "y");
    failed.problem(412, "condition-failed");
    assert_eq!((failed.revision(), failed.etag()), (2, "\"2\""));
    assert_eq!(server.send("DELETE /v1/kv/b", &[]).revision(), 2);
    assert_eq!(server.send("DELETE /v1/kv?prefix=b", &[]).revision(), 2);
    assert_eq!(server.send("DELETE /v1/kv/a", &["If-Match: \"1\""]).revision(), 2);
    assert_eq!(server.send("DELETE /v1/kv/a", &["If-Match: \"2\""]).revision(), 3);
    assert_eq!(server.send("DELETE /v1/kv/a", &[]).revision(), 3);
    // The same value again is a change.
    for revision in 4..6 {
        let put = server.send_body("PUT /v1/kv/a", &[], "x");
        assert_eq!((put.revision(), put.etag()), (revision, &*format!("\"{revision}\"")));
    }
}

#[tokio::test]
async fn revision_1_can_be_given_up_to_once() {
    let server = Server::start().await;
    let future = compact(&server, 2).problem(400, "future-revision");
    assert!(future.contains("the store is at 1"), "{future}");
    let done = compact(&server, 1);
    assert_eq!((done.status, done.revision(), done.text()), (200, 1, r#"{"revision":1}"#));
    assert_eq!(server.send("GET /v1/status", &[]).json()["compact_revision"], 1);
    let again = compact(&server, 1).problem(410, "compacted");
    assert!(again.contains("the oldest readable one is 1"), "{again}");
    // It can still be read, also when there are more.
    for revision in [1, 2] {
        assert_eq!(list(&server, "revision=1").text(), r#"{"revision":1,"items":[]}"#);
        assert_eq!(list(&server, "").revision(), revision);
        server.send_body("PUT /v1/kv/a", &[], "x");
    }
    // Nothing is lost at the revision that is the oldest, be it one that deleted.
    assert_eq!(server.send("DELETE /v1/kv/a", &[]).revision(), 4);
    assert_eq!(compact(&server, 4).status, 200);
    server.send("GET /v1/kv/a?revision=4", &[]).problem(404, "no-such-key");
    server.send("GET /v1/kv/a?revision=3", &[]).problem(410, "compacted");
    assert_eq!(list(&server, "revision=4").text(), r#"{"revision":4,"items":[]}"#);
}
