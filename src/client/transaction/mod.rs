//! Interactive transactions: reads, decisions in between, and writes that happen all at one moment or not at all.
//!
//! All reads of a transaction are of one revision, the newest at its first read. Writes wait in memory until the commit, which is
//! one `POST /v1/txn`: the writes, on the condition that nothing of what was read has changed since that revision. So
//! nothing is locked, and nothing is left behind by whoever goes away in the middle; of two transactions that get in
//! each other's way the second one to commit is refused, and may be tried again ([`Client::transaction`]).
//!
//! **Isolation.** A transaction that writes is strictly serializable: it happens as a whole at the moment of its
//! commit, as everything it read is still so then, also what it found missing. One that only reads happens at the moment of its first
//! read: it sees a snapshot of everything that was acknowledged before, so it is strictly serializable too, and its
//! commit asks nobody. What a transaction reads before a commit that is refused is from one snapshot as well: no decision
//! is ever taken on a state that did not exist.

mod reads;
mod retry;
mod writes;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::MutexGuard;

pub use retry::{Retry, Transacted};

use super::{Client, Error, ListRequest, TIMEOUT_MIN, Value};
use crate::api::{PAGE_ITEMS_MAX, TxnRequest};
use crate::kv::{KEY_BYTES_MAX, KeyRange, Revision};
use reads::ReadSet;
use writes::Writes;

/// How many keys a transaction may write, and how many keys and ranges apart from each other it may have read then, unless
/// it is told otherwise: what a server takes unless `limits.txnOperations` says otherwise.
pub const OPERATIONS_MAX: usize = 128;
/// How many keys and ranges apart from each other a transaction may read that turns out to write nothing.
pub const READS_MAX: usize = 10_000;
/// The most entries of one listing of a transaction: over larger ranges a server takes no condition, unless
/// `limits.deleteKeys` is raised.
pub const LIST_ITEMS_MAX: usize = 10_000;
/// The most bytes of keys and values that one listing of a transaction gathers.
pub const LIST_BYTES_MAX: usize = 64 * 1024 * 1024;

/// A transaction under way. Dropped without a commit it has changed nothing. Several reads may be under way at once.
#[derive(Debug)]
#[must_use = "it writes nothing until it is committed"]
pub struct Transaction {
    client: Client,
    operations_max: usize,
    /// No request begins after it.
    due: Option<Instant>,
    shared: Arc<Shared>,
}

/// What the transaction that is handed to whoever decides shares with the one that is committed then.
#[derive(Debug, Default)]
struct Shared {
    /// Held by the first read until its revision is known.
    first: tokio::sync::Mutex<()>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// What all reads are of; none before the first.
    revision: Option<Revision>,
    /// The past that it reads is given up.
    is_outdated: bool,
    /// The commit has begun.
    is_over: bool,
    reads: ReadSet,
    writes: Writes,
}

impl Client {
    /// Begins a transaction, which asks nobody yet.
    pub fn begin(&self) -> Transaction {
        let (client, shared) = (self.clone(), Arc::default());
        Transaction { client, operations_max: OPERATIONS_MAX, due: None, shared }
    }
}

impl Transaction {
    /// The same for a cluster whose `limits.txnOperations` is this.
    pub fn with_operations_max(self, operations_max: usize) -> Transaction {
        Transaction { operations_max, ..self }
    }

    /// The revision that it reads at; none before its first read.
    pub fn revision(&self) -> Option<Revision> {
        self.shared.state.lock().revision
    }

