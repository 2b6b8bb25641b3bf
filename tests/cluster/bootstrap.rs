//! `bootstrap.sh`, as `cluster build` leaves it beside a node.

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::harness::{Cluster, PATIENCE, wait};

fn signal(pid: u32, name: &str) {
    let sent = Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status().unwrap();
    assert!(sent.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn it_starts_a_node_again_passes_signals_on_and_ends_with_it() {
    let cluster = Cluster::build(1, "");
    let home = &cluster.nodes[0].home;
    let log = fs::File::create(home.join("log.txt")).unwrap();
    let mut script = Command::new("./bootstrap.sh")
        .current_dir(home)
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .process_group(0)
        .spawn()
        .unwrap();
    let child = || {
        let children = format!("/proc/{0}/task/{0}/children", script.id());
        let text = fs::read_to_string(children).unwrap();
        text.split_whitespace().next().and_then(|pid| pid.parse::<u32>().ok())
    };
    let until = async |what: &str, is: &dyn Fn() -> bool| {
        let deadline = Instant::now() + PATIENCE;
        while !is() {
            assert!(Instant::now() < deadline, "never {what}:\n{}", cluster.nodes[0].log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    cluster.wait_ready(0).await;
    let first = child().unwrap();
    signal(first, "KILL");
    until("another process", &|| child().is_some_and(|pid| pid != first)).await;
    cluster.wait_ready(0).await;
    // New certificates, and word of it to the script alone.
    let renewed = crate::harness::konsen()
        .current_dir(cluster.dir.path())
        .args(["cert", "renew", "output/node1/certs/node.crt"])
        .output()
        .unwrap();
    assert!(renewed.status.success(), "{}", String::from_utf8_lossy(&renewed.stderr));
    signal(script.id(), "HUP");
    until("new certificates", &|| cluster.nodes[0].log().contains("new certificates are in use"))
        .await;
    cluster.wait_ready(0).await;
    let second = child().unwrap();
    signal(script.id(), "TERM");
    assert!(wait(&mut script, "bootstrap.sh").success());
    assert!(!fs::exists(format!("/proc/{second}")).unwrap(), "the node goes on");
}
