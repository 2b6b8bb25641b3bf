//! `GET /v1/snapshot`.

use std::io::{Read, Write};

use konsen::store::BackupCheck;

use crate::harness;
use crate::raw::Server;

#[tokio::test]
async fn a_backup_is_sound_and_reflects_what_was_acknowledged() {
    let server = Server::start().await;
    let mut revision = 0;
    for number in 0..20 {
        let key = format!("PUT /v1/kv/k{}", number % 7);
        revision = server.send_body(&key, &[], format!("v{number}")).revision();
        // Each write is in the backup that is asked for after it, whatever the last checkpoint holds.
        if number % 9 == 0 {
            let answer = server.send("GET /v1/snapshot", &[]);
            assert_eq!((answer.status, answer.revision()), (200, revision));
        }
    }
    let answer = server.send("GET /v1/snapshot", &[]);
    assert_eq!((answer.status, answer.revision()), (200, revision));
    assert_eq!(answer.header("content-type"), Some("application/octet-stream"));
    assert_eq!(answer.header("trailer"), Some("repr-digest"));
    let name = format!("attachment; filename=\"konsen-{revision}.backup\"");
    assert_eq!(answer.header("content-disposition"), Some(&name[..]));
    let mut check = BackupCheck::default();
    check.feed(&answer.body).unwrap();
    let summary = check.finish().unwrap();
    assert_eq!((summary.revision.0, summary.keys, summary.changes), (revision, 7, 20));
    assert_eq!(summary.origin.node, "node1");
    assert_eq!(summary.members.members.len(), 1);

    server.send("HEAD /v1/snapshot", &[]);
    server.send("GET /v1/snapshot?from=1", &[]).problem(400, "unknown-parameter");
    server.send("POST /v1/snapshot", &[]).problem(405, "method-not-allowed");
    server.send("GET /v1/snapshot", &["Konsen-Timeout: soon"]).problem(400, "invalid-header");
}

#[tokio::test]
async fn a_backup_of_an_empty_store_begins_at_revision_1() {
    let server = Server::start().await;
    let answer = server.send("GET /v1/snapshot", &[]);
    assert_eq!((answer.status, answer.revision()), (200, 1));
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("empty.backup");
    std::fs::write(&file, &answer.body).unwrap();
    let mut inspect = harness::konsen();
    let inspected =
        inspect.args(["snapshot", "inspect", "-o", "json"]).arg(&file).output().unwrap();
    assert!(inspected.status.success(), "{inspected:?}");
    let summary: serde_json::Value = serde_json::from_slice(&inspected.stdout).unwrap();
    for (name, number) in [("revision", 1), ("oldest_revision", 1), ("keys", 0), ("changes", 0)] {
        assert_eq!(summary[name], number, "{name}: {summary}");
    }
}

#[tokio::test]
async fn the_digest_comes_in_a_trailer_to_those_who_take_trailers() {
    let server = Server::start().await;
    server.send_body("PUT /v1/kv/a", &[], "x");
    let mut stream = server.connect();
    let request = "GET /v1/snapshot HTTP/1.1\r\nHost: localhost\r\nConnection: close, TE\r\nTE: trailers\r\n\r\n";
    stream.write_all(request.as_bytes()).unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    let tail = String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(100)..]).into_owned();
    let answer = server.send("GET /v1/snapshot", &[]);
    let mut check = BackupCheck::default();
    check.feed(&answer.body).unwrap();
    let digest = konsen::api::digest_field(&check.finish().unwrap().digest.0);
    // Of another time: the form is the same, the value is that of what came then.
    let line = tail.rsplit_once("\r\n0\r\n").expect("a last chunk").1;
    assert!(line.starts_with("repr-digest: sha-256=:"), "{tail}");
    assert_eq!(line.trim_end().len(), "repr-digest: ".len() + digest.len(), "{tail}");
}

#[tokio::test]
async fn the_client_is_told_the_revision_and_the_digest() {
    let server = Server::start().await;
    let revision = server.send_body("PUT /v1/kv/a", &[], "x").revision();
    let client = konsen::client::Client::new(&konsen::client::Options {
        endpoints: vec!["127.0.0.1:1".to_owned(), format!("127.0.0.1:{}", server.port)],
        tls: konsen::client::TlsFiles::default(),
        token: None,
        timeout: crate::harness::PATIENCE,
    });
    let mut stream = client.unwrap().snapshot().await.unwrap();
    assert_eq!(stream.revision().0, revision);
    let mut check = BackupCheck::default();
    while let Some(bytes) = stream.next().await.unwrap() {
        check.feed(&bytes).unwrap();
    }
    let digest = check.finish().unwrap().digest;
    assert_eq!(stream.digest(), Some(&konsen::api::digest_field(&digest.0)[..]));
}

#[tokio::test]
async fn so_many_backups_at_a_time_and_no_more() {
    let server = Server::start_with("limits:\n  value: 16MiB\n").await;
    // More than the sockets and the parts on their way hold.
    for number in 0..4 {
        let put = format!("PUT /v1/kv/k{number}");
        assert_eq!(server.send_body(&put, &[], vec![b'x'; 8 << 20]).status, 201);
    }
    let begin = || {
        let mut stream = server.connect();
        let request = b"GET /v1/snapshot HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        stream.write_all(request).unwrap();
        let mut first = [0; 15];
        stream.read_exact(&mut first).unwrap();
        assert_eq!(&first, b"HTTP/1.1 200 OK");
        stream
    };
    let (first, second) = (begin(), begin());
    let refused = server.send("GET /v1/snapshot", &[]);
    assert_eq!(refused.header("retry-after"), Some("1"));
    let detail = refused.problem(429, "too-busy");
    assert!(detail.contains("2 backups"), "{detail}");
    assert_eq!(server.send_body("PUT /v1/kv/meanwhile", &[], "x").status, 201);
    // Whoever goes makes room.
    drop(first);
    let deadline = std::time::Instant::now() + crate::harness::PATIENCE;
    while server.send("HEAD /v1/snapshot", &[]).status == 429 {
        assert!(std::time::Instant::now() < deadline);
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    drop(second);
}
