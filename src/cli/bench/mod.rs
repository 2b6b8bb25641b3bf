//! `konsen bench`: puts a load on a live cluster and tells how long its answers take.
//!
//! The load generator often shares the nodes' machine, so it takes as little of the CPU as it can: requests are made
//! once, each connection carries one at a time over HTTP/1.1, with TLS or without, and a thread has one histogram.

mod keys;
mod plan;
mod processes;
mod progress;
mod report;
mod requests;
mod schedule;
mod tally;
mod target;
mod wire;
mod workers;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytesize::ByteSize;
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::logging::interrupted;
use super::output::say;
use super::remote::{Connection, Format, time_within};
use super::{CliError, Exit};
use crate::api::TIMEOUT_MAX;
use crate::client::{DeleteRequest, Error};
pub use plan::{Consistency, Distribution, LoadName};
use plan::{DURATIONS, KEYS_MAX, Plan, WARMUPS};
use processes::Usage;
use report::Report;
use tally::Tally;
use target::Target;
use workers::{Shared, Window};

/// How long each endpoint may take to answer for the first time.
const START_TIME_MAX: Duration = Duration::from_secs(3);
/// The pause before it is asked again: nothing tells when a node is there.
const START_PAUSE: Duration = Duration::from_millis(200);

/// Put a load on a cluster and tell its throughput, its latencies and what it cost
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  konsen bench put --duration 30s
  konsen bench get --connections 256 --threads 2
  konsen bench mixed --reads 95 --distribution zipf --rate 5000
  konsen bench list --range 100 --consistency stale -o json

It writes: keys that are --prefix and nine digits, from 000000000 on, --keys of them, whose values it replaces. Loads
that read set all of these keys first, unless --no-fill says that they are there. They stay for the next run, unless
--cleanup removes them. All other keys are left alone.

Without --rate each connection asks again as soon as it has its answer. With it requests are due at fixed times and
their latency is counted from then on, also while they wait for a connection; what finds no connection in time is
counted as not sent.

Connections are spread over the endpoints: name the leader's alone to measure the leader. Where the nodes run on this
machine their CPU time and disk writes are read from /proc. docs/performance.md lists the fields of -o json; raw
prints the operations a second. Ctrl-C ends the run early, with what was measured so far and exit code 130.")]
pub struct Args {
    /// What is asked.
    #[arg(value_enum, default_value = "mixed")]
    pub load: LoadName,
    /// How long to measure.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = time_within(DURATIONS))]
    pub duration: Duration,
    /// How long to ask before that.
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = time_within(WARMUPS))]
    pub warmup: Duration,
    /// How many connections ask, one request at a time each.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=16_384))]
    pub connections: u32,
    /// How many threads of this client the connections are spread over.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub threads: u32,
    /// Of the load mixed: how many of a hundred operations are reads (95 if not given).
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u32).range(0..=100))]
    pub reads: Option<u32>,
    /// Of the load list: how many keys each reads (100 if not given).
    #[arg(long, value_name = "KEYS", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub range: Option<u32>,
    /// How large the values are.
    #[arg(long, value_name = "SIZE", default_value = "256B")]
    pub value: ByteSize,
    /// How many keys there are.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..=KEYS_MAX))]
    pub keys: u64,
    /// How keys are drawn.
    #[arg(long, value_enum, default_value = "uniform")]
    pub distribution: Distribution,
    /// How steep a Zipf distribution is (0.99 if not given).
    #[arg(long)]
    pub exponent: Option<f64>,
    /// How new what is read has to be (linearizable if not given).
    #[arg(long, value_enum)]
    pub consistency: Option<Consistency>,
    /// Requests a second, due at fixed times; without it, as many as the cluster answers.
    #[arg(long, value_name = "REQUESTS", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub rate: Option<u32>,
    /// With --rate: the most requests that wait for a connection.
    #[arg(long, value_name = "REQUESTS", default_value_t = 10_000, requires = "rate",
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub waiting: u32,
    /// What operations and values are drawn from; a random number if not given.
    #[arg(long)]
    pub seed: Option<u64>,
    /// What the keys begin with.
    #[arg(long, value_name = "PREFIX", default_value = "konsen-bench/")]
    pub prefix: String,
    /// Set no keys before a load that reads: those of an earlier run are there.
    #[arg(long)]
    pub no_fill: bool,
    /// Remove the keys at the end.
    #[arg(long)]
    pub cleanup: bool,
    /// How to print the result.
    #[arg(short, long, value_enum, default_value = "table")]
    pub output: Format,
    #[allow(missing_docs)]
    #[command(flatten)]
    pub connection: Connection,
}

