//! One connection that this node dialled, and what is sent on it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use bytes::{BufMut, Bytes, BytesMut};
use quinn::{Connection, SendStream, VarInt};
use tokio::sync::Semaphore;
use tokio::time::timeout_at;

use super::frame;
use super::queue::{Pushed, Queue};
use super::stream::{self, FrameReader};
use super::{LinkStats, REQUESTS_MAX, RequestError, tasks};
use crate::raft::{Body, Message, NodeId};

/// After how many bytes a batch of messages is written.
const BATCH_BYTES: usize = 1 << 20;
/// The priority of the stream for elections, heartbeats and reads; the others have 0.
const PRIORITY: i32 = 10;

/// A connection that is up: hello was said and answered.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) connection: Connection,
    pub(super) node_id: NodeId,
    frame_bytes_max: usize,
    urgent: Queue,
    bulk: Queue,
    requests: Semaphore,
}

/// Why a link gave no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LinkError {
    /// The link was retired before the request was sent; another one may have taken its place.
    Retired,
    Failed(RequestError),
}

impl Link {
    /// Begins to write on `connection`. `dropped` counts messages that are too large.
    pub(super) fn open(
        connection: Connection,
        node_id: NodeId,
        frame_bytes_max: usize,
        dropped: &Arc<AtomicU64>,
    ) -> Arc<Link> {
        let link = Arc::new(Link {
            connection,
            node_id,
            frame_bytes_max,
            urgent: Queue::default(),
            bulk: Queue::default(),
            requests: Semaphore::new(REQUESTS_MAX),
        });
        for urgent in [true, false] {
            let link = link.clone();
            let dropped = dropped.clone();
            tokio::spawn(async move {
                let queue = if urgent { &link.urgent } else { &link.bulk };
                let writing = async {
                    // Whoever holds the link sees the loss of its connection; a stream alone cannot fail.
                    if let Err(error) = link.write(queue, urgent, &dropped).await {
                        tracing::debug!(peer = %link.node_id, %error, "a stream has ended");
                        queue.close();
                    }
                };
                tasks::on(&link.connection, writing).await;
            });
        }
        link
    }

    /// What QUIC tells of the connection.
    pub(super) fn stats(&self) -> LinkStats {
        let stats = self.connection.stats();
        LinkStats {
            rtt: stats.path.rtt,
            mtu: stats.path.current_mtu,
            lost_packets: stats.path.lost_packets,
            sent_bytes: stats.udp_tx.bytes,
            received_bytes: stats.udp_rx.bytes,
        }
    }

    /// Queues a message for the writer of its stream.
    pub(super) fn push(&self, message: Message) -> Pushed {
        let queue = if is_bulk(&message.body) { &self.bulk } else { &self.urgent };
        queue.push(message)
    }

    /// Takes no more messages and requests. What waits is still written.
    pub(super) fn close_queues(&self) {
        self.requests.close();
        self.urgent.close();
        self.bulk.close();
    }

    /// Waits until every request that was sent has its reply, takes no more, and writes what waits. The
    /// other end closes the connection once it has read everything.
    pub(super) async fn drain(&self) {
        let all = u32::try_from(REQUESTS_MAX).unwrap_or(u32::MAX);
        // An error means that the queues are closed already.
        let idle = self.requests.acquire_many(all).await;
        self.close_queues();
        drop(idle);
        self.connection.closed().await;
    }

    async fn write(
        &self,
        queue: &Queue,
        urgent: bool,
        dropped: &AtomicU64,
    ) -> Result<(), quinn::WriteError> {
        let mut stream = self.connection.open_uni().await?;
        if urgent {
            stream.set_priority(PRIORITY)?;
        }
        // At once: with the first byte on the other stream this one counts as opened too, and the other
        // end gives up streams that do not show their kind.
        stream.write_all(&[stream::MESSAGES]).await?;
        let mut messages = Vec::new();
        let mut buffer = BytesMut::new();
        while queue.take(&mut messages).await {
            for message in messages.drain(..) {
                if let Err(error) = frame::encode(&message, self.frame_bytes_max, &mut buffer) {
                    dropped.fetch_add(1, Ordering::Relaxed);
                    tracing::error!(peer = %self.node_id, %error, "a message is dropped");
                }
                if buffer.len() >= BATCH_BYTES {
                    stream.write_chunk(buffer.split().freeze()).await?;
                }
            }
            if !buffer.is_empty() {
                stream.write_chunk(buffer.split().freeze()).await?;
            }
        }
        if !buffer.is_empty() {
            stream.write_chunk(buffer.freeze()).await?;
        }
        stream.finish()?;
        // The stream is given up only once everything has arrived, or the connection is gone.
        let _ = stream.stopped().await;
        Ok(())
    }

    /// One request and its reply.
    pub(super) async fn request(&self, body: &[u8], deadline: Instant) -> Result<Bytes, LinkError> {
        const NOT_SENT: LinkError = LinkError::Failed(RequestError::NotSent);
        const UNKNOWN: LinkError = LinkError::Failed(RequestError::Unknown);
        let deadline = tokio::time::Instant::from_std(deadline);
        let mut request = BytesMut::with_capacity(body.len() + frame::HEADER_BYTES + 1);
        request.put_u8(stream::REQUEST);
        if let Err(error) = frame::encode_bytes(body, self.frame_bytes_max, &mut request) {
            tracing::error!(peer = %self.node_id, %error, "a request is dropped");
            return Err(NOT_SENT);
        }
        let _permit = match timeout_at(deadline, self.requests.acquire()).await {
            Ok(Ok(permit)) => permit,
            Ok(Err(_)) => return Err(LinkError::Retired),
            Err(_) => return Err(NOT_SENT),
        };
        let Ok(Ok((mut send, receive))) = timeout_at(deadline, self.connection.open_bi()).await
        else {
            return Err(NOT_SENT);
        };
        if timeout_at(deadline, write_whole(&mut send, &request)).await != Ok(true) {
            // The frame is not complete, so the other end's handler cannot have been reached.
            let _ = send.reset(VarInt::from_u32(0));
            return Err(NOT_SENT);
        }
        // Fails only on a stream that was finished or reset before.
        let _ = send.finish();
        // It may be large, and the reply may take its time.
        drop(request);
        let reply = FrameReader::new(receive, self.frame_bytes_max).only();
        match timeout_at(deadline, reply).await {
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(error)) => {
                tracing::debug!(peer = %self.node_id, %error, "a request has no reply");
                Err(UNKNOWN)
            }
            Err(_) => Err(UNKNOWN),
        }
    }
}

/// Hands all of `bytes` to QUIC; false if the stream or the connection failed before the last byte.
async fn write_whole(stream: &mut SendStream, mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        match stream.write(bytes).await {
            Ok(written) => bytes = &bytes[written..],
            Err(_) => return false,
        }
    }
    true
}

/// Whether a message goes on the stream of appends. What decides about leadership and reads does not:
/// it must not wait behind entries.
fn is_bulk(body: &Body) -> bool {
    match body {
        Body::Append { .. }
        | Body::AppendReply { .. }
        | Body::AppendReject { .. }
        | Body::Snapshot { .. } => true,
        Body::PreVote { .. }
        | Body::PreVoteReply { .. }
        | Body::Vote { .. }
        | Body::VoteReply { .. }
        | Body::Heartbeat { .. }
        | Body::HeartbeatReply { .. }
        | Body::ReadIndex { .. }
        | Body::ReadIndexReply { .. }
        | Body::TimeoutNow => false,
    }
}
