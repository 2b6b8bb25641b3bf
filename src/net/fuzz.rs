//! Streams and messages of peers, from any bytes.

use bytes::{Bytes, BytesMut};

use super::frame::{Decoder, FrameError, decode_message, encode, encode_bytes};
use super::hello::{Greeting, Hello};

const LIMIT: usize = 1 << 12;

/// A stream in chunks of the size that the first byte says: the same frames and the same end as of the
/// stream in one piece, none above the limit, and each of them encodes to what it came from.
pub fn frames(data: &[u8]) {
    let Some((&size, stream)) = data.split_first() else { return };
    let (bodies, end) = read(stream, usize::from(size) + 1);
    assert_eq!((&bodies, end), (&read(stream, usize::MAX).0, read(stream, usize::MAX).1));
    let mut again = BytesMut::new();
    for body in &bodies {
        assert!(body.len() <= LIMIT);
        encode_bytes(body, LIMIT, &mut again).expect("a body that came in a frame fits into one");
    }
    assert!(stream.starts_with(&again));
}

fn read(stream: &[u8], size: usize) -> (Vec<Bytes>, Option<FrameError>) {
    let mut decoder = Decoder::new(LIMIT);
    let mut bodies = Vec::new();
    for chunk in stream.chunks(size.min(stream.len().max(1))) {
        decoder.push(Bytes::copy_from_slice(chunk));
        loop {
            match decoder.next_body() {
                Ok(Some(body)) => bodies.push(body),
                Ok(None) => break,
                Err(error) => return (bodies, Some(error)),
            }
        }
    }
    (bodies, None)
}

/// The body of a frame: a message encodes to what decodes to it, and so does a hello.
pub fn messages(data: &[u8]) {
    if let Ok(message) = decode_message(data) {
        let mut frame = BytesMut::new();
        encode(&message, 1 << 24, &mut frame).expect("as large as what it came from, at most");
        let mut decoder = Decoder::new(1 << 24);
        decoder.push(frame.freeze());
        let body = decoder.next_body().expect("a frame").expect("a whole one");
        assert_eq!(decode_message(&body), Ok(message));
    }
    if let Ok(Greeting::Understood(hello)) = Hello::decode(data) {
        let again = postcard::to_stdvec(&hello).expect("plain data");
        let again = Hello::decode(&again).expect("what was just written");
        assert!(matches!(again, Greeting::Understood(again) if again == hello));
    }
}
