//! Two hosts that show one certificate.

use std::time::{Duration, Instant};

use crate::harness::{Cluster, PATIENCE};
use crate::hosts::{members, newcomer, twin, until_it_votes};
use crate::members::named;
use crate::operator::{At, BOTH, Order};
use crate::prober::Prober;

use super::done;

/// Waits until the one of two hosts that was let in votes; it comes first.
async fn until_one_is_in(cluster: &Cluster, asked: usize, pair: [usize; 2]) -> [usize; 2] {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let now = members(cluster, asked).await;
        let own = named(&now, &cluster.nodes[pair[0]].name);
        for (node, other) in [(pair[0], pair[1]), (pair[1], pair[0])] {
            let id = cluster.status(node).await.map(|status| status["id"].clone());
            if own["voter"] == true && id.is_some_and(|id| id == own["id"]) {
                return [node, other];
            }
        }
        assert!(Instant::now() < deadline, "neither is let in: {now}\n{}", cluster.logs());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_is_refused_with_a_sentence() {
    for by in BOTH {
        let mut cluster = crate::hosts::start(3, "").await;
        let mut prober = Prober::start(&cluster);
        let at = At::free();
        let order = Order::Add { name: "node4".to_owned(), at: at.clone(), learner: false };
        done(&cluster, by, 0, &order).await;
        let knows = crate::hosts::listed(&cluster, &[0, 1, 2]);
        let one = newcomer(&mut cluster, "node4", &at, &knows, "");
        let other = twin(&mut cluster, one);
        cluster.nodes[one].start();
        cluster.nodes[other].start();
        let [inside, outside] = until_one_is_in(&cluster, 0, [one, other]).await;
        cluster.wait_ready(inside).await;
        // The one says so, and so do those who refuse it.
        let deadline = Instant::now() + PATIENCE;
        let says = |node: usize| {
            let log = cluster.nodes[node].log();
            // Before it is let in, and after.
            let reasons = ["two hosts show the certificate of", "shows another identity than"];
            reasons.iter().any(|reason| log.contains(reason))
        };
        while !says(outside) || !(0..3).any(says) {
            assert!(Instant::now() < deadline, "nobody says why\n{}", cluster.logs());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let ready = cluster.http.get(cluster.url(outside, "/readyz")).send().await;
        assert!(!ready.is_ok_and(|answer| answer.status().is_success()), "{}", cluster.logs());
        // The one that is in is not disturbed by the other's coming and going.
        cluster.nodes[outside].kill();
        cluster.nodes[outside].start();
        prober.follow(&cluster);
        until_it_votes(&cluster, 0, inside).await;
        for node in [0, 1, 2, inside] {
            cluster.wait_ready(node).await;
        }
        cluster.nodes[outside].kill();
        prober.was_served(&cluster);
        prober.end(&cluster, &[0, 1, 2, inside]).await;
    }
}
