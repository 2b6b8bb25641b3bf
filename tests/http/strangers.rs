//! What strangers send, over HTTP/1.0, HTTP/1.1 and HTTP/2, and what they hear.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use crate::h2;
use crate::harness::PATIENCE;
use crate::raw::{Answer, Server, read};

/// A request, and the problem that it is refused with, or the status that it gets.
struct Row {
    line: &'static str,
    headers: &'static [&'static str],
    body: Option<&'static str>,
    expected: Expected,
}

enum Expected {
    Problem(u16, &'static str),
    Status(u16),
}

const fn refused(
    line: &'static str,
    headers: &'static [&'static str],
    body: Option<&'static str>,
    status: u16,
    name: &'static str,
) -> Row {
    Row { line, headers, body, expected: Expected::Problem(status, name) }
}

const fn taken(
    line: &'static str,
    headers: &'static [&'static str],
    body: Option<&'static str>,
    status: u16,
) -> Row {
    Row { line, headers, body, expected: Expected::Status(status) }
}

const EVIL: &str = "origin: http://evil.example";
const TEXT: &str = "content-type: text/plain";
const FORM: &str = "content-type: application/x-www-form-urlencoded";

/// In every version.
const ALL: &[Row] = &[
    // Pages of elsewhere.
    refused("POST /konsen", &[EVIL, FORM], Some("a=1"), 403, "cross-site"),
    refused("POST /api/kv", &[EVIL, TEXT], Some(r#"{"key":"a"}"#), 403, "cross-site"),
    refused("POST /v1/compact", &[EVIL, TEXT], Some(r#"{"revision":1}"#), 403, "cross-site"),
    refused("POST /v1/cluster/leader", &[EVIL], Some("{}"), 403, "cross-site"),
    refused("POST /v1/cluster/members", &[EVIL, TEXT], Some("{}"), 403, "cross-site"),
    refused("POST /v1/cluster/members/node1/replace", &[EVIL], Some(""), 403, "cross-site"),
    refused("PUT /v1/kv/a", &["origin: null"], Some("x"), 403, "cross-site"),
    refused("PUT /v1/kv/a", &["sec-fetch-site: cross-site"], Some("x"), 403, "cross-site"),
    refused("DELETE /v1/kv?prefix=a", &["sec-fetch-site: same-site"], None, 403, "cross-site"),
    taken("GET /v1/kv?prefix=a", &[EVIL, "sec-fetch-site: cross-site"], None, 200),
    taken(
        "PUT /v1/kv/own",
        &["origin: http://localhost", "sec-fetch-site: same-origin"],
        Some("x"),
        201,
    ),
    // What is broken, or nothing of konsen's.
    refused("DELETE /v1/cluster/members/%ff", &[], None, 400, "malformed"),
    refused("POST /v1/cluster/members/%ff/promote", &[], Some(""), 400, "malformed"),
    refused("POST /v1/compact", &[TEXT], Some("{"), 400, "malformed"),
    refused("GET /v1/nothing", &[], None, 404, "no-such-route"),
    refused("PATCH /v1/kv/a", &[], Some("x"), 405, "method-not-allowed"),
    refused("PUT /v1/kv/a", &["content-encoding: gzip"], Some("x"), 415, "unsupported-encoding"),
    refused("POST /v1/compact", &["content-encoding: br"], Some("x"), 415, "unsupported-encoding"),
    taken("PUT /v1/kv/identity", &["content-encoding: identity"], Some("x"), 201),
    refused(
        "GET /v1/kv/a",
        &["konsen-timeout: 2s", "konsen-timeout: bogus"],
        None,
        400,
        "invalid-header",
    ),
    refused(
        "PUT /v1/kv/a",
        &["content-type: a/b", "content-type: c/d"],
        Some("x"),
        400,
        "invalid-header",
    ),
    refused("DELETE /v1/kv?start=a&end=", &[], None, 400, "invalid-parameter"),
    taken("GET /v1/kv?end=", &[], None, 200),
    taken("GET /v1/kv?start=", &[], None, 200),
    refused("PUT /v1/kv/", &[], Some("x"), 400, "invalid-key"),
    taken("GET /v1/kv/a%23b", &[], None, 404),
];

/// Whole heads of HTTP/1, each with what its connection hears.
const HTTP1: &[(&str, u16, &str)] = &[
    ("DELETE /v1/kv?prefix=tmp#1/ HTTP/1.1\r\nHost: localhost\r\n\r\n", 400, "malformed"),
    ("DELETE /v1/kv?prefix=tmp#1/ HTTP/1.0\r\n\r\n", 400, "malformed"),
    (
        "PUT /v1/kv/team#7 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx",
        400,
        "malformed",
    ),
    ("GET http://localhost/v1/kv/a#b HTTP/1.1\r\nHost: localhost\r\n\r\n", 400, "malformed"),
    ("GET /healthz HTTP/1.1\r\n\r\n", 400, "malformed"),
    ("GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n", 400, "malformed"),
    ("GET /healthz HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", 400, "malformed"),
    ("GET /healthz HTTP/1.1\r\nHost: a b\r\nConnection: close\r\n\r\n", 400, "malformed"),
    ("GET /healthz HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n", 421, "wrong-host"),
    ("GET /healthz HTTP/1.0\r\nHost: evil.example\r\n\r\n", 421, "wrong-host"),
    (
        "PUT /v1/kv/a HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip, chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
        501,
        "unsupported-transfer-coding",
    ),
    ("PUT /v1/kv/a HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, "malformed"),
    (
        "PUT /v1/kv/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
        "malformed",
    ),
    (
        "PUT /v1/kv/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxy",
        400,
        "malformed",
    ),
    ("GET /healthz HTTP/3.0\r\nHost: localhost\r\n\r\n", 505, "unsupported-version"),
    ("SSH-2.0-OpenSSH_9.6\r\n\r\n", 400, "malformed"),
    ("GET /a b HTTP/1.1\r\nHost: localhost\r\n\r\n", 400, "malformed"),
];

fn http1(server: &Server, version: &str, row: &Row) -> Answer {
    let mut request = format!("{} HTTP/{version}\r\nHost: localhost\r\n", row.line);
    if version == "1.1" {
        request += "Connection: close\r\n";
    }
    for header in row.headers {
        request += &format!("{header}\r\n");
    }
    if let Some(body) = row.body {
        request += &format!("Content-Length: {}\r\n\r\n{body}", body.len());
    } else {
        request += "\r\n";
    }
    server.raw(request.as_bytes())
}

#[tokio::test]
async fn what_is_refused_is_a_problem_in_every_version() {
    let server = Server::start().await;
    for row in ALL {
        for version in ["1.0", "1.1", "2"] {
            let answer = match version {
                "2" => {
                    let body = row.body.map(str::as_bytes);
                    h2::send(server.port, "localhost", row.line, row.headers, body).await
                }
                _ => http1(&server, version, row),
            };
            let what = format!("{} over HTTP/{version}", row.line);
            match row.expected {
                Expected::Problem(status, name) => {
                    assert!(answer.problem(status, name).len() > 10, "{what}");
                }
                // The first one creates it.
                Expected::Status(201) => assert!(matches!(answer.status, 201 | 204), "{what}"),
                Expected::Status(status) => assert_eq!(answer.status, status, "{what}"),
            }
        }
    }
    let foreign = h2::send(server.port, "evil.example", "GET /healthz", &[], None).await;
    foreign.problem(421, "wrong-host");
    for (request, status, name) in HTTP1 {
        let answer = server.raw(request.as_bytes());
        assert!(answer.problem(*status, name).len() > 10, "{request:?}");
    }
    // Nothing of all that was carried out.
    server.send("GET /v1/kv/a", &[]).problem(404, "no-such-key");
}

#[tokio::test]
async fn a_host_that_the_configuration_names_is_served() {
    let server = Server::start_with("http:\n  tls: false\n  hosts: [kv.example.org]\n").await;
    let get = |host: &str| {
        let request = format!("GET /healthz HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        server.raw(request.as_bytes()).status
    };
    let hosts =
        ["KV.example.org", "kv.example.org:1", "127.0.0.1", "[::1]:7", "localhost:8080", "evil"];
    assert_eq!(hosts.map(get), [200, 200, 200, 200, 200, 421]);
}

#[tokio::test]
async fn a_fragment_never_reaches_another_key() {
    let server = Server::start().await;
    for key in ["tmp", "tmp%231/x", "tmp2", "tmp-important"] {
        assert_eq!(server.send_body(&format!("PUT /v1/kv/{key}"), &[], "x").status, 201);
    }
    // Behind others on its connection, one of which has the like in its body.
    let decoy = "DELETE /v1/kv?prefix=tmp#2 HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut stream = server.connect();
    write!(
        stream,
        "PUT /v1/kv/body HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{decoy}\
         PUT /v1/kv/chunked HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{decoy}\r\n0\r\n\r\n\
         {decoy}\
         PUT /v1/kv/behind HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx",
        decoy.len(),
        decoy.len(),
    )
    .unwrap();
    let mut all = String::new();
    stream.read_to_string(&mut all).unwrap();
    let statuses: Vec<&str> = all.split("HTTP/1.1 ").skip(1).map(|answer| &answer[..3]).collect();
    assert_eq!(statuses, ["201", "201", "400"], "{all}");
    assert!(all.contains("urn:konsen:problem:malformed") && all.contains("%23"), "{all}");
    assert_eq!(server.send("GET /v1/kv/body", &[]).text(), decoy);
    assert_eq!(server.send("GET /v1/kv/chunked", &[]).text(), decoy);
    let left = server.send("GET /v1/kv?prefix=tmp&keys_only=true", &[]).json();
    assert_eq!(left["items"].as_array().unwrap().len(), 4);
    server.send("GET /v1/kv/behind", &[]).problem(404, "no-such-key");
    // Over HTTP/2, too, where the connection and the requests beside it live on.
    let delete = [&b"\x02\x06DELETE\x86\x01\x09localhost\x04\x14/v1/kv?prefix=tmp#1/"[..], b""];
    let get = [&b"\x82\x86\x01\x09localhost\x04\x0d/v1/kv/behind"[..], b""];
    let put = [&b"\x02\x03PUT\x86\x01\x09localhost\x04\x0c/v1/kv/tmp#2"[..], b"x"];
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    for (stream, [block, body]) in (1..).step_by(2).zip([delete, get, put, get]) {
        let end_stream = u8::from(body.is_empty());
        bytes.extend_from_slice(&[0, 0, block.len() as u8, 1, 4 | end_stream, 0, 0, 0, stream]);
        bytes.extend_from_slice(block);
        if !body.is_empty() {
            bytes.extend_from_slice(&[0, 0, body.len() as u8, 0, 1, 0, 0, 0, stream]);
            bytes.extend_from_slice(body);
        }
    }
    let mut stream = server.connect();
    stream.write_all(&bytes).unwrap();
    let answers = statuses_of_http2(&mut stream, 4);
    assert_eq!(answers, [(1, 400), (3, 404), (5, 400), (7, 404)].into());
    let left = server.send("GET /v1/kv?prefix=tmp&keys_only=true", &[]).json();
    assert_eq!(left["items"].as_array().unwrap().len(), 4);
    // As it should be written.
    let deleted = server.send("DELETE /v1/kv?prefix=tmp%231/", &[]);
    assert_eq!(deleted.json()["deleted"], 1);
}

/// The statuses of so many answers by their streams. A server names the two that are asked for here by their places in the
/// static table (RFC 7541, appendix A).
fn statuses_of_http2(stream: &mut TcpStream, count: usize) -> BTreeMap<u8, u16> {
    let mut statuses = BTreeMap::new();
    while statuses.len() < count {
        let mut head = [0; 9];
        stream.read_exact(&mut head).unwrap();
        let [a, b, c, kind, _, _, _, _, id] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        stream.read_exact(&mut payload).unwrap();
        assert_ne!(kind, 7, "GOAWAY: {}", String::from_utf8_lossy(&payload));
        if kind == 1 {
            let status = match payload[0] {
                0x8c => 400,
                0x8d => 404,
                other => panic!("{other:x}"),
            };
            statuses.insert(id, status);
        }
    }
    statuses
}

#[tokio::test]
async fn whoever_sends_no_more_is_answered() {
    let server = Server::start().await;
    for request in [
        "PUT /v1/kv/half HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nall",
        "GET /v1/kv/half HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET /v1/kv?prefix=h HTTP/1.0\r\n\r\n",
    ] {
        let mut stream = server.connect();
        stream.write_all(request.as_bytes()).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        assert!(matches!(read(&mut stream).status, 200 | 201), "{request}");
    }
    // But one that waits is taken to have gone, and gives its place back.
    let mut stream = server.connect();
    stream.write_all(b"GET /v1/kv/none?wait=4m HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let began = Instant::now();
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
    assert!(began.elapsed() < PATIENCE && rest.is_empty());
}

#[tokio::test]
async fn idle_connections_stay_as_long_as_they_are_told() {
    let server = Server::start_with("http:\n  tls: false\n  idle: 3s\n").await;
    // One that ends is not told how long it stays.
    assert_eq!(server.send("GET /healthz", &[]).header("keep-alive"), None);
    let mut stream = server.connect();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let began = Instant::now();
    assert_eq!(read(&mut stream).header("keep-alive"), Some("timeout=3"));
    assert!(began.elapsed() > Duration::from_secs(3), "{:?}", began.elapsed());
    // HTTP/2 has no such header, and ends as well.
    let stream = tokio::net::TcpStream::connect(("127.0.0.1", server.port)).await.unwrap();
    let (mut client, connection) = ::h2::client::handshake(stream).await.unwrap();
    let began = Instant::now();
    let requests = async {
        let uri = format!("http://localhost:{}/healthz", server.port);
        let request = axum::http::Request::get(uri).body(()).unwrap();
        let (response, _) = client.send_request(request, true).unwrap();
        assert_eq!(response.await.unwrap().status(), 200);
        client
    };
    let both = async { tokio::join!(connection, requests) };
    // The client is kept: it is the server that ends the connection.
    let (ended, _client) = tokio::time::timeout(PATIENCE, both).await.unwrap();
    ended.unwrap();
    assert!(began.elapsed() > Duration::from_secs(3), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_stream_that_breaks_off_over_http_1_0_is_reset() {
    let server = Server::start().await;
    let value = vec![b'x'; 1 << 20];
    for number in 0..32 {
        let put = format!("PUT /v1/kv/big{number:02}");
        assert_eq!(server.send_body(&put, &[], &value).status, 201);
    }
    let mut stream = server.connect();
    let request = "GET /v1/kv?prefix=big HTTP/1.0\r\nAccept: application/x-ndjson\r\n\r\n";
    stream.write_all(request.as_bytes()).unwrap();
    let mut first = [0; 15];
    stream.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"HTTP/1.0 200 OK");
    let newest = server.send_body("PUT /v1/kv/later", &[], "x").revision();
    let body = format!("{{\"revision\":{newest}}}");
    assert_eq!(server.send_body("POST /v1/compact", &[], body).status, 200);
    let mut rest = Vec::new();
    let error = stream.read_to_end(&mut rest).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert!(rest.len() < 32 << 20);
}
