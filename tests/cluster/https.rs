//! HTTPS as `cluster build` sets it up: who is trusted, who comes in, and certificates that change while clients go on.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::{Cluster, PATIENCE, client, konsen};

/// A command in the cluster's folder that knows the profiles there, and whether it did its work.
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

/// The command failed with that code, and its error has all of the parts.
fn failed(cluster: &Cluster, words: &[&str], code: i32, parts: &[&str]) {
    let output = run(cluster, words);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{words:?}: {error}");
    assert!(error.starts_with("error: "), "{error}");
    for part in parts {
        assert!(error.contains(part), "{part:?} is not in {error}");
    }
}

/// Builds again, which writes the profile; what that says.
fn built(cluster: &Cluster) -> String {
    done(cluster, &["cluster", "build", "--config", "cluster.yml", "--out", "output"])
}

/// Starts all nodes and waits until the profile's endpoints serve.
async fn start(cluster: &mut Cluster) {
    cluster.nodes.iter_mut().for_each(|node| node.start());
    let deadline = Instant::now() + PATIENCE;
    while !run(cluster, &["put", "ready", "1"]).status.success() {
        assert!(Instant::now() < deadline, "{}", cluster.logs());
        // Nothing tells when a node is there but that it answers.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The line of a text that begins so.
fn line<'a>(text: &'a str, start: &str) -> &'a str {
    text.lines()
        .find(|line| line.trim_start().starts_with(start))
        .unwrap_or_else(|| panic!("{text}"))
}

/// The line after the one that contains this.
fn line_after<'a>(text: &'a str, part: &str) -> &'a str {
    let mut lines = text.lines().skip_while(|line| !line.contains(part)).skip(1);
    lines.next().unwrap_or_else(|| panic!("{text}")).trim()
}

