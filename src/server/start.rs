//! Starting and stopping a node.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use tokio::sync::{Notify, Semaphore, oneshot, watch};
use tokio::task::JoinHandle;

use super::certificates::{Served, tls_material};
use super::handle::{Handle, Shared};
use super::inbound::{Answering, InboundHandler};
use super::limits::{self, bytes, settings_of};
use super::run::answer_room::AnswerRoom;
use super::run::audit::{self, Recording};
use super::run::driver::Published;
use super::run::lag::Lag;
use super::run::mailbox::Mailbox;
use super::run::opened::{self, Opened};
use super::run::read_load::ReadLoad;
use super::run::readers::Readers;
use super::run::thread::ReplicaThread;
use super::run::timing::Timing;
use super::run::watched;
use super::run::workers::{self, Base};
use super::run::write_room::WriteRooms;
use super::tasks::agreements;
use super::tasks::anchors;
use super::tasks::bootstrap::Bootstrap;
use super::tasks::certificates::{Files, Users};
use super::tasks::consistency;
use super::tasks::discovery;
use super::tasks::features;
use super::tasks::history;
use super::tasks::peers;
use super::tasks::reconcile;
use super::tasks::removal;
use super::tasks::renewal::Renewing;
use super::tasks::revocation;
use super::tasks::settings;
use super::watch::waiters::Waiters;
use crate::cluster::settings::guards_at_start_ms;
use crate::cluster::{Memberships, memberships_of};
use crate::config::{self, Config, ConfigError};
use crate::net::{Addresses, FRAME_BYTES_MAX, Net, NetConfig, NetError, OwnFeatures};
use crate::pki::{Material, PkiError};
use crate::raft::{self, Index, Node, NodeId, Recovered, RoleName, SoftState};
use crate::store::{Life, State, StoreError};

/// How long a stopping leader waits for another to take over.
const HAND_OVER_TIMEOUT: Duration = Duration::from_secs(2);
/// The part of an election time-out that news of the next leader may take to reach everybody: one in so many.
const NEWS_PARTS: u32 = 4;

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory, the log or the state.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The port or the certificates.
    #[error(transparent)]
    Net(#[from] NetError),
    /// The certificates.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// The address to listen on.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A thread could not be started.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] std::io::Error),
}

/// How a node ends that nobody stopped.
#[derive(Debug)]
pub enum Ending {
    /// The cluster has put it out.
    Removed {
        /// Whether another host has its name, or is to have it.
        replaced: bool,
    },
    /// Its disk failed; none if its thread ended for no known reason.
    Failed(Option<StoreError>),
}

/// How many of the largest values may wait to be decided and applied.
const WAITING_VALUES: usize = 4;
/// How many bytes of writes may at least.
const WAITING_BYTES_MIN: usize = 8 << 20;

/// A running node.
#[derive(Debug)]
pub struct Server {
    handle: Handle,
    https: watch::Receiver<Option<Arc<rustls::ServerConfig>>>,
    mailbox: Arc<Mailbox>,
    stopping: watch::Sender<bool>,
    ended: oneshot::Receiver<Result<(), StoreError>>,
    removed: watch::Receiver<bool>,
    tasks: Vec<JoinHandle<()>>,
    recording: Recording,
}

impl Server {
    /// Opens the data directory, replays what the last checkpoint lacks, and starts to take part. Must be
    /// called within a tokio runtime.
    pub async fn start(config: Arc<Config>) -> Result<Server, StartError> {
        Server::start_with(config, Arc::default()).await
    }

