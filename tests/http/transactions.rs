//! Interactive transactions of the Rust client.

use std::io::Read;
use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use konsen::client::{Client, Error, Options, Preconditions, Retry, TlsFiles, Transaction};
use konsen::kv::KeyRange;

use crate::raw::Server;

fn client(port: u16) -> Client {
    let endpoints = vec![format!("http://127.0.0.1:{port}")];
    let timeout = Duration::from_secs(5);
    Client::new(&Options { endpoints, tls: TlsFiles::default(), token: None, timeout }).unwrap()
}

async fn put(client: &Client, key: &str, value: &str) {
    let value = Bytes::copy_from_slice(value.as_bytes());
    client.put(key.as_bytes(), &value, None, Preconditions::default()).await.unwrap();
}

async fn value(client: &Client, key: &str) -> Option<Bytes> {
    match client.get(key.as_bytes()).await {
        Ok(value) => Some(value.item.value),
        Err(Error::NoSuchKey { .. }) => None,
        Err(error) => panic!("{error}"),
    }
}

async fn keys(txn: &Transaction, prefix: &str, limit: usize) -> Vec<String> {
    let listed = txn.list(&KeyRange::prefix(prefix.as_bytes()), limit).await.unwrap();
    listed.into_iter().map(|(key, _)| String::from_utf8(key.to_vec()).unwrap()).collect()
}

#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T, Error>) {
    assert!(matches!(result, Err(Error::Conflict { .. })), "{result:?}");
}

#[tokio::test]
async fn a_lost_update_is_refused() {
    let server = Server::start().await;
    let client = client(server.port);
    put(&client, "n", "1").await;
    let (one, other) = (client.begin(), client.begin());
    for txn in [&one, &other] {
        assert_eq!(txn.get(b"n").await.unwrap().unwrap(), "1");
    }
    one.put("n", "one").unwrap();
    other.put("n", "other").unwrap();
    other.put("trace", "").unwrap();
    let committed = one.commit().await.unwrap().unwrap();
    assert_eq!(client.get(b"n").await.unwrap().item.mod_revision, committed);
    refused(other.commit().await);
    assert_eq!(value(&client, "n").await.unwrap(), "one");
    assert_eq!(value(&client, "trace").await, None);
    // Also of what was missing, and of what is missing now.
    for begun in [None, Some("1")] {
        let (one, other) = (client.begin(), client.begin());
        assert_eq!(other.get(b"m").await.unwrap().is_some(), begun.is_some());
        match begun {
            None => one.put("m", "1").unwrap(),
            Some(_) => one.delete("m").unwrap(),
        }
        one.commit().await.unwrap();
        other.put("trace", "").unwrap();
        refused(other.commit().await);
    }
}

#[tokio::test]
async fn write_skew_is_refused() {
    let server = Server::start().await;
    let client = client(server.port);
    put(&client, "alice", "on call").await;
    put(&client, "bob", "on call").await;
    // Each goes, seeing that the other one stays.
    let (alice, bob) = (client.begin(), client.begin());
    for txn in [&alice, &bob] {
        assert!(txn.get(b"alice").await.unwrap().is_some());
        assert!(txn.get(b"bob").await.unwrap().is_some());
    }
    alice.delete("alice").unwrap();
    bob.delete("bob").unwrap();
    alice.commit().await.unwrap();
    refused(bob.commit().await);
    assert!(value(&client, "bob").await.is_some());
}

#[tokio::test]
async fn phantoms_are_seen() {
    let server = Server::start().await;
    let client = client(server.port);
    for key in ["k1", "k3", "k5", "other"] {
        put(&client, key, "").await;
    }
    let all = konsen::client::LIST_ITEMS_MAX;
    // One that comes, one that goes, one that changes.
    for change in ["k4", "k5", "k3"] {
        let txn = client.begin();
        let listed = keys(&txn, "k", all).await;
        txn.put("count", listed.len().to_string()).unwrap();
        match change {
            "k5" => drop(client.delete(b"k5", Preconditions::default()).await.unwrap()),
            _ => put(&client, change, "new").await,
        }
        refused(txn.commit().await);
    }
    // Nothing is there, and something comes.
    let txn = client.begin();
    assert!(keys(&txn, "none", all).await.is_empty());
    put(&client, "none1", "").await;
    txn.put("count", "0").unwrap();
    refused(txn.commit().await);
    assert_eq!(value(&client, "count").await, None);
    // Neighbours, and what lies behind the last one that was asked for, do not matter; before it they do.
    for (behind, conflicts) in [("other", false), ("k9", false), ("k", false), ("k2", true)] {
        let txn = client.begin();
        assert_eq!(keys(&txn, "k1", all).await, ["k1"]);
        let range = KeyRange { start: "k1".into(), end: None };
        assert_eq!(txn.list(&range, 2).await.unwrap()[1].0, "k3");
        txn.put("first", "k1").unwrap();
        put(&client, behind, "new").await;
        match (txn.commit().await, conflicts) {
            (Ok(Some(_)), false) | (Err(Error::Conflict { .. }), true) => {}
            (outcome, _) => panic!("{behind}: {outcome:?}"),
        }
    }
}

