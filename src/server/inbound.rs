//! What peers bring in.

use std::any::Any;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::sync::{Notify, watch};

use super::handle::Handle;
use super::run::event::{Asker, Notice};
use super::run::mailbox::Mailbox;
use super::run::snapshots;
use super::tasks::bootstrap;
use super::wire::{self, PeerReply, PeerRequest};
use crate::cluster::Settings;
use crate::cluster::settings::{deviations, differences};
use crate::net::{Answerer, Inbound, IncomingTransfer, PeerHello};
use crate::raft::{Message, NodeId, RoleName, SoftState};
use crate::store::{Space, State, StoreError};

/// Takes what comes over the network to the replica thread and to the tasks that look after the membership.
#[derive(Debug)]
pub(super) struct InboundHandler {
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) settings: Settings,
    pub(super) state: Arc<State>,
    pub(super) space: Arc<Space>,
    pub(super) peers_changed: Arc<Notify>,
    pub(super) disowned: Arc<Notify>,
    pub(super) standing: watch::Receiver<SoftState>,
}

impl Inbound for InboundHandler {
    fn receive(&self, message: Message) {
        self.mailbox.receive(message);
    }

    fn unreachable(&self, peer: NodeId) {
        self.mailbox.send(Notice::Unreachable { peer });
    }

    fn peer_up(&self, peer: PeerHello) {
        let leads = self.standing.borrow().role == RoleName::Leader;
        let told = match (peer.settings, self.state.settings()) {
            (Some(theirs), None) => differences(self.settings, &peer.name, theirs),
            // Each says it of itself; beside it the leader alone, since it decides by what it hears.
            (Some(theirs), Some(agreed)) if leads => deviations(theirs, Some(&peer.name), agreed),
            _ => Vec::new(),
        };
        told.iter().for_each(|told| tracing::warn!("{told}"));
        self.peers_changed.notify_waiters();
        self.peers_changed.notify_one();
    }

    fn disowned(&self) {
        self.disowned.notify_one();
    }

    fn ended(&self, task: &'static str, panic: &(dyn Any + Send)) {
        self.mailbox.fail(StoreError::ended(task, panic));
    }

    fn transfer(&self, from: NodeId, arriving: IncomingTransfer) -> BoxFuture<'static, Bytes> {
        let disk = snapshots::Disk { state: self.state.clone(), space: self.space.clone() };
        Box::pin(snapshots::receive(self.mailbox.clone(), disk, from, arriving))
    }
}

/// Answers what peers ask: writes on the thread that speaks QUIC and steps the replica, for which alone they wait, and
/// everything else, which may read a file, where clients are served.
#[derive(Debug)]
pub(super) struct Answering {
    pub(super) handle: Handle,
    pub(super) elsewhere: tokio::runtime::Handle,
}

impl Answerer for Answering {
    fn answer(&self, from: NodeId, body: Bytes) -> BoxFuture<'static, Bytes> {
        let (handle, elsewhere) = (self.handle.clone(), self.elsewhere.clone());
        Box::pin(async move {
            match wire::decode(&body) {
                Some(PeerRequest::Write { write, deadline }) if !write.counts_first() => {
                    let until = Instant::now() + deadline;
                    let written = handle.write_here(write, Asker::Peer, until).await;
                    wire::encode(&PeerReply::Write(written))
                }
                Some(request) => {
                    let replied =
                        elsewhere.spawn(async move { reply(&handle, from, request).await });
                    match replied.await {
                        Ok(reply) => reply,
                        Err(ended) if ended.is_panic() => resume_unwind(ended.into_panic()),
                        // The node stops: what became of it is not known.
                        Err(_) => Bytes::new(),
                    }
                }
                None => wire::encode(&PeerReply::NotUnderstood),
            }
        })
    }
}

async fn reply(handle: &Handle, from: NodeId, request: PeerRequest) -> Bytes {
    let reply = match request {
        PeerRequest::Write { write, deadline } => {
            let until = Instant::now() + deadline;
            PeerReply::Write(handle.write_here(write, Asker::Client, until).await)
        }
        PeerRequest::Found(ask) => PeerReply::Founding(bootstrap::answer_peer(handle, ask).await),
        PeerRequest::Progress => PeerReply::Progress(handle.progress().await),
        PeerRequest::TransferLeadership { to } => {
            handle.transfer_here(to);
            PeerReply::TransferBegun
        }
        PeerRequest::Change { operation, force, deadline } => {
            let deadline = Instant::now() + deadline;
            PeerReply::Change(handle.operate_here(&operation, force, deadline).await)
        }
        PeerRequest::Members => PeerReply::Members(handle.net().roster().newest().cloned()),
        PeerRequest::StateHashes => PeerReply::StateHashes(handle.state_hashes()),
        PeerRequest::Diverged { own, majority } => {
            handle.diverged(own, majority);
            PeerReply::Noted
        }
        PeerRequest::Capacity(capacity) => {
            handle.peer_capacity(from, capacity);
            PeerReply::Noted
        }
        PeerRequest::Read { read, deadline } => {
            return handle.answer_read(read, Instant::now() + deadline).await;
        }
    };
    wire::encode(&reply)
}
