//! Five hosts: five network namespaces on a bridge of their own, each with its own address and its own
//! copy of the folder that `cluster build` made, started by its `bootstrap.sh` as an operator would.
//!
//! Needs root and `ip`; says so and does nothing where they are missing.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::harness::{PATIENCE, konsen};
use crate::netns::{Net, address};

const HOSTS: usize = 5;

/// The hosts; gone when dropped, with all that runs in them.
struct Hosts {
    net: Net,
    dir: TempDir,
    running: Vec<Option<Child>>,
}

impl Hosts {
    fn new() -> Option<Hosts> {
        let net = Net::new(HOSTS)?;
        Some(Hosts {
            net,
            dir: TempDir::new().unwrap(),
            running: (0..HOSTS).map(|_| None).collect(),
        })
    }

    fn inside(&self, host: usize, program: &str) -> Command {
        let words = self.net.inside(host);
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).arg(program);
        command
    }

    fn home(&self, host: usize) -> PathBuf {
        self.dir.path().join(format!("host{host}")).join("srv")
    }

    fn bootstrap(&mut self, host: usize) {
        let log = fs::File::create(self.home(host).join("log.txt")).unwrap();
        let child = self
            .inside(host, "./bootstrap.sh")
            .current_dir(self.home(host))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.running[host - 1] = Some(child);
    }

    /// Kills everything on the host at once.
    fn kill(&mut self, host: usize) {
        let Some(mut child) = self.running[host - 1].take() else { return };
        self.net.kill(host);
        let _ = child.wait();
    }

    /// What curl on `host` prints when it asks `other`: the body, and the status on a line of its own.
    fn curl(&self, host: usize, other: usize, arguments: &[&str], path: &str) -> (String, String) {
        let output = self
            .inside(host, "curl")
            .args(["-sS", "--max-time", "8", "-w", "\n%{http_code}"])
            .args(arguments)
            .arg(format!("http://{}:20001{path}", address(other)))
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let (body, status) = text.rsplit_once('\n').unwrap_or(("", ""));
        (body.to_owned(), status.to_owned())
    }

    fn wait_ready(&self, host: usize) {
        let deadline = Instant::now() + PATIENCE;
        while self.curl(host, host, &[], "/readyz").1 != "200" {
            assert!(Instant::now() < deadline, "host {host} is not ready\n{}", self.logs());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn logs(&self) -> String {
        let log = |host: usize| {
            let text = fs::read_to_string(self.home(host).join("log.txt")).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            format!("--- host {host}\n{}\n", lines[lines.len().saturating_sub(20)..].join("\n"))
        };
        (1..=HOSTS).map(log).collect()
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        for host in 1..=HOSTS {
            self.kill(host);
        }
    }
}

#[test]
fn five_hosts_from_cluster_build_serve_and_survive_two_losses() {
    let Some(mut hosts) = Hosts::new() else {
        eprintln!("skipped: making network namespaces needs root and `ip`");
        return;
    };
    let list = |port: u16| -> String {
        (1..=HOSTS).map(|host| format!("  node{host}: {}:{port}\n", address(host))).collect()
    };
    // The original project's keys, and what its curl lines need.
    let (raft, http) = (list(10001), list(20001));
    let yml = format!("servers:\n{raft}httpServers:\n{http}http: {{tls: false}}\n");
    let root = hosts.dir.path().to_path_buf();
    fs::write(root.join("cluster.yml"), yml + "localServerName: node1\n").unwrap();
    let built = konsen()
        .current_dir(&root)
        .args(["cluster", "build", "--config", "cluster.yml", "--out", "output"])
        .output()
        .unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    for host in 1..=HOSTS {
        fs::create_dir(root.join(format!("host{host}"))).unwrap();
        fs::rename(root.join(format!("output/node{host}")), hosts.home(host)).unwrap();
        hosts.bootstrap(host);
    }
    for host in 1..=HOSTS {
        hosts.wait_ready(host);
    }

    let put = ["-X", "PUT", "--data-binary", "hello"];
    assert_eq!(hosts.curl(1, 2, &put, "/v1/kv/greeting").1, "201", "{}", hosts.logs());
    for host in 1..=HOSTS {
        let (body, status) = hosts.curl(host, host, &[], "/v1/kv/greeting");
        assert_eq!((body.as_str(), status.as_str()), ("hello", "200"), "host {host}");
    }

    // Two of five go at once, the leader among them.
    let status = hosts.curl(1, 1, &[], "/v1/status").0;
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    let leader = status["leader"].as_str().unwrap().trim_start_matches("node");
    let leader: usize = leader.parse().unwrap();
    let second = leader % HOSTS + 1;
    hosts.kill(leader);
    hosts.kill(second);
    let left: Vec<usize> = (1..=HOSTS).filter(|host| ![leader, second].contains(host)).collect();
    for &host in &left {
        hosts.wait_ready(host);
        assert_eq!(hosts.curl(host, host, &[], "/v1/kv/greeting").0, "hello");
    }
    let put = ["-X", "PUT", "--data-binary", "again"];
    assert_eq!(hosts.curl(left[0], left[1], &put, "/v1/kv/greeting").1, "204");

    // They come back and have what they missed.
    hosts.bootstrap(leader);
    hosts.bootstrap(second);
    for host in [leader, second] {
        hosts.wait_ready(host);
        assert_eq!(hosts.curl(host, host, &[], "/v1/kv/greeting").0, "again");
    }
}
