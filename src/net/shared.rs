//! What the tasks of a network share, and the way from an identity to a connection.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use arc_swap::ArcSwap;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use quinn::{Connection, Endpoint};
use rustls_pki_types::CertificateDer;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::admission::Admission;
use super::directory::{Directory, Slot};
use super::hello::{Addresses, Hello, Versions};
use super::identity::{self, CertifiedNode};
use super::link::{Link, LinkError};
use super::queue::Pushed;
use super::refusal::{Ending, Refusal, RefusalLog};
use super::shown::Shown;
use super::tls::{self, TlsMaterial};
use super::transfer::{Outgoing, TransferError};
use super::{
    Inbound, LinkStats, NetConfig, NetCounters, NetError, OwnFeatures, PeerStatus, RequestError,
    contest, tasks,
};
use crate::cluster::{Known, Own, Roster, Settings, removal};
use crate::kv::Serial;
use crate::raft::{ClusterId, Message, NodeId};

/// How often a message or a request is tried on another link when its own has been replaced meanwhile.
const REROUTES_MAX: usize = 3;

/// What this node says about itself.
#[derive(Debug)]
pub(super) struct OwnHello {
    pub(super) cluster: String,
    pub(super) name: String,
    pub(super) node_id: NodeId,
    pub(super) version: String,
    pub(super) addresses: Addresses,
    pub(super) settings: Settings,
    pub(super) features: OwnFeatures,
    pub(super) frame_bytes_max: usize,
    /// Tells this process from others that run, or ran, with the same identity; never 0.
    pub(super) run: u64,
}

/// What keeps a peer connected, for as long as it is to be dialled.
pub(super) type Dialler = fn(Arc<Shared>, Slot) -> BoxFuture<'static, ()>;

/// Everything that the tasks of a network share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) own: OwnHello,
    pub(super) local: SocketAddr,
    /// None once the network is shut down.
    pub(super) endpoint: Mutex<Option<Endpoint>>,
    pub(super) inbound: Arc<dyn Inbound>,
    dialler: Dialler,
    pub(super) runtime: Handle,
    pub(super) stop: CancellationToken,
    /// The network will be shut down.
    pub(super) leaving: AtomicBool,
    /// The requests of peers that are being answered.
    pub(super) answering: TaskTracker,
    /// The requests to peers that have not been answered.
    pub(super) asking: TaskTracker,
    pub(super) refusals: RefusalLog,
    pub(super) admission: Mutex<Admission>,
    /// What to dial with; a change means that the certificates were exchanged.
    pub(super) client: watch::Sender<quinn::ClientConfig>,
    /// The cluster that this node belongs to; a change is told to the peers.
    pub(super) cluster_id: watch::Sender<Option<ClusterId>>,
    pub(super) dropped: Arc<AtomicU64>,
    expires: Mutex<Option<String>>,
    /// Certificates that nobody is let in with.
    revoked: ArcSwap<BTreeSet<Serial>>,
    directory: Mutex<Directory>,
    /// Always made from the directory, under its lock.
    routes: ArcSwap<HashMap<NodeId, Arc<Link>>>,
}

impl Shared {
    pub(super) fn new(
        config: NetConfig,
        local: SocketAddr,
        endpoint: Endpoint,
        tls: tls::Settings,
        inbound: Arc<dyn Inbound>,
        dialler: Dialler,
    ) -> Shared {
        let own = Own { name: config.name.clone(), id: config.node_id };
        Shared {
            own: OwnHello {
                cluster: config.cluster,
                name: config.name,
                node_id: config.node_id,
                version: config.version,
                addresses: config.addresses,
                settings: config.settings,
                features: config.features.clone(),
                frame_bytes_max: config.frame_bytes_max,
                run: rand::random_range(1..=u64::MAX),
            },
            local,
            endpoint: Mutex::new(Some(endpoint)),
            inbound,
            dialler,
            runtime: Handle::current(),
            stop: CancellationToken::new(),
            leaving: AtomicBool::new(false),
            answering: TaskTracker::new(),
            asking: TaskTracker::new(),
            refusals: RefusalLog::default(),
            admission: Mutex::new(Admission::new(Instant::now())),
            client: watch::Sender::new(tls.client),
            cluster_id: watch::Sender::new(None),
            dropped: Arc::new(AtomicU64::new(0)),
            revoked: ArcSwap::default(),
            expires: Mutex::new(config.tls.chain.first().and_then(identity::expires)),
            directory: Mutex::new(Directory::new(
                Roster::new(own, config.configured),
                config.features,
            )),
            routes: ArcSwap::default(),
        }
    }

