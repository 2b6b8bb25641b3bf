//! Who the peers are, how things stand with each, and the way from an identity to a connection.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use arc_swap::ArcSwap;
use bytes::Bytes;
use parking_lot::Mutex;
use quinn::{Connection, Endpoint};
use rustls_pki_types::CertificateDer;
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::hello::{Addresses, Hello, Versions};
use super::identity::{self, CertifiedNode};
use super::link::{Link, LinkError};
use super::queue::Pushed;
use super::refusal::{Ending, Refusal, RefusalLog};
use super::tls::{Settings, TlsMaterial};
use super::transfer::{Outgoing, TransferError};
use super::{
    Inbound, NetConfig, NetCounters, NetError, Peer, PeerHello, PeerStatus, RequestError, dial,
};
use crate::raft::{ClusterId, Message, NodeId};

/// The most connections of one peer that are served at once: the present one and those that it is about
/// to give up.
const ACCEPTED_MAX: usize = 4;
/// How often a message or a request is tried on another link when its own has been replaced meanwhile.
const REROUTES_MAX: usize = 3;

/// What this node says about itself.
#[derive(Debug)]
pub(super) struct Own {
    pub(super) cluster: String,
    pub(super) name: String,
    pub(super) node_id: NodeId,
    pub(super) version: String,
    pub(super) addresses: Addresses,
    pub(super) frame_bytes_max: usize,
}

/// Everything that the tasks of a network share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) own: Own,
    pub(super) local: SocketAddr,
    /// None once the network is shut down.
    pub(super) endpoint: Mutex<Option<Endpoint>>,
    pub(super) inbound: Arc<dyn Inbound>,
    pub(super) runtime: Handle,
    pub(super) stop: CancellationToken,
    /// The network will be shut down.
    pub(super) leaving: AtomicBool,
    /// The requests of peers that are being answered.
    pub(super) answering: TaskTracker,
    pub(super) refusals: RefusalLog,
    /// What to dial with; a change means that the certificates were exchanged.
    pub(super) client: watch::Sender<quinn::ClientConfig>,
    pub(super) born: watch::Sender<Option<ClusterId>>,
    pub(super) dropped: Arc<AtomicU64>,
    expires: Mutex<Option<String>>,
    directory: Mutex<BTreeMap<String, Entry>>,
    /// Always made from the directory, under its lock.
    routes: ArcSwap<HashMap<NodeId, Arc<Link>>>,
}

/// One peer.
#[derive(Debug)]
struct Entry {
    peer: Peer,
    known: Option<Known>,
    link: Option<Arc<Link>>,
    accepted: Vec<Connection>,
    /// Cuts the wait before the next attempt to connect short.
    wake: Arc<Notify>,
    stop: CancellationToken,
    problem: Option<String>,
    /// Said last that this node is no member.
    disowns: bool,
    /// Where it was heard from last.
    heard_from: Option<SocketAddr>,
}

/// What a peer showed last.
#[derive(Clone, Debug)]
struct Known {
    hello: PeerHello,
    certificate_expires: String,
}

/// A peer's hello and certificate, both seen by the one who checks them.
#[derive(Debug)]
pub(super) struct Shown {
    pub(super) certified: CertifiedNode,
    pub(super) hello: Hello,
}

impl Shown {
    fn known(&self) -> Known {
        let Hello { name, node_id, born, version, addresses, .. } = self.hello.clone();
        Known {
            hello: PeerHello { name, node_id, born, version, addresses },
            certificate_expires: self.certified.expires.clone(),
        }
    }
}

impl Entry {
    /// Whether the identity is this peer's, by the membership or because it is connected with it.
    fn is_known_by(&self, id: NodeId) -> bool {
        let connected = self.link.is_some() || !self.accepted.is_empty();
        let shown = self.known.as_ref().filter(|_| connected).map(|known| known.hello.node_id);
        self.peer.expected == Some(id) || shown == Some(id)
    }

    fn close(&mut self, refusal: &Refusal) {
        if let Some(link) = &self.link {
            refusal.close(&link.connection);
            link.close_queues();
        }
        for connection in self.accepted.drain(..) {
            refusal.close(&connection);
        }
    }
}

