//! The Rust client: its answers, its errors, its endpoints, its TLS.

use std::time::Duration;

use bytes::Bytes;
use konsen::api::{TxnOp, TxnRequest};
use konsen::client::{Client, Error, ListRequest, Options, Outcome, Preconditions, TlsFiles};
use konsen::kv::{Over, Revision};

use crate::harness::{Cluster, free_ports, konsen};
use crate::raw::Server;

fn client(endpoints: &[String]) -> Client {
    client_with(endpoints, TlsFiles::default())
}

fn client_with(endpoints: &[String], tls: TlsFiles) -> Client {
    let timeout = Duration::from_secs(5);
    Client::new(&Options { endpoints: endpoints.to_vec(), tls, token: None, timeout }).unwrap()
}

fn url(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

const NONE: Preconditions = Preconditions { if_match: None, if_absent: false };

#[tokio::test]
async fn the_client_does_what_the_api_does() {
    let server = Server::start().await;
    // The first endpoint is down.
    let dead = free_ports(1)[0].1;
    let client = client(&[url(dead), url(server.port)]);
    let key = b"a/..//\0\xff %";
    let value = Bytes::from_static(b"\0\xff");

    assert!(matches!(client.get(key).await, Err(Error::NoSuchKey { revision: Some(_) })));
    let absent = Preconditions { if_absent: true, ..NONE };
    let written = client.put(key, &value, Some("text/x-mine"), absent).await.unwrap();
    assert!(written.created);
    let again = client.put(key, &value, None, absent).await;
    assert_eq!(again, Err(Error::ConditionFailed { current: Some(written.revision) }));
    let read = client.get(key).await.unwrap();
    assert_eq!((&read.item.key[..], &read.item.value), (&key[..], &value));
    assert_eq!(read.item.content_type.as_deref(), Some("text/x-mine"));
    assert_eq!(read.item.mod_revision, written.revision);

    let if_match = Preconditions { if_match: Some(written.revision), ..NONE };
    assert!(!client.put(key, &value, None, if_match).await.unwrap().created);
    let stale = client.delete(key, if_match).await;
    assert!(matches!(stale, Err(Error::ConditionFailed { .. })));
    client.delete(key, NONE).await.unwrap();
    assert!(matches!(client.delete(key, NONE).await, Err(Error::NoSuchKey { revision: Some(_) })));

    for number in 0..5 {
        client.put(format!("l{number}").as_bytes(), &value, None, NONE).await.unwrap();
    }
    let mut request =
        ListRequest { prefix: Some("l".into()), limit: Some(2), ..ListRequest::default() };
    let mut listed = Vec::new();
    loop {
        let page = client.list(&request).await.unwrap();
        listed.extend(page.items.into_iter().map(|item| item.key));
        request.cursor = page.next;
        if request.cursor.is_none() {
            break;
        }
    }
    assert_eq!(listed, ["l0", "l1", "l2", "l3", "l4"]);
    assert_eq!(client.delete_prefix(b"l").await.unwrap().deleted, 5);
    let empty = client.delete_prefix(b"").await;
    assert!(matches!(empty, Err(Error::Usage(_))));
    let never = Preconditions { if_match: Some(Revision(1)), if_absent: true };
    assert!(matches!(client.put(b"a", &value, None, never).await, Err(Error::Usage(_))));
    assert!(matches!(client.put(b"..", &value, None, NONE).await, Err(Error::Usage(_))));

    let status = client.status().await;
    assert!(matches!(status[0].1, Err(Error::Unavailable(_))));
    assert_eq!(status[1].1.as_ref().unwrap().name, "node1");
    assert_eq!(client.cluster().await.unwrap().leader.as_deref(), Some("node1"));
    let past = ListRequest { revision: Some(Revision(1_000_000)), ..ListRequest::default() };
    assert!(matches!(client.list(&past).await, Err(Error::Refused(_))));
}

#[tokio::test]
async fn nobody_there_is_not_applied_and_a_lost_answer_is_unknown() {
    let dead = free_ports(1)[0].1;
    let nobody = client(&[url(dead)]);
    let error = nobody.put(b"a", &"x".into(), None, NONE).await.unwrap_err();
    assert!(matches!(error, Error::Unavailable(_)), "{error:?}");
    assert_eq!(error.outcome(), Outcome::NotApplied);

    // Says how it is, as the other one does, but takes requests and closes without an answer.
    let server = Server::start().await;
    let status = server.send("GET /v1/status", &[]).json().to_string();
    let mute = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = mute.local_addr().unwrap().port();
    let (count, counted) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for stream in mute.incoming() {
            let mut buffer = [0; 1024];
            let mut stream = stream.unwrap();
            let read = std::io::Read::read(&mut stream, &mut buffer).unwrap_or_default();
            if buffer[..read].starts_with(b"GET /v1/status") {
                let length = status.len();
                let ok = format!(
                    "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{status}"
                );
                std::io::Write::write_all(&mut stream, ok.as_bytes()).unwrap();
                continue;
            }
            if count.send(()).is_err() {
                return;
            }
        }
    });
    let client = client(&[url(port), url(server.port)]);
    let error = client.put(b"a", &"x".into(), None, NONE).await.unwrap_err();
    assert_eq!(error.outcome(), Outcome::Unknown, "{error:?}");
    assert_eq!(counted.try_iter().count(), 1, "an unknown write was sent again");
    server.send("GET /v1/kv/a", &[]).problem(404, "no-such-key");
    // A read has no outcome to lose: the other endpoint answers it, also if it is a transaction.
    let get = TxnOp::Get { over: Over::Key("a".into()), limit: None, keys_only: false };
    let request = TxnRequest { then: vec![get], ..TxnRequest::default() };
    let txns = client_with(&[url(port), url(server.port)], TlsFiles::default());
    assert!(txns.txn(&request).await.unwrap().succeeded);
    assert_eq!(counted.try_iter().count(), 1, "the first endpoint was not asked first");
    let json = Bytes::from(r#"{"then":[{"get":{"key":"a"}}]}"#);
    let txns = client_with(&[url(port), url(server.port)], TlsFiles::default());
    assert!(txns.txn_json(&json).await.unwrap().succeeded);
    assert!(matches!(client.get(b"a").await, Err(Error::NoSuchKey { .. })));
}