/// Runs the command.
pub async fn run(args: Args) -> Result<(), CliError> {
    let args = Args { connection: args.connection.resolved()?, ..args };
    let plan = Plan::new(&args)?;
    let targets = Target::all(&args.connection)?;
    let members = look(&args.connection).await?;
    let nodes = members.len();
    let found = tokio::task::spawn_blocking(move || processes::find(&members)).await;
    let processes = found.unwrap_or_else(|error| Err(error.to_string()));
    let shared = Arc::new(Shared {
        plan,
        targets,
        filled: Default::default(),
        stop: CancellationToken::new(),
    });
    let outcome = measure(&shared, &processes).await;
    if args.cleanup {
        clean_up(args.connection, &shared.plan).await;
    }
    let measured = outcome?;
    let report = Report {
        plan: &shared.plan,
        endpoints: shared.targets.iter().map(|target| target.url.clone()).collect(),
        tally: &measured.tally,
        measured: measured.time,
        interrupted: measured.interrupted,
        nodes,
        measured_nodes: processes.as_ref().map_or(0, Vec::len),
        servers: measured.servers,
        own_cpu: measured.own_cpu,
    };
    report.print(args.output)?;
    if measured.interrupted {
        let text = format!("interrupted; this is of {:.1} s", measured.time.as_secs_f64());
        return Err(CliError::new(Exit::Interrupted, text));
    }
    match (measured.tally.counts(), &measured.tally.complaint) {
        ((0, _), Some(complaint)) => {
            let exit = if measured.tally.may_pass() { Exit::Unavailable } else { Exit::Failed };
            Err(CliError::new(exit, format!("no operation succeeded: {complaint}")))
        }
        _ => Ok(()),
    }
}

/// Waits until every endpoint answers as konsen does; all have to belong to one cluster. Where its members serve clients.
async fn look(connection: &Connection) -> Result<Vec<String>, CliError> {
    let answers = connection.endpoints.iter().map(|endpoint| async {
        let client = Connection { endpoints: vec![endpoint.clone()], ..connection.clone() };
        let (client, began) = (client.client()?, Instant::now());
        loop {
            match client.one_cluster().await {
                Ok(()) => return Ok(()),
                Err(Error::Unavailable(_) | Error::Busy(_) | Error::NoLeader(_))
                    if began.elapsed() < START_TIME_MAX => {}
                Err(error) => return Err(CliError::from(error)),
            }
            tokio::time::sleep(START_PAUSE).await;
        }
    });
    let all = async {
        futures_util::future::try_join_all(answers).await?;
        let client = connection.clone().client()?;
        client.one_cluster().await?;
        let cluster = client.cluster().await?;
        Ok(cluster.members.into_iter().map(|member| member.http_address).collect())
    };
    tokio::select! {
        members = all => members,
        () = interrupted() => Err(nothing_measured()),
    }
}

/// What a run measured.
struct Measured {
    tally: Tally,
    time: Duration,
    interrupted: bool,
    servers: Result<Usage, String>,
    own_cpu: Option<Duration>,
}

