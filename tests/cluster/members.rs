//! Members that come, go, move and are replaced while the cluster works.

use std::fs;
use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{Cluster, Node, PATIENCE, free_ports, konsen};

/// Runs `konsen member` against all nodes, in the folder where the authority is.
fn member(cluster: &Cluster, arguments: &[&str]) -> Output {
    let endpoints: Vec<String> = cluster.nodes.iter().map(|node| node.url("")).collect();
    konsen()
        .current_dir(cluster.dir.path())
        .arg("member")
        .args(arguments)
        .args(["--endpoints", &endpoints.join(","), "--timeout", "20s"])
        .output()
        .unwrap()
}

fn done(cluster: &Cluster, arguments: &[&str]) -> String {
    let output = member(cluster, arguments);
    let (stdout, stderr) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{arguments:?}: {stdout}{stderr}\n{}", cluster.logs());
    stdout.into_owned()
}

/// Takes a node in by the command line, with the folder that it makes; it does not run yet.
fn add(cluster: &mut Cluster, name: &str, extra: &[&str]) -> usize {
    let (raft_port, http_port) = free_ports(1)[0];
    let (raft, http) = (format!("127.0.0.1:{raft_port}"), format!("127.0.0.1:{http_port}"));
    let words =
        ["add", name, "--raft-address", &raft, "--http-address", &http, "--config", "cluster.yml"];
    done(cluster, &[&words[..], extra].concat());
    let home = cluster.dir.path().join("output").join(name);
    cluster.nodes.push(Node::at(name, home, raft_port, http_port));
    cluster.nodes.len() - 1
}

async fn ask(
    cluster: &Cluster,
    asked: usize,
    method: &str,
    path: &str,
    body: &str,
) -> (u16, Value) {
    let url = cluster.url(asked, path);
    let request = cluster.http.request(method.parse().unwrap(), url).body(body.to_owned());
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap_or_default())
}

/// Waits until the membership, as a node knows it, is as wanted.
pub(crate) async fn wait_members(
    cluster: &Cluster,
    asked: usize,
    what: &str,
    wanted: impl Fn(&Value) -> bool,
) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = cluster.http.get(cluster.url(asked, "/v1/cluster/members")).send().await;
        if let Ok(answer) = answer
            && let Ok(answer) = answer.json::<Value>().await
            && wanted(&answer["members"])
        {
            return;
        }
        assert!(Instant::now() < deadline, "never: {what}\n{}", cluster.logs());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub(crate) fn named<'a>(members: &'a Value, name: &str) -> &'a Value {
    let members = members.as_array().map(Vec::as_slice).unwrap_or_default();
    members.iter().find(|member| member["name"] == name).unwrap_or(&Value::Null)
}

fn votes(name: &'static str) -> impl Fn(&Value) -> bool {
    move |members| named(members, name)["voter"] == true
}

/// Clients that write through some of the nodes all the time; each must be served.
struct Load {
    stop: Arc<AtomicBool>,
    clients: Vec<tokio::task::JoinHandle<u64>>,
}

