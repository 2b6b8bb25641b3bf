//! What operators are told, by whichever endpoint: only a member tells of the members, and whoever knows most is
//! heard.

use std::process::Output;
use std::time::Instant;

use serde_json::Value;

use crate::harness::{Cluster, PATIENCE, free_ports, konsen};
use crate::hosts::newcomer;
use crate::members::{named, wait_members};
use crate::operator::{At, By, Operator, Order, Outcome};

use super::done;

/// Runs a command against these endpoints, in the folder where the authority is.
fn run(cluster: &Cluster, words: &[&str], endpoints: &[String]) -> Output {
    konsen()
        .current_dir(cluster.dir.path())
        .args(words)
        .args(["--endpoints", &endpoints.join(",")])
        .output()
        .unwrap()
}

/// Exit code, standard output, standard error.
fn told(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

/// An address where nobody listens.
fn nowhere() -> String {
    format!("http://127.0.0.1:{}", free_ports(1)[0].1)
}

async fn ask(cluster: &Cluster, asked: usize, path: &str) -> (u16, Value) {
    let answer = cluster.http.get(cluster.url(asked, path)).send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

/// Asks again until the node answers with a problem of that name.
async fn until_problem(cluster: &Cluster, asked: usize, path: &str, name: &str) -> Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Ok(answer) = cluster.http.get(cluster.url(asked, path)).send().await {
            let problem: Value = answer.json().await.unwrap();
            if problem["type"] == format!("urn:konsen:problem:{name}") {
                return problem;
            }
        }
        assert!(Instant::now() < deadline, "{path}: never {name}\n{}", cluster.logs());
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_belongs_to_no_cluster_is_passed_over() {
    let mut cluster = crate::hosts::start(3, "").await;
    // Nobody takes it in.
    let at = At::free();
    let knows = crate::hosts::listed(&cluster, &[0, 1, 2]);
    let empty = newcomer(&mut cluster, "node4", &at, &knows, "");
    cluster.nodes[empty].start();
    for path in ["/v1/cluster", "/v1/cluster/members"] {
        let problem = until_problem(&cluster, empty, path, "no-cluster").await;
        assert_eq!((&problem["status"], &problem["outcome"]), (&503.into(), &"not_applied".into()));
    }
    let put = cluster.http.put(cluster.url(empty, "/v1/kv/a")).header("Konsen-Timeout", "1ms");
    let refused = put.body("1").send().await.unwrap().text().await.unwrap();
    assert!(refused.contains("urn:konsen:problem:no-cluster"), "{refused}");
    let url = cluster.url(empty, "/v1/cluster/members/node1");
    let refused = cluster.http.delete(url).send().await.unwrap();
    assert_eq!(refused.status(), 503, "{}", refused.text().await.unwrap());
    let first = [empty, 0].map(|node| cluster.url(node, ""));
    let (code, out, said) = told(&run(&cluster, &["member", "list"], &first));
    assert_eq!((code, out.contains("node3")), (0, true), "{out}{said}");
    let (code, out, said) = told(&run(&cluster, &["status"], &first));
    let own = out.lines().find(|line| line.starts_with(&first[0])).unwrap();
    assert_eq!((code, own.contains("in no cluster")), (0, true), "{out}{said}");
    assert!(out.contains("node3"), "{out}");
    let there = At::free();
    let words = ["--raft-address", &there.raft, "--http-address", &there.http];
    let words = [&["member", "add", "node5"][..], &words, &["--config", "cluster.yml"]].concat();
    let (code, out, said) = told(&run(&cluster, &words, &first));
    assert_eq!(code, 0, "{out}{said}");
    // With nobody else to ask that is what is told, however many say nothing at all.
    for words in [&["member", "list"][..], &["member", "remove", "node1"], &["leader", "transfer"]]
    {
        let (code, out, said) = told(&run(&cluster, words, &[first[0].clone(), nowhere()]));
        assert_eq!(code, 5, "{words:?}: {out}{said}");
        assert!(said.contains("this node belongs to no cluster yet"), "{words:?}: {said}");
        assert!(said.contains("name nodes that belong to the cluster"), "{words:?}: {said}");
    }
    let (code, out, _) = told(&run(&cluster, &["status"], &first[..1]));
    assert_eq!((code, out.contains("in no cluster")), (5, true), "{out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_was_put_out_does_not_tell_who_belongs() {
    let mut cluster = crate::hosts::start(3, "").await;
    cluster.nodes[2].kill();
    done(&cluster, By::Http, 0, &Order::remove("node3", true)).await;
    // Of the two that could tell it that it is to stop, one does not.
    cluster.nodes[1].signal("STOP");
    cluster.nodes[2].start();
    for path in ["/v1/cluster", "/v1/cluster/members"] {
        until_problem(&cluster, 2, path, "not-a-member").await;
    }
    let endpoints = [2, 0].map(|node| cluster.url(node, ""));
    let (code, out, said) = told(&run(&cluster, &["member", "list", "-o", "raw"], &endpoints));
    assert_eq!((code, &out[..]), (0, "node1\nnode2\n"), "{said}");
    cluster.nodes[1].signal("CONT");
    crate::hosts::must_end(&mut cluster, 2, "removed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_knows_most_is_heard() {
    let mut cluster = crate::hosts::start(3, "").await;
    let (one, other) = (cluster.url(0, ""), nowhere());
    cluster.nodes[1].kill();
    cluster.nodes[2].kill();
    let deadline = Instant::now() + PATIENCE;
    // Whoever was killed counts as connected until nothing was heard for a while.
    let noticed = |status: &Value| status["warnings"].to_string().contains("no leader: 1 of 3");
    while !noticed(&ask(&cluster, 0, "/v1/status").await.1) {
        assert!(Instant::now() < deadline, "the loss is not noticed");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    // Who is known to belong is told without a leader, too, and that it may be out of date.
    let words = ["member", "list", "-o", "raw"];
    let (code, out, said) = told(&run(&cluster, &words, std::slice::from_ref(&one)));
    assert_eq!((code, &out[..]), (0, "node1\nnode2\nnode3\n"), "{said}");
    assert!(said.contains("hears no leader"), "{said}");
    for endpoints in [[one.clone(), other.clone()], [other, one]] {
        for words in [&["member", "remove", "node2"][..], &["put", "a", "1"], &["get", "a"]] {
            let words = [words, &["--timeout", "1s"]].concat();
            let (code, _, said) = told(&run(&cluster, &words, &endpoints));
            assert_eq!(code, 5, "{words:?}: {said}");
            let heard =
                said.contains("no leader: 1 of 3 voters is here") || said.contains("deadline");
            assert!(heard, "{words:?} at {endpoints:?}: {said}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_no_member_is_named_before_anything_else_is_missed() {
    let cluster = crate::hosts::start(1, "").await;
    let endpoints = [cluster.url(0, "")];
    let without = ["--certs", "nowhere"];
    let words = [&["member", "replace", "node9"][..], &without].concat();
    let (code, _, said) = told(&run(&cluster, &words, &endpoints));
    assert_eq!(code, 1, "{said}");
    assert!(said.contains(r#""node9" is no member; the members are node1"#), "{said}");
    let words = ["member", "add", "node1", "--raft-address", "h:1", "--http-address", "h:2"];
    let (code, _, said) = told(&run(&cluster, &[&words[..], &without].concat(), &endpoints));
    assert_eq!((code, said.contains("node1 is a member already")), (1, true), "{said}");
    // What nobody promised a learner is not told of it.
    let order = Order::Add { name: "node4".to_owned(), at: At::free(), learner: true };
    done(&cluster, By::Http, 0, &order).await;
    let promote = Order::Promote { name: "node4".to_owned() };
    let said = Operator::of(&cluster, By::CommandLine, 0).give(&promote).await.refused();
    assert!(said.contains("promote it again once it has caught up"), "{said}");
    assert!(!said.contains("by itself"), "{said}");
}

/// The leader hands over, is put out and ends; whoever asked it is told what became of it, whichever way it ends.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_asked_to_remove_itself_says_that_it_is_done() {
    for _ in 0..3 {
        let mut cluster = crate::hosts::start(4, "").await;
        let leader = cluster.wait_leader().await;
        let name = cluster.nodes[leader].name.clone();
        let answer = Operator::of(&cluster, By::CommandLine, leader);
        let answer = answer.give(&Order::remove(&name, false)).await;
        assert_eq!(answer.outcome, Outcome::Done, "{answer:?}\n{}", cluster.logs());
        // The others hear of what is decided a moment later.
        let (asked, what) = ((leader + 1) % 4, format!("{name} is gone"));
        wait_members(&cluster, asked, &what, |members| named(members, &name).is_null()).await;
        crate::hosts::must_end(&mut cluster, leader, "removed").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoints_of_two_clusters_are_refused() {
    let (one, other) = (crate::hosts::start(1, "").await, crate::hosts::start(1, "").await);
    let ids = [&one, &other].map(async |cluster| {
        ask(cluster, 0, "/v1/status").await.1["cluster_id"].as_str().unwrap().to_owned()
    });
    let [first, second] = ids;
    let ids = [first.await, second.await];
    let endpoints = [one.url(0, ""), other.url(0, "")];
    let away = At::free();
    for words in [
        &["status"][..],
        &["status", "-o", "json"],
        &["member", "list"],
        &["member", "remove", "node1"],
        &["member", "replace", "node1", "--force"],
        &["member", "add", "node2", "--raft-address", &away.raft, "--http-address", &away.http],
        &["leader", "transfer"],
        &["put", "a", "1"],
        &["delete", "a"],
        &["compact", "1"],
        &["check", "--seconds", "1"],
    ] {
        let (code, out, said) = told(&run(&one, words, &endpoints));
        assert_eq!((code, &out[..]), (1, ""), "{words:?}: {said}");
        for part in
            ["different clusters", &ids[0], &ids[1], &endpoints[0], &endpoints[1], "konsen ("]
        {
            assert!(said.contains(part), "{words:?}: {part}: {said}");
        }
    }
    for cluster in [&one, &other] {
        assert_eq!(cluster.get(0, "a").await.unwrap(), None);
        let keys = ask(cluster, 0, "/v1/kv").await.1;
        assert_eq!(keys["revision"], 1, "something was written: {keys}");
    }
    // Of what is only read a second page could come from the other one, whichever answers first.
    for key in 0..8 {
        let value = "x".repeat(1_000_000);
        for cluster in [&one, &other] {
            assert_eq!(cluster.put(0, &format!("large{key}"), &value).await.unwrap(), 201);
        }
    }
    let (code, _, said) = told(&run(&one, &["list", "-o", "raw"], &endpoints));
    assert_eq!((code, said.contains("different clusters")), (1, true), "{said}");
    let (code, out, said) = told(&run(&one, &["list", "-o", "raw"], &endpoints[..1]));
    assert_eq!((code, out.lines().count()), (0, 8), "{said}");
}
