//! `GET /metrics`: the text form, what agrees with what was done, and who gets it when nobody else gets anything.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::harness::{Cluster, PATIENCE};

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The samples of a page: name and labels as they stand there, and the value.
type Samples = BTreeMap<String, f64>;

/// Reads a page, and panics if it is none of OpenMetrics 1.0.
fn parse(page: &str) -> Samples {
    let lines = page.strip_suffix("# EOF\n").expect("the end");
    assert!(!lines.contains("# EOF"), "it ends once");
    let (mut samples, mut families) = (Samples::new(), BTreeSet::new());
    let (mut family, mut kind) = (String::new(), String::new());
    for line in lines.lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            let mut words = comment.splitn(3, ' ');
            let (what, name, rest) =
                (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
            match what {
                "HELP" => {
                    assert!(families.insert(name.to_owned()), "{name} comes twice");
                    family = name.to_owned();
                }
                "TYPE" => kind = rest.to_owned(),
                "UNIT" => assert!(name.ends_with(&format!("_{rest}")), "{line}"),
                _ => panic!("{line}"),
            }
            assert_eq!(name, family);
            continue;
        }
        let (name, value) = line.rsplit_once(' ').unwrap();
        let bare = name.split('{').next().unwrap();
        let suffixes: &[&str] = match kind.as_str() {
            "counter" => &["_total"],
            "histogram" => &["_bucket", "_count", "_sum"],
            "info" => &["_info"],
            "gauge" => &[""],
            other => panic!("{other}"),
        };
        let suffix = bare.strip_prefix(family.as_str()).unwrap_or_else(|| panic!("{line}"));
        assert!(suffixes.contains(&suffix), "{line}");
        assert!(bare.starts_with("konsen_"), "{line}");
        let value: f64 = value.parse().unwrap();
        assert!(samples.insert(name.to_owned(), value).is_none(), "{name} comes twice");
    }
    samples
}

async fn scrape(cluster: &Cluster, node: usize) -> Samples {
    let answer = cluster.http.get(cluster.url(node, "/metrics")).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["content-type"], OPENMETRICS);
    parse(&answer.text().await.unwrap())
}

