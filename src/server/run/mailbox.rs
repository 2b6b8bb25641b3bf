//! The replica's inbox: a lane for each kind of event, so that none takes another's place, and each with its own bound.

use std::collections::VecDeque;
use std::pin::Pin;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Sleep;

use super::event::{Control, Notice, Question, Request};
use crate::raft::Message;
use crate::store::StoreError;

/// The most of clients' writes that wait for the replica, and of their reads; beyond it a client is told to come back.
const REQUESTS_MAX: usize = 16_384;
/// The most bytes of keys and values in them.
const REQUEST_BYTES_MAX: usize = 64 << 20;
/// The most questions about how things stand that wait.
const QUESTIONS_MAX: usize = 1024;
/// The most events that wait of those that keep the cluster going: a few a member, and a few an operator.
const CONTROL_MAX: usize = 1024;
/// The most messages of peers that wait; beyond it they are dropped, which Raft repairs.
const MESSAGES_MAX: usize = 65_536;
/// The most bytes of entries in them.
const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// Why the mailbox did not take an event, which was dropped: it certainly has no effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotTaken {
    /// Too much waits in its lane.
    Full,
    /// The replica takes nothing any more: the node shuts down.
    Closed,
}

/// What was taken out of the mailbox, a lane each.
#[derive(Debug, Default)]
pub(crate) struct Mail {
    /// Why the node must stop.
    pub(crate) failed: Option<StoreError>,
    /// Whether the node is to stop.
    pub(crate) stop: bool,
    pub(crate) control: VecDeque<Control>,
    pub(crate) questions: VecDeque<Question>,
    pub(crate) notices: VecDeque<Notice>,
    pub(crate) messages: VecDeque<Message>,
    /// What needs no round, or is not to wait for one.
    pub(crate) requests: VecDeque<Request>,
    /// Reads that need a round.
    pub(crate) reads: VecDeque<Request>,
}

impl Mail {
    /// Whether nothing is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.reads.is_empty() && self.is_empty_but_for_reads()
    }

    fn is_empty_but_for_reads(&self) -> bool {
        let Mail { failed, stop, control, questions, notices, messages, requests, reads: _ } = self;
        failed.is_none()
            && !stop
            && control.is_empty()
            && questions.is_empty()
            && notices.is_empty()
            && messages.is_empty()
            && requests.is_empty()
    }
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct Mailbox {
    inner: Mutex<Inner>,
    filled: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    waiting: Mail,
    request_bytes: usize,
    message_bytes: usize,
    closed: bool,
    /// Whether reads wait for others to join them: nobody is woken for them.
    holds_reads: bool,
}

impl Inner {
    /// Whether there is nothing to wake anybody for.
    fn is_quiet(&self) -> bool {
        let reads = self.holds_reads || self.waiting.reads.is_empty();
        reads && self.waiting.is_empty_but_for_reads()
    }
}

impl Mailbox {
    /// Adds a client's request.
    pub(crate) fn try_send(&self, request: Request) -> Result<(), NotTaken> {
        let bytes = request.cost_bytes();
        self.add(|inner| {
            let lane = match request.needs_round() {
                true => &mut inner.waiting.reads,
                false => &mut inner.waiting.requests,
            };
            let fits =
                lane.len() < REQUESTS_MAX && inner.request_bytes + bytes <= REQUEST_BYTES_MAX;
            if fits {
                inner.request_bytes += bytes;
                lane.push_back(request);
            }
            fits
        })
    }

    /// Adds a question about how things stand.
    pub(crate) fn try_send_question(&self, question: Question) -> Result<(), NotTaken> {
        self.add(|inner| {
            let questions = &mut inner.waiting.questions;
            let fits = questions.len() < QUESTIONS_MAX;
            if fits {
                questions.push_back(question);
            }
            fits
        })
    }

    /// Adds what keeps the cluster going.
    pub(crate) fn try_send_control(&self, event: Control) -> Result<(), NotTaken> {
        self.add(|inner| {
            let control = &mut inner.waiting.control;
            let fits = control.len() < CONTROL_MAX;
            if fits {
                control.push_back(event);
            }
            fits
        })
    }

    /// Adds a peer's message, or drops it when too many wait.
    pub(crate) fn receive(&self, message: Message) {
        let bytes = message.cost_bytes();
        // As if it had been lost on the way.
        let _ = self.add(|inner| {
            let fits = inner.waiting.messages.len() < MESSAGES_MAX
                && inner.message_bytes + bytes <= MESSAGE_BYTES_MAX;
            if fits {
                inner.message_bytes += bytes;
                inner.waiting.messages.push_back(message);
            }
            fits
        });
    }

    /// Adds news. A replica that is gone needs none.
    pub(crate) fn send(&self, notice: Notice) {
        let _ = self.add(|inner| {
            inner.waiting.notices.push_back(notice);
            true
        });
    }

    /// The node must stop, and why; the first reason counts.
    pub(crate) fn fail(&self, error: StoreError) {
        let _ = self.add(|inner| {
            inner.waiting.failed.get_or_insert(error);
            true
        });
    }

