//! `konsen check`: runs clients against a live cluster and judges what they saw.

mod clients;
mod draws;
mod endpoint;
mod finale;
mod keep;
mod names;
mod recorder;
mod report;
mod txn;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::logging::interrupted;
use super::output::say;
use super::remote::{Connection, Format, print};
use super::{CliError, Exit};
use crate::check::history::{Answer, FORMAT, Head, History, KEYS_MAX};
use crate::check::judge::{self, Fault, Summary};
use crate::client::{Client, Error};
use clients::Pace;
use endpoint::Endpoint;
use names::Names;
use recorder::Recorder;
use report::Report;

/// How long the cluster may take to answer for the first time.
const START_TIME_MAX: Duration = Duration::from_secs(3);
/// The pause before the first question is asked again: nothing tells when a node is there.
const START_PAUSE: Duration = Duration::from_millis(200);
/// How often a terminal is told how things are.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(500);

/// Run clients against a live cluster and tell whether what they saw was linearizable, transactions included
#[derive(Clone, Debug, clap::Args)]
#[command(
    // Short, so that clients go on during faults, with writes of unknown outcome behind them.
    mut_arg("timeout", |timeout| timeout.default_value("1s")),
    after_help = "Examples:
  konsen check --endpoints http://127.0.0.1:20001,http://127.0.0.1:20002,http://127.0.0.1:20003
  konsen check --seconds 600 --rate 200 --history run.jsonl
  konsen check --judge run.jsonl
  konsen check --judge run.jsonl --show

Kill, pause and cut off nodes while it runs. Half of the clients keep to one endpoint each, the others ask
a random one each time. They use keys of their own, which are removed afterwards. Ctrl-C ends the run early
and judges what was seen; a second one ends the program.

The exit code is 0 if everything was linearizable, 1 if it was not or nobody can tell, and 5 if no
endpoint answers. raw prints yes, no or undecided."
)]
pub struct Args {
    /// How long to run.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub seconds: u64,
    /// How many clients ask at once.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub clients: u32,
    /// How many keys they ask for.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=i64::from(KEYS_MAX)))]
    pub keys: u32,
    /// The most operations a second over all clients; without it, as many as the cluster takes
    /// and a history holds.
    #[arg(long, value_name = "OPERATIONS", value_parser = clap::value_parser!(u32).range(1..))]
    pub rate: Option<u32>,
    /// What the clients draw their operations from; a random number if not given.
    #[arg(long)]
    pub seed: Option<u64>,
    /// Keep everything that was asked and answered in this file.
    #[arg(long, value_name = "FILE")]
    pub history: Option<PathBuf>,
    /// What the keys begin with; there must be none yet.
    #[arg(long, value_name = "PREFIX")]
    pub prefix: Option<String>,
    /// Leave the keys where they are.
    #[arg(long)]
    pub keep: bool,
    /// Judge a kept history; no cluster is asked.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["history", "keep", "prefix", "seed", "rate"])]
    pub judge: Option<PathBuf>,
    /// Print every call, a line each: when it began and ended, who asked what, and the answer.
    #[arg(long)]
    pub show: bool,
    /// How to print the result.
    #[arg(short, long, value_enum, default_value = "table")]
    pub output: Format,
    #[allow(missing_docs)]
    #[command(flatten)]
    pub connection: Connection,
}

/// Runs the command.
pub async fn run(args: Args) -> Result<(), CliError> {
    if args.show && args.output != Format::Table {
        return Err(CliError::usage("--show is for people and goes with -o table alone"));
    }
    match &args.judge {
        Some(path) => {
            let history = keep::read(path)?;
            let seconds = history.calls.iter().map(|call| call.ended_us).max().unwrap_or_default();
            let seconds = seconds as f64 / 1e6;
            let file = Some(path.display().to_string());
            let (history, verdict) = judged(history).await?;
            let (fruitless, read_back) = (None, None);
            let report = Report { history: &history, verdict, seconds, fruitless, read_back, file };
            tell(&report, args.show, args.output)
        }
        None => live(args).await,
    }
}

