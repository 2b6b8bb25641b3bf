//! The replica's inbox.

use std::pin::Pin;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{Notify, oneshot};
use tokio::time::Sleep;

use crate::cluster::Shown;
use crate::kv::{Reply, Write};
use crate::raft::{ClusterId, Input, LogId, Message, NodeId, Refused, Term};
use crate::replica::{ChangeFailed, Proposed, Room, Step, Summary, WriteFailed};
use crate::store::StoreError;

/// The most client requests that wait for the replica; beyond it a client is told to come back.
const CLIENT_LETTERS_MAX: usize = 16_384;
/// The most bytes of keys and values in them.
const CLIENT_BYTES_MAX: usize = 64 << 20;
/// The most questions about how things stand that wait: they have places of their own, so that no number of clients'
/// requests makes a node look dead.
const QUESTIONS_MAX: usize = 1024;
/// The most messages of peers that wait; beyond it they are dropped, which Raft repairs.
const PEER_LETTERS_MAX: usize = 65_536;
/// The most bytes of entries in them.
const PEER_BYTES_MAX: usize = 64 << 20;

/// What the replica is asked or told.
#[derive(Debug)]
pub(super) enum Letter {
    /// A message of a peer.
    Message(Message),
    /// Something else for the core: of the disk, the network or the operator.
    Input(Input),
    /// A peer says how much room its disk has.
    PeerRoom { peer: NodeId, room: Room },
    /// A client's write.
    Write { write: Write, reply: oneshot::Sender<Result<Reply, WriteFailed>> },
    /// A client's read.
    Read { lease: bool, reply: oneshot::Sender<Result<(), Refused>> },
    /// The membership is to change.
    Change { step: Step, hosts: Vec<Shown>, reply: oneshot::Sender<Result<Proposed, ChangeFailed>> },
    /// Somebody wants to know how things stand.
    Inspect { reply: oneshot::Sender<Summary> },
    /// A checkpoint ended, which covers everything up to there: there may be room to apply again, and the
    /// log may be cut.
    Checkpointed(LogId),
    /// Whether the snapshot that `from` offers as the leader of `term` is wanted.
    OfferSnapshot { from: NodeId, term: Term, last: LogId, reply: oneshot::Sender<bool> },
    /// A snapshot has come and is to take the state's place, if it is still wanted.
    InstallSnapshot { cluster: ClusterId, last: LogId, reply: oneshot::Sender<bool> },
    /// The snapshot of `from` took the state's place, or was found not to be newer.
    SnapshotInstalled { from: NodeId },
    /// The disk failed: stop.
    Failed(StoreError),
    /// Stop.
    Stop,
}

/// The queue had no room for the letter, which was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full;

/// A bounded queue that hands over all it holds at once.
#[derive(Debug, Default)]
pub(super) struct Mailbox {
    queue: Mutex<Queue>,
    filled: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    letters: Vec<Letter>,
    clients: usize,
    client_bytes: usize,
    questions: usize,
    peers: usize,
    peer_bytes: usize,
    closed: bool,
}

impl Mailbox {
    /// Adds a client's request.
    pub(super) fn ask(&self, letter: Letter) -> Result<(), Full> {
        let bytes = match &letter {
            Letter::Write { write, .. } => write.cost_bytes(),
            _ => 0,
        };
        let mut queue = self.queue.lock();
        if queue.closed
            || queue.clients >= CLIENT_LETTERS_MAX
            || queue.client_bytes + bytes > CLIENT_BYTES_MAX
        {
            return Err(Full);
        }
        queue.clients += 1;
        queue.client_bytes += bytes;
        self.push(queue, letter);
        Ok(())
    }

    /// Adds a question about how things stand.
    pub(super) fn ask_how(&self, letter: Letter) -> Result<(), Full> {
        let mut queue = self.queue.lock();
        if queue.closed || queue.questions >= QUESTIONS_MAX {
            return Err(Full);
        }
        queue.questions += 1;
        self.push(queue, letter);
        Ok(())
    }

    /// Adds a peer's message, or drops it when too many wait.
    pub(super) fn receive(&self, message: Message) {
        let bytes = message.cost_bytes();
        let mut queue = self.queue.lock();
        if queue.closed
            || queue.peers >= PEER_LETTERS_MAX
            || queue.peer_bytes + bytes > PEER_BYTES_MAX
        {
            return;
        }
        queue.peers += 1;
        queue.peer_bytes += bytes;
        self.push(queue, Letter::Message(message));
    }

    /// Adds what must not be lost. Its number is bounded by what the replica itself has asked for.
    pub(super) fn tell(&self, letter: Letter) {
        self.push(self.queue.lock(), letter);
    }

    /// Whoever takes has seen an empty queue before it waits, so only the first letter wakes it.
    fn push(&self, mut queue: MutexGuard<'_, Queue>, letter: Letter) {
        queue.letters.push(letter);
        let was_empty = queue.letters.len() == 1;
        drop(queue);
        if was_empty {
            self.filled.notify_one();
        }
    }

    /// Waits for a letter or for the end of `until`.
    pub(super) async fn filled(&self, until: Pin<&mut Sleep>) {
        if self.queue.lock().letters.is_empty() {
            tokio::select! {
                biased;
                () = self.filled.notified() => {}
                () = until => {}
            }
        }
    }

    /// Swaps `into`, which must be empty, for all that waits.
    pub(super) fn take(&self, into: &mut Vec<Letter>) {
        debug_assert!(into.is_empty(), "letters would be lost");
        let mut queue = self.queue.lock();
        std::mem::swap(&mut queue.letters, into);
        queue.clients = 0;
        queue.client_bytes = 0;
        queue.questions = 0;
        queue.peers = 0;
        queue.peer_bytes = 0;
    }

    /// Refuses everything from now on and drops what waits, so that whoever asked hears of it.
    pub(super) fn close(&self) {
        let mut queue = self.queue.lock();
        queue.closed = true;
        let letters = std::mem::take(&mut queue.letters);
        drop(queue);
        drop(letters);
    }
}
