//! The cluster, the others who use it, and what they and the nodes come to during an attack.

use std::fmt;
use std::fs;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use futures_util::future::LocalBoxFuture;
use tokio::runtime::{Builder, Runtime};

use crate::clients;
use crate::harness::Cluster;

const MIB: u64 = 1 << 20;
/// The budgets of the nodes: small, so that it shows if they are not kept.
const CONFIG: &str = "http: {tls: false, stall: 3s, head: 3s, idle: 4s, backupRate: 1MiB}\n\
    limits: {bodies: 32MiB, answers: 32MiB, stateCache: 16MiB, logCache: 8MiB, overlay: 8MiB, \
    connections: 400, connectionsPerAddress: 200, waiters: 4000, backupGrowth: 64MiB}\n\
    history: {keep: off, revisions: off}\n";
/// The sum of them, each overlay counted as often as there may be one, and twice at its largest.
const BUDGETS: u64 = (32 + 32 + 16 + 8 + 4 * 8) * MIB;
/// What a node may take besides.
const MEMORY_MAX: u64 = 200 * MIB + BUDGETS;
/// How long others may wait. A build for tests on a machine that does other things is slow.
const P99_MAX: Duration = Duration::from_secs(3);
const HEALTH_MAX: Duration = Duration::from_secs(3);
/// How often another client asks for something: a tenth of what a machine can do, or less.
const EVERY: Duration = Duration::from_millis(10);
/// How much another client writes: no small body, of which attackers fill the room.
const PUT_BYTES: usize = 10 << 10;

/// How many keys there are of each kind that attacks read and delete.
const KEYS: usize = 20_000;
/// How many versions one of them has.
const VERSIONS: usize = 4_000;
/// The most fields of a form.
const FORM_FIELDS: usize = 10_000;

/// Where the others run: what the attackers do in this process is none of their waiting.
static USERS: LazyLock<Runtime> = LazyLock::new(|| {
    Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a thread")
});

pub struct Scene {
    pub cluster: Cluster,
    /// Who is attacked: the leader.
    pub victim: usize,
    pub address: SocketAddr,
    pub lasts: Duration,
    /// The first revision of the key that has many.
    pub first: u64,
}

/// What was seen during an attack.
pub struct Report {
    puts: Seen,
    gets: Seen,
    /// Linearizable reads at the other nodes.
    elsewhere: Seen,
    health: Seen,
    peak_bytes: u64,
    terms: (u64, u64),
    /// How many snapshots were sent: to nodes that are up all the time.
    snapshots: usize,
}

#[derive(Default)]
struct Seen {
    took: Vec<Duration>,
    failed: Vec<String>,
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| text.parse().expect("a number"))
}

impl Scene {
    pub async fn start() -> Scene {
        let cluster = Cluster::start_configured(3, CONFIG).await;
        let victim = cluster.wait_leader().await;
        let address = SocketAddr::from(([127, 0, 0, 1], cluster.nodes[victim].http_port));
        let lasts = Duration::from_secs(number("KONSEN_HOSTILE_SECONDS", 2));
        let scale = number("KONSEN_HOSTILE_SCALE", 1) as usize;
        let mut scene = Scene { cluster, victim, address, lasts, first: 0 };
        scene.fill("gone", KEYS * scale).await;
        scene.delete("gone").await;
        scene.fill("k", KEYS * scale).await;
        // JSON writes each of these bytes in six.
        for number in 0..4 {
            let put = scene.put(&format!("big{number}")).body(vec![1; MIB as usize]);
            assert!(put.send().await.unwrap().status().is_success());
        }
        let first = scene.put("deep").body("x").send().await.unwrap();
        scene.first = first.headers()["konsen-revision"].to_str().unwrap().parse().unwrap();
        clients::put_often(scene.address, "deep", VERSIONS * scale).await;
        assert!(scene.put("other-client").body("x").send().await.unwrap().status().is_success());
        scene
    }

    fn put(&self, key: &str) -> reqwest::RequestBuilder {
        self.cluster.http.put(self.cluster.url(self.victim, &format!("/v1/kv/{key}")))
    }

    async fn fill(&self, prefix: &str, keys: usize) {
        for begin in (0..keys).step_by(FORM_FIELDS) {
            let end = keys.min(begin + FORM_FIELDS);
            let form: Vec<String> =
                (begin..end).map(|number| format!("{prefix}{number:08}=x")).collect();
            let url = self.cluster.url(self.victim, "/konsen");
            let post = self.cluster.http.post(url).body(form.join("&"));
            let post = post.header("content-type", "application/x-www-form-urlencoded");
            assert!(post.send().await.unwrap().status().is_success());
        }
    }

    pub async fn delete(&self, prefix: &str) {
        let path = format!("/v1/kv?prefix={prefix}&atomic=false");
        let delete = self.cluster.http.delete(self.cluster.url(self.victim, &path));
        let answer = delete.header("konsen-timeout", "60s").send().await.unwrap();
        assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
    }

    pub async fn pause(&self) {
        tokio::time::sleep(self.lasts).await;
    }

    /// How many requests a second `writers` writers get through, each with one key, within a second.
    pub async fn writes_a_second(&self, writers: usize) -> usize {
        let until = Instant::now() + Duration::from_secs(1);
        let writer = |number: usize| async move {
            let mut done = 0;
            while Instant::now() < until {
                let put = self.put(&format!("writer{number}")).body("x").send().await;
                done += usize::from(put.is_ok_and(|answer| answer.status().is_success()));
            }
            done
        };
        futures_util::future::join_all((0..writers).map(writer)).await.iter().sum()
    }