impl Load {
    fn start(cluster: &Cluster, nodes: &[usize]) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let client = |&node: &usize| {
            let (stop, http) = (stop.clone(), cluster.http.clone());
            let url = cluster.url(node, &format!("/v1/kv/load{node}"));
            tokio::spawn(async move {
                let mut written = 0;
                while !stop.load(Ordering::Relaxed) {
                    let answer = http.put(&url).body("x").send().await.unwrap();
                    let status = answer.status().as_u16();
                    assert!(matches!(status, 201 | 204), "{}", answer.text().await.unwrap());
                    written += 1;
                }
                written
            })
        };
        Load { clients: nodes.iter().map(client).collect(), stop }
    }

    async fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients {
            assert!(client.await.unwrap() > 0);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_is_taken_in_votes_and_is_put_out_again() {
    let mut cluster = Cluster::start(3).await;
    assert_eq!(cluster.put(0, "before", "1").await.unwrap(), 201);
    let load = Load::start(&cluster, &[0, 1, 2]);
    let new = add(&mut cluster, "node4", &[]);
    let list = done(&cluster, &["list", "-o", "json"]);
    assert_eq!(
        named(&serde_json::from_str::<Value>(&list).unwrap()["members"], "node4")["voter"],
        false
    );

    cluster.nodes[new].start();
    wait_members(&cluster, 0, "node4 votes", votes("node4")).await;
    cluster.wait_ready(new).await;
    assert_eq!(cluster.get(new, "before").await.unwrap().as_deref(), Some("1"));
    // The same command starts it again.
    assert!(cluster.nodes[new].terminate().success());
    cluster.nodes[new].start();
    cluster.wait_ready(new).await;

    done(&cluster, &["remove", "node4"]);
    // It says so, and stops in order; and so it does when it is started again.
    for _ in 0..2 {
        assert!(cluster.nodes[new].wait().success(), "{}", cluster.nodes[new].log());
        assert!(cluster.nodes[new].log().contains("node4 was removed from the cluster"));
        cluster.nodes[new].start();
    }
    assert!(cluster.nodes[new].wait().success());
    wait_members(&cluster, 1, "node4 is gone", |members| named(members, "node4").is_null()).await;
    load.end().await;

    // With a fresh directory it can come again, here with the addresses that it had.
    let (raft, http) = (cluster.nodes[new].raft_port, cluster.nodes[new].http_port);
    fs::remove_dir_all(cluster.nodes[new].home.join("data")).unwrap();
    let (raft, http) = (format!("127.0.0.1:{raft}"), format!("127.0.0.1:{http}"));
    let words = ["add", "node4", "--raft-address", &raft, "--http-address", &http, "--no-folder"];
    done(&cluster, &words);
    cluster.nodes[new].start();
    wait_members(&cluster, 0, "node4 votes again", votes("node4")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_never_starts_costs_nothing() {
    let mut cluster = Cluster::start(3).await;
    let ghost = add(&mut cluster, "ghost", &[]);
    cluster.nodes.remove(ghost);
    // One of three may still be lost.
    let lost = (cluster.wait_leader().await + 1) % 3;
    cluster.nodes[lost].kill();
    let asked = (lost + 1) % 3;
    assert_eq!(cluster.put(asked, "key", "1").await.unwrap(), 201);
    done(&cluster, &["remove", "ghost"]);
    wait_members(&cluster, asked, "it is gone", |members| named(members, "ghost").is_null()).await;
    cluster.nodes[lost].start();
    cluster.wait_ready(lost).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_host_is_replaced_by_one_command() {
    let mut cluster = Cluster::start(3).await;
    assert_eq!(cluster.put(0, "key", "1").await.unwrap(), 201);
    let lost = (cluster.wait_leader().await + 1) % 3;
    let name = cluster.nodes[lost].name.clone();
    let others = [(lost + 1) % 3, (lost + 2) % 3];
    let load = Load::start(&cluster, &others);
    cluster.nodes[lost].kill();
    // Under the old identity nobody else gets in.
    fs::remove_dir_all(cluster.nodes[lost].home.join("data")).unwrap();
    cluster.nodes[lost].start();
    let deadline = Instant::now() + PATIENCE;
    while !cluster.nodes[lost].log().contains("its data directory was lost or exchanged") {
        assert!(Instant::now() < deadline, "{}", cluster.nodes[lost].log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    done(&cluster, &["replace", &name, "--config", "cluster.yml"]);
    let is_back = {
        let name = name.clone();
        move |members: &Value| named(members, &name)["voter"] == true
    };
    wait_members(&cluster, others[0], "the new host votes", is_back).await;
    cluster.wait_ready(lost).await;
    load.end().await;
    // It counts: without another one, writes go on.
    cluster.nodes[others[0]].kill();
    let deadline = Instant::now() + PATIENCE;
    while cluster.put(others[1], "key", "2").await.unwrap() != 204 {
        assert!(Instant::now() < deadline, "{}", cluster.logs());
    }
    assert_eq!(cluster.get(lost, "key").await.unwrap().as_deref(), Some("2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_removed_hands_over_and_no_client_sees_an_error() {
    let mut cluster = Cluster::start(4).await;
    let leader = cluster.wait_leader().await;
    let others: Vec<usize> = (0..4).filter(|node| *node != leader).collect();
    let load = Load::start(&cluster, &others);
    done(&cluster, &["remove", &format!("node{}", leader + 1)]);
    assert!(cluster.nodes[leader].wait().success());
    load.end().await;
    let now = cluster.wait_leader().await;
    assert_ne!(now, leader);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_is_asked_passes_the_change_on() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.wait_leader().await;
    let members = "/v1/cluster/members";
    let new = json!({ "name": "node4", "raft_address": "h:1", "http_address": "h:2" }).to_string();
    // Nobody else is asked, as clients do that hear of no leader: that would hide what this one does.
    for asked in [(leader + 1) % 3, (leader + 2) % 3] {
        let (status, now) = ask(&cluster, asked, "POST", members, &new).await;
        assert_eq!((status, &named(&now["members"], "node4")["voter"]), (201, &json!(false)));
        let (status, now) = ask(&cluster, asked, "DELETE", &format!("{members}/node4"), "").await;
        assert!(status == 200 && named(&now["members"], "node4").is_null(), "{now}");
        let (status, now) = ask(&cluster, asked, "POST", &format!("{members}/undo"), "").await;
        let detail = now["detail"].as_str().unwrap_or_default();
        assert!(status == 409 && detail.contains("no change of the membership"), "{now}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_moves_is_learnt() {
    let mut cluster = Cluster::start(3).await;
    assert_eq!(cluster.put(0, "key", "1").await.unwrap(), 201);
    let moved = (cluster.wait_leader().await + 1) % 3;
    assert!(cluster.nodes[moved].terminate().success());
    // Only the file of the host itself is edited.
    let (raft_port, http_port) = free_ports(1)[0];
    let node = &mut cluster.nodes[moved];
    let file = node.home.join("cluster.yml");
    let text = fs::read_to_string(&file).unwrap();
    let (raft, http) = (format!("127.0.0.2:{raft_port}"), format!("127.0.0.2:{http_port}"));
    let text = text
        .replace(&format!("127.0.0.1:{}", node.raft_port), &raft)
        .replace(&format!("127.0.0.1:{}", node.http_port), &http);
    fs::write(&file, text).unwrap();
    node.host = "127.0.0.2".to_owned();
    (node.raft_port, node.http_port) = (raft_port, http_port);
    node.start();
    cluster.wait_ready(moved).await;
    let (name, address) = (cluster.nodes[moved].name.clone(), raft);
    let asked = (moved + 1) % 3;
    let knows = move |members: &Value| named(members, &name)["raft_address"] == json!(address);
    wait_members(&cluster, asked, "the new address is known", knows).await;
    // The others find it by what they have learnt, and say that their own files are out of date.
    for node in [asked, (moved + 2) % 3] {
        assert!(cluster.nodes[node].terminate().success());
        cluster.nodes[node].start();
        cluster.wait_ready(node).await;
        assert!(cluster.nodes[node].log().contains("the cluster knows it at"));
    }
    cluster.wait_ready_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_would_do_harm_or_makes_no_sense_is_refused_with_the_reason() {
    let mut cluster = Cluster::start(3).await;
    let refused = async |method: &str, path: &str, body: Value| {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let (status, problem) = ask(&cluster, 0, method, path, &body).await;
        assert_eq!(problem["outcome"], "not_applied", "{problem}");
        (status, problem["detail"].as_str().unwrap().to_owned())
    };
    let members = "/v1/cluster/members";
    let new = |name: &str, raft: &str, http: &str| json!({ "name": name, "raft_address": raft, "http_address": http });
    let taken = format!("127.0.0.1:{}", cluster.nodes[1].raft_port);
    for (body, status, says) in [
        (Value::Null, 400, r#"the body is not like {"name":"node4""#),
        (new("Node4", "h:1", "h:2"), 400, "name: "),
        (new("node4", "h", "h:2"), 400, "raft_address: \"h\" has no port"),
        (new("node4", "h:0", "h:2"), 400, "raft_address: h:0 has the port 0"),
        (new("node4", "0.0.0.0:1", "h:2"), 400, "raft_address: peers cannot dial 0.0.0.0:1"),
        (new("node4", "h:1", "h:x"), 400, "http_address: "),
        (new("node2", "h:1", "h:2"), 409, "node2 is a member already"),
        (new("node4", &taken, "h:2"), 409, "is the address of node2"),
    ] {
        let (got, detail) = refused("POST", members, body.clone()).await;
        assert!(got == status && detail.contains(says), "{body}: {got} {detail}");
    }
    for (method, path, status, says) in [
        ("DELETE", "/v1/cluster/members/node9", 404, "the members are node1, node2, node3"),
        ("POST", "/v1/cluster/members/node9/promote", 404, "no member"),
        ("POST", "/v1/cluster/members/node2/promote", 409, "node2 has a vote already"),
        ("POST", "/v1/cluster/members/node9/replace", 404, "no member"),
        ("DELETE", "/v1/cluster/members/node2?force=maybe", 400, "true or false"),
    ] {
        let (got, detail) = refused(method, path, Value::Null).await;
        assert!(got == status && detail.contains(says), "{path}: {got} {detail}");
    }
    // With one of three down, another one cannot go; the command says so, with exit code 1.
    let gone = (cluster.wait_leader().await + 1) % 3;
    let (gone, stays) = if gone == 0 { (0, 1) } else { (gone, 0) };
    cluster.nodes[gone].kill();
    let victim = (0..3).find(|node| *node != gone && *node != stays).unwrap();
    let victim = format!("node{}", victim + 1);
    let deadline = Instant::now() + PATIENCE;
    for alive in (0..3).filter(|node| *node != gone) {
        let url = cluster.url(alive, "/v1/cluster");
        while {
            let seen: Value = cluster.http.get(&url).send().await.unwrap().json().await.unwrap();
            named(&seen["members"], &format!("node{}", gone + 1))["reachable"] == true
        } {
            assert!(Instant::now() < deadline, "its loss is not noticed\n{}", cluster.logs());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    let output = member(&cluster, &["remove", &victim]);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains(&format!("not reachable: node{}", gone + 1)), "{text}");
    done(&cluster, &["remove", &format!("node{}", gone + 1)]);
    // Two are left: an even number, which is worth a warning.
    let lost = format!("node{}", gone + 1);
    let is_gone = |members: &Value| named(members, &lost).is_null();
    wait_members(&cluster, stays, "it is gone", is_gone).await;
    let (status, now) = ask(&cluster, stays, "GET", members, "").await;
    let warning = now["warnings"][0].as_str().unwrap_or_default();
    assert!(status == 200 && warning.contains("use an odd number"), "{now}");
}
