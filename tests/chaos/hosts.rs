//! The nodes, each on a host of its own, and what the faults need of them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use crate::clock;
use crate::harness::{Cluster, PATIENCE, Place};
use crate::netns::{Net, address};

pub(crate) const RAFT_PORT: u16 = 10_001;
pub(crate) const HTTP_PORT: u16 = 20_001;
/// Room for the data of the last node, on a file system of its own.
const SMALL_BYTES: u64 = 256 << 20;
/// What it is called, before the number of the test's process.
const MOUNT: &str = "konsen-chaos-";
/// What does not outlive the test, however that ends.
pub(crate) const MORTAL: [&str; 3] = ["setpriv", "--pdeathsig", "KILL"];

/// The cluster on its hosts. Host `n + 1` runs node `n`; behind them come the clients' host and the proxy's.
pub(crate) struct Hosts {
    pub(crate) cluster: Cluster,
    pub(crate) net: Net,
    mounted: Option<PathBuf>,
}

impl Hosts {
    /// None where namespaces or rules cannot be made. Starts nothing.
    pub(crate) fn new(nodes: usize) -> Option<Hosts> {
        let net = Net::new(nodes + 2)?;
        let place =
            |node| Place { host: address(node + 1), raft_port: RAFT_PORT, http_port: HTTP_PORT };
        // Checkpoints and snapshots come often.
        let extra = "limits:\n  overlay: 1MiB\n  logTail: 1MiB\n  freeSpace: 16MiB\n";
        let cluster = Cluster::build_at((0..nodes).map(place).collect(), extra);
        let mut hosts = Hosts { cluster, net, mounted: None };
        if !hosts.iptables(0, "-L") {
            return None;
        }
        for node in 0..nodes {
            let inside = hosts.net.inside(node + 1).into_iter();
            hosts.cluster.nodes[node].wrapper = inside.chain(MORTAL.map(String::from)).collect();
        }
        hosts.mount(nodes - 1);
        clock::give(&mut hosts.cluster.nodes[0]);
        Some(hosts)
    }

    /// Gives a node's data a small file system.
    fn mount(&mut self, node: usize) {
        sweep();
        let node = &mut self.cluster.nodes[node];
        let small = node.home.join("small");
        std::fs::create_dir(&small).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={SMALL_BYTES}")])
            .arg(format!("{MOUNT}{}", std::process::id()))
            .arg(&small)
            .status();
        if mounted.is_ok_and(|status| status.success()) {
            node.env.push(("KONSEN_DATA".into(), "small/data".into()));
            self.mounted = Some(small);
        }
    }

    /// Where the node with the small file system has it, if it could be made.
    pub(crate) fn small(&self) -> Option<PathBuf> {
        self.mounted.clone()
    }

    pub(crate) fn count(&self) -> usize {
        self.cluster.nodes.len()
    }

    /// The host that the clients are on.
    pub(crate) fn client(&self) -> usize {
        self.count() + 1
    }

    /// The host that the proxy is on.
    pub(crate) fn proxy(&self) -> usize {
        self.count() + 2
    }

    /// Where the node keeps its data.
    pub(crate) fn data(&self, node: usize) -> PathBuf {
        let home = &self.cluster.nodes[node].home;
        let small = self.mounted.as_deref().filter(|small| small.starts_with(home));
        small.unwrap_or(home).join("data")
    }

    /// Runs `iptables` at the node with words between spaces.
    pub(crate) fn iptables(&self, node: usize, arguments: &str) -> bool {
        let inside = self.net.inside(node + 1);
        let output = Command::new(&inside[0])
            .args(&inside[1..])
            .args(["iptables", "-w"])
            .args(arguments.split_whitespace())
            .output();
        output.is_ok_and(|output| output.status.success())
    }

    /// A rule that must be possible.
    pub(crate) fn rule(&self, node: usize, arguments: &str) {
        assert!(self.iptables(node, arguments), "node{}: iptables {arguments}", node + 1);
    }

    /// Cuts what goes from one node to another between Raft's ports, that way only.
    pub(crate) fn cut(&self, from: usize, to: usize) {
        self.rule(to, &format!("-A INPUT -p udp -s {} -j DROP", address(from + 1)));
    }

    /// Takes all rules back, everywhere.
    pub(crate) fn heal(&self) {
        for node in 0..self.count() {
            self.rule(node, "-F INPUT");
            self.rule(node, "-F OUTPUT");
        }
    }

    /// Waits for words in a node's log behind what it held at `from` bytes.
    pub(crate) fn wait_logged(&self, node: usize, from: usize, words: &str) {
        self.wait_logged_by(&[(node, from)], words);
    }

    /// The same, in the log of any of these.
    pub(crate) fn wait_logged_by(&self, logs: &[(usize, usize)], words: &str) {
        let deadline = Instant::now() + PATIENCE;
        // A file tells nobody that it has grown.
        while !logs.iter().any(|&(node, from)| self.log_since(node, from).contains(words)) {
            let nodes: Vec<usize> = logs.iter().map(|(node, _)| node + 1).collect();
            assert!(Instant::now() < deadline, "nodes {nodes:?} do not log {words:?}");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }

    pub(crate) fn log_since(&self, node: usize, from: usize) -> String {
        let log = self.cluster.nodes[node].log();
        log.get(from..).unwrap_or_default().to_owned()
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        for node in &mut self.cluster.nodes {
            node.kill();
        }
        if let Some(small) = &self.mounted {
            unmount(small);
        }
    }
}

/// Lazily: a namespace that is about to go may still hold it.
fn unmount(small: &Path) {
    let _ = Command::new("umount").arg("-l").arg(small).status();
}

/// Takes back what an earlier test process left that was killed before it could.
fn sweep() {
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap_or_default();
    for line in mounts.lines() {
        let mut words = line.split(' ');
        let process = words.next().and_then(|source| source.strip_prefix(MOUNT));
        let (Some(process), Some(place)) = (process, words.next()) else { continue };
        if !Path::new("/proc").join(process).exists() {
            unmount(Path::new(place));
        }
    }
}
