//! What is refused, and how.

use crate::raw::Server;

#[tokio::test]
async fn parameters_that_are_unknown_doubled_or_meaningless_are_named() {
    let server = Server::start().await;
    for (line, known) in [
        ("GET /v1/kv/a?ttl=3s", "consistency"),
        ("PUT /v1/kv/a?ttl=3s", "takes none"),
        ("DELETE /v1/kv/a?ttl=3s", "takes none"),
        ("GET /v1/kv?ttl=3s", "prefix"),
        ("DELETE /v1/kv?ttl=3s", "prefix"),
        ("GET /v1/status?ttl=3s", "takes none"),
        ("GET /v1/cluster?ttl=3s", "takes none"),
    ] {
        let detail = server.send(line, &[]).problem(400, "unknown-parameter");
        assert!(detail.contains("\"ttl\"") && detail.contains(known), "{line}: {detail}");
    }
    for (line, name) in [
        ("GET /v1/kv/a?revision=1&revision=2", "revision"),
        ("GET /v1/kv/a?revision=0", "revisions begin at 1"),
        ("GET /v1/kv/a?revision=x", "revision"),
        ("GET /v1/kv/a?min_revision=-1", "min_revision"),
        ("GET /v1/kv/a?consistency=strong", "consistency"),
        ("GET /v1/kv/a?wait=soon", "wait"),
        ("GET /v1/kv?limit=0", "limit"),
        ("GET /v1/kv?limit=many", "limit"),
        ("GET /v1/kv?order=up", "order"),
        ("GET /v1/kv?keys_only=maybe", "keys_only"),
        ("GET /v1/kv?prefix=%zz", "prefix"),
    ] {
        let detail = server.send(line, &[]).problem(400, "invalid-parameter");
        assert!(detail.contains(name), "{line}: {detail}");
    }
}

#[tokio::test]
async fn headers_that_mean_nothing_or_too_much_are_refused() {
    let server = Server::start().await;
    for line in ["GET /v1/kv/a", "PUT /v1/kv/a", "DELETE /v1/kv/a", "GET /v1/kv"] {
        for timeout in ["soon", "0s", "1h", "2"] {
            let header = format!("Konsen-Timeout: {timeout}");
            server.send(line, &[&header]).problem(400, "invalid-header");
        }
    }
    for line in ["PUT /v1/kv/a", "DELETE /v1/kv/a", "DELETE /v1/kv?prefix=a"] {
        let detail = server.send(line, &["Idempotency-Key: \"x\""]).problem(400, "not-supported");
        assert!(detail.contains("Idempotency-Key"), "{detail}");
    }
    assert_eq!(server.send_body("POST /konsen", &["Idempotency-Key: x"], "a=1").status, 400);
    assert_eq!(server.send_body("POST /api/kv", &["Idempotency-Key: x"], "{}").status, 400);
    let range = ["Content-Range: bytes 0-1/2"];
    server.send_body("PUT /v1/kv/a", &range, "ab").problem(400, "invalid-header");
    let long = format!("Content-Type: {}", "x".repeat(256));
    server.send_body("PUT /v1/kv/a", &[&long], "ab").problem(400, "invalid-header");
    let conditional = ["If-Match: *"];
    server.send("DELETE /v1/kv?prefix=a", &conditional).problem(400, "invalid-header");
    server.send("GET /v1/kv/a", &[]).problem(404, "no-such-key");
}

#[tokio::test]
async fn routes_and_methods_that_do_not_exist_are_refused() {
    let server = Server::start().await;
    for line in
        ["GET /v1/nothing", "GET /nothing", "POST /v1/transactions", "GET /v2/kv/a", "PUT /v1/kvx"]
    {
        server.send(line, &[]).problem(404, "no-such-route");
    }
    for (line, allow) in [
        ("POST /v1/kv/a", "GET,HEAD,PUT,DELETE"),
        ("PATCH /v1/kv/a", "GET,HEAD,PUT,DELETE"),
        ("PUT /v1/kv", "GET,HEAD,DELETE"),
        ("POST /v1/status", "GET,HEAD"),
        ("DELETE /healthz", "GET,HEAD"),
        ("PUT /konsen", "GET,HEAD,POST"),
    ] {
        let answer = server.send(line, &[]);
        answer.problem(405, "method-not-allowed");
        assert_eq!(answer.header("allow"), Some(allow), "{line}");
    }
}
