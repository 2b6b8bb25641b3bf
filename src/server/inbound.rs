//! What peers bring in.

use std::any::Any;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::sync::{Notify, watch};

use super::handle::Handle;
use super::passed_in::{self, PassedIn};
use super::run::event::{Asker, Notice};
use super::run::mailbox::Mailbox;
use super::run::snapshots;
use super::tasks::bootstrap;
use super::wire::{self, Asked, PeerReply, PeerRequest, Whose};
use crate::api::{Caller, RenewMember, Transfer};
use crate::cluster::Settings;
use crate::cluster::settings::{deviations, differences};
use crate::kv::Write;
use crate::net::{Answerer, Asking, Inbound, IncomingTransfer, PeerHello};
use crate::raft::{Message, NodeId, RoleName, SoftState};
use crate::replica::forwarding::{Cause, Fate};
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

impl Answering {
    /// By this node, with everything else on the runtime that this is called on.
    pub(super) fn here(handle: &Handle) -> Answering {
        Answering { handle: handle.clone(), elsewhere: tokio::runtime::Handle::current() }
    }
}

impl Answerer for Answering {
    fn answer(&self, from: &Asking, body: Bytes) -> BoxFuture<'static, Bytes> {
        let (handle, elsewhere) = (self.handle.clone(), self.elsewhere.clone());
        let from = from.clone();
        Box::pin(async move {
            let request = wire::decode(&body).map(|request: PeerRequest| Whose::from(request));
            match request {
                Some(Whose::Clients(caller, Asked::Write(write), deadline))
                    if !write.counts_first() =>
                {
                    let until = Instant::now() + deadline;
                    write_for(&handle, from.id, &caller, write, Asker::Peer, until).await
                }
                Some(request) => {
                    let replied = elsewhere.spawn(async move {
                        match request {
                            Whose::Clients(caller, asked, deadline) => {
                                let until = Instant::now() + deadline;
                                carry_out(&handle, from.id, &caller, asked, until).await
                            }
                            Whose::Peers(request) => reply(&handle, &from, request).await,
                        }
                    });
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

/// Carries a write out that a peer passed on, if its caller may ask for it here, too.
async fn write_for(
    handle: &Handle,
    from: NodeId,
    caller: &Caller,
    write: Write,
    asker: Asker,
    until: Instant,
) -> Bytes {
    let passed_in = PassedIn::write(handle, from, caller, &write);
    let written = match handle.admit(caller, write).await {
        Ok(write) => handle.write_allowed(&write, asker, until).await,
        Err(error) => Err(error),
    };
    let written = written.unwrap_or(Err(Fate::NotApplied(Cause::Forbidden)));
    if let Some(passed_in) = passed_in {
        passed_in.written(&written);
    }
    wire::encode(&PeerReply::Write(written))
}

/// Answers what a client asked a peer for.
async fn carry_out(
    handle: &Handle,
    from: NodeId,
    caller: &Caller,
    asked: Asked,
    until: Instant,
) -> Bytes {
    let reply = match asked {
        Asked::Write(write) => {
            return write_for(handle, from, caller, write, Asker::Client, until).await;
        }
        Asked::Read(read) => return handle.answer_read(caller, read, until).await,
        Asked::TransferLeadership { to } => {
            let passed_in = PassedIn::transfer(handle, from, caller);
            let allowed = handle.admit(caller, Transfer::default()).await;
            if allowed.is_ok() {
                handle.transfer_here(to);
            }
            if let Some(passed_in) = passed_in {
                passed_in.end(if allowed.is_ok() { "carried-out" } else { "forbidden" }, None);
            }
            allowed.map_or_else(PeerReply::NotAllowed, |_| PeerReply::TransferBegun)
        }
        Asked::Change { operation, force } => {
            let passed_in = PassedIn::operation(handle, from, caller, &operation);
            let (outcome, fate) = match handle.admit(caller, operation).await {
                Ok(operation) => {
                    let outcome = handle.operate_here(caller, &operation, force, until).await;
                    let fate = passed_in::fate_of(&outcome);
                    (outcome, fate)
                }
                Err(error) => (error.into(), "forbidden"),
            };
            if let Some(passed_in) = passed_in {
                passed_in.end(fate, None);
            }
            PeerReply::Change(outcome)
        }
        Asked::Renew => PeerReply::Renewed(match handle.admit(caller, RenewMember::own()).await {
            Ok(allowed) => handle.renew_here(&allowed, until).await,
            Err(error) => Err(error.into()),
        }),
    };
    wire::encode(&reply)
}

async fn reply(handle: &Handle, from: &Asking, request: PeerRequest) -> Bytes {
    let reply = match request {
        PeerRequest::Found(ask) => PeerReply::Founding(bootstrap::answer_peer(handle, ask).await),
        PeerRequest::Progress => PeerReply::Progress(handle.progress().await),
        PeerRequest::Members => PeerReply::Members(handle.net().roster().newest().cloned()),
        PeerRequest::StateHashes => PeerReply::StateHashes(handle.state_hashes()),
        PeerRequest::Diverged { own, majority } => {
            handle.diverged(own, majority);
            PeerReply::Noted
        }
        PeerRequest::Capacity(capacity) => {
            handle.peer_capacity(from.id, capacity);
            PeerReply::Noted
        }
        PeerRequest::Anchor(anchor) => match handle.anchor_peer(from.id, anchor).await {
            true => PeerReply::Noted,
            false => PeerReply::NotUnderstood,
        },
        PeerRequest::Sign { request } => PeerReply::Signed(handle.sign(from, &request)),
        // They are none of a client's.
        PeerRequest::Write { .. }
        | PeerRequest::Read { .. }
        | PeerRequest::Change { .. }
        | PeerRequest::TransferLeadership { .. }
        | PeerRequest::For { .. } => PeerReply::NotUnderstood,
    };
    wire::encode(&reply)
}
