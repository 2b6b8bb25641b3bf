//! Hosts that come and go: every one has a folder of its own, so that one name can have had several of them.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use konsen::pki::{
    AUTHORITY_DAYS, Authority, CERTIFICATE_DAYS, Host, Overwrite, PeerIdentity, Role,
    issue_authority, write_certificate, write_pair,
};
use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{Cluster, Node, PATIENCE, client, free_ports};
use crate::members::{named, wait_members};
use crate::operator::At;

/// What `cluster:` is unless set.
const CLUSTER: &str = "konsen";

impl At {
    /// Free ports on loopback.
    pub(crate) fn free() -> At {
        let (raft, http) = free_ports(1)[0];
        At { raft: format!("127.0.0.1:{raft}"), http: format!("127.0.0.1:{http}") }
    }

    pub(crate) fn of(node: &Node) -> At {
        At {
            raft: format!("{}:{}", node.host, node.raft_port),
            http: format!("{}:{}", node.host, node.http_port),
        }
    }

    fn ports(&self) -> (u16, u16) {
        let port = |address: &str| address.rsplit_once(':').unwrap().1.parse().unwrap();
        (port(&self.raft), port(&self.http))
    }
}

/// A cluster of `node1`, `node2`, … whose authority lies in `certs`, and whose configuration is `cluster.yml`.
/// `extra` ends every configuration. Starts nothing.
pub(crate) fn found(size: usize, extra: &str) -> Cluster {
    let dir = TempDir::new().unwrap();
    let certs = dir.path().join("certs");
    fs::create_dir(&certs).unwrap();
    let issued = issue_authority(&CLUSTER.parse().unwrap(), AUTHORITY_DAYS).unwrap();
    let (cert, key) = authority(dir.path());
    write_pair((&cert, &issued.certificate), (&key, &issued.key), Overwrite::Never).unwrap();
    let servers: Vec<_> = (1..=size).map(|n| (format!("node{n}"), At::free())).collect();
    let yml = configuration("node1", &servers, false) + extra;
    fs::write(dir.path().join("cluster.yml"), yml).unwrap();
    let mut cluster = Cluster { dir, nodes: Vec::new(), http: client() };
    for (name, at) in &servers {
        host(&mut cluster, name, at, &servers, false, extra);
    }
    cluster
}

/// As `found`, and waits until all serve.
pub(crate) async fn start(size: usize, extra: &str) -> Cluster {
    let mut cluster = found(size, extra);
    cluster.nodes.iter_mut().for_each(Node::start);
    cluster.wait_ready_all().await;
    cluster
}

/// A host with an empty data directory that is to come under a name which the cluster expects. It knows the
/// servers given and where it listens itself.
pub(crate) fn newcomer(
    cluster: &mut Cluster,
    name: &str,
    at: &At,
    knows: &[(String, At)],
    extra: &str,
) -> usize {
    let others = knows.iter().filter(|(other, _)| other != name).cloned();
    let servers: Vec<_> = others.chain([(name.to_owned(), at.clone())]).collect();
    host(cluster, name, at, &servers, true, extra)
}

fn host(
    cluster: &mut Cluster,
    name: &str,
    at: &At,
    servers: &[(String, At)],
    join: bool,
    extra: &str,
) -> usize {
    let home = home(cluster, name);
    fs::create_dir_all(&home).unwrap();
    certify(cluster.dir.path(), name, &home);
    fs::write(home.join("cluster.yml"), configuration(name, servers, join) + extra).unwrap();
    let (raft, http) = at.ports();
    cluster.nodes.push(Node::at(name, home, raft, http));
    cluster.nodes.len() - 1
}

/// A folder for one more host of that name.
fn home(cluster: &Cluster, name: &str) -> PathBuf {
    let homes = cluster.dir.path().join("homes");
    let one = |number: usize| homes.join(format!("{name}.{number}"));
    (1..).map(one).find(|home| !home.exists()).unwrap()
}

/// The host whose folder `konsen member add` or `replace` has made.
pub(crate) fn from_folder(cluster: &mut Cluster, name: &str, at: &At) -> usize {
    let home = home(cluster, name);
    fs::create_dir_all(home.parent().unwrap()).unwrap();
    fs::rename(cluster.dir.path().join("output").join(name), &home).unwrap();
    let (raft, http) = at.ports();
    cluster.nodes.push(Node::at(name, home, raft, http));
    cluster.nodes.len() - 1
}

/// A host that has the certificate and the data of another one that does not run, and is known to listen
/// elsewhere.
pub(crate) fn twin(cluster: &mut Cluster, of: usize) -> usize {
    let at = At::free();
    let name = cluster.nodes[of].name.clone();
    let to = home(cluster, &name);
    let copied = std::process::Command::new("cp")
        .arg("-r")
        .args([&cluster.nodes[of].home, &to])
        .status()
        .unwrap();
    assert!(copied.success());
    // What the other one said is not what this one says.
    let _ = fs::remove_file(to.join("log.txt"));
    let (raft, http) = At::of(&cluster.nodes[of]).ports();
    let mut node = Node::at(&name, to, raft, http);
    readdress(&mut node, &at);
    cluster.nodes.push(node);
    cluster.nodes.len() - 1
}

/// Gives a node that does not run other addresses, in its own file alone.
pub(crate) fn readdress(node: &mut Node, at: &At) {
    let before = At::of(node);
    edit(node, &[(before.raft, at.raft.clone()), (before.http, at.http.clone())]);
    (node.raft_port, node.http_port) = at.ports();
}

