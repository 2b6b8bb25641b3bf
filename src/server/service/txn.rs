//! Transactions, carried out for a client of this node.
//!
//! What changes something goes to the leader as every write does, and comes back as what replicas can tell in a few bytes.
//! What the client wants to know beside that is read here, once this node has applied it. What only reads is carried out here
//! alone, at one revision, as fresh as every read.

use std::time::Instant;

use bytes::Bytes;

use super::fill::Fill;
use super::read::WAY;
use crate::api::{Caller, Consistency, Error, Freshness, TxnDone, TxnJson, TxnRequest};
use crate::kv::{self, Counters, Outcome, Reply, Write};
use crate::server::allowed::Allowed;
use crate::server::handle::Handle;
use crate::server::run::readers::{Queued, ROWS_UNWATCHED};
use crate::server::wire::{PeerAnswer, PeerRead};
use crate::store::{Counted, Pin, PinnedError, ReadError, State};

impl Handle {
    /// Carries a transaction out, and makes of what it came to what `then` says, where that holds nobody up; the reply is the
    /// one of a transaction that was refused. What was applied and could not be read back any more says so itself
    /// ([`TxnDone::unread`]).
    ///
    /// # Errors
    /// As [`Handle::write`] or, if it only reads, as [`Handle::get`].
    pub async fn txn<T: Send + 'static>(
        &self,
        request: Allowed<TxnRequest>,
        deadline: Instant,
        then: impl FnOnce(TxnDone) -> T + Clone + Send + 'static,
    ) -> Result<Result<T, Reply>, Error> {
        let keys_max = self.shared.limits.delete_keys_max;
        if request.is_read_only() {
            return self.read_txn(request, deadline, then).await;
        }
        let write = request.as_part(|request| request.lower(keys_max));
        let request = request.into_request();
        // Before it is proposed, so that nothing is removed that it supersedes.
        let pin = request.reads().then(|| self.shared.state.pin());
        let Reply { revision, outcome } = self.write(write, deadline).await?;
        let Outcome::Txn(outcome) = outcome else { return Ok(Err(Reply { revision, outcome })) };
        let fill = |request, outcome| Fill::new(request, outcome, revision);
        let begun = fill(request.clone(), outcome.clone());
        let Some(pin) = pin.filter(|_| !begun.is_filled()) else {
            return Ok(Ok(then(begun.unread(None))));
        };
        let read = async {
            self.read_barrier(Consistency::Stale, Some(revision), deadline).await?;
            self.fill(begun, pin, deadline, then.clone()).await
        };
        Ok(Ok(match read.await {
            Ok(answer) => answer,
            // It was applied all the same.
            Err(error) => then(fill(request, outcome).unread(Some(error.to_string()))),
        }))
    }

    /// Reads what an applied transaction is to give back.
    async fn fill<T: Send + 'static>(
        &self,
        mut fill: Fill,
        pin: Pin,
        deadline: Instant,
        then: impl FnOnce(TxnDone) -> T + Send + 'static,
    ) -> Result<T, Error> {
        let mut step =
            move |state: &State, pause: &mut dyn FnMut() -> bool| fill.step(state, &pin, pause);
        // Most read a few keys: those need not wait for a thread.
        let found = step(&self.shared.state, &mut unwatched());
        if let Some(done) = found.map_err(|error| self.read_failed(error))? {
            return Ok(then(done));
        }
        self.read_slowly(deadline, step, then, Queued::Fresh).await
    }

    /// Carries out what only reads, here or at the leader.
    async fn read_txn<T: Send + 'static>(
        &self,
        request: Allowed<TxnRequest>,
        deadline: Instant,
        then: impl FnOnce(TxnDone) -> T + Clone + Send + 'static,
    ) -> Result<Result<T, Reply>, Error> {
        if let Some(leader) = self.reads_elsewhere(Freshness::default(), deadline).await? {
            let read = PeerRead::Txn(request.to_json().to_string().into());
            let answer = self.forward_read(leader, request.caller(), read, deadline).await?;
            if let Some(PeerAnswer::Txn(answer)) = answer {
                let json = match answer {
                    Ok(json) => json,
                    Err(reply) => return Ok(Err(reply)),
                };
                let then = then.clone();
                let read = move || from_json(&json).map(then);
                if let Some(answer) = self.read_apart(deadline + WAY, read).await? {
                    return Ok(Ok(answer));
                }
            }
        }
        self.read_txn_here(request, deadline, then).await
    }

    /// Carries out what only reads and a peer passed on, in JSON; none if it is not to be understood.
    pub(super) async fn answer_txn(
        &self,
        caller: &Caller,
        json: &[u8],
        deadline: Instant,
    ) -> Option<Result<Result<Bytes, Reply>, Error>> {
        let limits = self.txn_limits();
        let request = TxnRequest::parse(json, &limits).ok().filter(TxnRequest::is_read_only)?;
        let request = match self.admit(caller, request).await {
            Ok(request) => request,
            Err(error) => return Some(Err(error)),
        };
        // Serializing plain data into memory cannot fail.
        let json = |done: TxnDone| serde_json::to_vec(&TxnJson::new(&done)).unwrap_or_default();
        let then = move |done| Bytes::from(json(done));
        Some(self.read_txn_here(request, deadline, then).await)
    }

    /// Carries out what only reads, here.
    async fn read_txn_here<T: Send + 'static>(
        &self,
        request: Allowed<TxnRequest>,
        deadline: Instant,
        then: impl FnOnce(TxnDone) -> T + Send + 'static,
    ) -> Result<Result<T, Reply>, Error> {
        self.read_barrier(Consistency::Linearizable, None, deadline).await?;
        self.still_allowed(&request)?;
        let request = request.into_request();
        let write = request.lower(self.shared.limits.delete_keys_max);
        let is_short = !write.counts_first() && few_keys(&write);
        if write.counts_first() {
            let refused = match self.count(&write, deadline).await? {
                Counted::Fits => None,
                Counted::UpTo(_) => Some(Outcome::TooManyKeys),
                Counted::TooManyBytes => Some(Outcome::TooManyBytes),
            };
            if let Some(outcome) = refused {
                return Ok(Err(Reply { revision: self.revision(), outcome }));
            }
        }
        let pin = self.shared.state.pin();
        let mut begun: Option<Fill> = None;
        let mut left = Some((request, write));
        let mut step = move |state: &State, pause: &mut dyn FnMut() -> bool| {
            if let Some((_, write)) = &left {
                let Some(reply) = evaluate(write, state, &pin, deadline)? else { return Ok(None) };
                let Some((request, _)) = left.take() else { return Ok(None) };
                match reply.outcome {
                    Outcome::Txn(outcome) => {
                        begun = Some(Fill::new(request, outcome, reply.revision));
                    }
                    _ => return Ok(Some(Err(reply))),
                }
            }
            match &mut begun {
                Some(fill) => Ok(fill.step(state, &pin, pause)?.map(Ok)),
                None => Ok(None),
            }
        };
        if is_short {
            let found = step(&self.shared.state, &mut unwatched());
            if let Some(done) = found.map_err(|error| self.read_failed(error))? {
                return Ok(done.map(then));
            }
        }
        let then = |done: Result<TxnDone, Reply>| done.map(then);
        self.read_slowly(deadline, step, then, Queued::Fresh).await
    }
}

