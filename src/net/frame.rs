//! Frames: how anything is put on a stream.
//!
//! A frame is the length of its body (u32, little endian), the CRC-32 of the body (u32, little endian)
//! and the body. QUIC protects what travels; the checksum catches what goes wrong in memory and, with
//! the length, makes a write that was cut off (a dropped stream ends cleanly) look like what it is.
//! Decoding is total: whatever arrives gives a body or an [`FrameError`].

use bytes::{Buf, BufMut, Bytes, BytesMut};
use postcard::ser_flavors::Flavor;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::raft::Message;

/// The bytes in front of a body.
pub const HEADER_BYTES: usize = 8;
/// The most room that is made for a frame before it is there, in bytes.
const RESERVED_BYTES_MAX: usize = 1 << 20;

/// Why bytes are no frame, or why something does not fit into one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The body is, or announces itself, larger than allowed.
    #[error("a frame of {bytes} bytes is above the limit of {limit}")]
    TooLarge {
        /// The size of the body, at least.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The checksum does not fit the body.
    #[error("the checksum of a frame is wrong")]
    Checksum,
    /// The body does not say anything known.
    #[error("the body of a frame cannot be read")]
    Malformed,
    /// The stream ended within a frame.
    #[error("a frame was cut off")]
    CutOff,
}

/// Writes `value` behind what `buffer` holds, as one frame with a body of at most `limit` bytes. On an
/// error the buffer is as it was.
pub fn encode<T: Serialize + ?Sized>(
    value: &T,
    limit: usize,
    buffer: &mut BytesMut,
) -> Result<(), FrameError> {
    let start = buffer.len();
    buffer.put_bytes(0, HEADER_BYTES);
    let body = Body { buffer, end: start + HEADER_BYTES + limit };
    let written = postcard::serialize_with_flavor::<T, Body<'_>, ()>(value, body);
    let header = written.ok().and_then(|()| header(&buffer[start + HEADER_BYTES..], limit).ok());
    let Some(header) = header else {
        buffer.truncate(start);
        return Err(FrameError::TooLarge { bytes: limit.saturating_add(1), limit });
    };
    buffer[start..start + HEADER_BYTES].copy_from_slice(&header);
    Ok(())
}

/// Like [`encode`] for a body that is bytes already.
pub fn encode_bytes(body: &[u8], limit: usize, buffer: &mut BytesMut) -> Result<(), FrameError> {
    let header = header(body, limit)?;
    buffer.put_slice(&header);
    buffer.put_slice(body);
    Ok(())
}

/// What goes in front of a body of at most `limit` bytes.
pub fn header(body: &[u8], limit: usize) -> Result<[u8; HEADER_BYTES], FrameError> {
    let too_large = FrameError::TooLarge { bytes: body.len(), limit };
    let length = u32::try_from(body.len()).ok().filter(|_| body.len() <= limit);
    let length = length.ok_or(too_large)?;
    let mut header = [0; HEADER_BYTES];
    header[..4].copy_from_slice(&length.to_le_bytes());
    header[4..].copy_from_slice(&crc32fast::hash(body).to_le_bytes());
    Ok(header)
}

/// Reads a value that fills `body` to its end.
pub fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, FrameError> {
    match postcard::take_from_bytes(body) {
        Ok((value, [])) => Ok(value),
        _ => Err(FrameError::Malformed),
    }
}

/// Takes a stream apart into bodies, however it was cut into chunks on its way.
#[derive(Debug)]
pub struct Decoder {
    limit: usize,
    /// A chunk that begins where the next frame does; while `partial` is empty frames are taken out of it
    /// without a copy.
    chunk: Bytes,
    /// The beginning of a frame that the chunks so far did not complete.
    partial: BytesMut,
}

