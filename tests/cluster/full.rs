//! Disks without room: a tmpfs of its own for each node's data, filled to the last byte.
//!
//! Needs root; says so and does nothing where a tmpfs cannot be mounted.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::disks;
use crate::harness::{Cluster, PATIENCE};

/// The size of a node's file system.
const SIZE: &str = "128m";
/// The log stays sixteen times as long for a follower that is up.
const LIMITS: &str = "limits:\n  freeSpace: 32MiB\n  logTail: 64KiB\n  overlay: 1MiB\n";

/// A cluster whose nodes have small disks.
struct Small {
    cluster: Cluster,
    disks: Vec<disks::Tmpfs>,
}

impl Small {
    /// Starts nothing. None where a tmpfs cannot be mounted.
    fn build(size: usize) -> Option<Small> {
        let mut small = Small { cluster: Cluster::build(size, LIMITS), disks: Vec::new() };
        for node in &mut small.cluster.nodes {
            let Some(disk) = disks::Tmpfs::mount(&node.home, "small", SIZE) else {
                eprintln!("skipped: mounting a tmpfs needs root");
                return None;
            };
            small.disks.push(disk);
            node.env.push(("KONSEN_DATA".into(), "small/data".into()));
        }
        Some(small)
    }

    async fn start(size: usize) -> Option<Small> {
        let mut small = Small::build(size)?;
        small.cluster.nodes.iter_mut().for_each(|node| node.start());
        small.cluster.wait_ready_all().await;
        assert_eq!(small.cluster.put(0, "before", "1").await.unwrap(), 201);
        Some(small)
    }

    /// Somebody else takes all the room that there is.
    fn fill(&self, node: usize) {
        self.disks[node].fill();
    }

    fn clear(&self, node: usize) {
        self.disks[node].clear();
    }