#[tokio::test]
async fn reads_see_own_writes_and_one_revision_whatever_others_do() {
    let server = Server::start().await;
    let client = client(server.port);
    for key in ["k1", "k2", "k3", "x"] {
        put(&client, key, "old").await;
    }
    let txn = client.begin();
    assert_eq!(txn.get(b"x").await.unwrap().unwrap(), "old");
    let revision = txn.revision().unwrap();
    put(&client, "k1", "new").await;
    put(&client, "k4", "new").await;
    client.delete(b"k2", Preconditions::default()).await.unwrap();
    assert_eq!(keys(&txn, "k", 100).await, ["k1", "k2", "k3"]);
    assert_eq!(txn.get(b"k1").await.unwrap().unwrap(), "old");
    assert_eq!(txn.get(b"k4").await.unwrap(), None);
    txn.delete("k1").unwrap();
    txn.put("k0", "mine").unwrap();
    txn.put("k3", "mine").unwrap();
    txn.put(".", "mine").unwrap();
    assert_eq!(keys(&txn, "k", 100).await, ["k0", "k2", "k3"]);
    assert_eq!(keys(&txn, "k", 2).await, ["k0", "k2"]);
    assert_eq!(keys(&txn, "k1", 2).await, [""; 0]);
    assert_eq!(txn.get(b"k3").await.unwrap().unwrap(), "mine");
    assert_eq!(txn.get(b"k1").await.unwrap(), None);
    assert_eq!(txn.get(b".").await.unwrap().unwrap(), "mine");
    assert_eq!(txn.revision(), Some(revision));
    refused(txn.commit().await);
    assert_eq!(value(&client, "k0").await, None);

    // Only reads: one snapshot, with nothing to send.
    let reads = client.begin();
    assert_eq!(reads.get(b"..").await.unwrap(), None);
    put(&client, "k1", "newer").await;
    assert_eq!(reads.get(b"k1").await.unwrap().unwrap(), "new");
    assert_eq!(reads.commit().await.unwrap(), reads_at(&client).await);
    // Several first reads at once agree on a revision, and all are conditions.
    let together = client.begin();
    let range = KeyRange::prefix(b"k");
    let (x, none, all) =
        tokio::join!(together.get(b"x"), together.get(b"none"), together.list(&range, 100));
    assert_eq!((x.unwrap().unwrap(), none.unwrap()), ("old".into(), None));
    assert_eq!(all.unwrap().len(), 3);
    put(&client, "none", "").await;
    together.put("x", "mine").unwrap();
    refused(together.commit().await);
    let writes = client.begin();
    writes.put("k1", "newest").unwrap();
    assert_eq!(writes.get(b"k1").await.unwrap().unwrap(), "newest");
    put(&client, "k1", "between").await;
    writes.commit().await.unwrap();
    assert_eq!(value(&client, "k1").await.unwrap(), "newest");
}

/// The revision before the newest write.
async fn reads_at(client: &Client) -> Option<konsen::kv::Revision> {
    let newest = client.get(b"k1").await.unwrap().revision;
    Some(konsen::kv::Revision(newest.0 - 1))
}

#[tokio::test]
async fn long_ranges_are_read_whole_and_are_one_condition() {
    let server = Server::start().await;
    let client = client(server.port);
    for part in 0..11 {
        let txn = client.begin();
        for number in 0..100 {
            txn.put(format!("k{:04}", 100 * part + number), "x").unwrap();
        }
        txn.commit().await.unwrap();
    }
    let txn = client.begin();
    for number in 0..200 {
        txn.get(format!("k{number:04}").as_bytes()).await.unwrap();
    }
    txn.put("sum", "1100").unwrap();
    // So many keys apart from each other are too many conditions, one range around them is not.
    assert!(matches!(txn.commit().await, Err(Error::Usage(_))));
    let txn = client.begin();
    for number in 0..200 {
        txn.get(format!("k{number:04}").as_bytes()).await.unwrap();
    }
    assert_eq!(keys(&txn, "k", 10_000).await.len(), 1100);
    assert_eq!(keys(&txn, "k", 1050).await.len(), 1050);
    txn.put("sum", "1100").unwrap();
    txn.commit().await.unwrap();
    assert_eq!(value(&client, "sum").await.unwrap(), "1100");
}

