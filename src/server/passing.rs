//! Reads that another node answers: one that is slow, or without room on its disk, falls behind, but its clients go on
//! reading.

use std::sync::{Arc, Weak};
use std::time::Instant;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};

use super::handle::Handle;
use super::peer_request::{self, PeerReply, PeerRequest};
use crate::raft::NodeId;

/// What an answer may take besides its body.
const FIELDS_BYTES_MAX: usize = 64 << 10;

/// A client's request that changes nothing, as it came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PassedRead {
    /// Without the body of the answer.
    pub head: bool,
    /// Path and query.
    pub target: String,
    /// The header fields.
    pub fields: Vec<(String, Bytes)>,
}

/// The answer to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PassedAnswer {
    /// The status code.
    pub status: u16,
    /// The header fields.
    pub fields: Vec<(String, Bytes)>,
    /// All of the body.
    pub body: Bytes,
}

/// Who answers what peers pass on.
pub trait Reads: Send + Sync {
    /// Answers here, whatever the disk has; none if the body has more than `bytes_max` bytes.
    fn answer(
        self: Arc<Self>,
        read: PassedRead,
        bytes_max: usize,
    ) -> BoxFuture<'static, Option<PassedAnswer>>;
}

impl Handle {
    /// Sets who answers what peers pass on; the first one stays.
    pub fn answer_passed_reads(&self, reads: Weak<dyn Reads>) {
        // Whoever comes later serves the same state.
        let _ = self.shared.reads.set(reads);
    }

    /// Who should answer a read that must be fresh, if this node does not keep up, or lacks the room to: the leader.
    pub fn reads_elsewhere(&self) -> Option<NodeId> {
        if !self.shared.space.is_low() && !self.shared.behind.now() {
            return None;
        }
        self.standing().leader.filter(|leader| *leader != self.shared.id)
    }

    /// Lets the leader answer a read; none if it did not.
    pub async fn pass_read(
        &self,
        leader: NodeId,
        read: PassedRead,
        deadline: Instant,
    ) -> Option<PassedAnswer> {
        let request = peer_request::encode(&PeerRequest::Read(read));
        let replied = self.shared.net.request(leader, request, deadline).await.ok()?;
        match peer_request::decode(&replied)? {
            PeerReply::Read(answer) => answer,
            _ => None,
        }
    }

    /// Answers a read that a peer passed on.
    pub(super) async fn answer_passed(&self, read: PassedRead) -> Option<PassedAnswer> {
        let reads = self.shared.reads.get()?.upgrade()?;
        reads.answer(read, self.shared.frame_bytes_max.saturating_sub(FIELDS_BYTES_MAX)).await
    }
}
