//! Transactions that are tried again where others got in their way.

use std::time::{Duration, Instant};

use rand::RngExt;

use super::{OPERATIONS_MAX, Transaction};
use crate::client::{Client, Error};
use crate::kv::Revision;

/// How often, for how long and how large.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retry {
    /// The most attempts; one is made in any case.
    pub attempts_max: u32,
    /// The pause after the first attempt is drawn between 0 and this, and each further one from twice as much
    /// ("full jitter"): transactions that met once shall not meet again.
    pub pause: Duration,
    /// The longest pause.
    pub pause_max: Duration,
    /// How long all attempts may take together. A commit that is under way then is waited for a quarter of a second more,
    /// since nobody else would know its outcome.
    pub time_max: Duration,
    /// The cluster's `limits.txnOperations`.
    pub operations_max: usize,
}

impl Default for Retry {
    /// 20 attempts within 30 s, pauses of up to 10 ms at first and 1 s at most.
    fn default() -> Retry {
        Retry {
            attempts_max: 20,
            pause: Duration::from_millis(10),
            pause_max: Duration::from_secs(1),
            time_max: Duration::from_secs(30),
            operations_max: OPERATIONS_MAX,
        }
    }
}

impl Retry {
    /// The longest pause after an attempt, the first of which has the number 1.
    fn pause_after(&self, attempt: u32) -> Duration {
        let doubled = 2_u32.saturating_pow(attempt.saturating_sub(1));
        self.pause.saturating_mul(doubled).min(self.pause_max)
    }
}

/// What a transaction came to that was committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transacted<T> {
    /// What the last attempt returned.
    pub value: T,
    /// As [`Transaction::commit`] gives it.
    pub revision: Option<Revision>,
    /// How many attempts it took; all but the last one met a conflict, or a past that was given up.
    pub attempts: u32,
}

impl Client {
    /// Carries out a transaction: `body` reads and writes, and may decide to write nothing; then it is committed. If it
    /// conflicts with others, or the past that it reads was given up, nothing was applied, and it begins anew with
    /// `body`, which therefore shall do nothing else that counts.
    ///
    /// ```no_run
    /// # async fn example(client: &konsen::client::Client) -> Result<(), konsen::client::Error> {
    /// use konsen::client::{Error, Retry};
    ///
    /// let retry = Retry::default();
    /// let taken = client.transaction(&retry, |txn| async move {
    ///     let free = txn.get(b"seat/12a").await?.is_none();
    ///     if free {
    ///         txn.put("seat/12a", "alice")?;
    ///     }
    ///     Ok::<_, Error>(free)
    /// });
    /// println!("got the seat: {}", taken.await?.value);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// What `body` returns, unless that came of a past that was given up; nothing was applied then. Else as
    /// [`Transaction::commit`]: [`Error::Conflict`] and [`Error::Compacted`] once there were as many attempts as may be, or
    /// the time is up. An outcome that is unknown ([`Error::Unknown`]) ends it at once: it is never tried again. Nor is what
    /// nobody took ([`Error::Unavailable`], [`Error::Busy`], [`Error::NoLeader`]).
    pub async fn transaction<T, E: From<Error>, F: Future<Output = Result<T, E>>>(
        &self,
        retry: &Retry,
        mut body: impl FnMut(Transaction) -> F,
    ) -> Result<Transacted<T>, E> {
        let due = Instant::now() + retry.time_max;
        let mut attempts = 1;
        loop {
            let mut txn = self.begin().with_operations_max(retry.operations_max);
            txn.due = Some(due);
            let failed = match body(txn.share()).await {
                Ok(value) => match txn.commit().await {
                    Ok(revision) => return Ok(Transacted { value, revision, attempts }),
                    Err(again @ (Error::Conflict { .. } | Error::Compacted(_))) => again.into(),
                    Err(error) => return Err(error.into()),
                },
                Err(error) if txn.is_outdated() => error,
                Err(error) => return Err(error),
            };
            let pause = retry.pause_after(attempts).mul_f64(rand::rng().random_range(0.0..=1.0));
            if attempts >= retry.attempts_max || Instant::now() + pause >= due {
                return Err(failed);
            }
            tokio::time::sleep(pause).await;
            attempts += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let retry = Retry::default();
        let millis = |attempt| retry.pause_after(attempt).as_millis();
        assert_eq!([1, 2, 3, 7, 8, 9, u32::MAX].map(millis), [10, 20, 40, 640, 1000, 1000, 1000]);
    }
}
