//! Voters that are replaced although they answer.

use std::time::{Duration, Instant};

use crate::harness::{Cluster, PATIENCE};
use crate::hosts::{members, must_end, until_it_votes};
use crate::members::named;
use crate::operator::{BOTH, By, Operator, Order, Outcome};
use crate::prober::Prober;

use super::{done, identities, lead, refused, successor};

async fn voters_are_replaced(size: usize) {
    let mut cluster = crate::hosts::start(size, "").await;
    let mut prober = Prober::start(&cluster);
    // Who has which name now.
    let mut current: Vec<usize> = (0..size).collect();
    for by in BOTH {
        one_after_another(&mut cluster, &mut prober, &mut current, by).await;
    }
    prober.end(&cluster, &current).await;
}

/// All but one, before any successor has come.
async fn one_after_another(
    cluster: &mut Cluster,
    prober: &mut Prober,
    current: &mut [usize],
    by: By,
) {
    let (stays, put_out) = (current[0], current[1..].iter().rev().copied().collect::<Vec<_>>());
    // As many as leave a voter, two at most: that is what is tried in a hurry.
    let put_out = &put_out[..put_out.len().min(2)];
    lead(cluster, by, stays, put_out[0]).await;
    for (number, &node) in put_out.iter().enumerate() {
        let name = cluster.nodes[node].name.clone();
        let before = identities(cluster, stays).await;
        let said = refused(cluster, by, stays, &Order::replace(&name, false)).await;
        assert!(said.contains("force"), "{said}");
        assert!(said.contains("answers"), "{said}");
        assert_eq!(identities(cluster, stays).await, before);
        done(cluster, by, stays, &Order::replace(&name, true)).await;
        must_end(cluster, node, "replaced").await;
        prober.until_served(cluster).await;
        prober.was_served(cluster);
        // Repeated while the new one has not come it changes nothing, and needs no force.
        let before = identities(cluster, stays).await;
        done(cluster, by, stays, &Order::replace(&name, false)).await;
        assert_eq!(identities(cluster, stays).await, before);
        if number > 0 {
            continue;
        }
        // Another one that answers is spared until the first has a successor.
        let Some(&next) = put_out.get(1) else { continue };
        let next = cluster.nodes[next].name.clone();
        let said = refused(cluster, by, stays, &Order::remove(&next, false)).await;
        assert!(said.contains(&name) && said.contains("force"), "{said}");
        assert_eq!(identities(cluster, stays).await, before);
    }
    for &node in put_out {
        let knows: Vec<usize> = current.to_vec();
        let new = successor(cluster, by, node, &knows);
        cluster.nodes[new].start();
        let place = current.iter_mut().find(|place| **place == node).unwrap();
        *place = new;
    }
    prober.follow(cluster);
    for &node in current.iter() {
        until_it_votes(cluster, stays, node).await;
        cluster.wait_ready(node).await;
    }
    prober.until_served(cluster).await;
    prober.was_served(cluster);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_voters() {
    voters_are_replaced(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_three_voters() {
    voters_are_replaced(3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_four_voters() {
    voters_are_replaced(4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_five_voters() {
    voters_are_replaced(5).await;
}

/// Of four or five voters a majority is left without the dead and the replaced one.
async fn one_is_dead(size: usize, by: By) {
    let mut cluster = crate::hosts::start(size, "").await;
    let mut prober = Prober::start(&cluster);
    let (dead, live) = (size - 1, size - 2);
    cluster.nodes[dead].kill();
    let name = cluster.nodes[live].name.clone();
    // Until its loss is noticed another reason may be given, or none: it is replaced by force.
    done(&cluster, by, 0, &Order::replace(&name, true)).await;
    must_end(&mut cluster, live, "replaced").await;
    prober.until_served(&cluster).await;
    let new = successor(&mut cluster, by, live, &[0, 1]);
    cluster.nodes[new].start();
    prober.follow(&cluster);
    until_it_votes(&cluster, 0, new).await;
    cluster.nodes[dead].start();
    let others: Vec<usize> = (0..live).chain([dead, new]).collect();
    for &node in &others {
        cluster.wait_ready(node).await;
    }
    prober.was_served(&cluster);
    prober.end(&cluster, &others).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_four_while_another_is_dead() {
    one_is_dead(4, By::CommandLine).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_five_while_another_is_dead() {
    one_is_dead(5, By::Http).await;
}

/// The dead one itself is replaced without force; of two voters no majority is left to do it.
#[tokio::test(flavor = "multi_thread")]
async fn a_dead_one_of_three() {
    for by in BOTH {
        let mut cluster = crate::hosts::start(3, "").await;
        let mut prober = Prober::start(&cluster);
        cluster.nodes[2].kill();
        // Its loss has to be noticed first.
        let order = Order::replace("node3", false);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let told = Operator::of(&cluster, by, 0).give(&order).await;
            if told.outcome == Outcome::Done {
                break;
            }
            let text = told.refused();
            assert!(text.contains("answers"), "{text}");
            assert!(Instant::now() < deadline, "its loss is not noticed\n{}", cluster.logs());
        }
        let new = successor(&mut cluster, by, 2, &[0, 1]);
        cluster.nodes[new].start();
        prober.follow(&cluster);
        until_it_votes(&cluster, 0, new).await;
        prober.was_served(&cluster);
        prober.end(&cluster, &[0, 1, new]).await;
    }
}

/// What a majority cannot agree to is not done, whatever is said, and breaks nothing.
#[tokio::test(flavor = "multi_thread")]
async fn none_of_two_while_the_other_is_dead() {
    for by in BOTH {
        let mut cluster = crate::hosts::start(2, "").await;
        let prober = Prober::start(&cluster);
        prober.until_served(&cluster).await;
        cluster.nodes[1].kill();
        // Until its loss is noticed a change can be begun, and completed once it is back.
        let deadline = Instant::now() + PATIENCE;
        while cluster.status(0).await.is_some_and(|status| status["role"] == "leader") {
            assert!(Instant::now() < deadline, "its loss is not noticed\n{}", cluster.logs());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        for order in [Order::replace("node2", true), Order::remove("node2", true)] {
            let impatient = Operator::of(&cluster, by, 0).patient(Duration::from_secs(3));
            let told = impatient.give(&order).await;
            let done = told.outcome == Outcome::Done;
            assert!(!done, "{order:?}: {told:?}\n{}", cluster.logs());
        }
        cluster.nodes[1].start();
        for node in 0..2 {
            cluster.wait_ready(node).await;
        }
        let now = members(&cluster, 0).await;
        for name in ["node1", "node2"] {
            let own = named(&now, name);
            assert!(own["voter"] == true && own["id"].is_string(), "{now}\n{}", cluster.logs());
        }
        prober.end(&cluster, &[0, 1]).await;
    }
}
