//! Snapshots on their way: a leader sends the state to a peer that its log does not reach any more.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use super::background;
use super::event::{Control, Notice};
use super::mailbox::{Mailbox, NotTaken};
use super::pace::{self, Pace};
use crate::api::Error;
use crate::net::{IncomingTransfer, Net, TransferError};
use crate::raft::{ClusterId, Index, LogId, NodeId, PeerProgress, Term};
use crate::replica::holds::Holds;
use crate::server::wire::{decode, encode};
use crate::store::{Incoming, IncomingError, Purpose, SnapshotReader, Space, State, StoreError};

/// The size of a piece, in bytes.
const PIECE_BYTES: usize = 256 << 10;
/// The most pieces that wait between the disk and the network, at either end.
const PIECES_MAX: usize = Incoming::BATCH_BYTES_MAX / PIECE_BYTES;
/// How long a receiver that has everything may take to put it in place.
const INSTALL_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a peer that could not take a snapshot in is left alone: what it lacks does not come at once.
const REFUSED_PAUSE: Duration = Duration::from_secs(1);
/// How often a long transfer is told of.
const TELL_EVERY: Duration = Duration::from_secs(5);
/// The first piece of a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Transfer {
    /// The leader of `term` sends the state up to `last`.
    Snapshot { cluster: ClusterId, term: Term, last: LogId },
}

/// The reply to a transfer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Received {
    /// It is in place, durably.
    Installed,
    /// It brings nothing new, or comes from nobody who leads.
    NotWanted,
    /// Why it could not be taken in.
    Failed(String),
}

/// Sends snapshots; the newest to each peer is the one that counts.
#[derive(Debug)]
pub(crate) struct Sender {
    runtime: tokio::runtime::Handle,
    net: Net,
    state: Arc<State>,
    mailbox: Arc<Mailbox>,
    pace: Arc<Pace>,
    holds: Arc<Mutex<Holds>>,
    /// When this began: the holds count from then.
    since: Instant,
}

impl Sender {
    /// To be called within the runtime on which the transfers are to run.
    pub(crate) fn new(net: Net, state: Arc<State>, mailbox: Arc<Mailbox>) -> Sender {
        let runtime = tokio::runtime::Handle::current();
        let (pace, holds) = (Arc::default(), Arc::default());
        Sender { runtime, net, state, mailbox, pace, holds, since: Instant::now() }
    }

    /// How fast snapshots go out.
    pub(crate) fn pace(&self) -> &Pace {
        &self.pace
    }

    /// Begins to send the newest checkpoint to `to`. How it ends comes as an input.
    pub(crate) fn begin(&self, cluster: ClusterId, to: NodeId, term: Term) {
        let reader = self.state.snapshot();
        let last = reader.last();
        let since = self.since;
        let transfer = self.holds.lock().begin(to, last, since.elapsed());
        let (net, mailbox, holds) = (self.net.clone(), self.mailbox.clone(), self.holds.clone());
        let pace = self.pace.clone();
        self.runtime.spawn(async move {
            let began = Instant::now();
            tracing::info!(%to, %last, "sending a snapshot");
            let sent = send(&net, &pace, to, (cluster, term), reader).await;
            let took = began.elapsed();
            let installed = match sent {
                Ok((Received::Installed, bytes)) => {
                    tracing::info!(%to, %last, bytes, ?took, "the snapshot is in place");
                    true
                }
                Ok((Received::NotWanted, _)) => {
                    tracing::info!(%to, %last, "the snapshot was not wanted");
                    false
                }
                Ok((Received::Failed(why), _)) => {
                    tracing::warn!(%to, %last, why, "the snapshot was not taken in");
                    tokio::time::sleep(REFUSED_PAUSE).await;
                    false
                }
                Err(SendError::Store(error)) => {
                    tracing::error!(%error, "the state could not be read for a snapshot");
                    mailbox.fail(error);
                    false
                }
                Err(error) => {
                    tracing::warn!(%to, %last, %error, "the snapshot could not be sent");
                    false
                }
            };
            // If a newer one is on its way, how that ends is what counts.
            if holds.lock().end(to, transfer, installed, since.elapsed()) {
                mailbox.send(Notice::SnapshotEnded { peer: to, installed });
            }
        });
    }