    /// What this node says in a hello, now.
    pub(super) fn hello(&self) -> Hello {
        Hello {
            versions: Versions::OWN,
            cluster: self.own.cluster.clone(),
            name: self.own.name.clone(),
            node_id: self.own.node_id,
            cluster_id: *self.cluster_id.borrow(),
            version: self.own.version.clone(),
            addresses: self.own.addresses.clone(),
            known: self.directory.lock().roster().told(),
            refused: None,
            settings: Some(self.own.settings),
            run: self.own.run,
            features: self.own.features.now(),
        }
    }

    /// Changes the directory under its lock, dials those who are new, and has messages follow.
    fn with_directory<T>(
        self: &Arc<Self>,
        change: impl FnOnce(&mut Directory) -> (T, Vec<Slot>),
    ) -> T {
        let mut directory = self.directory.lock();
        let (result, new) = change(&mut directory);
        for slot in new {
            let dialling = (self.dialler)(self.clone(), slot);
            let shared = self.clone();
            self.runtime.spawn(async move {
                tasks::vital(&*shared.inbound, "dialling a peer", dialling).await;
            });
        }
        let links = directory.links().map(|link| (link.node_id, link));
        self.routes.store(Arc::new(links.collect()));
        result
    }

    /// Changes what is known of who belongs.
    pub(super) fn change_roster(self: &Arc<Self>, change: impl FnOnce(&mut Roster)) {
        if self.stop.is_cancelled() {
            return;
        }
        let cluster = self.with_directory(|directory| {
            let new = directory.change(&self.stop, change);
            (directory.roster().cluster(), new)
        });
        self.cluster_id.send_if_modified(|present| {
            let changed = *present != cluster;
            *present = cluster;
            changed
        });
    }

    /// Takes in what somebody of the cluster tells of the membership.
    pub(super) fn learn(self: &Arc<Self>, told: Option<&Known>) {
        self.with_directory(|directory| ((), directory.learn(&self.stop, told)));
    }

    /// What this node knows of who belongs.
    pub(super) fn roster(&self) -> Roster {
        self.directory.lock().roster().clone()
    }

    /// Whether this node was put out of the cluster.
    pub(super) fn is_removed(&self) -> bool {
        let directory = self.directory.lock();
        removal::is_removed(directory.roster(), &directory.disowners())
    }

    /// Of a node that was put out: whether another host has its name.
    pub(super) fn is_replaced(&self) -> bool {
        let directory = self.directory.lock();
        removal::is_replaced(directory.roster(), &directory.disowners())
    }

    /// Takes in what a peer says of itself, and of who belongs. What it is in doubt about is learnt first.
    fn meet<T>(
        self: &Arc<Self>,
        shown: &Shown,
        decide: impl FnOnce(&mut Directory) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        self.with_directory(|directory| {
            // Under the lock, so that nobody comes in beside a revocation, which ends what is in the directory.
            if let Err(refusal) = self.check_revoked(&shown.certified) {
                return (Err(refusal), Vec::new());
            }
            let ours = shown.hello.cluster == self.own.cluster
                && shown.certified.cluster == self.own.cluster;
            let told = shown.hello.known.as_ref().filter(|_| ours);
            let new = directory.learn(&self.stop, told);
            (decide(directory), new)
        })
    }

