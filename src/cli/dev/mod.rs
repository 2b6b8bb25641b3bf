//! `konsen dev`: a whole cluster on this machine, under a supervisor.

mod files;

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args as ClapArgs;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::{mpsc, watch};

use super::administrator::Administrator;
use super::built::{in_shell, shown};
use super::error::CliError;
use super::logging::interrupted;
use super::output::{self, say};
use super::profile::Profile;
use crate::client::{Client, Options};
use files::Prepared;

/// The shortest and the longest pause before a node that ended is started again.
const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// A node that lived this long counts as having worked.
const LIVED: Duration = Duration::from_secs(5);
/// After so many ends in a row without having worked, the supervisor gives up.
const FAILURES_MAX: u32 = 6;
/// How long a node may take to stop before it is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(15);
/// How much of what a node says is read at once, and how much of a line without an end is kept.
const RELAY_BYTES: usize = 8 << 10;
const LINE_BYTES_MAX: usize = 64 << 10;
/// How long to wait for the others once one node knows a leader.
const FOLLOWERS_TIMEOUT: Duration = Duration::from_secs(5);
/// How long to wait for the first leader before saying so.
const LEADER_TIMEOUT: Duration = Duration::from_secs(30);

/// A whole cluster on this machine, certificates generated, under a supervisor
///
/// The configuration is made at the first start: DIR/cluster.yml, and from it DIR/nodeN/cluster.yml of each node. What
/// is added to the first holds for all nodes from the next start on. A node's own that was edited stays as it is, until it
/// is removed. Addresses whose ports are taken are replaced in all of them.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Example:\n  konsen dev\n  curl -X PUT --data-binary hello http://127.0.0.1:20001/v1/kv/greeting\n  curl http://127.0.0.1:20003/v1/kv/greeting"
)]
pub struct Args {
    /// How many nodes
    #[arg(long, env = "KONSEN_DEV_NODES", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=i64::from(files::NODES_MAX)))]
    nodes: u8,
    /// Where configuration, certificates and data are kept
    #[arg(long, env = "KONSEN_DEV_DIR", value_name = "DIR", default_value = "data/dev")]
    dir: PathBuf,
    /// Throw away what earlier runs left in the directory: configuration, certificates, the nodes' folders with all in them
    #[arg(long)]
    fresh: bool,
    /// Serve clients over HTTPS, and make a certificate and a profile for them
    #[arg(long)]
    tls: bool,
}

/// Runs the cluster until it is interrupted.
pub async fn run(args: Args) -> Result<(), CliError> {
    let dir = &args.dir;
    fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let dir = &dir.canonicalize().with_context(|| format!("cannot open {}", dir.display()))?;
    let mark = dir.join("dev.lock");
    files::check_is_ours(dir, &mark, args.fresh)?;
    let _lock = lock(dir, &mark)?;
    if args.fresh {
        files::remove_nodes(dir)?;
    }
    let wanted = files::Wanted { nodes: args.nodes, tls: args.tls };
    let Prepared { homes, administrator } = files::prepare(dir, wanted)?;
    let way = Way { dir, administrator: administrator.as_ref() };
    let binary = std::env::current_exe().context("cannot find this program's own file")?;

    let (stop, stopping) = watch::channel(false);
    let (gave_up, mut given_up) = mpsc::channel(homes.len());
    let mut supervisors = Vec::new();
    for (at, home) in homes.iter().enumerate() {
        let supervisor = Supervisor {
            name: home.name.clone(),
            colour: at,
            binary: binary.clone(),
            home: home.dir.clone(),
            process: Arc::clone(&home.process),
            stopping: stopping.clone(),
        };
        let gave_up = gave_up.clone();
        supervisors.push(tokio::spawn(async move {
            let name = supervisor.name.clone();
            let outcome = tokio::spawn(supervisor.run()).await;
            let outcome = outcome.unwrap_or_else(|error| {
                Err(CliError::failed(format!("the supervisor of {name} ended: {error}")))
            });
            if let Err(error) = outcome {
                // The receiver outlives all supervisors.
                let _ = gave_up.send(error).await;
            }
        }));
    }

    let outcome = tokio::select! {
        () = interrupted() => Ok(()),
        Some(error) = given_up.recv() => Err(error),
        outcome = introduce(&homes, way, stopping.clone()) => match outcome {
            Err(error) => Err(error),
            Ok(()) => tokio::select! {
                () = interrupted() => Ok(()),
                Some(error) = given_up.recv() => Err(error),
            },
        },
    };
    say(&format!("stopping {} nodes\n", homes.len()));
    stop.send_replace(true);
    for supervisor in supervisors {
        supervisor.await.context("a supervisor failed")?;
    }
    if outcome.is_ok() {
        say(&format!("stopped; the data stays in {}\n", dir.display()));
    }
    outcome
}