/// Tells a node, in its file, where others are now. It counts for those that the node knows by name.
pub(crate) fn tell(node: &Node, others: &[(String, At)]) {
    let others = others.iter().filter(|(name, _)| *name != node.name).cloned();
    let servers: Vec<_> = others.chain([(node.name.clone(), At::of(node))]).collect();
    fs::write(node.home.join("cluster.yml"), configuration(&node.name, &servers, true)).unwrap();
}

/// Puts other addresses into a node's file, all of them at once.
pub(crate) fn edit(node: &Node, changes: &[(String, String)]) {
    let file = node.home.join("cluster.yml");
    let mut text = fs::read_to_string(&file).unwrap();
    for (number, (before, _)) in changes.iter().enumerate() {
        text = text.replace(before, &format!("<{number}>"));
    }
    for (number, (_, after)) in changes.iter().enumerate() {
        text = text.replace(&format!("<{number}>"), after);
    }
    fs::write(&file, text).unwrap();
}

fn authority(dir: &Path) -> (PathBuf, PathBuf) {
    (dir.join("certs/ca.crt"), dir.join("certs/ca.key"))
}

/// Gives a host a key and a certificate of its own for that name.
fn certify(dir: &Path, name: &str, home: &Path) {
    let (cert, key) = authority(dir);
    let authority = Authority::load(&cert, &key).unwrap();
    let identity = PeerIdentity {
        cluster: CLUSTER.parse().unwrap(),
        role: Role::Node,
        name: name.parse().unwrap(),
    };
    let loopback: Host = "127.0.0.1".parse().unwrap();
    let issued = authority.issue(&identity, &[loopback], CERTIFICATE_DAYS).unwrap();
    let certs = home.join("certs");
    fs::create_dir_all(&certs).unwrap();
    let (cert, key) = (certs.join("node.crt"), certs.join("node.key"));
    write_pair((&cert, &issued.certificate), (&key, &issued.key), Overwrite::Never).unwrap();
    write_certificate(&certs.join("ca.crt"), authority.certificate(), Overwrite::Never).unwrap();
}

fn configuration(name: &str, servers: &[(String, At)], join: bool) -> String {
    let list = |address: fn(&At) -> &str| -> String {
        servers.iter().map(|(name, at)| format!("  {name}: {}\n", address(at))).collect()
    };
    format!(
        "{}localServerName: {name}\nhttp: {{tls: false}}\nservers:\n{}httpServers:\n{}",
        if join { "join: true\n" } else { "" },
        list(|at| &at.raft),
        list(|at| &at.http),
    )
}

/// The nodes at these places, as configurations list them.
pub(crate) fn listed(cluster: &Cluster, nodes: &[usize]) -> Vec<(String, At)> {
    let one = |&node: &usize| (cluster.nodes[node].name.clone(), At::of(&cluster.nodes[node]));
    nodes.iter().map(one).collect()
}

/// The members as a node knows them; null while it knows none.
pub(crate) async fn members(cluster: &Cluster, asked: usize) -> Value {
    let url = cluster.url(asked, "/v1/cluster/members");
    let Ok(answer) = cluster.http.get(url).send().await else { return Value::Null };
    let mut answer: Value = answer.json().await.unwrap_or_default();
    answer["members"].take()
}

/// Waits until the member of that name votes and is the host at `node`.
pub(crate) async fn until_it_votes(cluster: &Cluster, asked: usize, node: usize) {
    let name = cluster.nodes[node].name.clone();
    let deadline = Instant::now() + PATIENCE;
    let id = loop {
        if let Some(status) = cluster.status(node).await {
            break status["id"].clone();
        }
        assert!(Instant::now() < deadline, "{name} does not answer\n{}", cluster.logs());
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let what = format!("{name}, host {}, votes", node + 1);
    wait_members(cluster, asked, &what, |members| {
        let own = named(members, &name);
        own["voter"] == true && own["id"] == id
    })
    .await;
    // Of two voters both are needed until the change is complete.
    let url = cluster.nodes[asked].url("/v1/cluster");
    loop {
        let answer = cluster.http.get(&url).send().await.ok();
        let state: Option<Value> = match answer {
            Some(answer) => answer.json().await.ok(),
            None => None,
        };
        if state.is_some_and(|state| state["leader"].is_string() && state["change"].is_null()) {
            return;
        }
        assert!(Instant::now() < deadline, "{what} never ends\n{}", cluster.logs());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until a node that was put out has ended by itself, as if it was asked to, and has said why.
pub(crate) async fn must_end(cluster: &mut Cluster, node: usize, why: &str) {
    let deadline = Instant::now() + PATIENCE;
    let status = loop {
        if let Some(status) = cluster.nodes[node].ended() {
            break status;
        }
        let name = &cluster.nodes[node].name;
        assert!(Instant::now() < deadline, "{name} does not end\n{}", cluster.logs());
        // The standard library waits for ever or not at all.
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(status.code(), Some(0), "it ended with {status}\n{}", cluster.logs());
    said_why(&cluster.nodes[node], why);
}

/// What a node that was put out may say, and may not.
pub(crate) fn said_why(node: &Node, why: &str) {
    let log = node.log();
    assert!(log.contains(why), "{} ended without {why:?}:\n{log}", node.name);
    // Whoever obeyed would throw out the one that is well.
    let advice = format!("konsen member replace {}", node.name);
    assert!(!log.contains(&advice), "{} is told to `{advice}`:\n{log}", node.name);
    let own = format!("{:?} shows another identity", node.name);
    assert!(!log.contains(&own), "{} is told to restore its data:\n{log}", node.name);
}
