//! What no node sends.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;

use konsen::net::{ALPN, TlsMaterial};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ApplicationClose, ClientConfig, Connection, ConnectionError, Endpoint};
use rustls::crypto::aws_lc_rs;
use rustls::{RootCertStore, version};

use crate::node::{Peer, TestNode, eventually, heartbeat, introduce, talk, within};
use crate::pki::Authority;

/// A QUIC client that does as the test says.
pub(crate) struct RawClient {
    endpoint: Endpoint,
}

impl RawClient {
    pub(crate) fn new(authority: &Authority, material: Option<TlsMaterial>) -> RawClient {
        let mut endpoint = Endpoint::client(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        endpoint.set_default_client_config(RawClient::settings(authority, material));
        RawClient { endpoint }
    }

    /// What a client dials with.
    pub(crate) fn settings(authority: &Authority, material: Option<TlsMaterial>) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(authority.certificate()).unwrap();
        let builder =
            rustls::ClientConfig::builder_with_provider(aws_lc_rs::default_provider().into())
                .with_protocol_versions(&[&version::TLS13])
                .unwrap()
                .with_root_certificates(roots);
        let mut tls = match material {
            Some(material) => builder.with_client_auth_cert(material.chain, material.key).unwrap(),
            None => builder.with_no_client_auth(),
        };
        tls.alpn_protocols = vec![ALPN.to_vec()];
        ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()))
    }

    pub(crate) fn as_peer(&self) -> Peer {
        Peer { address: self.endpoint.local_addr().unwrap().to_string(), expected: None }
    }

    async fn connect(&self, node: &TestNode) -> Result<Connection, ConnectionError> {
        within(self.endpoint.connect(node.net.local_addr(), &node.name).unwrap()).await
    }

    /// How `node` ends the connection.
    pub(crate) async fn refused_by(&self, node: &TestNode) -> ConnectionError {
        match self.connect(node).await {
            Ok(connection) => within(connection.closed()).await,
            Err(error) => error,
        }
    }

    /// Writes `bytes` to a first stream, framed as a hello, and returns how the connection is closed.
    pub(crate) async fn closed_after_hello(
        &self,
        node: &TestNode,
        bytes: &[u8],
    ) -> ApplicationClose {
        let connection = self.connect(node).await.unwrap();
        let (mut send, _receive) = connection.open_bi().await.unwrap();
        send.write_all(&[1]).await.unwrap();
        send.write_all(&framed(bytes)).await.unwrap();
        send.finish().unwrap();
        closed(&connection).await
    }

    /// Says a correct hello as node `c` with the identity `id` (below 128), and awaits the answer.
    pub(crate) async fn greet(&self, node: &TestNode, id: u8) -> Connection {
        let connection = self.connect(node).await.unwrap();
        let (mut send, mut receive) = connection.open_bi().await.unwrap();
        let mut hello = b"\x01\x01\x04shop\x01c".to_vec();
        hello.extend_from_slice(&[id, 0, 1, b'1']);
        send.write_all(&[1]).await.unwrap();
        send.write_all(&framed(&hello)).await.unwrap();
        send.finish().unwrap();
        assert!(!within(receive.read_to_end(4096)).await.unwrap().is_empty());
        connection
    }
}

async fn closed(connection: &Connection) -> ApplicationClose {
    match within(connection.closed()).await {
        ConnectionError::ApplicationClosed(close) => close,
        other => panic!("{other:?}"),
    }
}

fn framed(body: &[u8]) -> Vec<u8> {
    let mut frame = u32::try_from(body.len()).unwrap().to_le_bytes().to_vec();
    frame.extend_from_slice(&crc32fast::hash(body).to_le_bytes());
    frame.extend_from_slice(body);
    frame
}