#[tokio::test]
async fn what_meets_a_conflict_is_tried_again_until_it_is_done() {
    const CLIENTS: usize = 8;
    const EACH: usize = 10;
    let server = Server::start().await;
    let client = client(server.port);
    let retry = Retry { attempts_max: 1000, ..Retry::default() };
    let add = |txn: Transaction| async move {
        let before = txn.get(b"n").await?.unwrap_or_default();
        let before: usize = std::str::from_utf8(&before).unwrap().parse().unwrap_or(0);
        txn.put("n", (before + 1).to_string())?;
        Ok::<_, Error>(before + 1)
    };
    let tasks = (0..CLIENTS).map(|_| {
        let (client, retry) = (client.clone(), retry.clone());
        tokio::spawn(async move {
            let mut attempts = 0;
            for _ in 0..EACH {
                attempts += client.transaction(&retry, add).await.unwrap().attempts;
            }
            attempts
        })
    });
    let mut attempts = 0;
    for task in tasks.collect::<Vec<_>>() {
        attempts += task.await.unwrap();
    }
    assert_eq!(value(&client, "n").await.unwrap(), (CLIENTS * EACH).to_string());
    assert!(attempts as usize > CLIENTS * EACH, "nobody met anybody");

    // Attempts and time have an end; what the body says ends it at once.
    let (calls, calls_in) = (&AtomicUsize::new(0), client.clone());
    let client_in = &calls_in;
    let quarrel = |txn: Transaction| async move {
        calls.fetch_add(1, Ordering::Relaxed);
        txn.get(b"n").await?;
        put(client_in, "n", "0").await;
        txn.put("n", "1")
    };
    let few = Retry { attempts_max: 3, ..Retry::default() };
    refused(client.transaction(&few, quarrel).await);
    assert_eq!(calls.load(Ordering::Relaxed), 3);
    let (begun, time_max) = (Instant::now(), Duration::from_millis(300));
    let short = Retry { attempts_max: u32::MAX, time_max, ..Retry::default() };
    assert!(client.transaction(&short, quarrel).await.is_err());
    assert!(begun.elapsed() < Duration::from_secs(3));
    let own = client.transaction(&few, |_| async { Err::<(), _>(Error::Refused("no".to_owned())) });
    assert_eq!(own.await, Err(Error::Refused("no".to_owned())));
}

#[tokio::test]
async fn a_past_that_is_given_up_ends_it_and_it_is_tried_again() {
    let server = Server::start().await;
    let client = client(server.port);
    put(&client, "a", "1").await;
    let give_up = async || {
        put(&client, "other", "").await;
        client.compact(client.get(b"other").await.unwrap().revision).await.unwrap();
    };
    let txn = client.begin();
    txn.get(b"a").await.unwrap();
    txn.put("a", "2").unwrap();
    give_up().await;
    assert!(matches!(txn.commit().await, Err(Error::Compacted(_))));
    assert_eq!(value(&client, "a").await.unwrap(), "1");
    // Once for the commit and once for a read.
    let (calls, give_up, retry) = (&AtomicUsize::new(0), &give_up, Retry::default());
    let done = client.transaction(&retry, |txn| async move {
        let call = calls.fetch_add(1, Ordering::Relaxed);
        txn.get(b"a").await?;
        if call == 0 {
            give_up().await;
        }
        txn.put("a", "3")?;
        if call == 1 {
            give_up().await;
            txn.get(b"b").await?;
        }
        Ok::<_, Error>(())
    });
    assert_eq!(done.await.unwrap().attempts, 3);
    assert_eq!(value(&client, "a").await.unwrap(), "3");
}

#[tokio::test]
async fn an_unknown_outcome_is_told_and_never_tried_again() {
    // Takes each request and says nothing to it.
    let mute = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = mute.local_addr().unwrap().port();
    let (heard, hears) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for stream in mute.incoming() {
            let mut stream = stream.unwrap();
            let read = stream.read(&mut [0; 1024]).unwrap_or_default();
            // Told before the connection ends, since the client gives up with it.
            if read > 0 && heard.send(()).is_err() {
                return;
            }
            drop(stream);
        }
    });
    let calls = &AtomicUsize::new(0);
    let (client, retry) = (client(port), Retry::default());
    let lost = client.transaction(&retry, |txn| async move {
        calls.fetch_add(1, Ordering::Relaxed);
        txn.put("a", "1")
    });
    assert!(matches!(lost.await, Err(Error::Unknown(_))));
    assert_eq!((calls.load(Ordering::Relaxed), hears.try_iter().count()), (1, 1));
}
