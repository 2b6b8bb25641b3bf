//! A connection whose heads are checked before they are let through: those of HTTP/1 as `framing` does, the header blocks of
//! HTTP/2 for a `#` in their target only.
//!
//! What comes behind a head of HTTP/1 that is refused is let through no more. So the requests before it are answered in peace;
//! then the connection is shut down, and before that the refusal is written. Over HTTP/2 others share the connection, so a
//! request whose target would be cut off is let through with a mark, and refused where requests are answered.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use super::error::{Kind, Problem, status};
use super::framing::{Chunks, Framing, HEADER_BYTES_MAX, begins_method, check_head, head_end};
use super::hpack::{Broken, Table};
use super::watch::Clock;

/// What HTTP/2 begins with (RFC 9113, section 3.4).
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The types and flags of frames that matter (RFC 9113, section 6).
const HEADERS: u8 = 1;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;
const FRAME_HEADER_BYTES: usize = 9;
const PRIORITY_BYTES: usize = 5;
/// A field that is added to a request whose target the library is about to cut off. Whoever sends it is refused all the same.
pub(super) const CUT_TARGET: &str = "konsen-cut-target";
/// Why.
pub(super) const NO_FRAGMENTS: &str = "a target has a #, which would cut it off there; write %23";
/// The largest frame that the library takes: it says no other.
const FRAME_BYTES_MAX: usize = 16_384;
/// The largest header block, as it is encoded.
const BLOCK_BYTES_MAX: usize = 4 * HEADER_BYTES_MAX;
/// How much is read at once where it has to be looked at.
const READ_BYTES: usize = 4096;
/// How long, and how many bytes of, what a client still sends is read after a refusal, so that it reads that before it
/// hears that the connection is closed (RFC 9112, section 9.6).
const DRAIN_TIME_MAX: Duration = Duration::from_secs(2);
const DRAIN_BYTES_MAX: usize = 4 << 20;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Heads<S> {
    inner: S,
    clock: Arc<Clock>,
    buffer: BytesMut,
    /// How many bytes of the buffer may be let through.
    ready: usize,
    /// How many behind them are known to be no whole head.
    seen: usize,
    at: At,
    /// What header blocks have left behind, over HTTP/2.
    blocks: Option<Box<Blocks>>,
    ended: bool,
    refusal: Refusal,
}

/// What the next byte belongs to.
#[derive(Debug)]
enum At {
    /// HTTP/2's preface, or a head.
    Start,
    Head,
    Body(u64),
    Chunks(Chunks),
    /// The header of an HTTP/2 frame.
    Frame,
}

/// Header blocks of HTTP/2.
#[derive(Debug)]
struct Blocks {
    table: Table,
    /// Of the block that is not whole.
    block: Vec<u8>,
}

#[derive(Debug)]
enum Refusal {
    None,
    /// To be written before the connection ends.
    Due(BytesMut),
    /// Written; what the client still sends is read.
    Draining(Pin<Box<Sleep>>, usize),
    Done,
}

impl<S> Heads<S> {
    pub(super) fn new(inner: S, clock: Arc<Clock>) -> Heads<S> {
        Heads {
            inner,
            clock,
            buffer: BytesMut::new(),
            ready: 0,
            seen: 0,
            at: At::Start,
            blocks: None,
            ended: false,
            refusal: Refusal::None,
        }
    }

    /// Looks at what is in the buffer behind what is ready, as far as it goes.
    fn look(&mut self) {
        while self.ready < self.buffer.len() && !self.ended {
            let rest = &self.buffer[self.ready..];
            match &mut self.at {
                At::Start if rest.starts_with(HTTP2_PREFACE) => {
                    self.clock.set_http2();
                    self.clock.head_ends();
                    self.ready += HTTP2_PREFACE.len();
                    self.blocks = Some(Box::new(Blocks { table: Table::new(), block: Vec::new() }));
                    self.at = At::Frame;
                }
                At::Start if HTTP2_PREFACE.starts_with(rest) => {
                    self.clock.head_begins();
                    return;
                }
                At::Start => self.at = At::Head,
                At::Head => match self.look_at_head() {
                    Ok(true) => {}
                    Ok(false) => return,
                    Err(problem) => return self.refuse(problem),
                },
                At::Body(left) => {
                    let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(rest.len());
                    self.ready += taken;
                    *left -= taken as u64;
                    if *left == 0 {
                        self.at = self.next();
                    }
                }
                At::Chunks(chunks) => match chunks.follow(rest) {
                    Ok((taken, ended)) => {
                        self.ready += taken;
                        if ended {
                            self.at = At::Head;
                        } else if taken == 0 {
                            return;
                        }
                    }
                    Err(_) => {
                        let detail = "the chunks of the body are broken";
                        return self.refuse(Problem::new(Kind::Malformed, detail));
                    }
                },
                At::Frame => match self.look_at_frame() {
                    Ok(true) => {}
                    Ok(false) => return,
                    Err(why) => return self.go_away(why),
                },
            }
        }
    }

