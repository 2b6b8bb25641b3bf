//! `/v1/kv/{key}`.

use std::time::{Duration, Instant};

use crate::raw::Server;

#[tokio::test]
async fn a_key_is_put_read_replaced_and_deleted() {
    let server = Server::start().await;
    let created = server.send_body("PUT /v1/kv/a", &[], "one");
    assert_eq!(created.status, 201);
    assert_eq!(created.etag(), format!("\"{}\"", created.revision()));
    assert_eq!(created.body, b"");

    let read = server.send("GET /v1/kv/a", &[]);
    assert_eq!((read.status, read.text()), (200, "one"));
    assert_eq!(read.etag(), created.etag());
    assert_eq!(read.header("content-type"), Some("application/octet-stream"));
    assert_eq!(read.header("konsen-version"), Some("1"));
    assert_eq!(read.header("konsen-create-revision"), Some(&*created.revision().to_string()));
    assert_eq!(read.revision(), created.revision());

    let replaced = server.send_body("PUT /v1/kv/a", &["Content-Type: text/x-two"], b"\0\xff");
    assert_eq!(replaced.status, 204);
    assert!(replaced.revision() > created.revision());
    let read = server.send("GET /v1/kv/a", &[]);
    assert_eq!(read.body, b"\0\xff");
    assert_eq!(read.header("content-type"), Some("text/x-two"));
    assert_eq!(read.header("konsen-version"), Some("2"));
    assert_eq!(read.header("konsen-create-revision"), Some(&*created.revision().to_string()));

    let head = server.send("HEAD /v1/kv/a", &[]);
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(head.header("content-length"), Some("2"));
    for name in ["etag", "content-type", "konsen-version", "konsen-revision"] {
        assert_eq!(head.header(name), read.header(name), "{name}");
    }

    let json = server.send("GET /v1/kv/a", &["Accept: application/json"]);
    assert_eq!(json.header("content-type"), Some("application/json"));
    let expected = format!(
        r#"{{"key":"a","value_base64":"AP8=","create_revision":{},"mod_revision":{},"version":2,"content_type":"text/x-two"}}"#,
        created.revision(),
        replaced.revision()
    );
    assert_eq!(json.text(), expected);

    // Each representation has its own tag, and a write takes either.
    assert_eq!(json.etag(), format!("\"{}-json\"", replaced.revision()));
    let (of_json, of_value) =
        (format!("If-None-Match: {}", json.etag()), format!("If-None-Match: {}", replaced.etag()));
    let accept = "Accept: application/json";
    for (headers, status) in [
        ([accept, of_json.as_str()], 304),
        ([accept, of_value.as_str()], 200),
        (["Accept: */*", of_value.as_str()], 304),
        (["Accept: */*", of_json.as_str()], 200),
    ] {
        let answer = server.send("GET /v1/kv/a", &headers);
        assert_eq!((answer.status, answer.header("vary")), (status, Some("Accept")), "{headers:?}");
    }
    server.send_body("PUT /v1/kv/a", &[&of_json], "no").problem(412, "condition-failed");
    assert_eq!(read.header("content-security-policy"), Some("sandbox"));
    assert_eq!(read.header("x-content-type-options"), Some("nosniff"));

    let deleted = server.send("DELETE /v1/kv/a", &[]);
    assert_eq!(deleted.status, 204);
    assert!(deleted.revision() > replaced.revision());
    let again = server.send("DELETE /v1/kv/a", &[]);
    again.problem(404, "no-such-key");
    assert_eq!(again.revision(), deleted.revision());
    let gone = server.send("GET /v1/kv/a", &[]);
    gone.problem(404, "no-such-key");
    assert_eq!(gone.revision(), deleted.revision());
    assert_eq!(server.send("HEAD /v1/kv/a", &[]).status, 404);

    // A key that comes back begins anew.
    assert_eq!(server.send_body("PUT /v1/kv/a", &[], "").status, 201);
    let read = server.send("GET /v1/kv/a", &[]);
    assert_eq!((read.status, read.text(), read.header("konsen-version")), (200, "", Some("1")));
}

#[tokio::test]
async fn keys_are_the_bytes_of_the_path() {
    let server = Server::start().await;
    let paths =
        ["a/b", "a//b", "/", "//", "a%00b", "%ff", "%C3%BC", "a+b", "a%20b", "a%25", "a:b@c"];
    for (number, path) in paths.iter().enumerate() {
        let put = server.send_body(&format!("PUT /v1/kv/{path}"), &[], number.to_string());
        assert_eq!(put.status, 201, "{path}");
    }
    for (number, path) in paths.iter().enumerate() {
        let read = server.send(&format!("GET /v1/kv/{path}"), &[]);
        assert_eq!((read.status, read.text()), (200, &*number.to_string()), "{path}");
    }
    // An encoded slash is the same byte.
    assert_eq!(server.send("GET /v1/kv/a%2Fb", &[]).text(), "0");
    let json = server.send("GET /v1/kv/%ff", &["Accept: application/json"]);
    assert_eq!(json.json()["key_base64"], "/w==");
}

