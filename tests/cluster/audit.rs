//! The audit: what real nodes record of real requests, across rotations, crashes, full disks and changes of the leader.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use futures_util::stream::{self, StreamExt};
use reqwest::Method;
use serde_json::{Value, json};

use crate::disks;
use crate::harness::{Cluster, Node, PATIENCE, konsen};

const ON: &str = "audit: {on: true, anchor: 1s}\n";
/// What must be in no file, wherever it stood in a request.
const SECRET: &str = "s3cr3t-of-the-vault";

fn dir_of(node: &Node) -> PathBuf {
    node.home.join("data/audit")
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn text(dir: &Path) -> String {
    files(dir).iter().map(|file| fs::read_to_string(file).unwrap()).collect()
}

fn records(dir: &Path) -> Vec<Value> {
    // Of the last line there may be a part only.
    text(dir).lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// Waits until a node has recorded something that is as wanted, and returns it.
async fn recorded(node: &Node, wanted: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = records(&dir_of(node)).into_iter().rfind(&wanted) {
            return found;
        }
        assert!(Instant::now() < deadline, "{}\n{}", node.log(), text(&dir_of(node)));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

struct Verified {
    code: i32,
    json: Value,
    err: String,
}

fn verify(dir: &Path, arguments: &[&str]) -> Verified {
    let dir = dir.to_str().unwrap();
    let command = ["audit", "verify", dir, "-o", "json"];
    let output = konsen().args(command).args(arguments).output().unwrap();
    Verified {
        code: output.status.code().unwrap(),
        json: serde_json::from_slice(&output.stdout).unwrap_or_default(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

#[track_caller]
fn sound(dir: &Path, arguments: &[&str]) -> Value {
    let verified = verify(dir, arguments);
    assert_eq!(verified.code, 0, "{}\n{}", verified.err, verified.json);
    assert_eq!(verified.json["sound"], true);
    verified.json
}

#[track_caller]
fn unsound(dir: &Path, arguments: &[&str], part: &str) {
    let verified = verify(dir, arguments);
    assert_eq!(verified.code, 1, "{}", verified.json);
    let err = &verified.err;
    assert!(err.contains("error: ") && err.contains("hint: ") && err.contains(part), "{err}");
}

/// A request that is to be recorded.
struct Asked<'a> {
    method: &'a str,
    path: &'a str,
    body: &'a str,
    status: u16,
    kind: &'a str,
    of: Value,
}

async fn send(cluster: &Cluster, node: usize, asked: &Asked<'_>) -> String {
    let method: Method = asked.method.parse().unwrap();
    let url = cluster.url(node, asked.path);
    let request = cluster.http.request(method, url).header("x-api-key", SECRET);
    let form = asked.path == "/konsen";
    let kind = if form { "application/x-www-form-urlencoded" } else { "text/plain" };
    let request = request.header("content-type", kind).body(asked.body.to_owned());
    let answer = request.send().await.unwrap();
    let status = answer.status().as_u16();
    let body = answer.text().await.unwrap();
    assert_eq!(status, asked.status, "{} {}: {body}", asked.method, asked.path);
    body
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_of_request_is_recorded_with_what_it_named_and_what_came_of_it() {
    let cluster = Cluster::start_configured(1, ON).await;
    let value = json!({"value": SECRET}).to_string();
    let txn = format!(
        r#"{{"if":[{{"key":"a","compare":"value","to":"{SECRET}"}}],"then":[{{"put":{{"key":"b","value":"{SECRET}"}}}},{{"txn":{{"then":[{{"delete":{{"prefix":"c/"}}}}]}}}}],"else":[{{"get":{{"key":"d"}}}}]}}"#
    );
    let form = format!("f1={SECRET}&f2={SECRET}");
    let json_put = json!({"key": "j", "value": SECRET}).to_string();
    let key = |key: &str| json!([{ "key": key }]);
    let range = |start: &str, end: &str| json!([{ "start": start, "end": end }]);
    let add = r#"{"name":"node9","raft_address":"127.0.0.1:1","http_address":"127.0.0.1:2"}"#;
    let asked =
        |method, path, body, status, kind, of| Asked { method, path, body, status, kind, of };
    for one in [
        asked("PUT", "/v1/kv/a%2Fb", value.as_str(), 201, "put", key("a/b")),
        asked("PUT", "/v1/kv/%FF", SECRET, 201, "put", json!([{"key_base64": "/w=="}])),
        asked("GET", "/v1/kv/a%2Fb", "", 200, "get", key("a/b")),
        asked("GET", "/v1/kv/none", "", 404, "get", key("none")),
        asked("GET", "/v1/kv/none?wait=1ms", "", 404, "watch", key("none")),
        asked("GET", "/v1/kv?prefix=a&limit=3", "", 200, "range", range("a", "b")),
        asked("DELETE", "/v1/kv/a%2Fb", "", 204, "delete", key("a/b")),
        asked("DELETE", "/v1/kv?start=x&end=z", "", 200, "delete-range", range("x", "z")),
        asked(
            "POST",
            "/v1/txn",
            &txn,
            200,
            "txn",
            json!([{"key":"a"},{"key":"b"},{"start":"c/","end":"c0"},{"key":"d"}]),
        ),
        asked("POST", "/v1/txn", "{", 400, "txn", Value::Null),
        asked("POST", "/konsen", &form, 200, "put", json!([{"key":"f1"},{"key":"f2"}])),
        asked("GET", "/konsen?key=f1", "", 200, "get", key("f1")),
        asked("POST", "/api/kv", &json_put, 200, "put", key("j")),
        asked("GET", "/api/keys?prefix=f", "", 200, "range", range("f", "g")),
        asked("POST", "/v1/compact", r#"{"revision":2}"#, 200, "compact", json!([{"name":"2"}])),
        asked("GET", "/v1/status", "", 200, "status", Value::Null),
        asked("GET", "/v1/cluster", "", 200, "status", Value::Null),
        asked("GET", "/v1/snapshot", "", 200, "backup", Value::Null),
        asked(
            "POST",
            "/v1/cluster/leader",
            r#"{"to":"node8"}"#,
            404,
            "leader",
            json!([{"name":"node8"}]),
        ),
        asked(
            "DELETE",
            "/v1/cluster/members/node8",
            "",
            404,
            "member-remove",
            json!([{"name":"node8"}]),
        ),
        asked(
            "POST",
            "/v1/cluster/members/node8/promote",
            "",
            404,
            "member-promote",
            json!([{"name":"node8"}]),
        ),
        asked("POST", "/v1/cluster/members", add, 201, "member-add", json!([{"name":"node9"}])),
        asked("GET", "/v1/audit/anchors", "", 200, "audit-read", Value::Null),
        asked("GET", &format!("/elsewhere?token={SECRET}"), "", 404, "unknown", Value::Null),
    ] {
        let before = records(&dir_of(&cluster.nodes[0])).len();
        send(&cluster, 0, &one).await;
        let path = one.path;
        let found = recorded(&cluster.nodes[0], |record| {
            record["seq"].as_u64().unwrap() > before as u64 && record["kind"] == one.kind
        })
        .await;
        assert_eq!(found["of"], one.of, "{path}: {found}");
        assert_eq!((&found["status"], &found["method"]), (&json!(one.status), &json!(one.method)));
        assert_eq!((&found["from"], &found["who"]), (&json!("127.0.0.1"), &Value::Null), "{path}");
        assert_eq!(found["problem"].is_string(), one.status >= 400, "{path}: {found}");
        assert_eq!(found["node"], "node1");
    }
    let records = records(&dir_of(&cluster.nodes[0]));
    let put = records.iter().find(|record| record["kind"] == "put").unwrap();
    assert_eq!((&put["revision"], &put["passed_on"]), (&json!(2), &Value::Null), "{put}");
    // Nobody records who asks whether the node is well.
    assert!(records.iter().all(|record| record["kind"] != "health"));
    let text = text(&dir_of(&cluster.nodes[0]));
    assert!(!text.contains(SECRET), "a value or a credential stands in the audit");
    sound(&dir_of(&cluster.nodes[0]), &[]);
    let show = |arguments: &[&str]| {
        let command = konsen()
            .args(["audit", "show"])
            .arg(dir_of(&cluster.nodes[0]))
            .args(arguments)
            .output();
        let output = command.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let of_key = show(&["--key", "a/b", "-o", "json"]);
    let kinds: Vec<Value> = of_key
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["kind"].clone())
        .collect();
    // The listings and the backup had it in their ranges, or did not name any.
    assert_eq!(kinds, ["put", "get", "range", "delete"], "{of_key}");
    assert!(show(&["--kind", "member-add"]).contains("node9"));
    assert_eq!(show(&["--who", "nobody"]), "");
    assert_eq!(show(&["--until", "2020-01-01T00:00:00Z"]), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asked_and_how_that_is_known_is_recorded_and_never_what_proved_it() {
    let cluster = Cluster::start_configured(1, ON).await;
    let node = &cluster.nodes[0];
    let put = |path: &str, body: Value| {
        cluster.http.put(cluster.url(0, path)).body(body.to_string()).send()
    };
    let roles = json!({"rights": [{"prefix": "app/", "may": ["read"]}]});
    assert!(put("/v1/auth/roles/reader", roles).await.unwrap().status().is_success());
    for (name, role) in [("root", "admin"), ("alice", "reader")] {
        let made = put(&format!("/v1/auth/users/{name}"), json!({"roles": [role]})).await.unwrap();
        assert!(made.status().is_success(), "{}", made.text().await.unwrap());
    }
    let made = put("/v1/auth/tokens/t1", json!({"user": "root"})).await.unwrap();
    let made: Value = made.json().await.unwrap();
    let root = made["token"].as_str().unwrap().to_owned();
    let made = cluster.http.put(cluster.url(0, "/v1/auth/tokens/t2")).bearer_auth(&root);
    let made = made.body(json!({"user": "alice"}).to_string()).send().await.unwrap();
    let made: Value = made.json().await.unwrap();
    let alice = made["token"].as_str().unwrap().to_owned();

    let get = |key: &str| cluster.http.get(cluster.url(0, &format!("/v1/kv/{key}")));
    let wrong = format!("konsen_{SECRET}");
    for (key, request, status, who, by, why) in [
        ("k1", get("k1").bearer_auth(&root), 404, json!("root"), json!("token"), Value::Null),
        (
            "app/2",
            get("app%2F2").basic_auth("alice", Some(&alice)),
            404,
            json!("alice"),
            json!("basic"),
            Value::Null,
        ),
        ("k3", get("k3").bearer_auth(&alice), 403, json!("alice"), json!("token"), Value::Null),
        ("k4", get("k4").bearer_auth(&wrong), 401, Value::Null, Value::Null, json!("token")),
        (
            "k5",
            get("k5").basic_auth(SECRET, Some(&alice)),
            401,
            Value::Null,
            Value::Null,
            json!("basic"),
        ),
        ("k6", get("k6"), 401, Value::Null, Value::Null, json!("nothing-shown")),
    ] {
        assert_eq!(request.send().await.unwrap().status(), status, "{key}");
        let found = recorded(node, |record| record["of"][0]["key"] == key).await;
        let told = (&found["status"], &found["who"], &found["by"], &found["why"]);
        assert_eq!(told, (&json!(status), &who, &by, &why), "{found}");
    }
    let change = recorded(node, |record| record["of"][0]["name"] == "tokens/t2").await;
    assert_eq!((&change["kind"], &change["who"]), (&json!("auth-change"), &json!("root")));
    for (token, status) in [(&alice, 403), (&root, 200)] {
        let url = cluster.url(0, "/v1/audit/anchors");
        let answer = cluster.http.get(url).bearer_auth(token).send().await.unwrap();
        assert_eq!(answer.status(), status);
    }
    let text = text(&dir_of(node));
    for secret in [root.as_str(), &alice, &wrong, SECRET] {
        let bare = secret.trim_start_matches("konsen_");
        assert!(!text.contains(bare), "a credential stands in the audit");
        assert!(!node.log().contains(bare), "a credential stands in the log");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_chain_goes_through_rotations_and_kills() {
    let small = "audit: {on: true, file: 64KiB, keep: 4, anchor: 1s}\n";
    let mut cluster = Cluster::start_configured(1, small).await;
    let (dir, mut number) = (dir_of(&cluster.nodes[0]), 0);
    for round in 0..3 {
        let puts = (0..400).map(|each| {
            let key = format!("key{}", number + each);
            let cluster = &cluster;
            async move { cluster.put(0, &key, "value").await.unwrap() }
        });
        let answers: Vec<u16> = stream::iter(puts).buffer_unordered(32).collect().await;
        assert!(answers.iter().all(|status| *status == 201));
        number += 400;
        // What was there when it was killed stays.
        let last = recorded(&cluster.nodes[0], |record| {
            record["of"][0]["key"] == format!("key{}", number - 1)
        })
        .await;
        cluster.nodes[0].kill();
        sound(&dir, &[]);
        cluster.nodes[0].start();
        cluster.wait_ready(0).await;
        let start = recorded(&cluster.nodes[0], |record| record["kind"] == "start").await;
        assert!(start["found"].as_u64() >= last["seq"].as_u64(), "{round}: {start} {last}");
    }
    // A crash within a write: a part of a line.
    cluster.nodes[0].kill();
    let newest = files(&dir).pop().unwrap();
    let torn = [fs::read(&newest).unwrap(), b"{\"seq\":9".to_vec()].concat();
    fs::write(&newest, torn).unwrap();
    unsound(&dir, &[], "cut short");
    cluster.nodes[0].start();
    cluster.wait_ready(0).await;
    let start = recorded(&cluster.nodes[0], |record| record["kind"] == "start").await;
    assert_eq!(start["cut_bytes"], 8, "{start}");
    let verified = sound(&dir, &[]);
    assert_eq!(files(&dir).len(), 4, "older ones go");
    assert!(verified["first"].as_u64() > Some(1), "{verified}");
    // A node that is stopped in order says so.
    assert!(cluster.nodes[0].terminate().success());
    assert_eq!(records(&dir).pop().unwrap()["kind"], "stop");
    sound(&dir, &[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_one_of_many_requests_at_once_is_recorded_once() {
    const PUTS: usize = 3000;
    let mut cluster = Cluster::start_configured(3, ON).await;
    let puts = (0..PUTS).map(|number| {
        let cluster = &cluster;
        async move { cluster.put(number % 3, &format!("key{number}"), "v").await.unwrap() }
    });
    let answers: Vec<u16> = stream::iter(puts).buffer_unordered(64).collect().await;
    let mut seen = BTreeSet::new();
    let (mut passed_on, mut via) = (0, 0);
    for node in &mut cluster.nodes {
        assert!(node.terminate().success());
        let dir = dir_of(node);
        sound(&dir, &[]);
        let puts = records(&dir).into_iter().filter(|record| record["kind"] == "put");
        for record in puts {
            // At the leader once more, with the node that asked.
            if record["via"].is_string() {
                assert_eq!(record["outcome"], "carried-out", "{record}");
                via += 1;
                continue;
            }
            let key = record["of"][0]["key"].as_str().unwrap().to_owned();
            let number: usize = key["key".len()..].parse().unwrap();
            assert_eq!(record["node"], format!("node{}", number % 3 + 1));
            passed_on += usize::from(record["passed_on"] == true);
            assert!(seen.insert(key), "{record} comes twice");
        }
    }
    // Refused ones, too.
    assert_eq!(seen.len(), answers.len());
    assert!(passed_on >= PUTS / 2, "{passed_on}: two of three nodes do not lead");
    assert!(via >= PUTS / 2, "{via}: what one passed on the other has taken in");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_disk_cannot_take_is_refused_by_name_and_control_goes_on() {
    let extra = "limits: {freeSpace: 16MiB}\naudit: {on: true, file: 64KiB, keep: 100000}\n";
    let mut cluster = Cluster::build(1, extra);
    let Some(disk) = disks::Tmpfs::mount(&cluster.nodes[0].home, "small", "128m") else {
        eprintln!("skipped: mounting a tmpfs needs root");
        return;
    };
    cluster.nodes[0].env.push(("KONSEN_DATA".into(), "small/data".into()));
    cluster.nodes[0].start();
    cluster.wait_ready_all().await;
    let dir = cluster.nodes[0].home.join("small/data/audit");
    assert_eq!(cluster.put(0, "before", "1").await.unwrap(), 201);
    disk.fill();
    // The room that was kept for the file is there still; then there is none.
    let deadline = Instant::now() + PATIENCE;
    let refused = loop {
        let url = cluster.url(0, "/v1/kv/before");
        let answer = cluster.http.get(url).send().await.unwrap();
        match answer.status().as_u16() {
            200 => assert!(Instant::now() < deadline, "reads are never refused"),
            503 => break answer.json::<Value>().await.unwrap(),
            other => panic!("{other}"),
        }
    };
    assert_eq!(refused["type"], "urn:konsen:problem:not-recorded", "{refused}");
    assert_eq!(refused["outcome"], "not_applied");
    for path in ["/healthz", "/readyz", "/v1/status", "/metrics"] {
        let answer = cluster.http.get(cluster.url(0, path)).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{path}");
    }
    let status = cluster.status(0).await.unwrap();
    let warnings = status["warnings"].to_string();
    assert!(warnings.contains("audit cannot be written"), "{warnings}");
    let metric = async |name: &str| {
        let page = cluster.http.get(cluster.url(0, "/metrics")).send().await.unwrap();
        let page = page.text().await.unwrap();
        let line =
            page.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{page}"));
        line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap()
    };
    assert_eq!(metric("konsen_audit_failing ").await, 1.0);
    assert!(metric("konsen_http_refusals_total{reason=\"not_recorded\"}").await >= 1.0);
    disk.clear();
    let deadline = Instant::now() + PATIENCE;
    while cluster.put(0, "after", "1").await.unwrap() != 201 {
        assert!(Instant::now() < deadline, "{}", cluster.logs());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(metric("konsen_audit_failing ").await, 0.0);
    assert!(cluster.nodes[0].ended().is_none());
    assert!(cluster.nodes[0].terminate().success());
    sound(&dir, &[]);
    let text = text(&dir);
    // What was answered without a record is counted in one.
    assert!(text.contains("\"kind\":\"unrecorded\""), "status was asked for meanwhile");
    drop(cluster);
    drop(disk);
}

/// A disk of its own, which the leader's audit waits for; everything else of the node is elsewhere.
#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_stalls_holds_up_nothing_but_what_it_is_to_record() {
    let mut cluster = Cluster::build(3, "audit: {on: true, queue: 256KiB}\n");
    let home = cluster.nodes[0].home.clone();
    // Thawed before the node is killed.
    let Some(disk) = disks::Freezable::mount(&home) else {
        eprintln!("skipped: freezing an ext4 needs root, mkfs.ext4 and loop devices");
        return;
    };
    fs::create_dir(home.join("disk/audit")).unwrap();
    fs::create_dir(home.join("data")).unwrap();
    std::os::unix::fs::symlink(home.join("disk/audit"), home.join("data/audit")).unwrap();
    cluster.nodes.iter_mut().for_each(|node| node.start());
    cluster.wait_ready_all().await;
    let lead = cluster.http.post(cluster.url(1, "/v1/cluster/leader")).body(r#"{"to":"node1"}"#);
    assert_eq!(lead.send().await.unwrap().status(), 200);
    let term = cluster.status(0).await.unwrap()["term"].clone();
    if !disk.freeze() {
        eprintln!("skipped: the disk cannot be frozen");
        return;
    }
    let (mut taken, url) = (0, cluster.url(0, "/v1/kv/key"));
    let refused = loop {
        let answer = cluster.http.put(&url).body("v").send().await.unwrap();
        match answer.status().as_u16() {
            201 | 204 => taken += 1,
            503 => break answer.json::<Value>().await.unwrap(),
            other => panic!("{other}"),
        }
        assert!(taken < 5_000, "the queue has a bound");
    };
    assert_eq!(refused["type"], "urn:konsen:problem:not-recorded", "{refused}");
    assert!(taken > 0, "what has room is carried out");
    for path in ["/healthz", "/readyz", "/v1/status", "/v1/cluster"] {
        let answer = cluster.http.get(cluster.url(0, path)).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{path}");
    }
    // Administration has room of its own, and waits for no longer than some seconds.
    let compact = cluster.http.post(cluster.url(0, "/v1/compact")).body(r#"{"revision":2}"#);
    assert_eq!(compact.send().await.unwrap().status(), 200);
    // The others ask this leader for all that they write.
    for node in [1, 2] {
        for number in 0..50 {
            let status = cluster.put(node, &format!("key{node}-{number}"), "v").await.unwrap();
            assert_eq!(status, 201, "{}", cluster.logs());
        }
    }
    let now = cluster.status(0).await.unwrap();
    assert_eq!((&now["role"], &now["term"]), (&json!("leader"), &term), "nobody else leads");
    disk.thaw();
    let deadline = Instant::now() + PATIENCE;
    while cluster.put(0, "after", "v").await.unwrap() == 503 {
        assert!(Instant::now() < deadline, "{}", cluster.logs());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(cluster.nodes[0].terminate().success());
    let dir = dir_of(&cluster.nodes[0]);
    sound(&dir, &[]);
    let puts = records(&dir).iter().filter(|it| it["of"][0]["key"] == "key").count();
    assert_eq!(puts, taken, "all that was carried out is recorded, and what was refused is not");
}

/// The anchors as a node tells them.
async fn anchors(cluster: &Cluster, node: usize) -> Vec<Value> {
    let answer = cluster.http.get(cluster.url(node, "/v1/audit/anchors")).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let answer: Value = answer.json().await.unwrap();
    answer["anchors"].as_array().unwrap().clone()
}

/// Waits until each of these nodes has an anchor of a record from `least` on; all anchors then.
async fn anchored(cluster: &Cluster, asked: usize, nodes: &[(usize, u64)]) -> Vec<Value> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let all = anchors(cluster, asked).await;
        let has = |&(node, least): &(usize, u64)| {
            let name = &cluster.nodes[node].name;
            all.iter().any(|it| it["node"] == *name && it["sequence"].as_u64() >= Some(least))
        };
        if nodes.iter().all(has) {
            return all;
        }
        assert!(Instant::now() < deadline, "{all:?}\n{}", cluster.logs());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn last(node: &Node) -> u64 {
    records(&dir_of(node)).pop().unwrap()["seq"].as_u64().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn anchors_agree_after_a_failover_and_find_what_is_missing_or_written_anew() {
    let mut cluster = Cluster::start_configured(3, ON).await;
    for node in 0..3 {
        assert_eq!(cluster.put(node, &format!("key{node}"), "v").await.unwrap(), 201);
    }
    let all: Vec<(usize, u64)> = (0..3).map(|node| (node, 3)).collect();
    anchored(&cluster, 0, &all).await;
    let leader = cluster.wait_leader().await;
    let (one, other) = ((leader + 1) % 3, (leader + 2) % 3);
    cluster.nodes[leader].kill();
    for node in [one, other] {
        // Until there is a leader again.
        let deadline = Instant::now() + PATIENCE;
        while !matches!(cluster.put(node, "later", "v").await.unwrap(), 201 | 204) {
            assert!(Instant::now() < deadline, "{}", cluster.logs());
        }
    }
    let least = [(one, last(&cluster.nodes[one])), (other, last(&cluster.nodes[other]))];
    anchored(&cluster, one, &least).await;
    cluster.nodes[leader].start();
    cluster.wait_ready(leader).await;
    // What is told anew is recorded and anchored anew, so the nodes are asked until they say the same.
    let deadline = Instant::now() + PATIENCE;
    let known = loop {
        let (here, there) = (anchors(&cluster, one).await, anchors(&cluster, leader).await);
        let common = here.iter().filter(|it| there.contains(it)).count();
        if common == here.len() {
            break here;
        }
        assert!(Instant::now() < deadline, "{here:?} {there:?}");
    };
    let file = cluster.dir.path().join("anchors.json");
    fs::write(&file, json!({ "anchors": known }).to_string()).unwrap();
    let with = ["--anchors", file.to_str().unwrap()];
    for node in &cluster.nodes {
        let verified = sound(&dir_of(node), &with);
        assert!(verified["anchored"].as_u64() >= Some(3), "{verified}");
    }
    for node in &mut cluster.nodes {
        assert!(node.terminate().success());
    }
    // The end is cut off at a line, which only an anchor tells.
    let dir = dir_of(&cluster.nodes[one]);
    let newest = files(&dir).pop().unwrap();
    let whole = fs::read_to_string(&newest).unwrap();
    let cut: String = whole.lines().take(2).map(|line| format!("{line}\n")).collect();
    fs::write(&newest, cut).unwrap();
    sound(&dir, &[]);
    unsound(&dir, &with, "missing at the end");
    let data = cluster.nodes[other].home.join("data");
    unsound(&dir, &["--data", data.to_str().unwrap()], "missing at the end");
    fs::write(&newest, &whole).unwrap();
    sound(&dir, &["--data", data.to_str().unwrap()]);
    // A file of another node in its place is not one of this chain.
    let anothers =
        fs::read_to_string(files(&dir_of(&cluster.nodes[other])).pop().unwrap()).unwrap();
    fs::write(&newest, anothers.replace("node3", "node2")).unwrap();
    unsound(&dir, &with, "00000001.log, line 1");
    // The node itself notices that records are gone which the cluster knows.
    fs::write(&newest, whole.lines().take(2).map(|line| format!("{line}\n")).collect::<String>())
        .unwrap();
    cluster.nodes[one].start();
    cluster.nodes[other].start();
    cluster.wait_ready(one).await;
    let start = recorded(&cluster.nodes[one], |record| record["kind"] == "start").await;
    assert_eq!(start["missing_from"], 3, "{start}");
    let warnings = cluster.status(one).await.unwrap()["warnings"].to_string();
    assert!(warnings.contains("the audit ends before record 3"), "{warnings}");
    unsound(&dir, &[], "missing");
}

#[tokio::test(flavor = "multi_thread")]
async fn anchors_of_a_member_that_was_put_out_are_forgotten() {
    let cluster = Cluster::start_configured(3, ON).await;
    let all: Vec<(usize, u64)> = (0..3).map(|node| (node, 2)).collect();
    anchored(&cluster, 0, &all).await;
    let leader = cluster.wait_leader().await;
    let gone = (leader + 1) % 3;
    let name = cluster.nodes[gone].name.clone();
    let url = cluster.url(leader, &format!("/v1/cluster/members/{name}"));
    let removed = cluster.http.delete(url).send().await.unwrap();
    assert_eq!(removed.status(), 200, "{}", removed.text().await.unwrap());
    let deadline = Instant::now() + PATIENCE;
    loop {
        let ids: BTreeSet<String> =
            anchors(&cluster, leader).await.iter().map(|it| it["id"].to_string()).collect();
        if ids.len() == 2 {
            break;
        }
        assert!(Instant::now() < deadline, "{ids:?}\n{}", cluster.logs());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_reads_are_left_out_those_that_are_not_allowed_are_recorded_all_the_same() {
    let extra = "audit: {on: true, reads: false}\nhttp: {tls: false, hosts: []}\n";
    let cluster = Cluster::start_configured(1, extra).await;
    let put = |path: &str, body: Value| {
        cluster.http.put(cluster.url(0, path)).body(body.to_string()).send()
    };
    assert_eq!(cluster.put(0, "a", "v").await.unwrap(), 201);
    assert!(cluster.get(0, "a").await.unwrap().is_some());
    assert!(
        put("/v1/auth/users/root", json!({"roles": ["admin"]}))
            .await
            .unwrap()
            .status()
            .is_success()
    );
    assert!(
        put("/v1/auth/tokens/t1", json!({"user": "root"})).await.unwrap().status().is_success()
    );
    let url = cluster.url(0, "/v1/kv/forbidden");
    assert_eq!(cluster.http.get(url).send().await.unwrap().status(), 401);
    recorded(&cluster.nodes[0], |record| record["of"][0]["key"] == "forbidden").await;
    let records = records(&dir_of(&cluster.nodes[0]));
    assert_eq!(records.iter().filter(|record| record["kind"] == "get").count(), 1, "{records:?}");
    assert!(records.iter().any(|record| record["kind"] == "put"));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_recorded_unless_that_is_asked_for() {
    let cluster = Cluster::start(1).await;
    assert_eq!(cluster.put(0, "a", "v").await.unwrap(), 201);
    assert!(!dir_of(&cluster.nodes[0]).exists());
    let output = konsen().args(["audit", "verify"]).arg(&cluster.nodes[0].home).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let err = String::from_utf8(output.stderr).unwrap();
    assert!(err.starts_with("error: there are no files of an audit in "), "{err}");
    assert!(err.contains("\nhint: "), "{err}");
}
