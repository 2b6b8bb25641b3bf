//! One kept-alive connection of HTTP/1.1: sends a request that is made already, and reads what the answer comes to.
//!
//! Written for this alone, since a client for all purposes takes more of the CPU that the nodes may share.

use std::io;

use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::api::Outcome;

/// The most bytes of an answer's head, and of what is read at a time.
const BUFFER_BYTES: usize = 16 << 10;
/// The most fields of an answer.
const FIELDS_MAX: usize = 64;
/// The most bytes of an error's body that are looked at.
const PROBLEM_BYTES_MAX: usize = 4 << 10;
/// The most of what an error says that is told.
const DETAIL_CHARS_MAX: usize = 200;
/// The field that each answer of konsen has.
const REVISION: &str = "konsen-revision";

/// What carries a connection.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// An answer, as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// Whether konsen gave it.
    pub(super) is_konsens: bool,
    /// What an error says became of the request.
    pub(super) outcome: Option<Outcome>,
    /// What an error says else.
    pub(super) detail: String,
}

/// See the module's documentation.
pub(super) struct Wire {
    stream: Box<dyn Stream>,
    buffer: Box<[u8]>,
    /// What was read and not yet looked at.
    unread: std::ops::Range<usize>,
    ends: bool,
}

impl Wire {
    pub(super) fn new(stream: Box<dyn Stream>) -> Wire {
        Wire { stream, buffer: vec![0; BUFFER_BYTES].into_boxed_slice(), unread: 0..0, ends: false }
    }

    /// Whether it carries no other request, as the server has said.
    pub(super) fn ends(&self) -> bool {
        self.ends
    }

    /// Sends a request and reads its answer. After an error nothing else can be asked here.
    pub(super) async fn ask(&mut self, request: &[u8]) -> io::Result<Answer> {
        let sent = async {
            self.stream.write_all(request).await?;
            self.stream.flush().await
        };
        let head = match sent.await {
            Ok(()) => self.head().await?,
            // A server that takes no more of a request may have said why.
            Err(error) => self.head().await.map_err(|_| error)?,
        };
        // Who has not taken the whole request ends the connection, whether it says so or not.
        self.ends = !head.keeps || matches!(head.status, 408 | 413);
        let is_error = !(200..300).contains(&head.status);
        let mut body = Vec::new();
        let kept = is_error.then_some(&mut body);
        match head.body {
            Body::Length(bytes) => self.skip(bytes, kept).await?,
            Body::Chunked => self.skip_chunks(kept).await?,
        }
        let problem: Problem = serde_json::from_slice(&body).unwrap_or_default();
        let detail = problem.detail.chars().take(DETAIL_CHARS_MAX).collect();
        let (status, is_konsens) = (head.status, head.is_konsens || problem.is_konsens());
        Ok(Answer { status, is_konsens, outcome: problem.outcome, detail })
    }

    async fn head(&mut self) -> io::Result<Head> {
        loop {
            if let Some(head) = Head::parse(&self.buffer[self.unread.clone()])? {
                self.unread.start += head.bytes;
                // An interim answer is none.
                if head.status >= 200 {
                    return Ok(head);
                }
            } else {
                self.read().await?;
            }
        }
    }

    /// Reads more; an error if there is no more, or no room for it.
    async fn read(&mut self) -> io::Result<()> {
        if self.unread.is_empty() {
            self.unread = 0..0;
        } else if self.unread.end == self.buffer.len() {
            self.buffer.copy_within(self.unread.clone(), 0);
            self.unread = 0..self.unread.len();
        }
        if self.unread.end == self.buffer.len() {
            return Err(io::Error::other("the answer's head is too large"));
        }
        match self.stream.read(&mut self.buffer[self.unread.end..]).await? {
            0 => Err(io::Error::other("the connection was closed before there was an answer")),
            more => {
                self.unread.end += more;
                Ok(())
            }
        }
    }

    /// Passes over so many bytes of the body, of which the first go into `kept`.
    async fn skip(&mut self, mut bytes: u64, mut kept: Option<&mut Vec<u8>>) -> io::Result<()> {
        while bytes > 0 {
            if self.unread.is_empty() {
                self.read().await?;
            }
            let part = self.unread.len().min(usize::try_from(bytes).unwrap_or(usize::MAX));
            if let Some(kept) = &mut kept {
                let room = PROBLEM_BYTES_MAX.saturating_sub(kept.len()).min(part);
                kept.extend_from_slice(&self.buffer[self.unread.start..][..room]);
            }
            self.unread.start += part;
            bytes -= part as u64;
        }
        Ok(())
    }

    async fn skip_chunks(&mut self, mut kept: Option<&mut Vec<u8>>) -> io::Result<()> {
        loop {
            let size = httparse::parse_chunk_size(&self.buffer[self.unread.clone()]);
            match size.map_err(|_| no_http())? {
                httparse::Status::Partial => self.read().await?,
                httparse::Status::Complete((line, 0)) => {
                    self.unread.start += line;
                    return self.skip_trailers().await;
                }
                httparse::Status::Complete((line, bytes)) => {
                    self.unread.start += line;
                    self.skip(bytes, kept.as_deref_mut()).await?;
                    // The line's end after it.
                    self.skip(2, None).await?;
                }
            }
        }
    }

    async fn skip_trailers(&mut self) -> io::Result<()> {
        loop {
            let unread = &self.buffer[self.unread.clone()];
            match unread.iter().position(|byte| *byte == b'\n') {
                None => self.read().await?,
                Some(at) => {
                    let is_last = unread[..at].trim_ascii().is_empty();
                    self.unread.start += at + 1;
                    if is_last {
                        return Ok(());
                    }
                }
            }
        }
    }
}

