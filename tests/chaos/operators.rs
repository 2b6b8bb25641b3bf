//! Changes of the membership that go wrong: a healthy member is replaced, a node does not hear of a change, a change
//! cannot be completed.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rand::RngExt;
use serde_json::{Value, json};

use crate::harness::{PATIENCE, konsen};
use crate::hosts::MORTAL;
use crate::membership::{must, wait_vote};
use crate::nemesis::{Chaos, Skipped};

/// All nodes in any order. The first one is not the last node, whose disk is too small for two directories.
fn small_disk_not_first(chaos: &mut Chaos) -> Vec<usize> {
    let last = chaos.hosts.count() - 1;
    let mut nodes = chaos.shuffled();
    if nodes[0] == last {
        nodes.swap(0, 1);
    }
    nodes
}

/// Replaces a node that answers, by force, and starts an empty one in its place; where its data is kept.
fn replace_by_force(chaos: &mut Chaos, node: usize, asked: usize) -> PathBuf {
    let name = chaos.hosts.cluster.nodes[node].name.clone();
    let path = format!("/v1/cluster/members/{name}/replace");
    let (status, answer) = chaos.ask(asked, "POST", &path, "");
    assert!(!matches!(status, 200 | 201), "{name} answers, and was replaced: {answer}");
    must(chaos, asked, "POST", &format!("{path}?force=true"), "");
    ends(chaos, node);
    let data = chaos.hosts.data(node);
    let aside = data.with_extension("replaced");
    fs::rename(&data, &aside).unwrap();
    chaos.hold(0, 1000);
    chaos.hosts.cluster.nodes[node].start();
    wait_vote(chaos, asked, &name);
    aside
}

/// Waits until a node that was replaced has ended by itself.
fn ends(chaos: &mut Chaos, node: usize) {
    let node = &mut chaos.hosts.cluster.nodes[node];
    let status = node.wait();
    assert_eq!(status.code(), Some(0), "{} was replaced and ended with {status}", node.name);
}

pub(crate) fn replace_live(chaos: &mut Chaos) -> Result<(), Skipped> {
    let nodes = small_disk_not_first(chaos);
    let (node, asked) = (nodes[0], nodes[1]);
    chaos.say(&format!("node{} answers, and is replaced", node + 1));
    let aside = replace_by_force(chaos, node, asked);
    chaos.say(&format!("node{} comes back with the data of the one that was replaced", node + 1));
    let data = chaos.hosts.data(node);
    let own = data.with_extension("own");
    chaos.hosts.cluster.nodes[node].kill();
    fs::rename(&data, &own).unwrap();
    fs::rename(&aside, &data).unwrap();
    let from = chaos.hosts.cluster.nodes[node].log().len();
    chaos.hosts.cluster.nodes[node].start();
    ends(chaos, node);
    let said = chaos.hosts.log_since(node, from);
    assert!(said.contains("was replaced in the cluster"), "it does not say why:\n{said}");
    assert!(!said.contains("konsen member replace"), "it is told to do it again:\n{said}");
    fs::remove_dir_all(&data).unwrap();
    fs::rename(&own, &data).unwrap();
    chaos.hosts.cluster.nodes[node].start();
    Ok(())
}

/// Whoever comes back finds a leader that it has never heard of.
pub(crate) fn away(chaos: &mut Chaos) -> Result<(), Skipped> {
    let nodes = small_disk_not_first(chaos);
    let (node, asked, away) = (nodes[0], nodes[1], nodes[2]);
    let cut_off: bool = chaos.random.random();
    let how = if cut_off { "hears nobody" } else { "is down" };
    chaos.say(&format!("node{} {how} while node{} is replaced", away + 1, node + 1));
    match cut_off {
        true => {
            chaos.hosts.rule(away, "-A INPUT -p udp -j DROP");
            chaos.hosts.rule(away, "-A OUTPUT -p udp -j DROP");
        }
        false => chaos.hosts.cluster.nodes[away].kill(),
    }
    let aside = replace_by_force(chaos, node, asked);
    fs::remove_dir_all(aside).unwrap();
    let name = chaos.hosts.cluster.nodes[node].name.clone();
    must(chaos, asked, "POST", "/v1/cluster/leader", &json!({ "to": name }).to_string());
    match cut_off {
        true => chaos.hosts.heal(),
        false => chaos.hosts.cluster.nodes[away].start(),
    }
    chaos.wait_ready(away);
    Ok(())
}

/// An operator undoes a change as soon as it is under way, or finds that the leader was quicker.
fn undo_at_once(chaos: &mut Chaos, asked: usize) {
    let deadline = Instant::now() + Duration::from_secs(2);
    while Instant::now() < deadline {
        let (_, cluster) = chaos.ask(asked, "GET", "/v1/cluster", "");
        if cluster["change"].is_object() {
            let (status, answer) = chaos.ask(asked, "POST", "/v1/cluster/members/undo", "");
            chaos.say(&format!("an operator undoes it: {status} {}", answer["detail"]));
            return;
        }
        // Nobody tells when a change begins.
        std::thread::sleep(Duration::from_millis(10));
    }
    chaos.say("the change has not begun, or is undone already");
}

/// So many nodes are paused as a majority can do without, and one more is put out by force: those that are left are
/// no majority, so that nothing can be decided until the change is undone, by the leader or by an operator.
pub(crate) fn undo(chaos: &mut Chaos) -> Result<(), Skipped> {
    let nodes = chaos.shuffled();
    let (paused, others) = nodes.split_at(chaos.minority());
    let (gone, asked) = (others[0], others[1]);
    let name = chaos.hosts.cluster.nodes[gone].name.clone();
    let silent: Vec<usize> = paused.iter().map(|node| node + 1).collect();
    chaos.say(&format!("{name} is put out while nodes {silent:?} are paused"));
    for &node in paused {
        chaos.hosts.cluster.nodes[node].signal("STOP");
    }
    let removal = Command::new(MORTAL[0])
        .args(&MORTAL[1..])
        .arg(konsen().get_program())
        .args(["member", "remove", &name, "--force", "--timeout", "8s"])
        .args(["--endpoints", &chaos.hosts.cluster.url(asked, "")])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    if chaos.random.random() {
        undo_at_once(chaos, asked);
    }
    let removal = removal.wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&removal.stderr);
    assert!(!removal.status.success(), "{name} was put out: {told}");
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (status, cluster) = chaos.ask(asked, "GET", "/v1/cluster", "");
        let leads = cluster["leader"].is_string();
        if status == 200 && leads && cluster["change"] == Value::Null {
            break;
        }
        assert!(Instant::now() < deadline, "the change is not undone: {cluster}");
        // Nobody tells when it is.
        std::thread::sleep(Duration::from_millis(50));
    }
    for &node in paused {
        chaos.hosts.cluster.nodes[node].signal("CONT");
    }
    wait_vote(chaos, asked, &name);
    Ok(())
}