    /// Looks at the next head of HTTP/1; false if more of it must come first.
    fn look_at_head(&mut self) -> Result<bool, Problem> {
        let rest = &self.buffer[self.ready..];
        self.clock.head_begins();
        // Empty lines before a request are no head (RFC 9112, section 2.2).
        let blank = rest.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        if blank == rest.len() && blank < 8 {
            return Ok(false);
        }
        if rest.get(blank).is_some_and(|first| !begins_method(*first)) {
            // Whoever speaks something else, TLS above all, need not wait for the end of a head.
            let detail = "what came is not HTTP; if it is TLS, this port speaks plain HTTP";
            return Err(Problem::new(Kind::Malformed, detail));
        }
        let Some(length) = head_end(&rest[blank..], self.seen.saturating_sub(blank)) else {
            self.seen = rest.len();
            return if self.seen > HEADER_BYTES_MAX { Err(too_large()) } else { Ok(false) };
        };
        let length = blank + length;
        if length > HEADER_BYTES_MAX {
            return Err(too_large());
        }
        let framing = check_head(&rest[blank..length])?;
        self.clock.head_ends();
        self.ready += length;
        self.seen = 0;
        self.at = match framing {
            Framing::Length(0) => At::Head,
            Framing::Length(length) => At::Body(length),
            Framing::Chunked => At::Chunks(Chunks::default()),
        };
        Ok(true)
    }

    /// What follows a body.
    fn next(&self) -> At {
        if self.blocks.is_some() { At::Frame } else { At::Head }
    }

    /// Looks at the next frame; false if more of it must come first. Frames of a block that is not whole are let through
    /// with its last one.
    fn look_at_frame(&mut self) -> Result<bool, &'static str> {
        let Some(blocks) = &mut self.blocks else { return Ok(false) };
        let rest = &self.buffer[self.ready + self.seen..];
        let [a, b, c, kind, flags, _, _, _, _, payload @ ..] = rest else { return Ok(false) };
        let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
        if !matches!(*kind, HEADERS | CONTINUATION) {
            if self.seen > 0 {
                return Err("a header block is interrupted");
            }
            self.ready += FRAME_HEADER_BYTES;
            if length > 0 {
                self.at = At::Body(length as u64);
            }
            return Ok(true);
        }
        if length > FRAME_BYTES_MAX {
            return Err("a frame is too large");
        }
        let Some(payload) = payload.get(..length) else { return Ok(false) };
        let fragment = match *kind {
            HEADERS => block_fragment(payload, *flags).ok_or("a frame is broken")?,
            _ => payload,
        };
        blocks.block.extend_from_slice(fragment);
        if blocks.block.len() > BLOCK_BYTES_MAX {
            return Err("a header block is too large");
        }
        self.seen += FRAME_HEADER_BYTES + length;
        if flags & END_HEADERS != 0 {
            let has_fragment = blocks.table.has_fragment(&blocks.block);
            blocks.block = Vec::new();
            self.ready += std::mem::take(&mut self.seen);
            if has_fragment.map_err(|Broken| "a header block is broken")? {
                self.mark(FRAME_HEADER_BYTES + length);
            }
        }
        Ok(true)
    }

    /// Adds a field to the block that ends with what is ready, whose last frame is so long: in a frame of its own, and as one
    /// that no table keeps (RFC 7541, section 6.2.2).
    fn mark(&mut self, frame_bytes: usize) {
        let behind = self.buffer.split_off(self.ready);
        let last = self.ready - frame_bytes;
        let Some([_, _, _, _, flags, stream @ ..]) =
            self.buffer[last..].first_chunk_mut::<FRAME_HEADER_BYTES>()
        else {
            return;
        };
        *flags &= !END_HEADERS;
        let stream = *stream;
        let name = CUT_TARGET.len() as u8;
        self.buffer.extend_from_slice(&[0, 0, name + 3, CONTINUATION, END_HEADERS]);
        self.buffer.extend_from_slice(&stream);
        self.buffer.extend_from_slice(&[0, name]);
        self.buffer.extend_from_slice(CUT_TARGET.as_bytes());
        self.buffer.extend_from_slice(&[0]);
        self.ready = self.buffer.len();
        self.buffer.unsplit(behind);
    }

    /// Ends a connection of HTTP/2 whose frames or blocks cannot be followed.
    fn go_away(&mut self, why: &'static str) {
        self.clock.head_ends();
        self.buffer.truncate(self.ready);
        self.ended = true;
        // All streams, as far as is known; PROTOCOL_ERROR (RFC 9113, section 6.8).
        let length = 8 + why.len();
        let mut frame = vec![0, 0, length as u8, GOAWAY, 0, 0, 0, 0, 0];
        frame.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 1]);
        frame.extend_from_slice(why.as_bytes());
        self.refusal = Refusal::Due(frame.as_slice().into());
    }

    /// From here on nothing is let through.
    fn refuse(&mut self, problem: Problem) {
        tracing::debug!(?problem, "a connection is refused");
        self.clock.head_ends();
        self.buffer.truncate(self.ready);
        self.ended = true;
        // Whoever reads the body that is broken answers that itself.
        if matches!(self.at, At::Chunks(_)) {
            return;
        }
        self.refusal = Refusal::Due(on_the_wire(problem));
    }
}

