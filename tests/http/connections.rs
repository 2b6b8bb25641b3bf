//! Connections that are slow, greedy, cut off, or in the way of a shutdown.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use konsen::http::STREAMS_MAX;

use crate::harness::PATIENCE;
use crate::raw::{Server, read};

#[tokio::test]
async fn a_client_that_goes_away_in_a_body_changes_nothing() {
    let server = Server::start().await;
    let before = server.send("GET /v1/status", &[]).revision();
    for head in ["Content-Length: 100", "Transfer-Encoding: chunked"] {
        let mut stream = server.connect();
        let part = if head.starts_with('C') { "only a part" } else { "b\r\nonly a part\r\n" };
        write!(stream, "PUT /v1/kv/part HTTP/1.1\r\nHost: localhost\r\n{head}\r\n\r\n{part}")
            .unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        // Whatever the server answers, it has noticed when the connection ends.
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        assert!(!String::from_utf8_lossy(&rest).starts_with("HTTP/1.1 2"));
    }
    server.send("GET /v1/kv/part", &[]).problem(404, "no-such-key");
    assert_eq!(server.send("GET /v1/status", &[]).revision(), before);
}

/// How long the server leaves the connection open, and what it said.
fn until_closed(mut stream: TcpStream) -> (Duration, String) {
    let began = Instant::now();
    let mut bytes = Vec::new();
    if let Err(error) = stream.read_to_end(&mut bytes) {
        assert_eq!(error.kind(), ErrorKind::ConnectionReset, "not closed");
    }
    (began.elapsed(), String::from_utf8_lossy(&bytes).into_owned())
}

