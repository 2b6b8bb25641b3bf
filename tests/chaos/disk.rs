//! Disks that are full, and data directories that are not the node's own.

use std::fs;
use std::io::Write;
use std::process::ExitStatus;

use crate::nemesis::{Chaos, Skipped};

pub(crate) fn full(chaos: &mut Chaos) -> Result<(), Skipped> {
    let Some(small) = chaos.hosts.small() else {
        return Err(Skipped("a tmpfs cannot be mounted".into()));
    };
    let node = chaos.hosts.count() - 1;
    chaos.say(&format!("node{} has a full disk", node + 1));
    let from = chaos.hosts.cluster.nodes[node].log().len();
    let filler = small.join("filler");
    let mut file = fs::File::create(&filler).unwrap();
    for block in [1 << 20, 4096] {
        let zeros = vec![0; block];
        while file.write_all(&zeros).is_ok() {}
    }
    // While it is open its room would not come back.
    drop(file);
    chaos.hosts.wait_logged(node, from, "little room on the disk");
    chaos.hold(1000, 4000);
    fs::remove_file(&filler).unwrap();
    // Nobody starts it again: it heals by itself.
    chaos.hosts.wait_logged(node, from, "there is room on the disk again");
    let ended = chaos.hosts.cluster.nodes[node].ended();
    assert!(ended.is_none(), "node{} ended: {ended:?}", node + 1);
    Ok(())
}

pub(crate) fn wiped(chaos: &mut Chaos) -> Result<(), Skipped> {
    let node = chaos.any();
    chaos.say(&format!("node{} has lost its data", node + 1));
    let data = chaos.hosts.data(node);
    let aside = data.with_extension("aside");
    chaos.hosts.cluster.nodes[node].kill();
    fs::rename(&data, &aside).unwrap();
    let from = chaos.hosts.cluster.nodes[node].log().len();
    chaos.hosts.cluster.nodes[node].start();
    chaos.hosts.wait_logged(node, from, "identity");
    chaos.hold(0, 2000);
    assert!(!chaos.is_ready(node), "node{} is let in without its data", node + 1);
    chaos.hosts.cluster.nodes[node].kill();
    fs::remove_dir_all(&data).unwrap();
    fs::rename(&aside, &data).unwrap();
    chaos.hosts.cluster.nodes[node].start();
    Ok(())
}

/// Of nodes whose data is on the same file system.
pub(crate) fn swapped(chaos: &mut Chaos) -> Result<(), Skipped> {
    let mut nodes = chaos.shuffled();
    let last = chaos.hosts.count() - 1;
    nodes.retain(|&node| node != last);
    let (one, other) = (nodes[0], nodes[1]);
    chaos.say(&format!("node{} and node{} have each other's data", one + 1, other + 1));
    let exchange = |chaos: &Chaos| {
        let (a, b) = (chaos.hosts.data(one), chaos.hosts.data(other));
        let aside = a.with_extension("aside");
        fs::rename(&a, &aside).unwrap();
        fs::rename(&b, &a).unwrap();
        fs::rename(&aside, &b).unwrap();
    };
    chaos.hosts.cluster.nodes[one].kill();
    chaos.hosts.cluster.nodes[other].kill();
    exchange(chaos);
    for (node, holds) in [(one, other), (other, one)] {
        refused(chaos, node, &format!("belongs to node node{}", holds + 1));
    }
    exchange(chaos);
    chaos.hosts.cluster.nodes[one].start();
    chaos.hosts.cluster.nodes[other].start();
    Ok(())
}

/// Starts a node that must end by itself, and say why.
pub(crate) fn refused(chaos: &mut Chaos, node: usize, why: &str) {
    let from = chaos.hosts.cluster.nodes[node].log().len();
    chaos.hosts.cluster.nodes[node].start();
    let status: ExitStatus = chaos.hosts.cluster.nodes[node].wait();
    let said = chaos.hosts.log_since(node, from);
    assert!(!status.success(), "node{} started:\n{said}", node + 1);
    assert!(said.contains("error: ") && said.contains(why), "no {why:?} in:\n{said}");
}
