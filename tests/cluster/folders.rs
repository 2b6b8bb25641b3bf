//! `konsen member add` and `replace`: what can fail here fails before the cluster is changed, and what was done can
//! be done again.

use std::fs;
use std::path::Path;
use std::process::Output;

use serde_json::Value;

use crate::harness::{Cluster, konsen};

fn run(cluster: &Cluster, arguments: &[&str]) -> Output {
    konsen()
        .current_dir(cluster.dir.path())
        .args(arguments)
        .args(["--endpoints", &cluster.url(0, "")])
        .output()
        .unwrap()
}

fn add(cluster: &Cluster, extra: &[&str]) -> Output {
    let words = [
        "member",
        "add",
        "node8",
        "--raft-address",
        "127.0.0.1:9",
        "--http-address",
        "127.0.0.1:9",
    ];
    run(cluster, &[&words[..], extra].concat())
}

fn refused(output: Output, parts: &[&str]) {
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{error}");
    for part in parts {
        assert!(error.contains(part), "{part} is not in {error}");
    }
}

fn said(output: Output) -> String {
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{error}");
    error
}

async fn members(cluster: &Cluster) -> Vec<String> {
    let url = cluster.url(0, "/v1/cluster/members");
    let answer: Value = cluster.http.get(url).send().await.unwrap().json().await.unwrap();
    let name = |member: &Value| member["name"].as_str().unwrap().to_owned();
    answer["members"].as_array().unwrap().iter().map(name).collect()
}

fn key(home: &Path) -> String {
    fs::read_to_string(home.join("certs/node.key")).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_changed_by_a_command_that_fails_here() {
    let cluster = Cluster::start_configured(1, "cluster: field\n").await;
    let dir = cluster.dir.path();
    fs::write(dir.join("file"), "").unwrap();
    refused(add(&cluster, &["--out", "file"]), &["cannot create file/", "Not a directory"]);
    refused(add(&cluster, &["--config", "nowhere.yml"]), &["nowhere.yml: there is no such file"]);
    let text = fs::read_to_string(dir.join("cluster.yml")).unwrap();
    fs::write(dir.join("other.yml"), text.replace("cluster: field", "cluster: other")).unwrap();
    refused(
        add(&cluster, &["--config", "other.yml"]),
        &["other.yml is of the cluster other", "is field", "hint: "],
    );
    let made = konsen().current_dir(dir).args(["cert", "ca", "--dir", "strange"]).output().unwrap();
    assert!(made.status.success());
    refused(
        add(&cluster, &["--certs", "strange"]),
        &["strange/ca.crt is not the authority of the cluster field", "hint: "],
    );
    assert_eq!(members(&cluster).await, ["node1"]);
    assert!(!dir.join("output/node8").exists());
    let left: Vec<_> = fs::read_dir(dir.join("output")).unwrap().collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_is_made_again_with_another_key_and_of_the_cluster_that_was_asked() {
    let cluster = Cluster::start_configured(1, "cluster: field\n").await;
    let home = cluster.dir.path().join("output/node8");
    // A key that lies there is never used again, whoever may have it.
    fs::create_dir_all(home.join("certs")).unwrap();
    fs::write(home.join("certs/node.key"), "of a lost host").unwrap();
    fs::create_dir_all(home.join("data")).unwrap();
    // No configuration is named: the cluster says what it is called.
    let text = said(add(&cluster, &[]));
    assert!(text.contains("made output/node8") && text.contains("output/node8/data is"), "{text}");
    assert_eq!(members(&cluster).await, ["node1", "node8"]);
    let show = ["cert", "show", "output/node8/certs/node.crt"];
    let shown = konsen().current_dir(cluster.dir.path()).args(show).output().unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.contains("certificate of node node8 in cluster field"), "{shown}");
    let yml = fs::read_to_string(home.join("cluster.yml")).unwrap();
    assert!(yml.contains("cluster: field") && yml.contains("join: true"), "{yml}");
    let first = key(&home);
    assert!(first.contains("PRIVATE KEY"));

    // Again, as after a run that broke off.
    let text = said(add(&cluster, &[]));
    assert!(text.contains("node8 is a member already, and was never seen"), "{text}");
    let second = key(&home);
    let text = said(run(&cluster, &["member", "replace", "node8"]));
    assert!(text.contains("a new node8 is awaited already"), "{text}");
    let third = key(&home);
    assert!(first != second && second != third);
    assert_eq!(members(&cluster).await, ["node1", "node8"]);
    let left: Vec<_> = fs::read_dir(cluster.dir.path().join("output")).unwrap().collect();
    assert_eq!(left.len(), 2, "{left:?}");

    // With other addresses it is another request, which the cluster refuses.
    let words = [
        "member",
        "add",
        "node8",
        "--raft-address",
        "127.0.0.1:7",
        "--http-address",
        "127.0.0.1:7",
    ];
    refused(run(&cluster, &words), &["node8"]);
    assert_eq!(key(&home), third);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_after_the_change_says_what_was_done() {
    let cluster = Cluster::start(1).await;
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let output = konsen()
        .current_dir(cluster.dir.path())
        .args(["put", "a", "1", "--endpoints", &cluster.url(0, "")])
        .stdout(full)
        .output()
        .unwrap();
    refused(
        output,
        &["error: the key was created, revision 2, but: cannot write to standard output"],
    );
    assert_eq!(cluster.get(0, "a").await.unwrap().as_deref(), Some("1"));
}
