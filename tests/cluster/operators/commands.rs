//! Orders that are repeated, and those that two operators give at once.

use std::fs;

use crate::harness::{PATIENCE, konsen};
use crate::hosts::{listed, members, must_end, newcomer, until_it_votes};
use crate::members::named;
use crate::operator::{At, BOTH, By, Operator, Order, Outcome, Told};
use crate::prober::Prober;

use super::{add, come, done, identities, refused};

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_one_changes_nothing() {
    for by in BOTH {
        let mut cluster = crate::hosts::start(3, "").await;
        let mut prober = Prober::start(&cluster);
        let at = At::free();
        let order = Order::Add { name: "node4".to_owned(), at: at.clone(), learner: false };
        done(&cluster, by, 0, &order).await;
        let before = members(&cluster, 0).await;
        // Through any node, and where a folder lies already.
        for asked in 0..3 {
            done(&cluster, by, asked, &order).await;
            assert_eq!(members(&cluster, 0).await, before);
        }
        // With other addresses it is not the same.
        let other = Order::Add { name: "node4".to_owned(), at: At::free(), learner: false };
        let said = refused(&cluster, by, 0, &other).await;
        assert!(said.contains("node4 is a member already"), "{said}");
        // Nor as something else.
        let learner = Order::Add { name: "node4".to_owned(), at: at.clone(), learner: true };
        let said = refused(&cluster, by, 0, &learner).await;
        assert!(said.contains("added to vote, at "), "{said}");
        assert!(said.contains("asked for is to stay a learner, at "), "{said}");
        assert_eq!(members(&cluster, 0).await, before);
        let new = come(&mut cluster, by, "node4", &at, &[0, 1, 2]);
        cluster.nodes[new].start();
        prober.follow(&cluster);
        until_it_votes(&cluster, 0, new).await;
        let said = refused(&cluster, by, 0, &order).await;
        assert!(said.contains("node4 is a member already"), "{said}");
        // What is as it was to be is done for a command, and refused over HTTP.
        let as_it_was = |told: &Told, status: i32| {
            let expected = match by {
                By::CommandLine => (Outcome::Done, 0),
                By::Http => (Outcome::Refused, status),
            };
            assert_eq!((told.outcome, told.code), expected, "{told:?}");
        };
        let order = Order::Promote { name: "node4".to_owned() };
        let told = Operator::of(&cluster, by, 0).give(&order).await;
        as_it_was(&told, 409);
        assert!(told.text.contains("node4 has a vote already"), "{told:?}");
        // Removed, it is no member the second time.
        done(&cluster, by, 0, &Order::remove("node4", false)).await;
        must_end(&mut cluster, new, "removed").await;
        let told = Operator::of(&cluster, by, 0).give(&Order::remove("node4", false)).await;
        as_it_was(&told, 404);
        let words = "is no member; the members are node1, node2, node3";
        assert!(told.text.contains(words), "{told:?}");
        prober.was_served(&cluster);
        prober.end(&cluster, &[0, 1, 2]).await;
    }
}