    /// How far a leader's peers are now; none of another node's. The last entry that none of them waits for that is up.
    pub(crate) fn heard(&self, peers: &[PeerProgress]) -> Option<Index> {
        let mut holds = self.holds.lock();
        holds.heard(peers, self.since.elapsed());
        holds.awaited_after()
    }

    /// Up to where the log may be cut once a checkpoint covers everything up to `checkpoint`.
    pub(crate) fn may_cut(&self, checkpoint: LogId) -> LogId {
        self.holds.lock().may_cut(checkpoint, self.since.elapsed())
    }
}

/// Why a snapshot was not sent.
#[derive(Debug, thiserror::Error)]
enum SendError {
    #[error(transparent)]
    Transfer(#[from] TransferError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the reply is not understood")]
    Reply,
    #[error("there is no thread for it: {0}")]
    Thread(#[from] std::io::Error),
}

/// What the receiver said, and how many bytes went.
async fn send(
    net: &Net,
    pace: &Pace,
    to: NodeId,
    (cluster, term): (ClusterId, Term),
    reader: SnapshotReader,
) -> Result<(Received, u64), SendError> {
    let last = reader.last();
    let mut outgoing = net.transfer(to).await?;
    let (pieces, mut next) = mpsc::channel(PIECES_MAX);
    // The thread ends with the transfer, since nobody takes its pieces then.
    let read = background::spawn("snapshot-out", move || read(reader, &pieces))?;
    let mut wanted = outgoing.send(encode(&Transfer::Snapshot { cluster, term, last })).await?;
    let (mut bytes, mut told, mut pause_at) = (0, Instant::now(), pace::STRIDE_BYTES);
    while wanted && let Some(piece) = next.recv().await {
        let piece = Bytes::from(piece?);
        bytes += piece.len() as u64;
        wanted = outgoing.send(piece).await?;
        if told.elapsed() >= TELL_EVERY {
            told = Instant::now();
            tracing::info!(%to, bytes, "a snapshot is on its way");
        }
        if bytes >= pause_at {
            pause_at = bytes + pace::STRIDE_BYTES;
            let pause = pace.pause();
            // Even no pause would last until the timer's next millisecond.
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
        }
    }
    drop(next);
    // It panics only if the disk made it; the pieces would have ended early, and the receiver told.
    let _ = read.await;
    let reply = outgoing.finish(INSTALL_TIMEOUT).await?;
    decode(&reply).map(|received| (received, bytes)).ok_or(SendError::Reply)
}

fn read(mut reader: SnapshotReader, pieces: &mpsc::Sender<Result<Vec<u8>, StoreError>>) {
    loop {
        let piece = match reader.next_piece(PIECE_BYTES) {
            Ok(Some(piece)) => Ok(piece),
            Ok(None) => return,
            Err(error) => Err(error),
        };
        let failed = piece.is_err();
        if pieces.blocking_send(piece).is_err() || failed {
            return;
        }
    }
}

/// Where a snapshot goes.
#[derive(Debug)]
pub(crate) struct Disk {
    pub(crate) state: Arc<State>,
    pub(crate) space: Arc<Space>,
}

/// A snapshot that a peer sends.
#[derive(Clone, Copy, Debug)]
struct Offer {
    from: NodeId,
    cluster: ClusterId,
    term: Term,
    last: LogId,
}

/// Takes a snapshot in that a peer sends; the reply.
pub(crate) async fn receive(
    mailbox: Arc<Mailbox>,
    disk: Disk,
    from: NodeId,
    mut arriving: IncomingTransfer,
) -> Bytes {
    let received = match arriving.next().await {
        Ok(Some(first)) => match decode(&first) {
            Some(Transfer::Snapshot { cluster, term, last }) => {
                let offer = Offer { from, cluster, term, last };
                take_in(mailbox, disk, offer, arriving).await
            }
            None => Received::Failed("the transfer is of an unknown kind".to_owned()),
        },
        Ok(None) | Err(_) => Received::Failed("nothing came".to_owned()),
    };
    encode(&received)
}

async fn take_in(
    mailbox: Arc<Mailbox>,
    disk: Disk,
    offer: Offer,
    mut arriving: IncomingTransfer,
) -> Received {
    let Offer { from, term, last, .. } = offer;
    let (reply, wanted) = oneshot::channel();
    match mailbox.try_send_control(Control::OfferSnapshot { from, term, last, reply }) {
        Ok(()) if wanted.await == Ok(true) => {}
        Ok(()) => return Received::NotWanted,
        // It is offered again, after a while.
        Err(NotTaken::Full) => return Received::Failed("too much waits already".to_owned()),
        Err(NotTaken::Closed) => return Received::Failed(Error::ShuttingDown.to_string()),
    }
    tracing::info!(%from, %last, "receiving a snapshot");
    let (pieces, next) = mpsc::channel(PIECES_MAX);
    let written = {
        let mailbox = mailbox.clone();
        background::spawn("snapshot-in", move || write(&mailbox, &disk, offer, next))
    };
    let written = match written {
        Ok(written) => written,
        Err(error) => return Received::Failed(format!("it has no thread: {error}")),
    };
    let (mut bytes, mut told) = (0, Instant::now());
    // An early end shows at the last piece, which is missing then.
    while let Ok(Some(piece)) = arriving.next().await {
        bytes += piece.len() as u64;
        if pieces.send(piece).await.is_err() {
            break;
        }
        if told.elapsed() >= TELL_EVERY {
            told = Instant::now();
            tracing::info!(%from, bytes, "a snapshot is coming in");
        }
    }
    drop(pieces);
    match written.await {
        Ok(Ok(true)) => Received::Installed,
        Ok(Ok(false)) => Received::NotWanted,
        Ok(Err(IncomingError::Store(error))) => {
            let why = error.to_string();
            mailbox.fail(error);
            Received::Failed(why)
        }
        Ok(Err(error)) => {
            tracing::warn!(%from, %last, %error, "a snapshot is not taken in");
            Received::Failed(error.to_string())
        }
        Err(_) => {
            mailbox.fail(StoreError::panicked("state"));
            Received::Failed("the receiver's disk has failed".to_owned())
        }
    }
}

/// The part that waits for the disk. Whether the snapshot took the state's place.
fn write(
    mailbox: &Mailbox,
    disk: &Disk,
    offer: Offer,
    mut pieces: mpsc::Receiver<Bytes>,
) -> Result<bool, IncomingError> {
    let Offer { from, cluster, last, .. } = offer;
    let began = Instant::now();
    let room = |bytes| disk.space.reserve(bytes, Purpose::Bulk).ok_or(IncomingError::NoRoom);
    let begun = room(Incoming::BEGIN_BYTES)?;
    let mut incoming: Incoming = disk.state.receive()?;
    drop(begun);
    let (mut bytes, mut next) = (0, Vec::with_capacity(PIECES_MAX));
    // All that wait, together: the more there are, the less each costs.
    while pieces.blocking_recv_many(&mut next, PIECES_MAX) > 0 {
        let came = next.iter().map(Bytes::len).sum();
        let _room = room(incoming.commit_bytes(came))?;
        bytes += came;
        incoming.take(&next)?;
        next.clear();
    }
    let _room = room(incoming.commit_bytes(0))?;
    if !incoming.is_whole() {
        return Err(IncomingError::Damaged("it was cut off"));
    }
    if incoming.last() != Some(last) {
        return Err(IncomingError::Damaged("it is not the one that was offered"));
    }
    let (reply, begin) = oneshot::channel();
    let asked = mailbox.try_send_control(Control::InstallSnapshot { cluster, last, reply });
    if asked.is_err() || begin.blocking_recv() != Ok(true) {
        return Ok(false);
    }
    let placed = disk.state.put_in_place(incoming)?;
    if placed {
        // Before anybody can see what it brought.
        tracing::info!(%from, %last, bytes, took = ?began.elapsed(), "the snapshot is in place");
    }
    mailbox.send(Notice::SnapshotInstalled { from });
    Ok(placed)
}