/// One node's folder and addresses.
struct Home {
    name: String,
    dir: PathBuf,
    http: String,
    /// The process that runs it now; 0 before the first.
    process: Arc<AtomicU32>,
}

/// How the nodes are reached.
#[derive(Clone, Copy)]
struct Way<'a> {
    dir: &'a Path,
    /// Where they speak HTTPS.
    administrator: Option<&'a Administrator>,
}

impl Way<'_> {
    fn client(self, home: &Home) -> Result<Client, CliError> {
        let tls = self.administrator.map(Administrator::tls_files).unwrap_or_default();
        let (endpoints, timeout) = (vec![home.http.clone()], Duration::from_secs(1));
        Ok(Client::new(&Options { endpoints, tls, token: None, timeout })?)
    }

    /// What to try, of two nodes.
    fn hints(self, homes: &[Home], first: &Home, last: &Home) -> String {
        let (mut curl, mut konsen) = ("curl".to_owned(), String::new());
        if Profile::is_used() {
            let all: Vec<&str> = homes.iter().map(|home| home.http.as_str()).collect();
            konsen = format!(
                "\nThere is a profile, which `konsen` uses. For these nodes:\n  export KONSEN_ENDPOINTS={}\n",
                all.join(",")
            );
        }
        if let Some(one) = self.administrator {
            curl += &format!(" {}", one.curl_options(shown));
            let profile = in_shell(&self.dir.join(files::PROFILE));
            konsen = format!("\n  export KONSEN_PROFILE={profile}\n  konsen get greeting\n");
        }
        format!(
            "\nTry:\n  {curl} -X PUT --data-binary hello {}/v1/kv/greeting\n  {curl} {}/v1/kv/greeting\n{konsen}\n\
             Ctrl-C stops all nodes; the data stays for the next start.\n\n",
            first.http, last.http
        )
    }
}

/// Keeps two supervisors from running the same cluster, and stays as the mark that one has.
fn lock(dir: &Path, path: &Path) -> Result<File, CliError> {
    let file = File::create(path).with_context(|| format!("cannot create {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            Err(CliError::failed(format!("another `konsen dev` runs in {}", dir.display()))
                .hint("stop it, or give this one its own folder with --dir"))
        }
        Err(TryLockError::Error(error)) => {
            Err(CliError::failed(format!("cannot lock {}: {error}", path.display())))
        }
    }
}

