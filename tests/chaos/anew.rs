//! Clusters that are given up, and begun anew from what is left of them, as docs/operations.md tells operators to.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rand::RngExt;
use rand::seq::SliceRandom;
use serde_json::Value;

use crate::harness::{PATIENCE, konsen};
use crate::nemesis::{Chaos, Skipped};
use crate::{backups, membership};

/// At how many moments of the last history everything is compared, its end included.
const MOMENTS: u64 = 8;

/// What a new cluster begins with.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Way {
    /// A backup that was saved before all data directories were lost.
    Backup,
    /// The data directory of one node, after the others were lost.
    Survivor,
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Way::Backup => "from a backup",
            Way::Survivor => "from one survivor",
        })
    }
}

/// What happens after each of so many histories: every way once, if they suffice, and then any or none.
pub(crate) fn plan(chaos: &mut Chaos, histories: usize) -> Vec<Option<Way>> {
    let all = [Some(Way::Backup), Some(Way::Survivor), None];
    let mut plan = vec![all[0], all[1]];
    plan.shuffle(&mut chaos.random);
    plan.resize_with(histories, || all[chaos.random.random_range(0..all.len())]);
    plan.shuffle(&mut chaos.random);
    plan
}

/// All keys, with their values and revisions, as of one revision.
#[derive(Default, PartialEq)]
pub(crate) struct Everything {
    revision: u64,
    items: BTreeMap<String, Value>,
}

/// Reads everything through a node; what earlier histories left, nobody has touched since.
pub(crate) fn read_back(chaos: &mut Chaos, node: usize) {
    let now = everything(chaos, node, None);
    for (key, item) in &chaos.left.items {
        assert_eq!(now.items.get(key), Some(item), "{key} has changed");
    }
    chaos.left = now;
}

