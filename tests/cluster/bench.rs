//! `konsen bench` against clusters, and against nobody.

use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::{Cluster, PATIENCE, free_ports, konsen};

fn bench(endpoints: &str, arguments: &str) -> Command {
    let mut command = konsen();
    command.args(["bench", "--endpoints", endpoints]).args(arguments.split_whitespace());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs it without holding up the test's own tasks.
async fn run(endpoints: &str, arguments: &str) -> Output {
    let mut command = tokio::process::Command::from(bench(endpoints, arguments));
    command.kill_on_drop(true).output().await.unwrap()
}

/// What it printed in JSON, of a run that succeeded and said nothing else.
#[track_caller]
fn json(output: &Output) -> Value {
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[track_caller]
fn number(report: &Value, name: &str) -> u64 {
    let found = report.pointer(&format!("/{name}")).and_then(Value::as_u64);
    found.unwrap_or_else(|| panic!("{name}: {report}"))
}

/// What has to hold of every run.
#[track_caller]
fn adds_up(report: &Value) {
    let all = ["succeeded", "refused", "failed", "unknown"].map(|name| number(report, name));
    assert_eq!(all.iter().sum::<u64>(), number(report, "operations"), "{report}");
    let kinds = ["reads", "writes"].map(|name| report[name]["operations"].as_u64());
    assert_eq!(kinds.into_iter().flatten().sum::<u64>(), number(report, "operations"), "{report}");
    let errors = report["errors"].as_object().unwrap().values().map(|n| n.as_u64().unwrap());
    assert_eq!(errors.sum::<u64>(), all[1..].iter().sum::<u64>(), "{report}");
    let latencies = ["p50", "p90", "p99", "p99_9", "max"];
    let latencies = latencies.map(|name| number(report, &format!("latency_us/{name}")));
    assert!(latencies.is_sorted() && latencies[0] > 0, "{report}");
    let rate = report["succeeded"].as_f64().unwrap() / report["seconds"].as_f64().unwrap();
    let told = report["operations_per_second"].as_f64().unwrap();
    // The seconds are rounded, and may be few.
    assert!((rate - told).abs() <= 0.1 * rate, "{report}");
}

fn endpoints(cluster: &Cluster) -> String {
    let urls: Vec<String> = (0..cluster.nodes.len()).map(|node| cluster.url(node, "")).collect();
    urls.join(",")
}

/// The store's revision, as a read that is linearizable finds it.
async fn revision(cluster: &Cluster) -> u64 {
    let answer = cluster.http.get(cluster.url(0, "/v1/kv?limit=1")).send().await.unwrap();
    let page: Value = answer.json().await.unwrap();
    page["revision"].as_u64().unwrap()
}

/// The keys that begin so.
async fn keys(cluster: &Cluster, prefix: &str) -> Vec<String> {
    let url = cluster.url(0, &format!("/v1/kv?prefix={prefix}"));
    let page: Value = cluster.http.get(url).send().await.unwrap().json().await.unwrap();
    let items = page["items"].as_array().unwrap().iter();
    items.map(|item| item["key"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_counted_is_what_the_cluster_has() {
    let cluster = Cluster::start(3).await;
    let all = endpoints(&cluster);
    let mut before = revision(&cluster).await;
    let mut written = async |report: &Value| {
        let now = revision(&cluster).await;
        assert_eq!(number(report, "written_unknown"), 0, "{report}");
        assert_eq!(number(report, "written"), now - before, "{report}");
        before = now;
    };

    let arguments = "put --duration 2s --warmup 1s --connections 8 --keys 50 --seed 7 -o json";
    let report = json(&run(&all, arguments).await);
    adds_up(&report);
    written(&report).await;
    assert!(number(&report, "succeeded") > 50 && report["reads"].is_null(), "{report}");
    assert!(number(&report, "written") > number(&report, "succeeded"), "{report}");
    assert_eq!((number(&report, "seed"), number(&report, "servers/nodes")), (7, 3));
    // The nodes are processes of this machine and this user.
    for field in ["cpu_us_per_operation", "written_bytes_per_operation"] {
        assert!(report["servers"][field].as_f64().unwrap() > 0.0, "{report}");
    }
    assert_eq!(keys(&cluster, "konsen-bench/").await.len(), 50);

    // Of an open loop every request that was due is accounted for.
    let arguments = "mixed --reads 50 --rate 150 --duration 2s --warmup 0s --connections 6 --threads 2 \
                     --keys 60 --distribution zipf --prefix zipf. -o json";
    let report = json(&run(&all, arguments).await);
    adds_up(&report);
    written(&report).await;
    assert_eq!(number(&report, "operations") + number(&report, "unsent"), 300, "{report}");
    assert_eq!(number(&report, "absent"), 0, "the keys were set before: {report}");
    assert_eq!(number(&report, "written"), 60 + number(&report, "writes/succeeded"));

    // None of these keys was set; nothing is written.
    let arguments = "get --duration 1s --warmup 0s --connections 3 --no-fill --prefix none/ \
                     --consistency stale -o json";
    let report = json(&run(&all, arguments).await);
    adds_up(&report);
    written(&report).await;
    assert_eq!(number(&report, "absent"), number(&report, "succeeded"), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_its_own_keys_are_touched() {
    let cluster = Cluster::start(1).await;
    for key in ["konsen-bench/mine", "konsen-bench/1", "mine"] {
        assert_eq!(cluster.put(0, key, "stays").await.unwrap(), 201);
    }
    let arguments = "list --range 10 --keys 40 --duration 1s --warmup 0s --connections 2 --cleanup";
    let output = run(&endpoints(&cluster), arguments).await;
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with("load ") && text.contains("list of 10 keys, 40 keys"), "{text}");
    assert!(text.contains("\nLATENCY, ms") && text.contains("\nreads "), "{text}");
    let mut left = keys(&cluster, "konsen-bench/").await;
    left.extend(keys(&cluster, "mine").await);
    assert_eq!(left, ["konsen-bench/1", "konsen-bench/mine", "mine"]);
    // Nothing can be told of what was never written.
    let raw = run(&endpoints(&cluster), "put --duration 1s --connections 1 -o raw").await;
    let text = String::from_utf8(raw.stdout).unwrap();
    assert!(text.trim_end().parse::<f64>().unwrap() > 0.0, "{text}");
}

/// A run under way; it does not outlive its test.
struct Running(Option<Child>);

impl Running {
    fn start(endpoints: &str, arguments: &str) -> Running {
        Running(Some(bench(endpoints, arguments).spawn().unwrap()))
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

/// Waits until so much more was written.
async fn writes(cluster: &Cluster, more: u64) {
    let (from, deadline) = (revision(cluster).await, Instant::now() + PATIENCE);
    while revision(cluster).await < from + more {
        assert!(Instant::now() < deadline, "nothing is written\n{}", cluster.logs());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interruption_tells_what_was_measured_so_far() {
    let cluster = Cluster::start(1).await;
    for arguments in
        ["put --duration 3000s --warmup 0s", "put --duration 3000s --warmup 0s --rate 100"]
    {
        let running = Running::start(&cluster.url(0, ""), &format!("{arguments} -o json"));
        writes(&cluster, 50).await;
        let asked = Instant::now();
        running.interrupt();
        let output = running.finish().await;
        assert!(asked.elapsed() < Duration::from_secs(10), "{arguments}");
        assert_eq!(output.status.code(), Some(130), "{output:?}");
        assert!(output.stderr.starts_with(b"error: interrupted"), "{output:?}");
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        adds_up(&report);
        assert_eq!(report["interrupted"], true, "{report}");
        assert!(number(&report, "succeeded") >= 45, "{report}");
    }
    let early = Running::start(&cluster.url(0, ""), "put --duration 3000s --warmup 3000s");
    writes(&cluster, 50).await;
    early.interrupt();
    let output = early.finish().await;
    assert_eq!(output.status.code(), Some(130), "{output:?}");
    assert_eq!(output.stderr, b"error: interrupted; nothing was measured\n");
    assert!(output.stdout.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_dies_meanwhile_is_counted_and_not_hidden() {
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.wait_leader().await;
    let follower = (leader + 1) % 3;
    let both = format!("{},{}", cluster.url(leader, ""), cluster.url(follower, ""));
    let running =
        Running::start(&both, "put --duration 4s --warmup 0s --connections 4 --timeout 2s -o json");
    writes(&cluster, 50).await;
    cluster.nodes[follower].kill();
    let output = running.finish().await;
    assert!(output.status.success(), "{output:?}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    adds_up(&report);
    assert!(number(&report, "errors/connect") > 0, "{report}");
    assert_eq!(number(&report, "errors/connect"), number(&report, "failed"), "{report}");
    // What was on its way to it may have been written.
    assert!(number(&report, "unknown") <= 2, "{report}");
    assert!(report["servers"]["unknown_because"].as_str().unwrap().contains("ended"), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn https_is_measured_with_the_certificates_of_every_other_command() {
    let mut cluster = Cluster::build(1, "http: {tls: true, clientAuth: required}\n");
    let dir = cluster.dir.path().to_path_buf();
    let made =
        konsen().current_dir(&dir).args(["cert", "client", "--name", "admin"]).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    cluster.nodes[0].start();
    let deadline = Instant::now() + PATIENCE;
    while !cluster.nodes[0].has_served() {
        assert!(Instant::now() < deadline, "{}", cluster.logs());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let url = cluster.url(0, "").replace("http://", "https://");
    let files = "--cacert certs/ca.crt --cert certs/admin.crt --key certs/admin.key";
    let arguments =
        format!("mixed --reads 50 --keys 20 --connections 3 --duration 1s -o json {files}");
    let mut command = tokio::process::Command::from(bench(&url, &arguments));
    let report = json(&command.current_dir(&dir).kill_on_drop(true).output().await.unwrap());
    adds_up(&report);
    assert!(number(&report, "succeeded") > 10, "{report}");
    assert_eq!(number(&report, "succeeded"), number(&report, "operations"), "{report}");
    let nobody = run(&url, "put --duration 1s").await;
    assert_eq!(nobody.status.code(), Some(7), "{nobody:?}");
}

#[tokio::test]
async fn an_endpoint_that_is_not_there_is_unavailable() {
    let cluster = Cluster::start(1).await;
    let dead = format!("http://127.0.0.1:{}", free_ports(1)[0].1);
    for endpoints in [dead.clone(), format!("{},{dead}", cluster.url(0, ""))] {
        let output = run(&endpoints, "put --duration 1s").await;
        assert_eq!(output.status.code(), Some(5), "{output:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(
            said.starts_with(&format!("error: {dead}")) && said.contains("hint: are the nodes"),
            "{said}"
        );
        assert!(output.stdout.is_empty());
    }
    let output = run(&cluster.url(0, ""), "put --value 2MiB --duration 1s --connections 1").await;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("no operation succeeded: 413"), "{said}");
}
