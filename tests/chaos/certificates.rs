//! Certificates that are renewed, and exchanged by mistake, under load.

use std::fs;

use crate::disk::refused;
use crate::harness::konsen;
use crate::nemesis::{Chaos, Skipped};

pub(crate) fn renew(chaos: &mut Chaos) -> Result<(), Skipped> {
    chaos.say("all certificates are renewed");
    for node in chaos.shuffled() {
        let name = chaos.hosts.cluster.nodes[node].name.clone();
        let renewed = konsen()
            .current_dir(chaos.hosts.cluster.dir.path())
            .args(["cert", "renew", &format!("output/{name}/certs/node.crt")])
            .output()
            .unwrap();
        assert!(renewed.status.success(), "{}", String::from_utf8_lossy(&renewed.stderr));
        reload(chaos, node, "new certificates are in use");
    }
    Ok(())
}

/// Tells a node to look at its files, and waits until it has said what it made of them.
fn reload(chaos: &mut Chaos, node: usize, said: &str) {
    // Nodes look by themselves every half minute and may be first.
    let from = chaos.hosts.cluster.nodes[node].log().len();
    let seen = |chaos: &Chaos| chaos.hosts.log_since(node, from.saturating_sub(2000));
    if !seen(chaos).contains(said) {
        chaos.hosts.cluster.nodes[node].signal("HUP");
        chaos.hosts.wait_logged(node, from.saturating_sub(2000), said);
    }
}

pub(crate) fn swap(chaos: &mut Chaos) -> Result<(), Skipped> {
    let nodes = chaos.shuffled();
    let (node, other) = (nodes[0], nodes[1]);
    chaos.say(&format!("node{} has the certificate of node{}", node + 1, other + 1));
    let certs = |at: usize, chaos: &Chaos| chaos.hosts.cluster.nodes[at].home.join("certs");
    let (own, foreign) = (certs(node, chaos), certs(other, chaos));
    for file in ["node.crt", "node.key"] {
        fs::rename(own.join(file), own.join(format!("{file}.aside"))).unwrap();
        fs::copy(foreign.join(file), own.join(file)).unwrap();
    }
    // A node that runs goes on with what it has.
    reload(chaos, node, "cannot be used");
    chaos.wait_ready(node);
    // One that starts does not.
    chaos.hosts.cluster.nodes[node].kill();
    refused(chaos, node, &format!("node{}", other + 1));
    for file in ["node.crt", "node.key"] {
        fs::rename(own.join(format!("{file}.aside")), own.join(file)).unwrap();
    }
    chaos.hosts.cluster.nodes[node].start();
    Ok(())
}
