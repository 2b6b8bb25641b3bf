//! HTTP/1.1 by hand, so that tests see and send exactly what is on the wire.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::harness::{Cluster, PATIENCE};

/// A cluster of one node.
pub struct Server {
    pub cluster: Cluster,
    pub port: u16,
}

/// An answer as it came.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Server {
    pub async fn start() -> Server {
        Server::start_with("").await
    }

    /// `extra` is appended to cluster.yml.
    pub async fn start_with(extra: &str) -> Server {
        let mut cluster = Cluster::build(1, extra);
        cluster.nodes[0].start();
        cluster.wait_ready(0).await;
        let port = cluster.nodes[0].http_port;
        Server { cluster, port }
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Sends `GET /path` and the like with headers, each on a line of its own, and no body.
    pub fn send(&self, line: &str, headers: &[&str]) -> Answer {
        self.exchange(line, headers, None)
    }

    /// The same with a body.
    pub fn send_body(&self, line: &str, headers: &[&str], body: impl AsRef<[u8]>) -> Answer {
        self.exchange(line, headers, Some(body.as_ref()))
    }

    fn exchange(&self, line: &str, headers: &[&str], body: Option<&[u8]>) -> Answer {
        let mut request = format!("{line} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
        for header in headers {
            request += &format!("{header}\r\n");
        }
        if let Some(body) = body {
            request += &format!("Content-Length: {}\r\n", body.len());
        }
        let mut request = format!("{request}\r\n").into_bytes();
        request.extend_from_slice(body.unwrap_or_default());
        self.raw(&request)
    }

    /// Sends these bytes on a connection of their own, which the request must ask to close.
    pub fn raw(&self, request: &[u8]) -> Answer {
        let mut stream = self.connect();
        // A server that has refused already may have closed its side.
        let _ = stream.write_all(request);
        read(&mut stream)
    }
}

/// Reads an answer and all that follows until the server closes.
pub fn read(stream: &mut TcpStream) -> Answer {
    let mut bytes = Vec::new();
    // What came before a reset is an answer all the same.
    let _ = stream.read_to_end(&mut bytes);
    parse(&bytes)
}

fn parse(bytes: &[u8]) -> Answer {
    let end = bytes
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .unwrap_or_else(|| panic!("no answer: {:?}", String::from_utf8_lossy(bytes)));
    let head = std::str::from_utf8(&bytes[..end]).unwrap();
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers: Vec<(String, String)> = lines
        .map(|line| line.split_once(": ").unwrap())
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let body = &bytes[end + 4..];
    let chunked = headers.iter().any(|(name, _)| name == "transfer-encoding");
    let body = if chunked { unchunk(body) } else { body.to_vec() };
    Answer { status, headers, body }
}

/// Panics if the last chunk is missing: the answer is not whole then.
fn unchunk(mut bytes: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let end = bytes.windows(2).position(|window| window == b"\r\n").expect("a chunk's size");
        let size = usize::from_str_radix(std::str::from_utf8(&bytes[..end]).unwrap(), 16).unwrap();
        if size == 0 {
            return body;
        }
        body.extend_from_slice(&bytes[end + 2..end + 2 + size]);
        bytes = &bytes[end + 2 + size + 2..];
    }
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(given, _)| given == name).map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {:?}", self.text()))
    }

    /// The entity tag, quotes included.
    pub fn etag(&self) -> &str {
        self.header("etag").expect("an ETag")
    }

    pub fn revision(&self) -> u64 {
        self.header("konsen-revision").expect("Konsen-Revision").parse().unwrap()
    }

    /// Checks that the answer is this problem, whole as RFC 9457 and the contract say; its detail.
    pub fn problem(&self, status: u16, name: &str) -> String {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        let problem = self.json();
        assert_eq!(problem["type"], format!("urn:konsen:problem:{name}"));
        assert_eq!(problem["status"], status);
        assert_eq!(problem["outcome"], "not_applied");
        assert!(!problem["title"].as_str().unwrap().is_empty());
        problem["detail"].as_str().unwrap().to_owned()
    }
}
