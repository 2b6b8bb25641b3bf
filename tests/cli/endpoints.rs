//! Endpoints that are not konsen, that say nothing, or that have no room.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::konsen;

/// A server of something else, which answers everything with this; its address, and the first lines of its requests.
fn stranger(answer: &str) -> (String, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (sender, requests) = channel();
    let answer = answer.to_owned();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, mut head) = (stream.unwrap(), [0; 4096]);
            let read = stream.read(&mut head).unwrap_or_default();
            let line = String::from_utf8_lossy(&head[..read]).lines().next().map(str::to_owned);
            // The client may have gone, and so may the test.
            let _ = stream.write_all(answer.as_bytes());
            let _ = sender.send(line.unwrap_or_default());
        }
    });
    (address, requests)
}

const NO: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 2\r\n\
                  Connection: close\r\n\r\nno";

const WRITES: [&[&str]; 5] = [
    &["put", "a", "1"],
    &["delete", "a"],
    &["delete", "--prefix", "a"],
    &["compact", "2"],
    &["leader", "transfer"],
];

#[test]
fn a_success_of_something_else_is_none() {
    let dir = TempDir::new().unwrap();
    let (address, _requests) = stranger(NO);
    let run = |words: &[&str], endpoints: &str| {
        konsen(dir.path(), &[words, &["--endpoints", endpoints]].concat())
    };
    for words in WRITES {
        run(words, &address).failed(6, "the answer is not konsen's");
    }
    for words in [&["get", "a"][..], &["list"], &["status"], &["snapshot", "save", "b"]] {
        run(words, &address).failed(1, "the answer is not konsen's");
    }
    assert!(std::fs::read_dir(dir.path()).unwrap().next().is_none());
    // A key's revision alone does not make it konsen's, nor does a condition that somebody else says has failed.
    let tagged = NO.replace("Content-Type", "ETag: \"7\"\r\nContent-Type");
    run(&["put", "a", "1"], &stranger(&tagged).0).failed(6, "no field konsen-revision");
    let half = tagged.replace("ETag", "Konsen-Revision: 7\r\nETag");
    run(&["get", "a"], &stranger(&half).0).failed(1, "no field konsen-create-revision");
    let failed = NO.replace("200 OK", "412 Precondition Failed");
    run(&["put", "a", "1", "--if-match", "7"], &stranger(&failed).0).failed(6, "412");
}

#[test]
fn of_several_endpoints_none_is_written_to_that_is_not_konsen() {
    let dir = TempDir::new().unwrap();
    let (one, requests) = stranger(NO);
    let (other, _) = stranger(NO);
    let endpoints = format!("{one},{other}");
    for words in WRITES {
        let run = konsen(dir.path(), &[words, &["--endpoints", &endpoints]].concat());
        run.failed(1, "the answer is not konsen's");
    }
    let requests: Vec<String> = requests.try_iter().collect();
    assert!(!requests.is_empty());
    assert!(requests.iter().all(|line| line == "GET /v1/status HTTP/1.1"), "{requests:?}");
}

#[test]
fn the_timeout_bounds_the_wait_for_all_endpoints_together() {
    let dir = TempDir::new().unwrap();
    // Connections are made, and nothing is ever read.
    let silent = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let [one, other] = silent.each_ref().map(|one| one.local_addr().unwrap().to_string());
    let both = format!("{one},{other}");
    let write = &["put", "a", "1"][..];
    for (words, endpoints, code) in [
        (write, &one, 6),
        // Nobody was found who could be written to.
        (write, &both, 5),
        (&["get", "a"], &one, 5),
        (&["get", "a"], &both, 5),
        (&["list"], &both, 5),
        (&["status"], &one, 5),
        (&["status"], &both, 5),
        (&["snapshot", "save", "b"], &one, 5),
        (&["snapshot", "save", "b"], &both, 5),
    ] {
        let began = Instant::now();
        let words = [words, &["--timeout", "400ms", "--endpoints", endpoints]].concat();
        let outcome = konsen(dir.path(), &words);
        let took = began.elapsed();
        assert_eq!(outcome.code, code, "{words:?}: {}", outcome.err);
        assert!(outcome.err.contains("no answer in time"), "{words:?}: {}", outcome.err);
        assert!(!outcome.err.contains("waiting on"), "{words:?}: {}", outcome.err);
        let bounds = Duration::from_millis(400)..Duration::from_millis(1500);
        assert!(bounds.contains(&took), "{words:?} took {took:?}");
    }
}

#[test]
fn a_node_that_has_no_room_is_not_asked_whether_it_is_up() {
    let dir = TempDir::new().unwrap();
    let problem = r#"{"type":"urn:konsen:problem:too-busy","detail":"no room (limits.bodies)","outcome":"not_applied"}"#;
    let answer = format!(
        "HTTP/1.1 429 Too Many Requests\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{problem}",
        problem.len()
    );
    let (address, _requests) = stranger(&answer);
    for words in [&["put", "a", "1"][..], &["get", "a"]] {
        let outcome = konsen(dir.path(), &[words, &["--endpoints", &address]].concat());
        assert!(!outcome.err.contains("are the nodes up?"), "{}", outcome.err);
        outcome.failed(5, "no room (limits.bodies)");
    }
    let nobody = konsen(dir.path(), &["get", "a", "--endpoints", "127.0.0.1:1"]);
    nobody.failed(5, "are the nodes up?");
}

#[test]
fn what_can_never_be_done_is_refused_before_anybody_is_asked() {
    let dir = TempDir::new().unwrap();
    for (words, said) in [
        (&["put", "a", "1", "--if-match", "2", "--if-absent"][..], "cannot be used with"),
        (&["put", "a", "1", "--if-match", "2", "--if-none-match", "*"], "cannot be used with"),
        (&["delete", "--prefix", ""], "not empty"),
        (&["delete", "--start", "", "--steps"], "not empty"),
        (&["delete", "--start", "a", "--end", ""], "empty end"),
        (&["get", ""], "empty"),
        (&["get", "a", "--timeout", "abc"], "write it as 500ms, 2s or 1m"),
        (&["get", "a", "--timeout", "6m"], "between 1ms and 5m"),
    ] {
        // Nobody is there.
        konsen(dir.path(), &[words, &["--endpoints", "127.0.0.1:1"]].concat()).failed(2, said);
    }
}
