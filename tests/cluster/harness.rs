//! A cluster of real processes: the built binary, real certificates, real disks, loopback.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rand::RngExt;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use serde_json::Value;
use tempfile::TempDir;

/// How long anything may take before a test gives up on it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The binary under test.
pub(crate) fn konsen() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_konsen"));
    command.env_clear().env("PATH", std::env::var("PATH").unwrap_or_default());
    command
}

/// Waits for a process to end by itself; kills it if it does not.
pub(crate) fn wait(child: &mut Child, name: &str) -> ExitStatus {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if Instant::now() >= deadline {
            let _ = child.kill();
            let _ = child.wait();
            panic!("{name} did not end in time");
        }
        // The standard library waits for ever or not at all.
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A client without proxies, with a deadline a request.
pub(crate) fn client() -> reqwest::Client {
    client_of(HeaderMap::new())
}

/// The same, which shows a token.
pub(crate) fn client_with(token: &str) -> reqwest::Client {
    let shown = HeaderValue::try_from(format!("Bearer {token}")).unwrap();
    client_of(HeaderMap::from_iter([(AUTHORIZATION, shown)]))
}

fn client_of(headers: HeaderMap) -> reqwest::Client {
    // Plain HTTP here; the builder wants a provider all the same. A second install is refused, harmlessly.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let client = reqwest::Client::builder().no_proxy().default_headers(headers);
    client.timeout(Duration::from_secs(8)).build().unwrap()
}

/// Nodes `node1`, `node2`, … each with its folder as `cluster build` made it.
pub(crate) struct Cluster {
    /// Goes with the cluster.
    pub(crate) dir: TempDir,
    pub(crate) nodes: Vec<Node>,
    pub(crate) http: reqwest::Client,
}

pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) home: PathBuf,
    pub(crate) host: String,
    pub(crate) raft_port: u16,
    pub(crate) http_port: u16,
    /// A command that the node is started by: `strace`, `ip netns exec`. It has to become the node, or to
    /// end with it.
    pub(crate) wrapper: Vec<String>,
    /// The binary, where it is not the one under test.
    pub(crate) program: Option<PathBuf>,
    /// What the node finds in its environment.
    pub(crate) env: Vec<(String, String)>,
    child: Option<Child>,
    /// How long the log was when the process was started.
    log_before: usize,
}

/// Where a node listens.
pub(crate) struct Place {
    pub(crate) host: String,
    pub(crate) raft_port: u16,
    pub(crate) http_port: u16,
}

impl Cluster {
    /// Builds the folders, starts nothing. `extra` is appended to cluster.yml; HTTP is plain unless it says `http:`.
    pub(crate) fn build(size: usize, extra: &str) -> Cluster {
        let place =
            |(raft_port, http_port)| Place { host: "127.0.0.1".into(), raft_port, http_port };
        Cluster::build_at(free_ports(size).into_iter().map(place).collect(), extra)
    }

    /// As `build`, a node a place.
    pub(crate) fn build_at(places: Vec<Place>, extra: &str) -> Cluster {
        let dir = TempDir::new().unwrap();
        let mut yml = String::from("servers:\n");
        for (at, place) in places.iter().enumerate() {
            yml += &format!("  node{}: '{}:{}'\n", at + 1, place.host, place.raft_port);
        }
        yml += "httpServers:\n";
        for (at, place) in places.iter().enumerate() {
            yml += &format!("  node{}: '{}:{}'\n", at + 1, place.host, place.http_port);
        }
        yml += "localServerName: node1\n";
        yml += extra;
        // Plain HTTP is for who asks for it; tests of HTTPS do not.
        if !extra.lines().any(|line| line.starts_with("http:")) {
            yml += "http: {tls: false}\n";
        }
        fs::write(dir.path().join("cluster.yml"), yml).unwrap();
        let built = konsen()
            .current_dir(dir.path())
            .args(["cluster", "build", "--config", "cluster.yml", "--out", "output"])
            .output()
            .unwrap();
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        let nodes = places.into_iter().enumerate().map(|(at, place)| {
            let name = format!("node{}", at + 1);
            let home = dir.path().join("output").join(&name);
            Node { host: place.host, ..Node::at(&name, home, place.raft_port, place.http_port) }
        });
        Cluster { nodes: nodes.collect(), dir, http: client() }
    }

    /// Builds and starts all, and waits until there is a leader.
    pub(crate) async fn start(size: usize) -> Cluster {
        Cluster::start_configured(size, "").await
    }

    /// As `start`, with `extra` appended to cluster.yml.
    pub(crate) async fn start_configured(size: usize, extra: &str) -> Cluster {
        let mut cluster = Cluster::build(size, extra);
        for node in &mut cluster.nodes {
            node.start();
        }
        cluster.wait_ready_all().await;
        cluster
    }

    pub(crate) fn url(&self, node: usize, path: &str) -> String {
        self.nodes[node].url(path)
    }

    pub(crate) async fn put(&self, node: usize, key: &str, value: &str) -> reqwest::Result<u16> {
        let url = self.url(node, &format!("/v1/kv/{key}"));
        Ok(self.http.put(url).body(value.to_owned()).send().await?.status().as_u16())
    }

    /// The value, or none where there is no such key; any other answer is an error.
    pub(crate) async fn get(&self, node: usize, key: &str) -> Result<Option<String>, String> {
        self.get_as(node, key, "linearizable").await
    }

