//! The network between nodes: mutually authenticated QUIC.
//!
//! A node has one UDP socket. It dials each of its peers, and sends only on connections that it dialled;
//! what comes in on connections that others dialled goes to [`Inbound`] and [`Answerer`]. A connection counts only after
//! both ends have checked each other: the chain to the cluster's authority, the one URI name
//! `spiffe://CLUSTER/node/NAME` in the certificate, the name against the membership, the identity of the
//! data directory against the one that the membership records, and the cluster that each belongs to.
//!
//! Streams of a connection, all opened by the side that dialled; the first byte is the kind:
//!
//! | kind | direction | carries |
//! |---|---|---|
//! | 1 | both | a hello and its answer; the first stream, and again when a node joined a cluster |
//! | 2 | both | one request and its reply |
//! | 3 | one way | messages of the protocol; one stream for appends, one of higher priority for the rest |
//! | 4 | both | something large in pieces, of lower priority, and one reply |
//!
//! Everything is framed, see [`frame`]. Nothing here promises delivery: the protocol repeats what is lost.

mod accept;
mod admission;
mod contest;
mod dial;
mod directory;
pub mod frame;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod hello;
mod identity;
mod link;
mod queue;
mod refusal;
mod reset;
mod shared;
mod shown;
mod socket;
mod stream;
mod tasks;
mod tls;
mod transfer;

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use rustls_pki_types::CertificateDer;

use crate::cluster::{Features, Known, Roster, Seat, Settings};
use crate::kv::{FeatureLevel, Serial};
use crate::raft::{ClusterId, Message, NodeId};
use shared::Shared;

pub use accept::ARRIVAL_TIMEOUT;
pub use hello::{Addresses, WIRE_VERSION_MAX, WIRE_VERSION_MIN};
pub use refusal::CloseCode;
pub use tls::{ALPN, IDLE_TIMEOUT, TlsMaterial};
pub use transfer::{IncomingTransfer, Outgoing, TransferError};

/// The largest body of a frame unless configured otherwise: well above the largest append.
pub const FRAME_BYTES_MAX: usize = 8 << 20;
/// The most requests to one peer that are under way; more wait, within their deadlines.
pub const REQUESTS_MAX: usize = 1024;
/// How long [`Net::shutdown`] waits for answers on their way to peers.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(500);
/// How long [`Net::shutdown`] waits for peers to hear of it.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(2);

/// What a node takes from its peers. Called on the network's threads; must not block.
pub trait Inbound: fmt::Debug + Send + Sync + 'static {
    /// A message came, from the peer that `message.from` names and to this node.
    fn receive(&self, message: Message);

    /// The connection to a peer was lost. Called once for each loss.
    fn unreachable(&self, peer: NodeId);

    /// A peer can be sent to from now on, or has become part of a cluster since.
    fn peer_up(&self, peer: PeerHello);

    /// A peer says that this node is no member.
    fn disowned(&self);

    /// Takes in something large that a peer sends, and answers it. The future is dropped if the
    /// connection ends.
    fn transfer(&self, from: NodeId, arriving: IncomingTransfer) -> BoxFuture<'static, Bytes>;

    /// A task of the network has panicked that nobody else does the work of.
    fn ended(&self, task: &'static str, panic: &(dyn Any + Send));
}

/// Who answers what peers ask. Called on the network's threads; must not block.
pub trait Answerer: fmt::Debug + Send + Sync + 'static {
    /// Answers a request of a peer. The future is run to its end even if the peer gives up.
    fn answer(&self, from: &Asking, body: Bytes) -> BoxFuture<'static, Bytes>;
}

/// A peer that asks something, as its connection shows it.
#[derive(Clone, Debug)]
pub struct Asking {
    /// Its identity.
    pub id: NodeId,
    /// The certificate that it showed.
    pub certificate: Arc<CertificateDer<'static>>,
}

