//! Certificates that are revoked: of clients and of nodes, at every node, at once.

use std::fs;
use std::process::Output;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::{Cluster, PATIENCE, client, konsen};

/// How long a certificate may still be of use after its revocation is acknowledged.
const GRACE: Duration = Duration::from_secs(1);

fn run(cluster: &Cluster, words: &[&str]) -> Output {
    let mut command = konsen();
    command.current_dir(cluster.dir.path()).env("KONSEN_PROFILES", "profiles");
    command.args(words).output().unwrap()
}

fn done(cluster: &Cluster, words: &[&str]) -> String {
    let output = run(cluster, words);
    assert!(output.status.success(), "{words:?}: {output:?}\n{}", cluster.logs());
    String::from_utf8(output.stdout).unwrap()
}

async fn started() -> Cluster {
    let mut cluster = Cluster::build(3, "http: {clientAuth: optional}\n");
    let build = ["cluster", "build", "--config", "cluster.yml", "--out", "output"];
    done(&cluster, &[&build[..], &["--force", "--authority", "inside"]].concat());
    cluster.nodes.iter_mut().for_each(|node| node.start());
    for at in 0..3 {
        let endpoint = https(&cluster, at, "");
        // A node that passes a request on can say whose it is once all members know of each other.
        until(&cluster, "a node does not serve", || {
            run(&cluster, &["put", "app/a", "1", "--endpoints", &endpoint, "--profile", "konsen"])
                .status
                .success()
        })
        .await;
    }
    cluster
}

async fn until(cluster: &Cluster, what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}\n{}", cluster.logs());
        // Nothing tells of it.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn https(cluster: &Cluster, node: usize, path: &str) -> String {
    cluster.url(node, path).replace("http://", "https://")
}

