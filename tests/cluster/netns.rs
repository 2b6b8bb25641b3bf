//! Hosts without machines: network namespaces on a bridge, each with an address. The bridge lives in a
//! namespace too, so that nothing of the machine's own network changes.
//!
//! Needs root and `ip`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

const PREFIX: &str = "konsen-";

/// The namespaces, numbered from 1; gone when dropped, with all that runs in them.
pub(crate) struct Net {
    tag: String,
    hosts: usize,
}

/// Runs `ip` with words between spaces; whether it did what it was told.
pub(crate) fn ip(arguments: &str) -> bool {
    let output = Command::new("ip").args(arguments.split_whitespace()).output();
    output.is_ok_and(|output| output.status.success())
}

fn must(arguments: &str) {
    assert!(ip(arguments), "ip {arguments}");
}

/// The address of a host, the same in every net: they do not see each other.
pub(crate) fn address(host: usize) -> String {
    format!("10.86.25.{host}")
}

impl Net {
    /// None where namespaces cannot be made.
    pub(crate) fn new(hosts: usize) -> Option<Net> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        sweep();
        let process = std::process::id();
        let tag = format!("{PREFIX}{process}-{}", MADE.fetch_add(1, Ordering::Relaxed));
        if !ip(&format!("netns add {tag}-sw")) {
            return None;
        }
        // From here on it is taken down whatever happens.
        let net = Net { tag, hosts };
        let tag = &net.tag;
        must(&format!("-n {tag}-sw link add br0 type bridge"));
        must(&format!("-n {tag}-sw link set br0 up"));
        for host in 1..=hosts {
            must(&format!("netns add {tag}-{host}"));
            must(&format!(
                "-n {tag}-sw link add p{host} type veth peer name eth0 netns {tag}-{host}"
            ));
            must(&format!("-n {tag}-sw link set p{host} master br0 up"));
            must(&format!("-n {tag}-{host} addr add {}/24 dev eth0", address(host)));
            must(&format!("-n {tag}-{host} link set eth0 up"));
            must(&format!("-n {tag}-{host} link set lo up"));
        }
        Some(net)
    }

    /// The words before a command that is to run on the host. The process becomes the command.
    pub(crate) fn inside(&self, host: usize) -> Vec<String> {
        vec!["ip".into(), "netns".into(), "exec".into(), self.name(host)]
    }

    /// The namespace's name.
    pub(crate) fn name(&self, host: usize) -> String {
        format!("{}-{host}", self.tag)
    }

    /// Plugs the host in or out, at the bridge.
    #[allow(dead_code)]
    pub(crate) fn plug(&self, host: usize, up: bool) {
        let state = if up { "up" } else { "down" };
        must(&format!("-n {}-sw link set p{host} {state}", self.tag));
    }

    /// Kills everything on the host at once.
    pub(crate) fn kill(&self, host: usize) {
        kill_all(&self.name(host));
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for host in 1..=self.hosts {
            self.kill(host);
            ip(&format!("netns del {}", self.name(host)));
        }
        ip(&format!("netns del {}-sw", self.tag));
    }
}

fn kill_all(namespace: &str) {
    let listed = Command::new("ip").args(["netns", "pids", namespace]).output();
    let listed = listed.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    // A thread of the test itself may have entered; it leaves by ending.
    let own = std::process::id().to_string();
    let listed = listed.unwrap_or_default();
    let others: Vec<&str> = listed.split_whitespace().filter(|pid| *pid != own).collect();
    if !others.is_empty() {
        // Some may have ended since.
        let _ = Command::new("kill").arg("-9").args(&others).output();
    }
}

/// The file that stands for a namespace.
fn file(namespace: &str) -> PathBuf {
    Path::new("/run/netns").join(namespace)
}

/// Moves the calling thread, and what it starts from now on, to a host.
#[allow(dead_code)]
pub(crate) fn enter(net: &Net, host: usize) {
    use std::os::fd::AsFd;
    let file = fs::File::open(file(&net.name(host))).unwrap();
    rustix::thread::move_into_link_name_space(
        file.as_fd(),
        Some(rustix::thread::LinkNameSpaceType::Network),
    )
    .unwrap();
}

/// Takes down what an earlier test process left that was killed before it could.
fn sweep() {
    let Ok(entries) = fs::read_dir("/run/netns") else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(rest) = name.strip_prefix(PREFIX) else { continue };
        let Some((process, _)) = rest.split_once('-') else { continue };
        if process.parse::<u32>().is_ok() && !Path::new("/proc").join(process).exists() {
            kill_all(&name);
            ip(&format!("netns del {name}"));
        }
    }
}