/// Where standard output cannot be written it is said what was done, and nothing that was not.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_done_is_said_truly_where_it_cannot_be_printed() {
    let cluster = crate::hosts::start(3, "").await;
    let run = |words: &[&str], full: bool| {
        let mut command = konsen();
        command.args(words).args(["--endpoints", &cluster.url(0, "")]);
        if full {
            command.stdout(fs::File::options().write(true).open("/dev/full").unwrap());
        }
        let output = command.output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
    };
    for number in 0..5 {
        assert!(matches!(cluster.put(0, "a", &number.to_string()).await, Ok(201 | 204)));
    }
    for (words, done) in [
        (&["member", "remove", "nope"][..], "nope is no member, but: "),
        (&["member", "promote", "node1"], "node1 has a vote already, but: "),
        (&["compact", "3"], "what came before 3 is compacted, but: "),
        (&["compact", "3"], "what came before 3 is compacted already, but: "),
        (&["leader", "transfer", "node1"], "node1 leads, but: "),
        (&["member", "remove", "node3"], "node3 was removed, but: "),
    ] {
        let (code, _, said) = run(words, true);
        let expected = format!("error: {done}cannot write to standard output");
        assert_eq!((code, said.contains(&expected)), (1, true), "{words:?}: {said}");
    }
    // Printed, it is no error.
    let (code, out, said) = run(&["compact", "2"], false);
    assert_eq!((code, &out[..]), (0, "compacted already, revision 2\n"), "{said}");
    assert!(said.contains("the oldest readable one is 3"), "{said}");
    let (code, out, said) = run(&["compact", "3", "-o", "raw"], false);
    assert_eq!((code, &out[..]), (0, "3\n"), "{said}");
    let (code, _, said) = run(&["compact", "99"], false);
    assert_eq!((code, said.contains("not reached yet")), (1, true), "{said}");
    let (code, _, said) = run(&["get", "a", "--timeout", "5s"], false);
    assert_eq!(code, 0, "{said}");
}

/// Until its host has come, the place of a new member can be moved, or be given up.
#[tokio::test(flavor = "multi_thread")]
async fn a_place_that_nobody_has_taken_can_be_moved() {
    for by in BOTH {
        let mut cluster = crate::hosts::start(3, "").await;
        let mut prober = Prober::start(&cluster);
        let wrong = At::free();
        let order = Order::Add { name: "node4".to_owned(), at: wrong, learner: false };
        done(&cluster, by, 0, &order).await;
        let at = At::free();
        let order = Order::Replace { name: "node4".to_owned(), at: Some(at.clone()), force: false };
        done(&cluster, by, 0, &order).await;
        let now = members(&cluster, 0).await;
        assert_eq!(named(&now, "node4")["raft_address"], at.raft, "{now}");
        let new = come(&mut cluster, by, "node4", &at, &[0, 1, 2]);
        cluster.nodes[new].start();
        prober.follow(&cluster);
        until_it_votes(&cluster, 0, new).await;
        prober.was_served(&cluster);
        prober.end(&cluster, &[0, 1, 2, new]).await;
    }
}

/// Gives two orders at once, through two nodes.
async fn at_once(
    cluster: &crate::harness::Cluster,
    by: By,
    [one, other]: [&Order; 2],
) -> [Outcome; 2] {
    let asks = [0, 1].map(|first| Operator::of(cluster, by, first).without_folders());
    let (a, b) = tokio::join!(asks[0].give(one), asks[1].give(other));
    for told in [&a, &b] {
        let fits = matches!(told.outcome, Outcome::Done | Outcome::Refused);
        assert!(fits, "{told:?}\n{}", cluster.logs());
    }
    [a.outcome, b.outcome]
}

#[tokio::test(flavor = "multi_thread")]
async fn two_take_in_two_hosts_at_once() {
    for by in BOTH {
        let mut cluster = crate::hosts::start(3, "").await;
        let mut prober = Prober::start(&cluster);
        let places = [("node4", At::free()), ("node5", At::free())];
        let orders = places.clone().map(|(name, at)| Order::Add {
            name: name.to_owned(),
            at,
            learner: false,
        });
        let outcomes = at_once(&cluster, by, [&orders[0], &orders[1]]).await;
        assert!(outcomes.contains(&Outcome::Done), "{}", cluster.logs());
        // Who was told to wait tries again.
        for order in &orders {
            done(&cluster, By::Http, 0, order).await;
        }
        let mut new = Vec::new();
        for (name, at) in &places {
            let knows = listed(&cluster, &[0, 1, 2]);
            new.push(newcomer(&mut cluster, name, at, &knows, ""));
        }
        for &node in &new {
            cluster.nodes[node].start();
        }
        prober.follow(&cluster);
        for &node in &new {
            until_it_votes(&cluster, 0, node).await;
        }
        prober.was_served(&cluster);
        prober.end(&cluster, &[0, 1, 2, new[0], new[1]]).await;
    }
}

