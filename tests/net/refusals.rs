//! Nodes that are not what they should be.

use std::time::Duration;

use konsen::kv::FeatureLevel;
use konsen::net::{NetConfig, OwnFeatures, TlsMaterial};
use konsen::raft::{ClusterId, NodeId};
use rcgen::ExtendedKeyUsagePurpose;

use crate::garbage::RawClient;
use crate::node::{TestNode, config, eventually, heartbeat, introduce, talk, within};
use crate::pki::{Authority, BOTH, Wish};

/// Two good nodes, `a` and `b`, and one called `c` that is started with `stranger`. All know each other.
/// `a` and `c` do not get together, for a reason with `at_a` in it at `a` and `at_c` at `c`.
async fn refused(
    authority: &Authority,
    stranger: NetConfig,
    at_a: &[&str],
    at_c: &[&str],
) -> [TestNode; 3] {
    let (a, b) = (TestNode::good(authority, "a", 1), TestNode::good(authority, "b", 2));
    let c = TestNode::start(stranger).unwrap();
    introduce(&[&a, &b, &c]);
    talk(&a, &b).await;
    a.troubled_by("c", at_a).await;
    c.troubled_by("a", at_c).await;
    eventually("both count it", || a.net.counters().refusals > 0 && c.net.counters().refusals > 0)
        .await;
    c.net.send(heartbeat(c.id, a.id, 666));
    a.net.send(heartbeat(a.id, c.id, 666));
    // The others hear each other still, and nothing else.
    talk(&a, &b).await;
    for node in [&a, &b, &c] {
        assert!(node.nothing_received().await, "{} received something", node.name);
    }
    [a, b, c]
}

