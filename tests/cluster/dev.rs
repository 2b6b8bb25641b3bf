//! `konsen dev`: three nodes under a supervisor, as a new user meets them.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::harness::{PATIENCE, client, konsen, wait};

/// Each takes the first ports that are free when it starts: one after the other.
static PORTS: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// A running `konsen dev`.
struct Dev {
    child: Child,
    lines: Receiver<String>,
    nodes: Vec<Listed>,
    /// Everything that was said before the nodes were, and with them.
    introduction: String,
}

/// A node as the introduction lists it.
#[derive(Clone, Debug)]
struct Listed {
    name: String,
    http: String,
    process: String,
    leads: bool,
}

impl Dev {
    fn start(dir: &Path) -> Dev {
        Dev::start_with(dir, &[])
    }

    fn start_with(dir: &Path, extra: &[&str]) -> Dev {
        let mut child = konsen()
            .args(["dev", "--dir"])
            .arg(dir)
            .args(extra)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, lines) = mpsc::channel();
        pass_on(child.stdout.take().unwrap(), sender.clone());
        pass_on(child.stderr.take().unwrap(), sender);
        let mut dev = Dev { child, lines, nodes: Vec::new(), introduction: String::new() };
        loop {
            let line = dev.line_with("");
            dev.introduction += &format!("{line}\n");
            let words: Vec<&str> = line.split_whitespace().collect();
            if let [name, http, "process", process, rest @ ..] = &words[..] {
                let [name, http, process] = [*name, *http, *process].map(str::to_owned);
                dev.nodes.push(Listed { name, http, process, leads: rest == ["leader"] });
            }
            if line.starts_with("Ctrl-C stops") {
                return dev;
            }
        }
    }

    /// The next line that contains the text.
    fn line_with(&self, text: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        let mut seen = String::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) if line.contains(text) => return line,
                Ok(line) => seen += &format!("{line}\n"),
                Err(error) => panic!("no '{text}' ({error}) in:\n{seen}"),
            }
        }
    }

    fn leader(&self) -> &Listed {
        let mut leaders = self.nodes.iter().filter(|node| node.leads);
        leaders.next().expect("the introduction says who leads")
    }

    /// Sends it a signal and waits for its end.
    fn end(&mut self, signal: &str) -> ExitStatus {
        kill(signal, &self.child.id().to_string());
        wait(&mut self.child, "konsen dev")
    }
}

/// No node outlives its supervisor, however a test ends.
impl Drop for Dev {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn pass_on(from: impl Read + Send + 'static, to: Sender<String>) {
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            if to.send(line).is_err() {
                return;
            }
        }
    });
}

fn kill(signal: &str, process: &str) -> bool {
    Command::new("kill").args([&format!("-{signal}"), process]).status().unwrap().success()
}

/// The process has ended, or does within the time of patience.
fn gone(process: &str) -> bool {
    let deadline = Instant::now() + PATIENCE;
    while Path::new("/proc").join(process).exists() {
        if Instant::now() > deadline {
            return false;
        }
        // It is nobody's child here: nothing tells of its end.
        std::thread::sleep(Duration::from_millis(10));
    }
    true
}

async fn put(node: &Listed, key: &str, value: &str) -> bool {
    let answer =
        client().put(format!("{}/v1/kv/{key}", node.http)).body(value.to_owned()).send().await;
    answer.is_ok_and(|answer| answer.status().is_success())
}

async fn get(node: &Listed, key: &str) -> Option<String> {
    let answer = client().get(format!("{}/v1/kv/{key}", node.http)).send().await.ok()?;
    if answer.status().is_success() { answer.text().await.ok() } else { None }
}