#[tokio::test]
async fn slow_clients_are_given_up_and_hold_nobody_up() {
    let http = "http:\n  tls: false\n  idle: 6s\n  head: 6s\n  stall: 6s\n";
    let server = Server::start_with(http).await;
    std::thread::scope(|scope| {
        let open = |text: &str| {
            let mut stream = server.connect();
            stream.write_all(text.as_bytes()).unwrap();
            scope.spawn(move || until_closed(stream))
        };
        let silent = open("");
        // The beginning of what HTTP/2 begins with.
        let undecided = open("PRI * HTT");
        let slow_head = open("GET /v1/kv/a HTTP/1.1\r\nHost: localhost\r\nX: ");
        let slow_body =
            open("PUT /v1/kv/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nab");
        let idle = open("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert_eq!(server.send_body("PUT /v1/kv/b", &[], "quick").status, 201);
        for (name, waiting) in
            [("silent", silent), ("undecided", undecided), ("slow head", slow_head), ("idle", idle)]
        {
            let (time, _) = waiting.join().unwrap();
            assert!(time > Duration::from_secs(5) && time < PATIENCE, "{name}: {time:?}");
        }
        let (time, answer) = slow_body.join().unwrap();
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
        assert!(answer.contains("urn:konsen:problem:body-timeout"), "{answer}");
        assert!(time < PATIENCE);
    });
    server.send("GET /v1/kv/a", &[]).problem(404, "no-such-key");
}

/// The next frame of HTTP/2: its kind, its flags and its payload; none if no more come.
fn frame(stream: &mut TcpStream) -> Option<(u8, u8, Vec<u8>)> {
    let mut head = [0; 9];
    stream.read_exact(&mut head).ok()?;
    let [a, b, c, kind, flags, ..] = head;
    let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
    stream.read_exact(&mut payload).ok()?;
    Some((kind, flags, payload))
}

#[tokio::test]
async fn over_http2_streams_are_bounded_and_silence_ends_the_connection() {
    let server = Server::start().await;
    let mut stream = server.connect();
    // It waits for a change all the time: without a ping nothing would tell that the client's host is gone.
    let block = b"\x82\x86\x01\x09localhost\x04\x13/v1/kv/none?wait=4m";
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    bytes.extend_from_slice(&[0, 0, block.len() as u8, 1, 5, 0, 0, 0, 1]);
    bytes.extend_from_slice(block);
    stream.write_all(&bytes).unwrap();
    let (kind, flags, settings) = frame(&mut stream).unwrap();
    assert_eq!((kind, flags), (4, 0), "SETTINGS come first");
    // SETTINGS_MAX_CONCURRENT_STREAMS (RFC 9113, section 6.5.2).
    let bound = settings.chunks(6).find(|setting| setting[..2] == [0, 3]);
    assert_eq!(bound.map(|setting| &setting[2..]), Some(&STREAMS_MAX.to_be_bytes()[..]));
    loop {
        let (kind, flags, _) = frame(&mut stream).expect("a PING");
        assert_ne!(kind, 1, "it is answered");
        if (kind, flags) == (6, 0) {
            break;
        }
    }
    let asked = Instant::now();
    while frame(&mut stream).is_some() {}
    let took = asked.elapsed();
    // Ten seconds, and what a busy machine adds.
    assert!(took > Duration::from_secs(9) && took < Duration::from_secs(17), "{took:?}");
}

#[tokio::test]
async fn heads_are_bounded() {
    let server = Server::start().await;
    let long = format!("X-Long: {}", "x".repeat(100_000));
    server.send("GET /v1/kv/a", &[&long]).problem(431, "head-too-large");
    let many: Vec<String> = (0..200).map(|number| format!("X-{number}: x")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    server.send("GET /v1/kv/a", &many).problem(431, "head-too-large");
    let target = server.send(&format!("GET /v1/kv/{}", "k".repeat(70_000)), &[]);
    target.problem(431, "head-too-large");
    let mut stream = server.connect();
    stream.write_all(b"\x16\x03\x01 this is not HTTP\r\n\r\n").unwrap();
    read(&mut stream).problem(400, "malformed");
    assert_eq!(server.send("GET /healthz", &[]).status, 200);
}

#[tokio::test]
async fn connections_beyond_the_limit_are_told_and_health_has_a_place() {
    let server = Server::start_with("limits:\n  connections: 4\n").await;
    // The client of the harness keeps one or more connections for a while.
    let held: Vec<TcpStream> = (0..4).map(|_| server.connect()).collect();
    let refused = server.send_body("PUT /v1/kv/a", &[], "x");
    refused.problem(429, "too-busy");
    assert_eq!(refused.header("connection"), Some("close"));
    assert_eq!(refused.header("retry-after"), Some("1"));
    // Without asking for it.
    let health = server.raw(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!((health.status, health.header("connection")), (200, Some("close")));
    assert_eq!(server.send("GET /v1/status", &[]).status, 200);
    drop(held);
    // Until the node has seen it.
    let deadline = Instant::now() + PATIENCE;
    while server.send_body("PUT /v1/kv/a", &[], "x").status == 429 {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn bodies_share_a_bounded_memory() {
    let server = Server::start_with("limits:\n  value: 1MiB\n  bodies: 1MiB\n").await;
    let value = vec![b'w'; 100_000];
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut slow = server.connect();
        write!(
            slow,
            "PUT /v1/kv/slow HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
             Content-Length: 1000000\r\n\r\n"
        )
        .unwrap();
        slow.write_all(&vec![b'v'; 999_999]).unwrap();
        let other = server.send_body("PUT /v1/kv/other", &[], &value);
        // Refused already if the other one was quicker.
        let _ = slow.write_all(b"v");
        let slow = read(&mut slow);
        if other.status == 429 {
            other.problem(429, "too-busy");
            assert_eq!(other.header("retry-after"), Some("1"));
            assert!(matches!(slow.status, 201 | 204), "{slow:?}");
            break;
        }
        // The other one came before the slow one's bytes: it may be through, or in their way.
        assert!(matches!(other.status, 201 | 204), "{other:?}");
        assert!(matches!(slow.status, 201 | 204 | 429), "{slow:?}");
        assert!(Instant::now() < deadline, "never refused");
    }
    assert!(matches!(server.send_body("PUT /v1/kv/other", &[], &value).status, 201 | 204));
}

#[tokio::test]
async fn requests_share_a_connection_and_expect_is_answered() {
    let server = Server::start().await;
    let mut stream = server.connect();
    let get = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let last = "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    write!(stream, "{get}{get}{last}").unwrap();
    let mut all = String::new();
    stream.read_to_string(&mut all).unwrap();
    assert_eq!(all.matches("HTTP/1.1 200 OK").count(), 3);

    let mut stream = server.connect();
    write!(stream, "PUT /v1/kv/e HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n").unwrap();
    let mut go_on = [0; 25];
    stream.read_exact(&mut go_on).unwrap();
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"ok").unwrap();
    assert_eq!(read(&mut stream).status, 201);
}

#[tokio::test]
async fn a_shutdown_ends_idle_connections_and_lets_requests_end() {
    let mut server = Server::start().await;
    let etag = server.send_body("PUT /v1/kv/a", &[], "x").etag().to_owned();
    let mut idle = server.connect();
    idle.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut first = [0; 15];
    idle.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"HTTP/1.1 200 OK");
    // In flight: its body is not whole when the shutdown begins.
    let mut writing = server.connect();
    write!(
        writing,
        "PUT /v1/kv/b HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
    )
    .unwrap();
    let mut go_on = [0; 25];
    writing.read_exact(&mut go_on).unwrap();
    let mut waiting = server.connect();
    write!(
        waiting,
        "GET /v1/kv/a?wait=4m HTTP/1.1\r\nHost: localhost\r\nIf-None-Match: {etag}\r\n\r\n"
    )
    .unwrap();

    let node = &mut server.cluster.nodes[0];
    let began = Instant::now();
    node.signal("TERM");
    let mut rest = Vec::new();
    idle.read_to_end(&mut rest).unwrap();
    writing.write_all(b"ok").unwrap();
    assert_eq!(read(&mut writing).status, 201);
    assert!(matches!(read(&mut waiting).status, 304 | 503));
    assert_eq!(node.wait().code(), Some(0), "{}", node.log());
    assert!(began.elapsed() < Duration::from_secs(12), "{:?}", began.elapsed());
    node.start();
    server.cluster.wait_ready(0).await;
    assert_eq!(server.send("GET /v1/kv/b", &[]).text(), "ok");
}
