//! Answers on their way from the replica thread to those who wait.
//!
//! Waking a task from a thread outside of the runtime costs a system call, and one look at the log
//! decides many requests. So all answers of one look go to one task, which wakes the others from within; among them the
//! dispatcher of those who wait for what the same look has applied.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use crate::kv::Reply;
use crate::raft::Refused;
use crate::replica::{ChangeFailed, Proposed, WriteFailed};
use crate::server::watch::waiters::Waiters;

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

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    filled: Notify,
    waiters: Arc<Waiters>,
}

#[derive(Debug, Default)]
struct State {
    answers: Vec<Answer>,
    closed: bool,
}

/// Both ends; the second also wakes the dispatcher of those who wait.
pub(crate) fn channel(waiters: Arc<Waiters>) -> (Answers, Delivery) {
    let (state, filled) = (Mutex::default(), Notify::new());
    let shared = Arc::new(Shared { state, filled, waiters });
    (Answers { gathered: Vec::new(), shared: shared.clone() }, Delivery { shared })
}

impl Answers {
    pub(crate) fn push(&mut self, answer: Answer) {
        self.gathered.push(answer);
    }

    /// Hands over what has gathered, and what was applied. To be called after each turn that may have applied something.
    pub(crate) fn flush(&mut self) {
        if self.gathered.is_empty() && !self.shared.waiters.are_due() {
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
            self.shared.waiters.wake_dispatcher();
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

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::kv::{KeyRange, Revision, RowId};
    use crate::store::{Event, EventBatch, Observer};

    #[tokio::test]
    async fn one_wakeup_serves_answers_and_those_who_wait_for_what_was_applied() {
        let waiters = Waiters::new(10);
        let dispatcher = tokio::spawn(waiters.clone().run());
        let (mut answers, delivery) = channel(waiters.clone());
        let delivery = tokio::spawn(delivery.run());
        let late = Instant::now() + Duration::from_secs(30);
        for (revision, with_answer) in [(1, false), (2, true), (3, false)] {
            // Both are asleep again.
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
            let waiter = waiters.for_range(KeyRange::prefix(b"a")).unwrap();
            let id = RowId { revision: Revision(revision), sub: 0 };
            let event = Event { key: "ab".into(), id, is_live: true };
            waiters.changed(Arc::new(EventBatch::new(vec![event], 1).unwrap()));
            let (reply, answer) = oneshot::channel();
            match with_answer {
                true => answers.push(Answer::Read(reply, Ok(()))),
                false => drop(reply),
            }
            answers.flush();
            assert!(waiter.woken(late).await);
            assert_eq!(answer.await.is_ok(), with_answer);
        }
        drop(answers);
        delivery.await.unwrap();
        dispatcher.abort();
    }
}