impl Shared {
    pub(super) fn new(
        config: NetConfig,
        local: SocketAddr,
        endpoint: Endpoint,
        settings: Settings,
        inbound: Arc<dyn Inbound>,
    ) -> Shared {
        Shared {
            own: Own {
                cluster: config.cluster,
                name: config.name,
                node_id: config.node_id,
                version: config.version,
                addresses: config.addresses,
                frame_bytes_max: config.frame_bytes_max,
            },
            local,
            endpoint: Mutex::new(Some(endpoint)),
            inbound,
            runtime: Handle::current(),
            stop: CancellationToken::new(),
            leaving: AtomicBool::new(false),
            answering: TaskTracker::new(),
            refusals: RefusalLog::default(),
            client: watch::Sender::new(settings.client),
            born: watch::Sender::new(None),
            dropped: Arc::new(AtomicU64::new(0)),
            expires: Mutex::new(config.tls.chain.first().and_then(identity::expires)),
            directory: Mutex::new(BTreeMap::new()),
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
            born: *self.born.borrow(),
            version: self.own.version.clone(),
            addresses: self.own.addresses.clone(),
        }
    }

    /// Decides about a peer that has shown itself. `dialled` is the name of the peer that was called.
    fn check(
        &self,
        directory: &BTreeMap<String, Entry>,
        shown: &Shown,
        dialled: Option<&str>,
    ) -> Result<(), Refusal> {
        let Shown { certified, hello } = shown;
        let name = hello.name.as_str();
        for cluster in [&certified.cluster, &hello.cluster] {
            if *cluster != self.own.cluster {
                return Err(Refusal::cluster_name(&self.own.cluster, cluster));
            }
        }
        if certified.name != name {
            return Err(Refusal::other_name(&certified.name, name));
        }
        if let Some(dialled) = dialled
            && dialled != name
        {
            return Err(Refusal::other_name(name, dialled));
        }
        let Some(entry) = directory.get(name) else { return Err(Refusal::not_a_member(name)) };
        if let Some(expected) = entry.peer.expected
            && expected != hello.node_id
        {
            return Err(Refusal::identity(name, expected, hello.node_id));
        }
        if entry.peer.replaces == Some(hello.node_id) {
            return Err(Refusal::replaced(name));
        }
        if hello.node_id == self.own.node_id {
            return Err(Refusal::identity_taken(name, &self.own.name, hello.node_id));
        }
        let same = directory
            .iter()
            .find(|(other, entry)| *other != name && entry.is_known_by(hello.node_id));
        if let Some((other, _)) = same {
            return Err(Refusal::identity_taken(name, other, hello.node_id));
        }
        if let (Some(own), Some(theirs)) = (*self.born.borrow(), hello.born)
            && own != theirs
        {
            return Err(Refusal::cluster_id(name, own, theirs));
        }
        Ok(())
    }

    /// Checks a peer that was dialled and, if nothing speaks against it, sends on `connection` from now
    /// on. The link that it replaces, if any, still has to be drained.
    pub(super) fn install(
        &self,
        shown: &Shown,
        dialled: &str,
        connection: Connection,
        stop: &CancellationToken,
    ) -> Result<Arc<Link>, Refusal> {
        let link;
        {
            let mut directory = self.directory.lock();
            // Set under the lock: a link is never installed for a peer that was removed meanwhile.
            if stop.is_cancelled() {
                return Err(Refusal::removed(dialled));
            }
            self.check(&directory, shown, Some(dialled))?;
            let Some(entry) = directory.get_mut(dialled) else {
                return Err(Refusal::not_a_member(dialled));
            };
            link = Link::open(
                connection,
                shown.hello.node_id,
                self.own.frame_bytes_max,
                &self.dropped,
            );
            entry.known = Some(shown.known());
            entry.link = Some(link.clone());
            (entry.problem, entry.disowns) = (None, false);
            self.reroute(&directory);
        }
        self.inbound.peer_up(shown.known().hello);
        Ok(link)
    }

    /// Sends on `link` no more.
    pub(super) fn uninstall(&self, name: &str, link: &Arc<Link>) {
        let mut directory = self.directory.lock();
        if let Some(entry) = directory.get_mut(name)
            && entry.link.as_ref().is_some_and(|present| Arc::ptr_eq(present, link))
        {
            entry.link = None;
        }
        self.reroute(&directory);
        link.close_queues();
    }

