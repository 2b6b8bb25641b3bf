//! What waits to be written to one stream.

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::raft::{Body, Message};

/// The most messages that wait for one stream. The protocol repeats what is lost.
const MESSAGES_MAX: usize = 4096;
/// The most bytes that wait for one stream: several times what the core lets be in flight to a peer.
const BYTES_MAX: usize = 32 << 20;
/// What a message without its entries counts for.
const MESSAGE_COST_BYTES: usize = 64;

/// A bounded queue that a plain thread fills and one writer task empties, all at once.
#[derive(Debug, Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    filled: Notify,
}

#[derive(Debug, Default)]
struct State {
    messages: Vec<Message>,
    bytes: usize,
    closed: bool,
}

/// What became of a message.
#[derive(Debug)]
pub(super) enum Pushed {
    Queued,
    /// Too much waits already; the message is dropped.
    Full,
    /// Nothing is written here any more.
    Closed(Message),
}

impl Queue {
    /// Never blocks for longer than another `push` or `take` takes.
    pub(super) fn push(&self, message: Message) -> Pushed {
        let cost = cost_bytes(&message);
        let mut state = self.state.lock();
        if state.closed {
            return Pushed::Closed(message);
        }
        // A single message of any size may wait: the frame limit decides about it.
        let was_empty = state.messages.is_empty();
        if !was_empty && (state.messages.len() >= MESSAGES_MAX || state.bytes + cost > BYTES_MAX) {
            return Pushed::Full;
        }
        state.messages.push(message);
        state.bytes += cost;
        drop(state);
        // The writer takes everything at once, so it needs to be woken only for the first.
        if was_empty {
            self.filled.notify_one();
        }
        Pushed::Queued
    }

    /// Refuses messages from now on; those that wait can still be taken.
    pub(super) fn close(&self) {
        self.state.lock().closed = true;
        self.filled.notify_one();
    }

    /// Waits for messages and moves all of them into `taken`, which is empty. False once the queue is
    /// closed and empty. For one task only.
    pub(super) async fn take(&self, taken: &mut Vec<Message>) -> bool {
        debug_assert!(taken.is_empty());
        loop {
            {
                let mut state = self.state.lock();
                if !state.messages.is_empty() {
                    std::mem::swap(&mut state.messages, taken);
                    state.bytes = 0;
                    return true;
                }
                if state.closed {
                    return false;
                }
            }
            self.filled.notified().await;
        }
    }
}

fn cost_bytes(message: &Message) -> usize {
    let entries = match &message.body {
        Body::Append { entries, .. } => entries.iter().map(|entry| entry.cost_bytes()).sum(),
        _ => 0,
    };
    MESSAGE_COST_BYTES + entries
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::raft::{Entry, Index, LogId, NodeId, Payload, Term};

    fn message(body: Body) -> Message {
        Message {
            cluster: crate::raft::ClusterId(1),
            from: NodeId(1),
            to: NodeId(2),
            term: Term(1),
            body,
        }
    }

    fn append(bytes: usize) -> Message {
        let payload = Payload::Command(Bytes::from(vec![0; bytes]));
        let entries = vec![Entry { id: LogId::new(Term(1), Index(1)), payload }];
        message(Body::Append { prev: LogId::ZERO, entries, commit: Index(0) })
    }

    #[tokio::test]
    async fn count_and_bytes_are_bounded() {
        let queue = Queue::default();
        for _ in 0..MESSAGES_MAX {
            assert!(matches!(queue.push(message(Body::TimeoutNow)), Pushed::Queued));
        }
        assert!(matches!(queue.push(message(Body::TimeoutNow)), Pushed::Full));
        let mut taken = Vec::new();
        assert!(queue.take(&mut taken).await);
        assert_eq!(taken.len(), MESSAGES_MAX);

        assert!(matches!(queue.push(append(BYTES_MAX - 1000)), Pushed::Queued));
        assert!(matches!(queue.push(append(1000)), Pushed::Full));
        taken.clear();
        assert!(queue.take(&mut taken).await);
        assert!(matches!(queue.push(append(BYTES_MAX * 2)), Pushed::Queued));
    }

    #[tokio::test]
    async fn a_closed_queue_gives_out_what_it_has() {
        let queue = Queue::default();
        assert!(matches!(queue.push(message(Body::TimeoutNow)), Pushed::Queued));
        queue.close();
        assert!(matches!(queue.push(message(Body::TimeoutNow)), Pushed::Closed(_)));
        let mut taken = Vec::new();
        assert!(queue.take(&mut taken).await);
        taken.clear();
        assert!(!queue.take(&mut taken).await);
    }
}