impl Decoder {
    /// A decoder that refuses bodies above `limit` bytes.
    pub fn new(limit: usize) -> Decoder {
        let limit = limit.min(u32::MAX as usize - HEADER_BYTES);
        Decoder { limit, chunk: Bytes::new(), partial: BytesMut::new() }
    }

    /// Takes in the next chunk of the stream. Call only once [`Decoder::next_body`] has nothing more.
    pub fn push(&mut self, chunk: Bytes) {
        if self.chunk.is_empty() {
            self.chunk = chunk;
        } else {
            let mut joined = BytesMut::with_capacity(self.chunk.len() + chunk.len());
            joined.put_slice(&self.chunk);
            joined.put_slice(&chunk);
            self.chunk = joined.freeze();
        }
    }

    /// The next body that is here as a whole; none if more of the stream is needed. After an error the
    /// stream has no meaning any more.
    pub fn next_body(&mut self) -> Result<Option<Bytes>, FrameError> {
        if self.partial.is_empty() {
            let Some(header) = Header::read(&self.chunk, self.limit)? else {
                self.set_aside();
                return Ok(None);
            };
            if self.chunk.len() < HEADER_BYTES + header.length {
                self.set_aside();
                return Ok(None);
            }
            self.chunk.advance(HEADER_BYTES);
            return header.check(self.chunk.split_to(header.length)).map(Some);
        }
        self.refill(HEADER_BYTES);
        let Some(header) = Header::read(&self.partial, self.limit)? else {
            return Ok(None);
        };
        let whole = HEADER_BYTES + header.length;
        // Once, and not as it grows; a length that nothing follows must not cost much.
        self.partial.reserve(whole.min(RESERVED_BYTES_MAX).saturating_sub(self.partial.len()));
        self.refill(whole);
        if self.partial.len() < whole {
            return Ok(None);
        }
        let mut frame = std::mem::take(&mut self.partial).freeze();
        frame.advance(HEADER_BYTES);
        header.check(frame).map(Some)
    }

    /// Whether the stream may end here: no frame has begun.
    pub fn is_between_frames(&self) -> bool {
        self.chunk.is_empty() && self.partial.is_empty()
    }

    fn set_aside(&mut self) {
        self.partial.put_slice(&self.chunk);
        self.chunk = Bytes::new();
    }

    /// Moves bytes from the chunk until `partial` holds `target` bytes, or the chunk is empty.
    fn refill(&mut self, target: usize) {
        let missing = target.saturating_sub(self.partial.len()).min(self.chunk.len());
        self.partial.put_slice(&self.chunk[..missing]);
        self.chunk.advance(missing);
    }
}

struct Header {
    length: usize,
    checksum: u32,
}

impl Header {
    fn read(bytes: &[u8], limit: usize) -> Result<Option<Header>, FrameError> {
        let Some((mut header, _)) = bytes.split_at_checked(HEADER_BYTES) else {
            return Ok(None);
        };
        let length = header.get_u32_le() as usize;
        let checksum = header.get_u32_le();
        if length > limit {
            return Err(FrameError::TooLarge { bytes: length, limit });
        }
        Ok(Some(Header { length, checksum }))
    }

    fn check(&self, body: Bytes) -> Result<Bytes, FrameError> {
        if crc32fast::hash(&body) == self.checksum { Ok(body) } else { Err(FrameError::Checksum) }
    }
}

/// Where postcard writes to: the end of a buffer, up to a limit.
struct Body<'a> {
    buffer: &'a mut BytesMut,
    end: usize,
}

impl Flavor for Body<'_> {
    type Output = ();

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.try_extend(&[byte])
    }

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        if bytes.len() > self.end.saturating_sub(self.buffer.len()) {
            return Err(postcard::Error::SerializeBufferFull);
        }
        self.buffer.put_slice(bytes);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

/// Reads a message of the protocol out of a body.
pub fn decode_message(body: &[u8]) -> Result<Message, FrameError> {
    decode(body)
}

#[cfg(test)]
mod tests;
