//! What `serve` refuses to start with: one clear line and an exit code, nothing lost.

use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::path::Path;

use crate::harness::{Cluster, konsen};

/// Runs `serve` in `home`, which must fail; what it said.
fn refused(home: &Path, arguments: &[&str]) -> String {
    let output = konsen()
        .current_dir(home)
        .args(["serve", "--config", "cluster.yml", "--log", "error"])
        .args(arguments)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "it started\n{said}");
    let errors = said.lines().filter(|line| line.starts_with("error: ")).count();
    assert_eq!(errors, 1, "not one clear line:\n{said}");
    said
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_directory_in_use() {
    let cluster = Cluster::start(1).await;
    let home = &cluster.nodes[0].home;
    let said = refused(home, &["--http-listen", "127.0.0.1:0", "--listen", "127.0.0.1:0"]);
    assert!(said.contains("in use"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_directory_of_another_node() {
    let mut cluster = Cluster::build(3, "");
    let data = cluster.nodes[0].home.join("data");
    cluster.nodes[0].start();
    let identity = data.join("identity");
    while !identity.exists() {
        tokio::task::yield_now().await;
    }
    cluster.nodes[0].kill();
    fs::rename(&data, cluster.nodes[1].home.join("data")).unwrap();
    let said = refused(&cluster.nodes[1].home, &[]);
    assert!(said.contains("node1") && said.contains("node2"), "{said}");
}

#[test]
fn a_port_in_use() {
    let cluster = Cluster::build(1, "");
    let node = &cluster.nodes[0];
    let _tcp = TcpListener::bind(("127.0.0.1", node.http_port)).unwrap();
    let said = refused(&node.home, &[]);
    assert!(said.contains(&node.http_port.to_string()) && said.contains("in use"), "{said}");
    drop(_tcp);
    let _udp = UdpSocket::bind(("127.0.0.1", node.raft_port)).unwrap();
    let said = refused(&node.home, &[]);
    assert!(said.contains(&node.raft_port.to_string()) && said.contains("in use"), "{said}");
}

#[test]
fn certificates_that_are_missing_or_do_not_fit() {
    let cluster = Cluster::build(2, "");
    let certs = cluster.nodes[0].home.join("certs");
    let other = cluster.nodes[1].home.join("certs");
    fs::copy(other.join("node.key"), certs.join("node.key")).unwrap();
    let said = refused(&cluster.nodes[0].home, &[]);
    assert!(said.contains("node.key"), "{said}");
    fs::copy(other.join("node.crt"), certs.join("node.crt")).unwrap();
    let said = refused(&cluster.nodes[0].home, &[]);
    assert!(said.contains("node2"), "{said}");
    fs::remove_file(certs.join("node.crt")).unwrap();
    let said = refused(&cluster.nodes[0].home, &[]);
    assert!(said.contains("node.crt"), "{said}");
}

#[test]
fn a_name_that_is_not_in_the_file() {
    let cluster = Cluster::build(1, "");
    let said = refused(&cluster.nodes[0].home, &["--name", "node9"]);
    assert!(said.contains("node9") && said.contains("servers"), "{said}");
}

#[test]
fn a_key_that_is_unknown() {
    let cluster = Cluster::build(1, "");
    let file = cluster.nodes[0].home.join("cluster.yml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text + "\nservres: {}\n").unwrap();
    let said = refused(&cluster.nodes[0].home, &[]);
    assert!(said.contains("servres") && said.contains("cluster.yml"), "{said}");
}
