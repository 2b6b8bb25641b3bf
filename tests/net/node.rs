//! A node's network whose incoming side is recorded.

use std::any::Any;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use konsen::cluster::{Known, Own, Roster, Settings, stand_in};
use konsen::net::{
    Addresses, Answerer, Asking, FRAME_BYTES_MAX, Inbound, IncomingTransfer, Net, NetConfig,
    NetError, OwnFeatures, PeerHello, PeerStatus, TlsMaterial,
};
use konsen::raft::{
    Body, ClusterId, Entry, Index, LogId, Member, Membership, Message, NodeId, Payload, Term,
};
use tokio::sync::Mutex;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::pki::Authority;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A request that is never answered.
pub(crate) const HANG: &[u8] = b"hang";

/// The last piece of a transfer that is taken.
/// Whoever is asked this panics.
pub(crate) const PANIC: &[u8] = b"panic";
/// The name of a peer whose coming makes others panic.
pub(crate) const UNBEARABLE: &str = "unbearable";
pub(crate) const ENOUGH: &[u8] = b"enough";

#[derive(Debug)]
struct Recorder {
    messages: UnboundedSender<Message>,
    lost: UnboundedSender<NodeId>,
    up: UnboundedSender<PeerHello>,
    ended: UnboundedSender<&'static str>,
}

/// Answers with who asked, and what.
#[derive(Debug)]
struct Echo;

impl Answerer for Echo {
    fn answer(&self, from: &Asking, body: Bytes) -> BoxFuture<'static, Bytes> {
        let from = from.id;
        Box::pin(async move {
            if body == HANG {
                std::future::pending::<()>().await;
            }
            assert!(body != PANIC, "of a test");
            let mut reply = format!("{from}:").into_bytes();
            reply.extend_from_slice(&body);
            Bytes::from(reply)
        })
    }
}

impl Inbound for Recorder {
    fn receive(&self, message: Message) {
        let _ = self.messages.send(message);
    }

    fn unreachable(&self, peer: NodeId) {
        let _ = self.lost.send(peer);
    }

    fn peer_up(&self, peer: PeerHello) {
        assert!(peer.name != UNBEARABLE, "of a test");
        let _ = self.up.send(peer);
    }

    fn ended(&self, task: &'static str, _: &(dyn Any + Send)) {
        let _ = self.ended.send(task);
    }

    fn disowned(&self) {}

    /// Counts the bytes that come; a piece that says so ends it early.
    fn transfer(&self, from: NodeId, mut arriving: IncomingTransfer) -> BoxFuture<'static, Bytes> {
        Box::pin(async move {
            let mut bytes = 0;
            while let Ok(Some(piece)) = arriving.next().await {
                if piece == ENOUGH {
                    return Bytes::from_static(b"enough");
                }
                bytes += piece.len();
            }
            Bytes::from(format!("{from}:{bytes}"))
        })
    }
}

/// A peer, as a node is told of it.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(crate) address: String,
    /// The identity that the membership has; none where only the configuration names it.
    pub(crate) expected: Option<NodeId>,
}

type Peers = BTreeMap<String, Peer>;

/// A node.
pub(crate) struct TestNode {
    pub(crate) net: Net,
    pub(crate) name: String,
    pub(crate) id: NodeId,
    pub(crate) messages: Mutex<UnboundedReceiver<Message>>,
    pub(crate) lost: Mutex<UnboundedReceiver<NodeId>>,
    pub(crate) up: Mutex<UnboundedReceiver<PeerHello>>,
    /// The tasks of its network that panicked.
    pub(crate) ended: Mutex<UnboundedReceiver<&'static str>>,
    told: std::sync::Mutex<(Peers, Option<ClusterId>, u64)>,
}

pub(crate) fn config(name: &str, id: u64, tls: TlsMaterial) -> NetConfig {
    NetConfig {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        cluster: "shop".to_owned(),
        name: name.to_owned(),
        node_id: NodeId(id),
        version: "1.2.3".to_owned(),
        addresses: Addresses::default(),
        settings: Settings {
            value_bytes_max: 1 << 20,
            election_timeout_ms: 500,
            lease_reads: false,
        },
        features: OwnFeatures::default(),
        tls,
        configured: BTreeMap::new(),
        frame_bytes_max: FRAME_BYTES_MAX,
    }
}

impl TestNode {
    /// A node that is as it should be.
    pub(crate) fn good(authority: &Authority, name: &str, id: u64) -> TestNode {
        TestNode::start(config(name, id, authority.node(name))).unwrap()
    }

    pub(crate) fn start(config: NetConfig) -> Result<TestNode, NetError> {
        let (name, id) = (config.name.clone(), config.node_id);
        let (messages_sender, messages) = unbounded_channel();
        let (lost_sender, lost) = unbounded_channel();
        let (up_sender, up) = unbounded_channel();
        let (ended_sender, ended) = unbounded_channel();
        let recorder = Recorder {
            messages: messages_sender,
            lost: lost_sender,
            up: up_sender,
            ended: ended_sender,
        };
        let (net, listener) = Net::start(config, Arc::new(recorder))?;
        listener.accept(Arc::new(Echo));
        Ok(TestNode {
            net,
            name,
            id,
            messages: Mutex::new(messages),
            lost: Mutex::new(lost),
            up: Mutex::new(up),
            ended: Mutex::new(ended),
            told: std::sync::Mutex::default(),
        })
    }