    /// Checks a peer that dialled and, if nothing speaks against it, remembers its connection.
    pub(super) fn admit(&self, shown: &Shown, connection: &Connection) -> Result<(), Refusal> {
        let news = {
            let mut directory = self.directory.lock();
            self.check(&directory, shown, None)?;
            let name = shown.hello.name.as_str();
            let Some(entry) = directory.get_mut(name) else {
                return Err(Refusal::not_a_member(name));
            };
            entry.heard_from = Some(connection.remote_address());
            let first = !entry.accepted.iter().any(|c| c.stable_id() == connection.stable_id());
            if first {
                entry.accepted.push(connection.clone());
                if entry.accepted.len() > ACCEPTED_MAX {
                    let oldest = entry.accepted.remove(0);
                    Refusal::protocol("too many connections of one node").close(&oldest);
                }
            }
            let born_before = entry.known.as_ref().and_then(|known| known.hello.born);
            entry.known = Some(shown.known());
            match &entry.link {
                // It lives, so it can be reached.
                None => {
                    if first {
                        entry.wake.notify_one();
                    }
                    false
                }
                Some(_) => born_before != shown.hello.born,
            }
        };
        if news {
            self.inbound.peer_up(shown.known().hello);
        }
        Ok(())
    }

    /// A connection that was admitted has ended.
    pub(super) fn leave(&self, name: &str, connection: &Connection) {
        if let Some(entry) = self.directory.lock().get_mut(name) {
            entry.accepted.retain(|c| c.stable_id() != connection.stable_id());
        }
    }

    /// Checks what a peer that is connected says after this node, or the peer, joined a cluster.
    pub(super) fn renew(&self, shown: &Shown, dialled: &str) -> Result<(), Refusal> {
        let news = {
            let mut directory = self.directory.lock();
            self.check(&directory, shown, Some(dialled))?;
            let Some(entry) = directory.get_mut(dialled) else {
                return Err(Refusal::not_a_member(dialled));
            };
            let said = entry.link.as_ref().map(|link| link.node_id);
            if said.is_some_and(|said| said != shown.hello.node_id) {
                return Err(Refusal::protocol("another identity than in the first hello"));
            }
            let before = entry.known.replace(shown.known());
            before.and_then(|known| known.hello.born) != shown.hello.born
        };
        if news {
            self.inbound.peer_up(shown.known().hello);
        }
        Ok(())
    }

