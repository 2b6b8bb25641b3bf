//! The routes of the original konsen, row by row of the contract.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::raw::{Answer, Server};

const FORM: &str = "Content-Type: application/x-www-form-urlencoded";
const JSON: Option<&str> = Some("application/json; charset=utf-8");
const TEXT: Option<&str> = Some("text/plain; charset=utf-8");

#[tokio::test]
async fn forms_are_put_in_one_revision_and_read_as_text() {
    let server = Server::start().await;
    let put = server.send_body("POST /konsen", &[FORM], "a=1&b=two+words&a=ignored&c=%3D%26");
    assert_eq!((put.status, put.text()), (200, ""));
    for (key, value) in [("a", "1"), ("b", "two words"), ("c", "=&"), ("absent", "")] {
        let read = server.send(&format!("GET /konsen?key={key}"), &[]);
        assert_eq!((read.status, read.text(), read.header("content-type")), (200, value, TEXT));
        // A value is a stranger's: no browser guesses a type for it.
        assert_eq!(read.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(read.header("content-security-policy"), Some("sandbox"));
    }
    for key in ["a", "b", "c"] {
        let item = server.send(&format!("GET /v1/kv/{key}"), &["Accept: application/json"]);
        assert_eq!(item.json()["mod_revision"], put.revision());
    }
    for line in ["GET /konsen", "GET /konsen?key=", "GET /konsen?other=a"] {
        let missing = server.send(line, &[]);
        assert_eq!(missing.status, 400);
        assert_eq!(missing.text(), "missing required query parameter: key");
        assert_eq!(missing.header("content-type"), TEXT);
    }
    let multipart = "--b\r\nContent-Disposition: form-data; name=\"m\"\r\n\r\nmulti\r\n--b--\r\n";
    let content_type = "Content-Type: multipart/form-data; boundary=b";
    assert_eq!(server.send_body("POST /konsen", &[content_type], multipart).status, 200);
    assert_eq!(server.send("GET /konsen?key=m", &[]).text(), "multi");

    for (headers, body) in [
        (&[FORM][..], "a=%zz"),
        (&[FORM], "=1"),
        (&[FORM], "a;b"),
        (&[content_type], "--c"),
        (&[], "a=1"),
    ] {
        let refused = server.send_body("POST /konsen", headers, body);
        assert_eq!((refused.status, refused.header("content-type")), (400, TEXT), "{body}");
        assert!(!refused.text().is_empty());
    }
    for (headers, body) in [(&[FORM][..], ""), (&[], ""), (&[content_type], "--b--")] {
        let empty = server.send_body("POST /konsen", headers, body);
        assert_eq!((empty.status, empty.text()), (200, ""));
    }
    let twice = server.send_body("POST /konsen", &[FORM], "g=1&g=2");
    assert_eq!((twice.status, server.send("GET /konsen?key=g", &[]).text()), (200, "1"));
    let long = format!("{}=1", "k".repeat(4097));
    assert_eq!(server.send_body("POST /konsen", &[FORM], long).status, 414);
    let large = format!("k={}", "v".repeat(1024 * 1024 + 1));
    assert_eq!(server.send_body("POST /konsen", &[FORM], large).status, 413);
    assert_eq!(server.send("GET /konsen?key=a", &[]).text(), "1");
}

#[tokio::test]
async fn the_json_routes_have_the_shapes_they_always_had() {
    let server = Server::start().await;
    let put = |body: &str| server.send_body("POST /api/kv", &[], body);
    let answer = put(r#"{"key":"a/ü","value":"1"}"#);
    assert_eq!(
        (answer.status, answer.text(), answer.header("content-type")),
        (200, r#"{"success":true}"#, JSON)
    );
    assert_eq!(put(r#"{"key":"empty","more":1}"#).status, 200);
    for body in [r#"{"value":"1"}"#, r#"{"key":"","value":"1"}"#, "{}"] {
        let refused = put(body);
        assert_eq!((refused.status, refused.text()), (400, r#"{"error":"key is required"}"#));
        assert_eq!(refused.header("content-type"), JSON);
    }
    for (body, value) in [
        (r#"{"key":"j","value":null}"#, ""),
        (r#"{"Key":"j","VALUE":"x"}"#, "x"),
        (r#"{"key":"j","value":"1"} trailing"#, "1"),
        (r#"{"key":"j","value":"1","value":"2"}"#, "2"),
        (r#"{"key":"j"}"#, ""),
    ] {
        assert_eq!(put(body).text(), r#"{"success":true}"#, "{body}");
        assert_eq!(server.send("GET /konsen?key=j", &[]).text(), value, "{body}");
    }
    for body in ["", "[", r#"{"key":1}"#, r#"{"key":"j","value":1}"#, "[]", "\"a\""] {
        let refused = put(body);
        assert_eq!(refused.status, 400, "{body}");
        assert!(refused.json()["error"].is_string());
    }

    let get = |query: &str| server.send(&format!("GET /api/kv{query}"), &[]);
    let found = get("?key=a/%C3%BC");
    assert_eq!(found.text(), r#"{"key":"a/ü","value":"1","found":true}"#);
    assert_eq!(found.header("content-type"), JSON);
    assert_eq!(get("?key=empty").text(), r#"{"key":"empty","value":"","found":true}"#);
    assert_eq!(get("?key=absent").text(), r#"{"key":"absent","found":false}"#);
    let missing = get("");
    assert_eq!(missing.status, 400);
    assert_eq!(missing.text(), r#"{"error":"missing required query parameter: key"}"#);
}

#[tokio::test]
async fn keys_are_listed_within_limits() {
    let server = Server::start().await;
    let list = |query: &str| {
        let answer = server.send(&format!("GET /api/keys{query}"), &[]);
        assert_eq!((answer.status, answer.header("content-type")), (200, JSON));
        answer.text().to_owned()
    };
    assert_eq!(list(""), r#"{"keys":[]}"#);
    let form: Vec<String> = (0..1100).map(|number| format!("p{number:04}=x")).collect();
    assert_eq!(server.send_body("POST /konsen", &[FORM], form.join("&")).status, 200);
    let count = |query: &str| list(query).matches("\"p").count();
    assert_eq!(list("?prefix=p000&limit=2"), r#"{"keys":["p0000","p0001"]}"#);
    assert_eq!(count(""), 100);
    assert_eq!(count("?limit=many"), 100);
    assert_eq!(count("?limit=0"), 100);
    assert_eq!(count("?limit=-1&prefix="), 100);
    assert_eq!(count("?limit=500"), 500);
    assert_eq!(count("?limit=5000"), 1000);
    assert_eq!(list("?prefix=q"), r#"{"keys":[]}"#);
}

#[tokio::test]
async fn a_compaction_in_the_middle_of_a_listing_of_keys_does_not_end_it() {
    let server = Server::start_with("limits:\n  listRows: 1\n").await;
    let form: Vec<String> = (0..1000).map(|number| format!("p{number:04}=x")).collect();
    assert_eq!(server.send_body("POST /konsen", &[FORM], form.join("&")).status, 200);
    let (done, compactions) = (AtomicBool::new(false), AtomicU64::new(0));
    let answers = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let newest = server.send_body("PUT /v1/kv/other", &[], "x").revision();
                let body = format!(r#"{{"revision":{newest}}}"#);
                assert_eq!(server.send_body("POST /v1/compact", &[], body).status, 200);
                compactions.fetch_add(1, Ordering::Relaxed);
            }
        });
        let patient = ["Konsen-Timeout: 1m"];
        let mut answers: Vec<Answer> = Vec::new();
        // As often as it takes for some to have been compacted under.
        while answers.len() < 3 || answers.len() < 50 && compactions.load(Ordering::Relaxed) < 4 {
            answers.push(server.send("GET /api/keys?prefix=p&limit=1000", &patient));
        }
        done.store(true, Ordering::Relaxed);
        answers
    });
    for answer in answers {
        assert_eq!((answer.status, answer.text().matches("\"p").count()), (200, 1000));
    }
    assert!(compactions.into_inner() > 3);
}

#[tokio::test]
async fn status_and_checks_have_the_shapes_they_always_had() {
    let server = Server::start().await;
    let status = server.send("GET /api/status", &[]);
    let json = status.json();
    let expected = format!(
        r#"{{"node":"node1","role":"LEADER","currentLeader":"node1","currentTerm":{},"commitIndex":{},"lastApplied":{},"nextIndex":{{}},"matchIndex":{{}},"logCount":{}}}"#,
        json["currentTerm"], json["commitIndex"], json["lastApplied"], json["logCount"]
    );
    assert_eq!(status.text(), expected);
    assert!(json["logCount"].as_u64().unwrap() >= json["commitIndex"].as_u64().unwrap());
    let health = server.send("GET /health", &[]);
    assert_eq!(health.text(), r#"{"status":"healthy","role":"LEADER","leader":"node1"}"#);
    let ready = server.send("GET /ready", &[]);
    assert_eq!(ready.text(), r#"{"status":"ready","role":"LEADER","leader":"node1"}"#);
}