/// Scrapes a node until what it shows is as wanted, and returns that page.
async fn scrape_until(
    cluster: &Cluster,
    node: usize,
    wanted: impl Fn(&Samples) -> bool,
) -> Samples {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let page = scrape(cluster, node).await;
        if wanted(&page) {
            return page;
        }
        assert!(Instant::now() < deadline, "{page:#?}\n{}", cluster.logs());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// What is the same in each page, whatever was done.
fn check_bounds(page: &Samples, node: &str, cluster: &Cluster) {
    for (name, value) in page {
        assert!(*value >= 0.0, "{name} {value}");
    }
    assert!(page.len() < 600, "{} samples", page.len());
    for peer in cluster.nodes.iter().filter(|peer| peer.name != node) {
        let of = |what: &str| page[&format!("konsen_peer_{what}{{peer=\"{}\"}}", peer.name)];
        assert_eq!(of("connected"), 1.0);
        assert!(of("mtu_bytes") >= 1200.0);
        assert!(of("rtt_seconds") < 5.0);
        assert!(of("sent_bytes_total") > 0.0 && of("received_bytes_total") > 0.0);
    }
    assert!(!page.contains_key(&format!("konsen_peer_connected{{peer=\"{node}\"}}")));
    for name in [
        "konsen_process_resident_memory_bytes",
        "konsen_process_open_fds",
        "konsen_process_cpu_seconds_total",
        "konsen_file_bytes{file=\"log\"}",
        "konsen_file_bytes{file=\"state\"}",
        "konsen_disk_free_bytes",
        "konsen_certificate_end_timestamp_seconds{certificate=\"authority\"}",
        "konsen_voters",
        "konsen_healthy",
    ] {
        assert!(page.get(name).is_some_and(|value| *value > 0.0), "{name}");
    }
    let day = 24.0 * 3600.0;
    let end = page["konsen_certificate_end_timestamp_seconds{certificate=\"node\"}"];
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    assert!((end - now.as_secs_f64() - 365.0 * day).abs() < 2.0 * day, "{end}");
}

#[tokio::test(flavor = "multi_thread")]
async fn counters_grow_by_what_was_done() {
    const PUTS: u32 = 50;
    const GETS: u32 = 20;
    let cluster = Cluster::start(3).await;
    let leader = cluster.wait_leader().await;
    let follower = (leader + 1) % 3;
    let mut before = Vec::new();
    for node in 0..3 {
        // Followers need no connection to each other to serve, so it may come later.
        let connected = |page: &Samples| {
            let peers = page.iter().filter(|(name, _)| name.starts_with("konsen_peer_connected"));
            peers.filter(|(_, value)| **value == 1.0).count() == 2
        };
        scrape_until(&cluster, node, connected).await;
    }
    for node in 0..3 {
        let page = scrape(&cluster, node).await;
        check_bounds(&page, &cluster.nodes[node].name, &cluster);
        assert_eq!(page["konsen_is_leader"], f64::from(u8::from(node == leader)));
        assert_eq!((page["konsen_has_leader"], page["konsen_voters"]), (1.0, 3.0));
        before.push(page);
    }
    for number in 0..PUTS {
        assert_eq!(cluster.put(leader, &format!("k{number}"), "value").await.unwrap(), 201);
    }
    for number in 0..GETS {
        assert!(cluster.get(follower, &format!("k{number}")).await.unwrap().is_some());
        let url = cluster.url(follower, &format!("/v1/kv/none{number}"));
        assert_eq!(cluster.http.get(url).send().await.unwrap().status(), 404);
    }
    let grown = |node: usize, after: &Samples, name: &str| {
        after[name] - before[node].get(name).unwrap_or_else(|| panic!("no {name}"))
    };
    let page = scrape(&cluster, leader).await;
    let ok = "konsen_http_requests_total{route=\"kv\",status=\"2xx\"}";
    assert_eq!(grown(leader, &page, ok), f64::from(PUTS));
    let timed = "konsen_http_request_duration_seconds_count{route=\"kv\"}";
    assert_eq!(grown(leader, &page, timed), f64::from(PUTS));
    let scrapes = "konsen_http_requests_total{route=\"metrics\",status=\"2xx\"}";
    assert_eq!(grown(leader, &page, scrapes), 1.0, "the first one");
    for index in ["commit", "applied", "last_log"] {
        let name = format!("konsen_{index}_index");
        assert!(grown(leader, &page, &name) >= f64::from(PUTS), "{name}");
    }
    assert_eq!(grown(leader, &page, "konsen_revision"), f64::from(PUTS));
    let commits = grown(leader, &page, "konsen_log_commit_duration_seconds_count");
    let writes = grown(leader, &page, "konsen_log_commit_writes_sum");
    assert!(commits >= 1.0 && commits <= writes, "{commits} {writes}");
    assert!(writes >= f64::from(PUTS), "one after the other, each is a write of its own");
    assert!(grown(leader, &page, "konsen_log_commit_bytes_sum") >= f64::from(PUTS) * 5.0);
    let applied = grown(leader, &page, "konsen_apply_duration_seconds_count");
    assert!(applied >= f64::from(PUTS), "{applied}");
    assert!(grown(leader, &page, "konsen_apply_duration_seconds_sum") > 0.0);
    // One after the other, each read of the follower's is a question of its own, and a round.
    let rounds = grown(leader, &page, "konsen_read_rounds_started_total");
    assert!(rounds >= f64::from(2 * GETS), "{rounds}");
    assert!(grown(leader, &page, "konsen_read_rounds_confirmed_total") >= f64::from(2 * GETS));
    for what in ["count", "sum"] {
        assert!(grown(leader, &page, &format!("konsen_read_round_readers_{what}")) >= rounds);
    }
    let peer = format!("konsen_peer_sent_bytes_total{{peer=\"{}\"}}", cluster.nodes[follower].name);
    assert!(grown(leader, &page, &peer) > f64::from(PUTS) * 5.0);
    let matched = format!("konsen_peer_matched_index{{peer=\"{}\"}}", cluster.nodes[follower].name);
    assert!(page[&matched] >= f64::from(PUTS));

    let page = scrape(&cluster, follower).await;
    assert_eq!(grown(follower, &page, ok), f64::from(GETS));
    let missing = "konsen_http_requests_total{route=\"kv\",status=\"4xx\"}";
    assert_eq!(grown(follower, &page, missing), f64::from(GETS));
    assert_eq!(grown(follower, &page, "konsen_read_batch_reads_sum"), f64::from(2 * GETS));
    assert_eq!(grown(follower, &page, "konsen_leaderships_total"), 0.0);
    assert_eq!(grown(follower, &page, "konsen_read_rounds_started_total"), 0.0);
    check_bounds(&page, &cluster.nodes[follower].name, &cluster);
}

#[tokio::test(flavor = "multi_thread")]
async fn elections_peers_and_refusals_are_seen() {
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.wait_leader().await;
    let one = (leader + 1) % 3;
    let before = scrape(&cluster, one).await;
    cluster.nodes[leader].kill();
    let lost = format!("konsen_peer_connected{{peer=\"{}\"}}", cluster.nodes[leader].name);
    let deadline = Instant::now() + PATIENCE;
    let after = loop {
        let page = scrape(&cluster, one).await;
        let changes = "konsen_leader_changes_total";
        if page[changes] > before[changes] && page[&lost] == 0.0 {
            break page;
        }
        assert!(Instant::now() < deadline, "{page:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert!(after["konsen_term"] > before["konsen_term"]);
    let won = after["konsen_leaderships_total"] - before["konsen_leaderships_total"];
    let stood = after["konsen_elections_started_total"] - before["konsen_elections_started_total"];
    assert!(won <= stood && won == after["konsen_is_leader"], "{won} {stood}");
    // The last one alone leads nobody.
    cluster.nodes[(leader + 2) % 3].kill();
    let url = cluster.url(one, "/v1/kv/a");
    let timeout = ("Konsen-Timeout", "1500ms");
    let refused = cluster.http.get(url).header(timeout.0, timeout.1).send().await.unwrap();
    assert!(matches!(refused.status().as_u16(), 503 | 504));
    let page = scrape(&cluster, one).await;
    let refusals: f64 = ["no_leader", "timed_out"]
        .map(|reason| page[&format!("konsen_http_refusals_total{{reason=\"{reason}\"}}")])
        .iter()
        .sum();
    assert!(refusals >= 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_answered_in_a_kept_place_while_all_others_are_taken() {
    let cluster = Cluster::start_configured(3, "limits: {connections: 8, bodies: 1MiB}\n").await;
    let port = cluster.nodes[0].http_port;
    let connect = || TcpStream::connect(("127.0.0.1", port)).unwrap();
    // They send, and never to an end.
    let mut taken: Vec<TcpStream> = (0..8).map(|_| connect()).collect();
    for stream in &mut taken {
        let head = "PUT /v1/kv/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nx";
        stream.write_all(head.as_bytes()).unwrap();
    }
    let ask = |line: &str| {
        let mut stream = connect();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let _ = write!(stream, "{line} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        answer
    };
    assert!(ask("GET /v1/kv/a").starts_with("HTTP/1.1 429 "));
    for _ in 0..3 {
        let answer = ask("GET /metrics");
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        assert!(head.contains(OPENMETRICS), "{head}");
        let page = parse(body);
        assert!(page["konsen_http_refusals_total{reason=\"connections\"}"] >= 1.0);
        assert!(page["konsen_http_connections{place=\"ordinary\"}"] >= 8.0);
        assert!(page["konsen_http_connections{place=\"kept\"}"] >= 1.0);
        assert!(page.contains_key("konsen_commit_index"));
    }
    drop(taken);
}

#[tokio::test(flavor = "multi_thread")]
async fn checkpoints_snapshots_and_waiters_are_counted() {
    let small = "limits: {overlay: 1MiB, logTail: 0B}\n";
    let mut cluster = Cluster::start_configured(3, small).await;
    cluster.nodes[2].kill();
    let value = "v".repeat(256 << 10);
    // More than a leader keeps of its log in memory.
    for number in 0..100 {
        let status = cluster.put(0, &format!("k{number}"), &value).await.unwrap();
        assert_eq!(status, 201);
    }
    for node in 0..2 {
        let checkpoints = "konsen_checkpoint_duration_seconds_count";
        scrape_until(&cluster, node, |page| page[checkpoints] >= 1.0).await;
    }
    let log = scrape(&cluster, 0).await["konsen_log_commit_bytes_sum"];
    assert!(log >= 100.0 * value.len() as f64, "{log}");
    cluster.nodes[2].start();
    cluster.wait_ready(2).await;
    scrape_until(&cluster, 2, |page| page["konsen_snapshots_received_total"] >= 1.0).await;
    let leader = cluster.wait_leader().await;
    let sent = "konsen_snapshots_sent_total{result=\"installed\"}";
    scrape_until(&cluster, leader, |page| page[sent] >= 1.0).await;

    let url = cluster.url(2, "/v1/kv/none?wait=60s");
    let waiting = tokio::spawn(cluster.http.get(url).send());
    scrape_until(&cluster, 2, |page| page["konsen_waiters"] == 1.0).await;
    assert_eq!(cluster.put(2, "none", "x").await.unwrap(), 201);
    assert_eq!(waiting.await.unwrap().unwrap().status(), 200);
    let watched = "konsen_http_requests_total{route=\"watch\",status=\"2xx\"}";
    scrape_until(&cluster, 2, |page| page["konsen_waiters"] == 0.0 && page[watched] == 1.0).await;
}

/// The names that the page of the documentation lists.
fn documented() -> BTreeSet<String> {
    let page = include_str!("../../docs/operations.md");
    let section = page.split("\n## ").find(|section| section.starts_with("Metrics\n")).unwrap();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `konsen_"));
    rows.map(|row| format!("konsen_{}", row.split('`').next().unwrap())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_documentation_lists_every_metric() {
    let cluster = Cluster::start_configured(1, "audit: {on: true}\n").await;
    let answer = cluster.http.get(cluster.url(0, "/metrics")).send().await.unwrap();
    let page = answer.text().await.unwrap();
    let types = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")).map(|line| {
        let (name, kind) = line.split_once(' ').unwrap();
        match kind {
            "counter" => format!("{name}_total"),
            "info" => format!("{name}_info"),
            _ => name.to_owned(),
        }
    });
    assert_eq!(types.collect::<BTreeSet<_>>(), documented());
}

#[test]
fn alerts_and_the_dashboard_are_about_metrics_that_there_are() {
    let alerts = include_str!("../../conf/alerts.yml");
    let documented = documented();
    let of_alerts = alerts.lines().filter_map(|line| line.trim().strip_prefix("expr: "));
    let dashboard = include_str!("../../conf/dashboard.json");
    let of_dashboard = dashboard.lines().filter_map(|line| Some(line.split_once("\"expr\": ")?.1));
    for (least, expressions) in [
        (12, of_alerts.map(str::to_owned).collect::<Vec<_>>()),
        (45, of_dashboard.map(str::to_owned).collect()),
    ] {
        let words = expressions
            .iter()
            .flat_map(|line| line.split(|each: char| !each.is_ascii_alphanumeric() && each != '_'));
        let mut used = 0;
        for word in words.filter(|word| word.starts_with("konsen_")) {
            used += 1;
            let family = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|suffix| word.strip_suffix(suffix))
                .unwrap_or(word);
            assert!(documented.contains(family), "{word}");
        }
        assert!(used >= least, "{used}");
    }
}

/// What the documentation says of an alert: its meaning, where to look, what to do.
#[test]
fn the_documentation_explains_every_alert() {
    let alerts = include_str!("../../conf/alerts.yml");
    let page = include_str!("../../docs/operations.md");
    let section = page.split("\n## ").find(|section| section.starts_with("Metrics\n")).unwrap();
    let (_, explained) = section.split_once("\n### Alerts\n").unwrap();
    let explained = explained.split("\n### ").next().unwrap();
    let there_are = alerts.lines().filter_map(|line| line.trim().strip_prefix("- alert: "));
    let rows = explained.lines().filter_map(|line| line.strip_prefix("| `Konsen"));
    let rows: Vec<Vec<&str>> = rows.map(|row| row.split(" | ").collect()).collect();
    let names: Vec<String> =
        rows.iter().map(|row| format!("Konsen{}", row[0].trim_end_matches('`'))).collect();
    assert_eq!(names, there_are.collect::<Vec<_>>(), "in the same order");
    for row in rows {
        assert!(row.len() == 4 && row.iter().all(|cell| cell.len() > 6), "{row:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_takes_no_parameters_and_no_other_method() {
    let cluster = Cluster::start(1).await;
    let url = cluster.url(0, "/metrics");
    let asked = cluster.http.get(format!("{url}?format=text")).send().await.unwrap();
    assert_eq!(asked.status(), 400);
    let posted = cluster.http.post(&url).send().await.unwrap();
    assert_eq!(posted.status(), 405);
    let head = cluster.http.head(&url).send().await.unwrap();
    assert_eq!(
        (head.status().as_u16(), &head.headers()["content-type"]),
        (200, &OPENMETRICS.parse().unwrap())
    );
}
