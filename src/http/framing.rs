//! Where one HTTP/1 request ends and the next begins (RFC 9112), and what is wrong with a head.
//!
//! The parser behind this one drops what follows a `#` in a target, and answers what it does not understand without a
//! word. So heads are looked at before it sees them, and it never sees one that is refused here.

use axum::http::Uri;

use super::error::{Kind, Problem};

/// The largest head of a request, in bytes: two keys of a listing, percent-encoded, and as much again.
pub const HEADER_BYTES_MAX: usize = 64 * 1024;
/// The most header fields of a request.
pub const HEADERS_MAX: usize = 100;
/// The longest line with the size of a chunk.
const CHUNK_LINE_BYTES_MAX: usize = 4096;

/// What follows a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// So many bytes.
    Length(u64),
    /// Chunks.
    Chunked,
}

/// The length of the head that `bytes` begin with, if all of it is there. Of the first `seen` bytes it is known that
/// they are no whole head.
pub(super) fn head_end(bytes: &[u8], seen: usize) -> Option<usize> {
    // The end may have begun within what was seen.
    let mut from = seen.saturating_sub(3);
    loop {
        let line_end = from + bytes.get(from..)?.iter().position(|&byte| byte == b'\n')?;
        match bytes.get(line_end + 1..)? {
            [b'\n', ..] => return Some(line_end + 2),
            [b'\r', b'\n', ..] => return Some(line_end + 3),
            _ => from = line_end + 1,
        }
    }
}

/// Whether a method could begin with that byte: it is a token (RFC 9110, section 5.6.2).
pub(super) fn begins_method(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Checks a whole head. What follows it, or why the request is refused.
pub(super) fn check_head(head: &[u8]) -> Result<Framing, Problem> {
    let malformed = |what: String| Problem::new(Kind::Malformed, what);
    let mut fields = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut fields);
    match request.parse(head) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) => return Err(malformed("the head is broken".to_owned())),
        Err(httparse::Error::TooManyHeaders) => {
            let detail = format!("the head has more than {HEADERS_MAX} header fields");
            return Err(Problem::new(Kind::HeadTooLarge, detail));
        }
        Err(httparse::Error::Version) if has_version(head) => {
            let detail = "konsen speaks HTTP/1.0, HTTP/1.1 and HTTP/2";
            return Err(Problem::new(Kind::UnsupportedVersion, detail));
        }
        Err(error) => return Err(malformed(format!("the head is not HTTP: {error}"))),
    }
    let target = request.path.unwrap_or_default();
    if target.contains('#') {
        let detail = "the target of the request has a #, which would cut it off there; in a key or a parameter it \
                      is written %23";
        return Err(malformed(detail.to_owned()));
    }
    if let Err(error) = target.parse::<Uri>() {
        return Err(malformed(format!("the target of the request is not valid: {error}")));
    }
    let is_http11 = request.version == Some(1);
    let named = |name: &'static str| {
        request.headers.iter().filter(move |field| field.name.eq_ignore_ascii_case(name))
    };
    match named("host").count() {
        1 => {}
        0 if !is_http11 => {}
        0 => return Err(malformed("HTTP/1.1 needs a Host header".to_owned())),
        _ => return Err(malformed("there is more than one Host header".to_owned())),
    }
    let codings = || {
        let values =
            named("transfer-encoding").flat_map(|field| field.value.split(|&byte| byte == b','));
        values.map(|coding| coding.trim_ascii()).filter(|coding| !coding.is_empty())
    };
    if named("transfer-encoding").next().is_some() {
        if !is_http11 {
            return Err(malformed("HTTP/1.0 has no Transfer-Encoding".to_owned()));
        }
        if named("content-length").next().is_some() {
            let detail = "Content-Length and Transfer-Encoding exclude each other";
            return Err(malformed(detail.to_owned()));
        }
        if let Some(other) = codings().find(|coding| !coding.eq_ignore_ascii_case(b"chunked")) {
            let other = String::from_utf8_lossy(other);
            let detail = format!("the transfer coding {other:?} is not known here; chunked is");
            return Err(Problem::new(Kind::UnsupportedCoding, detail));
        }
        return match codings().count() {
            1 => Ok(Framing::Chunked),
            _ => Err(malformed("Transfer-Encoding does not say chunked once".to_owned())),
        };
    }
    let mut length = None;
    for field in named("content-length") {
        let said = std::str::from_utf8(field.value).ok();
        let said = said.filter(|said| said.bytes().all(|byte| byte.is_ascii_digit()));
        let said = said.and_then(|said| said.parse::<u64>().ok());
        match (said, length) {
            // So that it can be counted beyond.
            (Some(said), None) if said < u64::MAX - 1 => length = Some(said),
            (Some(said), Some(before)) if said == before => {}
            _ => {
                let detail = "Content-Length is no number, or there are several that differ";
                return Err(malformed(detail.to_owned()));
            }
        }
    }
    Ok(Framing::Length(length.unwrap_or_default()))
}