    /// As `get`, with that consistency.
    pub(crate) async fn get_as(
        &self,
        node: usize,
        key: &str,
        consistency: &str,
    ) -> Result<Option<String>, String> {
        let url = self.url(node, &format!("/v1/kv/{key}?consistency={consistency}"));
        let answer = self.http.get(url).send().await.map_err(|error| error.to_string())?;
        match answer.status().as_u16() {
            200 => Ok(Some(answer.text().await.map_err(|error| error.to_string())?)),
            404 => Ok(None),
            status => Err(format!("{status}: {}", answer.text().await.unwrap_or_default())),
        }
    }

    pub(crate) async fn status(&self, node: usize) -> Option<Value> {
        let answer = self.http.get(self.url(node, "/v1/status")).send().await.ok()?;
        answer.json().await.ok()
    }

    /// The node that leads, as those that run say, once they agree.
    pub(crate) async fn wait_leader(&self) -> usize {
        let deadline = Instant::now() + PATIENCE;
        loop {
            for node in 0..self.nodes.len() {
                if !self.nodes[node].runs() {
                    continue;
                }
                let status = self.status(node).await;
                if status.is_some_and(|status| status["role"] == "leader") {
                    return node;
                }
            }
            assert!(Instant::now() < deadline, "no leader\n{}", self.logs());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) async fn wait_ready(&self, node: usize) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = self.http.get(self.url(node, "/readyz")).send().await;
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                return;
            }
            assert!(Instant::now() < deadline, "node{} is not ready\n{}", node + 1, self.logs());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) async fn wait_ready_all(&self) {
        for node in 0..self.nodes.len() {
            self.wait_ready(node).await;
        }
    }

    /// The last lines of every node's log, for a failing test.
    pub(crate) fn logs(&self) -> String {
        let mut all = String::new();
        for node in &self.nodes {
            let text = fs::read_to_string(node.home.join("log.txt")).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            let from = lines.len().saturating_sub(30);
            all += &format!("--- {}\n{}\n", node.name, lines[from..].join("\n"));
        }
        all
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            node.kill();
        }
    }
}

impl Node {
    /// A node on loopback, in its folder; it does not run.
    pub(crate) fn at(name: &str, home: PathBuf, raft_port: u16, http_port: u16) -> Node {
        Node {
            name: name.to_owned(),
            home,
            host: "127.0.0.1".to_owned(),
            raft_port,
            http_port,
            wrapper: Vec::new(),
            program: None,
            env: Vec::new(),
            child: None,
            log_before: 0,
        }
    }

    /// Starts the process; its log goes to `log.txt` in its folder.
    pub(crate) fn start(&mut self) {
        self.start_with(&[]);
    }

    pub(crate) fn start_with(&mut self, extra: &[&str]) {
        assert!(!self.runs(), "{} runs already", self.name);
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.home.join("log.txt"))
            .unwrap();
        self.log_before = self.log().len();
        let serve = konsen();
        let program = self.program.as_ref().map_or(serve.get_program(), |other| other.as_os_str());
        let words = self.wrapper.iter().map(OsStr::new).chain([program]);
        let words: Vec<&OsStr> = words.collect();
        let child = Command::new(words[0])
            .args(&words[1..])
            .env_clear()
            .envs(serve.get_envs().filter_map(|(name, value)| Some((name, value?))))
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .current_dir(&self.home)
            .args(["serve", "--config", "cluster.yml"])
            .args(extra)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.child = Some(child);
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}:{}{path}", self.host, self.http_port)
    }

    pub(crate) fn runs(&self) -> bool {
        self.child.is_some()
    }

    /// How the process ended, if it has by itself; it can be started again then.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        let status = self.child.as_mut()?.try_wait().unwrap()?;
        self.child = None;
        Some(status)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().expect("runs").id()
    }

    /// `kill -9`, if it runs.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Sends a signal by name.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.pid().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &pid]).status().unwrap().success());
    }

    /// Asks it to stop and waits for it.
    pub(crate) fn terminate(&mut self) -> ExitStatus {
        self.signal("TERM");
        self.wait()
    }

    /// Waits for the process to end by itself.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        wait(&mut self.child.take().expect("runs"), &self.name)
    }

    /// Whether the process that was started last has said that it serves.
    pub(crate) fn has_served(&self) -> bool {
        self.log().get(self.log_before..).is_none_or(|log| log.contains("serving node="))
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.home.join("log.txt")).unwrap_or_default()
    }
}

/// Ports that nobody listens on now, for UDP and for TCP; each is given once. They lie below those that the system
/// gives to clients, of which one could take a port before its node does.
pub(crate) fn free_ports(count: usize) -> Vec<(u16, u16)> {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    let mut given = GIVEN.lock().unwrap();
    let mut random = rand::rng();
    let mut one = |is_free: fn(u16) -> bool| loop {
        let port = random.random_range(12_000..32_000);
        if is_free(port) && given.insert(port) {
            return port;
        }
    };
    let udp = |port| UdpSocket::bind(("127.0.0.1", port)).is_ok();
    let tcp = |port| TcpListener::bind(("127.0.0.1", port)).is_ok();
    (0..count).map(|_| (one(udp), one(tcp))).collect()
}