/// The part of the block in a HEADERS frame.
fn block_fragment(payload: &[u8], flags: u8) -> Option<&[u8]> {
    let (padding, payload) = match flags & PADDED {
        0 => (0, payload),
        _ => payload.split_first().map(|(&padding, rest)| (usize::from(padding), rest))?,
    };
    let payload = if flags & PRIORITY != 0 { payload.get(PRIORITY_BYTES..)? } else { payload };
    payload.get(..payload.len().checked_sub(padding)?)
}

fn too_large() -> Problem {
    let detail = format!("the head of the request is larger than {HEADER_BYTES_MAX} bytes");
    Problem::new(Kind::HeadTooLarge, detail)
}

/// A problem as HTTP/1.1 writes it, at the end of a connection.
fn on_the_wire(problem: Problem) -> BytesMut {
    let (status, body) = (status(problem.kind()), problem.json());
    let reason = status.canonical_reason().unwrap_or_default();
    let head = format!(
        "HTTP/1.1 {} {reason}\r\ncontent-type: application/problem+json\r\ncontent-length: {}\r\n\
         connection: close\r\n\r\n",
        status.as_u16(),
        body.len()
    );
    [head.as_bytes(), &body].concat().as_slice().into()
}

impl<S: AsyncRead + Unpin> AsyncRead for Heads<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if this.ready > 0 {
                let length = this.ready.min(into.remaining());
                into.put_slice(&this.buffer[..length]);
                this.buffer.advance(length);
                this.ready -= length;
                if this.buffer.is_empty() {
                    // Idle connections hold none.
                    this.buffer = BytesMut::new();
                }
                return Poll::Ready(Ok(()));
            }
            if this.ended {
                return Poll::Ready(Ok(()));
            }
            if this.buffer.is_empty()
                && let At::Body(left) = &mut this.at
            {
                // No further than the next head, and without a copy.
                let most = usize::try_from(*left).unwrap_or(usize::MAX).min(into.remaining());
                let mut part = ReadBuf::new(into.initialize_unfilled_to(most));
                ready!(Pin::new(&mut this.inner).poll_read(context, &mut part))?;
                let length = part.filled().len();
                into.advance(length);
                *left -= length as u64;
                if *left == 0 {
                    this.at = this.next();
                }
                this.ended |= length == 0;
                return Poll::Ready(Ok(()));
            }
            let begin = this.buffer.len();
            let mut bytes = [0; READ_BYTES];
            let mut part = ReadBuf::new(&mut bytes);
            ready!(Pin::new(&mut this.inner).poll_read(context, &mut part))?;
            if part.filled().is_empty() {
                // A head that is not whole is none.
                this.ended = true;
                this.clock.head_ends();
                this.buffer.truncate(begin.min(this.ready));
                continue;
            }
            this.buffer.extend_from_slice(part.filled());
            this.look();
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Heads<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            match &mut this.refusal {
                Refusal::None | Refusal::Done => {
                    return Pin::new(&mut this.inner).poll_shutdown(context);
                }
                Refusal::Due(bytes) if bytes.is_empty() => {
                    ready!(Pin::new(&mut this.inner).poll_flush(context))?;
                    ready!(Pin::new(&mut this.inner).poll_shutdown(context))?;
                    let until = Box::pin(tokio::time::sleep(DRAIN_TIME_MAX));
                    this.refusal = Refusal::Draining(until, DRAIN_BYTES_MAX);
                }
                Refusal::Due(bytes) => {
                    let written = ready!(Pin::new(&mut this.inner).poll_write(context, bytes))?;
                    if written == 0 {
                        return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                    }
                    bytes.advance(written);
                }
                Refusal::Draining(until, left) => {
                    let mut bytes = [0; READ_BYTES];
                    let mut part = ReadBuf::new(&mut bytes);
                    let over = until.as_mut().poll(context).is_ready()
                        || match Pin::new(&mut this.inner).poll_read(context, &mut part) {
                            Poll::Pending => return Poll::Pending,
                            Poll::Ready(result) => {
                                let length = part.filled().len();
                                *left = left.saturating_sub(length);
                                result.is_err() || length == 0 || *left == 0
                            }
                        };
                    if over {
                        this.refusal = Refusal::Done;
                        return Poll::Ready(Ok(()));
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const GET: &str = "GET /a HTTP/1.1\r\nHost: x\r\n\r\n";
    const BAD: &str = "GET /a#b HTTP/1.1\r\nHost: x\r\n\r\n";

    /// What is let through of these bytes, given so many at a time, and what the client hears at the end.
    async fn through(bytes: &str, at_once: usize) -> (String, String) {
        let (client, server) = tokio::io::duplex(1 << 20);
        let (mut hears, mut says) = tokio::io::split(client);
        let mut heads = Heads::new(server, Clock::new());
        let says = async {
            for part in bytes.as_bytes().chunks(at_once) {
                says.write_all(part).await.unwrap();
                tokio::task::yield_now().await;
            }
            says.shutdown().await.unwrap();
        };
        let (mut passed, mut heard) = (String::new(), String::new());
        let reads = async {
            heads.read_to_string(&mut passed).await.unwrap();
            heads.shutdown().await.unwrap();
        };
        tokio::join!(says, reads);
        hears.read_to_string(&mut heard).await.unwrap();
        (passed, heard)
    }

    #[tokio::test]
    async fn what_is_whole_is_let_through_and_a_fragment_is_refused_behind_it() {
        let chunked = "PUT /b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n\
            1e\r\nGET /a#b HTTP/1.1\r\nHost: x\r\n\r\n\r\n0\r\n\r\n";
        let counted =
            format!("PUT /c HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{BAD}", BAD.len());
        let good = [GET, chunked, &counted, "\r\n", GET].concat();
        for at_once in [1, 2, 7, 100, 10_000] {
            let (passed, heard) = through(&good, at_once).await;
            assert_eq!((passed.as_str(), heard.as_str()), (good.as_str(), ""), "{at_once}");
            let (passed, heard) = through(&format!("{good}{BAD}{GET}"), at_once).await;
            assert_eq!(passed, good, "{at_once}");
            assert!(heard.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{heard}");
            assert!(heard.contains("%23"), "{heard}");
        }
    }

    #[tokio::test]
    async fn a_head_that_does_not_end_is_let_through_no_part_of() {
        assert_eq!(through("GET /a HTTP/1.1\r\nHost:", 5).await.0, "");
        let long = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(HEADER_BYTES_MAX));
        for at_once in [1000, 1 << 20] {
            let (passed, heard) = through(&long, at_once).await;
            assert_eq!(passed, "");
            assert!(heard.starts_with("HTTP/1.1 431 "), "{heard}");
        }
    }

    #[tokio::test]
    async fn frames_of_http2_are_let_through_but_for_a_target_with_a_fragment() {
        // The header of a frame: its length, kind and flags, and stream 1.
        let frame = |kind: u8, flags: u8, payload: &str| {
            let length = u8::try_from(payload.len()).unwrap();
            let head = [0, 0, length, kind, flags, 0, 0, 0, 1];
            String::from_utf8(head.to_vec()).unwrap() + payload
        };
        let settings = frame(4, 0, "");
        let whole = frame(HEADERS, END_HEADERS, "\x04\x02/a");
        let begins = frame(HEADERS, PADDED, "\x03\x04\x04/a___");
        let ends = |rest: &str| frame(CONTINUATION, END_HEADERS, rest);
        let data = frame(0, 1, &format!("{BAD}\x04\x04/a#b"));
        let preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
        let good = [preface, &settings, &whole, &data, &begins, &ends("xb"), &settings].concat();
        for at_once in [1, 5, 1000] {
            assert_eq!(through(&good, at_once).await, (good.clone(), String::new()), "{at_once}");
            // What follows a fragment is let through, which is marked in a frame that the block has more.
            let open = |text: &str| frame(CONTINUATION, 0, text);
            let mark = ends(&format!("\0\x11{CUT_TARGET}\0"));
            let (bad, marked) = (ends("#b"), open("#b") + &mark);
            assert_eq!(
                through(&format!("{good}{begins}{bad}{whole}"), at_once).await,
                (format!("{good}{begins}{marked}{whole}"), String::new()),
                "{at_once}"
            );
            let alone = |flags, rest: &str| frame(HEADERS, flags, "\x04\x03/#b") + rest;
            assert_eq!(
                through(&format!("{good}{}{whole}", alone(END_HEADERS | 1, "")), at_once).await.0,
                format!("{good}{}{whole}", alone(1, &mark)),
                "{at_once}"
            );
            let interrupted = format!("{good}{begins}{settings}");
            assert_eq!(through(&interrupted, at_once).await.0, good, "{at_once}");
        }
        // Only what begins with it is.
        assert!(through(&format!("{GET}PRI * HTTP/2.0\r\n\r\n"), 3).await.1.contains(" 505 "));
    }
}