/// Whether the first line is that of a request of some version of HTTP.
fn has_version(head: &[u8]) -> bool {
    let mut lines = head.split(|&byte| byte == b'\n').map(|line| line.trim_ascii());
    let line = lines.find(|line| !line.is_empty()).unwrap_or_default();
    let words: Vec<&[u8]> = line.split(|&byte| byte == b' ').collect();
    matches!(words[..], [_, _, version] if version.starts_with(b"HTTP/"))
}

/// Follows a chunked body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Chunks {
    /// Before the size of a chunk.
    #[default]
    Size,
    /// Within a chunk, so many bytes before its end.
    Data(u64),
    /// Behind a chunk.
    DataEnd,
    /// Behind the last chunk: fields, then an empty line; so many bytes of them have been.
    Trailers(usize),
}

/// A chunked body that is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BrokenChunk;

impl Chunks {
    /// Follows these bytes; how many belong to the body and are understood, and whether it ends with them.
    pub(super) fn follow(&mut self, bytes: &[u8]) -> Result<(usize, bool), BrokenChunk> {
        let mut at = 0;
        loop {
            let rest = &bytes[at..];
            match *self {
                Chunks::Data(left) => {
                    let taken = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
                    at += taken;
                    match left - taken as u64 {
                        0 => *self = Chunks::DataEnd,
                        left => {
                            *self = Chunks::Data(left);
                            return Ok((at, false));
                        }
                    }
                }
                Chunks::Size => {
                    let Some(line) = line(rest, CHUNK_LINE_BYTES_MAX)? else {
                        return Ok((at, false));
                    };
                    at += line.len() + 2;
                    *self = match size(line)? {
                        0 => Chunks::Trailers(0),
                        size => Chunks::Data(size),
                    };
                }
                Chunks::DataEnd => match line(rest, 0)? {
                    Some(_) => {
                        at += 2;
                        *self = Chunks::Size;
                    }
                    None => return Ok((at, false)),
                },
                Chunks::Trailers(seen) => {
                    let most = HEADER_BYTES_MAX.saturating_sub(seen);
                    let Some(line) = line(rest, most)? else { return Ok((at, false)) };
                    at += line.len() + 2;
                    if line.is_empty() {
                        return Ok((at, true));
                    }
                    *self = Chunks::Trailers(seen + line.len() + 2);
                }
            }
        }
    }
}

/// The line of at most `most` bytes that `bytes` begin with, without its end; none if the end is not there yet.
fn line(bytes: &[u8], most: usize) -> Result<Option<&[u8]>, BrokenChunk> {
    match bytes.iter().take(most + 2).position(|&byte| byte == b'\n') {
        Some(end) => bytes[..end].strip_suffix(b"\r").map(Some).ok_or(BrokenChunk),
        None if bytes.len() >= most + 2 => Err(BrokenChunk),
        None => Ok(None),
    }
}