    /// Where a peer can be dialled, the likeliest address first; none once it is no peer any more.
    pub(super) fn addresses_of(&self, name: &str) -> Vec<String> {
        let directory = self.directory.lock();
        let Some(entry) = directory.get(name) else { return Vec::new() };
        let mut addresses = entry.peer.addresses.clone();
        let said = entry.known.iter().map(|known| known.hello.addresses.raft.clone());
        let heard = entry.heard_from.iter().map(ToString::to_string);
        for address in said.chain(heard).filter(|address| !address.is_empty()) {
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        addresses
    }

    /// Why there is no connection with a peer.
    pub(super) fn set_problem(&self, name: &str, ending: &Ending) {
        if let Some(entry) = self.directory.lock().get_mut(name) {
            entry.problem = Some(ending.sentence.clone());
            entry.disowns = ending.disowns();
        }
        if ending.disowns() {
            self.inbound.disowned();
        }
    }

    fn reroute(&self, directory: &BTreeMap<String, Entry>) {
        let links = directory.values().filter_map(|entry| entry.link.clone());
        self.routes.store(Arc::new(links.map(|link| (link.node_id, link)).collect()));
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
        let directory = self.directory.lock();
        let status = |(name, entry): (&String, &Entry)| {
            let hello = entry.known.as_ref().map(|known| &known.hello);
            PeerStatus {
                name: name.clone(),
                node_id: hello.map(|hello| hello.node_id),
                connected: entry.link.is_some(),
                born: hello.and_then(|hello| hello.born),
                version: hello.map(|hello| hello.version.clone()),
                addresses: hello.map(|hello| hello.addresses.clone()),
                certificate_expires: entry
                    .known
                    .as_ref()
                    .map(|known| known.certificate_expires.clone()),
                rtt: entry.link.as_ref().map(|link| link.connection.rtt()),
                problem: entry.problem.clone(),
                disowns: entry.disowns,
            }
        };
        directory.iter().map(status).collect()
    }

    pub(super) fn set_peers(self: &Arc<Self>, mut peers: BTreeMap<String, Peer>) {
        peers.remove(&self.own.name);
        let mut directory = self.directory.lock();
        if self.stop.is_cancelled() {
            return;
        }
        directory.retain(|name, entry| {
            let stays = peers.contains_key(name);
            if !stays {
                entry.stop.cancel();
                entry.close(&Refusal::removed(name));
            }
            stays
        });
        for (name, peer) in peers {
            if let Some(entry) = directory.get_mut(&name) {
                let known = entry.known.as_ref().map(|known| known.hello.node_id);
                if let (Some(expected), Some(known)) = (peer.expected, known)
                    && expected != known
                {
                    entry.close(&Refusal::identity(&name, expected, known));
                    entry.known = None;
                }
                if peer.replaces.is_some() && peer.replaces == known {
                    entry.close(&Refusal::replaced(&name));
                    entry.known = None;
                }
                let moved = entry.peer.addresses != peer.addresses;
                entry.peer = peer;
                if moved && entry.link.is_none() {
                    entry.wake.notify_one();
                }
                continue;
            }
            let wake = Arc::new(Notify::new());
            let stop = self.stop.child_token();
            self.runtime.spawn(dial::keep_connected(
                self.clone(),
                name.clone(),
                wake.clone(),
                stop.clone(),
            ));
            directory.insert(
                name,
                Entry {
                    peer,
                    known: None,
                    link: None,
                    accepted: Vec::new(),
                    wake,
                    stop,
                    problem: None,
                    disowns: false,
                    heard_from: None,
                },
            );
        }
        self.reroute(&directory);
    }

    /// Sends nothing any more. `stop` is cancelled already.
    pub(super) fn close_links(&self) {
        let mut directory = self.directory.lock();
        for link in directory.values_mut().filter_map(|entry| entry.link.take()) {
            link.close_queues();
        }
        self.reroute(&directory);
    }

    pub(super) fn set_born(&self, born: Option<ClusterId>) {
        let changed = self.born.send_if_modified(|present| {
            let changed = *present != born;
            *present = born;
            changed
        });
        let Some(own) = born.filter(|_| changed) else { return };
        for (name, entry) in self.directory.lock().iter_mut() {
            let theirs = entry.known.as_ref().and_then(|known| known.hello.born);
            if let Some(theirs) = theirs.filter(|theirs| *theirs != own) {
                entry.close(&Refusal::cluster_id(name, own, theirs));
            }
        }
    }

    pub(super) fn certificate_expires(&self) -> Option<String> {
        self.expires.lock().clone()
    }

    pub(super) fn reload_tls(&self, material: &TlsMaterial) -> Result<(), NetError> {
        let settings = Settings::new(material)?;
        if let Some(endpoint) = &*self.endpoint.lock() {
            endpoint.set_server_config(Some(settings.server));
        }
        *self.expires.lock() = material.chain.first().and_then(identity::expires);
        self.client.send_replace(settings.client);
        tracing::info!("the connections between nodes use the new certificates");
        Ok(())
    }

    pub(super) fn counters(&self) -> NetCounters {
        NetCounters {
            messages_dropped: self.dropped.load(Ordering::Relaxed),
            refusals: self.refusals.count(),
        }
    }
}

/// Whom the other end's certificate names, once the handshake is over.
pub(super) fn certified(connection: &Connection) -> Result<CertifiedNode, Refusal> {
    let chain = connection
        .peer_identity()
        .and_then(|identity| identity.downcast::<Vec<CertificateDer<'static>>>().ok());
    let Some(leaf) = chain.as_ref().and_then(|chain| chain.first()) else {
        return Err(Refusal::protocol("no certificate was presented"));
    };
    CertifiedNode::read(leaf).map_err(|error| Refusal::not_a_node(&error))
}