/// What a peer answered; none if it is not to be understood.
fn from_json(json: &[u8]) -> Option<TxnDone> {
    let answer: TxnJson<'_> = serde_json::from_slice(json).ok()?;
    answer.into_done().ok()
}

/// Pauses after a few rows.
fn unwatched() -> impl FnMut() -> bool {
    let mut rows = 0;
    move || {
        rows += 1;
        rows >= ROWS_UNWATCHED
    }
}

/// Whether a write that goes through no range looks at a few keys only.
fn few_keys(write: &Write) -> bool {
    let mut keys = 0;
    write.needs(&mut |_| keys += 1);
    keys <= ROWS_UNWATCHED
}

/// What a write that only reads comes to as of the pin's revision; none after the deadline.
fn evaluate(
    write: &Write,
    state: &State,
    pin: &Pin,
    deadline: Instant,
) -> Result<Option<Reply>, ReadError> {
    let Write::Txn { txn, keys_max } = write else { return Ok(None) };
    let counters =
        Counters { revision: pin.revision(), compacted: state.compacted(), ..Counters::default() };
    let stop = || Instant::now() >= deadline;
    match kv::evaluate(&pin.rows(&stop), &counters, txn.clone(), *keys_max) {
        Ok(reply) => Ok(Some(reply)),
        Err(PinnedError::Stopped) => Ok(None),
        Err(PinnedError::Read(error)) => Err(error),
    }
}

#[cfg(test)]
#[path = "txn_tests.rs"]
mod tests;