    /// The node is to stop.
    pub(crate) fn stop(&self) {
        let _ = self.add(|inner| {
            inner.waiting.stop = true;
            true
        });
    }

    /// Whoever takes has seen an empty mailbox before it waits, so only the first event wakes it.
    fn add(&self, push: impl FnOnce(&mut Inner) -> bool) -> Result<(), NotTaken> {
        let mut inner = self.inner.lock();
        if inner.closed {
            return Err(NotTaken::Closed);
        }
        let was_quiet = inner.is_quiet();
        if !push(&mut inner) {
            return Err(NotTaken::Full);
        }
        let wakes = was_quiet && !inner.is_quiet();
        drop(inner);
        if wakes {
            self.filled.notify_one();
        }
        Ok(())
    }

    /// Waits for an event, or for the end of `until`, or until reads need not wait any more.
    pub(crate) async fn filled(&self, until: Pin<&mut Sleep>, opened: impl Future<Output = ()>) {
        if self.inner.lock().is_quiet() {
            tokio::select! {
                biased;
                () = self.filled.notified() => {}
                () = opened => {}
                () = until => {}
            }
        }
    }

    /// Moves what waits into the lanes of `mail` that are empty. The others have to be worked off first, so that events
    /// stay in order. Without `reads`, those that need a round wait until they are asked for, and wake nobody.
    pub(crate) fn take(&self, mail: &mut Mail, reads: bool) {
        let mut inner = self.inner.lock();
        inner.holds_reads = !reads;
        let waiting = &mut inner.waiting;
        mail.failed = mail.failed.take().or_else(|| waiting.failed.take());
        mail.stop |= std::mem::take(&mut waiting.stop);
        refill(&mut mail.control, &mut waiting.control);
        refill(&mut mail.questions, &mut waiting.questions);
        refill(&mut mail.notices, &mut waiting.notices);
        if refill(&mut mail.messages, &mut waiting.messages) {
            inner.message_bytes = 0;
        }
        if refill(&mut mail.requests, &mut inner.waiting.requests) {
            inner.request_bytes = 0;
        }
        if reads {
            refill(&mut mail.reads, &mut inner.waiting.reads);
        }
    }

    /// Refuses everything from now on and drops what waits, so that whoever asked hears of it.
    pub(crate) fn close(&self) {
        let mut inner = self.inner.lock();
        inner.closed = true;
        let waiting = std::mem::take(&mut inner.waiting);
        drop(inner);
        drop(waiting);
    }

    /// How many events wait in each lane.
    pub(crate) fn depths(&self) -> [(&'static str, usize); 6] {
        let inner = self.inner.lock();
        let Mail { control, questions, notices, messages, requests, reads, .. } = &inner.waiting;
        [
            ("control", control.len()),
            ("questions", questions.len()),
            ("notices", notices.len()),
            ("messages", messages.len()),
            ("requests", requests.len()),
            ("reads", reads.len()),
        ]
    }

    /// Whether the replica takes nothing any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.inner.lock().closed
    }
}

/// Whether the lane was empty, and has all that waited for it now.
fn refill<T>(lane: &mut VecDeque<T>, waiting: &mut VecDeque<T>) -> bool {
    let empty = lane.is_empty();
    if empty {
        std::mem::swap(lane, waiting);
    }
    empty
}

#[cfg(test)]
mod tests {

    use tokio::sync::oneshot;

    use super::super::event::Asker;
    use super::*;
    use crate::kv::Write;
    use crate::raft::{Body, ClusterId, LogId, NodeId, Seq, Term};
    use crate::replica::Origin;

    fn write(bytes: usize) -> Request {
        let write = Write::put("k".into(), vec![0; bytes].into());
        Request::Write {
            write,
            origin: Origin::default(),
            from: Asker::Client,
            reply: oneshot::channel().0,
        }
    }

    fn offer() -> Control {
        let (from, term) = (NodeId(2), Term(1));
        Control::OfferSnapshot { from, term, last: LogId::ZERO, reply: oneshot::channel().0 }
    }

    fn message(term: u64) -> Message {
        let (from, to) = (NodeId(2), NodeId(1));
        let body = Body::TimeoutNow;
        Message { cluster: ClusterId(1), from, to, term: Term(term), body }
    }

    #[test]
    fn full_of_clients_requests_it_takes_everything_else() {
        let mailbox = Mailbox::default();
        for _ in 0..REQUESTS_MAX {
            mailbox.try_send(write(1)).unwrap();
        }
        assert_eq!(mailbox.try_send(write(1)), Err(NotTaken::Full));
        mailbox.try_send_control(offer()).unwrap();
        mailbox.try_send_question(Question(oneshot::channel().0)).unwrap();
        mailbox.receive(message(1));
        mailbox.send(Notice::Persisted { seq: Seq(1) });
        mailbox.stop();
        let mut mail = Mail::default();
        mailbox.take(&mut mail, true);
        let others = [mail.control.len(), mail.questions.len(), mail.notices.len()];
        assert_eq!((others, mail.messages.len(), mail.stop), ([1, 1, 1], 1, true));
        assert_eq!(mail.requests.len(), REQUESTS_MAX);
        assert_eq!(mailbox.try_send(write(1)), Ok(()), "what was taken makes room");
    }

