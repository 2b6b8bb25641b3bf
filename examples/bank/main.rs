//! A bank that never loses a coin, whatever happens to the nodes that keep its accounts.
//!
//! Many clients move coins between accounts, each transfer a transaction of several reads and writes, while an auditor
//! counts all coins over and over, and nodes are killed with SIGKILL. No coin may be lost or made: at no
//! revision that anybody can see, and not where a client never hears what became of its transfer.
//!
//!     cargo run --release --example bank -- --dev --seconds 30
//!
//! starts a cluster of three nodes of its own, in a temporary directory; `--endpoints` names another one.
//! The program ends with 0 if the books balance, and with 1 if not.

mod accounts;
mod nodes;
mod teller;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use clap::Parser;
use konsen::cli::remote::Connection;
use konsen::client::{Client, Error};

use accounts::Accounts;
use nodes::Nodes;
use teller::Books;

/// How long anything may take that has to come to an end before the books can be closed.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long an answer may take where nodes are killed: less than a client's usual patience.
const TIMEOUT_DEV: Duration = Duration::from_secs(2);
/// How long the auditor rests between two audits.
const AUDIT_PAUSE: Duration = Duration::from_millis(50);

/// A bank that never loses a coin.
#[derive(Debug, Parser)]
#[command(name = "bank", after_help = "Example:\n  bank --dev --seconds 30")]
struct Args {
    /// Start three nodes here, and kill and restart them meanwhile; nothing of them is left
    #[arg(long)]
    dev: bool,
    /// The program that --dev runs as its nodes [default: this one, which holds all of konsen]
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// How long coins are moved
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// How many accounts
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(2..=100))]
    accounts: u16,
    /// How many coins each begins with
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    coins: u64,
    /// How many clients move them
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=64))]
    clients: u16,
    #[command(flatten)]
    connection: Connection,
}

fn main() -> ExitCode {
    // The nodes of --dev.
    if std::env::args_os().nth(1).is_some_and(|first| first == "serve") {
        return konsen::cli::main();
    }
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(run(args)),
        Err(error) => Err(error.into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("FAILED: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// A line for whoever watches, if anybody does.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

async fn run(args: Args) -> anyhow::Result<()> {
    if !args.dev {
        return bank(&args, &args.connection, None).await;
    }
    let mut nodes = Nodes::start(args.binary.clone()).await?;
    let endpoints = nodes.endpoints();
    say(&format!("three nodes: {}", endpoints.join(" ")));
    let connection = Connection::to(endpoints, TIMEOUT_DEV);
    let outcome = tokio::select! {
        outcome = bank(&args, &connection, Some(&mut nodes)) => Some(outcome),
        Ok(()) = tokio::signal::ctrl_c() => None,
    };
    nodes.stop().await;
    match outcome {
        Some(Ok(())) => Ok(()),
        Some(Err(error)) => {
            say(&format!("the nodes' logs and data stay in {}", nodes.keep().display()));
            Err(error)
        }
        None => bail!("interrupted before the books were closed"),
    }
}

/// Opens the bank, lets everybody work for the time that was asked for, and closes the books.
async fn bank(
    args: &Args,
    connection: &Connection,
    nodes: Option<&mut Nodes>,
) -> anyhow::Result<()> {
    let accounts = Arc::new(Accounts::new(args.accounts.into(), args.coins));
    let client = client(connection, 0)?;
    accounts.open(&client).await.context("cannot open the accounts")?;
    say(&format!(
        "{} accounts of {} coins under {}, {} clients, {} s",
        args.accounts,
        args.coins,
        accounts.prefix(),
        args.clients,
        args.seconds
    ));
    let until = Instant::now() + Duration::from_secs(args.seconds);
    let mut tellers = Vec::new();
    for number in 0..usize::from(args.clients) {
        let client = self::client(connection, number)?;
        tellers.push(tokio::spawn(teller::work(Arc::clone(&accounts), client, number, until)));
    }
    let auditor = tokio::spawn(audit(Arc::clone(&accounts), self::client(connection, 1)?, until));
    let kills = match nodes {
        Some(nodes) => nodes.kill_and_restart(until).await?,
        None => 0,
    };
    let mut books = Books::new(accounts.count());
    for teller in tellers {
        books.add(&teller.await.context("a client ended")??);
    }
    let audits = auditor.await.context("the auditor ended")??;
    close(&accounts, &client, &books).await?;
    books.say();
    say(&format!("audits     {audits:7}  each found all {} coins", accounts.total()));
    say(&format!("killed     {kills:7}  nodes, and started again"));
    say("the books balance: no coin was lost, and none was made");
    ensure!(books.transfers > 0 && audits > 0, "nothing was moved, or nothing was counted");
    Ok(())
}

/// A client that asks another node first than its neighbours do.
fn client(connection: &Connection, number: usize) -> anyhow::Result<Client> {
    let mut options = connection.options().map_err(|error| anyhow::anyhow!("{error}"))?;
    let count = options.endpoints.len().max(1);
    options.endpoints.rotate_left(number % count);
    Ok(Client::new(&options)?)
}

/// Counts all coins, each time at one revision, until the time is up; how often that was possible.
async fn audit(accounts: Arc<Accounts>, client: Client, until: Instant) -> anyhow::Result<u64> {
    let mut audits = 0;
    while Instant::now() < until {
        match accounts.balances(&client).await {
            Ok((balances, revision)) => {
                let (sum, total) = (balances.iter().sum::<u64>(), accounts.total());
                ensure!(sum == total, "at revision {revision} there are {sum} coins, not {total}");
                audits += 1;
            }
            Err(error) if passes(&error) => {}
            Err(error) => bail!("the auditor cannot read: {error}"),
        }
        tokio::time::sleep(AUDIT_PAUSE).await;
    }
    Ok(audits)
}

/// Compares every account with what the clients believe to have moved, and leaves nothing behind.
async fn close(accounts: &Accounts, client: &Client, books: &Books) -> anyhow::Result<()> {
    let (balances, revision) = patiently(|| accounts.balances(client)).await?;
    ensure!(balances.len() == accounts.count(), "accounts are missing at revision {revision}");
    for (number, (balance, moved)) in balances.iter().zip(&books.moved).enumerate() {
        let expected = i128::from(accounts.coins()) + i128::from(*moved);
        ensure!(
            i128::from(*balance) == expected,
            "account {number} has {balance} coins at revision {revision}; by the clients' books it has {expected}"
        );
    }
    let receipts = patiently(|| accounts.receipts(client)).await?;
    ensure!(receipts == 0, "{receipts} receipts were left behind");
    patiently(|| accounts.clear(client)).await.context("cannot remove the accounts")
}

/// Whether an error passes by itself, sooner or later.
fn passes(error: &Error) -> bool {
    matches!(
        error,
        Error::Unavailable(_)
            | Error::Busy(_)
            | Error::NoLeader(_)
            | Error::Unknown(_)
            | Error::Compacted(_)
            | Error::Conflict { .. }
    )
}

/// Does what may be repeated until it is done.
async fn patiently<T, F>(mut attempt: impl FnMut() -> F) -> anyhow::Result<T>
where
    F: Future<Output = Result<T, Error>>,
{
    let until = Instant::now() + PATIENCE;
    loop {
        match attempt().await {
            Ok(done) => return Ok(done),
            Err(error) if passes(&error) && Instant::now() < until => {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}
