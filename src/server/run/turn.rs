//! What the replica's thread takes in during one turn of its loop: the events that wait, lane by lane.
//!
//! A turn has to be short, since ticks, messages and health checks wait for its end. So clients' requests and peers' messages,
//! of which many may wait, each have a share of its time: what is left of a lane waits for the next turn, in order. The other
//! lanes are short, and come first.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use tokio::sync::oneshot;

use super::event::{Asker, Control, Notice, Question, Request};
use super::mailbox::Mail;
use crate::kv::Reply;
use crate::raft::{Input, Refused};
use crate::replica::{ChangeFailed, Event, Proposed, Replica, RequestId, WriteFailed};
use crate::server::tally::{self, Counts};

/// The share of a turn that the peers' messages have, and the clients' requests. Together less than half of a tick.
const SHARE: Duration = Duration::from_millis(2);
/// After so many events the clock is looked at.
const LOOK_EVERY: usize = 16;

/// Who waits for what the replica has taken in.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    next: u64,
    pub(super) writes: HashMap<RequestId, (Asker, oneshot::Sender<Result<Reply, WriteFailed>>)>,
    pub(super) reads: HashMap<RequestId, oneshot::Sender<Result<(), Refused>>>,
    pub(super) changes: HashMap<RequestId, oneshot::Sender<Result<Proposed, ChangeFailed>>>,
}

impl Waiting {
    pub(super) fn is_empty(&self) -> bool {
        self.writes.is_empty() && self.reads.is_empty() && self.changes.is_empty()
    }

    fn id(&mut self) -> RequestId {
        self.next += 1;
        RequestId(self.next)
    }
}

/// One turn.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    pub(super) replica: &'a mut Replica,
    pub(super) waiting: &'a mut Waiting,
    pub(super) counts: &'a Counts,
    /// Whether the state's file holds something else now.
    pub(super) checkpointed: bool,
}

impl<'a> Turn<'a> {
    pub(super) fn new(
        replica: &'a mut Replica,
        waiting: &'a mut Waiting,
        counts: &'a Counts,
    ) -> Turn<'a> {
        Turn { replica, waiting, counts, checkpointed: false }
    }

    /// Steps what was taken out of the mailbox. `clock` says how late it is.
    pub(super) fn take_in(&mut self, mail: &mut Mail, clock: impl Fn() -> Duration) {
        for event in mail.control.drain(..) {
            self.control(event);
        }
        if !mail.questions.is_empty() {
            let summary = self.replica.summary();
            for Question(reply) in mail.questions.drain(..) {
                // Whoever asked may have gone; nothing is lost.
                let _ = reply.send(summary.clone());
            }
        }
        for notice in mail.notices.drain(..) {
            self.notice(notice);
        }
        let until = clock() + SHARE;
        hand_on(&mut mail.messages, until, &clock, |message| self.input(Input::Receive(message)));
        let until = clock() + SHARE;
        let reads = mail.reads.len();
        hand_on(&mut mail.reads, until, &clock, |read| self.request(read));
        if reads > 0 {
            self.counts.reads.observe((reads - mail.reads.len()) as u64);
        }
        hand_on(&mut mail.requests, until, &clock, |request| self.request(request));
    }

    fn input(&mut self, input: Input) {
        self.replica.step(Event::Raft(input));
    }

    fn control(&mut self, event: Control) {
        match event {
            Control::Change { step, hosts, reply } => {
                let id = self.waiting.id();
                self.waiting.changes.insert(id, reply);
                self.replica.step(Event::Change { id, step, hosts });
            }
            Control::TransferLeadership { to } => self.input(Input::TransferLeadership { to }),
            Control::OfferSnapshot { from, term, last, reply } => {
                // Whoever asked may have gone; nothing is lost.
                let _ = reply.send(self.replica.wants_snapshot(from, term, last));
            }
            Control::InstallSnapshot { cluster, last, reply } => {
                let begins = self.replica.begin_install(cluster, last);
                if reply.send(begins).is_err() && begins {
                    self.replica.give_up_install();
                }
            }
            Control::PeerCapacity { peer, capacity } => {
                self.replica.step(Event::PeerCapacity { peer, capacity })
            }
        }
    }

    fn notice(&mut self, notice: Notice) {
        match notice {
            Notice::Persisted { seq } => self.input(Input::Persisted { seq }),
            Notice::Compacted { last } => self.input(Input::Compacted { last }),
            Notice::Fetched { peer, prev, entries } => {
                self.input(Input::Fetched { peer, prev, entries });
            }
            Notice::LookedUp(looked_up) => self.replica.step(Event::LookedUp(looked_up)),
            Notice::Checkpointed(checkpoint) => {
                self.replica.checkpointed(checkpoint);
                self.checkpointed = true;
            }
            Notice::SnapshotEnded { peer, installed } => {
                let Counts { snapshots_sent, snapshots_not_sent, .. } = self.counts;
                tally::add(if installed { snapshots_sent } else { snapshots_not_sent });
                self.input(Input::SnapshotEnded { peer, installed });
            }
            Notice::SnapshotInstalled { from } => {
                tally::add(&self.counts.snapshots_received);
                self.replica.installed(from);
                self.checkpointed = true;
            }
            Notice::Unreachable { peer } => self.input(Input::Unreachable { peer }),
            Notice::Found { membership } => self.input(Input::Found { membership }),
        }
    }

    fn request(&mut self, request: Request) {
        let id = self.waiting.id();
        match request {
            Request::Write { write, origin, from, reply } => {
                self.waiting.writes.insert(id, (from, reply));
                self.replica.step(Event::Write { id, write, origin });
            }
            Request::Read { lease, reply } => {
                self.waiting.reads.insert(id, reply);
                self.replica.step(Event::Read { id, lease });
            }
        }
    }
}