    #[test]
    fn every_lane_has_its_own_bound() {
        let mailbox = Mailbox::default();
        for _ in 0..CONTROL_MAX {
            mailbox.try_send_control(offer()).unwrap();
        }
        assert_eq!(mailbox.try_send_control(offer()), Err(NotTaken::Full));
        for _ in 0..QUESTIONS_MAX {
            mailbox.try_send_question(Question(oneshot::channel().0)).unwrap();
        }
        assert_eq!(mailbox.try_send_question(Question(oneshot::channel().0)), Err(NotTaken::Full));
        for term in 1..=MESSAGES_MAX as u64 + 5 {
            mailbox.receive(message(term));
        }
        let mib = 1 << 20;
        for _ in 0..REQUEST_BYTES_MAX / mib - 1 {
            mailbox.try_send(write(mib)).unwrap();
        }
        assert_eq!(mailbox.try_send(write(mib)), Err(NotTaken::Full));
        assert_eq!(mailbox.try_send(write(1)), Ok(()), "there is room for a small one");
        let mut mail = Mail::default();
        mailbox.take(&mut mail, true);
        assert_eq!(mail.messages.len(), MESSAGES_MAX);
    }

    fn read(lease: bool) -> Request {
        Request::Read { lease, reply: oneshot::channel().0 }
    }

    /// Whether somebody who waits is woken.
    async fn wakes(mailbox: &Mailbox) -> bool {
        let mut moment = std::pin::pin!(tokio::time::sleep(std::time::Duration::from_millis(20)));
        mailbox.filled(moment.as_mut(), std::future::pending()).await;
        !moment.is_elapsed()
    }

    #[tokio::test]
    async fn reads_that_are_held_wake_nobody_and_keep_nobody_from_being_woken() {
        let (mailbox, mut mail) = (Mailbox::default(), Mail::default());
        mailbox.try_send(read(false)).unwrap();
        assert!(wakes(&mailbox).await);
        mailbox.take(&mut mail, false);
        // What was there before anybody waited may wake once more.
        wakes(&mailbox).await;
        assert!(mail.is_empty() && !wakes(&mailbox).await);
        mailbox.try_send(read(false)).unwrap();
        assert!(!wakes(&mailbox).await);
        for request in [read(true), write(1)] {
            mailbox.try_send(request).unwrap();
            assert!(wakes(&mailbox).await, "what needs no round waits for none");
            mailbox.take(&mut mail, false);
            assert_eq!((mail.requests.len(), mail.reads.len()), (1, 0));
            mail.requests.clear();
        }
        mailbox.take(&mut mail, true);
        assert_eq!(mail.reads.len(), 2);
        mailbox.try_send(read(false)).unwrap();
        assert!(wakes(&mailbox).await, "nothing is held any more");
    }

    #[test]
    fn what_is_left_of_a_lane_comes_before_what_came_later() {
        let mailbox = Mailbox::default();
        let mut mail = Mail::default();
        (1..=3).for_each(|term| mailbox.receive(message(term)));
        mailbox.take(&mut mail, true);
        assert_eq!(mail.messages.pop_front().map(|message| message.term), Some(Term(1)));
        mailbox.receive(message(4));
        mailbox.try_send_control(offer()).unwrap();
        mailbox.take(&mut mail, true);
        let terms = |mail: &Mail| mail.messages.iter().map(|each| each.term.0).collect::<Vec<_>>();
        assert_eq!((terms(&mail), mail.control.len()), (vec![2, 3], 1), "others need not wait");
        mail.messages.clear();
        mailbox.take(&mut mail, true);
        assert_eq!(terms(&mail), [4]);
    }

    #[test]
    fn a_closed_mailbox_is_not_a_full_one() {
        let mailbox = Mailbox::default();
        let (reply, mut answer) = oneshot::channel();
        mailbox.try_send_question(Question(reply)).unwrap();
        mailbox.close();
        assert!(answer.try_recv().is_err(), "who waited hears of it");
        assert!(mailbox.is_closed());
        assert_eq!(mailbox.try_send(write(1)), Err(NotTaken::Closed));
        assert_eq!(mailbox.try_send_control(offer()), Err(NotTaken::Closed));
        assert_eq!(
            mailbox.try_send_question(Question(oneshot::channel().0)),
            Err(NotTaken::Closed)
        );
        mailbox.send(Notice::Persisted { seq: Seq(1) });
        mailbox.fail(StoreError::panicked("state"));
        let mut mail = Mail::default();
        mailbox.take(&mut mail, true);
        assert!(mail.is_empty(), "nor does it gather what nobody will take");
    }

    #[test]
    fn the_first_reason_to_stop_counts() {
        let mailbox = Mailbox::default();
        mailbox.fail(StoreError::panicked("log"));
        mailbox.fail(StoreError::panicked("state"));
        let mut mail = Mail::default();
        mailbox.take(&mut mail, true);
        let why = mail.failed.map(|error| error.to_string()).unwrap_or_default();
        assert!(why.contains("log"), "{why}");
    }
}
