//! Clients that write and read through every node all the time, and remember what was acknowledged.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use rand::RngExt;
use serde_json::Value;
use tokio::task::JoinSet;

use crate::harness::{Cluster, PATIENCE};

/// How long a cluster of which a majority is up may acknowledge nothing.
pub(crate) const GAP_MAX: Duration = Duration::from_secs(5);
/// How long a client waits for an answer, and the node for a leader.
const TIMEOUT: Duration = Duration::from_secs(1);
/// Between two writes of a client, and after one that failed.
const PAUSE: Duration = Duration::from_millis(10);
const PAUSE_FAILED: Duration = Duration::from_millis(50);

/// One client a node. They end with it.
pub(crate) struct Prober {
    seen: Arc<Mutex<Seen>>,
    http: reqwest::Client,
    clients: JoinSet<()>,
}

struct Seen {
    /// Where each node serves clients now.
    urls: Vec<String>,
    /// The keys of all acknowledged writes. Each key is written once.
    acknowledged: Vec<String>,
    last: Instant,
    /// The longest time between two acknowledged writes, of whatever client.
    gap: Duration,
    /// What must not have happened.
    wrong: Vec<String>,
}

impl Prober {
    /// Clients of all nodes that there are.
    pub(crate) fn start(cluster: &Cluster) -> Prober {
        let seen = Seen {
            urls: Vec::new(),
            acknowledged: Vec::new(),
            last: Instant::now(),
            gap: Duration::ZERO,
            wrong: Vec::new(),
        };
        let seen = Arc::new(Mutex::new(seen));
        let mut prober = Prober { seen, http: cluster.http.clone(), clients: JoinSet::new() };
        prober.follow(cluster);
        prober
    }

    /// Nodes have come, or listen elsewhere.
    pub(crate) fn follow(&mut self, cluster: &Cluster) {
        let known = {
            let mut seen = lock(&self.seen);
            let known = seen.urls.len();
            seen.urls = cluster.nodes.iter().map(|node| node.url("/v1/kv/")).collect();
            known
        };
        for node in known..cluster.nodes.len() {
            self.clients.spawn(client(self.seen.clone(), self.http.clone(), node));
        }
    }

    /// Tells when a write was last acknowledged.
    pub(crate) fn clock(&self) -> impl Fn() -> Instant + Send + 'static {
        let seen = self.seen.clone();
        move || lock(&seen).last
    }

    /// How many writes were acknowledged so far.
    pub(crate) fn count(&self) -> usize {
        lock(&self.seen).acknowledged.len()
    }

    /// Waits until a write that begins now is acknowledged.
    pub(crate) async fn until_served(&self, cluster: &Cluster) {
        let before = self.count();
        let deadline = Instant::now() + PATIENCE;
        // One of each client may have begun before.
        while self.count() <= before + cluster.nodes.len() {
            assert!(Instant::now() < deadline, "no write is acknowledged\n{}", cluster.logs());
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// The cluster was never without a leader for long, up to now. Counts anew from here on.
    #[track_caller]
    pub(crate) fn was_served(&self, cluster: &Cluster) {
        let gap = {
            let mut seen = lock(&self.seen);
            let gap = seen.gap.max(seen.last.elapsed());
            (seen.gap, seen.last) = (Duration::ZERO, Instant::now());
            gap
        };
        assert!(gap < GAP_MAX, "nothing was acknowledged for {gap:.1?}\n{}", cluster.logs());
    }

    /// What clients saw that must not be.
    pub(crate) fn wrong(&self) -> Vec<String> {
        lock(&self.seen).wrong.clone()
    }

    /// Ends the clients. All that was acknowledged must be there, at each of these nodes.
    pub(crate) async fn end(mut self, cluster: &Cluster, nodes: &[usize]) {
        self.clients.shutdown().await;
        assert_eq!(self.wrong(), Vec::<String>::new(), "{}", cluster.logs());
        let keys: BTreeSet<String> = lock(&self.seen).acknowledged.iter().cloned().collect();
        assert!(!keys.is_empty(), "nothing was written\n{}", cluster.logs());
        for &node in nodes {
            let there = everything(cluster, node).await;
            let lost: Vec<&String> = keys.difference(&there).collect();
            assert!(
                lost.is_empty(),
                "host {} lacks {} of {}: {lost:?}\n{}",
                node + 1,
                lost.len(),
                keys.len(),
                cluster.logs()
            );
        }
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    // Whoever panicked with it has failed the test.
    seen.lock().unwrap()
}

async fn client(seen: Arc<Mutex<Seen>>, http: reqwest::Client, node: usize) {
    let timeout = format!("{}ms", TIMEOUT.as_millis());
    for number in 0_u64.. {
        let (url, old) = {
            let seen = lock(&seen);
            let kept = seen.acknowledged.len();
            let old = (kept > 0).then(|| rand::rng().random_range(0..kept));
            (seen.urls[node].clone(), old.map(|at| seen.acknowledged[at].clone()))
        };
        let send = async |request: reqwest::RequestBuilder| {
            let request = request.header("Konsen-Timeout", &timeout).timeout(TIMEOUT * 2);
            Some(request.send().await.ok()?.status().as_u16())
        };
        let key = format!("probe-{node}-{number}");
        let written = send(http.put(format!("{url}{key}")).body("x")).await;
        if written == Some(201) {
            let mut seen = lock(&seen);
            let gap = seen.last.elapsed();
            (seen.gap, seen.last) = (seen.gap.max(gap), Instant::now());
            seen.acknowledged.push(key);
        }
        if let Some(old) = old
            && send(http.get(format!("{url}{old}"))).await == Some(404)
        {
            let wrong = format!("{old} was acknowledged, and host {} did not find it", node + 1);
            lock(&seen).wrong.push(wrong);
        }
        tokio::time::sleep(if written == Some(201) { PAUSE } else { PAUSE_FAILED }).await;
    }
}

/// All keys that the clients can have written, as a node knows them.
async fn everything(cluster: &Cluster, node: usize) -> BTreeSet<String> {
    let mut keys = BTreeSet::new();
    let mut page = String::new();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let path = format!("/v1/kv?prefix=probe-&keys_only=true{page}");
        let answer = cluster.http.get(cluster.url(node, &path)).send().await;
        let listed: Value = match answer {
            Ok(answer) if answer.status() == 200 => answer.json().await.unwrap_or_default(),
            _ => Value::Null,
        };
        let Some(items) = listed["items"].as_array() else {
            let logs = || cluster.logs();
            assert!(Instant::now() < deadline, "host {} lists nothing\n{}", node + 1, logs());
            tokio::time::sleep(PAUSE_FAILED).await;
            continue;
        };
        keys.extend(items.iter().filter_map(|item| item["key"].as_str()).map(str::to_owned));
        let Some(next) = listed["next"].as_str() else { return keys };
        page = format!("&cursor={next}");
    }
}