/// Hands events on until none is left, or until their share of the turn is over; at least some.
fn hand_on<T>(
    events: &mut VecDeque<T>,
    until: Duration,
    clock: &impl Fn() -> Duration,
    mut step: impl FnMut(T),
) {
    while !events.is_empty() {
        events.drain(..LOOK_EVERY.min(events.len())).for_each(&mut step);
        if clock() >= until {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::sync::Arc;

    use bytes::Bytes;
    use redb::backends::InMemoryBackend;

    use super::super::mailbox::{Mailbox, NotTaken};
    use super::*;
    use crate::kv::Write;
    use crate::raft::{
        Body, ClusterId, Config, Index, LogId, Member, Membership, Message, Node, NodeId,
        Recovered, Term,
    };
    use crate::replica::Origin;
    use crate::store::{State, StateOptions};

    fn replica() -> Replica {
        let options = StateOptions { cache_bytes: 1 << 20, ..StateOptions::default() };
        let state = State::open_backend(InMemoryBackend::new(), &options).unwrap();
        let node = Node::new(Config::new(NodeId(1), 1), Recovered::default());
        Replica::new(node, Arc::new(state), Duration::from_millis(10))
    }

    /// One that hears a leader, node 2.
    fn follower() -> Replica {
        let mut replica = replica();
        let body = Body::Append { prev: LogId::ZERO, entries: Vec::new(), commit: Index(0) };
        let (from, to) = (NodeId(2), NodeId(1));
        let heard = Message { cluster: ClusterId(1), from, to, term: Term(1), body };
        replica.step(Event::Raft(Input::Receive(heard)));
        replica
    }

    fn leader() -> Replica {
        let mut replica = replica();
        let member = Member {
            name: "one".to_owned(),
            raft_address: String::new(),
            http_address: String::new(),
            seen: true,
            promote: false,
            replaces: None,
        };
        let (members, voters) = ([(NodeId(1), member)].into(), [NodeId(1)].into());
        let membership = Membership { cluster: ClusterId(1), members, voters, outgoing: None };
        replica.step(Event::Raft(Input::Found { membership }));
        replica
    }

    fn write(number: usize) -> Request {
        let write = Write::put(format!("key{number}").into(), Bytes::new());
        Request::Write {
            write,
            origin: Origin::default(),
            from: Asker::Client,
            reply: oneshot::channel().0,
        }
    }

    fn fill(mailbox: &Mailbox) {
        let mut number = 0;
        while mailbox.try_send(write(number)).is_ok() {
            number += 1;
        }
    }

    /// Takes one turn in which each look at the clock shows that a millisecond has gone by.
    fn turn(replica: &mut Replica, waiting: &mut Waiting, mailbox: &Mailbox, mail: &mut Mail) {
        mailbox.take(mail, true);
        let now = Cell::new(Duration::ZERO);
        let clock = || {
            now.set(now.get() + Duration::from_millis(1));
            now.get()
        };
        Turn::new(replica, waiting, &Counts::default()).take_in(mail, clock);
    }

    #[test]
    fn with_the_mailbox_full_of_writes_health_is_answered_and_a_snapshot_taken_in() {
        let (mut replica, mailbox) = (follower(), Mailbox::default());
        let (mut waiting, mut mail) = (Waiting::default(), Mail::default());
        fill(&mailbox);
        turn(&mut replica, &mut waiting, &mailbox, &mut mail);
        fill(&mailbox);
        assert_eq!(mailbox.try_send(write(0)), Err(NotTaken::Full));
        assert!(!mail.requests.is_empty(), "nor has the last turn taken all in");

        let (reply, mut health) = oneshot::channel();
        mailbox.try_send_question(Question(reply)).unwrap();
        let last = LogId::new(Term(1), Index(20));
        let (reply, mut wanted) = oneshot::channel();
        let (from, term) = (NodeId(2), Term(1));
        mailbox.try_send_control(Control::OfferSnapshot { from, term, last, reply }).unwrap();
        let (reply, mut begins) = oneshot::channel();
        let cluster = ClusterId(1);
        mailbox.try_send_control(Control::InstallSnapshot { cluster, last, reply }).unwrap();
        turn(&mut replica, &mut waiting, &mailbox, &mut mail);
        assert_eq!(health.try_recv().map(|summary| summary.leader), Ok(Some(NodeId(2))));
        assert_eq!((wanted.try_recv(), begins.try_recv()), (Ok(true), Ok(true)));
    }

    #[test]
    fn a_turn_ends_when_its_time_is_over_and_the_next_one_goes_on_there() {
        let (mut replica, mailbox) = (leader(), Mailbox::default());
        let (mut waiting, mut mail) = (Waiting::default(), Mail::default());
        fill(&mailbox);
        let mut taken = 0;
        for turns in 1..=3 {
            turn(&mut replica, &mut waiting, &mailbox, &mut mail);
            assert_eq!(waiting.writes.len(), turns * 2 * LOOK_EVERY);
            // A share of two milliseconds is over at the second look.
            let effects = replica.take_effects().unwrap();
            taken += effects.persist.iter().map(|write| write.entries.len()).sum::<usize>();
            assert_eq!(taken, 1 + turns * 2 * LOOK_EVERY, "with the membership");
        }
    }

    #[test]
    fn letters_are_handed_on_in_order_and_all_of_them_if_there_is_time() {
        let mut events: VecDeque<usize> = (0..100).collect();
        let mut got = Vec::new();
        let late = Cell::new(Duration::ZERO);
        let clock = || {
            late.set(late.get() + SHARE);
            late.get()
        };
        hand_on(&mut events, SHARE, &clock, |event| got.push(event));
        assert_eq!((got.len(), events.len()), (LOOK_EVERY, 100 - LOOK_EVERY), "at least some");
        hand_on(&mut events, SHARE, &|| Duration::ZERO, |event| got.push(event));
        assert_eq!(got, (0..100).collect::<Vec<_>>());
    }
}