fn pem(path: PathBuf) -> Vec<u8> {
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A client that trusts these authorities, and is the administrator.
fn https(cluster: &Cluster, authorities: &[&str]) -> reqwest::Client {
    builder(cluster, authorities).build().unwrap()
}

/// The same, which makes a connection for each request.
fn fresh(cluster: &Cluster, authorities: &[&str]) -> reqwest::Client {
    builder(cluster, authorities).pool_max_idle_per_host(0).build().unwrap()
}

fn builder(cluster: &Cluster, authorities: &[&str]) -> reqwest::ClientBuilder {
    // The builder wants a provider; a second install is refused, harmlessly.
    drop(client());
    let dir = cluster.dir.path();
    let admin = dir.join("output/admin");
    let identity = [pem(admin.join("admin.key")), pem(admin.join("admin.crt"))].concat();
    let trusted = |authority: &&str| reqwest::Certificate::from_pem(&pem(dir.join(authority)));
    reqwest::Client::builder()
        .no_proxy()
        .timeout(Duration::from_secs(8))
        .identity(reqwest::Identity::from_pem(&identity).unwrap())
        .tls_certs_only(authorities.iter().map(|authority| trusted(authority).unwrap()))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_built_speaks_https_and_the_machine_that_built_reaches_it() {
    // Nothing is said of TLS, and all is loopback.
    let mut cluster = Cluster::build(3, "http: {clientAuth: optional}\n");
    let dir = cluster.dir.path().to_path_buf();
    let said = built(&cluster);
    let mode = |path: &str| fs::metadata(dir.join(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("output/admin/admin.key"), 0o600);
    assert_eq!((mode("profiles/konsen.yml"), mode("profiles")), (0o600, 0o700));
    start(&mut cluster).await;

    // By the profile alone.
    done(&cluster, &["put", "a", "1"]);
    assert_eq!(done(&cluster, &["get", "a"]), "1");
    assert!(done(&cluster, &["status"]).contains("node3"));
    assert!(done(&cluster, &["cert", "show", "output/admin/admin.crt"]).contains("client admin"));
    done(&cluster, &["bench", "put", "--keys", "20", "--connections", "3", "--duration", "1s"]);
    done(&cluster, &["check", "--seconds", "1", "--clients", "3"]);
    done(&cluster, &["snapshot", "save", "backup"]);

    // Who is taken in speaks as the others do.
    let words = [
        "member",
        "add",
        "node4",
        "--raft-address",
        "127.0.0.1:9",
        "--http-address",
        "127.0.0.1:9",
    ];
    done(&cluster, &words);
    let made = fs::read_to_string(dir.join("output/node4/cluster.yml")).unwrap();
    assert!(made.contains("\nhttp:\n  tls: true\n  clientAuth: optional\n"), "{made}");
    done(&cluster, &["member", "remove", "node4"]);

    // By the line that was printed.
    let curl = line(&said, "curl ");
    let mut shell = Command::new("sh");
    let output = shell.current_dir(&dir).args(["-ec", &format!("{curl} -sS")]).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{curl}: {output:?}");
    let status: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(status["name"], "node1", "{status}");

    // By the fingerprint that was printed, or the server's own.
    let fingerprint = line_after(&said, "fingerprint");
    let endpoint = cluster.url(0, "").replace("http://", "https://");
    let admin = ["--cert", "output/admin/admin.crt", "--key", "output/admin/admin.key"];
    let get = [&["get", "a", "--endpoints", &endpoint][..], &admin].concat();
    let with = |words: &[&'static str], value: &str| {
        let words: Vec<String> = get
            .iter()
            .chain(words)
            .map(|word| (*word).to_owned())
            .chain([value.to_owned()])
            .collect();
        words
    };
    let certificate = dir.join("output/node1/certs/node.crt");
    let server = konsen::pki::read_certificates(&certificate).unwrap();
    let server = konsen::pki::fingerprint(&server[0]);
    for trusted in [fingerprint, &fingerprint.to_uppercase(), &server] {
        let words = with(&["--fingerprint"], trusted);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        assert_eq!(done(&cluster, &words), "1");
    }
    // By a token in the place of the certificate.
    done(&cluster, &["auth", "token", "create", "here", "--user", "admin", "--out", "here.token"]);
    let mine = ["--token", "here.token", "--endpoints", &endpoint, "--fingerprint", fingerprint];
    assert_eq!(done(&cluster, &[&["get", "a"][..], &mine].concat()), "1");
    let bench = ["bench", "put", "--keys", "20", "--connections", "3", "--duration", "1s"];
    done(&cluster, &[&bench[..], &mine].concat());
    failed(&cluster, &[&["get", "a"][..], &mine[2..]].concat(), 7, &["error: "]);

    // Neither is another node's, nor anybody else's.
    let other = konsen::pki::read_certificates(&dir.join("output/node2/certs/node.crt")).unwrap();
    for wrong in [&konsen::pki::fingerprint(&other[0]), &"0f".repeat(32)] {
        let words = with(&["--fingerprint"], wrong);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        failed(&cluster, &words, 7, &["has the fingerprint", wrong, "hint: "]);
    }
    failed(&cluster, &get, 7, &["hint: https needs --cacert or --fingerprint"]);
    cluster.nodes.iter_mut().for_each(|node| node.kill());
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_and_plain_http_are_told_so() {
    let mut cluster = Cluster::build(1, "http: {clientAuth: optional}\n");
    built(&cluster);
    start(&mut cluster).await;
    for words in [
        &["cert", "ca", "--dir", "strange"][..],
        &["cert", "client", "--name", "admin", "--dir", "strange"],
        &["cert", "client", "--name", "mallory", "--cluster", "elsewhere"],
    ] {
        done(&cluster, words);
    }
    for name in ["strange/admin", "certs/mallory"] {
        let [cert, key] = ["crt", "key"].map(|end| format!("{name}.{end}"));
        // The rest is the profile's.
        failed(
            &cluster,
            &["get", "ready", "--cert", &cert, "--key", &key],
            7,
            &["https://", "hint: "],
        );
    }

    let answer = client().put(cluster.url(0, "/v1/kv/ready")).body("2").send().await.unwrap();
    assert_eq!(answer.status(), 400);
    let problem: Value = answer.json().await.unwrap();
    assert_eq!(problem["type"], "urn:konsen:problem:needs-tls", "{problem}");
    assert_eq!(problem["outcome"], "not_applied");
    assert!(problem["detail"].as_str().unwrap().contains("https://"), "{problem}");
    let plain = cluster.url(0, "");
    let words = ["put", "ready", "2", "--endpoints", &plain];
    failed(
        &cluster,
        &words,
        7,
        &[&plain, "speaks TLS, not plain HTTP", "hint: write it as https://"],
    );
    // A body that goes on for long does not keep the answer from being seen.
    let large = client().put(cluster.url(0, "/v1/kv/ready")).body(vec![b'x'; 40_000]);
    assert_eq!(large.send().await.unwrap().status(), 400);
    assert_eq!(done(&cluster, &["get", "ready"]), "1");
}

/// Makes the certificate of an authority of its own for HTTPS, good for so many days, in `web/` of the node's folder.
fn put_web(cluster: &Cluster, authority: &str, days: &str) {
    let words = ["cert", "node", "--name", "web", "--force", "--days", days, "--dir", authority];
    if !cluster.dir.path().join(authority).exists() {
        done(cluster, &["cert", "ca", "--dir", authority]);
    }
    done(cluster, &words);
    let web = cluster.nodes[0].home.join("web");
    fs::create_dir_all(&web).unwrap();
    for end in ["key", "crt"] {
        let made = cluster.dir.path().join(authority).join(format!("web.{end}"));
        let part = web.join("part");
        fs::copy(made, &part).unwrap();
        fs::rename(part, web.join(format!("http.{end}"))).unwrap();
    }
}

async fn until_log_has(cluster: &Cluster, text: &str) {
    let deadline = Instant::now() + PATIENCE;
    while !cluster.nodes[0].log().contains(text) {
        assert!(Instant::now() < deadline, "{text} is not in\n{}", cluster.logs());
        // A file that grows tells nobody.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn until_it_serves(cluster: &Cluster) {
    let deadline = Instant::now() + PATIENCE;
    while !cluster.nodes[0].has_served() {
        assert!(Instant::now() < deadline, "{}", cluster.logs());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_for_clients_alone_changes_under_load_without_a_failed_request() {
    const SEPARATE: &str = "http:\n  tls: {cert: web/http.crt, key: web/http.key}\n";
    let mut cluster = Cluster::build(1, SEPARATE);
    put_web(&cluster, "company", "20");
    cluster.nodes[0].start();
    until_it_serves(&cluster).await;
    let url = cluster.url(0, "").replace("http://", "https://");
    let (first, second) = (https(&cluster, &["company/ca.crt"]), "company2/ca.crt");
    let put = |client: &reqwest::Client| client.put(format!("{url}/v1/kv/a")).body("1").send();
    let deadline = Instant::now() + PATIENCE;
    while !put(&first).await.is_ok_and(|answer| answer.status().is_success()) {
        assert!(Instant::now() < deadline, "{}", cluster.logs());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // The nodes' authority has nothing to do with it.
    assert!(put(&https(&cluster, &["certs/ca.crt"])).await.is_err());
    let metrics = first.get(format!("{url}/metrics")).send().await.unwrap().text().await.unwrap();
    assert!(
        metrics.contains("konsen_certificate_end_timestamp_seconds{certificate=\"http\"}"),
        "{metrics}"
    );
    let status = first.get(format!("{url}/v1/status")).send().await.unwrap();
    let status: Value = status.json().await.unwrap();
    assert!(
        status["warnings"].to_string().contains("the certificate of HTTPS ends in 19 days"),
        "{status}"
    );

    // Half of the clients keep their connection, half make a new one each time.
    done(&cluster, &["cert", "ca", "--dir", "company2"]);
    let (stop, requests) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let load: Vec<_> = (0..8)
        .map(|number| {
            let both = ["company/ca.crt", "company2/ca.crt"];
            let client = https(&cluster, &both);
            let fresh = (number % 2 == 0).then(|| fresh(&cluster, &both));
            let (stop, requests, url) = (stop.clone(), requests.clone(), format!("{url}/v1/kv/a"));
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let answer = fresh.as_ref().unwrap_or(&client).put(&url).body("1").send().await;
                    let status = answer.map_err(|error| format!("{error:?}"))?.status();
                    if !status.is_success() {
                        return Err(status.to_string());
                    }
                    requests.fetch_add(1, Ordering::Relaxed);
                }
                Ok(())
            })
        })
        .collect();
    let some_more = async || {
        let (before, deadline) = (requests.load(Ordering::Relaxed), Instant::now() + PATIENCE);
        while requests.load(Ordering::Relaxed) < before + 100 {
            assert!(Instant::now() < deadline, "the load stands still\n{}", cluster.logs());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    some_more().await;
    put_web(&cluster, "company2", "300");
    cluster.nodes[0].signal("HUP");
    until_log_has(&cluster, "new certificates of HTTPS are in use").await;
    some_more().await;
    assert!(put(&fresh(&cluster, &[second])).await.unwrap().status().is_success());
    assert!(put(&fresh(&cluster, &["company/ca.crt"])).await.is_err());

    fs::write(cluster.nodes[0].home.join("web/http.crt"), "no certificate").unwrap();
    cluster.nodes[0].signal("HUP");
    until_log_has(&cluster, "the earlier ones stay in use").await;
    some_more().await;
    assert!(put(&fresh(&cluster, &[second])).await.unwrap().status().is_success());
    let status = https(&cluster, &[second]).get(format!("{url}/v1/status")).send().await.unwrap();
    let status: Value = status.json().await.unwrap();
    assert!(!status["warnings"].to_string().contains("HTTPS"), "{status}");
    stop.store(true, Ordering::Relaxed);
    for client in load {
        client.await.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_may_have_an_authority_of_their_own() {
    let mut cluster = Cluster::build(
        1,
        "http:\n  tls: {clientAuthority: company/ca.crt}\n  clientAuth: required\n",
    );
    for words in [
        &["cert", "ca", "--dir", "company"][..],
        &["cert", "client", "--name", "alice", "--dir", "company"],
        // Who is a node only the nodes' authority says.
        &["cert", "node", "--name", "node1", "--dir", "company"],
        &["cert", "client", "--name", "bob"],
    ] {
        done(&cluster, words);
    }
    let said = built(&cluster);
    assert!(said.contains("clientAuthority"), "{said}");
    let node = &cluster.nodes[0].home;
    assert!(node.join("company/ca.crt").exists(), "it lies beside the configuration");
    assert!(!node.join("company/ca.key").exists());
    cluster.nodes[0].start();
    until_it_serves(&cluster).await;
    let as_whom = |who: &str| {
        let [cert, key] = ["crt", "key"].map(|end| format!("{who}.{end}"));
        run(&cluster, &["get", "nothing", "--cert", &cert, "--key", &key])
    };
    let deadline = Instant::now() + PATIENCE;
    // There is no such key, or no right to it; either is an answer.
    while as_whom("company/alice").status.code() == Some(5) {
        assert!(Instant::now() < deadline, "{}", cluster.logs());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let alice = as_whom("company/alice");
    assert!(!is_tls_failure(&alice), "{alice:?}");
    for stranger in ["certs/bob", "company/node1"] {
        let refused = as_whom(stranger);
        assert!(
            refused.status.code() == Some(7) && is_tls_failure(&refused),
            "{stranger}: {refused:?}"
        );
    }
}

fn is_tls_failure(output: &Output) -> bool {
    String::from_utf8_lossy(&output.stderr).contains("fatal alert")
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_http_for_others_has_to_be_asked_for() {
    let cluster = Cluster::build(1, "http: {tls: false}\n");
    let home = &cluster.nodes[0].home;
    let file = home.join("cluster.yml");
    let text = fs::read_to_string(&file).unwrap();
    let (start, _) = text.split_once("http:\n").unwrap();
    fs::write(&file, start).unwrap();
    let listen = format!("0.0.0.0:{}", cluster.nodes[0].http_port);
    let words = ["serve", "--config", "cluster.yml", "--http-listen", &listen];
    let refused = konsen().current_dir(home).args(words).output().unwrap();
    let error = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{error}");
    assert!(error.contains("http.tls is not given") && error.contains(&listen), "{error}");
    assert!(error.contains("hint: write `http: { tls: true }`"), "{error}");
    // As it was made, it says so and starts.
    fs::write(&file, text).unwrap();
    let mut cluster = cluster;
    cluster.nodes[0].start_with(&["--http-listen", &listen]);
    cluster.wait_ready(0).await;
    let log = cluster.nodes[0].log();
    assert!(log.contains("whoever is on the way reads and changes what clients send"), "{log}");
}
