//! Certificates that renew themselves, by a wall clock that is moved.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use konsen::pki;

use crate::harness::{Cluster, Node, PATIENCE, client, konsen};

const LIBRARIES: [&str; 2] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
];

/// Has a process read its wall clock through the library that can move it; its monotonic clock goes on.
fn clock_of(cluster: &Cluster) -> [(String, String); 5] {
    let library = LIBRARIES.into_iter().find(|library| Path::new(library).exists());
    let library = library.expect("libfaketime is installed: ci/setup does that");
    let file = cluster.dir.path().join("clock");
    if !file.exists() {
        fs::write(&file, "+0\n").unwrap();
    }
    [
        ("LD_PRELOAD", library),
        ("FAKETIME_TIMESTAMP_FILE", file.to_str().unwrap()),
        ("FAKETIME_CACHE_DURATION", "1"),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ("DONT_FAKE_MONOTONIC", "1"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
}

/// Moves the clocks of the whole cluster: to so many days after now.
fn move_clocks(cluster: &Cluster, days: u32) {
    let part = cluster.dir.path().join("clock.part");
    fs::write(&part, format!("+{}\n", days * 86_400)).unwrap();
    fs::rename(part, cluster.dir.path().join("clock")).unwrap();
}

/// A command in the cluster's folder and by its clock.
fn run(cluster: &Cluster, words: &[&str]) -> Output {
    let mut command = konsen();
    command.current_dir(cluster.dir.path()).env("KONSEN_PROFILES", "profiles");
    command.envs(clock_of(cluster)).args(words).output().unwrap()
}

fn done(cluster: &Cluster, words: &[&str]) -> String {
    let output = run(cluster, words);
    assert!(output.status.success(), "{words:?}: {output:?}\n{}", cluster.logs());
    String::from_utf8(output.stdout).unwrap()
}

/// A cluster that was built so, and serves over HTTPS.
async fn started(size: usize, extra: &str, words: &[&str]) -> Cluster {
    let mut cluster = Cluster::build(size, &format!("http: {{clientAuth: optional}}\n{extra}"));
    let build = ["cluster", "build", "--config", "cluster.yml", "--out", "output", "--force"];
    done(&cluster, &[&build[..], words].concat());
    for at in 0..size {
        let clock = clock_of(&cluster);
        cluster.nodes[at].env.extend(clock);
        cluster.nodes[at].start();
    }
    let deadline = Instant::now() + PATIENCE;
    while !run(&cluster, &["put", "ready", "1"]).status.success() {
        assert!(Instant::now() < deadline, "{}", cluster.logs());
        // Nothing tells when a node is there but that it answers.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    cluster
}

async fn until(cluster: &Cluster, what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}\n{}", cluster.logs());
        // Files that change tell nobody.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn certificate(node: &Node) -> PathBuf {
    node.home.join("certs/node.crt")
}

fn fingerprint(node: &Node) -> String {
    pki::fingerprint(&pki::read_certificates(&certificate(node)).unwrap()[0])
}

/// How many writes of a whole load may be answered that their outcome is not known.
const UNKNOWN_MAX: u64 = 4;

/// Clients that write all the time, half of them on new connections, and count what was done.
struct Load {
    stop: Arc<AtomicBool>,
    requests: Arc<AtomicU64>,
    clients: Vec<tokio::task::JoinHandle<Result<(), String>>>,
}

impl Load {
    fn start(cluster: &Cluster) -> Load {
        // The builder wants a provider; a second install is refused, harmlessly.
        drop(client());
        let (stop, requests) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let unknown = Arc::new(AtomicU64::new(0));
        let clients = (0..4).map(|number| {
            let url = cluster.url(number % cluster.nodes.len(), "/v1/kv/a");
            let url = url.replace("http://", "https://");
            // By this machine's clock, which stays: what is renewed in the future is good from then on only. The nodes
            // judge clients by theirs.
            let client = reqwest::Client::builder()
                .no_proxy()
                .timeout(Duration::from_secs(8))
                .pool_max_idle_per_host(number % 2)
                .identity(reqwest::Identity::from_pem(&administrator(cluster)).unwrap())
                .tls_danger_accept_invalid_certs(true)
                .build()
                .unwrap();
            let (stop, requests, unknown) = (stop.clone(), requests.clone(), unknown.clone());
            tokio::spawn(async move {
                // A node that passes requests on can say whose they are once all members know of each other.
                let deadline = Instant::now() + PATIENCE;
                while Instant::now() < deadline
                    && !client
                        .put(&url)
                        .body("1")
                        .send()
                        .await
                        .is_ok_and(|it| it.status().is_success())
                {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                while !stop.load(Ordering::Relaxed) {
                    let answer = client.put(&url).body("1").send().await;
                    let answer = answer.map_err(|error| format!("{error:?}"))?;
                    let status = answer.status();
                    // What is on its way to the leader while connections are replaced may lose its answer, and says so.
                    if status == 504 && unknown.fetch_add(1, Ordering::Relaxed) < UNKNOWN_MAX {
                        continue;
                    }
                    if !status.is_success() {
                        let body = answer.text().await.unwrap_or_default();
                        return Err(format!("{url}: {status}: {body}"));
                    }
                    requests.fetch_add(1, Ordering::Relaxed);
                }
                Ok(())
            })
        });
        let clients = clients.collect();
        Load { stop, requests, clients }
    }

    async fn goes_on(&self, cluster: &Cluster) {
        let before = self.requests.load(Ordering::Relaxed);
        until(cluster, "the load stands still", || {
            self.requests.load(Ordering::Relaxed) >= before + 40
        })
        .await;
    }

    async fn end(self, cluster: &Cluster) {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients {
            let ended = client.await.unwrap();
            assert!(ended.is_ok(), "{ended:?}\n{}", cluster.logs());
        }
    }
}

fn administrator(cluster: &Cluster) -> Vec<u8> {
    let admin = cluster.dir.path().join("output/admin");
    ["admin.key", "admin.crt"].map(|file| fs::read(admin.join(file)).unwrap()).concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn for_two_years_a_cluster_that_has_the_authority_renews_its_certificates_and_refuses_nobody()
{
    let cluster = started(3, "", &["--authority", "inside", "--signers", "node2"]).await;
    let dir = cluster.dir.path();
    assert!(dir.join("output/node2/certs/ca.key").exists());
    assert!(!dir.join("output/node1/certs/ca.key").exists());
    let mut load = Load::start(&cluster);
    load.goes_on(&cluster).await;
    let keys = || -> Vec<_> {
        cluster
            .nodes
            .iter()
            .map(|node| fs::read(node.home.join("certs/node.key")).unwrap())
            .collect()
    };
    let all = || cluster.nodes.iter().map(fingerprint).collect::<Vec<_>>();
    let differ = |before: &[String]| all().iter().zip(before).all(|(now, before)| now != before);

    // More than 24 months. 90 days are the life of a node's certificate, a year that of the administrator's, whose owner looks
    // after it.
    for days in (85..=765).step_by(85) {
        let (before, keys_before) = (all(), keys());
        move_clocks(&cluster, days);
        until(&cluster, "a certificate was not renewed", || differ(&before)).await;
        load.goes_on(&cluster).await;
        assert!(keys().iter().zip(&keys_before).all(|(now, before)| now != before), "new keys");
        until(&cluster, "the new certificates are not in use", || {
            let told = done(&cluster, &["member", "list", "-o", "json"]);
            cluster.nodes.iter().all(|node| told.contains(&expiry(&certificate(node))))
        })
        .await;
        if days % 255 == 0 {
            load.end(&cluster).await;
            done(&cluster, &["cert", "renew", "output/admin/admin.crt"]);
            load = Load::start(&cluster);
        }
    }
    // And by hand, all at once.
    let before = all();
    let told = done(&cluster, &["cert", "renew", "--all"]);
    assert_eq!(told.matches(": renewed, until ").count(), 3, "{told}");
    assert!(differ(&before));
    let before = all();
    done(&cluster, &["cert", "renew", "--member", "node3"]);
    assert!(all()[..2] == before[..2] && all()[2] != before[2]);
    load.goes_on(&cluster).await;
    load.end(&cluster).await;
    for node in &cluster.nodes {
        let mode = std::os::unix::fs::PermissionsExt::mode(
            &fs::metadata(node.home.join("certs/node.key")).unwrap().permissions(),
        );
        assert_eq!(mode & 0o777, 0o600);
        assert!(!node.home.join("certs/node.key.next").exists());
    }
}

/// As members are told it.
fn expiry(certificate: &Path) -> String {
    pki::not_after_rfc3339(&pki::read_certificates(certificate).unwrap()[0]).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_authority_a_node_says_what_an_operator_has_to_sign() {
    let cluster = started(1, "", &[]).await;
    let load = Load::start(&cluster);
    let node = &cluster.nodes[0];
    let refused = run(&cluster, &["cert", "renew", "--all"]);
    let error = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{error}");
    assert!(
        error.starts_with("error: ") && error.contains("konsen cert sign --request node.csr"),
        "{error}"
    );
    fs::remove_file(node.home.join("certs/node.csr")).unwrap();

    // A year is the life of a certificate.
    move_clocks(&cluster, 300);
    let request = node.home.join("certs/node.csr");
    until(&cluster, "there is no request", || request.exists()).await;
    let status = done(&cluster, &["status", "-o", "json"]);
    assert!(status.contains("konsen cert sign --request node.csr"), "{status}");
    let (before, key) = (fingerprint(node), fs::read(node.home.join("certs/node.key")).unwrap());

    let request = request.to_str().unwrap();
    let said = done(&cluster, &["cert", "sign", "--request", request, "--out", "signed.crt"]);
    assert!(said.contains("node node1 of the cluster konsen, for "), "{said}");
    fs::rename(cluster.dir.path().join("signed.crt"), certificate(node)).unwrap();
    node.signal("HUP");
    until(&cluster, "the key was not exchanged", || {
        fs::read(node.home.join("certs/node.key")).unwrap() != key
    })
    .await;
    until(&cluster, "it still waits", || {
        !done(&cluster, &["status", "-o", "json"]).contains("cert sign")
    })
    .await;
    assert_ne!(fingerprint(node), before);
    load.goes_on(&cluster).await;
    load.end(&cluster).await;

    // The power fails between the certificate and its key: the next start finds both.
    run(&cluster, &["cert", "renew", "--member", "node1"]);
    let mut cluster = cluster;
    cluster.nodes[0].kill();
    done(&cluster, &["cert", "sign", "--request", request, "--out", "signed.crt"]);
    fs::rename(cluster.dir.path().join("signed.crt"), certificate(&cluster.nodes[0])).unwrap();
    let waiting = cluster.nodes[0].home.join("certs/node.key.next");
    let next = fs::read(&waiting).unwrap();
    cluster.nodes[0].start();
    until(&cluster, "it does not serve", || run(&cluster, &["put", "a", "2"]).status.success())
        .await;
    assert_eq!(fs::read(cluster.nodes[0].home.join("certs/node.key")).unwrap(), next);
    assert!(!waiting.exists());
}