    /// A key's value: the one that this transaction has put, or else that of its revision; none if there is no such key
    /// then. What is read of the store becomes a condition of the commit, its absence too.
    ///
    /// # Errors
    /// [`Error::Compacted`] if the past at its revision is given up, so that it cannot go on; [`Error::Usage`] if it has
    /// read [`READS_MAX`] keys and ranges; or as [`Client::get`].
    pub async fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        if let Some(written) = self.shared.state.lock().writes.get(key) {
            return Ok(written.cloned());
        }
        let range = KeyRange::key(&Bytes::copy_from_slice(key));
        if matches!(key, b"." | b"..") {
            // No URL can name them; a range can.
            return Ok(self.list(&range, 1).await?.pop().map(|(_, value)| value));
        }
        self.reads_more()?;
        let client = self.client_in_time()?;
        let read = async {
            let (revision, first) = self.enter().await;
            let answer = match revision {
                None => client.get(key).await,
                Some(revision) => client.get_at(key, revision).await,
            };
            let (value, revision) = match answer {
                Ok(Value { item, revision }) => (Some(item.value), Some(revision)),
                Err(Error::NoSuchKey { revision }) => (None, revision),
                Err(error) => return Err(self.failed(error)),
            };
            self.reads_at(revision.unwrap_or_default())?;
            drop(first);
            Ok(value)
        };
        let value = self.in_time(read).await?;
        self.shared.state.lock().reads.add(&range);
        Ok(value)
    }

    /// The first `limit` keys of a range and their values, in the order of the keys, as this transaction's writes and its
    /// revision have them. If they are less there are no others. What was gone through becomes a condition of the commit: the
    /// range up to the last of them or, if they are less than `limit`, all of it. So nobody can add a key to it meanwhile.
    ///
    /// # Errors
    /// [`Error::Usage`] if `limit` is more than [`LIST_ITEMS_MAX`], or if the entries have more than [`LIST_BYTES_MAX`]; or as
    /// [`Transaction::get`]. What was gone through until then is no condition.
    pub async fn list(&self, range: &KeyRange, limit: usize) -> Result<Vec<(Bytes, Bytes)>, Error> {
        if limit > LIST_ITEMS_MAX {
            let text = format!("a transaction lists at most {LIST_ITEMS_MAX} keys at once");
            return Err(Error::Usage(text));
        }
        if range.is_empty() || limit == 0 {
            return Ok(Vec::new());
        }
        self.reads_more()?;
        let client = self.client_in_time()?;
        // As they are now, whatever is written until the answer is there.
        let writes = self.shared.state.lock().writes.clone();
        let stored = self.in_time(self.fetch(&client, range, &writes, limit)).await?;
        let (entries, seen) = writes.overlay(range, stored, limit);
        self.shared.state.lock().reads.add(&seen);
        Ok(entries)
    }

    /// The first entries of a range at the transaction's revision: all, or so many that its own writes leave `limit`
    /// of them.
    async fn fetch(
        &self,
        client: &Client,
        range: &KeyRange,
        writes: &Writes,
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, Error> {
        let (mut stored, mut kept, mut bytes) = (Vec::new(), 0, 0);
        let (revision, mut first) = self.enter().await;
        let mut request = ListRequest {
            start: Some(range.start.clone()).filter(|start| !start.is_empty()),
            end: range.end.clone(),
            revision,
            ..ListRequest::default()
        };
        loop {
            request.limit = Some((limit - kept).min(PAGE_ITEMS_MAX) as u64);
            let page = client.list(&request).await.map_err(|error| self.failed(error))?;
            self.reads_at(page.revision)?;
            drop(first.take());
            for item in page.items {
                bytes += item.key.len() + item.value.len();
                kept += usize::from(writes.get(&item.key) != Some(None));
                stored.push((item.key, item.value));
            }
            if bytes > LIST_BYTES_MAX {
                let text = format!("a listing of a transaction has at most {LIST_BYTES_MAX} bytes");
                return Err(Error::Usage(text));
            }
            request.cursor = page.next;
            if request.cursor.is_none() || kept >= limit {
                return Ok(stored);
            }
        }
    }

    /// Sets a key once the transaction commits; its own reads see it at once. It has no media type then.
    ///
    /// # Errors
    /// [`Error::Usage`] if the key is empty or has more than 4 KiB, or if the transaction writes as many others as it may.
    pub fn put(&self, key: impl Into<Bytes>, value: impl Into<Bytes>) -> Result<(), Error> {
        self.write(key.into(), Some(value.into()))
    }

    /// Deletes a key once the transaction commits, whether it exists or not; its own reads see that at once.
    ///
    /// # Errors
    /// As [`Transaction::put`].
    pub fn delete(&self, key: impl Into<Bytes>) -> Result<(), Error> {
        self.write(key.into(), None)
    }

    fn write(&self, key: Bytes, value: Option<Bytes>) -> Result<(), Error> {
        if !(1..=KEY_BYTES_MAX).contains(&key.len()) {
            let text = format!("a key has 1 to {KEY_BYTES_MAX} bytes, not {}", key.len());
            return Err(Error::Usage(text));
        }
        let state = &mut *self.shared.state.lock();
        if state.is_over {
            return Err(Error::Usage("the transaction is over; nothing is written".to_owned()));
        }
        match state.writes.set(key, value, self.operations_max) {
            true => Ok(()),
            false => Err(Error::Usage(format!(
                "the transaction writes more than {} keys (limits.txnOperations)",
                self.operations_max
            ))),
        }
    }

    /// Makes all writes happen at one moment, if nothing of what was read has changed since: the revision that they have
    /// then. Without writes nobody is asked, and it is the one that was read at; none if nothing was read either.
    ///
    /// Dropping the future leaves the outcome unknown.
    ///
    /// # Errors
    /// After all but [`Error::Unknown`] nothing was applied, and nothing will be.
    /// - [`Error::Conflict`]: something that was read was changed. Begin anew.
    /// - [`Error::Compacted`]: whether it was can no longer be told. Begin anew.
    /// - [`Error::Unknown`]: it may have been applied, or still may be: it was sent, and nobody told what became of it. It is
    ///   never sent again. To find out, read and write a key of its own in each such transaction, and read that; as long as
    ///   it is not there the transaction may still be under way, so put it there: then it is refused.
    /// - [`Error::Usage`]: it has read too many keys and ranges apart from each other. Read ranges.
    /// - Others: as [`Client::txn`].
    pub async fn commit(self) -> Result<Option<Revision>, Error> {
        let state = {
            let state = &mut *self.shared.state.lock();
            let is_outdated = state.is_outdated;
            std::mem::replace(state, State { is_over: true, is_outdated, ..State::default() })
        };
        if state.is_outdated {
            return Err(Error::Compacted("the past that was read is given up".to_owned()));
        }
        if state.writes.is_empty() {
            return Ok(state.revision);
        }
        let client = self.client_in_time()?;
        let since = state.revision.unwrap_or_default();
        let done = client.txn(&state.into_request(self.operations_max)?).await?;
        match done.succeeded {
            true => Ok(Some(done.revision)),
            false => Err(Error::Conflict { since }),
        }
    }

    /// The same transaction, for whoever reads and writes before it is committed here.
    fn share(&self) -> Transaction {
        let (client, shared) = (self.client.clone(), Arc::clone(&self.shared));
        Transaction { client, shared, ..*self }
    }

    /// Whether it cannot go on, since the past that it reads is given up.
    fn is_outdated(&self) -> bool {
        self.shared.state.lock().is_outdated
    }

    fn failed(&self, error: Error) -> Error {
        self.shared.state.lock().is_outdated |= matches!(error, Error::Compacted(_));
        error
    }

    fn reads_more(&self) -> Result<(), Error> {
        if self.shared.state.lock().reads.len() < READS_MAX {
            return Ok(());
        }
        let text = format!("a transaction reads at most {READS_MAX} keys and ranges; read ranges");
        Err(Error::Usage(text))
    }

    /// The revision to read at; none for the first read, whom all others wait for until it lets go.
    async fn enter(&self) -> (Option<Revision>, Option<MutexGuard<'_, ()>>) {
        if let Some(revision) = self.revision() {
            return (Some(revision), None);
        }
        let first = self.shared.first.lock().await;
        match self.revision() {
            Some(revision) => (Some(revision), None),
            None => (None, Some(first)),
        }
    }

    /// Notes the revision of an answer: from the first one on, all reads are of that.
    fn reads_at(&self, revision: Revision) -> Result<(), Error> {
        if revision == Revision(0) {
            return Err(Error::Failed("the answer does not say its revision".to_owned()));
        }
        self.shared.state.lock().revision.get_or_insert(revision);
        Ok(())
    }

    /// The client, which waits for no answer longer than there is time.
    fn client_in_time(&self) -> Result<Client, Error> {
        let client = self.client.clone();
        let left = self.left().unwrap_or(client.timeout);
        if left < TIMEOUT_MIN {
            return Err(out_of_time());
        }
        Ok(Client { timeout: client.timeout.min(left), ..client })
    }

    /// A read, given up at the deadline.
    async fn in_time<T>(&self, read: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        match self.left() {
            None => read.await,
            Some(left) => {
                tokio::time::timeout(left, read).await.unwrap_or_else(|_| Err(out_of_time()))
            }
        }
    }

    fn left(&self) -> Option<Duration> {
        self.due.map(|due| due.saturating_duration_since(Instant::now()))
    }
}

impl State {
    /// The request that commits it.
    fn into_request(self, operations_max: usize) -> Result<TxnRequest, Error> {
        let count = self.reads.len();
        if count > operations_max {
            return Err(Error::Usage(format!(
                "the transaction has read {count} keys and ranges apart from each other, and writes; {operations_max} are \
                 the most then (limits.txnOperations)"
            )));
        }
        let compares =
            self.revision.map(|revision| self.reads.unchanged_since(revision)).unwrap_or_default();
        Ok(TxnRequest { compares, then: self.writes.into_ops(), otherwise: Vec::new() })
    }
}

fn out_of_time() -> Error {
    Error::Unavailable("the time for the transaction is up; nothing was applied".to_owned())
}

#[cfg(test)]
mod tests;
