//! Three nodes on this machine: real processes, certificates and disks, that are killed and started again.

use std::fs::{self, OpenOptions};
use std::net::{TcpListener, UdpSocket};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use konsen::cli::cluster::{BuildOptions, build_nodes};
use konsen::client::{Client, Error, Options, TlsFiles};
use rand::RngExt;
use tempfile::TempDir;
use tokio::process::{Child, ChildStdin, Command};

use super::{PATIENCE, say};

/// How many nodes.
const COUNT: usize = 3;
/// The pauses, in milliseconds, between a node's return and the next kill, and between a kill and the return.
const UP_MILLIS: std::ops::Range<u64> = 500..2500;
const DOWN_MILLIS: std::ops::Range<u64> = 100..1500;
/// How long a node may take to stop before it is killed.
const STOP_TIME_MAX: Duration = Duration::from_secs(10);

/// The cluster. Dropped, its processes are killed.
pub(crate) struct Nodes {
    dir: TempDir,
    binary: PathBuf,
    nodes: Vec<Node>,
}

struct Node {
    name: String,
    home: PathBuf,
    endpoint: String,
    /// Its end stops the node, even if this process is killed.
    running: Option<(Child, ChildStdin)>,
}

impl Nodes {
    /// Makes the nodes' folders, starts them, and waits until they serve.
    pub(crate) async fn start(binary: Option<PathBuf>) -> anyhow::Result<Nodes> {
        let dir = TempDir::with_prefix("konsen-bank-").context("cannot make a directory")?;
        let binary = match binary {
            Some(binary) => binary.canonicalize().context("there is no such --binary")?,
            None => std::env::current_exe().context("cannot find this program's own file")?,
        };
        let ports = (0..COUNT).map(|_| ports()).collect::<anyhow::Result<Vec<_>>>()?;
        let list = |of: fn(&(u16, u16)) -> u16| {
            let line = |(at, one)| format!("  node{}: 127.0.0.1:{}\n", at + 1, of(one));
            ports.iter().enumerate().map(line).collect::<String>()
        };
        let (raft, http) = (list(|ports| ports.0), list(|ports| ports.1));
        let config = dir.path().join("cluster.yml");
        let yml =
            format!("servers:\n{raft}httpServers:\n{http}localServerName: node1\ncluster: bank\n");
        fs::write(&config, yml).context("cannot write cluster.yml")?;
        let homes = build_nodes(&BuildOptions {
            config,
            out: dir.path().to_path_buf(),
            certs: dir.path().join("certs"),
            keep_certificates: true,
            keep_configuration: std::collections::BTreeSet::new(),
            https: false,
            with_binary: false,
            signers: std::collections::BTreeSet::new(),
        });
        let homes = homes.map_err(|error| anyhow::anyhow!("{error}"))?;
        let node = |((at, home), (_, http)): ((usize, PathBuf), &(u16, u16))| Node {
            name: format!("node{}", at + 1),
            home,
            endpoint: format!("http://127.0.0.1:{http}"),
            running: None,
        };
        let nodes = homes.into_iter().enumerate().zip(&ports).map(node).collect();
        let mut all = Nodes { dir, binary, nodes };
        for at in 0..COUNT {
            all.run(at)?;
        }
        for at in 0..COUNT {
            all.ready(at).await?;
        }
        Ok(all)
    }

    /// Where the nodes serve.
    pub(crate) fn endpoints(&self) -> Vec<String> {
        self.nodes.iter().map(|node| node.endpoint.clone()).collect()
    }