    /// Checks a peer that was dialled and, if nothing speaks against it, sends on `connection` from now
    /// on. The link that it replaces, if any, still has to be drained.
    pub(super) async fn install(
        self: &Arc<Self>,
        shown: &Shown,
        slot: &Slot,
        connection: Connection,
    ) -> Result<Arc<Link>, Refusal> {
        let over = self.over(shown, &connection).await;
        let link = self.meet(shown, |directory| {
            let speaks = (&connection.clone(), &over[..]);
            directory.install(&self.own.cluster, shown, slot, speaks, || {
                Link::open(connection, shown.hello.node_id, self.own.frame_bytes_max, &self.dropped)
            })
        })?;
        self.inbound.peer_up(shown.peer());
        Ok(link)
    }

    /// The connections of another host with the identity of the one that shows itself on `connection`, if that other
    /// is heard no more.
    async fn over(&self, shown: &Shown, connection: &Connection) -> Vec<Connection> {
        let contested = self.directory.lock().contested(shown, connection);
        contest::silent(contested).await
    }

    /// Sends on `link` no more.
    pub(super) fn uninstall(self: &Arc<Self>, link: &Arc<Link>) {
        self.with_directory(|directory| (directory.uninstall(link), Vec::new()));
    }

    /// Checks a peer that dialled and, if nothing speaks against it, remembers its connection.
    pub(super) async fn admit(
        self: &Arc<Self>,
        shown: &Shown,
        connection: &Connection,
    ) -> Result<(), Refusal> {
        let over = self.over(shown, connection).await;
        let admitted = self.meet(shown, |directory| {
            directory.admit(&self.own.cluster, shown, connection, &over)
        })?;
        self.admission.lock().learn(connection.remote_address().ip());
        if admitted.news {
            self.inbound.peer_up(shown.peer());
        }
        Ok(())
    }

    /// A connection that was admitted has ended.
    pub(super) fn leave(&self, connection: &Connection) {
        self.directory.lock().leave(connection);
    }

    /// Checks what a peer that is connected says after this node, or the peer, joined a cluster.
    pub(super) fn renew(self: &Arc<Self>, shown: &Shown, slot: &Slot) -> Result<(), Refusal> {
        let admitted =
            self.meet(shown, |directory| directory.renew(&self.own.cluster, shown, slot))?;
        if admitted.news {
            self.inbound.peer_up(shown.peer());
        }
        Ok(())
    }

    /// Where a peer can be dialled, the likeliest address first; none once it is no peer any more.
    pub(super) fn ways_to(&self, slot: &Slot) -> Vec<String> {
        self.directory.lock().ways_to(slot)
    }

    /// Why there is no connection with a peer.
    pub(super) fn set_problem(self: &Arc<Self>, slot: &Slot, ending: &Ending) {
        let disowned = self.with_directory(|directory| {
            let new = directory.learn(&self.stop, ending.told.as_deref());
            (directory.set_problem(slot, ending), new)
        });
        if disowned {
            self.inbound.disowned();
        }
    }

    pub(super) fn send(&self, message: Message) {
        let mut message = message;
        for _ in 0..REROUTES_MAX {
            let routes = self.routes.load();
            let Some(link) = routes.get(&message.to) else { break };
            match link.push(message) {
                Pushed::Queued => return,
                Pushed::Full => break,
                Pushed::Closed(back) => message = back,
            }
        }
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) async fn request(
        &self,
        to: NodeId,
        body: Bytes,
        deadline: Instant,
    ) -> Result<Bytes, RequestError> {
        if deadline <= Instant::now() {
            return Err(RequestError::NotSent);
        }
        for _ in 0..REROUTES_MAX {
            let link = self.routes.load().get(&to).cloned();
            let Some(link) = link else { break };
            match link.request(&body, deadline).await {
                Ok(reply) => return Ok(reply),
                Err(LinkError::Failed(error)) => return Err(error),
                Err(LinkError::Retired) => {}
            }
        }
        Err(RequestError::NotSent)
    }

