//! Certificates that are exchanged while the network runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use konsen::net::NetError;
use konsen::raft::Body;

use crate::node::{TestNode, eventually, introduce, talk};
use crate::pki::{Authority, BOTH, Wish};

fn later(authority: &Authority, name: &str, days: i64) -> konsen::net::TlsMaterial {
    authority.issue(&Wish {
        dns: name,
        uri: &format!("spiffe://shop/node/{name}"),
        valid_for: time::Duration::days(days),
        usages: BOTH,
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_swap_under_traffic_drops_nothing() {
    let authority = Authority::new("ca");
    let a = TestNode::good(&authority, "a", 1);
    let b = Arc::new(TestNode::good(&authority, "b", 2));
    introduce(&[&a, &b]);
    talk(&a, &b).await;

    let stop = Arc::new(AtomicBool::new(false));
    let sender = {
        let (net, stop, from, to) = (a.net.clone(), stop.clone(), a.id, b.id);
        tokio::spawn(async move {
            let mut sent = 0;
            while !stop.load(Ordering::Relaxed) {
                sent += 1;
                net.send(crate::node::heartbeat(from, to, sent));
                tokio::time::sleep(Duration::from_micros(200)).await;
            }
            sent
        })
    };
    let requester = {
        let (net, stop, to) = (a.net.clone(), stop.clone(), b.id);
        tokio::spawn(async move {
            let mut sent = 0;
            while !stop.load(Ordering::Relaxed) {
                let deadline = std::time::Instant::now() + Duration::from_secs(10);
                net.request(to, bytes::Bytes::from_static(b"x"), deadline).await.unwrap();
                sent += 1;
            }
            sent
        })
    };
    for days in 2..5 {
        a.net.reload_tls(later(&authority, "a", days)).unwrap();
        b.net.reload_tls(later(&authority, "b", days)).unwrap();
        let (of_a, of_b) = (a.net.certificate_expires(), b.net.certificate_expires());
        eventually("both use the new ones", || {
            a.status_of("b").certificate_expires == of_b
                && b.status_of("a").certificate_expires == of_a
        })
        .await;
    }
    stop.store(true, Ordering::Relaxed);
    let sent: u64 = sender.await.unwrap();
    assert!(requester.await.unwrap() > 0);
    // Two connections may overtake each other, so the order is not kept, but nothing is lost.
    let mut rounds = Vec::new();
    for _ in 0..sent {
        match b.next().await.body {
            Body::Heartbeat { round, .. } => rounds.push(round),
            other => panic!("{other:?}"),
        }
    }
    rounds.sort_unstable();
    assert_eq!(rounds, (1..=sent).collect::<Vec<_>>());
    for node in [&a, &*b] {
        assert_eq!(node.net.counters().messages_dropped, 0);
        assert!(node.lost.lock().await.try_recv().is_err(), "a swap is no loss");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_useless_certificate_is_refused_and_changes_nothing() {
    let authority = Authority::new("ca");
    let (a, b) = (TestNode::good(&authority, "a", 1), TestNode::good(&authority, "b", 2));
    introduce(&[&a, &b]);
    talk(&a, &b).await;
    let expires = a.net.certificate_expires();
    let mut mixed = authority.node("a");
    mixed.key = authority.node("a").key;
    let mut empty = authority.node("a");
    empty.chain.clear();
    let mut trusting_nobody = authority.node("a");
    trusting_nobody.ca.clear();
    for material in [mixed, empty, trusting_nobody] {
        assert!(matches!(a.net.reload_tls(material), Err(NetError::Tls(_))));
    }
    assert_eq!(a.net.certificate_expires(), expires);
    talk(&a, &b).await;
}