/// What a peer said about itself, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerHello {
    /// Its name.
    pub name: String,
    /// The identity of its data directory.
    pub node_id: NodeId,
    /// The cluster that it belongs to, if it does.
    pub cluster_id: Option<ClusterId>,
    /// The release of its software.
    pub version: String,
    /// Where it says that it is reached.
    pub addresses: Addresses,
    /// What its configuration says that should be the same everywhere, if it says so.
    pub settings: Option<Settings>,
    /// What it says of feature levels.
    pub features: Features,
}

/// What a network is started with.
#[derive(Clone, Debug)]
pub struct NetConfig {
    /// Where to listen and to send from (UDP). Port 0 takes any.
    pub listen: SocketAddr,
    /// The cluster's name.
    pub cluster: String,
    /// The node's name.
    pub name: String,
    /// The identity of the node's data directory.
    pub node_id: NodeId,
    /// The release of the software, shown to peers.
    pub version: String,
    /// Where this node is reached, shown to peers.
    pub addresses: Addresses,
    /// What the configuration says that should be the same everywhere, shown to peers.
    pub settings: Settings,
    /// What this node says of feature levels, shown to peers and decided by.
    pub features: OwnFeatures,
    /// Certificate, key and authorities.
    pub tls: TlsMaterial,
    /// The servers of the configuration, by name: where each listens for peers, `host:port` (UDP).
    pub configured: BTreeMap<String, String>,
    /// The largest body of a frame in bytes: what the largest configuration that a peer may have asks for. See
    /// [`FRAME_BYTES_MAX`].
    pub frame_bytes_max: usize,
}

/// The highest feature level that a node knows, and the cluster's as the node has it at any time: whoever applies the log
/// keeps that up to date.
#[derive(Clone, Debug)]
pub struct OwnFeatures {
    /// The highest level.
    pub highest: FeatureLevel,
    level: Arc<AtomicU32>,
}

impl Default for OwnFeatures {
    /// Of one that knows the base alone.
    fn default() -> OwnFeatures {
        OwnFeatures::new(FeatureLevel::BASE, FeatureLevel::BASE)
    }
}

impl OwnFeatures {
    /// Of a node that knows all levels up to `highest`, in a cluster at the `level`.
    pub fn new(highest: FeatureLevel, level: FeatureLevel) -> OwnFeatures {
        OwnFeatures { highest, level: Arc::new(AtomicU32::new(level.0)) }
    }

    /// The cluster is at the `level` now.
    pub fn reached(&self, level: FeatureLevel) {
        self.level.store(level.0, Ordering::Relaxed);
    }

    /// What to say now.
    pub fn now(&self) -> Features {
        let level = FeatureLevel(self.level.load(Ordering::Relaxed));
        Features { level, highest: self.highest }
    }
}

/// How things stand with a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// Its identity as the membership has it, or the stand-in that waits for it.
    pub seat: Seat,
    /// Its name.
    pub name: String,
    /// The identity that it showed last.
    pub node_id: Option<NodeId>,
    /// Whether it can be sent to.
    pub connected: bool,
    /// The cluster that it belongs to, as it said last.
    pub cluster_id: Option<ClusterId>,
    /// The release of its software, as it said last.
    pub version: Option<String>,
    /// Where it is reached, as it said last.
    pub addresses: Option<Addresses>,
    /// What its configuration says that should be the same everywhere, as it said last.
    pub settings: Option<Settings>,
    /// What it said of feature levels last.
    pub features: Option<Features>,
    /// When the certificate that it showed last expires, RFC 3339.
    pub certificate_expires: Option<String>,
    /// The serial number of that certificate.
    pub certificate_serial: Option<Serial>,
    /// The round trip time as QUIC estimates it, while connected.
    pub rtt: Option<Duration>,
    /// Why it is not connected, as a sentence for the operator.
    pub problem: Option<String>,
    /// The same, if it is that this node's release does not know the cluster's feature level.
    pub outgrown: Option<String>,
    /// That another host with its identity was refused a moment ago, as a sentence for the operator.
    pub copy: Option<String>,
}

