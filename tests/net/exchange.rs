//! Nodes that are as they should be.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use konsen::net::{
    ARRIVAL_TIMEOUT, FRAME_BYTES_MAX, IDLE_TIMEOUT, NetError, RequestError, TlsMaterial,
    TransferError,
};
use konsen::raft::{Body, ClusterId, NodeId};

use crate::node::{
    ENOUGH, HANG, PANIC, TestNode, UNBEARABLE, append, config, eventually, heartbeat, introduce,
    talk, within,
};
use crate::pki::Authority;

#[tokio::test(flavor = "multi_thread")]
async fn three_nodes_talk_in_all_directions() {
    let authority = Authority::new("ca");
    let nodes = [1, 2, 3].map(|id| TestNode::good(&authority, &format!("n{id}"), id));
    introduce(&nodes.each_ref());
    for (one, other) in [(0, 1), (0, 2), (1, 2)] {
        talk(&nodes[one], &nodes[other]).await;
    }
    let status = nodes[0].status_of("n2");
    assert_eq!(status.node_id, Some(NodeId(2)));
    assert_eq!(status.version.as_deref(), Some("1.2.3"));
    assert!(status.rtt.is_some() && status.problem.is_none());
    assert_eq!(status.certificate_expires, nodes[1].net.certificate_expires());
    assert_eq!(nodes[0].net.peers().len(), 2);
    for node in &nodes {
        node.net.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_arrives_whole_and_is_answered_and_can_be_ended_by_either_side() {
    let authority = Authority::new("ca");
    let (a, b) = (TestNode::good(&authority, "a", 1), TestNode::good(&authority, "b", 2));
    assert_eq!(a.net.transfer(NodeId(2)).await.err(), Some(TransferError::NotConnected));
    introduce(&[&a, &b]);
    a.connected_to(&b).await;
    let mut outgoing = a.net.transfer(NodeId(2)).await.unwrap();
    let piece = Bytes::from(vec![7; 1 << 20]);
    for _ in 0..40 {
        assert_eq!(outgoing.send(piece.clone()).await, Ok(true));
    }
    let too_large = outgoing.send(vec![0; FRAME_BYTES_MAX + 1].into()).await;
    assert_eq!(too_large, Err(TransferError::TooLarge));
    let reply = outgoing.finish(IDLE_TIMEOUT).await.unwrap();
    assert_eq!(reply, format!("{}:{}", NodeId(1), 40 << 20));

    // The other end has had enough, and says so while this one still sends.
    let mut outgoing = a.net.transfer(NodeId(2)).await.unwrap();
    let _ = outgoing.send(Bytes::from_static(ENOUGH)).await;
    within(async { while outgoing.send(piece.clone()).await == Ok(true) {} }).await;
    assert_eq!(outgoing.finish(IDLE_TIMEOUT).await.unwrap(), "enough");

    // The other end goes away.
    let mut outgoing = a.net.transfer(NodeId(2)).await.unwrap();
    b.net.shutdown().await;
    let ended = within(async {
        loop {
            match outgoing.send(piece.clone()).await {
                Ok(true) => {}
                other => return other,
            }
        }
    });
    assert_ne!(ended.await, Ok(true));
    a.net.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_a_stream_arrive_in_order_and_whole() {
    let authority = Authority::new("ca");
    let (a, b) = (TestNode::good(&authority, "a", 1), TestNode::good(&authority, "b", 2));
    introduce(&[&a, &b]);
    a.connected_to(&b).await;
    const APPENDS: u64 = 200;
    const HEARTBEATS: u64 = 1000;
    let net = a.net.clone();
    // From a thread that knows nothing of tokio, as the replica's.
    std::thread::spawn(move || {
        for index in 1..=APPENDS {
            let bytes = if index % 50 == 0 { 1 << 20 } else { index as usize };
            net.send(append(NodeId(1), NodeId(2), index, bytes));
        }
        for round in 1..=HEARTBEATS {
            net.send(heartbeat(NodeId(1), NodeId(2), round));
        }
    })
    .join()
    .unwrap();
    let (mut index, mut round) = (0, 0);
    while index < APPENDS || round < HEARTBEATS {
        let message = b.next().await;
        match &message.body {
            Body::Heartbeat { .. } => {
                round += 1;
                assert_eq!(message, heartbeat(NodeId(1), NodeId(2), round));
            }
            _ => {
                index += 1;
                let bytes = if index % 50 == 0 { 1 << 20 } else { index as usize };
                assert_eq!(message, append(NodeId(1), NodeId(2), index, bytes));
            }
        }
    }
    assert_eq!(a.net.counters().messages_dropped, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_answered() {
    let authority = Authority::new("ca");
    let (a, b) = (TestNode::good(&authority, "a", 1), TestNode::good(&authority, "b", 2));
    introduce(&[&a, &b]);
    a.connected_to(&b).await;
    assert_eq!(a.request(&b, b"x").await.unwrap(), "n1:x");
    assert_eq!(a.request(&b, b"").await.unwrap(), "n1:");
    let large = vec![9; 3 << 20];
    assert_eq!(a.request(&b, &large).await.unwrap().len(), large.len() + 3);
    // More than may be under way at once.
    let many = (0..3000).map(|i| {
        let (net, to) = (a.net.clone(), b.id);
        let body = Bytes::from(format!("{i}"));
        let deadline = Instant::now() + Duration::from_secs(20);
        tokio::spawn(async move { (i, net.request(to, body, deadline).await) })
    });
    for task in many.collect::<Vec<_>>() {
        let (i, reply) = task.await.unwrap();
        assert_eq!(reply.unwrap(), format!("n1:{i}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_fails_in_one_of_two_ways() {
    let authority = Authority::new("ca");
    let (a, b) = (TestNode::good(&authority, "a", 1), TestNode::good(&authority, "b", 2));
    introduce(&[&a, &b]);
    a.connected_to(&b).await;
    let soon = || Instant::now() + Duration::from_millis(200);
    let request = |to, body: &[u8]| a.net.request(to, Bytes::copy_from_slice(body), soon());
    assert_eq!(request(NodeId(9), b"x").await, Err(RequestError::NotSent));
    assert_eq!(request(b.id, HANG).await, Err(RequestError::Unknown));
    let too_large = vec![0; FRAME_BYTES_MAX + 1];
    assert_eq!(request(b.id, &too_large).await, Err(RequestError::NotSent));
    let past = a.net.request(b.id, Bytes::new(), Instant::now() - Duration::from_secs(1)).await;
    assert_eq!(past, Err(RequestError::NotSent));
    // Requests that are given up leave the connection alone.
    for _ in 0..100 {
        let body = vec![0; 2 << 20];
        let given_up = a.request(&b, &body);
        let _ = tokio::time::timeout(Duration::from_micros(500), given_up).await;
    }
    assert_eq!(a.request(&b, b"x").await.unwrap(), "n1:x");
    assert!(a.lost.lock().await.try_recv().is_err());
    // A peer that dies with the request in its hands.
    let pending = a.request(&b, HANG);
    let (reply, ()) = tokio::join!(pending, async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        b.net.shutdown().await;
    });
    assert_eq!(reply, Err(RequestError::Unknown));
    eventually("the loss is seen", || !a.status_of("b").connected).await;
    assert_eq!(request(b.id, b"x").await, Err(RequestError::NotSent));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_restarts_is_found_again() {
    let authority = Authority::new("ca");
    let (a, b) = (TestNode::good(&authority, "a", 1), TestNode::good(&authority, "b", 2));
    introduce(&[&a, &b]);
    talk(&a, &b).await;
    let listen = b.net.local_addr();
    b.net.shutdown().await;
    drop(b);
    assert_eq!(within(async { a.lost.lock().await.recv().await }).await, Some(NodeId(2)));
    assert!(!a.status_of("b").connected);
    a.net.send(heartbeat(NodeId(1), NodeId(2), 1));
    assert_eq!(a.net.counters().messages_dropped, 1);

    let mut again = None;
    eventually("the port is free again", || {
        let mut config = config("b", 2, authority.node("b"));
        config.listen = listen;
        again = TestNode::start(config).ok();
        again.is_some()
    })
    .await;
    let b = again.unwrap();
    introduce(&[&a, &b]);
    talk(&a, &b).await;
    assert!(a.lost.lock().await.try_recv().is_err(), "a loss is told once");
}

#[tokio::test(flavor = "multi_thread")]
async fn peers_learn_of_a_birth() {
    let authority = Authority::new("ca");
    let (a, b) = (TestNode::good(&authority, "a", 1), TestNode::good(&authority, "b", 2));
    introduce(&[&a, &b]);
    talk(&a, &b).await;
    assert_eq!(b.status_of("a").cluster_id, None);
    a.set_cluster_id(Some(ClusterId(5)));
    eventually("b knows", || b.status_of("a").cluster_id == Some(ClusterId(5))).await;
    let told = async {
        loop {
            let hello = b.up.lock().await.recv().await.unwrap();
            if hello.cluster_id.is_some() {
                return hello;
            }
        }
    };
    assert_eq!(within(told).await.name, "a");
    b.set_cluster_id(Some(ClusterId(5)));
    eventually("a knows", || a.status_of("b").cluster_id == Some(ClusterId(5))).await;
    talk(&a, &b).await;
}

#[tokio::test]
async fn a_taken_port_is_named() {
    let authority = Authority::new("ca");
    let a = TestNode::good(&authority, "a", 1);
    let mut config = config("b", 2, authority.node("b"));
    config.listen = a.net.local_addr();
    let Err(error) = TestNode::start(config) else { panic!("two listen at one port") };
    assert!(matches!(error, NetError::InUse { .. }));
    let expected =
        format!("the peer address {} (UDP) is in use by another process", a.net.local_addr());
    assert_eq!(error.to_string(), expected);
}

#[tokio::test]
async fn an_address_that_is_none_is_named() {
    let authority = Authority::new("ca");
    let (a, b) = (TestNode::good(&authority, "a", 1), TestNode::good(&authority, "b", 2));
    let (name, mut peer) = b.as_peer();
    peer.address = "no-such-host.invalid:1".to_owned();
    a.set_peers([(name, peer)].into());
    a.troubled_by("b", &["no-such-host.invalid:1", "cannot be looked up"]).await;
    // A corrected address is used at once.
    a.set_peers([b.as_peer()].into());
    b.set_peers([a.as_peer()].into());
    talk(&a, &b).await;
}

/// Another node `b` on a runtime of its own, which can be killed.
fn start_on_its_own(
    tls: &TlsMaterial,
    listen: SocketAddr,
) -> Option<(tokio::runtime::Runtime, TestNode)> {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut config = config("b", 2, tls.clone());
    config.listen = listen;
    let started = {
        let _within = runtime.enter();
        TestNode::start(config)
    };
    match started {
        Ok(node) => Some((runtime, node)),
        Err(_) => {
            runtime.shutdown_background();
            None
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_was_killed_is_found_again_before_the_idle_time_out() {
    let authority = Authority::new("ca");
    let certificate = authority.node("b");
    let start = |listen| start_on_its_own(&certificate, listen);
    let a = TestNode::good(&authority, "a", 1);
    let (runtime, b) = start(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    introduce(&[&a, &b]);
    talk(&a, &b).await;
    let listen = b.net.local_addr();
    // Nothing of it runs any more, so nobody is told.
    runtime.shutdown_background();
    drop(b);
    let mut again = None;
    eventually("the port is free again", || {
        again = start(listen);
        again.is_some()
    })
    .await;
    let (runtime, b) = again.unwrap();
    let began = Instant::now();
    introduce(&[&a, &b]);
    assert_eq!(within(async { a.lost.lock().await.recv().await }).await, Some(NodeId(2)));
    let lasted = began.elapsed();
    assert!(lasted < IDLE_TIMEOUT / 2, "only the idle time-out told: {lasted:?}");
    talk(&a, &b).await;
    runtime.shutdown_background();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_was_idle_at_first_still_carries() {
    let authority = Authority::new("ca");
    let (a, b) = (TestNode::good(&authority, "a", 1), TestNode::good(&authority, "b", 2));
    introduce(&[&a, &b]);
    talk(&a, &b).await;
    // Only heartbeats, for longer than a stream may take to show its kind: then the other stream.
    tokio::time::sleep(ARRIVAL_TIMEOUT + Duration::from_secs(1)).await;
    a.net.send(append(NodeId(1), NodeId(2), 1, 10));
    assert_eq!(b.next().await, append(NodeId(1), NodeId(2), 1, 10));
    a.send(&b, 2);
    assert_eq!(b.next().await, heartbeat(NodeId(1), NodeId(2), 2));
    assert!(a.lost.lock().await.try_recv().is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_over_a_request_ends_that_connection_and_another_is_made() {
    let authority = Authority::new("ca");
    let (a, b) = (TestNode::good(&authority, "a", 1), TestNode::good(&authority, "b", 2));
    introduce(&[&a, &b]);
    a.connected_to(&b).await;
    let soon = || Instant::now() + Duration::from_secs(10);
    let panicked = a.net.request(b.id, Bytes::from_static(PANIC), soon()).await;
    assert_eq!(panicked, Err(RequestError::Unknown));
    assert_eq!(within(async { a.lost.lock().await.recv().await }).await, Some(b.id));
    a.connected_to(&b).await;
    let reply = a.net.request(b.id, Bytes::from_static(b"x"), soon()).await;
    assert_eq!(reply.unwrap(), "n1:x");
    for node in [&a, &b] {
        node.net.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_task_that_nobody_else_does_the_work_of_is_told() {
    let authority = Authority::new("ca");
    let a = TestNode::good(&authority, "a", 1);
    let other = TestNode::good(&authority, UNBEARABLE, 2);
    introduce(&[&a, &other]);
    let ended = within(async { a.ended.lock().await.recv().await }).await;
    assert_eq!(ended, Some("dialling a peer"));
    for node in [&a, &other] {
        node.net.shutdown().await;
    }
}
