//! Hosts that were put out while they were down, and return late.

use crate::harness::Cluster;
use crate::hosts::{must_end, twin, until_it_votes};
use crate::operator::{At, BOTH, By, Operator, Order, Outcome};
use crate::prober::Prober;

use super::{add, come, done, successor, until_awaited};

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

/// A member is its data directory: another host of its name is another member, and the old one stays out.
#[tokio::test(flavor = "multi_thread")]
async fn one_whose_name_was_added_again_is_not_taken_in_in_its_place() {
    for by in BOTH {
        let mut cluster = crate::hosts::start(3, "").await;
        let mut prober = Prober::start(&cluster);
        cluster.nodes[2].kill();
        put_out(&cluster, by, 0, &Order::remove("node3", false)).await;
        let at = At::of(&cluster.nodes[2]);
        let order = Order::Add { name: "node3".to_owned(), at: at.clone(), learner: false };
        done(&cluster, by, 0, &order).await;
        // Nobody remembers it but its own data.
        for node in [0, 1] {
            assert!(cluster.nodes[node].terminate().success());
            cluster.nodes[node].start();
            cluster.wait_ready(node).await;
        }
        for _ in 0..2 {
            cluster.nodes[2].start();
            must_end(&mut cluster, 2, "replaced").await;
        }
        until_awaited(&cluster, 0, "node3").await;
        let new = come(&mut cluster, by, "node3", &at, &[0, 1]);
        cluster.nodes[new].start();
        prober.follow(&cluster);
        until_it_votes(&cluster, 0, new).await;
        cluster.wait_ready(new).await;
        prober.was_served(&cluster);
        prober.end(&cluster, &[0, 1, new]).await;
    }
}

/// It is put out and its name is added again within a moment, while it runs.
#[tokio::test(flavor = "multi_thread")]
async fn one_that_runs_does_not_follow_itself() {
    for by in BOTH {
        let mut cluster = crate::hosts::start(4, "").await;
        let mut prober = Prober::start(&cluster);
        let at = At::of(&cluster.nodes[3]);
        let operator = Operator::of(&cluster, by, 0).without_folders();
        let put_out = operator.give(&Order::remove("node4", false)).await;
        assert_eq!(put_out.outcome, Outcome::Done, "{put_out:?}");
        let order = Order::Add { name: "node4".to_owned(), at: at.clone(), learner: false };
        let added = operator.give(&order).await;
        assert_eq!(added.outcome, Outcome::Done, "{added:?}");
        must_end(&mut cluster, 3, "and stops").await;
        until_awaited(&cluster, 0, "node4").await;
        let new = come(&mut cluster, By::Http, "node4", &at, &[0, 1, 2]);
        cluster.nodes[new].start();
        prober.follow(&cluster);
        until_it_votes(&cluster, 0, new).await;
        prober.was_served(&cluster);
        prober.end(&cluster, &[0, 1, 2, new]).await;
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
