//! `POST /v1/cluster/leader` and `konsen leader transfer`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use crate::harness::{Cluster, konsen};

async fn transfer(cluster: &Cluster, asked: usize, body: &str) -> (u16, Value) {
    let url = cluster.url(asked, "/v1/cluster/leader");
    let answer = cluster.http.post(url).body(body.to_owned()).send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn leadership_moves_to_whom_an_operator_names_and_no_client_sees_an_error() {
    let cluster = Arc::new(Cluster::start(3).await);
    let stop = Arc::new(AtomicBool::new(false));
    // One client at each node writes all the time.
    let clients: Vec<_> = (0..3)
        .map(|node| {
            let (cluster, stop) = (cluster.clone(), stop.clone());
            tokio::spawn(async move {
                let mut written = 0;
                while !stop.load(Ordering::Relaxed) {
                    let status = cluster.put(node, &format!("key{node}"), "x").await.unwrap();
                    assert!(matches!(status, 201 | 204), "{status}");
                    written += 1;
                }
                written
            })
        })
        .collect();
    for round in 0..6 {
        let leader = cluster.wait_leader().await;
        let to = (leader + 1 + round % 2) % 3;
        let name = cluster.nodes[to].name.clone();
        // Whichever node is asked passes it on.
        let (status, answer) =
            transfer(&cluster, round % 3, &json!({ "to": name }).to_string()).await;
        assert_eq!(
            (status, &answer["leader"]),
            (200, &json!(name)),
            "{answer}\n{}",
            cluster.logs()
        );
        // Who leads already is left where it is.
        let (status, again) =
            transfer(&cluster, round % 3, &json!({ "to": name }).to_string()).await;
        assert_eq!((status, again), (200, answer));
    }
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        assert!(client.await.unwrap() > 0);
    }
    // Without a name it is anybody but the one that leads.
    let (_, before) = transfer(&cluster, 0, r#"{"to":"node1"}"#).await;
    assert_eq!(before["leader"], "node1");
    let (status, answer) = transfer(&cluster, 0, "").await;
    assert_eq!(status, 200, "{answer}");
    assert_ne!(answer["leader"], "node1");
    // By their names, whatever their numbers are.
    let (_, answer) = transfer(&cluster, 0, r#"{"to":"nobody"}"#).await;
    assert_eq!(answer["detail"], r#""nobody" is no member; the members are node1, node2, node3"#);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_cannot_lead_is_refused_with_a_reason() {
    let cluster = Cluster::start(1).await;
    let (status, answer) = transfer(&cluster, 0, r#"{"to":"nobody"}"#).await;
    assert_eq!((status, &answer["type"]), (404, &json!("urn:konsen:problem:no-such-member")));
    assert_eq!(answer["detail"], r#""nobody" is no member; the members are node1"#);
    let (status, answer) = transfer(&cluster, 0, "{}").await;
    assert_eq!((status, &answer["type"]), (409, &json!("urn:konsen:problem:cannot-lead")));
    for broken in ["[", r#"{"two":"node1"}"#, r#"{"to":7}"#] {
        let (status, answer) = transfer(&cluster, 0, broken).await;
        assert_eq!((status, &answer["type"]), (400, &json!("urn:konsen:problem:malformed")));
    }
    let run = |arguments: &[&str]| {
        let mut command = konsen();
        command.args(["leader", "transfer", "--endpoints", &cluster.url(0, "")]).args(arguments);
        command.output().unwrap()
    };
    let same = run(&["node1", "-o", "raw"]);
    assert_eq!((same.status.code(), &same.stdout[..]), (Some(0), &b"node1\n"[..]), "{same:?}");
    let refused = run(&["node7"]);
    assert_eq!(refused.status.code(), Some(1));
    let line = String::from_utf8(refused.stderr).unwrap();
    assert!(line.contains("the members are node1"), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_dead_is_refused_at_once() {
    use std::time::{Duration, Instant};

    let mut cluster = Cluster::start(3).await;
    let leader = cluster.wait_leader().await;
    let (dead, other) = ((leader + 1) % 3, (leader + 2) % 3);
    let name = cluster.nodes[dead].name.clone();
    cluster.nodes[dead].kill();
    // Its loss is noticed within two election time-outs; who asks sooner may be told that nobody knows.
    let deadline = Instant::now() + crate::harness::PATIENCE;
    let body = json!({ "to": name }).to_string();
    while transfer(&cluster, leader, &body).await.0 != 409 {
        assert!(Instant::now() < deadline, "{}", cluster.logs());
    }
    for asked in [leader, other] {
        let began = Instant::now();
        let (status, answer) = transfer(&cluster, asked, &body).await;
        assert_eq!((status, &answer["type"]), (409, &json!("urn:konsen:problem:cannot-lead")));
        let detail = answer["detail"].as_str().unwrap();
        assert!(detail.contains(&format!("{name} cannot be reached")), "{detail}");
        assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    }
    let mut command = konsen();
    command.args(["leader", "transfer", &name, "--endpoints", &cluster.url(other, "")]);
    let refused = command.output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains("cannot be reached from the leader"), "{said}");
    assert_eq!(cluster.wait_leader().await, leader);
}

/// How long nobody is served while leadership moves. `KONSEN_TRANSFERS=100` asks for so many transfers; with that
/// many or more the 99th percentile is held to 50 ms.
#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_leaves_a_short_gap() {
    use std::time::{Duration, Instant};

    const MANY: usize = 100;
    const GAP_MAX: Duration = Duration::from_millis(50);
    let transfers = std::env::var("KONSEN_TRANSFERS").map_or(4, |text| text.parse().unwrap());
    let cluster = Arc::new(Cluster::start(3).await);
    let stop = Arc::new(AtomicBool::new(false));
    // Writes one after the other at each node, with their times.
    let clients: Vec<_> = (0..3)
        .map(|node| {
            let (cluster, stop) = (cluster.clone(), stop.clone());
            tokio::spawn(async move {
                let mut writes = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let began = Instant::now();
                    let status = cluster.put(node, &format!("key{node}"), "x").await.unwrap();
                    assert!(matches!(status, 201 | 204), "{status}");
                    writes.push((began, Instant::now()));
                }
                writes
            })
        })
        .collect();
    let mut moves = Vec::new();
    for round in 0..transfers {
        let began = Instant::now();
        let (status, answer) = transfer(&cluster, round % 3, "").await;
        assert_eq!(status, 200, "{answer}");
        moves.push((began, Instant::now()));
        // Each transfer finds the load as it is without one.
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    stop.store(true, Ordering::Relaxed);
    let mut writes = Vec::new();
    for client in clients {
        writes.extend(client.await.unwrap());
    }
    let longest = |from: Instant, to: Instant| {
        let during = writes.iter().filter(|(began, ended)| *began <= to && *ended >= from);
        during.map(|(began, ended)| *ended - *began).max().unwrap_or_default()
    };
    let mut gaps: Vec<Duration> = moves.iter().map(|&(from, to)| longest(from, to)).collect();
    gaps.sort();
    let mut usual: Vec<Duration> = writes.iter().map(|(began, ended)| *ended - *began).collect();
    usual.sort();
    let percentile =
        |times: &[Duration], percent: usize| times[(times.len() * percent).div_ceil(100) - 1];
    let (p50, p99) = (percentile(&gaps, 50), percentile(&gaps, 99));
    eprintln!(
        "{transfers} transfers: the slowest write during one took p50 {p50:.1?}, p99 {p99:.1?}, max {:.1?}; all {} \
         writes p50 {:.1?}, p99 {:.1?}",
        percentile(&gaps, 100),
        usual.len(),
        percentile(&usual, 50),
        percentile(&usual, 99),
    );
    if transfers >= MANY {
        assert!(p99 < GAP_MAX, "{gaps:.0?}");
    }
}
