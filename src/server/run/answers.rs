//! Answers on their way from the replica thread to those who wait.
//!
//! Waking a task from a thread outside of the runtime costs a system call, and one look at the log
//! decides many requests. So all answers of one look go to one task, which wakes the others from within.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use crate::kv::Reply;
use crate::raft::Refused;
use crate::replica::{ChangeFailed, Proposed, WriteFailed};

/// What one who waits is told.
#[derive(Debug)]
pub(crate) enum Answer {
    Write(oneshot::Sender<Result<Reply, WriteFailed>>, Result<Reply, WriteFailed>),
    Read(oneshot::Sender<Result<(), Refused>>, Result<(), Refused>),
    Change(oneshot::Sender<Result<Proposed, ChangeFailed>>, Result<Proposed, ChangeFailed>),
}

impl Answer {
    /// A client that went away has dropped its receiver; there is nobody to tell then.
    fn deliver(self) {
        match self {
            Answer::Write(reply, result) => drop(reply.send(result)),
            Answer::Read(reply, result) => drop(reply.send(result)),
            Answer::Change(reply, result) => drop(reply.send(result)),
        }
    }
}

/// The replica thread's end. What is in it is bounded by the requests that wait.
#[derive(Debug)]
pub(crate) struct Answers {
    gathered: Vec<Answer>,
    shared: Arc<Shared>,
}

/// The end of the task that delivers.
#[derive(Debug)]
pub(crate) struct Delivery {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    filled: Notify,
}

#[derive(Debug, Default)]
struct State {
    answers: Vec<Answer>,
    closed: bool,
}

/// Both ends.
pub(crate) fn channel() -> (Answers, Delivery) {
    let shared = Arc::new(Shared::default());
    (Answers { gathered: Vec::new(), shared: shared.clone() }, Delivery { shared })
}

impl Answers {
    pub(crate) fn push(&mut self, answer: Answer) {
        self.gathered.push(answer);
    }

    /// Hands over what has gathered.
    pub(crate) fn flush(&mut self) {
        if self.gathered.is_empty() {
            return;
        }
        let mut state = self.shared.state.lock();
        let was_empty = state.answers.is_empty();
        if was_empty {
            std::mem::swap(&mut state.answers, &mut self.gathered);
        } else {
            state.answers.append(&mut self.gathered);
        }
        drop(state);
        if was_empty {
            self.shared.filled.notify_one();
        }
    }
}

impl Drop for Answers {
    fn drop(&mut self) {
        self.shared.state.lock().closed = true;
        self.shared.filled.notify_one();
    }
}

impl Delivery {
    /// Delivers until the replica thread is gone.
    pub(crate) async fn run(self) {
        let mut taken = Vec::new();
        loop {
            let closed = {
                let mut state = self.shared.state.lock();
                std::mem::swap(&mut state.answers, &mut taken);
                state.closed
            };
            if taken.is_empty() {
                if closed {
                    return;
                }
                self.shared.filled.notified().await;
            }
            taken.drain(..).for_each(Answer::deliver);
        }
    }
}
