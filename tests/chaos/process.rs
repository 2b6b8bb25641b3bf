//! Processes that are killed, stopped and paused.

use rand::RngExt;

use crate::faults::Fault;
use crate::nemesis::{Chaos, Skipped};

/// The end of every history.
pub(crate) const LAST: Fault =
    Fault { name: "all nodes lose power at the end of a history", harms: 0, run: kill_all };

/// Kills a node, leaves it dead for a while, and starts it again.
fn kill(chaos: &mut Chaos, node: usize) -> Result<(), Skipped> {
    chaos.say(&format!("kill -9 node{}", node + 1));
    chaos.hosts.cluster.nodes[node].kill();
    chaos.hold(0, 3000);
    chaos.hosts.cluster.nodes[node].start();
    Ok(())
}

pub(crate) fn kill_one(chaos: &mut Chaos) -> Result<(), Skipped> {
    let node = chaos.any();
    kill(chaos, node)
}

pub(crate) fn kill_leader(chaos: &mut Chaos) -> Result<(), Skipped> {
    let node = chaos.leader();
    kill(chaos, node)
}

pub(crate) fn kill_all(chaos: &mut Chaos) -> Result<(), Skipped> {
    chaos.say("kill -9 all nodes");
    let pids: Vec<String> =
        chaos.hosts.cluster.nodes.iter().map(|node| node.pid().to_string()).collect();
    // In one go, so that none has time to notice.
    let killed = std::process::Command::new("kill").arg("-9").args(&pids).status().unwrap();
    assert!(killed.success());
    for node in &mut chaos.hosts.cluster.nodes {
        node.kill();
    }
    chaos.hold(0, 1000);
    for node in chaos.shuffled() {
        chaos.hosts.cluster.nodes[node].start();
    }
    Ok(())
}

pub(crate) fn storm(chaos: &mut Chaos) -> Result<(), Skipped> {
    let node = chaos.any();
    chaos.say(&format!("restart storm of node{}", node + 1));
    for _ in 0..chaos.random.random_range(3..10) {
        chaos.hosts.cluster.nodes[node].kill();
        chaos.hosts.cluster.nodes[node].start();
        chaos.hold(5, 400);
    }
    Ok(())
}

fn stop(chaos: &mut Chaos, node: usize) {
    let node = &mut chaos.hosts.cluster.nodes[node];
    let status = node.terminate();
    assert_eq!(status.code(), Some(0), "{} stopped with {status}", node.name);
}

pub(crate) fn stop_one(chaos: &mut Chaos) -> Result<(), Skipped> {
    let node = if chaos.random.random() { chaos.leader() } else { chaos.any() };
    chaos.say(&format!("SIGTERM to node{}", node + 1));
    stop(chaos, node);
    chaos.hold(0, 2000);
    chaos.hosts.cluster.nodes[node].start();
    Ok(())
}

pub(crate) fn stop_in_turn(chaos: &mut Chaos) -> Result<(), Skipped> {
    chaos.say("SIGTERM to all nodes in turn");
    for node in chaos.shuffled() {
        stop(chaos, node);
        chaos.hosts.cluster.nodes[node].start();
        chaos.healthy();
    }
    Ok(())
}

fn pause(chaos: &mut Chaos, node: usize) -> Result<(), Skipped> {
    chaos.say(&format!("SIGSTOP node{}", node + 1));
    chaos.hosts.cluster.nodes[node].signal("STOP");
    chaos.hold(1200, 4000);
    chaos.hosts.cluster.nodes[node].signal("CONT");
    Ok(())
}

pub(crate) fn pause_one(chaos: &mut Chaos) -> Result<(), Skipped> {
    let node = chaos.any();
    pause(chaos, node)
}

pub(crate) fn pause_leader(chaos: &mut Chaos) -> Result<(), Skipped> {
    let node = chaos.leader();
    pause(chaos, node)
}