    /// As [`Server::start`]; meanwhile and later `life` shows that the node gets further.
    pub async fn start_with(config: Arc<Config>, life: Arc<Life>) -> Result<Server, StartError> {
        let started = Instant::now();
        let mailbox = Arc::new(Mailbox::default());
        let certificates = Files::note(&config);
        let material = config.material()?;
        let listen = listen_address(&config).await?;
        let (opened, recovered) = opened::open(&config, life.clone())?;
        let timing = Timing::new(&config.raft, settings_of(&config));
        let decided = recovered.hard_state.commit;
        let node = node_of(&config, &timing, &opened, recovered);
        let id = node.id();
        let published = first_published(&node, &opened.state);
        let membership = published.membership.subscribe();
        let memberships = published.memberships.subscribe();
        let signs = Signs::default();
        let removed = signs.removed.subscribe();
        let served = Served::start(&config, &material, membership.clone(), opened.state.clone())?;
        let https = served.https.subscribe();
        let (stopping, is_stopping) = watch::channel(false);

        let inbound =
            inbound(&config, mailbox.clone(), &opened, &signs, published.standing.subscribe());
        let net_config = net_config(&config, id, listen, material, published.features.clone());
        let frame_bytes_max = net_config.frame_bytes_max;
        let replica_thread = ReplicaThread::start().await?;
        let (net, listener) = replica_thread.within(|| Net::start(net_config, inbound))?;
        remember_members(&net, &node, &opened, decided)?;

        let anchored = audit::newest(&opened.state, id)?;
        let recording = Recording::start(&config, &opened.data, anchored, &mailbox)?;
        let limits = limits::of(&config);
        let readers = Readers::start(limits.read_threads, limits.reads_max, &mailbox)?;
        let waiters = Waiters::new(limits.waiters_max);
        opened.state.observe(waiters.clone());
        let (lag, behind) = Lag::new(Instant::now());
        let handle = Handle::new(Arc::new(Shared {
            id,
            config: config.clone(),
            mailbox: mailbox.clone(),
            state: opened.state.clone(),
            space: opened.space.clone(),
            behind,
            write_rooms: WriteRooms::new(waiting_bytes_max(&config)),
            life: life.clone(),
            counts: Arc::default(),
            audit: recording.audit.clone(),
            facts: served.facts.clone(),
            renewal: Arc::default(),
            answer_room: AnswerRoom::new(limits.answer_bytes_max),
            backups: Arc::new(Semaphore::new(limits.backups_max)),
            limits,
            frame_bytes_max,
            net: net.clone(),
            data: opened.data.clone(),
            standing: published.standing.subscribe(),
            read_load: Arc::new(ReadLoad::new()),
            membership,
            joint_since: signs.joint_since.subscribe(),
            held_back_since: signs.held_back_since.subscribe(),
            applied: published.applied.subscribe(),
            agreed: published.agreed.subscribe(),
            level: published.level.subscribe(),
            access: published.access.subscribe(),
            waiters,
            readers,
            checkpoints: published.checkpoints.subscribe(),
            clock_ms: published.clock_ms.clone(),
            started,
            stopping: is_stopping,
            removed: removed.clone(),
        }));
        listener.accept(Arc::new(Answering::here(&handle)));

        let driver = workers::start(base(&handle), opened, node, published, timing, lag)?;
        let ended = replica_thread.run(driver);
        let users = Users { net, served, renewal: handle.shared.renewal.clone() };
        let tasks = Server::tasks(&handle, signs, memberships, certificates, users);
        Ok(Server { handle, https, mailbox, stopping, ended, removed, tasks, recording })
    }

    /// The tasks that run beside the driver.
    fn tasks(
        handle: &Handle,
        signs: Signs,
        memberships: watch::Receiver<Memberships>,
        certificates: Files,
        users: Users,
    ) -> Vec<JoinHandle<()>> {
        let Shared { config, mailbox, net, data, membership, waiters, .. } = &*handle.shared;
        let bootstrap = Bootstrap {
            handle: handle.clone(),
            config: config.clone(),
            data: data.clone(),
            membership: membership.clone(),
            peers_changed: signs.peers_changed.clone(),
        };
        let watch = |name, work: BoxFuture<'static, ()>| watched::task(name, mailbox.clone(), work);
        let past = history::give_up_the_past(handle.clone(), config.history.clone());
        let renewing = Renewing { handle: handle.clone(), facts: users.served.facts.clone() };
        let follow = certificates.follow(users, config.clone());
        vec![
            watch("the waking of who waits", Box::pin(waiters.clone().run())),
            watch("the founding of the cluster", Box::pin(bootstrap.run())),
            watch("giving up the past", Box::pin(past)),
            watch("the look at certificates", Box::pin(follow)),
            watch("the look at revoked certificates", Box::pin(revocation::follow(handle.clone()))),
            watch("the renewal of the certificate", Box::pin(renewing.run())),
            watch(
                "following the membership",
                Box::pin(peers::follow_memberships(net.clone(), config.clone(), memberships)),
            ),
            watch(
                "the look at changes",
                Box::pin(peers::note_joint(membership.clone(), signs.joint_since)),
            ),
            watch("the search for the leader", Box::pin(discovery::run(handle.clone()))),
            watch(
                "the reconciler of the membership",
                Box::pin(reconcile::run(handle.clone(), signs.peers_changed)),
            ),
            watch(
                "what all members have to agree on",
                Box::pin(agreements::run(handle.clone(), config.features.hold)),
            ),
            watch("the look at what is agreed on", Box::pin(settings::tell(handle.clone()))),
            watch("the end of old promises", Box::pin(settings::end_promises(handle.clone()))),
            watch(
                "the look at releases",
                Box::pin(features::note_held_back(handle.clone(), signs.held_back_since)),
            ),
            watch("the anchoring of the audit", Box::pin(anchors::run(handle.clone()))),
            watch("the comparison of states", Box::pin(consistency::run(handle.clone()))),
            watch(
                "the look for a removal",
                Box::pin(removal::run(handle.clone(), signs.disowned, signs.removed)),
            ),
        ]
    }

