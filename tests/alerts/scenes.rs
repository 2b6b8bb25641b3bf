//! Clusters that something happens to, each for alerts of its own.

use std::time::{Duration, Instant};

use futures_util::stream::{self, StreamExt};

use crate::disks::{Freezable, Tmpfs};
use crate::harness::{Cluster, Node, konsen};
use crate::prometheus::{PATIENCE, Prometheus};

/// Leaders change where a test has them change, however busy the machine is.
const STEADY: &str = "raft: {electionTimeout: 3s}\n";
/// And where nothing happens none changes.
const STEADIER: &str = "raft: {electionTimeout: 10s}\n";

/// What Prometheus calls a node.
pub(super) fn instance(node: &Node) -> String {
    format!("{}:{}", node.host, node.http_port)
}

async fn lead(cluster: &Cluster, asked: usize, to: &str) -> bool {
    let url = cluster.url(asked, "/v1/cluster/leader");
    let answer = cluster.http.post(url).body(format!("{{\"to\":\"{to}\"}}")).send().await;
    answer.is_ok_and(|answer| answer.status().is_success())
}

/// Puts so many values at a node, some at a time; how many went through.
async fn put_many(cluster: &Cluster, node: usize, count: usize, value: &str) -> usize {
    let puts = (0..count).map(|number| {
        let key = format!("key{}", number % 100);
        async move { cluster.put(node, &key, value).await.is_ok_and(|status| status < 300) }
    });
    stream::iter(puts).buffer_unordered(32).filter(|done| std::future::ready(*done)).count().await
}

/// A cluster of three that nothing happens to, but for a few requests.
pub(super) struct Well {
    pub(super) cluster: Cluster,
    /// Disks that nobody else writes to; none where they cannot be mounted.
    disks: Vec<Tmpfs>,
}

impl Well {
    pub(super) async fn start() -> Well {
        let mut cluster = Cluster::build(3, STEADIER);
        let mut disks = Vec::new();
        for node in &mut cluster.nodes {
            // Takes memory for what is in it alone.
            if let Some(disk) = Tmpfs::mount(&node.home, "roomy", "16g") {
                disks.push(disk);
                node.env.push(("KONSEN_DATA".into(), "roomy/data".into()));
            }
            node.start();
        }
        cluster.wait_ready_all().await;
        Well { cluster, disks }
    }

    /// Whether an alert at one of its nodes is about something else than what others do to their disk.
    pub(super) fn is_amiss(&self, alert: &str, at: &str) -> bool {
        let shared = self.disks.is_empty() && alert == "KonsenDiskFilling";
        !shared && self.cluster.nodes.iter().any(|node| instance(node) == at)
    }

    /// Writes and reads through all nodes, and never ends.
    pub(super) async fn use_it(&self) {
        let mut pace = tokio::time::interval(Duration::from_millis(100));
        for number in 0usize.. {
            pace.tick().await;
            let (node, key) = (number % 3, format!("key{}", number % 50));
            let put = self.cluster.put(node, &key, "value").await;
            assert!(matches!(put, Ok(201 | 204)), "{put:?}\n{}", self.cluster.logs());
            assert!(self.cluster.get((node + 1) % 3, &key).await.unwrap().is_some());
        }
    }
}

/// A cluster of three whose certificates end, which refuses, loses members and changes leaders.
pub(super) struct Members {
    pub(super) cluster: Cluster,
}

impl Members {
    pub(super) async fn start() -> Members {
        // Whoever would wait for a change is refused.
        let mut cluster = Cluster::build(3, &format!("{STEADY}limits: {{waiters: 0}}\n"));
        for (node, days) in [("node1", "6"), ("node2", "20")] {
            let cert = format!("output/{node}/certs/node.crt");
            let mut renew = konsen();
            renew.current_dir(cluster.dir.path()).args(["cert", "renew", &cert, "--days", days]);
            assert!(renew.output().unwrap().status.success());
        }
        cluster.nodes.iter_mut().for_each(|node| node.start());
        cluster.wait_ready_all().await;
        Members { cluster }
    }

