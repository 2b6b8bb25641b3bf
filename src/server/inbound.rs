//! What peers bring in.

use std::any::Any;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::sync::{Notify, watch};

use super::bootstrap;
use super::handle::Handle;
use super::letter::Notice;
use super::mailbox::Mailbox;
use super::peer_request::{self, PeerReply, PeerRequest};
use super::snapshots;
use crate::cluster::Settings;
use crate::cluster::bootstrap::Standing;
use crate::net::{Inbound, IncomingTransfer, PeerHello};
use crate::raft::{Membership, Message, NodeId};
use crate::store::{DataDir, Space, State, StoreError};

/// Passes what comes over the network on to the replica thread and to the handle.
#[derive(Debug)]
pub(super) struct InboundHandler {
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) settings: Settings,
    pub(super) data: DataDir,
    /// Whether this node is to join a cluster, and helps nobody to found one.
    pub(super) join: bool,
    pub(super) state: Arc<State>,
    pub(super) space: Arc<Space>,
    pub(super) membership: watch::Receiver<Option<Membership>>,
    pub(super) peers_changed: Arc<Notify>,
    pub(super) disowned: Arc<Notify>,
    /// The network starts before the handle that needs it; what comes in between is refused.
    pub(super) handle: OnceLock<Handle>,
}

impl Inbound for InboundHandler {
    fn receive(&self, message: Message) {
        self.mailbox.receive(message);
    }

    fn unreachable(&self, peer: NodeId) {
        self.mailbox.tell(Notice::Unreachable { peer });
    }

    fn peer_up(&self, peer: PeerHello) {
        let theirs = peer.settings.iter();
        for difference in theirs.flat_map(|theirs| self.settings.differences(&peer.name, theirs)) {
            tracing::warn!("{difference}");
        }
        self.peers_changed.notify_waiters();
        self.peers_changed.notify_one();
    }

    fn disowned(&self) {
        self.disowned.notify_one();
    }

    fn request(&self, from: NodeId, body: Bytes) -> BoxFuture<'static, Bytes> {
        let handle = self.handle.get().cloned();
        let data = self.data.clone();
        let born = self.membership.borrow().is_some();
        let standing = Standing { born, joins: self.join };
        Box::pin(async move {
            let reply = match (peer_request::decode(&body), handle) {
                (Some(PeerRequest::Write { write, deadline }), Some(handle)) => {
                    let deadline = Instant::now() + deadline;
                    PeerReply::Write(handle.write_here(write, deadline).await)
                }
                (Some(PeerRequest::Found(ask)), Some(_)) => {
                    PeerReply::Founding(bootstrap::answer(&data, standing, ask).await)
                }
                (Some(PeerRequest::Progress), Some(handle)) => {
                    PeerReply::Progress(handle.progress().await)
                }
                (Some(PeerRequest::TransferLeadership { to }), Some(handle)) => {
                    handle.hand_over(to);
                    PeerReply::TransferBegun
                }
                (Some(PeerRequest::Change { operation, force, deadline }), Some(handle)) => {
                    let deadline = Instant::now() + deadline;
                    PeerReply::Change(handle.operate_here(&operation, force, deadline).await)
                }
                (Some(PeerRequest::Members), Some(handle)) => {
                    PeerReply::Members(handle.net().roster().newest().cloned())
                }
                (Some(PeerRequest::Marks), Some(handle)) => PeerReply::Marks(handle.marks()),
                (Some(PeerRequest::Diverged { own, majority }), Some(handle)) => {
                    handle.diverged(own, majority);
                    PeerReply::Noted
                }
                (Some(PeerRequest::Room(room)), Some(handle)) => {
                    handle.peer_room(from, room);
                    PeerReply::Noted
                }
                (Some(PeerRequest::Read { read, deadline }), Some(handle)) => {
                    return handle.answer_read(read, Instant::now() + deadline).await;
                }
                (None, _) | (_, None) => PeerReply::NotUnderstood,
            };
            peer_request::encode(&reply)
        })
    }

    fn ended(&self, task: &'static str, panic: &(dyn Any + Send)) {
        self.mailbox.fail(StoreError::ended(task, panic));
    }

    fn transfer(&self, from: NodeId, arriving: IncomingTransfer) -> BoxFuture<'static, Bytes> {
        let disk = snapshots::Disk { state: self.state.clone(), space: self.space.clone() };
        Box::pin(snapshots::receive(self.mailbox.clone(), disk, from, arriving))
    }
}
