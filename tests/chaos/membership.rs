//! Members that are replaced, put out and taken in again, and leaders that are sent elsewhere.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::PATIENCE;
use crate::nemesis::{Chaos, Skipped};

pub(crate) fn transfer(chaos: &mut Chaos) -> Result<(), Skipped> {
    let (leader, to) = (chaos.leader(), chaos.any());
    let name = chaos.hosts.cluster.nodes[to].name.clone();
    chaos.say(&format!("leadership goes from node{} to {name}", leader + 1));
    let asked = chaos.any();
    must(chaos, asked, "POST", "/v1/cluster/leader", &json!({ "to": name }).to_string());
    Ok(())
}

pub(crate) fn replace(chaos: &mut Chaos) -> Result<(), Skipped> {
    let nodes = chaos.shuffled();
    let (node, asked) = (nodes[0], nodes[1]);
    let name = chaos.hosts.cluster.nodes[node].name.clone();
    chaos.say(&format!("{name} is lost, and replaced"));
    chaos.hosts.cluster.nodes[node].kill();
    fs::remove_dir_all(chaos.hosts.data(node)).unwrap();
    // Sometimes the new one is there before anybody has been told.
    let early = nodes[0] < nodes[2];
    if early {
        chaos.hosts.cluster.nodes[node].start();
    }
    must(chaos, asked, "POST", &format!("/v1/cluster/members/{name}/replace"), "");
    if !early {
        chaos.hosts.cluster.nodes[node].start();
    }
    wait_vote(chaos, asked, &name);
    Ok(())
}

pub(crate) fn remove_and_add(chaos: &mut Chaos) -> Result<(), Skipped> {
    let nodes = chaos.shuffled();
    let (node, asked) = (nodes[0], nodes[1]);
    let name = chaos.hosts.cluster.nodes[node].name.clone();
    chaos.say(&format!("{name} is put out, and taken in again"));
    must(chaos, asked, "DELETE", &format!("/v1/cluster/members/{name}"), "");
    let status = chaos.hosts.cluster.nodes[node].wait();
    assert!(status.success(), "{name} was put out and ended with {status}");
    chaos.hold(0, 2000);
    fs::remove_dir_all(chaos.hosts.data(node)).unwrap();
    let of = &chaos.hosts.cluster.nodes[node];
    let wanted = json!({
        "name": name,
        "raft_address": format!("{}:{}", of.host, of.raft_port),
        "http_address": format!("{}:{}", of.host, of.http_port),
    });
    must(chaos, asked, "POST", "/v1/cluster/members", &wanted.to_string());
    chaos.hosts.cluster.nodes[node].start();
    wait_vote(chaos, asked, &name);
    Ok(())
}

/// Asks for a change until it is done: a leader may change in between.
pub(crate) fn must(chaos: &Chaos, asked: usize, method: &str, path: &str, body: &str) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (status, answer) = chaos.ask(asked, method, path, body);
        let again = matches!(status, 0 | 409 | 429 | 503 | 504);
        // After an outcome that nobody knew the change may be made already.
        let made = method == "DELETE" && status == 404;
        if made || matches!(status, 200 | 201) {
            return;
        }
        assert!(again && Instant::now() < deadline, "{method} {path}: {status} {answer}");
        if answer.to_string().contains("is a member already") {
            return;
        }
        // Nobody tells when the change that is in the way is done.
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Waits until a member that was taken in votes: only then may another one be harmed.
pub(crate) fn wait_vote(chaos: &Chaos, asked: usize, name: &str) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (_, answer) = chaos.ask(asked, "GET", "/v1/cluster/members", "");
        let members = answer["members"].as_array().cloned().unwrap_or_default();
        let own = members.iter().find(|member| member["name"] == name).unwrap_or(&Value::Null);
        if own["voter"] == true && own["id"].is_string() {
            return;
        }
        assert!(Instant::now() < deadline, "{name} does not vote: {answer}");
        // Nor when a member is given a vote.
        std::thread::sleep(Duration::from_millis(50));
    }
}
