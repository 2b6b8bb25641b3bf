//! Backups of a running cluster, and clusters that begin anew.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::{Cluster, PATIENCE, konsen};

fn snapshot(cluster: &Cluster, arguments: &[&str]) -> Output {
    konsen().current_dir(cluster.dir.path()).arg("snapshot").args(arguments).output().unwrap()
}

fn done(cluster: &Cluster, arguments: &[&str]) -> Value {
    let output = snapshot(cluster, &[arguments, &["-o", "json"]].concat());
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {stderr}\n{}", cluster.logs());
    serde_json::from_slice(&output.stdout).unwrap()
}

fn refused(cluster: &Cluster, arguments: &[&str]) -> String {
    let output = snapshot(cluster, arguments);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {stderr}");
    stderr
}

fn save(cluster: &Cluster, file: &str) -> Value {
    let endpoints: Vec<String> = cluster.nodes.iter().map(|node| node.url("")).collect();
    done(cluster, &["save", file, "--endpoints", &endpoints.join(","), "--timeout", "20s"])
}

/// The arguments that name a node's configuration.
fn of(cluster: &Cluster, node: usize) -> Vec<String> {
    let config = cluster.nodes[node].home.join("cluster.yml");
    vec!["--config".to_owned(), config.display().to_string()]
}

fn with<'a>(first: &[&'a str], more: &'a [String]) -> Vec<&'a str> {
    first.iter().copied().chain(more.iter().map(String::as_str)).collect()
}

/// Waits until all three have a vote.
async fn wait_whole(cluster: &Cluster, asked: usize) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = cluster.http.get(cluster.url(asked, "/v1/cluster/members")).send().await;
        if let Ok(answer) = answer
            && let Ok(answer) = answer.json::<Value>().await
            && let Some(members) = answer["members"].as_array()
            && members.len() == 3
            && members.iter().all(|member| member["voter"] == true)
            // The change is complete: until then the old voters decide, too, and one of them may be killed next.
            && let Some(status) = cluster.status(asked).await
            && status["commit"] == status["last_index"]
        {
            return;
        }
        assert!(Instant::now() < deadline, "never three voters\n{}", cluster.logs());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn cluster_id(status: &Value) -> String {
    status["cluster_id"].as_str().unwrap().to_owned()
}

async fn id_of(cluster: &Cluster, node: usize) -> String {
    cluster_id(&cluster.status(node).await.unwrap())
}

