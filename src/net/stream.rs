//! What all streams have in common: the first byte, and reading frames.

use bytes::Bytes;
use quinn::{ReadError, ReadExactError, RecvStream};

use super::frame::{Decoder, FrameError};

/// A hello and its answer.
pub(super) const HELLO: u8 = 1;
/// A request and its reply.
pub(super) const REQUEST: u8 = 2;
/// Messages of the protocol, until the stream ends.
pub(super) const MESSAGES: u8 = 3;
/// A transfer and its reply.
pub(super) const TRANSFER: u8 = 4;

/// How many chunks (packets' worth of data) are taken at once.
const CHUNKS: usize = 32;

/// Why nothing more can be read from a stream.
#[derive(Debug, thiserror::Error)]
pub(super) enum StreamError {
    /// The stream or its connection was given up.
    #[error(transparent)]
    Lost(#[from] ReadError),
    /// What came is no frame.
    #[error(transparent)]
    Frame(#[from] FrameError),
}

/// Reads frames from a stream.
#[derive(Debug)]
pub(super) struct FrameReader {
    stream: RecvStream,
    decoder: Decoder,
    chunks: std::vec::IntoIter<Bytes>,
}

impl FrameReader {
    pub(super) fn new(stream: RecvStream, limit: usize) -> FrameReader {
        FrameReader { stream, decoder: Decoder::new(limit), chunks: Vec::new().into_iter() }
    }

    /// The next body; none at the end of the stream.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, StreamError> {
        loop {
            if let Some(body) = self.decoder.next_body()? {
                return Ok(Some(body));
            }
            if let Some(chunk) = self.chunks.next() {
                self.decoder.push(chunk);
                continue;
            }
            let mut chunks = vec![Bytes::new(); CHUNKS];
            match self.stream.read_chunks(&mut chunks).await? {
                Some(count) => {
                    chunks.truncate(count);
                    self.chunks = chunks.into_iter();
                }
                None if self.decoder.is_between_frames() => return Ok(None),
                None => return Err(FrameError::CutOff.into()),
            }
        }
    }

    /// The one body that the stream is to hold.
    pub(super) async fn only(mut self) -> Result<Bytes, StreamError> {
        match self.next().await? {
            Some(body) => Ok(body),
            None => Err(FrameError::CutOff.into()),
        }
    }
}

/// The first byte of a stream.
pub(super) async fn read_kind(stream: &mut RecvStream) -> Result<u8, StreamError> {
    let mut kind = [0];
    match stream.read_exact(&mut kind).await {
        Ok(()) => Ok(kind[0]),
        Err(ReadExactError::FinishedEarly(_)) => Err(FrameError::CutOff.into()),
        Err(ReadExactError::ReadError(error)) => Err(error.into()),
    }
}