#[tokio::test]
async fn keys_and_values_have_limits() {
    let server = Server::start_with("limits:\n  value: 1KiB\n").await;
    server.send("GET /v1/kv/", &[]).problem(400, "invalid-key");
    server.send_body("PUT /v1/kv/", &[], "v").problem(400, "invalid-key");
    for broken in ["%", "a%2", "%zz"] {
        let detail = server.send(&format!("GET /v1/kv/{broken}"), &[]).problem(400, "invalid-key");
        assert!(detail.contains("%25"), "{detail}");
    }
    let longest = "k".repeat(4096);
    assert_eq!(server.send_body(&format!("PUT /v1/kv/{longest}"), &[], "v").status, 201);
    assert_eq!(server.send(&format!("GET /v1/kv/{longest}"), &[]).text(), "v");
    server.send_body(&format!("PUT /v1/kv/{longest}k"), &[], "v").problem(414, "key-too-long");

    let largest = "v".repeat(1024);
    assert_eq!(server.send_body("PUT /v1/kv/large", &[], &largest).status, 201);
    assert_eq!(server.send("GET /v1/kv/large", &[]).text(), largest);
    let over = server.send_body("PUT /v1/kv/over", &[], format!("{largest}v"));
    assert!(over.problem(413, "value-too-large").contains("1024"));
    // Refused by its declared length alone, before anything comes.
    let declared = server.send("PUT /v1/kv/over", &["Content-Length: 1000000000"]);
    declared.problem(413, "value-too-large");
    // Without a declared length, while it is read.
    let chunked = format!(
        "PUT /v1/kv/over HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
         Transfer-Encoding: chunked\r\n\r\n401\r\n{largest}v\r\n0\r\n\r\n"
    );
    server.raw(chunked.as_bytes()).problem(413, "value-too-large");
    server.send("GET /v1/kv/over", &[]).problem(404, "no-such-key");
}

#[tokio::test]
async fn writes_hold_to_their_conditions() {
    let server = Server::start().await;
    let put = |headers: &[&str], value: &str| server.send_body("PUT /v1/kv/c", headers, value);

    // Absent.
    put(&["If-Match: *"], "no").problem(412, "condition-failed");
    put(&["If-Match: \"1\""], "no").problem(412, "condition-failed");
    server.send("DELETE /v1/kv/c", &["If-Match: \"1\""]).problem(404, "no-such-key");
    let first = put(&["If-None-Match: *"], "one");
    assert_eq!(first.status, 201);

    // Present.
    let refused = put(&["If-None-Match: *"], "no");
    refused.problem(412, "condition-failed");
    assert_eq!(refused.etag(), first.etag());
    assert_eq!(refused.revision(), first.revision());
    let mine = format!("If-Match: {}", first.etag());
    let weak = format!("If-Match: W/{}", first.etag());
    let not_mine = format!("If-None-Match: {}", first.etag());
    put(&[&weak], "no").problem(412, "condition-failed");
    put(&[&not_mine], "no").problem(412, "condition-failed");
    put(&["If-Match: \"999\", \"abc\""], "no").problem(412, "condition-failed");
    put(&[&mine, "If-None-Match: *"], "no").problem(412, "condition-failed");
    assert_eq!(server.send("GET /v1/kv/c", &[]).text(), "one");
    let second = put(&["If-Match: \"999\"", &mine], "two");
    assert_eq!(second.status, 204);
    put(&[&mine], "no").problem(412, "condition-failed");
    assert_eq!(put(&["If-Match: *", &not_mine], "three").status, 204);

    let refused = server.send("DELETE /v1/kv/c", &[&mine]);
    refused.problem(412, "condition-failed");
    assert_eq!(server.send("DELETE /v1/kv/c", &["If-Match: *"]).status, 204);

    for broken in ["If-Match: 7", "If-Match: \"7", "If-None-Match: x", "If-Match: *, \"7\""] {
        let detail = put(&[broken], "no").problem(400, "invalid-header");
        assert!(detail.contains("in quotes"), "{detail}");
    }
    server.send("GET /v1/kv/c", &[]).problem(404, "no-such-key");
}