    /// The way in.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// What to serve HTTPS with, if that is configured; renewed certificates come with a change.
    pub fn https(&self) -> watch::Receiver<Option<Arc<rustls::ServerConfig>>> {
        self.https.clone()
    }

    /// Waits until the node ends by itself, or has nothing left to do but to be stopped.
    pub async fn ended(&mut self) -> Ending {
        tokio::select! {
            result = &mut self.ended => Ending::Failed(result.unwrap_or(Ok(())).err()),
            // The sender goes with the task that learns of it, which says nothing.
            Ok(_) = self.removed.wait_for(|removed| *removed) => {
                Ending::Removed { replaced: self.handle.net().is_replaced() }
            }
        }
    }

    /// Hands leadership over, closes the connections, stops the threads, writes what they hold.
    pub async fn stop(mut self) -> Result<(), StoreError> {
        anchors::anchor_last(&self.handle).await;
        self.handle.net().leave();
        self.hand_over().await;
        self.stopping.send_replace(true);
        self.handle.end_reads();
        for task in &self.tasks {
            task.abort();
        }
        self.mailbox.stop();
        let ended = (&mut self.ended).await.unwrap_or(Ok(()));
        self.recording.stop().await;
        ended
    }

    async fn hand_over(&mut self) {
        let alone = self.handle.voters() <= 1;
        if alone || self.handle.standing().role != RoleName::Leader {
            return;
        }
        let mut standing = self.handle.watch_standing();
        self.handle.transfer_here(None);
        let moved = standing.wait_for(|now| now.role != RoleName::Leader && now.leader.is_some());
        match tokio::time::timeout(HAND_OVER_TIMEOUT, moved).await {
            Ok(Ok(_)) => {
                tracing::info!("leadership handed over");
                // Peers hear of the next leader from itself. What they pass on to this node until then is refused here, so that they
                // ask again there; a connection that ends leaves them without an answer.
                tokio::time::sleep(self.handle.election_timeout() / NEWS_PARTS).await;
            }
            _ => tracing::warn!("nobody took leadership over in time"),
        }
    }
}

/// What the tasks that look after the membership hear of the network, and what they let everybody know.
#[derive(Debug, Default)]
struct Signs {
    /// One came, or another than before.
    peers_changed: Arc<Notify>,
    /// Somebody does not let this node in.
    disowned: Arc<Notify>,
    /// Since when a change of the voters has been under way.
    joint_since: watch::Sender<Option<Instant>>,
    /// Since when somebody has kept the feature level where it is.
    held_back_since: watch::Sender<Option<Instant>>,
    /// Whether this node is a member no more.
    removed: watch::Sender<bool>,
}

/// Where to listen for peers: on the advertised address, if not told otherwise.
async fn listen_address(config: &Config) -> Result<SocketAddr, ConfigError> {
    match config.listen {
        Some(listen) => Ok(listen),
        None => config.raft_address().resolve().await,
    }
}

