//! What the system grants a node: file descriptors, the largest file, who may read what it writes.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use reqwest::StatusCode;

use crate::harness::{Cluster, PATIENCE, konsen};

/// Runs the node with this limit of the shell's.
fn limited(cluster: &mut Cluster, limit: &str) {
    let script = format!("ulimit {limit}; exec \"$0\" \"$@\"");
    cluster.nodes[0].wrapper = ["sh", "-c", &script].map(str::to_owned).to_vec();
}

async fn until(cluster: &Cluster, what: &str) {
    let deadline = Instant::now() + PATIENCE;
    while !cluster.nodes[0].log().contains(what) {
        assert!(Instant::now() < deadline, "never {what}\n{}", cluster.logs());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_take_no_descriptor_that_the_node_needs() {
    let mut cluster = Cluster::build(1, "");
    limited(&mut cluster, "-n 90");
    cluster.nodes[0].start();
    cluster.wait_ready(0).await;
    let log = cluster.nodes[0].log();
    assert!(log.contains("at most 26 clients are served at a time"), "{log}");
    let port = cluster.nodes[0].http_port;
    let idle: Vec<_> = (0..120).map(|_| TcpStream::connect(("127.0.0.1", port)).unwrap()).collect();
    let renewed = konsen()
        .current_dir(cluster.dir.path())
        .args(["cert", "renew", "output/node1/certs/node.crt"])
        .status();
    assert!(renewed.unwrap().success());
    cluster.nodes[0].signal("HUP");
    until(&cluster, "new certificates are in use").await;
    drop(idle);
    cluster.wait_ready(0).await;
    assert_eq!(cluster.put(0, "a", "1").await.unwrap(), 201);
    assert!(!cluster.nodes[0].log().contains("could not accept"), "{}", cluster.logs());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_soft_limit_of_descriptors_is_raised() {
    let mut cluster = Cluster::build(1, "");
    limited(&mut cluster, "-Sn 256");
    cluster.nodes[0].start();
    cluster.wait_ready(0).await;
    let limits = fs::read_to_string(format!("/proc/{}/limits", cluster.nodes[0].pid())).unwrap();
    let files = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let words: Vec<&str> = files.split_whitespace().collect();
    let hard: u64 = words[4].parse().unwrap_or(u64::MAX);
    assert_eq!(words[3], hard.min(4160).to_string(), "{files}");
    assert!(cluster.nodes[0].log().contains("limits in force"), "{}", cluster.logs());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_largest_file_that_may_be_written_counts_as_a_full_disk() {
    let mut cluster =
        Cluster::build(1, "limits: {freeSpace: 16MiB, logTail: 1MiB, overlay: 1MiB}\n");
    // In kilobytes or in blocks of half of one, as shells have it.
    limited(&mut cluster, "-f 65536");
    cluster.nodes[0].start();
    cluster.wait_ready(0).await;
    let url = |number: u32| cluster.url(0, &format!("/v1/kv/key{number}"));
    let value = "x".repeat(1 << 20);
    let mut refused = false;
    for number in 0..200 {
        let answer = cluster.http.put(url(number)).body(value.clone()).send().await.unwrap();
        let status = answer.status().as_u16();
        if status == 507 {
            refused = true;
            break;
        }
        assert!(matches!(status, 201 | 204 | 429 | 503 | 504), "{status}\n{}", cluster.logs());
    }
    assert!(refused, "the limit was never met\n{}", cluster.logs());
    assert!(cluster.nodes[0].ended().is_none(), "{}", cluster.logs());
    assert_eq!(cluster.get(0, "key0").await.unwrap().as_deref(), Some(value.as_str()));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_its_owner_reads_what_a_node_writes() {
    let mut cluster = Cluster::build(1, "");
    limited(&mut cluster, "-c 0; umask 022");
    let data = cluster.nodes[0].home.join("data");
    fs::create_dir(&data).unwrap();
    fs::set_permissions(&data, fs::Permissions::from_mode(0o755)).unwrap();
    cluster.nodes[0].start();
    cluster.wait_ready(0).await;
    for file in fs::read_dir(&data).unwrap() {
        let file = file.unwrap();
        let mode = file.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{}", file.path().display());
    }
    let log = cluster.nodes[0].log();
    assert!(log.contains("is open to others (mode 755): chmod 700"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_nobody_gave_is_not_stored() {
    let cluster = Cluster::start(1).await;
    let endpoints = cluster.url(0, "");
    let script = |words: &str| {
        let konsen = env!("CARGO_BIN_EXE_konsen");
        let line = format!("{konsen} {words}");
        let mut shell = Command::new("sh");
        shell.env_clear().env("KONSEN_ENDPOINTS", &endpoints).args(["-c", &line]);
        let output = shell.stdin(Stdio::null()).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    for words in ["put a <&-", "put a - <&-", "put a </dev/null"] {
        let (code, error) = script(words);
        assert_eq!(code, Some(2), "{words}: {error}");
        assert!(error.contains("standard input is closed"), "{error}");
    }
    assert_eq!(cluster.get(0, "a").await.unwrap(), None);
    for words in ["put a ''", "put a - </dev/null", "put a <<END\nvalue\nEND\n"] {
        let (code, error) = script(words);
        assert_eq!(code, Some(0), "{words}: {error}");
    }
    assert_eq!(cluster.get(0, "a").await.unwrap().as_deref(), Some("value\n"));
    assert_eq!(script("get a --timeout 1us").0, Some(2));
    for words in ["get a >&-", "list >&-", "status >&-", "snapshot save - >&-"] {
        let (code, error) = script(words);
        assert_eq!(code, Some(1), "{words}: {error}");
        assert!(error.contains("standard output: Bad file descriptor"), "{words}: {error}");
    }
    let (code, error) = script("put b value >&-");
    assert_eq!(code, Some(1), "{error}");
    assert!(error.contains("the key was created"), "{error}");
}

/// More than wait where nobody says how many.
const AT_ONCE: usize = 600;

#[tokio::test(flavor = "multi_thread")]
async fn hundreds_that_come_at_once_wait_and_none_is_cut_off() {
    let mut cluster = Cluster::build(1, "");
    cluster.nodes[0].start();
    cluster.wait_ready(0).await;
    let address = SocketAddr::from(([127, 0, 0, 1], cluster.nodes[0].http_port));
    // It accepts nobody meanwhile.
    cluster.nodes[0].signal("STOP");
    let queue: usize =
        fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap().trim().parse().unwrap();
    let connect = |_| TcpStream::connect_timeout(&address, PATIENCE).unwrap();
    let mut streams: Vec<_> = (0..AT_ONCE.min(queue)).map(connect).collect();
    cluster.nodes[0].signal("CONT");
    for stream in &mut streams {
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    }
    for stream in &mut streams {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut status = [0; 12];
        stream.read_exact(&mut status).unwrap();
        assert_eq!(status, *b"HTTP/1.1 200");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_beyond_what_is_carried_out_are_refused_at_once() {
    let cluster = Cluster::start_configured(3, "limits: {requests: 8}\n").await;
    cluster.wait_leader().await;
    // Nobody answers a read then that asks a majority.
    cluster.nodes[1].signal("STOP");
    cluster.nodes[2].signal("STOP");
    let url = cluster.url(0, "/v1/kv/none");
    let read = |http: &reqwest::Client, timeout: &str| {
        http.get(&url).header("Konsen-Timeout", timeout).send()
    };
    // Half of them for one address.
    let released = Arc::new(AtomicBool::new(false));
    let reads: Vec<_> = (0..4)
        .map(|_| {
            let asked = cluster.http.get(&url).header("Konsen-Timeout", "60s");
            tokio::spawn(waits_for_a_majority(asked, released.clone()))
        })
        .collect();
    let deadline = Instant::now() + PATIENCE;
    let refused = loop {
        let answer = read(&cluster.http, "200ms").await.unwrap();
        if answer.status() == 429 {
            break answer;
        }
        assert!(matches!(answer.status().as_u16(), 404 | 503 | 504), "{answer:?}");
        assert!(Instant::now() < deadline, "{}", cluster.logs());
    };
    assert!(refused.headers().contains_key("retry-after"));
    let problem = refused.text().await.unwrap();
    assert!(problem.contains("half of limits.requests"), "{problem}");
    assert_eq!(cluster.put(0, "a", "value").await.unwrap(), 429);
    // Not what tells how the node is, nor what has a bound of its own, nor whoever comes from elsewhere.
    for path in ["/healthz", "/v1/status", "/metrics"] {
        assert_eq!(cluster.http.get(cluster.url(0, path)).send().await.unwrap().status(), 200);
    }
    let waits = cluster.url(0, "/v1/kv/none?consistency=stale&wait=10ms");
    assert_eq!(cluster.http.get(waits).send().await.unwrap().status(), 404);
    let elsewhere = reqwest::Client::builder().local_address(Some([127, 0, 0, 2].into()));
    let answer = read(&elsewhere.build().unwrap(), "200ms").await.unwrap();
    assert!(matches!(answer.status().as_u16(), 503 | 504), "{answer:?}");
    let page = cluster.http.get(cluster.url(0, "/metrics")).send().await.unwrap();
    let page = page.text().await.unwrap();
    assert!(!page.contains("refusals_total{reason=\"requests\"} 0\n"), "{page}");
    released.store(true, Ordering::Relaxed);
    cluster.nodes[1].signal("CONT");
    cluster.nodes[2].signal("CONT");
    for read in reads {
        assert_eq!(read.await.unwrap(), 404);
    }
    assert_eq!(cluster.put(0, "a", "value").await.unwrap(), 201);
    // Nor do bodies that never come keep anybody out.
    let heads: Vec<TcpStream> = (0..20).map(|_| awaits_body(cluster.nodes[0].http_port)).collect();
    assert_eq!(cluster.put(0, "b", "value").await.unwrap(), 201);
    assert_eq!(cluster.get(0, "b").await.unwrap().as_deref(), Some("value"));
    drop(heads);
}

/// Asks again while it is answered although nobody should be able to: a node that is told to stand still goes on for a moment.
async fn waits_for_a_majority(
    asked: reqwest::RequestBuilder,
    released: Arc<AtomicBool>,
) -> StatusCode {
    loop {
        let answer = asked.try_clone().unwrap().send().await.unwrap();
        if released.load(Ordering::Relaxed) {
            return answer.status();
        }
    }
}

/// A request whose body is awaited.
fn awaits_body(port: u16) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let head = "PUT /v1/kv/c HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n";
    write!(stream, "{head}Content-Length: 9\r\n\r\n").unwrap();
    let mut told = [0; 12];
    stream.read_exact(&mut told).unwrap();
    assert_eq!(told, *b"HTTP/1.1 100");
    stream
}