async fn live(args: Args) -> Result<(), CliError> {
    let seed = args.seed.unwrap_or_else(rand::random);
    let options = args.connection.options()?;
    let prefix =
        args.prefix.unwrap_or_else(|| format!("konsen-check/{:016x}/", rand::random::<u64>()));
    if prefix.is_empty() {
        return Err(CliError::usage("the prefix is empty; the run would remove every key"));
    }
    let urls = options.endpoints.clone();
    let endpoints = urls.iter().map(|url| Endpoint::new(url, &options));
    let endpoints = endpoints.collect::<Result<Vec<_>, _>>()?;
    let anybody = args.connection.client()?;
    let file = match &args.history {
        Some(path) => Some((keep::create(path)?, path.clone())),
        None => None,
    };
    begin(&anybody, &prefix).await?;
    // Before anything is written: what clients saw of two clusters is no history of either.
    if urls.len() > 1 {
        anybody.one_cluster().await?;
    }
    let names = Names::new(prefix.clone(), args.keys);
    let head = Head { konsen_check: FORMAT, prefix, keys: args.keys, endpoints: urls, seed };
    let recorder = Arc::new(Recorder::new(head, names, endpoints));

    let (stop, stopped) = watch::channel(false);
    let until = Instant::now() + Duration::from_secs(args.seconds);
    let pace = Pace::new(args.rate, args.seconds);
    let whole = async {
        let seconds = tokio::select! {
            () = clients::run(&recorder, args.clients, seed, pace, until, stopped) => recorder.seconds(),
            () = progress(&recorder, args.seconds) => 0.0,
        };
        let read = finale::read_all(&recorder).await;
        let removed =
            if args.keep { Ok(()) } else { finale::remove(&anybody, &recorder.names).await };
        (seconds, read, removed)
    };
    let (seconds, read, removed) = until_interrupted_twice(whole, &stop).await?;
    if !read {
        say("warning: no endpoint answered the reads at the end, which would show a lost write\n");
    }
    if let Err(error) = removed {
        let prefix = recorder.names.prefix();
        say(&format!("warning: keys that begin with {prefix} may be left: {error}\n"));
    }
    let history = recorder.take_history();
    if !history.calls.iter().any(|call| !matches!(call.answer, Answer::Unknown | Answer::Refused)) {
        return Err(unanswered(recorder.complaint()));
    }
    let mut kept = None;
    if let Some((file, path)) = file {
        keep::write(&history, file, &path)?;
        kept = Some(path);
    }
    let (history, verdict) = tokio::select! {
        judged = judged(history) => judged?,
        () = interrupted() => return Err(stopped_twice()),
    };
    if verdict.is_err() && kept.is_none() {
        // What was found is told even if it cannot be kept.
        kept = keep::rescue(&history).inspect_err(|error| say(&format!("{error}\n"))).ok();
    }
    let file = kept.map(|path| path.display().to_string());
    let fruitless = Some(recorder.fruitless());
    let read_back = Some(read);
    let report = Report { history: &history, verdict, seconds, fruitless, read_back, file };
    tell(&report, args.show, args.output)
}

fn unanswered(complaint: Option<Error>) -> CliError {
    let text = complaint.as_ref().map(ToString::to_string).unwrap_or_default();
    let error = CliError::new(Exit::Unavailable, format!("no call was answered: {text}"));
    error.hint(match complaint {
        Some(Error::NoLeader(_)) => "`konsen status` shows which nodes are there",
        Some(Error::Busy(_)) => "the nodes are up; try it with fewer --clients",
        _ => "are the nodes up? name them with --endpoints or KONSEN_ENDPOINTS",
    })
}

/// Waits until the cluster answers; the prefix must be free, for the judge takes all keys to be absent at first.
async fn begin(client: &Client, prefix: &str) -> Result<(), CliError> {
    let began = Instant::now();
    loop {
        match finale::is_empty(client, prefix).await {
            Ok(true) => return Ok(()),
            Ok(false) => {
                let error = CliError::failed(format!("there are keys that begin with {prefix}"));
                return Err(
                    error.hint("take another --prefix, or remove them with konsen delete --prefix")
                );
            }
            Err(Error::Unavailable(_) | Error::Busy(_) | Error::NoLeader(_))
                if began.elapsed() < START_TIME_MAX => {}
            Err(error) => return Err(error.into()),
        }
        tokio::time::sleep(START_PAUSE).await;
    }
}

/// The first interruption stops the clients, the second the program.
async fn until_interrupted_twice<T>(
    work: impl Future<Output = T>,
    stop: &watch::Sender<bool>,
) -> Result<T, CliError> {
    tokio::pin!(work);
    tokio::select! {
        done = &mut work => return Ok(done),
        () = interrupted() => {
            stop.send_replace(true);
        }
    }
    tokio::select! {
        done = &mut work => Ok(done),
        () = interrupted() => Err(stopped_twice()),
    }
}

fn stopped_twice() -> CliError {
    CliError::new(Exit::Interrupted, "interrupted; nothing was judged")
}

/// Tells a terminal how things are; never ends.
async fn progress(recorder: &Recorder, seconds: u64) {
    /// Erases a line when it is dropped, however that comes about.
    struct Line;
    impl Drop for Line {
        fn drop(&mut self) {
            say("\r\x1b[K");
        }
    }
    if !std::io::stderr().is_terminal() {
        return std::future::pending().await;
    }
    let _line = Line;
    loop {
        let now = recorder.seconds();
        say(&format!("\r\x1b[K{now:.0} of {seconds} s, {} calls", recorder.count()));
        tokio::time::sleep(PROGRESS_INTERVAL).await;
    }
}

async fn judged(history: History) -> Result<(History, Result<Summary, Fault>), CliError> {
    let judging = tokio::task::spawn_blocking(move || {
        let verdict = judge::judge(&history);
        (history, verdict)
    });
    judging.await.map_err(|error| CliError::failed(format!("the judge failed: {error}")))
}

fn tell(report: &Report<'_>, show: bool, format: Format) -> Result<(), CliError> {
    if show {
        let mut text = String::new();
        for call in &report.history.calls {
            text += &format!("{call}\n");
        }
        text += "\n";
        match print(text.as_bytes()) {
            // The exit code tells the rest.
            Err(error) if error.exit() == Exit::ReaderGone => {}
            printed => printed?,
        }
    }
    report.finish(format)
}