/// What everybody knows before the replica has done anything.
fn first_published(node: &Node, state: &State) -> Published {
    let standing = SoftState { role: RoleName::Follower, term: node.term(), leader: None };
    Published {
        standing: watch::Sender::new(standing),
        membership: watch::Sender::new(node.membership().cloned()),
        memberships: watch::Sender::new(memberships_of(node)),
        applied: watch::Sender::new(state.applied().index),
        agreed: watch::Sender::new(state.settings()),
        level: watch::Sender::new(state.level()),
        access: watch::Sender::new(state.access().revision()),
        checkpoints: watch::Sender::new(state.durable().index),
        clock_ms: Arc::new(AtomicU64::new(state.clock_ms())),
        features: OwnFeatures::new(state.highest(), state.level()),
    }
}

/// What the threads share with whoever asks something of the node.
fn base(handle: &Handle) -> Base {
    let Shared { mailbox, life, net, waiters, read_load, counts, .. } = &*handle.shared;
    Base {
        mailbox: mailbox.clone(),
        life: life.clone(),
        net: net.clone(),
        waiters: waiters.clone(),
        read_load: read_load.clone(),
        counts: counts.clone(),
    }
}

/// The node of the protocol, as it was recovered.
fn node_of(config: &Config, timing: &Timing, opened: &Opened, recovered: Recovered) -> Node {
    let guard_ms = guards_at_start_ms(opened.state.settings(), timing.own, opened.guards_ms);
    let core = timing.raft_config(opened.data.id(), guard_ms);
    let core = raft::Config { uncommitted_bytes_max: waiting_bytes_max(config), ..core };
    Node::new(core, recovered)
}

/// Who hears the peers.
fn inbound(
    config: &Config,
    mailbox: Arc<Mailbox>,
    opened: &Opened,
    signs: &Signs,
    standing: watch::Receiver<SoftState>,
) -> Arc<InboundHandler> {
    Arc::new(InboundHandler {
        mailbox,
        settings: settings_of(config),
        state: opened.state.clone(),
        space: opened.space.clone(),
        peers_changed: signs.peers_changed.clone(),
        disowned: signs.disowned.clone(),
        standing,
    })
}

/// What the network is told of this node.
fn net_config(
    config: &Config,
    id: NodeId,
    listen: SocketAddr,
    material: Material,
    features: OwnFeatures,
) -> NetConfig {
    NetConfig {
        listen,
        cluster: config.cluster.to_string(),
        name: config.name.to_string(),
        node_id: id,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        addresses: Addresses {
            raft: config.raft_address().to_string(),
            http: config.http_address().to_string(),
        },
        settings: settings_of(config),
        features,
        tls: tls_material(material),
        configured: config
            .servers
            .iter()
            .map(|(name, address)| (name.to_string(), address.to_string()))
            .collect(),
        // Of whatever a peer may take from its clients, so that none is cut off by another's configuration.
        frame_bytes_max: FRAME_BYTES_MAX.max(2 * bytes(config::Limits::VALUE_MAX)),
    }
}

/// Lets the network know who belongs to the cluster and who once did, and whose certificates were revoked.
fn remember_members(
    net: &Net,
    node: &Node,
    opened: &Opened,
    decided: Index,
) -> Result<(), StoreError> {
    net.revoke(opened.state.access().revoked().keys().copied().collect());
    // Only what is known to be decided: the rest of the log may yet be cut off.
    let history = opened.log.reader().memberships()?.into_iter().filter(|(at, _)| *at <= decided);
    net.change_roster(|roster| {
        roster.follow(memberships_of(node));
        roster.remember(history);
    });
    Ok(())
}

/// How many bytes of writes may wait to be decided and applied: whoever comes last waits for all of them. So no more than
/// keeps disks at work, but a few of the largest.
fn waiting_bytes_max(config: &Config) -> usize {
    bytes(config.limits.value).saturating_mul(WAITING_VALUES).max(WAITING_BYTES_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_of_the_largest_values_may_wait() {
        const MIB: usize = 1 << 20;
        let wait = |value: u64| {
            let text = "servers: {a: '127.0.0.1:1'}\nhttpServers: {a: '127.0.0.1:2'}\n";
            let text = format!("{text}localServerName: a\nlimits: {{value: {value}MiB}}\n");
            waiting_bytes_max(
                &Config::parse(std::path::Path::new("cluster.yml"), &text, None).unwrap(),
            ) / MIB
        };
        assert_eq!([1, 4, 16].map(wait), [8, 16, 64]);
    }
}

#[cfg(test)]
#[path = "start_tests.rs"]
mod start_tests;
