//! Something large on a stream of its own: pieces one way, one reply back. QUIC holds the sender back when
//! the other end is slower.

use std::time::Duration;

use bytes::Bytes;
use quinn::{SendStream, VarInt};
use tokio::time::timeout;

use super::frame;
use super::link::Link;
use super::stream::{self, FrameReader, StreamError};

/// Lower than that of messages and requests: what keeps the cluster going is sent first.
const PRIORITY: i32 = -10;
/// How long the other end may take no piece, or send none, before the transfer is given up.
const STILL_MAX: Duration = Duration::from_secs(30);

/// Why a transfer came to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransferError {
    /// There is no connection to the peer.
    #[error("the peer is not connected")]
    NotConnected,
    /// The connection was lost, or nothing moved for too long.
    #[error("the transfer was cut off")]
    CutOff,
    /// A piece is larger than a frame may be.
    #[error("a piece is too large")]
    TooLarge,
}

/// The end that sends. Dropping it cuts the transfer off.
#[derive(Debug)]
pub struct Outgoing {
    send: SendStream,
    reply: FrameReader,
    limit: usize,
}

/// The end that receives. Dropping it tells the other end to send no more.
#[derive(Debug)]
pub struct IncomingTransfer(pub(super) FrameReader);

impl Outgoing {
    pub(super) async fn open(link: &Link, limit: usize) -> Result<Outgoing, TransferError> {
        let opened = timeout(STILL_MAX, link.connection.open_bi()).await;
        let Ok(Ok((mut send, receive))) = opened else { return Err(TransferError::CutOff) };
        // Fails only on a stream that is gone, which the next line tells.
        let _ = send.set_priority(PRIORITY);
        send.write_all(&[stream::TRANSFER]).await.map_err(|_| TransferError::CutOff)?;
        Ok(Outgoing { send, reply: FrameReader::new(receive, limit), limit })
    }

    /// Sends a piece; waits while too much is on its way. False if the other end wants no more: then it
    /// has a reply.
    pub async fn send(&mut self, piece: Bytes) -> Result<bool, TransferError> {
        let header = frame::header(&piece, self.limit).map_err(|_| TransferError::TooLarge)?;
        let mut framed = [Bytes::copy_from_slice(&header), piece];
        match timeout(STILL_MAX, self.send.write_all_chunks(&mut framed)).await {
            Ok(Ok(())) => Ok(true),
            Ok(Err(quinn::WriteError::Stopped(_))) => Ok(false),
            Ok(Err(_)) | Err(_) => {
                // Fails only on a stream that is gone already.
                let _ = self.send.reset(VarInt::from_u32(0));
                Err(TransferError::CutOff)
            }
        }
    }

    /// Says that this was all, and waits for the reply, at most `patience`.
    pub async fn finish(mut self, patience: Duration) -> Result<Bytes, TransferError> {
        // Fails if the other end wanted no more, and then it has a reply, too.
        let _ = self.send.finish();
        match timeout(patience, self.reply.only()).await {
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(_)) | Err(_) => Err(TransferError::CutOff),
        }
    }
}

impl IncomingTransfer {
    /// The next piece; none after the last.
    pub async fn next(&mut self) -> Result<Option<Bytes>, TransferError> {
        match timeout(STILL_MAX, self.0.next()).await {
            Ok(Ok(piece)) => Ok(piece),
            Ok(Err(StreamError::Frame(error))) => {
                tracing::warn!(%error, "what came on a transfer is no frame");
                Err(TransferError::CutOff)
            }
            Ok(Err(StreamError::Lost(_))) | Err(_) => Err(TransferError::CutOff),
        }
    }
}
