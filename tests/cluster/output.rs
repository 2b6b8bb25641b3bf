//! Nodes whose standard error is full, gone, or read by nobody.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write, pipe};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::harness::{Cluster, PATIENCE, konsen, wait};

/// A node of its own process that says everything to `to`; killed when dropped.
struct Loud(Child);

impl Loud {
    fn start(cluster: &Cluster, to: impl Into<Stdio>, filter: &str) -> Loud {
        let child = konsen()
            .current_dir(&cluster.nodes[0].home)
            .args(["serve", "--config", "cluster.yml", "--log", filter])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(to)
            .spawn();
        Loud(child.unwrap())
    }

    fn end(mut self) {
        let pid = self.0.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        assert_eq!(wait(&mut self.0, "a node").code(), Some(0));
    }
}

impl Drop for Loud {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_goes_on_when_its_log_cannot_be_written() {
    let cluster = Cluster::build(1, "");
    for full in [true, false] {
        let node = if full {
            let full = File::options().write(true).open("/dev/full").unwrap();
            Loud::start(&cluster, full, "debug")
        } else {
            let (reader, writer) = pipe().unwrap();
            let node = Loud::start(&cluster, writer, "debug");
            // As `head -n 2` does.
            let two = BufReader::new(reader).lines().take(2).map(Result::unwrap).count();
            assert_eq!(two, 2);
            node
        };
        cluster.wait_ready(0).await;
        assert!(matches!(cluster.put(0, "a", "1").await, Ok(201 | 204)));
        assert_eq!(cluster.get(0, "a").await.unwrap().as_deref(), Some("1"));
        node.end();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_reader_that_stalls_costs_lines_and_nothing_else() {
    let cluster = Cluster::build(1, "");
    let (reader, writer) = pipe().unwrap();
    let node = Loud::start(&cluster, writer, "debug");
    cluster.wait_ready(0).await;
    let mut slowest = Duration::ZERO;
    // A line each, and far more lines than the pipe and the queue hold.
    for number in 0..6_000 {
        let mut stranger = TcpStream::connect(("127.0.0.1", cluster.nodes[0].http_port)).unwrap();
        stranger.write_all(b"\0\r\n\r\n").unwrap();
        // Whatever it is told: it hangs up when it was heard.
        let _ = stranger.read_to_end(&mut Vec::new());
        if number % 50 == 0 {
            let began = Instant::now();
            assert!(matches!(cluster.put(0, "a", "1").await, Ok(201 | 204)));
            slowest = slowest.max(began.elapsed());
        }
    }
    assert!(slowest < Duration::from_secs(3), "a write took {slowest:?}");
    // Whoever reads again learns how much is missing.
    let (found, note) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let lines = BufReader::new(reader).lines().map_while(Result::ok);
        let mut found = Some(found);
        for line in lines {
            if line.starts_with("konsen: ")
                && line.contains(" lost here")
                && let Some(found) = found.take()
            {
                // The test may have given up.
                let _ = found.send(line);
            }
        }
    });
    let note =
        tokio::time::timeout(PATIENCE, note).await.expect("no word of what is lost").unwrap();
    println!("{note}; slowest write {slowest:?}");
    node.end();
}
