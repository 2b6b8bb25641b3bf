//! Answers that nobody takes, or that are taken slowly.

use std::time::{Duration, Instant};

use tokio::io::AsyncReadExt;

use crate::clients::{Http2, sent};
use crate::scene::Scene;

/// A page of them is 24 MiB of JSON.
const LISTING: &str = "/v1/kv?prefix=big&consistency=stale";

/// With a window of no bytes.
pub async fn http2(scene: &Scene) {
    let mut connection = Http2::connect(scene.address, 0).await.expect("a place");
    let mut answers = Vec::new();
    for number in 0..250 {
        let path = if number % 2 == 0 { LISTING } else { "/v1/kv/big1?consistency=stale" };
        answers.extend(connection.get(path, &[]).await);
    }
    assert!(!answers.is_empty());
    scene.pause().await;
}

pub async fn http1(scene: &Scene) {
    let mut connections = Vec::new();
    for number in 0..100 {
        let accept = if number % 2 == 0 { "application/x-ndjson" } else { "*/*" };
        let request =
            format!("GET {LISTING} HTTP/1.1\r\nHost: localhost\r\nAccept: {accept}\r\n\r\n");
        connections.extend(sent(scene.address, &request).await);
    }
    assert!(!connections.is_empty());
    scene.pause().await;
}

/// Two that take a little every now and then, as many as there are places for, are given up, and there is a place again.
pub async fn backups(scene: &Scene) {
    let request = "GET /v1/snapshot HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut slow = Vec::new();
    for _ in 0..2 {
        slow.push(sent(scene.address, request).await.unwrap());
    }
    let until = Instant::now() + Duration::from_secs(30);
    let url = scene.cluster.url(scene.victim, "/v1/snapshot");
    loop {
        for stream in &mut slow {
            let mut bytes = [0; 4096];
            let _ = tokio::time::timeout(Duration::from_millis(50), stream.read(&mut bytes)).await;
        }
        let backup = scene.cluster.http.get(&url).send().await.unwrap();
        if backup.status().is_success() {
            // All of it.
            assert!(backup.bytes().await.unwrap().len() > 1 << 20);
            return;
        }
        assert_eq!(backup.status().as_u16(), 429);
        assert!(Instant::now() < until, "slow backups keep their places");
    }
}