    /// Kills one node after the other, most often the one that leads, and starts each again; how many. One at a time, so that
    /// the others go on.
    pub(crate) async fn kill_and_restart(&mut self, until: Instant) -> anyhow::Result<u64> {
        let mut kills = 0;
        let millis = |range| Duration::from_millis(rand::rng().random_range(range));
        loop {
            let pause = millis(UP_MILLIS);
            if Instant::now() + pause >= until {
                break;
            }
            tokio::time::sleep(pause).await;
            let (at, what) = match self.leader().await.filter(|_| rand::rng().random_bool(0.7)) {
                Some(leader) => (leader, "which leads"),
                None => (rand::rng().random_range(0..COUNT), "any"),
            };
            let node = &mut self.nodes[at];
            if let Some((mut child, _stdin)) = node.running.take() {
                child.kill().await.with_context(|| format!("cannot kill {}", node.name))?;
            }
            kills += 1;
            let pause = millis(DOWN_MILLIS);
            say(&format!("kill -9 {} ({what}), back in {} ms", node.name, pause.as_millis()));
            tokio::time::sleep(pause).await;
            self.run(at)?;
            self.ready(at).await?;
        }
        tokio::time::sleep_until(until.into()).await;
        Ok(kills)
    }

    async fn leader(&self) -> Option<usize> {
        let client = client(self.endpoints()).ok()?;
        let told = client.status().await.into_iter().find_map(|(_, status)| status.ok()?.leader)?;
        self.nodes.iter().position(|node| node.name == told)
    }

    fn run(&mut self, at: usize) -> anyhow::Result<()> {
        let node = &mut self.nodes[at];
        let log = OpenOptions::new().create(true).append(true).open(node.home.join("log.txt"));
        let log = log.context("cannot write a log")?;
        let mut child = Command::new(&self.binary)
            .args(["serve", "--config", "cluster.yml", "--stop-with-stdin"])
            .current_dir(&node.home)
            // Each flag of a node has a variable, which the bank's caller may have set for something else.
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(log.try_clone().context("cannot write a log")?)
            .stderr(log)
            // Ctrl-C is for the bank, which stops them.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {}", self.binary.display()))?;
        let stdin = child.stdin.take().context("a node has no standard input")?;
        node.running = Some((child, stdin));
        Ok(())
    }

    /// Waits until a node answers reads, which takes a leader.
    async fn ready(&mut self, at: usize) -> anyhow::Result<()> {
        let node = &mut self.nodes[at];
        let client = client(vec![node.endpoint.clone()])?;
        let until = Instant::now() + PATIENCE;
        loop {
            match client.get(b"any").await {
                Ok(_) | Err(Error::NoSuchKey { .. }) => return Ok(()),
                Err(_) if Instant::now() < until => {}
                Err(error) => bail!("{} does not come up: {error}", node.name),
            }
            if let Some((child, _)) = &mut node.running
                && let Some(status) = child.try_wait().context("cannot wait for a node")?
            {
                bail!("{} ended with {status}", node.name);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Stops all of them.
    pub(crate) async fn stop(&mut self) {
        let running: Vec<_> =
            self.nodes.iter_mut().filter_map(|node| node.running.take()).collect();
        let (children, stdins): (Vec<Child>, Vec<ChildStdin>) = running.into_iter().unzip();
        drop(stdins);
        for mut child in children {
            if tokio::time::timeout(STOP_TIME_MAX, child.wait()).await.is_err() {
                // It is gone either way.
                let _ = child.kill().await;
            }
        }
    }

    /// Keeps their files, for whoever wants to know what went wrong.
    pub(crate) fn keep(self) -> PathBuf {
        self.dir.keep()
    }
}

fn client(endpoints: Vec<String>) -> anyhow::Result<Client> {
    let timeout = Duration::from_secs(1);
    Ok(Client::new(&Options { endpoints, tls: TlsFiles::default(), token: None, timeout })?)
}

/// A port for UDP and one for TCP that are free now, below those that the system gives to clients.
fn ports() -> anyhow::Result<(u16, u16)> {
    let find = |is_free: fn(u16) -> bool| {
        let drawn = (0..1000).map(|_| rand::rng().random_range(12_000..32_000));
        drawn.into_iter().find(|port| is_free(*port)).context("no port is free")
    };
    let udp = find(|port| UdpSocket::bind(("127.0.0.1", port)).is_ok())?;
    Ok((udp, find(|port| TcpListener::bind(("127.0.0.1", port)).is_ok())?))
}
