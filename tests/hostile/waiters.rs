//! Requests that wait for a change.

use h2::client::ResponseFuture;

use crate::clients::Http2;
use crate::scene::Scene;

/// How many waiters a connection may have.
const STREAMS: usize = 250;

struct Waiters {
    connections: Vec<Http2>,
    answers: Vec<ResponseFuture>,
}

/// So many wait for a change of a key that there is.
async fn wait(scene: &Scene, key: &str, count: usize, fields: &[(&str, &str)]) -> Waiters {
    let mut waiters = Waiters { connections: Vec::new(), answers: Vec::new() };
    let fields = [&[("if-none-match", "*")], fields].concat();
    while waiters.answers.len() < count {
        let mut connection = Http2::connect(scene.address, 1 << 20).await.expect("a place");
        for _ in 0..STREAMS.min(count - waiters.answers.len()) {
            let path = format!("/v1/kv/{key}?wait=60s");
            waiters.answers.push(connection.get(&path, &fields).await.expect("a stream"));
        }
        waiters.connections.push(connection);
    }
    waiters
}

/// On a value of a mebibyte, while that changes.
pub async fn large(scene: &Scene) {
    let waiters = wait(scene, "big0", 2_000, &[]).await;
    scene.pause().await;
    let put = scene.cluster.http.put(scene.cluster.url(scene.victim, "/v1/kv/big0"));
    let put = put.body(vec![1; 1 << 20]).send().await.unwrap();
    assert!(put.status().is_success());
    drop(waiters);
}

/// With heads that take much more memory than room on the wire.
pub async fn heads(scene: &Scene) {
    let names: Vec<String> = (0..95).map(|number| format!("x{number}")).collect();
    let value = "y".repeat(300);
    let fields: Vec<(&str, &str)> =
        names.iter().map(|name| (name.as_str(), value.as_str())).collect();
    let waiters = wait(scene, "big0", 1_000, &fields).await;
    scene.pause().await;
    drop(waiters);
}

/// On another key than the one that is written.
pub async fn elsewhere(scene: &Scene) {
    let alone = scene.writes_a_second(8).await;
    let waiters = wait(scene, "big1", 2_000, &[]).await;
    // Until all of them wait.
    scene.pause().await;
    let beside = scene.writes_a_second(8).await;
    println!("{:>40}  {alone} writes a second alone, {beside} beside 2,000 waiters", "");
    // Waking them all at every commit cost nine tenths; machines are noisy.
    assert!(beside * 4 > alone, "{alone} writes a second, {beside} beside waiters on another key");
    drop(waiters);
}