/// Waits for a leader and says how to talk to the cluster.
async fn introduce(
    homes: &[Home],
    way: Way<'_>,
    stopping: watch::Receiver<bool>,
) -> Result<(), CliError> {
    let began = Instant::now();
    let mut said = false;
    while !*stopping.borrow() {
        for home in homes {
            if let Some(leader) = leader_at(home, way).await? {
                let serving = serving(homes, way, &stopping).await?;
                // The leader may be lost again by then.
                if let [first, .., last] | [first @ last] = &serving[..] {
                    print_introduction(homes, &serving, &leader, &way.hints(homes, first, last));
                    return Ok(());
                }
            }
        }
        if began.elapsed() > LEADER_TIMEOUT && !said {
            say(&format!(
                "still no leader after {} s; see the logs above\n",
                LEADER_TIMEOUT.as_secs()
            ));
            said = true;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// Who leads, as a node knows it.
async fn leader_at(home: &Home, way: Way<'_>) -> Result<Option<String>, CliError> {
    // Whoever asks, and nobody need be known for it.
    Ok(way.client(home)?.leader().await.unwrap_or_default())
}

/// Which nodes follow a leader, once all do or have had time to.
async fn serving<'a>(
    homes: &'a [Home],
    way: Way<'_>,
    stopping: &watch::Receiver<bool>,
) -> Result<Vec<&'a Home>, CliError> {
    let until = Instant::now() + FOLLOWERS_TIMEOUT;
    loop {
        let mut serving = Vec::new();
        for home in homes {
            serving.extend(leader_at(home, way).await?.map(|_| home));
        }
        if serving.len() == homes.len() || Instant::now() >= until || *stopping.borrow() {
            return Ok(serving);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn print_introduction(homes: &[Home], serving: &[&Home], leader: &str, hints: &str) {
    let mut text = match serving.len() {
        all if all == homes.len() => format!("\nkonsen: {all} nodes are up\n\n"),
        some => format!("\nkonsen: {some} of {} nodes are up\n\n", homes.len()),
    };
    for home in homes {
        let mark = match serving.iter().any(|one| one.name == home.name) {
            false => "  does not serve: its own lines above say why",
            true if home.name == leader => "  leader",
            true => "",
        };
        let process = home.process.load(Ordering::Relaxed);
        text += &format!("  {}  {}  process {process}{mark}\n", home.name, home.http);
    }
    text += hints;
    // The nodes go on whether anybody reads it or not.
    output::stdout().push(text.as_bytes());
}

/// Keeps one node running.
struct Supervisor {
    name: String,
    colour: usize,
    binary: PathBuf,
    home: PathBuf,
    process: Arc<AtomicU32>,
    stopping: watch::Receiver<bool>,
}

impl Supervisor {
    async fn run(mut self) -> Result<(), CliError> {
        let mut backoff = BACKOFF_MIN;
        let mut failures = 0;
        loop {
            let started = Instant::now();
            let mut child = self.spawn()?;
            let process = child.id().unwrap_or_default();
            if self.process.swap(process, Ordering::Relaxed) != 0 {
                self.say(&format!("started again as process {process}"));
            }
            // Held here, since waiting for a child closes what it still owns.
            let stdin = child.stdin.take();
            let status = tokio::select! {
                status = child.wait() => Some(status.context("cannot wait for a node")?),
                _ = self.stopping.wait_for(|stop| *stop) => None,
            };
            let Some(status) = status else { return self.stop(child, stdin).await };
            if status.success() {
                self.say("stopped in order, as one does that was removed; not starting it again");
                // The sender lives as long as the command.
                let _ = self.stopping.wait_for(|stop| *stop).await;
                return Ok(());
            }
            if started.elapsed() >= LIVED {
                backoff = BACKOFF_MIN;
                failures = 0;
            }
            failures += 1;
            if failures > FAILURES_MAX {
                return Err(CliError::failed(format!(
                    "{} ended {failures} times in a row right after its start ({status}); giving up",
                    self.name
                ))
                .hint("its own lines above say why"));
            }
            self.say(&format!("ended: {status}; starting again in {} ms", backoff.as_millis()));
            tokio::select! {
                () = tokio::time::sleep(backoff) => {}
                _ = self.stopping.wait_for(|stop| *stop) => return Ok(()),
            }
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
    }

    fn spawn(&self) -> Result<Child, CliError> {
        let mut child = Command::new(&self.binary)
            .args(["serve", "--config", "cluster.yml", "--stop-with-stdin"])
            .current_dir(&self.home)
            // Its end closes the pipe, and with it the node, even if this process is killed.
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Ctrl-C in a terminal is for the supervisor, which stops the nodes in its own way.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {}", self.binary.display()))?;
        if let Some(out) = child.stdout.take() {
            tokio::spawn(relay(self.prefix(), out));
        }
        if let Some(err) = child.stderr.take() {
            tokio::spawn(relay(self.prefix(), err));
        }
        Ok(child)
    }

    async fn stop(&self, mut child: Child, stdin: Option<ChildStdin>) -> Result<(), CliError> {
        drop(stdin);
        match tokio::time::timeout(STOP_TIMEOUT, child.wait()).await {
            Ok(status) => {
                let status = status.context("cannot wait for a node")?;
                if !status.success() {
                    self.say(&format!("ended: {status}"));
                }
            }
            Err(_) => {
                self.say("did not stop in time; killing it");
                child.kill().await.context("cannot kill a node")?;
            }
        }
        Ok(())
    }

    fn prefix(&self) -> String {
        const COLOURS: [u8; 6] = [36, 33, 32, 35, 34, 31];
        if super::logging::colours() {
            format!("\x1b[{}m{}\x1b[0m |", COLOURS[self.colour % COLOURS.len()], self.name)
        } else {
            format!("{} |", self.name)
        }
    }

    fn say(&self, text: &str) {
        say(&format!("{} {text}\n", self.prefix()));
    }
}

/// Prints what a node says, a prefix before each line, until the node ends.
async fn relay(prefix: String, mut from: impl AsyncRead + Unpin) {
    let mut line = Vec::new();
    let mut read = vec![0; RELAY_BYTES];
    while let Ok(count @ 1..) = from.read(&mut read).await {
        for piece in read[..count].split_inclusive(|byte| *byte == b'\n') {
            line.extend_from_slice(piece);
            // A longer line goes on in the next.
            if piece.ends_with(b"\n") || line.len() >= LINE_BYTES_MAX {
                let text = String::from_utf8_lossy(&line);
                say(&format!("{prefix} {}\n", text.trim_end_matches(['\n', '\r'])));
                line.clear();
            }
        }
    }
}