/// The size that begins the line; extensions follow it.
fn size(line: &[u8]) -> Result<u64, BrokenChunk> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let (digits, rest) = line.split_at(digits);
    let follows = rest.trim_ascii_start().first();
    if follows.is_some_and(|&byte| byte != b';') || digits.len() > 16 {
        return Err(BrokenChunk);
    }
    let digits = std::str::from_utf8(digits).map_err(|_| BrokenChunk)?;
    u64::from_str_radix(digits, 16).map_err(|_| BrokenChunk)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(head: &str) -> Result<Framing, Kind> {
        assert_eq!(head_end(head.as_bytes(), 0), Some(head.len()), "{head:?}");
        check_head(head.as_bytes()).map_err(|problem| problem.kind())
    }

    fn with(fields: &str) -> Result<Framing, Kind> {
        kind(&format!("PUT /v1/kv/a HTTP/1.1\r\nHost: x\r\n{fields}\r\n"))
    }

    #[test]
    fn heads_say_what_follows_or_are_refused() {
        assert_eq!(with(""), Ok(Framing::Length(0)));
        assert_eq!(with("content-length: 7\r\n"), Ok(Framing::Length(7)));
        assert_eq!(with("content-length: 7\r\nContent-Length:7\r\n"), Ok(Framing::Length(7)));
        assert_eq!(with("Transfer-Encoding: Chunked\r\n"), Ok(Framing::Chunked));
        for broken in [
            "content-length: 7\r\ncontent-length: 8\r\n",
            "content-length: +7\r\n",
            "content-length: 7, 7\r\n",
            "content-length: 99999999999999999999\r\n",
            "content-length: 7\r\ntransfer-encoding: chunked\r\n",
            "transfer-encoding: chunked, chunked\r\n",
            "transfer-encoding: \r\n",
            "host: y\r\n",
            "no colon\r\n",
            "space : x\r\n",
        ] {
            assert_eq!(with(broken), Err(Kind::Malformed), "{broken}");
        }
        assert_eq!(with("transfer-encoding: gzip, chunked\r\n"), Err(Kind::UnsupportedCoding));
        assert_eq!(with(&"a: b\r\n".repeat(HEADERS_MAX)), Err(Kind::HeadTooLarge));
        assert_eq!(kind("GET / HTTP/1.1\r\n\r\n"), Err(Kind::Malformed));
        assert_eq!(kind("GET / HTTP/1.0\r\n\r\n"), Ok(Framing::Length(0)));
        assert_eq!(kind("GET / HTTP/1.0\nHost: a\n\n"), Ok(Framing::Length(0)));
        assert_eq!(kind("\r\nGET / HTTP/1.0\r\n\r\n"), Ok(Framing::Length(0)));
        assert_eq!(kind("GET / HTTP/3.0\r\n\r\n"), Err(Kind::UnsupportedVersion));
        assert_eq!(kind("nonsense\r\n\r\n"), Err(Kind::Malformed));
        assert_eq!(kind("GET /a b HTTP/1.1\r\n\r\n"), Err(Kind::Malformed));
    }

    #[test]
    fn a_fragment_is_refused_wherever_it_stands() {
        for target in ["/v1/kv/team#7", "/v1/kv?prefix=tmp#1/", "#", "/#", "http://h/p#x"] {
            let head = format!("DELETE {target} HTTP/1.1\r\nHost: x\r\n\r\n");
            assert_eq!(kind(&head), Err(Kind::Malformed), "{target}");
        }
        assert!(kind("GET /v1/kv/team%237 HTTP/1.1\r\nHost: x\r\nX: #\r\n\r\n").is_ok());
    }

    #[test]
    fn the_end_of_a_head_is_found_however_it_comes() {
        let head = b"GET / HTTP/1.1\r\nHost: x\r\n\r\nrest";
        for seen in 0..head.len() - 4 {
            for length in seen..head.len() {
                let found = head_end(&head[..length], seen.min(length));
                let whole = length >= head.len() - 4;
                assert_eq!(found, whole.then_some(head.len() - 4), "{seen} of {length}");
            }
        }
    }

    #[test]
    fn chunks_are_followed_byte_by_byte_and_at_once() {
        let body = b"5;x=y\r\nhello\r\n0A \r\n0123456789\r\n0\r\nX: y\r\n\r\n";
        let next = b"GET / HTTP/1.1\r\n";
        let all = [&body[..], next].concat();
        assert_eq!(Chunks::default().follow(&all), Ok((body.len(), true)));
        let mut chunks = Chunks::default();
        let (mut at, mut until) = (0, 0);
        loop {
            let (taken, ended) = chunks.follow(&all[at..until]).unwrap();
            at += taken;
            if ended {
                break;
            }
            until += 1;
        }
        assert_eq!(at, body.len());
        for broken in [
            "x\r\n",
            "\r\n",
            "5\nhello",
            "-1\r\n",
            "1\r\nab\r\n",
            "11111111111111111\r\n",
            "5,\r\n",
        ] {
            assert_eq!(Chunks::default().follow(broken.as_bytes()), Err(BrokenChunk), "{broken:?}");
        }
        assert!(Chunks::default().follow(&[b'1'; CHUNK_LINE_BYTES_MAX + 2]).is_err());
    }
}