/// What QUIC tells of the connection to a peer that this node dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkStats {
    /// The round trip time.
    pub rtt: Duration,
    /// The largest datagram that gets through, in bytes.
    pub mtu: u16,
    /// Packets that were lost.
    pub lost_packets: u64,
    /// Bytes sent, with all that goes around them.
    pub sent_bytes: u64,
    /// Bytes received.
    pub received_bytes: u64,
}

/// What happened since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NetCounters {
    /// Messages dropped because no connection, or no room, was there.
    pub messages_dropped: u64,
    /// Connections that this node or its counterpart refused.
    pub refusals: u64,
}

/// Why a request has no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The peer certainly did not begin with it.
    #[error("the request could not be sent")]
    NotSent,
    /// The peer may have carried it out.
    #[error("the request was sent, and no reply came")]
    Unknown,
}

/// Why the network could not be started, or was given something that it cannot use.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// The port is taken.
    #[error("the peer address {address} (UDP) is in use by another process")]
    InUse {
        /// What was to be listened at.
        address: SocketAddr,
    },
    /// The socket could not be opened.
    #[error("cannot listen for peers at {address} (UDP): {error}")]
    Bind {
        /// What was to be listened at.
        address: SocketAddr,
        /// What the system says.
        error: io::Error,
    },
    /// Certificate, key or authorities are not usable.
    #[error("the certificates for the connections between nodes cannot be used: {0}")]
    Tls(String),
}

/// A running network. Clones are handles of the same.
#[derive(Clone)]
pub struct Net {
    shared: Arc<Shared>,
}

/// The door of a network that has its port, and has let nobody in yet: those who answer peers may need the network, so
/// it is there before them.
#[must_use = "peers that dial wait until they are accepted"]
pub struct Listener {
    shared: Arc<Shared>,
    endpoint: quinn::Endpoint,
}

impl Listener {
    /// Lets peers in from now on, until [`Net::shutdown`].
    pub fn accept(self, answerer: Arc<dyn Answerer>) {
        let Listener { shared, endpoint } = self;
        shared.runtime.clone().spawn(async move {
            let accepting = accept::accept(&shared, endpoint, answerer);
            tasks::vital(&*shared.inbound, "accepting peers", accepting).await;
        });
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener").field("local", &self.shared.local).finish_non_exhaustive()
    }
}

impl Net {
    /// Takes the port, and knows no peers yet. Call it within a tokio runtime, on which the network then runs
    /// until [`Net::shutdown`]. It can send from now on; peers come in once [`Listener::accept`] is called.
    pub fn start(
        config: NetConfig,
        inbound: Arc<dyn Inbound>,
    ) -> Result<(Net, Listener), NetError> {
        let settings = tls::Settings::new(&config.tls)?;
        let socket = socket::bind(config.listen)?;
        let bind_error = |error| NetError::Bind { address: config.listen, error };
        let local = socket.local_addr().map_err(bind_error)?;
        let mut endpoint_config = reset::endpoint_config(&config.tls.key);
        endpoint_config
            .max_udp_payload_size(tls::DATAGRAM_BYTES_MAX)
            .map_err(|error| NetError::Tls(format!("the size of datagrams: {error}")))?;
        let endpoint = quinn::Endpoint::new(
            endpoint_config,
            Some(settings.server.clone()),
            socket,
            Arc::new(quinn::TokioRuntime),
        )
        .map_err(bind_error)?;
        let shared = Arc::new(Shared::new(
            config,
            local,
            endpoint.clone(),
            settings,
            inbound,
            |shared, slot| Box::pin(async move { dial::keep_connected(&shared, slot).await }),
        ));
        Ok((Net { shared: shared.clone() }, Listener { shared, endpoint }))
    }

