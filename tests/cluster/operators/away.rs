//! Nodes that are away while members change, and come back to a cluster of others.

use crate::hosts::{listed, must_end, newcomer, until_it_votes};
use crate::operator::{At, BOTH, By, Order};
use crate::prober::Prober;

use super::{add, done, lead};

/// A node is down while others are taken in, one of which leads, as many are removed, and all that it knew are
/// lost but those that a majority can do without: the majority is then the node and others that it never met.
async fn finds_those_it_never_met(size: usize, by: By) {
    let mut cluster = crate::hosts::start(size, "").await;
    let mut prober = Prober::start(&cluster);
    let away = size - 1;
    cluster.nodes[away].kill();
    let quorum = size / 2 + 1;
    let (mut old, mut new): (Vec<usize>, Vec<usize>) = ((0..away).collect(), Vec::new());
    for number in 0..quorum - 1 {
        let asked = *old.last().unwrap();
        let name = format!("node{}", size + 1 + number);
        let knows = old.clone();
        let node = add(&mut cluster, by, asked, &name, &knows).await;
        prober.follow(&cluster);
        new.push(node);
        lead(&cluster, by, asked, node).await;
        let gone = old.remove(0);
        done(&cluster, by, asked, &Order::remove(&cluster.nodes[gone].name, false)).await;
        must_end(&mut cluster, gone, "removed").await;
    }
    prober.was_served(&cluster);
    // Whoever is left of those that it knew.
    for &node in &old {
        cluster.nodes[node].kill();
    }
    cluster.nodes[away].start();
    cluster.wait_ready(away).await;
    for &node in &new {
        cluster.wait_ready(node).await;
    }
    prober.until_served(&cluster).await;
    for &node in &old {
        cluster.nodes[node].start();
        cluster.wait_ready(node).await;
    }
    let all: Vec<usize> = [&old[..], &new[..], &[away]].concat();
    prober.end(&cluster, &all).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_three_comes_back_to_others_by_the_command_line() {
    finds_those_it_never_met(3, By::CommandLine).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_three_comes_back_to_others() {
    finds_those_it_never_met(3, By::Http).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_four_comes_back_to_others() {
    finds_those_it_never_met(4, By::CommandLine).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_five_comes_back_to_others() {
    finds_those_it_never_met(5, By::Http).await;
}

/// The leader is one that the node has never heard of, while all that it knows are well.
#[tokio::test(flavor = "multi_thread")]
async fn one_comes_back_to_a_leader_that_it_does_not_know() {
    for (size, by) in [(2, By::CommandLine), (3, By::CommandLine), (3, By::Http)] {
        let mut cluster = crate::hosts::start(size, "").await;
        let mut prober = Prober::start(&cluster);
        if size == 2 {
            add(&mut cluster, by, 0, "node3", &[0, 1]).await;
        }
        let away = 1;
        cluster.nodes[away].kill();
        let new = add(&mut cluster, by, 0, "node4", &[0]).await;
        lead(&cluster, by, 0, new).await;
        cluster.nodes[away].start();
        prober.follow(&cluster);
        cluster.wait_ready(away).await;
        // It was let in by that leader, who still leads.
        assert_eq!(cluster.wait_leader().await, new, "{}", cluster.logs());
        prober.was_served(&cluster);
        let all: Vec<usize> = (0..cluster.nodes.len()).collect();
        prober.end(&cluster, &all).await;
    }
}

/// A joiner reads the log from the beginning, where its leader is no member for more than a message's length.
#[tokio::test(flavor = "multi_thread")]
async fn a_joiner_does_not_know_its_leader() {
    for by in BOTH {
        let mut cluster = crate::hosts::start(3, "").await;
        let mut prober = Prober::start(&cluster);
        let large = "x".repeat(512 << 10);
        for number in 0..8 {
            let status = cluster.put(0, &format!("large{number}"), &large).await.unwrap();
            assert_eq!(status, 201);
        }
        let leader = add(&mut cluster, by, 0, "node4", &[0, 1, 2]).await;
        lead(&cluster, by, 0, leader).await;
        let at = At::free();
        let order = Order::Add { name: "node5".to_owned(), at: at.clone(), learner: false };
        done(&cluster, By::Http, 1, &order).await;
        // It knows one of those who follow.
        let knows = listed(&cluster, &[1]);
        let joiner = newcomer(&mut cluster, "node5", &at, &knows, "");
        cluster.nodes[joiner].start();
        prober.follow(&cluster);
        until_it_votes(&cluster, 1, joiner).await;
        cluster.wait_ready(joiner).await;
        assert_eq!(cluster.get(joiner, "large7").await.unwrap().map(|v| v.len()), Some(512 << 10));
        prober.was_served(&cluster);
        prober.end(&cluster, &[leader, joiner]).await;
    }
}

/// The whole cluster is another one when it comes back: one after the other was replaced by a host of another name.
#[tokio::test(flavor = "multi_thread")]
async fn one_that_only_knows_hosts_that_are_gone_is_found_again() {
    let by = By::Http;
    let mut cluster = crate::hosts::start(4, "").await;
    let mut prober = Prober::start(&cluster);
    let away = 3;
    cluster.nodes[away].kill();
    let mut there: Vec<usize> = (0..3).collect();
    for number in 0..3 {
        let knows = there.clone();
        let asked = there[2];
        let new = add(&mut cluster, by, asked, &format!("node{}", 5 + number), &knows).await;
        prober.follow(&cluster);
        let gone = there.remove(0);
        there.push(new);
        let asked = there[1];
        done(&cluster, by, asked, &Order::remove(&cluster.nodes[gone].name, false)).await;
        must_end(&mut cluster, gone, "removed").await;
    }
    // Nobody that it knows is left. Those who are there know it, and dial it.
    cluster.nodes[away].start();
    cluster.wait_ready(away).await;
    prober.was_served(&cluster);
    there.push(away);
    prober.end(&cluster, &there).await;
}
