//! Hosts that were put out while they were down, and return late.

use crate::harness::Cluster;
use crate::hosts::{must_end, twin, until_it_votes};
use crate::operator::{BOTH, By, Operator, Order, Outcome};
use crate::prober::Prober;

use super::{add, done, successor, until_awaited};

/// A member that is down is replaced or removed as soon as its loss is noticed.
async fn put_out(cluster: &Cluster, by: By, asked: usize, order: &Order) {
    let deadline = std::time::Instant::now() + crate::harness::PATIENCE;
    loop {
        let told = Operator::of(cluster, by, asked).give(order).await;
        if told.outcome == Outcome::Done {
            return;
        }
        assert!(std::time::Instant::now() < deadline, "{order:?}: {told:?}\n{}", cluster.logs());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_was_replaced_ends_before_and_after_its_successor_has_come() {
    for by in BOTH {
        let mut cluster = crate::hosts::start(3, "").await;
        let mut prober = Prober::start(&cluster);
        cluster.nodes[2].kill();
        put_out(&cluster, by, 0, &Order::replace("node3", false)).await;
        until_awaited(&cluster, 0, "node3").await;
        // Both come back with what the lost one had, where it was, and elsewhere.
        let elsewhere = twin(&mut cluster, 2);
        cluster.nodes[2].start();
        must_end(&mut cluster, 2, "replaced").await;
        let new = successor(&mut cluster, by, 2, &[0, 1]);
        cluster.nodes[new].start();
        until_it_votes(&cluster, 0, new).await;
        cluster.nodes[elsewhere].start();
        must_end(&mut cluster, elsewhere, "replaced").await;
        // And it is not taken in the next time either.
        cluster.nodes[elsewhere].start();
        must_end(&mut cluster, elsewhere, "replaced").await;
        prober.follow(&cluster);
        for node in [0, 1, new] {
            cluster.wait_ready(node).await;
        }
        until_it_votes(&cluster, 0, new).await;
        prober.was_served(&cluster);
        prober.end(&cluster, &[0, 1, new]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_was_removed_ends() {
    for (size, by) in [(3, By::CommandLine), (4, By::Http), (5, By::CommandLine)] {
        let mut cluster = crate::hosts::start(size, "").await;
        let prober = Prober::start(&cluster);
        let gone = size - 1;
        cluster.nodes[gone].kill();
        let name = cluster.nodes[gone].name.clone();
        put_out(&cluster, by, 0, &Order::remove(&name, false)).await;
        // It says so as often as it is started.
        for _ in 0..2 {
            cluster.nodes[gone].start();
            must_end(&mut cluster, gone, "removed").await;
        }
        prober.was_served(&cluster);
        prober.end(&cluster, &(0..gone).collect::<Vec<_>>()).await;
    }
}

/// Of those that it knew one is left.
#[tokio::test(flavor = "multi_thread")]
async fn one_that_was_removed_ends_though_others_are_there_than_before() {
    for by in BOTH {
        let mut cluster = crate::hosts::start(3, "").await;
        let mut prober = Prober::start(&cluster);
        cluster.nodes[2].kill();
        put_out(&cluster, by, 0, &Order::remove("node3", false)).await;
        let new = add(&mut cluster, by, 1, "node4", &[0, 1]).await;
        prober.follow(&cluster);
        done(&cluster, by, 1, &Order::remove("node1", false)).await;
        must_end(&mut cluster, 0, "removed").await;
        cluster.nodes[2].start();
        must_end(&mut cluster, 2, "removed").await;
        prober.was_served(&cluster);
        prober.end(&cluster, &[1, new]).await;
    }
}

/// It was replaced, and its successor removed, while it was away.
#[tokio::test(flavor = "multi_thread")]
async fn one_that_was_replaced_ends_though_its_successor_is_gone() {
    let by = By::Http;
    let mut cluster = crate::hosts::start(4, "").await;
    let prober = Prober::start(&cluster);
    cluster.nodes[3].kill();
    put_out(&cluster, by, 0, &Order::replace("node4", false)).await;
    let new = successor(&mut cluster, by, 3, &[0, 1]);
    cluster.nodes[new].start();
    until_it_votes(&cluster, 0, new).await;
    done(&cluster, by, 0, &Order::remove("node4", false)).await;
    must_end(&mut cluster, new, "removed").await;
    cluster.nodes[3].start();
    must_end(&mut cluster, 3, "removed").await;
    prober.was_served(&cluster);
    prober.end(&cluster, &[0, 1, 2]).await;
}