async fn measure(
    shared: &Arc<Shared>,
    processes: &Result<Vec<u32>, String>,
) -> Result<Measured, CliError> {
    let threads = shared.plan.threads;
    let tallies: Vec<_> = (0..threads).map(|_| Arc::new(Mutex::new(Tally::new()))).collect();
    let (begin, window) = watch::channel(None);
    let (ready, mut readies) = mpsc::channel(threads);
    let mut running = JoinSet::new();
    for (number, tally) in tallies.iter().enumerate() {
        let (shared, tally) = (shared.clone(), tally.clone());
        let (ready, window) = (ready.clone(), window.clone());
        running
            .spawn_blocking(move || workers::run_thread(&shared, number, &tally, &ready, window));
    }
    drop(ready);
    let usage = || processes.as_ref().map_err(String::clone).and_then(|all| processes::usage(all));
    let mut before = None;
    let work = async {
        let mut outcome = Ok(());
        let mut waiting = threads;
        while waiting > 0 && outcome.is_ok() {
            tokio::select! {
                Some(()) = readies.recv() => waiting -= 1,
                // One that ends before it is ready has given up, and says why.
                Some(ended) = running.join_next() => {
                    outcome = flat(ended);
                    shared.stop.cancel();
                }
                else => break,
            }
        }
        if !shared.stop.is_cancelled() {
            let began = Instant::now();
            let counts_from = began + shared.plan.warmup;
            let until = counts_from + shared.plan.duration;
            begin.send_replace(Some(Window { began, counts_from, until }));
            tokio::select! {
                () = tokio::time::sleep_until(counts_from.into()) => {}
                () = shared.stop.cancelled() => {}
            }
            before = Some((usage(), processes::own_cpu(), counts_from));
        }
        // Threads that wait for the beginning end without one.
        drop(begin);
        while let Some(ended) = running.join_next().await {
            outcome = outcome.and(flat(ended));
        }
        outcome
    };
    let outcome = tokio::select! {
        outcome = until_interrupted_twice(work, &shared.stop) => outcome,
        () = progress::show(shared, &tallies, window) => Ok(()),
    };
    outcome?;
    let interrupted = shared.stop.is_cancelled();
    let mut tally = Tally::new();
    tallies.iter().for_each(|one| tally.add(&one.lock()));
    let (Some((server, own, from)), Some(last)) = (before, tally.last) else {
        return Err(match interrupted {
            true => nothing_measured(),
            false => CliError::failed("no operation was due in the time that is measured"),
        });
    };
    let servers = server.and_then(|before| Ok(since(before, usage()?)));
    let own_cpu = own.zip(processes::own_cpu()).map(|(before, now)| now.saturating_sub(before));
    Ok(Measured {
        tally,
        time: last.saturating_duration_since(from),
        interrupted,
        servers,
        own_cpu,
    })
}

fn flat(ended: Result<Result<(), CliError>, tokio::task::JoinError>) -> Result<(), CliError> {
    ended.map_err(|error| CliError::failed(error.to_string())).and_then(|ended| ended)
}

/// What was taken between the two.
fn since(before: Usage, now: Usage) -> Usage {
    let written = now.written_bytes.zip(before.written_bytes);
    Usage {
        cpu: now.cpu.saturating_sub(before.cpu),
        written_bytes: written.map(|(now, before)| now.saturating_sub(before)),
    }
}

fn nothing_measured() -> CliError {
    CliError::new(Exit::Interrupted, "interrupted; nothing was measured")
}

/// The first interruption stops the threads, which wait for what is under way, the second the program.
async fn until_interrupted_twice(
    work: impl Future<Output = Result<(), CliError>>,
    stop: &CancellationToken,
) -> Result<(), CliError> {
    tokio::pin!(work);
    tokio::select! {
        done = &mut work => return done,
        () = interrupted() => stop.cancel(),
    }
    tokio::select! {
        done = &mut work => done,
        () = interrupted() => {
            let given_up = "interrupted twice; what was measured is not told";
            Err(CliError::new(Exit::Interrupted, given_up))
        }
    }
}

/// Removes the keys of the plan, and no others.
async fn clean_up(connection: Connection, plan: &Plan) {
    let range = DeleteRequest {
        prefix: None,
        start: Some(requests::key(plan, 0).into()),
        end: Some(requests::key(plan, plan.keys).into()),
        in_steps: true,
    };
    let patient = Connection { timeout: TIMEOUT_MAX, ..connection };
    let removed = async { patient.client()?.delete_all(&range).await.map_err(CliError::from) };
    if let Err(error) = removed.await {
        let prefix = &plan.prefix;
        say(&format!("warning: keys that begin with {prefix} may be left: {error}\n"));
    }
}