    /// Runs an attack, and sees what it does to others.
    pub async fn watch(
        &mut self,
        attack: &for<'a> fn(&'a Scene) -> LocalBoxFuture<'a, ()>,
    ) -> Report {
        let before = self.term().await;
        for node in &self.cluster.nodes {
            // Peaks count from here.
            fs::write(format!("/proc/{}/clear_refs", node.pid()), "5").unwrap();
        }
        let snapshots = self.snapshots_sent();
        let over = Arc::new(AtomicBool::new(false));
        let url = |path: &str| self.cluster.url(self.victim, path);
        let put = reqwest::Client::new().put(url("/v1/kv/other-client"));
        let put = put.body("x".repeat(PUT_BYTES));
        let get = reqwest::Client::new().get(url("/v1/kv/other-client"));
        let health = reqwest::Client::new().get(url("/healthz"));
        let users = [(put, EVERY), (get, EVERY), (health, EVERY * 10)]
            .map(|(request, every)| USERS.spawn(ask(request, every, over.clone())));
        let others = (0..self.cluster.nodes.len()).filter(|node| *node != self.victim);
        let others: Vec<_> = others
            .map(|node| {
                let get = reqwest::Client::new().get(self.cluster.url(node, "/v1/kv/other-client"));
                USERS.spawn(ask(get, EVERY, over.clone()))
            })
            .collect();
        attack(self).await;
        over.store(true, Ordering::Relaxed);
        let mut elsewhere = Seen::default();
        for other in others {
            elsewhere.add(other.await.unwrap());
        }
        let [puts, gets, health] = users;
        let (puts, gets) = (puts.await.unwrap(), gets.await.unwrap());
        let health = health.await.unwrap();
        let peak = |node: &crate::harness::Node| peak_bytes(node.pid());
        let peak_bytes = self.cluster.nodes.iter().map(peak).max().unwrap();
        let snapshots = self.snapshots_sent() - snapshots;
        let terms = (before, self.term().await);
        Report { puts, gets, elsewhere, health, peak_bytes, terms, snapshots }
    }

    fn snapshots_sent(&self) -> usize {
        let sent = |node: &crate::harness::Node| node.log().matches("sending a snapshot").count();
        self.cluster.nodes.iter().map(sent).sum()
    }

    async fn term(&self) -> u64 {
        let status = self.cluster.status(self.victim).await.expect("a status");
        status["term"].as_u64().unwrap()
    }
}

/// Asks the same again and again.
async fn ask(request: reqwest::RequestBuilder, every: Duration, over: Arc<AtomicBool>) -> Seen {
    let mut seen = Seen::default();
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while !over.load(Ordering::Relaxed) {
        ticks.tick().await;
        let began = Instant::now();
        let request = request.try_clone().unwrap().timeout(Duration::from_secs(10));
        match request.send().await {
            Ok(answer) if answer.status().is_success() => seen.took.push(began.elapsed()),
            Ok(answer) => seen.failed.push(answer.text().await.unwrap_or_default()),
            Err(error) => seen.failed.push(format!("{error:?}")),
        }
    }
    seen.took.sort_unstable();
    seen
}

fn peak_bytes(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

impl Seen {
    fn add(&mut self, other: Seen) {
        self.took.extend(other.took);
        self.took.sort_unstable();
        self.failed.extend(other.failed);
    }

    fn percentile(&self, percent: usize) -> Duration {
        let at = (self.took.len() * percent / 100).min(self.took.len().saturating_sub(1));
        self.took.get(at).copied().unwrap_or_default()
    }
}

impl Report {
    /// What must not be.
    pub fn broken(&self) -> Vec<String> {
        let mut broken = Vec::new();
        for (name, seen, most) in [
            ("puts", &self.puts, P99_MAX),
            ("gets", &self.gets, P99_MAX),
            ("gets at the others", &self.elsewhere, P99_MAX),
            ("/healthz", &self.health, HEALTH_MAX),
        ] {
            if let Some(failed) = seen.failed.first() {
                broken.push(format!("{} {name} failed: {failed}", seen.failed.len()));
            }
            if seen.took.is_empty() || seen.percentile(99) > most {
                broken.push(format!("{name} took {:?}", seen.percentile(99)));
            }
        }
        if self.peak_bytes > MEMORY_MAX {
            broken.push(format!("{} MiB of memory", self.peak_bytes / MIB));
        }
        if self.snapshots > 0 {
            broken.push(format!("{} snapshots to nodes that are up", self.snapshots));
        }
        let (before, after) = self.terms;
        if before != after {
            broken.push(format!("the leader changed: term {before}, then {after}"));
        }
        broken
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, seen) in [
            ("puts", &self.puts),
            ("gets", &self.gets),
            ("elsewhere", &self.elsewhere),
            ("health", &self.health),
        ] {
            let ms = |percent| seen.percentile(percent).as_secs_f64() * 1e3;
            let (done, failed) = (seen.took.len(), seen.failed.len());
            write!(
                f,
                "{name} {done:4}, p50 {:6.1} ms, p99 {:6.1} ms, failed {failed}; ",
                ms(50),
                ms(99)
            )?;
        }
        let (before, after) = self.terms;
        write!(
            f,
            "{:4} MiB at most of {}, leaders {}, snapshots {}",
            self.peak_bytes / MIB,
            MEMORY_MAX / MIB,
            after - before,
            self.snapshots
        )
    }
}
