//! Networks that lose, part and slow down. Partitions are between nodes only (UDP), so that clients go on
//! asking those who are cut off; a host that is unplugged loses its clients as well.

use rand::RngExt;

use crate::nemesis::{Chaos, Skipped};
use crate::netns::ip;

fn held(chaos: &mut Chaos, what: &str) -> Result<(), Skipped> {
    chaos.say(what);
    // Shorter and longer than a connection that hears nothing lives.
    chaos.hold(1000, 7000);
    chaos.hosts.heal();
    Ok(())
}

pub(crate) fn isolate(chaos: &mut Chaos) -> Result<(), Skipped> {
    let node = chaos.any();
    chaos.hosts.rule(node, "-A INPUT -p udp -j DROP");
    chaos.hosts.rule(node, "-A OUTPUT -p udp -j DROP");
    held(chaos, &format!("node{} isolated", node + 1))
}

fn deaf_at(chaos: &mut Chaos, node: usize) -> Result<(), Skipped> {
    chaos.hosts.rule(node, "-A INPUT -p udp -j DROP");
    held(chaos, &format!("node{} hears nobody", node + 1))
}

pub(crate) fn deaf(chaos: &mut Chaos) -> Result<(), Skipped> {
    let node = chaos.any();
    deaf_at(chaos, node)
}

pub(crate) fn deaf_leader(chaos: &mut Chaos) -> Result<(), Skipped> {
    let node = chaos.leader();
    deaf_at(chaos, node)
}

/// The packets are lost at the others: the node itself is told nothing, as by a switch.
fn mute_at(chaos: &mut Chaos, node: usize) -> Result<(), Skipped> {
    for other in (0..chaos.hosts.count()).filter(|&other| other != node) {
        chaos.hosts.cut(node, other);
    }
    held(chaos, &format!("nobody hears node{}", node + 1))
}

pub(crate) fn mute(chaos: &mut Chaos) -> Result<(), Skipped> {
    let node = chaos.any();
    mute_at(chaos, node)
}

pub(crate) fn mute_leader(chaos: &mut Chaos) -> Result<(), Skipped> {
    let node = chaos.leader();
    mute_at(chaos, node)
}

fn part(chaos: &Chaos, one: usize, other: usize) {
    chaos.hosts.cut(one, other);
    chaos.hosts.cut(other, one);
}

pub(crate) fn split(chaos: &mut Chaos) -> Result<(), Skipped> {
    let leader = chaos.leader();
    let mut others = chaos.shuffled();
    others.retain(|&node| node != leader);
    let rest = others.split_off(chaos.minority() - 1);
    others.push(leader);
    for &one in &others {
        for &other in &rest {
            part(chaos, one, other);
        }
    }
    held(chaos, &format!("split: {} | {}", names(&others), names(&rest)))
}

pub(crate) fn bridge(chaos: &mut Chaos) -> Result<(), Skipped> {
    let leader = chaos.leader();
    let mut others = chaos.shuffled();
    others.retain(|&node| node != leader);
    for &other in &others[1..] {
        part(chaos, leader, other);
    }
    held(chaos, &format!("leader node{} reaches node{} only", leader + 1, others[0] + 1))
}

pub(crate) fn chain(chaos: &mut Chaos) -> Result<(), Skipped> {
    let nodes = chaos.shuffled();
    for (at, &one) in nodes.iter().enumerate() {
        for &other in nodes.iter().skip(at + 2) {
            part(chaos, one, other);
        }
    }
    held(chaos, &format!("chain: {}", names(&nodes)))
}

fn names(nodes: &[usize]) -> String {
    let names: Vec<String> = nodes.iter().map(|node| format!("node{}", node + 1)).collect();
    names.join(" ")
}

pub(crate) fn unplug(chaos: &mut Chaos) -> Result<(), Skipped> {
    let node = if chaos.random.random() { chaos.leader() } else { chaos.any() };
    chaos.say(&format!("node{} unplugged", node + 1));
    chaos.hosts.net.plug(node + 1, false);
    chaos.hold(1000, 4000);
    chaos.hosts.net.plug(node + 1, true);
    Ok(())
}

pub(crate) fn flap(chaos: &mut Chaos) -> Result<(), Skipped> {
    let node = if chaos.random.random() { chaos.leader() } else { chaos.any() };
    chaos.say(&format!("node{} unplugged again and again", node + 1));
    for _ in 0..chaos.random.random_range(3..8) {
        chaos.hosts.net.plug(node + 1, false);
        chaos.hold(20, 600);
        chaos.hosts.net.plug(node + 1, true);
        chaos.hold(20, 400);
    }
    Ok(())
}

pub(crate) fn loss(chaos: &mut Chaos) -> Result<(), Skipped> {
    let percent = chaos.random.random_range(2..35);
    for node in 0..chaos.hosts.count() {
        let chance = format!("-m statistic --mode random --probability 0.{percent:02}");
        chaos.hosts.rule(node, &format!("-A INPUT -p udp {chance} -j DROP"));
    }
    held(chaos, &format!("{percent} % of all packets lost"))
}

pub(crate) fn hole(chaos: &mut Chaos) -> Result<(), Skipped> {
    let node = if chaos.random.random() { chaos.leader() } else { chaos.any() };
    // Above QUIC's least datagram, below it, and hardly more than heartbeats.
    let bytes = [1229, 1000, 300][chaos.random.random_range(0..3)];
    let chain = if chaos.random.random() { "INPUT" } else { "OUTPUT" };
    let rule = format!("-A {chain} -p udp -m length --length {bytes}:65535 -j DROP");
    chaos.hosts.rule(node, &rule);
    held(chaos, &format!("node{} loses packets of {bytes} bytes and more, {chain}", node + 1))
}

pub(crate) fn slow(chaos: &mut Chaos) -> Result<(), Skipped> {
    let node = if chaos.random.random() { chaos.leader() } else { chaos.any() };
    let name = chaos.hosts.net.name(node + 1);
    let rate = chaos.random.random_range(100..2000);
    let tc = |what: &str| {
        let words = format!("netns exec {name} tc qdisc {what}");
        if ip(&words) { Ok(()) } else { Err(Skipped(format!("`{words}` does not work here"))) }
    };
    tc(&format!("add dev eth0 root tbf rate {rate}kbit burst 4kb latency 300ms"))?;
    chaos.say(&format!("node{} sends {rate} kbit/s", node + 1));
    chaos.hold(1000, 4000);
    tc("del dev eth0 root")
}