    /// Those whose certificates end, which fire from the start.
    pub(super) async fn certificates(&self, prometheus: &Prometheus) -> &'static [&'static str] {
        let names = self.cluster.nodes.iter().map(instance).collect::<Vec<_>>();
        let of = |node: usize| [("instance", names[node].as_str()), ("certificate", "node")];
        let (ends, soon) = ("KonsenCertificateEnds", "KonsenCertificateEndsSoon");
        prometheus.wait_firing(ends, &of(0)).await;
        prometheus.wait_firing(ends, &of(1)).await;
        prometheus.wait_firing(soon, &of(0)).await;
        assert!(!prometheus.fires(soon, &of(1)).await, "it ends in 20 days");
        assert!(!prometheus.fires(ends, &of(2)).await, "it ends in a year");
        &["KonsenCertificateEnds", "KonsenCertificateEndsSoon"]
    }

    pub(super) async fn run(mut self, prometheus: &Prometheus) -> &'static [&'static str] {
        let leader = self.cluster.wait_leader().await;
        let (lost, other) = ((leader + 1) % 3, (leader + 2) % 3);
        let names = self.cluster.nodes.iter().map(instance).collect::<Vec<_>>();
        let lost_name = self.cluster.nodes[lost].name.clone();
        self.cluster.nodes[lost].kill();
        // Of those whose certificates end, one that is there still.
        let warned = [("instance", names[usize::from(lost == 0)].as_str())];
        let down = [("instance", names[lost].as_str())];
        let of_peer = [("instance", names[leader].as_str()), ("peer", lost_name.as_str())];
        let behind = async {
            let put = put_many(&self.cluster, leader, 10_500, "x").await;
            assert!(put > 10_000, "{put}\n{}", self.cluster.logs());
            prometheus.wait_firing("KonsenPeerBehind", &of_peer).await;
        };
        tokio::join!(
            prometheus.wait_firing("KonsenWarnings", &warned),
            prometheus.wait_firing("KonsenNodeDown", &down),
            prometheus.wait_firing("KonsenPeerDisconnected", &of_peer),
            behind,
            self.refuse(prometheus, other),
        );
        self.change_leaders(prometheus, [leader, other]).await;
        let leader = self.cluster.wait_leader().await;
        let last = 3 - lost - leader;
        self.cluster.nodes[leader].kill();
        prometheus.wait_firing("KonsenNoLeader", &[("instance", names[last].as_str())]).await;
        &[
            "KonsenWarnings",
            "KonsenNodeDown",
            "KonsenPeerDisconnected",
            "KonsenPeerBehind",
            "KonsenRefusals",
            "KonsenLeaderChanges",
            "KonsenNoLeader",
        ]
    }

    /// Asks to wait for a change, which is refused, until that fires.
    async fn refuse(&self, prometheus: &Prometheus, node: usize) {
        let url = self.cluster.url(node, "/v1/kv/none?wait=5s");
        let name = instance(&self.cluster.nodes[node]);
        let labels = [("instance", name.as_str()), ("reason", "waiters")];
        let deadline = Instant::now() + PATIENCE;
        let mut pace = tokio::time::interval(Duration::from_millis(100));
        while !prometheus.fires("KonsenRefusals", &labels).await {
            pace.tick().await;
            let refused = self.cluster.http.get(&url).send().await.unwrap();
            assert_eq!(refused.status(), 429);
            assert!(Instant::now() < deadline, "no refusals\n{}", prometheus.log());
        }
    }

    /// Hands leadership back and forth until that fires at one of the two.
    async fn change_leaders(&self, prometheus: &Prometheus, between: [usize; 2]) {
        let name = instance(&self.cluster.nodes[between[0]]);
        let labels = [("instance", name.as_str())];
        let deadline = Instant::now() + PATIENCE;
        let mut turns = between.iter().cycle();
        while !prometheus.fires("KonsenLeaderChanges", &labels).await {
            let to = &self.cluster.nodes[*turns.next().unwrap()].name;
            lead(&self.cluster, between[0], to).await;
            assert!(Instant::now() < deadline, "no changes\n{}", self.cluster.logs());
        }
    }
}

/// A cluster of three of which one has a small disk, that somebody else fills.
pub(super) struct Room {
    // Before its disk.
    pub(super) cluster: Cluster,
    disk: Tmpfs,
}

/// Which node has it.
const SHORT: usize = 2;