/// Moves a node's data directory away.
fn set_aside(cluster: &Cluster, node: usize) {
    let data = cluster.nodes[node].home.join("data");
    fs::rename(&data, data.with_extension("old")).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_begins_anew_from_a_backup_that_was_saved_while_clients_wrote() {
    let mut cluster = Cluster::start(3).await;
    for number in 0..50 {
        cluster.put(0, &format!("k{number}"), "first").await.unwrap();
        cluster.put(1, &format!("k{number}"), &format!("second {number}")).await.unwrap();
    }
    let old_id = id_of(&cluster, 0).await;
    // A client that counts, and knows what was acknowledged before the backup was asked for.
    let acknowledged = Arc::new(AtomicU64::new(0));
    let counting = tokio::spawn({
        let (http, url) = (cluster.http.clone(), cluster.url(2, "/v1/kv/count"));
        let acknowledged = acknowledged.clone();
        async move {
            for number in 1_u64.. {
                let answer = http.put(&url).body(number.to_string()).send().await;
                if !answer.is_ok_and(|answer| answer.status().is_success()) {
                    return;
                }
                acknowledged.store(number, Ordering::SeqCst);
            }
        }
    });
    let deadline = Instant::now() + PATIENCE;
    while acknowledged.load(Ordering::SeqCst) < 50 {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let before = acknowledged.load(Ordering::SeqCst);
    let saved = save(&cluster, "b.backup");
    let after = acknowledged.load(Ordering::SeqCst);
    assert!(refused(&cluster, &["save", "b.backup"]).contains("exists"));
    counting.abort();
    cluster.put(0, "k0", "after the backup").await.unwrap();

    let inspected = done(&cluster, &["inspect", "b.backup"]);
    assert_eq!(inspected, saved);
    assert_eq!((&saved["keys"], cluster_id(&saved)), (&Value::from(51), old_id.clone()));
    let file = cluster.dir.path().join("b.backup");
    let sum = std::process::Command::new("sha256sum").arg(&file).output().unwrap();
    let sum = String::from_utf8_lossy(&sum.stdout).into_owned();
    assert_eq!(sum.split(' ').next(), saved["sha256"].as_str());

    for node in &mut cluster.nodes {
        node.kill();
    }
    // A directory that holds a node is no place for another.
    let place = of(&cluster, 0);
    let told = refused(&cluster, &with(&["restore", "b.backup"], &place));
    assert!(told.contains("not empty"), "{told}");
    set_aside(&cluster, 0);
    set_aside(&cluster, 1);
    let made = done(&cluster, &with(&["restore", "b.backup"], &place));
    assert_ne!(cluster_id(&made), old_id);
    assert_eq!(made["revision"], saved["revision"]);

    // It decides alone, while the member of the old cluster stays outside.
    cluster.nodes[0].start();
    cluster.wait_ready(0).await;
    cluster.nodes[2].start();
    let deadline = Instant::now() + PATIENCE;
    while !cluster.nodes[2].log().contains("founded as")
        && !cluster.nodes[0].log().contains("founded as")
    {
        assert!(Instant::now() < deadline, "nobody refused\n{}", cluster.logs());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(cluster.put(0, "new", "1").await.unwrap(), 201);
    cluster.nodes[2].kill();
    set_aside(&cluster, 2);
    cluster.nodes[1].start();
    cluster.nodes[2].start();
    wait_whole(&cluster, 0).await;
    cluster.wait_ready_all().await;

    // All of it is there on nodes that never saw the backup, the past included, and outlives the first.
    cluster.nodes[0].kill();
    cluster.wait_ready(1).await;
    let revision = saved["revision"].as_u64().unwrap();
    for number in 0..50 {
        let key = format!("k{number}");
        assert_eq!(cluster.get(1, &key).await, Ok(Some(format!("second {number}"))));
    }
    let count: u64 = cluster.get(2, "count").await.unwrap().unwrap().parse().unwrap();
    // One may have been acknowledged and not yet counted.
    assert!((before..=after + 1).contains(&count), "{before} {count} {after}");
    let past = cluster.url(2, "/v1/kv/k0?revision=2");
    assert_eq!(cluster.http.get(past).send().await.unwrap().text().await.unwrap(), "first");
    assert_eq!(cluster.get(2, "new").await, Ok(Some("1".to_owned())));
    let at = cluster.url(2, &format!("/v1/kv/new?revision={revision}"));
    assert_eq!(cluster.http.get(at).send().await.unwrap().status(), 404);
    for node in 1..3 {
        assert_eq!(id_of(&cluster, node).await, cluster_id(&made));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_backup_is_refused_and_leaves_nothing() {
    let mut cluster = Cluster::start(1).await;
    for number in 0..20 {
        cluster.put(0, &format!("k{number}"), &"v".repeat(200)).await.unwrap();
    }
    let saved = save(&cluster, "b.backup");
    cluster.nodes[0].kill();
    set_aside(&cluster, 0);
    let dir = cluster.dir.path().to_owned();
    let bytes = fs::read(dir.join("b.backup")).unwrap();
    assert_eq!(saved["bytes"], bytes.len());
    let place = of(&cluster, 0);
    let check = |what: String, bytes: &[u8]| {
        fs::write(dir.join("bad.backup"), bytes).unwrap();
        for words in [vec!["inspect", "bad.backup"], with(&["restore", "bad.backup"], &place)] {
            let told = refused(&cluster, &words);
            assert!(told.starts_with("error: bad.backup: it "), "{what}: {told}");
        }
    };
    // Every bit is in the tests of the format; here some all over the file.
    for at in (0..bytes.len()).step_by(bytes.len() / 24) {
        let mut turned = bytes.clone();
        turned[at] ^= 0x10;
        check(format!("turned at {at}"), &turned);
        check(format!("cut at {at}"), &bytes[..at]);
    }
    check("longer".to_owned(), &[&bytes[..], b"\0"].concat());
    assert!(!cluster.nodes[0].home.join("data").exists());
    // Nothing of a save that fails stays either.
    let output = snapshot(&cluster, &["save", "c.backup", "--endpoints", "127.0.0.1:1"]);
    assert_eq!(output.status.code(), Some(5));
    let names = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(!names.into_iter().any(|name| Path::new(&name).extension() == Some("part".as_ref())));
    assert!(!dir.join("c.backup").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_breaks_off_is_an_error() {
    let mut cluster = Cluster::start_configured(1, "limits:\n  value: 16MiB\n").await;
    // More than a pipe and the sockets hold.
    for number in 0..6 {
        let value = "v".repeat(8 << 20);
        assert_eq!(cluster.put(0, &format!("k{number}"), &value).await.unwrap(), 201);
    }
    let mut saving = konsen()
        .args(["snapshot", "save", "-", "--endpoints", &cluster.nodes[0].url("")])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = saving.stdout.take().unwrap();
    let mut begun = [0; 8];
    out.read_exact(&mut begun).unwrap();
    assert_eq!(&begun, b"KONSENBK");
    cluster.nodes[0].kill();
    let rest = std::io::copy(&mut out, &mut std::io::sink()).unwrap();
    assert!(rest < 48 << 20, "all of it came");
    let output = saving.wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(5), "{told}");
    assert!(told.starts_with("error: the backup broke off"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_survivor_of_three_begins_anew_with_what_it_has() {
    let mut cluster = Cluster::start(3).await;
    for number in 0..40 {
        cluster.put(0, &format!("k{number}"), &number.to_string()).await.unwrap();
    }
    // So that the survivor has it all.
    assert_eq!(cluster.get(2, "k39").await, Ok(Some("39".to_owned())));
    let old_id = id_of(&cluster, 2).await;
    for node in &mut cluster.nodes {
        node.kill();
    }
    let place = of(&cluster, 2);
    let words = with(&["restore", "--force-new-cluster"], &place);
    let output = snapshot(&cluster, &words);
    assert_eq!(output.status.code(), Some(2), "it was not confirmed");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(told.contains("--i-understand-that-writes-may-be-lost"), "{told}");
    assert!(told.contains("node3 has entries up to 4"), "{told}");
    let yes = [&words[..], &["--i-understand-that-writes-may-be-lost"]].concat();
    // Not under the feet of a node that runs.
    cluster.nodes[2].start();
    let deadline = Instant::now() + PATIENCE;
    while cluster.status(2).await.is_none() {
        assert!(Instant::now() < deadline, "{}", cluster.logs());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(refused(&cluster, &yes).contains("in use"));
    cluster.nodes[2].kill();

    let made = done(&cluster, &yes);
    assert_ne!(cluster_id(&made), old_id);
    assert_eq!(made["before"]["cluster_id"], old_id);
    assert_eq!(made["before"]["voters"].as_array().map(Vec::len), Some(3));
    cluster.nodes[2].start();
    cluster.wait_ready(2).await;
    for number in 0..40 {
        assert_eq!(cluster.get(2, &format!("k{number}")).await, Ok(Some(number.to_string())));
    }
    assert_eq!(cluster.put(2, "alone", "1").await.unwrap(), 201);
    set_aside(&cluster, 0);
    set_aside(&cluster, 1);
    cluster.nodes[0].start();
    cluster.nodes[1].start();
    wait_whole(&cluster, 2).await;
    cluster.wait_ready_all().await;
    cluster.nodes[2].kill();
    cluster.wait_ready(0).await;
    assert_eq!(cluster.get(0, "alone").await, Ok(Some("1".to_owned())));
    assert_eq!(cluster.get(1, "k7").await, Ok(Some("7".to_owned())));
}