#[tokio::test]
async fn reads_hold_to_their_conditions_in_their_order() {
    let server = Server::start().await;
    let etag = server.send_body("PUT /v1/kv/c", &[], "one").etag().to_owned();
    let same = format!("If-None-Match: W/{etag}");
    for method in ["GET", "HEAD"] {
        let line = format!("{method} /v1/kv/c");
        let unchanged = server.send(&line, &[&same]);
        assert_eq!((unchanged.status, unchanged.etag()), (304, &*etag));
        assert_eq!(unchanged.body, b"");
        assert!(unchanged.revision() > 0);
        assert_eq!(server.send(&line, &["If-None-Match: \"999\""]).status, 200);
        assert_eq!(server.send(&line, &["If-None-Match: *"]).status, 304);
        assert_eq!(server.send(&line, &[&format!("If-Match: {etag}")]).status, 200);
        assert_eq!(server.send(&line, &["If-Match: \"999\"", &same]).status, 412);
    }
    server.send("GET /v1/kv/absent", &["If-Match: *"]).problem(404, "no-such-key");
}

#[tokio::test]
async fn reads_are_as_fresh_and_as_old_as_asked_for() {
    let server = Server::start().await;
    let first = server.send_body("PUT /v1/kv/r", &[], "one").revision();
    let second = server.send_body("PUT /v1/kv/r", &[], "two").revision();
    let third = server.send("DELETE /v1/kv/r", &[]).revision();
    let at = |revision: u64| server.send(&format!("GET /v1/kv/r?revision={revision}"), &[]);
    assert_eq!((at(first).text(), at(first).revision()), ("one", first));
    assert_eq!((at(second).text(), at(second).revision()), ("two", second));
    at(third).problem(404, "no-such-key");
    let future = at(third + 1000).problem(400, "future-revision");
    assert!(future.contains(&third.to_string()), "{future}");

    let get =
        |query: &str, headers: &[&str]| server.send(&format!("GET /v1/kv/s?{query}"), headers);
    let put = server.send_body("PUT /v1/kv/s", &[], "x").revision();
    for query in ["consistency=stale", "consistency=linearizable"] {
        assert_eq!(get(&format!("{query}&min_revision={put}"), &[]).text(), "x");
    }
    get("consistency=lease", &[]).problem(400, "lease-reads-off");
    let began = Instant::now();
    let late = get(&format!("min_revision={}", put + 1000), &["Konsen-Timeout: 200ms"]);
    late.problem(504, "read-timed-out");
    assert!(began.elapsed() >= Duration::from_millis(200));
}

#[tokio::test]
async fn a_read_waits_for_a_change() {
    let server = Server::start().await;
    let etag = server.send_body("PUT /v1/kv/w", &[], "one").etag().to_owned();
    let same = format!("If-None-Match: {etag}");
    let began = Instant::now();
    assert_eq!(server.send("GET /v1/kv/w?wait=300ms", &[&same]).status, 304);
    assert!(began.elapsed() >= Duration::from_millis(300));

    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| server.send("GET /v1/kv/w?wait=30s", &[&same]));
        // Another key's change must not end the wait.
        assert_eq!(server.send_body("PUT /v1/kv/other", &[], "x").status, 201);
        assert_eq!(server.send_body("PUT /v1/kv/w", &[], "two").status, 204);
        let changed = waiting.join().unwrap();
        assert_eq!((changed.status, changed.text()), (200, "two"));
    });

    let etag = server.send("GET /v1/kv/w", &[]).etag().to_owned();
    let same = format!("If-None-Match: {etag}");
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| server.send("GET /v1/kv/w?wait=30s", &[&same]));
        assert_eq!(server.send("DELETE /v1/kv/w", &[]).status, 204);
        waiting.join().unwrap().problem(404, "no-such-key");
    });
    // What is not there yet is waited for; what is there, and unnamed, is answered.
    let began = Instant::now();
    server.send("GET /v1/kv/w?wait=300ms", &[]).problem(404, "no-such-key");
    assert!(began.elapsed() >= Duration::from_millis(300));
    for headers in [&[][..], &["If-None-Match: *"]] {
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| server.send("GET /v1/kv/w?wait=30s", headers));
            assert_eq!(server.send_body("PUT /v1/kv/other", &[], "x").status, 204);
            assert_eq!(server.send_body("PUT /v1/kv/w", &[], "three").status, 201);
            let created = waiting.join().unwrap();
            assert!(created.status == 200 || created.status == 304, "{created:?}");
        });
        assert_eq!(server.send("GET /v1/kv/w?wait=30s", &[]).text(), "three");
        assert_eq!(server.send("DELETE /v1/kv/w", &[]).status, 204);
    }
    // Whoever had it hears at once that it is gone.
    server.send("GET /v1/kv/w?wait=30s", &[&same]).problem(404, "no-such-key");
    let past = server.send("GET /v1/kv/w?wait=1s&revision=1", &[&same]);
    past.problem(400, "invalid-parameter");
}