/// Two operators put out two voters that answer: what is not refused is done, and the rest serves.
#[tokio::test(flavor = "multi_thread")]
async fn two_put_out_two_voters_at_once() {
    for (by, replaced, force) in [
        (By::CommandLine, false, false),
        (By::Http, false, false),
        (By::CommandLine, true, true),
        (By::Http, true, true),
    ] {
        let mut cluster = crate::hosts::start(5, "").await;
        let mut prober = Prober::start(&cluster);
        let orders = ["node4", "node5"].map(|name| match replaced {
            true => Order::replace(name, force),
            false => Order::remove(name, force),
        });
        let outcomes = at_once(&cluster, by, [&orders[0], &orders[1]]).await;
        assert!(outcomes.contains(&Outcome::Done), "{}", cluster.logs());
        let mut there = vec![0, 1, 2];
        for (node, outcome) in [3, 4].into_iter().zip(outcomes) {
            if outcome == Outcome::Refused {
                there.push(node);
                continue;
            }
            must_end(&mut cluster, node, if replaced { "replaced" } else { "removed" }).await;
            if replaced {
                let (name, at) = (cluster.nodes[node].name.clone(), At::of(&cluster.nodes[node]));
                let knows = listed(&cluster, &[0, 1, 2]);
                let new = newcomer(&mut cluster, &name, &at, &knows, "");
                cluster.nodes[new].start();
                there.push(new);
            }
        }
        prober.follow(&cluster);
        for &node in &there {
            until_it_votes(&cluster, 0, node).await;
            cluster.wait_ready(node).await;
        }
        assert_eq!(identities(&cluster, 0).await.len(), there.len());
        prober.was_served(&cluster);
        prober.end(&cluster, &there).await;
    }
}

/// Who asks a node that is put out is told at once, and does not keep it.
#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_put_out_keeps_nobody_waiting() {
    let mut cluster = crate::hosts::start(3, "").await;
    let url = cluster.url(2, "/v1/kv/key");
    let client = |_| {
        let (http, url) = (cluster.http.clone(), url.clone());
        tokio::spawn(async move {
            loop {
                let put = http.put(&url).header("Konsen-Timeout", "5m").timeout(PATIENCE * 2);
                let Ok(answer) = put.body("x").send().await else { return };
                let status = answer.status().as_u16();
                // 504 if it was on its way when the node was put out.
                assert!(matches!(status, 201 | 204 | 503 | 504), "{status}");
            }
        })
    };
    let clients: Vec<_> = (0..8).map(client).collect();
    done(&cluster, By::Http, 0, &Order::remove("node3", false)).await;
    must_end(&mut cluster, 2, "removed").await;
    for client in clients {
        client.await.unwrap();
    }
}

/// The same voter, put out by two at once: the second finds it gone, or awaited.
#[tokio::test(flavor = "multi_thread")]
async fn two_put_out_the_same_voter_at_once() {
    for by in BOTH {
        let mut cluster = crate::hosts::start(4, "").await;
        let mut prober = Prober::start(&cluster);
        let order = Order::replace("node4", true);
        let outcomes = at_once(&cluster, by, [&order, &order]).await;
        assert!(outcomes.contains(&Outcome::Done), "{}", cluster.logs());
        must_end(&mut cluster, 3, "replaced").await;
        // Its folder is used again, with an empty data directory.
        fs::remove_dir_all(cluster.nodes[3].home.join("data")).unwrap();
        cluster.nodes[3].start();
        until_it_votes(&cluster, 0, 3).await;
        let order = Order::remove("node4", false);
        let outcomes = at_once(&cluster, by, [&order, &order]).await;
        assert!(outcomes.contains(&Outcome::Done), "{}", cluster.logs());
        must_end(&mut cluster, 3, "removed").await;
        // And a new one of that name may come.
        let new = add(&mut cluster, By::Http, 0, "node4", &[0, 1, 2]).await;
        prober.follow(&cluster);
        prober.was_served(&cluster);
        prober.end(&cluster, &[0, 1, 2, new]).await;
    }
}