impl Room {
    /// None where a tmpfs cannot be mounted.
    pub(super) async fn start() -> Option<Room> {
        let limits = "limits: {freeSpace: 16MiB, logTail: 64KiB, overlay: 1MiB}\n";
        let mut cluster = Cluster::build(3, &format!("{STEADY}{limits}"));
        let Some(disk) = Tmpfs::mount(&cluster.nodes[SHORT].home, "small", "96m") else {
            eprintln!("skipped: mounting a tmpfs needs root");
            return None;
        };
        cluster.nodes[SHORT].env.push(("KONSEN_DATA".into(), "small/data".into()));
        cluster.nodes.iter_mut().for_each(|node| node.start());
        cluster.wait_ready_all().await;
        Some(Room { cluster, disk })
    }

    pub(super) async fn run(self, prometheus: &Prometheus) -> &'static [&'static str] {
        let name = instance(&self.cluster.nodes[SHORT]);
        let labels = [("instance", name.as_str())];
        lead(&self.cluster, 0, "node1").await;
        // Within some seconds rather than at once.
        let mut pace = tokio::time::interval(Duration::from_millis(100));
        while self.disk.take(1 << 20) {
            pace.tick().await;
        }
        self.disk.fill();
        let low = prometheus.wait_firing("KonsenDiskLow", &labels);
        let filling = prometheus.wait_firing("KonsenDiskFilling", &labels);
        tokio::join!(low, filling, self.fall_behind(prometheus, &labels));
        &["KonsenDiskLow", "KonsenDiskFilling", "KonsenBehind"]
    }

    /// Has the others write what the short one has no room for, until it is behind, which it stays.
    async fn fall_behind(&self, prometheus: &Prometheus, labels: &[(&str, &str)]) {
        let deadline = Instant::now() + PATIENCE;
        let value = "v".repeat(5_000);
        let page = self.cluster.url(SHORT, "/metrics");
        loop {
            put_many(&self.cluster, 0, 100, &value).await;
            // It learns how far the others are when it reads.
            let _ = self.cluster.get(SHORT, "key1").await;
            let shown = self.cluster.http.get(&page).send().await.unwrap().text().await.unwrap();
            if shown.lines().any(|line| line == "konsen_behind 1") {
                break;
            }
            assert!(Instant::now() < deadline, "not behind\n{}", self.cluster.logs());
        }
        prometheus.wait_firing("KonsenBehind", labels).await;
    }
}

/// One node on a disk that is slow, and then does not answer.
pub(super) struct Slow {
    // Before the node.
    disk: Freezable,
    pub(super) cluster: Cluster,
}

impl Slow {
    /// None where an ext4 cannot be mounted, or not be frozen.
    pub(super) async fn start() -> Option<Slow> {
        let mut cluster = Cluster::build(1, "audit: {on: true}\n");
        let disk = Freezable::mount(&cluster.nodes[0].home);
        let Some(disk) = disk.filter(|disk| disk.freeze()) else {
            eprintln!("skipped: freezing an ext4 needs root, mkfs.ext4 and loop devices");
            return None;
        };
        disk.thaw();
        cluster.nodes[0].env.push(("KONSEN_DATA".into(), "disk/data".into()));
        cluster.nodes[0].start();
        cluster.wait_ready_all().await;
        Some(Slow { disk, cluster })
    }

    pub(super) async fn run(self, prometheus: &Prometheus) -> &'static [&'static str] {
        let name = instance(&self.cluster.nodes[0]);
        let labels = [("instance", name.as_str())];
        let deadline = Instant::now() + PATIENCE;
        while !prometheus.fires("KonsenSlowLog", &labels).await {
            // Each commit takes as long as the disk stands still.
            assert!(self.disk.freeze());
            let stands = async {
                tokio::time::sleep(Duration::from_millis(200)).await;
                self.disk.thaw();
            };
            let (put, ()) = tokio::join!(self.cluster.put(0, "key", "x"), stands);
            assert!(matches!(put, Ok(201 | 204)), "{put:?}\n{}", self.cluster.logs());
            assert!(Instant::now() < deadline, "not slow\n{}", self.cluster.logs());
        }
        assert!(self.disk.freeze());
        let url = self.cluster.url(0, "/v1/kv/key");
        let put = self.cluster.http.put(url).header("konsen-timeout", "1s").body("y").send().await;
        assert_eq!(put.unwrap().status(), 504);
        tokio::join!(
            prometheus.wait_firing("KonsenUnhealthy", &labels),
            prometheus.wait_firing("KonsenAuditFailing", &labels),
        );
        self.disk.thaw();
        &["KonsenSlowLog", "KonsenUnhealthy", "KonsenAuditFailing"]
    }
}