/// Something else at one of the endpoints keeps nobody from konsen at the other, and is never written to.
#[tokio::test]
async fn an_endpoint_that_is_not_konsen_is_passed_over() {
    let server = Server::start().await;
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = other.local_addr().unwrap().port();
    let (sender, requests) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for stream in other.incoming() {
            let (mut stream, mut head) = (stream.unwrap(), [0; 1024]);
            let read = std::io::Read::read(&mut stream, &mut head).unwrap_or_default();
            let ok = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nno";
            let _ = std::io::Write::write_all(&mut stream, ok);
            let _ = sender.send(String::from_utf8_lossy(&head[..read]).into_owned());
        }
    });
    let client = client(&[url(port), url(server.port)]);
    assert!(matches!(client.get(b"a").await, Err(Error::NoSuchKey { .. })));
    // What comes as JSON has no field that shows whose it is.
    for _ in 0..2 {
        let fresh = client_with(&[url(port), url(server.port)], TlsFiles::default());
        assert!(fresh.list(&ListRequest::default()).await.unwrap().items.is_empty());
        let fresh = client_with(&[url(port), url(server.port)], TlsFiles::default());
        assert_eq!(fresh.members().await.unwrap().members.len(), 1);
    }
    let written = client.put(b"a", &"x".into(), None, NONE).await.unwrap();
    assert!(written.created && written.revision > Revision(1));
    let again = client_with(&[url(port), url(server.port)], TlsFiles::default());
    assert!(again.put(b"b", &"x".into(), None, NONE).await.unwrap().created);
    let asked: Vec<String> = requests.try_iter().collect();
    assert!(!asked.is_empty() && asked.iter().all(|head| head.starts_with("GET ")), "{asked:?}");
}

#[tokio::test]
async fn tls_is_checked_on_both_sides() {
    let mut cluster = Cluster::build(1, "http: { tls: true, clientAuth: required }\n");
    let certs = cluster.nodes[0].home.join("certs");
    let made = konsen()
        .current_dir(cluster.dir.path())
        .args(["cert", "client", "--name", "admin"])
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    cluster.nodes[0].start();
    let endpoint = format!("https://127.0.0.1:{}", cluster.nodes[0].http_port);
    let ca = Some(certs.join("ca.crt"));
    let mine = cluster.dir.path().join("certs");
    let good = TlsFiles {
        ca: ca.clone(),
        cert: Some(mine.join("admin.crt")),
        key: Some(mine.join("admin.key")),
        fingerprint: None,
    };
    let client = client_with(std::slice::from_ref(&endpoint), good.clone());
    let deadline = std::time::Instant::now() + crate::harness::PATIENCE;
    while let Err(error) = client.put(b"a", &"x".into(), None, NONE).await {
        let passes = matches!(error, Error::Unavailable(_) | Error::Busy(_) | Error::NoLeader(_));
        assert!(passes, "{error:?}");
        assert!(std::time::Instant::now() < deadline, "{}", cluster.logs());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(client.get(b"a").await.unwrap().item.value, "x");

    // A certificate that is missing, an authority that is not trusted: both are TLS, not a lost write.
    let stranger =
        client_with(std::slice::from_ref(&endpoint), TlsFiles { ca, ..TlsFiles::default() });
    let refused = stranger.put(b"a", &"y".into(), None, NONE).await.unwrap_err();
    assert!(matches!(refused, Error::Tls(_)), "{refused:?}");
    let trusting_nobody =
        client_with(std::slice::from_ref(&endpoint), TlsFiles { ca: None, ..good });
    let refused = trusting_nobody.get(b"a").await.unwrap_err();
    assert!(matches!(refused, Error::Tls(_)), "{refused:?}");
    let plain = url(cluster.nodes[0].http_port);
    assert!(client_with(&[plain], TlsFiles::default()).get(b"a").await.is_err());
    assert_eq!(client.get(b"a").await.unwrap().item.value, "x");
}