fn no_http() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the answer is no HTTP")
}

/// The members of a problem (RFC 9457) that are looked at.
#[derive(Debug, Default, Deserialize)]
struct Problem {
    #[serde(default)]
    r#type: String,
    #[serde(default)]
    detail: String,
    outcome: Option<Outcome>,
}

impl Problem {
    fn is_konsens(&self) -> bool {
        self.r#type.starts_with(crate::api::PROBLEM_TYPE)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Body {
    Length(u64),
    Chunked,
}

/// An answer's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Head {
    status: u16,
    /// How long it is.
    bytes: usize,
    body: Body,
    is_konsens: bool,
    /// Whether the connection carries another request.
    keeps: bool,
}

impl Head {
    /// None while it is not whole.
    fn parse(bytes: &[u8]) -> io::Result<Option<Head>> {
        let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
        let mut answer = httparse::Response::new(&mut fields);
        let httparse::Status::Complete(length) = answer.parse(bytes).map_err(|_| no_http())? else {
            return Ok(None);
        };
        let status = answer.code.unwrap_or_default();
        let mut head = Head {
            status,
            bytes: length,
            body: Body::Length(0),
            is_konsens: false,
            keeps: answer.version == Some(1),
        };
        let mut is_sized = status < 200 || status == 204 || status == 304;
        let may_have_body = !is_sized;
        for field in answer.headers.iter() {
            let is = |name: &str| field.name.eq_ignore_ascii_case(name);
            if is(REVISION) {
                head.is_konsens = true;
            } else if is("content-length") && may_have_body {
                let text = std::str::from_utf8(field.value).map_err(|_| no_http())?;
                head.body = Body::Length(text.trim().parse().map_err(|_| no_http())?);
                is_sized = true;
            } else if is("transfer-encoding") && may_have_body {
                head.body = Body::Chunked;
                is_sized = true;
            } else if is("connection") && field.value.eq_ignore_ascii_case(b"close") {
                head.keeps = false;
            }
        }
        // Such a body ends with the connection; konsen gives none.
        if is_sized { Ok(Some(head)) } else { Err(io::Error::other("the answer has no length")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What each answer comes to that is sent in parts of that size.
    async fn answers(sent: &str, part: usize, count: usize) -> io::Result<Vec<Answer>> {
        let (near, mut far) = tokio::io::duplex(part);
        let sent = sent.to_owned();
        let server = tokio::spawn(async move {
            let mut request = [0; 4];
            for _ in 0..count {
                far.read_exact(&mut request).await?;
            }
            far.write_all(sent.as_bytes()).await
        });
        let mut wire = Wire::new(Box::new(near));
        for _ in 1..count {
            wire.stream.write_all(b"GET ").await?;
        }
        let mut all = vec![wire.ask(b"GET ").await?];
        for _ in 1..count {
            // Asked already.
            all.push(wire.ask(b"").await?);
        }
        server.await.unwrap()?;
        Ok(all)
    }

    #[tokio::test]
    async fn answers_are_read_whole_in_whatever_parts_they_come() {
        let problem =
            r#"{"type":"urn:konsen:problem:too-busy","detail":"no room","outcome":"not_applied"}"#;
        let refused = format!("Content-Length: {}\r\n\r\n{problem}", problem.len());
        let sent = format!(
            "HTTP/1.1 204 No Content\r\nKonsen-Revision: 7\r\n\r\n\
             HTTP/1.1 100 Continue\r\n\r\n\
             HTTP/1.1 200 OK\r\nkonsen-revision: 7\r\nContent-Length: 3\r\n\r\nabc\
             HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nA\r\n0123456789\r\n0\r\na: b\r\n\r\n\
             HTTP/1.1 429 Too Many Requests\r\n{refused}"
        );
        for part in [1, 7, 64, 4096] {
            let all = answers(&sent, part.max(4), 4).await.unwrap();
            let short: Vec<_> = all.iter().map(|one| (one.status, one.is_konsens)).collect();
            assert_eq!(short, [(204, true), (200, true), (200, false), (429, true)]);
            assert_eq!(all[3].outcome, Some(Outcome::NotApplied));
            assert_eq!((all[3].detail.as_str(), all[0].outcome), ("no room", None));
        }
    }

    #[tokio::test]
    async fn what_is_no_answer_is_an_error() {
        for sent in [
            "SSH-2.0-OpenSSH\r\n\r\n",
            "HTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            "",
        ] {
            assert!(answers(sent, 64, 1).await.is_err(), "{sent}");
        }
        let long = format!("HTTP/1.1 200 OK\r\na: {}\r\n\r\n", "b".repeat(BUFFER_BYTES));
        assert!(answers(&long, 4096, 1).await.is_err());
    }

    #[tokio::test]
    async fn who_takes_no_more_of_a_request_is_heard_all_the_same() {
        let (near, mut far) = tokio::io::duplex(256);
        tokio::spawn(async move {
            let answer = b"HTTP/1.1 413 Payload Too Large\r\nContent-Length: 0\r\n\r\n";
            let _ = far.write_all(answer).await;
        });
        let mut wire = Wire::new(Box::new(near));
        let answer = wire.ask(&[b'x'; 100_000]).await.unwrap();
        assert!(answer.status == 413 && wire.ends());
    }

    #[test]
    fn connections_end_as_the_server_says() {
        let keeps = |text: &str| Head::parse(text.as_bytes()).unwrap().unwrap().keeps;
        assert!(keeps("HTTP/1.1 204 No Content\r\n\r\n"));
        assert!(!keeps("HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"));
        assert!(!keeps("HTTP/1.0 204 No Content\r\n\r\n"));
    }
}