    pub(super) async fn transfer(&self, to: NodeId) -> Result<Outgoing, TransferError> {
        let link = self.routes.load().get(&to).cloned();
        let link = link.ok_or(TransferError::NotConnected)?;
        Outgoing::open(&link, self.own.frame_bytes_max).await
    }

    pub(super) fn peers(&self) -> Vec<PeerStatus> {
        self.directory.lock().status()
    }

    pub(super) fn links(&self) -> Vec<(String, Option<LinkStats>)> {
        let links = self.directory.lock().links_by_name();
        links.into_iter().map(|(name, link)| (name, link.map(|link| link.stats()))).collect()
    }

    /// What each peer said last that its configuration says.
    pub(super) fn settings(&self) -> Vec<(NodeId, Option<Settings>)> {
        self.directory.lock().settings()
    }

    /// Sends nothing any more. `stop` is cancelled already.
    pub(super) fn close_links(self: &Arc<Self>) {
        let links = self.with_directory(|directory| (directory.take_links(), Vec::new()));
        for link in links {
            link.close_queues();
        }
    }

    pub(super) fn certificate_expires(&self) -> Option<String> {
        self.expires.lock().clone()
    }

    pub(super) fn reload_tls(&self, material: &TlsMaterial) -> Result<(), NetError> {
        let settings = tls::Settings::new(material)?;
        if let Some(endpoint) = &*self.endpoint.lock() {
            endpoint.set_server_config(Some(settings.server));
        }
        *self.expires.lock() = material.chain.first().and_then(identity::expires);
        self.client.send_replace(settings.client);
        // An authority that was dropped vouches for nobody any more.
        for (name, connection) in self.directory.lock().connections() {
            if let Some(chain) = chain_of(&connection)
                && let Err(error) = settings.trust.vouches_for(&chain)
            {
                Refusal::no_longer_trusted(&name, &error).close(&connection);
            }
        }
        tracing::info!("the connections between nodes use the new certificates");
        Ok(())
    }

    /// Lets nobody in with these certificates, and ends the connections of who is.
    pub(super) fn revoke(&self, revoked: BTreeSet<Serial>) {
        if **self.revoked.load() == revoked {
            return;
        }
        self.revoked.store(Arc::new(revoked));
        for (_, connection) in self.directory.lock().connections() {
            if let Err(refusal) = self.certified(&connection) {
                tracing::warn!("{}", refusal.sentence);
                refusal.close(&connection);
            }
        }
    }

    fn check_revoked(&self, certified: &CertifiedNode) -> Result<(), Refusal> {
        match self.revoked.load().contains(&certified.serial) {
            true => Err(Refusal::revoked(&certified.name, &certified.serial)),
            false => Ok(()),
        }
    }

    /// Whom the other end's certificate names, once the handshake is over; nobody who is let in with it no more.
    pub(super) fn certified(&self, connection: &Connection) -> Result<CertifiedNode, Refusal> {
        let certified = CertifiedNode::read(&leaf_of(connection)?)
            .map_err(|error| Refusal::not_a_node(&error))?;
        self.check_revoked(&certified).map(|()| certified)
    }

    pub(super) fn counters(&self) -> NetCounters {
        NetCounters {
            messages_dropped: self.dropped.load(Ordering::Relaxed),
            refusals: self.refusals.count(),
        }
    }
}

fn chain_of(connection: &Connection) -> Option<Vec<CertificateDer<'static>>> {
    let identity = connection.peer_identity()?;
    identity.downcast::<Vec<CertificateDer<'static>>>().ok().map(|chain| *chain)
}

/// The other end's certificate, once the handshake is over.
pub(super) fn leaf_of(connection: &Connection) -> Result<CertificateDer<'static>, Refusal> {
    let leaf = chain_of(connection).and_then(|chain| chain.into_iter().next());
    leaf.ok_or_else(|| Refusal::protocol("no certificate was presented"))
}