    /// Where the network listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.shared.local
    }

    /// Sends `message` to the node that it names. Never blocks, may be called from any thread. The
    /// message is dropped, and counted, if that node is not connected or too much waits for it.
    pub fn send(&self, message: Message) {
        self.shared.send(message);
    }

    /// Asks a peer and waits for its reply, until `deadline`.
    pub async fn request(
        &self,
        to: NodeId,
        body: Bytes,
        deadline: Instant,
    ) -> Result<Bytes, RequestError> {
        let _asking = self.shared.asking.token();
        self.shared.request(to, body, deadline).await
    }

    /// Begins to send something large to a peer, on a stream of its own.
    pub async fn transfer(&self, to: NodeId) -> Result<Outgoing, TransferError> {
        self.shared.transfer(to).await
    }

    /// How things stand with each peer, by name.
    pub fn peers(&self) -> Vec<PeerStatus> {
        self.shared.peers()
    }

    /// The connection to each peer, by name; none while it cannot be sent to.
    pub fn links(&self) -> Vec<(String, Option<LinkStats>)> {
        self.shared.links()
    }

    /// What each peer said last that its configuration says, whether or not it is connected now; none if it did not say.
    pub fn settings(&self) -> Vec<(NodeId, Option<Settings>)> {
        self.shared.settings()
    }

    /// Changes what this node knows of who belongs to the cluster. New peers are dialled; the connections of
    /// those that do not belong any more are closed, and so are those with an identity that is not the one
    /// expected. Once the node belongs to a cluster, the peers are told.
    pub fn change_roster(&self, change: impl FnOnce(&mut Roster)) {
        self.shared.change_roster(change);
    }

    /// Takes in what a member of the cluster tells of the membership; older news changes nothing.
    pub fn learn(&self, told: &Known) {
        self.shared.learn(Some(told));
    }

    /// What this node knows of who belongs.
    pub fn roster(&self) -> Roster {
        self.shared.roster()
    }

    /// Whether this node was put out of the cluster; see [`crate::cluster::removal`].
    pub fn is_removed(&self) -> bool {
        self.shared.is_removed()
    }

    /// Of a node that was put out: whether another host has its name, or is to have it.
    pub fn is_replaced(&self) -> bool {
        self.shared.is_replaced()
    }

    /// When this node's certificate expires, RFC 3339.
    pub fn certificate_expires(&self) -> Option<String> {
        self.shared.certificate_expires()
    }

    /// Uses other certificates from now on. New connections replace the present ones one by one;
    /// nothing that is under way is lost.
    pub fn reload_tls(&self, material: TlsMaterial) -> Result<(), NetError> {
        self.shared.reload_tls(&material)
    }

    /// Certificates with these serial numbers are no peer's any more, and their connections end.
    pub fn revoke(&self, revoked: BTreeSet<Serial>) {
        self.shared.revoke(revoked);
    }

    /// What happened since the start.
    pub fn counters(&self) -> NetCounters {
        self.shared.counters()
    }

    /// Says that [`Net::shutdown`] will come: from now on answers to peers are seen off to the last byte.
    pub fn leave(&self) {
        self.shared.leaving.store(true, Ordering::Relaxed);
    }

    /// Waits a moment for answers that peers are owed, and for those that they owe, tells the peers, closes all
    /// connections and the socket.
    pub async fn shutdown(&self) {
        self.leave();
        let Shared { answering, asking, .. } = &*self.shared;
        answering.close();
        asking.close();
        let answered = async { tokio::join!(answering.wait(), asking.wait()) };
        if tokio::time::timeout(ANSWER_TIMEOUT, answered).await.is_err() {
            tracing::debug!("not every request of a peer, or to one, has been answered");
        }
        self.shared.stop.cancel();
        self.shared.close_links();
        let Some(endpoint) = self.shared.endpoint.lock().take() else { return };
        endpoint.close(CloseCode::ShuttingDown.as_varint(), b"the node is shutting down");
        if tokio::time::timeout(SHUTDOWN_TIMEOUT, endpoint.wait_idle()).await.is_err() {
            tracing::debug!("not every peer has confirmed the end of its connection");
        }
    }
}

impl fmt::Debug for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Net")
            .field("name", &self.shared.own.name)
            .field("local", &self.shared.local)
            .finish_non_exhaustive()
    }
}
