//! Every node restarted in turn, while clients that know all endpoints go on.
//!
//! `KONSEN_RESTARTS=60` asks for so many restarts.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use konsen::client::{Client, Options, Preconditions, TlsFiles};

use crate::harness::Cluster;

const CLIENTS: usize = 6;

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_fails_no_request() {
    let restarts = std::env::var("KONSEN_RESTARTS").map_or(6, |text| text.parse().unwrap());
    let mut cluster = Cluster::start(3).await;
    let endpoints: Vec<String> = cluster.nodes.iter().map(|node| node.url("")).collect();
    let stop = Arc::new(AtomicBool::new(false));
    let client = |number: usize| {
        let mut endpoints = endpoints.clone();
        endpoints.rotate_left(number % 3);
        let (timeout, tls) = (Duration::from_secs(5), TlsFiles::default());
        let client = Client::new(&Options { endpoints, tls, token: None, timeout }).unwrap();
        let stop = stop.clone();
        tokio::spawn(async move {
            let (mut done, mut failed) = (0_u64, Vec::new());
            let key = format!("client{number}");
            while !stop.load(Ordering::Relaxed) {
                let value = Bytes::from(done.to_string());
                match client.put(key.as_bytes(), &value, None, Preconditions::default()).await {
                    Ok(_) => done += 1,
                    Err(error) => failed.push(format!("put {done}: {error}")),
                }
                match client.get(key.as_bytes()).await {
                    Ok(read) if read.item.value == value => {}
                    Ok(read) => failed.push(format!("put {done}, read {:?}", read.item.value)),
                    Err(error) => failed.push(format!("get {done}: {error}")),
                }
            }
            (done, failed)
        })
    };
    let clients: Vec<_> = (0..CLIENTS).map(client).collect();
    for restart in 0..restarts {
        let node = restart % 3;
        assert!(cluster.nodes[node].terminate().success());
        cluster.nodes[node].start();
        cluster.wait_ready(node).await;
    }
    stop.store(true, Ordering::Relaxed);
    let (mut done, mut failed) = (0, Vec::new());
    for client in clients {
        let (some, errors) = client.await.unwrap();
        assert!(some > 0);
        done += some;
        failed.extend(errors);
    }
    eprintln!("{restarts} restarts, {done} writes and as many reads, {} failed", failed.len());
    assert!(failed.is_empty(), "{failed:#?}\n{}", cluster.logs());
}