/// As of now, or of an earlier revision.
fn everything(chaos: &Chaos, node: usize, at: Option<u64>) -> Everything {
    let at = at.map(|revision| format!("revision={revision}")).unwrap_or_default();
    let deadline = Instant::now() + PATIENCE;
    let (mut path, mut all) = (format!("/v1/kv?{at}"), BTreeMap::new());
    loop {
        let (status, mut page) = chaos.ask(node, "GET", &path, "");
        if status == 200 {
            let Value::Array(items) = page["items"].take() else { panic!("no items: {page}") };
            all.extend(
                items.into_iter().map(|item| (item["key"].as_str().unwrap().to_owned(), item)),
            );
            let Some(next) = page["next"].as_str() else {
                return Everything { revision: page["revision"].as_u64().unwrap(), items: all };
            };
            path = format!("/v1/kv?cursor={next}");
            continue;
        }
        let again = matches!(status, 0 | 503 | 504) && Instant::now() < deadline;
        assert!(again, "node{} reads nothing: {status} {page}", node + 1);
        // Nobody tells when it can.
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Gives the cluster up, after a history and with nobody writing, and begins a new one that has everything.
pub(crate) fn begin(chaos: &mut Chaos, way: Way) {
    chaos.say(&format!("the cluster is given up, and begun anew {way}"));
    let nodes = chaos.shuffled();
    let (founder, others) = (nodes[0], &nodes[1..]);
    // One of the old cluster. The last node's disk is too small for two directories.
    let last = chaos.hosts.count() - 1;
    let former = *others.iter().find(|&&node| node != last).expect("three nodes at least");
    let earlier = chaos.left.revision;
    // A linearizable read: the node itself has all that was acknowledged.
    read_back(chaos, founder);
    let moments = moments(chaos, founder, earlier);
    let old = status(chaos, founder)["cluster_id"].take();
    let backup = (way == Way::Backup).then(|| backups::save(chaos, chaos.left.revision));
    give_up(chaos, others, former);
    let made = match backup {
        Some((file, holds)) => {
            fs::remove_dir_all(chaos.hosts.data(founder)).unwrap();
            let made = restore(chaos, founder, &[file.to_str().unwrap()]);
            fs::remove_file(file).unwrap();
            assert_eq!(made["revision"], holds["revision"]);
            made
        }
        None => {
            let yes = ["--force-new-cluster", "--i-understand-that-writes-may-be-lost"];
            let made = restore(chaos, founder, &yes);
            assert_eq!(made["before"]["cluster_id"], old);
            made
        }
    };
    assert_ne!(made["cluster_id"], old);
    chaos.hosts.cluster.nodes[founder].start();
    chaos.wait_ready(founder);
    chaos.say(&format!("node{} is the new cluster", founder + 1));
    stays_out(chaos, founder, former);
    chaos.say(&format!("node{} of the old cluster stays out", former + 1));
    for &node in others {
        chaos.hosts.cluster.nodes[node].start();
    }
    for &node in others {
        let name = chaos.hosts.cluster.nodes[node].name.clone();
        membership::wait_vote(chaos, founder, &name);
    }
    chaos.healthy();
    for &node in &nodes {
        assert_eq!(status(chaos, node)["cluster_id"], made["cluster_id"], "node{}", node + 1);
        for moment in &moments {
            let found = everything(chaos, node, Some(moment.revision));
            assert!(found == *moment, "node{} differs at {}", node + 1, moment.revision);
        }
    }
    chaos.say(&format!("the new cluster is whole and has all up to {}", chaos.left.revision));
    *chaos.anew.entry(way).or_default() += 1;
}

/// What there was at some moments of the history that began at a revision, its end included.
fn moments(chaos: &Chaos, node: usize, began: u64) -> Vec<Everything> {
    let grown = chaos.left.revision - began;
    let at = (1..=MOMENTS).map(|number| began + grown * number / MOMENTS);
    let moments: Vec<_> = at.map(|revision| everything(chaos, node, Some(revision))).collect();
    let left = moments.iter().any(|moment| !moment.items.is_empty());
    assert!(left, "there was nothing at any moment");
    moments
}

/// Kills all nodes at once and loses the data of those named, but for one, which is set aside.
fn give_up(chaos: &mut Chaos, lost: &[usize], former: usize) {
    for node in &mut chaos.hosts.cluster.nodes {
        node.kill();
    }
    if let Some(node) = chaos.former.replace(former) {
        let _ = fs::remove_dir_all(aside(chaos, node));
    }
    fs::rename(chaos.hosts.data(former), aside(chaos, former)).unwrap();
    for &node in lost.iter().filter(|&&node| node != former) {
        fs::remove_dir_all(chaos.hosts.data(node)).unwrap();
    }
}

/// Where a node's directory of the old cluster is kept.
fn aside(chaos: &Chaos, node: usize) -> PathBuf {
    chaos.hosts.data(node).with_extension("former")
}

fn status(chaos: &Chaos, node: usize) -> Value {
    let (status, answer) = chaos.ask(node, "GET", "/v1/status", "");
    assert_eq!(status, 200, "{answer}");
    answer
}

/// Runs `konsen snapshot restore` at a node; what it says it made.
fn restore(chaos: &Chaos, node: usize, words: &[&str]) -> Value {
    let output = konsen()
        .current_dir(&chaos.hosts.cluster.nodes[node].home)
        .args(["snapshot", "restore"])
        .args(words)
        .args(["--config", "cluster.yml", "-o", "json", "--data"])
        .arg(chaos.hosts.data(node))
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "node{}: {words:?}: {told}", node + 1);
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A node of the old cluster comes back with its old directory while the new one is a single node that waits for
/// others: it is refused, and changes nothing.
fn stays_out(chaos: &mut Chaos, founder: usize, former: usize) {
    let before = standing(chaos, founder);
    let from = [founder, former].map(|node| (node, chaos.hosts.cluster.nodes[node].log().len()));
    fs::rename(aside(chaos, former), chaos.hosts.data(former)).unwrap();
    chaos.hosts.cluster.nodes[former].start();
    // Whoever of the two hears the other first says it.
    chaos.hosts.wait_logged_by(&from, "founded as");
    // It would be a candidate by now, if anybody heard it.
    chaos.hold(1000, 2000);
    assert!(!chaos.is_ready(former), "node{} of the old cluster serves", former + 1);
    assert_eq!(standing(chaos, founder), before, "node{} of the old cluster is heard", former + 1);
    chaos.hosts.cluster.nodes[former].kill();
    fs::rename(chaos.hosts.data(former), aside(chaos, former)).unwrap();
}

/// The same, in the place of a node that the new cluster knows, under load.
pub(crate) fn come_back(chaos: &mut Chaos) -> Result<(), Skipped> {
    let Some(node) = chaos.former else {
        return Err(Skipped("no cluster was given up before its turn".into()));
    };
    chaos.say(&format!("node{} comes back with its data of the cluster before", node + 1));
    let asked = (node + 1) % chaos.hosts.count();
    let members =
        |chaos: &Chaos| chaos.ask(asked, "GET", "/v1/cluster/members", "").1["members"].take();
    let before = members(chaos);
    let (data, aside) = (chaos.hosts.data(node), aside(chaos, node));
    let own = data.with_extension("own");
    chaos.hosts.cluster.nodes[node].kill();
    fs::rename(&data, &own).unwrap();
    fs::rename(&aside, &data).unwrap();
    let from = chaos.hosts.cluster.nodes[node].log().len();
    chaos.hosts.cluster.nodes[node].start();
    chaos.hosts.wait_logged(node, from, "founded as");
    chaos.hold(1000, 3000);
    assert!(!chaos.is_ready(node), "node{} of the old cluster serves", node + 1);
    assert_eq!(members(chaos), before, "node{} of the old cluster is let in", node + 1);
    chaos.hosts.cluster.nodes[node].kill();
    fs::rename(&data, &aside).unwrap();
    fs::rename(&own, &data).unwrap();
    chaos.hosts.cluster.nodes[node].start();
    Ok(())
}

/// The members, and where the node itself stands.
fn standing(chaos: &Chaos, node: usize) -> (Value, [Value; 4]) {
    let (answered, members) = chaos.ask(node, "GET", "/v1/cluster/members", "");
    assert_eq!(answered, 200, "{members}");
    let mut own = status(chaos, node);
    (members, ["cluster_id", "term", "role", "leader"].map(|field| own[field].take()))
}
