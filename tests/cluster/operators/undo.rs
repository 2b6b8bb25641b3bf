//! Changes of the voters that cannot be completed, and how they end.

use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::task::JoinHandle;

use crate::harness::{Cluster, PATIENCE, konsen};
use crate::members::named;
use crate::operator::{BOTH, By, Operator, Order, Outcome, Told};
use crate::prober::Prober;

use super::{done, identities, refused};

/// After an election time-out a leader gives up what cannot be completed: that leaves time to look at it.
const SLOW: &str = "raft:\n  electionTimeout: 2s\n";

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_under_way() {
    let cluster = crate::hosts::start(3, "").await;
    for by in BOTH {
        for force in [false, true] {
            for asked in 0..3 {
                let said = refused(&cluster, by, asked, &Order::Undo { force }).await;
                assert!(said.contains("no change of the membership is under way"), "{said}");
            }
        }
    }
}

/// Three voters of which one, a follower, is paused and known to be, and the other follower.
async fn one_is_paused(cluster: &Cluster) -> (usize, usize, usize) {
    let leader = cluster.wait_leader().await;
    let (paused, other) = ((leader + 1) % 3, (leader + 2) % 3);
    cluster.nodes[paused].signal("STOP");
    let name = cluster.nodes[paused].name.clone();
    let deadline = Instant::now() + PATIENCE;
    while named(&state(cluster, leader).await["members"], &name)["reachable"] == true {
        assert!(Instant::now() < deadline, "its silence is not noticed\n{}", cluster.logs());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    (leader, paused, other)
}

/// Gives an order, and again as long as the leader itself seems to be cut off, as on a machine that is busy.
fn begin(cluster: &Cluster, by: By, leader: usize, order: Order) -> JoinHandle<Told> {
    let operator = Operator::of(cluster, by, leader);
    let deadline = Instant::now() + PATIENCE;
    tokio::spawn(async move {
        loop {
            let told = operator.give(&order).await;
            if !told.text.contains("before the change") || Instant::now() >= deadline {
                return told;
            }
        }
    })
}

async fn state(cluster: &Cluster, asked: usize) -> Value {
    let answer = cluster.http.get(cluster.url(asked, "/v1/cluster")).send().await;
    match answer {
        Ok(answer) => answer.json().await.unwrap_or_default(),
        Err(_) => Value::Null,
    }
}

/// Waits until a node tells of a change that is under way; none if the order was answered before.
async fn under_way(cluster: &Cluster, asked: usize, order: &JoinHandle<Told>) -> Option<Value> {
    while !order.is_finished() {
        let change = state(cluster, asked).await["change"].take();
        if change.is_object() {
            return Some(change);
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    None
}

/// The other follower is to go, and only the paused one and the leader would be left: by force this is begun, and
/// cannot be completed. The leader gives it up after a while, or an operator ends it.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_whose_new_voters_do_not_answer() {
    for (by, operator) in
        [(By::CommandLine, true), (By::Http, true), (By::CommandLine, false), (By::Http, false)]
    {
        let cluster = crate::hosts::start(3, "").await;
        let prober = Prober::start(&cluster);
        let (leader, paused, other) = one_is_paused(&cluster).await;
        let before = identities(&cluster, leader).await;
        let name = cluster.nodes[other].name.clone();
        let said =
            begin(&cluster, by, leader, Order::remove(&name, false)).await.unwrap().refused();
        assert!(said.contains(&cluster.nodes[paused].name) && said.contains("force"), "{said}");

        // Through the leader: the one that is to go may not hear of it.
        let (told, change) = loop {
            let told = begin(&cluster, by, leader, Order::remove(&name, true));
            // The leader may give it up sooner than this test looks.
            if let Some(change) = under_way(&cluster, leader, &told).await {
                break (told, change);
            }
            let said = told.await.unwrap().refused();
            assert!(said.contains("undone"), "{said}");
        };
        let names = |field: &str| change[field].as_array().cloned().unwrap_or_default();
        assert_eq!(names("before").len(), 3, "{change}");
        assert_eq!(names("after").len(), 2, "{change}");
        assert!(!names("after").contains(&name.clone().into()), "{change}");
        assert_eq!(names("missing"), [cluster.nodes[paused].name.as_str()], "{change}");
        if operator {
            let undo = Operator::of(&cluster, by, leader).give(&Order::Undo { force: false }).await;
            // The leader may have been quicker.
            let late = undo.outcome == Outcome::Refused;
            assert!(late || undo.outcome == Outcome::Done, "{undo:?}\n{}", cluster.logs());
        }
        let told = told.await.unwrap();
        assert_eq!(told.outcome, Outcome::Refused, "{told:?}\n{}", cluster.logs());
        assert!(told.text.contains("undone"), "{told:?}");

        // Everything is as it was before, and goes on.
        prober.until_served(&cluster).await;
        prober.was_served(&cluster);
        assert_eq!(identities(&cluster, leader).await, before);
        assert!(state(&cluster, leader).await["change"].is_null());
        cluster.nodes[paused].signal("CONT");
        cluster.wait_ready_all().await;
        // Now it can be done.
        done(&cluster, by, leader, &Order::remove(&name, false)).await;
        prober.was_served(&cluster);
        prober.end(&cluster, &[leader, paused]).await;
    }
}

/// The leader is lost before it can give the change up: who is left cannot decide on it, and is told to by force.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_nobody_can_decide_is_undone_by_force_only() {
    for by in BOTH {
        let mut cluster = crate::hosts::start(3, SLOW).await;
        let prober = Prober::start(&cluster);
        prober.until_served(&cluster).await;
        let before = identities(&cluster, 0).await;
        let (leader, other) = loop {
            let (leader, paused, other) = one_is_paused(&cluster).await;
            let order = Order::remove(&cluster.nodes[other].name, true);
            let told = begin(&cluster, By::Http, leader, order);
            under_way(&cluster, other, &told).await;
            cluster.nodes[leader].kill();
            cluster.nodes[paused].signal("CONT");
            // It was not asked elsewhere, or another would have refused it.
            let told = told.await.unwrap();
            assert_ne!(told.outcome, Outcome::Done, "{told:?}");
            if state(&cluster, other).await["change"].is_object() {
                break (leader, other);
            }
            // The leader was quicker.
            cluster.nodes[leader].start();
            cluster.wait_ready_all().await;
        };
        // What is sent to one that is lost has no answer.
        let deadline = Instant::now() + PATIENCE;
        while state(&cluster, other).await["leader"].is_string() {
            assert!(Instant::now() < deadline, "its loss is not noticed\n{}", cluster.logs());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let said = refused(&cluster, by, other, &Order::Undo { force: false }).await;
        assert!(said.contains("force"), "{said}");
        done(&cluster, by, other, &Order::Undo { force: true }).await;
        prober.until_served(&cluster).await;
        cluster.nodes[leader].start();
        cluster.wait_ready_all().await;
        assert_eq!(identities(&cluster, leader).await, before);
        prober.end(&cluster, &[0, 1, 2]).await;
    }
}

/// `konsen status` shows it, too.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_is_under_way_is_shown() {
    let cluster = crate::hosts::start(3, SLOW).await;
    let (leader, paused, other) = one_is_paused(&cluster).await;
    let status = async || {
        let mut status = tokio::process::Command::from(konsen());
        status.args(["status", "--endpoints", &cluster.url(leader, "")]);
        let told = status.output().await.unwrap();
        assert!(told.status.success(), "{told:?}");
        String::from_utf8_lossy(&told.stdout).into_owned()
    };
    let deadline = Instant::now() + PATIENCE;
    let told = loop {
        let order = Order::remove(&cluster.nodes[other].name, true);
        let told = begin(&cluster, By::Http, leader, order);
        under_way(&cluster, leader, &told).await;
        let shown = status().await;
        if shown.contains("The voters have been changing") {
            assert!(shown.contains(&cluster.nodes[paused].name), "{shown}");
            break told;
        }
        // The leader has given it up before.
        assert!(Instant::now() < deadline, "{shown}");
        told.await.unwrap().refused();
    };
    cluster.nodes[paused].signal("CONT");
    // Whoever was awaited has come: it is completed, unless it was undone just before.
    let told = told.await.unwrap();
    assert!(matches!(told.outcome, Outcome::Done | Outcome::Refused), "{told:?}");
}
