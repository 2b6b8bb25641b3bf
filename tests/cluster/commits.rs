//! Followers hear of what is committed when it is, and not with the next heartbeat.

use std::time::{Duration, Instant};

use crate::harness::Cluster;

#[tokio::test(flavor = "multi_thread")]
async fn followers_hear_of_writes_before_the_next_heartbeat() {
    const HEARTBEAT: Duration = Duration::from_secs(5);
    const WRITES: usize = 10;
    let raft = "raft: {heartbeat: 5s, electionTimeout: 30s}\n";
    let cluster = Cluster::start_configured(3, raft).await;
    let leader = cluster.wait_leader().await;
    let ask = |node: usize, what: String| {
        let asked = cluster.http.get(cluster.url(node, &format!("/v1/kv/{what}"))).send();
        async move { asked.await.unwrap().status() }
    };
    let began = Instant::now();
    for number in 0..WRITES {
        let waits = (leader + 1 + number % 2) % 3;
        let key = format!("k{number}");
        let waiting = tokio::spawn(ask(waits, format!("{key}?consistency=stale&wait=1m")));
        let url = cluster.url(leader, &format!("/v1/kv/{key}"));
        let written = cluster.http.put(url).body("value").send().await.unwrap();
        assert_eq!(written.status(), 201, "{}", cluster.logs());
        assert_eq!(waiting.await.unwrap(), 200);
        // Nor does who asks for what was written.
        let url = cluster.url(leader, &format!("/v1/kv/min{number}"));
        let written = cluster.http.put(url).body("value").send().await.unwrap();
        let revision = written.headers()["konsen-revision"].to_str().unwrap().to_owned();
        for node in 0..3 {
            let wanted = format!("min{number}?consistency=stale&min_revision={revision}");
            assert_eq!(ask(node, wanted).await, 200);
        }
    }
    let took = began.elapsed();
    assert!(took < HEARTBEAT, "{WRITES} writes were heard of in {took:?}: {}", cluster.logs());
}
