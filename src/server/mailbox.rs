//! The replica thread's inbox.

use std::time::Instant;

use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use crate::kv::{Reply, Write};
use crate::raft::{Input, LogId, Membership, Message, Refused};
use crate::replica::{Summary, WriteFailed};
use crate::store::StoreError;

/// The most client requests that wait for the replica thread; beyond it a client is told to come back.
const CLIENT_LETTERS_MAX: usize = 16_384;
/// The most bytes of keys and values in them.
const CLIENT_BYTES_MAX: usize = 64 << 20;
/// The most messages of peers that wait; beyond it they are dropped, which Raft repairs.
const PEER_LETTERS_MAX: usize = 65_536;
/// The most bytes of entries in them.
const PEER_BYTES_MAX: usize = 64 << 20;

/// What the replica thread is asked or told.
#[derive(Debug)]
pub(super) enum Letter {
    /// A message of a peer.
    Message(Message),
    /// Something else for the core: of the disk, the network or the operator.
    Input(Input),
    /// A client's write.
    Write { write: Write, reply: oneshot::Sender<Result<Reply, WriteFailed>> },
    /// A client's read.
    Read { reply: oneshot::Sender<Result<(), Refused>> },
    /// Another membership is wanted.
    ChangeMembers { membership: Membership, reply: oneshot::Sender<Result<LogId, Refused>> },
    /// Somebody wants to know how things stand.
    Inspect { reply: oneshot::Sender<Summary> },
    /// A checkpoint ended: there may be room to apply again.
    Checkpointed,
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
    filled: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    letters: Vec<Letter>,
    clients: usize,
    client_bytes: usize,
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
        queue.letters.push(letter);
        drop(queue);
        self.filled.notify_one();
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
        queue.letters.push(Letter::Message(message));
        drop(queue);
        self.filled.notify_one();
    }

    /// Adds what must not be lost. Its number is bounded by what the replica itself has asked for.
    pub(super) fn tell(&self, letter: Letter) {
        self.queue.lock().letters.push(letter);
        self.filled.notify_one();
    }

    /// Swaps `into`, which must be empty, for all that waits, after waiting for the first letter or for
    /// `until`.
    pub(super) fn take(&self, into: &mut Vec<Letter>, until: Instant) {
        debug_assert!(into.is_empty(), "letters would be lost");
        let mut queue = self.queue.lock();
        while queue.letters.is_empty() {
            if self.filled.wait_until(&mut queue, until).timed_out() {
                break;
            }
        }
        std::mem::swap(&mut queue.letters, into);
        queue.clients = 0;
        queue.client_bytes = 0;
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
