//! Commands whose endpoints hang, or speak something else than was thought.

use std::process::Output;
use std::time::{Duration, Instant};

use crate::harness::{Cluster, PATIENCE, Place, free_ports, konsen};

fn run(cluster: &Cluster, arguments: &[&str], endpoints: &str) -> (Output, Duration) {
    let began = Instant::now();
    let output = konsen()
        .current_dir(cluster.dir.path())
        .args(arguments)
        .args(["--endpoints", endpoints])
        .output()
        .unwrap();
    (output, began.elapsed())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_hangs_costs_a_moment() {
    let mut cluster = Cluster::start(3).await;
    assert_eq!(cluster.put(0, "a", "1").await.unwrap(), 201);
    let leader = cluster.wait_leader().await;
    let hung = (leader + 1) % 3;
    let urls: Vec<String> = (0..3).map(|at| cluster.url((hung + at) % 3, "")).collect();
    let endpoints = urls.join(",");
    cluster.nodes[hung].signal("STOP");
    for arguments in [
        &["get", "a"][..],
        &["list"],
        &["status"],
        &["member", "list"],
        &["put", "b", "2"],
        &["delete", "b"],
        &["snapshot", "save", "backup"],
    ] {
        let (output, took) = run(&cluster, arguments, &endpoints);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {error}");
        assert!(took < Duration::from_secs(6), "{arguments:?} took {took:?}: {error}");
        println!("{arguments:?} took {took:?}: {error}");
        if arguments[0] == "get" {
            assert!(error.contains("no answer yet; asking http://"), "{error}");
        }
    }
    // With nobody else to ask it says at least what it waits for, as long as there is something to wait for.
    for (arguments, code, waits_on) in [
        (&["get", "a", "--timeout", "3s"][..], 5, true),
        (&["put", "a", "2", "--timeout", "1s"], 6, false),
        (&["snapshot", "save", "late", "--timeout", "1s"], 5, false),
    ] {
        let (output, took) = run(&cluster, arguments, &urls[0]);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{error}");
        assert_eq!(error.contains("no answer for 2 s; waiting on"), waits_on, "{error}");
        let due = Duration::from_secs(if waits_on { 3 } else { 1 });
        assert!(took < due + Duration::from_secs(1), "{arguments:?} took {took:?}: {error}");
    }
    // Nor does the next one take a time of its own.
    cluster.nodes[leader].kill();
    let two = format!("{},{}", cluster.url(leader, ""), urls[0]);
    let (output, took) = run(&cluster, &["put", "a", "3", "--timeout", "1s"], &two);
    assert_eq!(output.status.code(), Some(5), "{output:?}");
    assert!(took < Duration::from_secs(2), "{took:?}");
    cluster.nodes[hung].signal("CONT");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_speaks_something_else_is_named() {
    let mut cluster = Cluster::build(1, "http: {tls: true}\n");
    cluster.nodes[0].start();
    let plain = cluster.url(0, "");
    let deadline = Instant::now() + PATIENCE;
    for arguments in [&["get", "a"][..], &["put", "a", "1"]] {
        loop {
            let (output, _) = run(&cluster, arguments, &plain);
            let error = String::from_utf8_lossy(&output.stderr).into_owned();
            if output.status.code() == Some(5) && Instant::now() < deadline {
                // It is just starting.
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
            assert_eq!(output.status.code(), Some(7), "{error}");
            assert!(error.contains("speaks TLS, not plain HTTP"), "{error}");
            assert!(error.contains("hint: write it as https://"), "{error}");
            break;
        }
    }
    let plain = Cluster::start(1).await;
    let tls = plain.url(0, "").replace("http://", "https://");
    for arguments in [&["get", "a"][..], &["put", "a", "1"]] {
        let arguments = [arguments, &["--cacert", "certs/ca.crt"]].concat();
        let (output, _) = run(&plain, &arguments, &tls);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(7), "{error}");
        assert!(error.contains("speaks plain HTTP, not TLS"), "{error}");
        assert!(error.contains("hint: write it as http://"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_at_both_kinds_of_addresses_are_a_cluster_where_each_listens_for_both() {
    if std::net::UdpSocket::bind("[::1]:0").is_err() {
        eprintln!("skipped: there is no IPv6 here");
        return;
    }
    let hosts = ["127.0.0.1", "[::1]", "127.0.0.1"];
    let places = free_ports(3).into_iter().zip(hosts).map(|((raft_port, http_port), host)| Place {
        host: host.to_owned(),
        raft_port,
        http_port,
    });
    let mut cluster = Cluster::build_at(places.collect(), "");
    for node in &mut cluster.nodes {
        let listen = format!("[::]:{}", node.raft_port);
        node.start_with(&["--listen", &listen]);
    }
    cluster.wait_ready_all().await;
    assert_eq!(cluster.put(0, "a", "1").await.unwrap(), 201);
    assert_eq!(cluster.get(1, "a").await.unwrap().as_deref(), Some("1"));
}