fn user(cluster: &Cluster, files: &str) -> reqwest::ClientBuilder {
    // The builder wants a provider; a second install is refused, harmlessly.
    drop(client());
    let read = |end: &str| fs::read(cluster.dir.path().join(format!("{files}.{end}"))).unwrap();
    let identity = reqwest::Identity::from_pem(&[read("key"), read("crt")].concat()).unwrap();
    let ca = fs::read(cluster.dir.path().join("certs/ca.crt")).unwrap();
    reqwest::Client::builder()
        .no_proxy()
        .timeout(Duration::from_secs(20))
        .identity(identity)
        .tls_certs_only([reqwest::Certificate::from_pem(&ca).unwrap()])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_whose_certificate_is_revoked_gets_nothing_a_second_later_at_any_node() {
    let cluster = started().await;
    for words in [
        &["auth", "role", "set", "app", "--allow", "read,write,watch=app/"][..],
        &["auth", "user", "set", "alice", "--role", "app"],
        &["cert", "client", "--name", "alice"],
    ] {
        done(&cluster, words);
    }
    fs::copy(
        cluster.dir.path().join("certs/alice.crt"),
        cluster.dir.path().join("certs/first.crt"),
    )
    .unwrap();
    fs::copy(
        cluster.dir.path().join("certs/alice.key"),
        cluster.dir.path().join("certs/first.key"),
    )
    .unwrap();
    done(&cluster, &["cert", "client", "--name", "alice", "--force"]);

    // At each node: requests over HTTP/2 and HTTP/1.1 without a pause, and one that waits.
    let mut last_answers = Vec::new();
    let mut waits = Vec::new();
    for node in 0..3 {
        let url = https(&cluster, node, "/v1/kv/app/a");
        for only_http1 in [false, true] {
            let builder = user(&cluster, "certs/first");
            let client = if only_http1 { builder.http1_only() } else { builder }.build().unwrap();
            let first = client.get(&url).send().await.unwrap();
            assert!(first.status().is_success(), "{first:?}");
            let waiting =
                (client.clone(), format!("{url}?wait=15s"), first.headers()["etag"].clone());
            if !only_http1 {
                waits.push(tokio::spawn(async move {
                    let (client, url, tag) = waiting;
                    let ended = client.get(&url).header("if-none-match", tag).send().await;
                    (Instant::now(), ended.map(|answer| answer.status().as_u16()))
                }));
            }
            let url = url.clone();
            last_answers.push(tokio::spawn(async move {
                let mut last = Instant::now();
                while let Ok(answer) = client.get(&url).send().await {
                    if !answer.status().is_success() || answer.bytes().await.is_err() {
                        break;
                    }
                    last = Instant::now();
                }
                last
            }));
        }
    }
    done(&cluster, &["cert", "revoke", "certs/first.crt"]);
    let revoked = Instant::now();
    for last in last_answers {
        let last = last.await.unwrap();
        assert!(last < revoked + GRACE, "an answer came {:?} later", last - revoked);
    }
    for wait in waits {
        let (ended, answer) = wait.await.unwrap();
        assert!(ended < revoked + GRACE, "a wait went on for {:?}", ended - revoked);
        assert!(!matches!(answer, Ok(200 | 304)), "{answer:?}");
    }
    for node in 0..3 {
        let url = https(&cluster, node, "/v1/kv/app/a?consistency=stale");
        let first = user(&cluster, "certs/first").build().unwrap();
        assert!(first.get(&url).send().await.is_err(), "a handshake with it succeeds");
        // Her other certificate is another matter, and so is everybody else's.
        let second = user(&cluster, "certs/alice").build().unwrap();
        assert!(second.get(&url).send().await.unwrap().status().is_success());
    }
    let told = done(&cluster, &["cert", "revoked"]);
    let serial = told.lines().nth(1).unwrap().split_whitespace().next().unwrap();
    assert!(done(&cluster, &["cert", "show", "certs/first.crt"]).contains(serial), "{told}");

    done(&cluster, &["cert", "revoke", "--undo", serial]);
    let url = https(&cluster, 0, "/v1/kv/app/a");
    let first = user(&cluster, "certs/first").build().unwrap();
    assert!(first.get(&url).send().await.unwrap().status().is_success());
    for (words, code, part) in [
        (&["cert", "revoke", "--undo", serial][..], 1, "is not revoked"),
        (&["cert", "revoke", "no-such-file"], 2, "neither a file nor a serial number"),
    ] {
        let output = run(&cluster, words);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(error.starts_with("error: ") && error.contains(part), "{error}");
        assert_eq!(output.status.code(), Some(code), "{error}");
    }
}

/// Whether the others have that member connected, as the first node says.
fn is_reached(cluster: &Cluster, name: &str) -> bool {
    let endpoint = https(cluster, 0, "");
    let words = ["member", "list", "-o", "json", "--endpoints", &endpoint, "--profile", "konsen"];
    let told = run(cluster, &words);
    let told: Value = serde_json::from_slice(&told.stdout).unwrap_or_default();
    let members = told["members"].as_array().cloned().unwrap_or_default();
    members.iter().any(|one| one["name"] == name && one["reachable"] == true)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_certificate_is_revoked_is_cut_off() {
    let cluster = started().await;
    let [second, third] = ["node2", "node3"].map(|name| format!("output/{name}/certs/node.crt"));
    until(&cluster, "not all are connected", || is_reached(&cluster, "node3")).await;
    done(&cluster, &["cert", "revoke", &third]);
    let revoked = Instant::now();
    until(&cluster, "it is not cut off", || !is_reached(&cluster, "node3")).await;
    assert!(revoked.elapsed() < GRACE + Duration::from_secs(1), "{:?}", revoked.elapsed());
    // The others go on, and it has no part in that.
    let endpoint = https(&cluster, 0, "");
    let put = ["put", "app/a", "2", "--endpoints", &endpoint, "--profile", "konsen"];
    until(&cluster, "no writes", || run(&cluster, &put).status.success()).await;
    let admin = user(&cluster, "output/admin/admin").build().unwrap();
    let read = |node| https(&cluster, node, "/v1/kv/app/a");
    assert_eq!(admin.get(read(1)).send().await.unwrap().text().await.unwrap(), "2");
    let cut_off = admin.get(read(2)).header("konsen-timeout", "1s").send().await.unwrap();
    assert!(!cut_off.status().is_success(), "{cut_off:?}");

    // With one more, nobody could take it back.
    let refused = run(
        &cluster,
        &["cert", "revoke", &second, "--endpoints", &endpoint, "--profile", "konsen"],
    );
    let error = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(error.contains("konsen cert renew --member node2"), "{error}");

    let undo =
        ["cert", "revoke", "--undo", &third, "--endpoints", &endpoint, "--profile", "konsen"];
    done(&cluster, &undo);
    until(&cluster, "it does not come back", || is_reached(&cluster, "node3")).await;
    // A certificate that was renewed has nothing to lose.
    fs::copy(cluster.dir.path().join(&third), cluster.dir.path().join("old.crt")).unwrap();
    done(&cluster, &["cert", "renew", "--member", "node3"]);
    until(&cluster, "the new one is not in use", || {
        let log = cluster.nodes[2].log();
        log.contains("new certificates are in use")
    })
    .await;
    done(&cluster, &["cert", "revoke", "old.crt"]);
    until(&cluster, "it is not connected", || is_reached(&cluster, "node3")).await;
}