    pub(crate) fn as_peer(&self) -> (String, Peer) {
        let address = self.net.local_addr().to_string();
        (self.name.clone(), Peer { address, expected: None })
    }

    /// Tells the node who its peers are.
    pub(crate) fn set_peers(&self, peers: Peers) {
        self.told.lock().unwrap().0 = peers;
        self.tell();
    }

    /// Tells the node that it belongs to a cluster.
    pub(crate) fn set_cluster_id(&self, cluster: Option<ClusterId>) {
        self.told.lock().unwrap().1 = cluster;
        self.tell();
    }

    fn tell(&self) {
        let mut told = self.told.lock().unwrap();
        let (peers, cluster_id, index) = &mut *told;
        *index += 1;
        let own = Own { name: self.name.clone(), id: self.id };
        let address = |(name, peer): (&String, &Peer)| (name.clone(), peer.address.clone());
        let mut roster = Roster::new(own, peers.iter().map(address).collect());
        if cluster_id.is_some() || peers.values().any(|peer| peer.expected.is_some()) {
            let named = peers.iter().filter(|(name, _)| **name != self.name);
            let mut members: BTreeMap<NodeId, Member> = named
                .map(|(name, peer)| {
                    let id = peer.expected.unwrap_or_else(|| stand_in(name));
                    (id, member(name, &peer.address, peer.expected.is_some()))
                })
                .collect();
            members.insert(self.id, member(&self.name, &self.net.local_addr().to_string(), true));
            let cluster = cluster_id.unwrap_or(ClusterId(1));
            let voters = members.keys().copied().collect();
            let now = Membership { cluster, members, voters, outgoing: None };
            let (at, term) = (Index(*index), Term(1));
            let known = Known { at, term, membership: now.clone() };
            roster.follow((Some((LogId::new(term, at), now)), Some(known)));
        }
        self.net.change_roster(|present| *present = roster);
    }

    pub(crate) fn status_of(&self, peer: &str) -> PeerStatus {
        self.net.peers().into_iter().find(|status| status.name == peer).expect("is a peer")
    }

    pub(crate) async fn connected_to(&self, peer: &TestNode) {
        let what = format!("{} connected to {}", self.name, peer.name);
        eventually(&what, || self.status_of(&peer.name).connected).await;
    }

    /// Waits until the attempts to reach `peer` fail for a reason with all of `words`.
    pub(crate) async fn troubled_by(&self, peer: &str, words: &[&str]) {
        let what = format!("{} has trouble with {peer} because of {words:?}", self.name);
        let mut problem = None;
        let found = poll(|| {
            let status = self.status_of(peer);
            problem = status.problem.filter(|_| !status.connected);
            problem.as_ref().is_some_and(|text| words.iter().all(|word| text.contains(word)))
        });
        assert!(found.await, "never happened: {what}; the problem is {problem:?}");
    }

    pub(crate) fn send(&self, to: &TestNode, round: u64) {
        self.net.send(heartbeat(self.id, to.id, round));
    }

    /// The next message, which must come.
    pub(crate) async fn next(&self) -> Message {
        within(async { self.messages.lock().await.recv().await }).await.expect("the net lives")
    }

    pub(crate) async fn nothing_received(&self) -> bool {
        self.messages.lock().await.try_recv().is_err()
    }

    pub(crate) async fn request(
        &self,
        to: &TestNode,
        body: &[u8],
    ) -> Result<Bytes, konsen::net::RequestError> {
        let body = Bytes::copy_from_slice(body);
        self.net.request(to.id, body, Instant::now() + PATIENCE).await
    }
}

/// Makes everybody everybody's peer.
pub(crate) fn introduce(nodes: &[&TestNode]) {
    let peers: Peers = nodes.iter().map(|node| node.as_peer()).collect();
    for node in nodes {
        node.set_peers(peers.clone());
    }
}

fn member(name: &str, address: &str, seen: bool) -> Member {
    Member {
        name: name.to_owned(),
        raft_address: address.to_owned(),
        http_address: String::new(),
        seen,
        promote: false,
        replaces: None,
    }
}

/// Two nodes hear each other.
pub(crate) async fn talk(a: &TestNode, b: &TestNode) {
    a.connected_to(b).await;
    b.connected_to(a).await;
    for (from, to) in [(a, b), (b, a)] {
        from.send(to, 77);
        assert_eq!(to.next().await, heartbeat(from.id, to.id, 77));
    }
}

pub(crate) fn heartbeat(from: NodeId, to: NodeId, round: u64) -> Message {
    Message {
        cluster: ClusterId(1),
        from,
        to,
        term: Term(3),
        body: Body::Heartbeat { commit: Index(5), round },
    }
}

/// An append of one entry of `bytes` bytes at `index`.
pub(crate) fn append(from: NodeId, to: NodeId, index: u64, bytes: usize) -> Message {
    let payload = Payload::Command(Bytes::from(vec![7; bytes]));
    let entries = vec![Entry { id: LogId::new(Term(3), Index(index)), payload }];
    let prev = LogId::new(Term(3), Index(index - 1));
    Message {
        cluster: ClusterId(1),
        from,
        to,
        term: Term(3),
        body: Body::Append { prev, entries, commit: Index(0) },
    }
}

pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("took too long")
}

async fn poll(mut condition: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if condition() {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    false
}

/// Waits for a condition that nothing announces.
pub(crate) async fn eventually(what: &str, condition: impl FnMut() -> bool) {
    assert!(poll(condition).await, "never happened: {what}");
}
