//! A client that moves coins, and keeps its own books about it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use konsen::client::{Client, Error, Retry};
use rand::RngExt;

use super::accounts::{Accounts, Transfer};
use super::{patiently, say};

/// The longest pause after nobody took a transfer.
const PAUSE_MAX: Duration = Duration::from_millis(100);

/// What clients believe to have done.
#[derive(Debug)]
pub(crate) struct Books {
    /// What each account has more than at the beginning, or less.
    pub(crate) moved: Vec<i64>,
    /// How many transfers happened.
    pub(crate) transfers: u64,
    /// How many did not, since the account had too few coins.
    too_few: u64,
    /// How often something that was read was changed before the commit; and how many transfers were given up for that.
    conflicts: u64,
    given_up: u64,
    /// How many nobody took.
    not_taken: u64,
    /// How many outcomes nobody told: of transfers that turned out to have happened, and of others.
    unknown_happened: u64,
    unknown_cancelled: u64,
}

impl Books {
    pub(crate) fn new(accounts: usize) -> Books {
        Books {
            moved: vec![0; accounts],
            transfers: 0,
            too_few: 0,
            conflicts: 0,
            given_up: 0,
            not_taken: 0,
            unknown_happened: 0,
            unknown_cancelled: 0,
        }
    }

    /// Takes in another client's.
    pub(crate) fn add(&mut self, other: &Books) {
        self.moved.iter_mut().zip(&other.moved).for_each(|(mine, moved)| *mine += moved);
        self.transfers += other.transfers;
        self.too_few += other.too_few;
        self.conflicts += other.conflicts;
        self.given_up += other.given_up;
        self.not_taken += other.not_taken;
        self.unknown_happened += other.unknown_happened;
        self.unknown_cancelled += other.unknown_cancelled;
    }

    fn happened(&mut self, transfer: &Transfer) {
        // Amounts are a handful of coins.
        let amount = i64::try_from(transfer.amount).unwrap_or(i64::MAX);
        self.moved[transfer.from] -= amount;
        self.moved[transfer.to] += amount;
        self.transfers += 1;
    }

    pub(crate) fn say(&self) {
        let unknown = self.unknown_happened + self.unknown_cancelled;
        say(&format!("transfers  {:7}", self.transfers));
        say(&format!("too few    {:7}  coins in the account: nothing was written", self.too_few));
        say(&format!(
            "conflicts  {:7}  tried again; {} transfers were given up",
            self.conflicts, self.given_up
        ));
        say(&format!("not taken  {:7}  by any node: nothing was applied", self.not_taken));
        say(&format!(
            "unknown    {unknown:7}  outcomes: by their receipts {} had happened; {} had not, and were cancelled",
            self.unknown_happened, self.unknown_cancelled
        ));
    }
}

/// Moves random amounts between random accounts until the time is up; the client's books.
pub(crate) async fn work(
    accounts: Arc<Accounts>,
    client: Client,
    number: usize,
    until: Instant,
) -> anyhow::Result<Books> {
    let mut books = Books::new(accounts.count());
    let mut known = None;
    let retry = Retry { time_max: Duration::from_secs(10), ..Retry::default() };
    for serial in 0_u64.. {
        if Instant::now() >= until {
            break;
        }
        let transfer = draw(&accounts, format!("{number}-{serial}"), known.clone());
        let (mut attempts, bank, moves) = (0_u64, &accounts, &transfer);
        let outcome = client.transaction(&retry, |txn| {
            attempts += 1;
            async move { bank.transfer(&txn, moves).await }
        });
        let outcome = outcome.await;
        books.conflicts += attempts.saturating_sub(1);
        match outcome {
            Ok(done) if done.value => {
                books.happened(&transfer);
                known = Some(transfer.id);
            }
            Ok(_) => books.too_few += 1,
            Err(Error::Conflict { .. } | Error::Compacted(_)) => books.given_up += 1,
            Err(Error::Unknown(_)) => {
                let resolved = accounts.resolve(&client, &transfer).await;
                if resolved.with_context(|| format!("what became of {transfer:?}?"))? {
                    books.happened(&transfer);
                    books.unknown_happened += 1;
                } else {
                    books.unknown_cancelled += 1;
                }
                known = Some(transfer.id);
            }
            Err(Error::Unavailable(_) | Error::Busy(_) | Error::NoLeader(_)) => {
                books.not_taken += 1;
                let pause = PAUSE_MAX.mul_f64(rand::rng().random_range(0.0..=1.0));
                tokio::time::sleep(pause).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
    if let Some(known) = known {
        // To delete it twice does no harm.
        patiently(|| accounts.remove_receipt(&client, &known)).await?;
    }
    Ok(books)
}

fn draw(accounts: &Accounts, id: String, known: Option<String>) -> Transfer {
    let (mut random, count) = (rand::rng(), accounts.count());
    let from = random.random_range(0..count);
    let to = (from + random.random_range(1..count)) % count;
    Transfer { from, to, amount: random.random_range(1..=accounts.coins().min(50)), id, known }
}