async fn until_it_has(node: &Listed, key: &str, value: &str) {
    let deadline = Instant::now() + PATIENCE;
    while get(node, key).await.as_deref() != Some(value) {
        assert!(Instant::now() < deadline, "{} does not have {key} = {value}", node.name);
        // A node that is just starting refuses connections: nothing to wait on but asking again.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_leader_is_brought_back_and_everything_is_there_again() {
    let _ports = PORTS.lock().await;
    let dir = TempDir::new().unwrap();
    let mut dev = Dev::start(dir.path());
    assert_eq!(dev.nodes.len(), 3);
    assert!(put(&dev.nodes[0], "greeting", "hello").await);
    assert_eq!(get(&dev.nodes[2], "greeting").await.as_deref(), Some("hello"));

    let leader = dev.leader().clone();
    assert!(kill("KILL", &leader.process));
    dev.line_with(&format!("{} | started again as process", leader.name));
    let other = dev.nodes.iter().find(|node| !node.leads).unwrap();
    let deadline = Instant::now() + PATIENCE;
    while !put(other, "after", "the kill").await {
        assert!(Instant::now() < deadline, "no write is taken after the leader was killed");
    }
    until_it_has(&leader, "after", "the kill").await;

    let status = dev.end("INT");
    assert_eq!(status.code(), Some(0));
    dev.line_with("stopped; the data stays in");

    // What somebody adds to the configuration stays.
    let [common, own] = ["cluster.yml", "node1/cluster.yml"].map(|file| dir.path().join(file));
    for (file, added) in [(&common, "limits: {value: 4MiB}\n"), (&own, "# Mine.\n")] {
        let text = std::fs::read_to_string(file).unwrap();
        std::fs::write(file, format!("{added}{text}")).unwrap();
    }

    let dev = Dev::start(dir.path());
    for node in &dev.nodes {
        until_it_has(node, "greeting", "hello").await;
        until_it_has(node, "after", "the kill").await;
    }
    let text = |file: &Path| std::fs::read_to_string(file).unwrap();
    assert!(text(&common).starts_with("limits: {value: 4MiB}\n"));
    assert!(text(&own).starts_with("# Mine.\n"));
    assert!(text(&dir.path().join("node2/cluster.yml")).contains("\n  value: 4MiB\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_end_with_their_supervisor_even_if_it_is_killed() {
    let _ports = PORTS.lock().await;
    let dir = TempDir::new().unwrap();
    let mut dev = Dev::start(dir.path());
    assert!(put(&dev.nodes[1], "key", "value").await);
    dev.end("KILL");
    for node in &dev.nodes {
        assert!(gone(&node.process), "{} lives on", node.name);
    }
    let dev = Dev::start(dir.path());
    assert_eq!(get(&dev.nodes[0], "key").await.as_deref(), Some("value"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_serve_is_not_said_to_be_up() {
    let _ports = PORTS.lock().await;
    let dir = TempDir::new().unwrap();
    let mut dev = Dev::start(dir.path());
    assert!(put(&dev.nodes[1], "key", "value").await);
    assert_eq!(dev.end("INT").code(), Some(0));
    // It is not let back in under its old name.
    std::fs::remove_dir_all(dir.path().join("node1/data")).unwrap();
    let dev = Dev::start(dir.path());
    assert!(dev.introduction.contains("2 of 3 nodes are up"), "{}", dev.introduction);
    assert!(dev.introduction.contains("does not serve"), "{}", dev.introduction);
    assert!(!dev.introduction.contains(&format!("{}/v1", dev.nodes[0].http)));
    assert_eq!(get(&dev.nodes[1], "key").await.as_deref(), Some("value"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_nodes_go_on_when_nobody_reads_what_their_supervisor_says() {
    let _ports = PORTS.lock().await;
    let dir = TempDir::new().unwrap();
    let mut dev = Dev::start(dir.path());
    // As `head` does when it has had enough.
    dev.lines = mpsc::channel().1;
    assert!(put(&dev.nodes[0], "a", "1").await);
    // Each makes nodes and supervisor say something, at which the readers go.
    for _ in 0..2 {
        let victim = dev.nodes[1].clone();
        assert!(kill("KILL", &child_of(&dev, &victim)));
        until_it_has(&victim, "a", "1").await;
    }
    for node in &dev.nodes {
        until_it_has(node, "a", "1").await;
    }
    assert_eq!(dev.end("INT").code(), Some(0));
}

/// The process that runs a node now.
fn child_of(dev: &Dev, node: &Listed) -> String {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let pids = std::fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
        for process in pids {
            let home = std::fs::read_link(process.join("cwd")).unwrap_or_default();
            let parent = std::fs::read_to_string(process.join("stat")).unwrap_or_default();
            // The name in parentheses, the state, and the parent.
            let parent = parent.rsplit(')').next().unwrap().split_whitespace().nth(1);
            let own = parent.is_some_and(|parent| *parent == dev.child.id().to_string());
            if own && home.ends_with(&node.name) {
                return process.file_name().unwrap().to_string_lossy().into_owned();
            }
        }
        assert!(Instant::now() < deadline, "{} has no process", node.name);
        // Its supervisor pauses before it starts it again.
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_tls_the_lines_that_are_printed_work_and_nothing_else_does() {
    let _ports = PORTS.lock().await;
    let dir = TempDir::new().unwrap();
    let mut dev = Dev::start_with(dir.path(), &["--tls"]);
    let shell = |line: &str| {
        let program = Path::new(env!("CARGO_BIN_EXE_konsen")).parent().unwrap();
        let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap_or_default());
        let mut shell = Command::new("sh");
        shell.env_clear().env("PATH", path).args(["-ec", line]).output().unwrap()
    };
    let lines = dev.introduction.lines().map(str::trim);
    let tried: Vec<&str> = lines.skip_while(|line| *line != "Try:").skip(1).collect();
    let curl: Vec<&&str> = tried.iter().filter(|line| line.starts_with("curl ")).collect();
    assert_eq!(curl.len(), 2, "{}", dev.introduction);
    for line in &curl {
        let output = shell(&format!("{line} -fsS"));
        assert!(output.status.success(), "{line}: {output:?}");
    }
    let konsen: Vec<&str> = tried
        .iter()
        .copied()
        .filter(|line| line.contains("konsen ") || line.starts_with("export "))
        .collect();
    let output = shell(&konsen[..2].join("\n"));
    assert_eq!(output.stdout, b"hello", "{konsen:?}: {output:?}");
    // Who does not know the authority trusts nobody.
    assert!(get(&dev.nodes[0], "greeting").await.is_none());
    assert!(dev.end("INT").success());
    // What was made is found again, also where it is not asked for.
    let mut dev = Dev::start(dir.path());
    assert!(dev.introduction.contains("https://127.0.0.1:"), "{}", dev.introduction);
    assert!(dev.end("INT").success());
}
