//! `konsen check` against clusters that keep their promise, and servers that do not.

use std::process::{Child, Command, Output, Stdio};
use std::time::Instant;

use serde_json::Value;
use tempfile::TempDir;

use crate::faulty_server::{Fault, FaultyServer};
use crate::harness::{Cluster, PATIENCE, free_ports, konsen};

/// `konsen check` with these arguments, in a folder of its own.
fn check(dir: &TempDir, endpoints: &str, arguments: &[&str]) -> Command {
    let mut command = konsen();
    command.current_dir(dir.path()).args(["check", "--endpoints", endpoints]).args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs it without holding up the test's own servers.
async fn run(command: Command) -> Output {
    let mut command = tokio::process::Command::from(command);
    command.kill_on_drop(true).output().await.unwrap()
}

fn endpoints(cluster: &Cluster) -> String {
    let urls: Vec<String> = (0..cluster.nodes.len()).map(|node| cluster.url(node, "")).collect();
    urls.join(",")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[track_caller]
fn json(output: &Output) -> Value {
    let parsed = serde_json::from_slice(&output.stdout);
    parsed.unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

/// How many keys there are, as all nodes of the cluster see it.
async fn keys(cluster: &Cluster) -> usize {
    let answer = cluster.http.get(cluster.url(0, "/v1/kv")).send().await.unwrap();
    let page: Value = answer.json().await.unwrap();
    page["items"].as_array().unwrap().len()
}

/// Waits until so many changes were made.
async fn changes(cluster: &Cluster, node: usize, more: u64) {
    let revision = async || {
        let status = cluster.status(node).await;
        status.and_then(|status| status["revision"].as_u64()).unwrap_or_default()
    };
    let (from, deadline) = (revision().await, Instant::now() + PATIENCE);
    while revision().await < from + more {
        assert!(Instant::now() < deadline, "nothing changes\n{}", cluster.logs());
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

/// A check under way; it does not outlive its test.
struct Running(Option<Child>);

impl Running {
    fn start(mut command: Command) -> Running {
        Running(Some(command.spawn().unwrap()))
    }

    fn interrupt(&self) {
        let process = self.0.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args(["-INT", &process]).status().unwrap().success());
    }

    async fn finish(mut self) -> Output {
        let child = self.0.take().unwrap();
        tokio::task::spawn_blocking(move || child.wait_with_output().unwrap()).await.unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_healthy_cluster_is_linearizable_and_left_as_it_was() {
    let cluster = Cluster::start(3).await;
    assert_eq!(cluster.put(0, "mine", "stays").await.unwrap(), 201);
    let dir = TempDir::new().unwrap();
    let arguments = ["--seconds", "3", "--history", "h.jsonl", "--seed", "7", "-o", "json"];
    let output = run(check(&dir, &endpoints(&cluster), &arguments)).await;
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    let live = json(&output);
    assert_eq!(live["linearizable"], true, "{live}");
    assert_eq!((&live["keys"], &live["seed"]), (&8.into(), &7.into()));
    assert_eq!(live["read_back"], true, "{live}");
    assert!(live["violation"].is_null() && live["seconds"].as_f64().unwrap() >= 3.0, "{live}");
    let number = |name: &str| live[name].as_u64().unwrap();
    assert!(number("reads") > 50 && number("writes") > 50, "{live}");
    // Both branches, or one of them is not tested.
    let (transactions, otherwise) = (number("transactions"), number("otherwise"));
    assert!(transactions > 30 && otherwise > 5 && transactions > otherwise + 5, "{live}");
    assert_eq!(
        number("reads") + number("writes") + number("unknown") + number("refused"),
        number("operations")
    );
    assert_eq!(keys(&cluster).await, 1);

    let judge = |arguments: &[&str]| {
        let output =
            konsen().current_dir(dir.path()).arg("check").args(arguments).output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        output
    };
    let kept = json(&judge(&["--judge", "h.jsonl", "-o", "json"]));
    for name in [
        "linearizable",
        "operations",
        "reads",
        "writes",
        "unknown",
        "transactions",
        "otherwise",
        "keys",
        "seed",
    ] {
        assert_eq!(kept[name], live[name], "{name}");
    }
    let shown = judge(&["--judge", "h.jsonl", "--show"]).stdout;
    let lines = text(&shown).lines().filter(|line| line.contains("  client ")).count();
    assert_eq!(lines as u64, number("operations"));
    assert!(text(&shown).contains("linearizable: yes"));

    // Its prefix has to be free, and --keep leaves the keys.
    let taken = run(check(&dir, &endpoints(&cluster), &["--prefix", "mi", "--seconds", "1"])).await;
    assert_eq!(taken.status.code(), Some(1));
    assert!(text(&taken.stderr).starts_with("error: there are keys that begin with mi"));
    let arguments =
        ["--prefix", "kept/", "--keep", "--seconds", "1", "--rate", "100", "-o", "json"];
    let slow = json(&run(check(&dir, &endpoints(&cluster), &arguments)).await);
    assert!(slow["operations"].as_u64().unwrap() < 220, "{slow}");
    assert!(keys(&cluster).await > 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_killed_in_the_middle_breaks_no_promise() {
    let mut cluster = Cluster::start(3).await;
    let dir = TempDir::new().unwrap();
    let arguments = ["--seconds", "8", "--timeout", "500ms", "-o", "json"];
    let running = Running::start(check(&dir, &endpoints(&cluster), &arguments));
    let leader = cluster.wait_leader().await;
    changes(&cluster, leader, 100).await;
    cluster.nodes[leader].kill();
    changes(&cluster, (leader + 1) % 3, 100).await;
    cluster.nodes[leader].start();
    let output = running.finish().await;
    assert!(output.status.success(), "{output:?}");
    let result = json(&output);
    assert_eq!(result["linearizable"], true, "{result}");
    // Those that keep to the killed node were refused.
    let count = |name: &str| result[name].as_u64().unwrap();
    assert!(count("refused") + count("fruitless") > 0, "{result}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interruption_ends_the_run_early_and_judges_what_was_seen() {
    let cluster = Cluster::start(1).await;
    let dir = TempDir::new().unwrap();
    let running = Running::start(check(&dir, &endpoints(&cluster), &["--seconds", "3000"]));
    changes(&cluster, 0, 100).await;
    running.interrupt();
    let output = running.finish().await;
    assert!(output.status.success(), "{output:?}");
    assert!(text(&output.stdout).contains("linearizable: yes"), "{output:?}");
    assert_eq!(keys(&cluster).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_in_memory_that_tells_the_truth_is_believed() {
    let server = FaultyServer::start(Fault::None).await;
    let dir = TempDir::new().unwrap();
    let output = run(check(&dir, &server.url, &["--seconds", "1", "-o", "raw"])).await;
    assert!(output.status.success(), "{output:?}");
    assert_eq!(text(&output.stdout), "yes\n");
    assert_eq!(server.keys(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_lie_is_found_and_named() {
    for (fault, rules) in [
        (Fault::Old, &["the revision went back"][..]),
        (Fault::Stale, &["nothing in between explains it"]),
        (Fault::Lost, &["nothing in between explains it", "there were"]),
        (Fault::Refused, &["a value that was refused", "nothing in between explains it"]),
        (Fault::Condition, &["nothing in between explains it", "no order of the calls"]),
        (Fault::Torn, &["nothing in between explains it", "there were", "was carried out as if"]),
        (Fault::Compare, &["nothing in between explains it", "as if all of its compares held"]),
        (Fault::Within, &["nothing in between explains it"]),
    ] {
        let server = FaultyServer::start(fault).await;
        let dir = TempDir::new().unwrap();
        let output = run(check(&dir, &server.url, &["--seconds", "1", "--rate", "2000"])).await;
        assert_eq!(output.status.code(), Some(1), "{fault:?}: {output:?}");
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        println!("{fault:?}:\n{out}\n{err}");
        assert!(err.starts_with("error: the store is not linearizable: "), "{err}");
        assert!(rules.iter().any(|rule| err.contains(rule)), "{fault:?}: {err}");
        assert!(out.contains("linearizable: no") && out.contains("  client "), "{out}");

        // It is kept although nobody asked for that, and judged the same.
        let file = err.rsplit(' ').next().unwrap().trim();
        assert!(dir.path().join(file).exists(), "{err}");
        let mut judge = konsen();
        let judge = judge.current_dir(dir.path()).args(["check", "--judge", file, "-o", "json"]);
        let again = judge.output().unwrap();
        assert_eq!(again.status.code(), Some(1), "{again:?}");
        let again = json(&again);
        assert_eq!(again["linearizable"], false);
        assert!(err.contains(again["violation"]["rule"].as_str().unwrap()), "{again}");
        assert!(!again["violation"]["calls"].as_array().unwrap().is_empty());
    }
}

#[tokio::test]
async fn a_cluster_that_is_not_there_is_unavailable() {
    let dir = TempDir::new().unwrap();
    let dead = format!("http://127.0.0.1:{}", free_ports(1)[0].1);
    let output = run(check(&dir, &dead, &["--seconds", "1"])).await;
    assert_eq!(output.status.code(), Some(5), "{output:?}");
    assert!(text(&output.stderr).starts_with("error: ") && output.stdout.is_empty());
}
