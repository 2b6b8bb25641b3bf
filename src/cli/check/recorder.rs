//! What all clients of a run write down together.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::Mutex;

use super::endpoint::Endpoint;
use super::names::Names;
use crate::check::history::{Answer, Ask, CALLS_MAX, Call, Head, History};
use crate::check::operation::Moment;
use crate::client::Error;

/// So many of a history's calls are kept free for the reads at its end.
const FINAL_CALLS_MAX: usize = 20_000;
/// The most calls before those.
pub(super) const RUN_CALLS_MAX: usize = CALLS_MAX - FINAL_CALLS_MAX;

/// A history in the making.
#[derive(Debug)]
pub(super) struct Recorder {
    head: Head,
    pub(super) names: Names,
    pub(super) endpoints: Vec<Endpoint>,
    began: Instant,
    moments: AtomicU64,
    clients: AtomicU32,
    calls: Mutex<Vec<Call>>,
    /// Calls that certainly did nothing and of which nothing is kept.
    fruitless: AtomicU64,
    /// Why the last call failed that certainly did nothing.
    complaint: Mutex<Option<Error>>,
}

/// What came of a call, for who called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Came {
    /// An answer.
    Answer(Answer),
    /// Nobody knows what became of it: who called is another client from now on, because a client makes one call at a
    /// time and this one may go on.
    Unknown,
    /// Nothing; it was refused or nobody took it.
    Nothing,
}

impl Recorder {
    pub(super) fn new(head: Head, names: Names, endpoints: Vec<Endpoint>) -> Recorder {
        Recorder {
            head,
            names,
            endpoints,
            began: Instant::now(),
            moments: AtomicU64::new(1),
            clients: AtomicU32::new(0),
            calls: Mutex::default(),
            fruitless: AtomicU64::new(0),
            complaint: Mutex::default(),
        }
    }

    /// A number that no other client has.
    pub(super) fn client(&self) -> u32 {
        self.clients.fetch_add(1, Ordering::SeqCst)
    }

    /// A moment that no other call's beginning or end has. One that is drawn after another was is later.
    fn moment(&self) -> Moment {
        self.moments.fetch_add(1, Ordering::SeqCst)
    }

    fn now_us(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Asks an endpoint and writes it down.
    pub(super) async fn ask(&self, client: u32, endpoint: u32, ask: Ask) -> Came {
        let Some(asked) = self.endpoints.get(endpoint as usize) else { return Came::Nothing };
        let called_us = self.now_us();
        let called = self.moment();
        let answer = asked.ask(&self.names, &ask).await;
        let ended = self.moment();
        let ended_us = self.now_us();
        let (answer, came) = match answer {
            Ok(Answer::Unknown) => (Answer::Unknown, Came::Unknown),
            Ok(answer) => (answer.clone(), Came::Answer(answer)),
            Err(error) => {
                let came = match (&ask, &error) {
                    // Nobody is down: it asked about a revision that is compacted meanwhile.
                    (Ask::Txn(_), Error::Compacted(_)) => Came::Answer(Answer::Refused),
                    _ => Came::Nothing,
                };
                *self.complaint.lock() = Some(error);
                if ask.puts().next().is_none() {
                    self.fruitless.fetch_add(1, Ordering::Relaxed);
                    return came;
                }
                (Answer::Refused, came)
            }
        };
        let returned = (came != Came::Unknown).then_some(ended);
        let call = Call { client, endpoint, called, returned, called_us, ended_us, ask, answer };
        self.calls.lock().push(call);
        came
    }

    /// How many calls are kept.
    pub(super) fn count(&self) -> usize {
        self.calls.lock().len()
    }

    /// How many calls came to nothing and are not kept.
    pub(super) fn fruitless(&self) -> u64 {
        self.fruitless.load(Ordering::Relaxed)
    }

    /// Why a call came to nothing, the last that did.
    pub(super) fn complaint(&self) -> Option<Error> {
        self.complaint.lock().clone()
    }

    /// What was seen until now, in the order of the calls. It is not kept here any longer.
    pub(super) fn take_history(&self) -> History {
        let mut calls = std::mem::take(&mut *self.calls.lock());
        calls.sort_unstable_by_key(|call| call.called);
        History { head: self.head.clone(), calls }
    }

    /// The time since the start, in seconds.
    pub(super) fn seconds(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }
}