    /// Writes at the node until the answer is one of these; the problem's text if it is one.
    async fn put_until(&self, node: usize, wanted: &[u16]) -> Value {
        let url = self.cluster.url(node, "/v1/kv/key");
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = self.cluster.http.put(&url).body("x").send().await.unwrap();
            let status = answer.status().as_u16();
            let body = answer.text().await.unwrap();
            if wanted.contains(&status) {
                return serde_json::from_str(&body).unwrap_or_default();
            }
            // Only while the news of the full disks is on its way, or of a new leader.
            assert!(
                Instant::now() < deadline,
                "{status} at node{}: {body}\n{}",
                node + 1,
                self.cluster.logs()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn answer(&self, node: usize, path: &str) -> (u16, String) {
        let answer = self.cluster.http.get(self.cluster.url(node, path)).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    async fn applied(&self, node: usize) -> u64 {
        let status: Value = serde_json::from_str(&self.answer(node, "/v1/status").await.1).unwrap();
        status["applied"].as_u64().unwrap()
    }

    fn none_ended(&mut self) {
        for node in self.cluster.nodes.iter_mut().filter(|node| node.runs()) {
            let ended = node.ended();
            assert!(ended.is_none(), "{} ended: {ended:?}\n{}", node.name, node.log());
        }
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        // Before their disks go.
        self.cluster.nodes.iter_mut().for_each(|node| node.kill());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_file_on_the_full_disk_harms_nothing_once_there_is_room() {
    let Some(mut small) = Small::build(1) else { return };
    let log = small.cluster.nodes[0].home.join("log.txt");
    std::os::unix::fs::symlink("small/log.txt", log).unwrap();
    small.cluster.nodes[0].start();
    small.cluster.wait_ready_all().await;
    for _ in 0..2 {
        small.fill(0);
        small.put_until(0, &[507]).await;
        small.clear(0);
        small.put_until(0, &[201, 204]).await;
    }
    for path in ["/healthz", "/readyz"] {
        assert_eq!(small.answer(0, path).await.0, 200, "{path}");
    }
    // All of its threads are there still.
    let tasks = format!("/proc/{}/task", small.cluster.nodes[0].pid());
    let name =
        |task: std::io::Result<fs::DirEntry>| fs::read_to_string(task.unwrap().path().join("comm"));
    let names: Vec<String> =
        fs::read_dir(tasks).unwrap().filter_map(|task| name(task).ok()).collect();
    for thread in ["space", "checkpoint", "log", "replica", "fetch"] {
        assert!(names.iter().any(|name| name.trim() == thread), "{thread} is not in {names:?}");
    }
    small.none_ended();
}

#[tokio::test(flavor = "multi_thread")]
async fn full_disks_refuse_writes_and_nothing_else_until_there_is_room() {
    let Some(mut small) = Small::start(3).await else { return };
    (0..3).for_each(|node| small.fill(node));
    for node in 0..3 {
        let problem = small.put_until(node, &[507]).await;
        assert_eq!(problem["type"], "urn:konsen:problem:disk-full", "{problem}");
        assert_eq!(problem["outcome"], "not_applied");
    }
    for node in 0..3 {
        assert_eq!(small.cluster.get(node, "before").await.unwrap().as_deref(), Some("1"));
    }

    // What makes room passes, as far as what is kept for it goes.
    let gone =
        small.cluster.http.delete(small.cluster.url(0, "/v1/kv/before")).send().await.unwrap();
    assert_eq!(gone.status().as_u16(), 204, "{}", small.cluster.logs());
    let revision: u64 = gone.headers()["konsen-revision"].to_str().unwrap().parse().unwrap();
    let compact = small.cluster.http.post(small.cluster.url(1, "/v1/compact"));
    let compact = compact.body(format!("{{\"revision\":{revision}}}")).send().await.unwrap();
    assert_eq!(compact.status().as_u16(), 200, "{}", small.cluster.logs());
    small.put_until(2, &[507]).await;
    for node in 0..3 {
        assert_eq!(small.cluster.get(node, "before").await.unwrap(), None);
    }

    // Votes go on, and so does what a new leader needs to answer reads.
    for _ in 0..3 {
        let leader = small.cluster.wait_leader().await;
        small.cluster.nodes[leader].kill();
        let other = (leader + 1) % 3;
        small.cluster.wait_ready(other).await;
        assert_eq!(small.cluster.get(other, "before").await.unwrap(), None);
        small.put_until(other, &[507]).await;
        // One that starts on a full disk has what it needs.
        small.cluster.nodes[leader].start();
        small.cluster.wait_ready(leader).await;
        small.none_ended();
    }

    // Room on a majority is not enough for a leader without, but it hands over.
    let leader = small.cluster.wait_leader().await;
    let others = [(leader + 1) % 3, (leader + 2) % 3];
    others.iter().for_each(|&node| small.clear(node));
    let healed = Instant::now();
    for node in [leader, others[0], others[1]] {
        small.put_until(node, &[201, 204]).await;
    }
    assert!(healed.elapsed() < Duration::from_secs(5), "{:?}", healed.elapsed());
    assert!(others.contains(&small.cluster.wait_leader().await));
    small.clear(leader);
    small.cluster.wait_ready_all().await;
    for node in 0..3 {
        assert_eq!(small.cluster.get(node, "key").await.unwrap().as_deref(), Some("x"));
    }
    small.none_ended();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_deleted_on_a_full_disk_need_not_be_deleted_again_after_a_restart() {
    let Some(mut small) = Small::start(1).await else { return };
    // What was put before is in the state's file from here on.
    assert!(small.cluster.nodes[0].terminate().success());
    small.cluster.nodes[0].start();
    small.cluster.wait_ready(0).await;
    small.fill(0);
    small.put_until(0, &[507]).await;
    let gone = small.cluster.http.delete(small.cluster.url(0, "/v1/kv/before"));
    let gone = gone.send().await.unwrap();
    assert_eq!(gone.status().as_u16(), 204, "{}", small.cluster.logs());
    let revision: u64 = gone.headers()["konsen-revision"].to_str().unwrap().parse().unwrap();
    let compact = small.cluster.http.post(small.cluster.url(0, "/v1/compact"));
    let compact = compact.body(format!("{{\"revision\":{revision}}}")).send().await.unwrap();
    assert_eq!(compact.status().as_u16(), 200, "{}", small.cluster.logs());
    assert!(small.cluster.nodes[0].terminate().success());
    small.cluster.nodes[0].start();
    small.cluster.wait_ready(0).await;
    // There was nothing to replay.
    let log = small.cluster.nodes[0].log();
    let opened = log.lines().rfind(|line| line.contains("data directory opened")).unwrap();
    let number = |name: &str| {
        let (_, rest) = opened.split_once(name).unwrap();
        rest.split_whitespace().next().unwrap().parse::<u64>().unwrap()
    };
    assert_eq!(number(" applied="), number(" last="), "{opened}");
    assert_eq!(small.cluster.get(0, "before").await.unwrap(), None);
    small.put_until(0, &[507]).await;
    small.none_ended();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_under_load_takes_its_node_out_of_the_way_and_it_catches_up() {
    let Some(mut small) = Small::start(3).await else { return };
    let leader = small.cluster.wait_leader().await;
    let value = "v".repeat(5_000);
    let mut written = 0;
    let mut refused = 0;
    for round in 0..3 {
        // The leader first, then a follower, then whoever leads by then.
        let victim = if round == 1 { (leader + 1) % 3 } else { small.cluster.wait_leader().await };
        small.fill(victim);
        let until = Instant::now() + Duration::from_secs(2);
        while Instant::now() < until {
            for node in 0..3 {
                match small
                    .cluster
                    .put(node, &format!("key{}", written % 50), &value)
                    .await
                    .unwrap()
                {
                    201 | 204 => written += 1,
                    507 => refused += 1,
                    status => panic!("{status}\n{}", small.cluster.logs()),
                }
            }
        }
        let leader = small.cluster.wait_leader().await;
        assert_ne!(leader, victim, "round {round}\n{}", small.cluster.logs());
        small.none_ended();
        small.clear(victim);
        small.cluster.wait_ready_all().await;
    }
    assert!(
        written > 100 && refused < 20,
        "{written} written, {refused} refused\n{}",
        small.cluster.logs()
    );
    small.none_ended();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_without_room_falls_behind_and_answers_reads_all_the_same() {
    let Some(mut small) = Small::start(3).await else { return };
    let leader = small.cluster.wait_leader().await;
    let follower = (leader + 1) % 3;
    small.fill(follower);
    let filled = Instant::now();
    let value = |number: u64| format!("{number} {}", "v".repeat(5_000));
    let mut written = 0;
    let deadline = Instant::now() + PATIENCE;
    let refused = |small: &Small| {
        let log = small.cluster.nodes[follower].log();
        log.matches("a snapshot is not taken in").count()
    };
    // Until what its ballast leaves room for is used up, and more than the others' logs keep has come since.
    while small.applied(leader).await < small.applied(follower).await + 4000 || refused(&small) == 0
    {
        assert!(Instant::now() < deadline, "it keeps up\n{}", small.cluster.logs());
        for _ in 0..200 {
            written += 1;
            let status = small.cluster.put(leader, "key", &value(written)).await.unwrap();
            assert!([201, 204].contains(&status), "{status}\n{}", small.cluster.logs());
        }
    }

    let newest = small.cluster.get(follower, "key").await.unwrap();
    assert_eq!(newest, Some(value(written)), "{}", small.cluster.logs());
    let old = small.answer(follower, "/v1/kv/key?consistency=stale").await;
    assert_eq!(old.0, 200);
    assert_ne!(old.1, value(written), "it has nothing newer itself");
    let encoded = small.answer(follower, "/v1/kv/key?consistency=%73tale").await;
    assert_eq!(encoded, old, "however it is written");
    let page = small.answer(follower, "/v1/kv?prefix=k").await;
    assert!(page.0 == 200 && page.1.contains("\"version\":"), "{page:?}");
    let keys = small.answer(follower, "/api/keys?prefix=k").await;
    assert_eq!(keys, (200, "{\"keys\":[\"key\"]}".to_owned()));
    let url = small.cluster.url(follower, "/v1/kv/key");
    let whole = small.cluster.http.get(&url).send().await.unwrap();
    let tag = whole.headers()["etag"].clone();
    let unchanged =
        small.cluster.http.get(&url).header("if-none-match", &tag).send().await.unwrap();
    assert_eq!((unchanged.status().as_u16(), &unchanged.headers()["etag"]), (304, &tag));
    let head = small.cluster.http.head(&url).send().await.unwrap();
    assert_eq!((head.status().as_u16(), &head.headers()["etag"]), (200, &tag));
    assert_eq!(small.answer(follower, "/v1/kv/none").await.0, 404);
    assert_eq!(small.answer(follower, "/v1/kv/key?consistency=odd").await.0, 400);
    assert_eq!(small.answer(follower, "/konsen?key=key").await, (200, value(written)));
    assert_eq!(small.answer(follower, "/readyz").await.0, 503, "it says that it is behind");

    let seconds = filled.elapsed().as_secs() as usize;
    let refused = refused(&small);
    assert!(refused <= seconds + 1, "{refused} times in {seconds} s");

    small.clear(follower);
    small.cluster.wait_ready(follower).await;
    // A small disk has room enough for that.
    let log = small.cluster.nodes[follower].log();
    assert!(log.contains("the snapshot is in place"), "{log}");
    small.none_ended();
}