fn node_certificate(authority: &Authority, dns: &str, uri: &str) -> TlsMaterial {
    authority.issue(&Wish { dns, uri, valid_for: time::Duration::days(1), usages: BOTH })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_authority() {
    let authority = Authority::new("ca");
    let mut material = Authority::new("other").node("c");
    // It trusts the cluster, which does not trust it.
    material.ca = vec![authority.certificate()];
    let words = "not issued by the authority of this cluster";
    refused(&authority, config("c", 3, material), &[words], &[words]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_that_does_not_know_the_level_of_the_cluster() {
    let authority = Authority::new("ca");
    let (base, next) = (FeatureLevel(1), FeatureLevel(2));
    let newer = |name: &str, id| NetConfig {
        features: OwnFeatures::new(next, next),
        ..config(name, id, authority.node(name))
    };
    let (a, b) = (TestNode::start(newer("a", 1)).unwrap(), TestNode::start(newer("b", 2)).unwrap());
    let old =
        NetConfig { features: OwnFeatures::new(base, base), ..config("c", 3, authority.node("c")) };
    let c = TestNode::start(old).unwrap();
    introduce(&[&a, &b, &c]);
    talk(&a, &b).await;
    c.troubled_by("a", &["this cluster is at feature level 2", "run a newer release"]).await;
    a.troubled_by("c", &["feature level 2", "run a newer release"]).await;
    eventually("it knows what is wrong", || {
        c.net.peers().iter().any(|peer| peer.outgrown.is_some())
    })
    .await;
    assert!(a.net.peers().iter().all(|peer| peer.outgrown.is_none()));
    assert!(c.nothing_received().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authority_of_the_same_name() {
    let authority = Authority::new("ca");
    let material = Authority::new("ca").node("c");
    let words = "not issued by the authority of this cluster";
    refused(&authority, config("c", 3, material), &[words], &[words]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_certificate() {
    let authority = Authority::new("ca");
    let material = authority.issue(&Wish {
        dns: "c",
        uri: "spiffe://shop/node/c",
        valid_for: -time::Duration::hours(1),
        usages: BOTH,
    });
    refused(&authority, config("c", 3, material), &["expired"], &["expired"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_for_another_purpose() {
    let authority = Authority::new("ca");
    let material = authority.issue(&Wish {
        dns: "c",
        uri: "spiffe://shop/node/c",
        valid_for: time::Duration::days(1),
        usages: &[ExtendedKeyUsagePurpose::CodeSigning],
    });
    refused(&authority, config("c", 3, material), &["purpose"], &["purpose"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client() {
    let authority = Authority::new("ca");
    let material = node_certificate(&authority, "c", "spiffe://shop/client/c");
    let words = "of the role \"client\"";
    refused(&authority, config("c", 3, material), &[words], &[words]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_cluster() {
    let authority = Authority::new("ca");
    let material = node_certificate(&authority, "c", "spiffe://bank/node/c");
    let mut stranger = config("c", 3, material);
    stranger.cluster = "bank".to_owned();
    refused(&authority, stranger, &["cluster", "\"bank\""], &["cluster", "\"shop\""]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_another_cluster() {
    let authority = Authority::new("ca");
    let material = node_certificate(&authority, "c", "spiffe://bank/node/c");
    let words = &["cluster", "\"bank\"", "\"shop\""];
    refused(&authority, config("c", 3, material), words, words).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_another_node() {
    let authority = Authority::new("ca");
    let stranger = config("c", 3, authority.node("b"));
    // TLS refuses it where it is dialled, the hello where it dials.
    refused(&authority, stranger, &["not valid for that node's name"], &["\"b\"", "\"c\""]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_with_the_name_of_another_node_inside() {
    let authority = Authority::new("ca");
    let material = node_certificate(&authority, "c", "spiffe://shop/node/b");
    let words = &["\"b\"", "\"c\""];
    refused(&authority, config("c", 3, material), words, words).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_certificate() {
    let authority = Authority::new("ca");
    let (a, b) = (TestNode::good(&authority, "a", 1), TestNode::good(&authority, "b", 2));
    introduce(&[&a, &b]);
    talk(&a, &b).await;
    let client = RawClient::new(&authority, None);
    let error = client.refused_by(&a).await;
    let quinn::ConnectionError::ConnectionClosed(close) = error else { panic!("{error:?}") };
    assert_eq!(u64::from(close.error_code), 0x174);
    eventually("it is counted", || a.net.counters().refusals == 1).await;
    talk(&a, &b).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wiped_data_directory() {
    let authority = Authority::new("ca");
    let (a, c) = (TestNode::good(&authority, "a", 1), TestNode::good(&authority, "c", 33));
    let (name, mut peer) = c.as_peer();
    peer.expected = Some(NodeId(3));
    a.set_peers([(name, peer.clone())].into());
    c.set_peers([a.as_peer()].into());
    let words =
        &["another identity than n3", "data directory", "konsen member replace c", "restore"];
    a.troubled_by("c", words).await;
    c.troubled_by("a", words).await;
    c.net.send(heartbeat(c.id, a.id, 666));
    assert!(a.nothing_received().await);
    // An operator replaces the member.
    peer.expected = Some(c.id);
    a.set_peers([("c".to_owned(), peer)].into());
    talk(&a, &c).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_identity_that_turns_out_wrong_while_connected() {
    let authority = Authority::new("ca");
    let (a, c) = (TestNode::good(&authority, "a", 1), TestNode::good(&authority, "c", 33));
    introduce(&[&a, &c]);
    talk(&a, &c).await;
    let (name, mut peer) = c.as_peer();
    peer.expected = Some(NodeId(3));
    a.set_peers([(name, peer)].into());
    a.troubled_by("c", &["another identity than n3"]).await;
    c.troubled_by("a", &["another identity than n3"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copied_data_directory() {
    let authority = Authority::new("ca");
    let nodes = [("a", 1), ("b", 2), ("c", 1)].map(|(n, id)| TestNode::good(&authority, n, id));
    let [a, b, c] = &nodes;
    introduce(&[a, b]);
    talk(a, b).await;
    introduce(&[a, b, c]);
    for node in [a, b] {
        let words = &["the identity of", "is a copy"];
        node.troubled_by("c", words).await;
        c.troubled_by(&node.name, words).await;
    }
    talk(a, b).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_member() {
    let authority = Authority::new("ca");
    let nodes = [("a", 1), ("b", 2), ("c", 3)].map(|(n, id)| TestNode::good(&authority, n, id));
    let [a, b, c] = &nodes;
    introduce(&[a, b, c]);
    talk(a, b).await;
    talk(a, c).await;
    a.set_peers([b.as_peer()].into());
    assert_eq!(within(async { c.lost.lock().await.recv().await }).await, Some(a.id));
    c.troubled_by("a", &["not a member"]).await;
    assert!(a.net.peers().iter().all(|peer| peer.name != "c"));
    talk(a, b).await;
    // Added again, it is let in.
    a.set_peers([b.as_peer(), c.as_peer()].into());
    talk(a, c).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_birth() {
    let authority = Authority::new("ca");
    let (a, c) = (TestNode::good(&authority, "a", 1), TestNode::good(&authority, "c", 3));
    a.set_cluster_id(Some(ClusterId(5)));
    introduce(&[&a, &c]);
    // A node that belongs to no cluster may join one.
    talk(&a, &c).await;
    c.set_cluster_id(Some(ClusterId(6)));
    let words = &["two clusters of the same name"];
    a.troubled_by("c", words).await;
    c.troubled_by("a", words).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn close_codes_are_those_agreed() {
    let authority = Authority::new("ca");
    let a = TestNode::good(&authority, "a", 1);
    a.set_cluster_id(Some(ClusterId(5)));
    let (_, mut peer) = a.as_peer();
    peer.expected = Some(NodeId(3));
    a.set_peers([("c".to_owned(), peer)].into());
    let client = RawClient::new(&authority, Some(authority.node("c")));
    let stranger = RawClient::new(&authority, Some(authority.node("z")));
    let closes = [
        (2, client.closed_after_hello(&a, b"\x08\x09").await),
        (3, client.closed_after_hello(&a, b"\x01\x01\x04shop\x01c\x04\x00\x011").await),
        (4, client.closed_after_hello(&a, b"\x01\x01\x04bank\x01c\x03\x00\x011").await),
        (4, client.closed_after_hello(&a, b"\x01\x01\x04shop\x01c\x03\x01\x06\x011").await),
        (5, client.closed_after_hello(&a, b"\x01\x01\x04shop\x01b\x03\x00\x011").await),
        (5, stranger.closed_after_hello(&a, b"\x01\x01\x04shop\x01z\x09\x00\x011").await),
        (6, client.closed_after_hello(&a, b"\x01\x01\x04shop").await),
    ];
    for (code, close) in closes {
        assert_eq!(close.error_code.into_inner(), code, "{close}");
        assert!(close.reason.len() > 20);
    }
    a.net.shutdown().await;
    // Somebody who is let in hears of the end, too.
    let b = TestNode::good(&authority, "b", 2);
    b.set_peers([("c".to_owned(), client.as_peer())].into());
    let connection = client.greet(&b, 3).await;
    tokio::time::timeout(Duration::from_secs(5), b.net.shutdown()).await.unwrap();
    let error = within(connection.closed()).await;
    let quinn::ConnectionError::ApplicationClosed(close) = error else { panic!("{error:?}") };
    assert_eq!(close.error_code.into_inner(), 1);
}