#[tokio::test(flavor = "multi_thread")]
async fn datagrams_that_are_no_quic() {
    let authority = Authority::new("ca");
    let (a, b) = (TestNode::good(&authority, "a", 1), TestNode::good(&authority, "b", 2));
    introduce(&[&a, &b]);
    talk(&a, &b).await;
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    for round in 0..2000u32 {
        let length = 1 + (round as usize * 37) % 1400;
        let datagram: Vec<u8> =
            (0..length).map(|i| (i as u32 * 31 + round * 17).to_le_bytes()[0]).collect();
        socket.send_to(&datagram, a.net.local_addr()).unwrap();
    }
    talk(&a, &b).await;
    assert!(a.lost.lock().await.try_recv().is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_after_the_handshake() {
    let authority = Authority::new("ca");
    let (a, b) = (TestNode::good(&authority, "a", 1), TestNode::good(&authority, "b", 2));
    let client = RawClient::new(&authority, Some(authority.node("c")));
    let c = ("c".to_owned(), client.as_peer());
    a.set_peers([b.as_peer(), c].into());
    b.set_peers([a.as_peer()].into());
    talk(&a, &b).await;

    // Before a hello.
    let connection = client.connect(&a).await.unwrap();
    let (mut send, _receive) = connection.open_bi().await.unwrap();
    send.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    assert_eq!(closed(&connection).await.error_code.into_inner(), 6);

    let good = postcard::to_stdvec(&heartbeat(konsen::raft::NodeId(3), a.id, 1)).unwrap();
    let from_other = postcard::to_stdvec(&heartbeat(b.id, a.id, 666)).unwrap();
    let to_other = postcard::to_stdvec(&heartbeat(konsen::raft::NodeId(3), b.id, 666)).unwrap();
    let mut wrong_checksum = framed(&good);
    wrong_checksum[5] ^= 1;
    // Of what follows it, none is delivered.
    let streams: [(&str, Vec<u8>); 6] = [
        ("an unknown kind", vec![99]),
        ("a frame above the limit", [&[3][..], &u32::MAX.to_le_bytes(), &[0; 4]].concat()),
        ("a wrong checksum", [&[3][..], &wrong_checksum].concat()),
        ("no message", [&[3][..], &framed(b"\xff\xff\xff")].concat()),
        ("another's message", [&[3][..], &framed(&from_other)].concat()),
        ("a message to another", [&[3][..], &framed(&to_other)].concat()),
    ];
    for (what, bytes) in streams {
        let connection = client.greet(&a, 3).await;
        let mut send = connection.open_uni().await.unwrap();
        send.write_all(&bytes).await.unwrap();
        assert_eq!(closed(&connection).await.error_code.into_inner(), 6, "{what}");
    }
    // The same, but right.
    let connection = client.greet(&a, 3).await;
    let mut send = connection.open_uni().await.unwrap();
    send.write_all(&[&[3][..], &framed(&good)].concat()).await.unwrap();
    assert_eq!(a.next().await, heartbeat(konsen::raft::NodeId(3), a.id, 1));

    // Requests: too large, and cut off, which is no offence.
    let (mut send, mut receive) = connection.open_bi().await.unwrap();
    send.write_all(&[2, 9, 0, 0, 0, 0, 0]).await.unwrap();
    send.finish().unwrap();
    assert!(within(receive.read_to_end(100)).await.unwrap().is_empty());
    assert!(connection.close_reason().is_none());
    let (mut send, _receive) = connection.open_bi().await.unwrap();
    send.write_all(&[2, 255, 255, 255, 255, 0, 0, 0, 0]).await.unwrap();
    assert_eq!(closed(&connection).await.error_code.into_inner(), 6);

    assert!(a.nothing_received().await);
    talk(&a, &b).await;
    eventually("it is counted", || a.net.counters().refusals >= 8).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_that_says_nothing() {
    let authority = Authority::new("ca");
    let (a, b) = (TestNode::good(&authority, "a", 1), TestNode::good(&authority, "b", 2));
    let client = RawClient::new(&authority, Some(authority.node("c")));
    let connecting: Vec<_> =
        (0..60).map(|_| client.endpoint.connect(a.net.local_addr(), "a").unwrap()).collect();
    let mut silent = Vec::new();
    for connecting in connecting {
        // One address has few places.
        silent.extend(within(connecting).await.ok());
    }
    assert!((1..60).contains(&silent.len()), "{} have a place", silent.len());
    introduce(&[&a, &b]);
    talk(&a, &b).await;
    for connection in silent {
        within(connection.closed()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_connects_again_and_again_is_served_a_few_times_at_once() {
    let authority = Authority::new("ca");
    let (a, b) = (TestNode::good(&authority, "a", 1), TestNode::good(&authority, "b", 2));
    let client = RawClient::new(&authority, Some(authority.node("c")));
    let c = ("c".to_owned(), client.as_peer());
    a.set_peers([b.as_peer(), c].into());
    b.set_peers([a.as_peer()].into());
    talk(&a, &b).await;
    let mut connections = Vec::new();
    for _ in 0..10 {
        connections.push(client.greet(&a, 3).await);
    }
    // The oldest gave way, each with the reason; the four newest stay.
    for old in &connections[..6] {
        let close = closed(old).await;
        assert_eq!(close.error_code.into_inner(), 6);
        assert!(String::from_utf8_lossy(&close.reason).contains("too many connections"));
    }
    assert!(connections[6..].iter().all(|new| new.close_reason().is_none()));
    talk(&a, &b).await;
}
