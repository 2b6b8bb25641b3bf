//! Founds the cluster, or waits to be taken in; see [`crate::cluster::bootstrap`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::RngExt;
use tokio::sync::{Notify, watch};

use super::discovery;
use super::handle::Handle;
use super::mailbox::Letter;
use super::peer_request::{self, PeerReply, PeerRequest};
use crate::cluster::Addresses;
use crate::cluster::bootstrap::{self, Founding, Next, Situation};
use crate::config::Config;
use crate::raft::{ClusterId, Input, Membership, NodeId};
use crate::store::DataDir;

/// How long the founder waits for hosts that are not there yet, once a majority is.
const GRACE: Duration = Duration::from_secs(2);
/// How often to look again when nothing was heard.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// How often to say what is missing.
const SAY_AGAIN: Duration = Duration::from_secs(10);
/// How long a peer may take to answer.
const ASK_TIMEOUT: Duration = Duration::from_secs(2);

/// What founding needs.
#[derive(Debug)]
pub(super) struct Bootstrap {
    pub(super) handle: Handle,
    pub(super) config: Arc<Config>,
    pub(super) data: DataDir,
    pub(super) membership: watch::Receiver<Option<Membership>>,
    pub(super) peers_changed: Arc<Notify>,
}

type Present = BTreeMap<String, (NodeId, Option<ClusterId>)>;

impl Bootstrap {
    /// Returns once this node has a membership: because it founded the cluster, or because the cluster
    /// reached it.
    pub(super) async fn run(mut self) {
        let servers = servers(&self.config);
        let started = Instant::now();
        let mut said = None::<Instant>;
        while self.membership.borrow_and_update().is_none() {
            let waited = started.elapsed() > GRACE;
            let obstacle = self.step(&servers, waited).await;
            if let Some(obstacle) = obstacle
                && waited
                && said.is_none_or(|at| at.elapsed() > SAY_AGAIN)
            {
                tracing::info!("waiting to become part of a cluster: {obstacle}");
                said = Some(Instant::now());
            }
            tokio::select! {
                changed = self.membership.changed() => if changed.is_err() { return },
                () = self.peers_changed.notified() => {}
                () = tokio::time::sleep(LOOK_AGAIN) => {}
            }
        }
    }

    /// Does what is to be done next; says what is missing, if anything is.
    async fn step(&self, servers: &BTreeMap<String, Addresses>, waited: bool) -> Option<String> {
        let own = self.config.name.as_str();
        let present = self.present();
        let join = self.config.join;
        let situation = Situation { own, servers, join, present: &present, waited };
        match bootstrap::decide(&situation) {
            Next::Wait(why) => Some(why),
            Next::Meet { name, id } => {
                // Who the others are, so that whichever of them leads can be answered.
                discovery::ask(&self.handle, id).await;
                Some(format!("{name} belongs to one and has not let this node in yet"))
            }
            Next::Found => match self.collect_grants(&present).await {
                Ok(grants) if bootstrap::suffice(grants, servers.len()) => {
                    let cluster = ClusterId(rand::rng().random());
                    let own = (own, self.handle.id());
                    let first = bootstrap::first_membership(cluster, own, &situation);
                    let Some(membership) = first else {
                        return Some("those who agreed have gone again".to_owned());
                    };
                    tracing::info!(%cluster, "founding the cluster");
                    self.handle.tell(Letter::Input(Input::Found { membership }));
                    None
                }
                Ok(grants) => {
                    let size = servers.len();
                    Some(format!("only {grants} of {size} nodes agree that this one founds it"))
                }
                Err(obstacle) => Some(obstacle),
            },
        }
    }

    fn present(&self) -> Present {
        let connected = self.handle.net().peers().into_iter().filter(|peer| peer.connected);
        connected.filter_map(|peer| Some((peer.name, (peer.node_id?, peer.born)))).collect()
    }

    /// How many grant the founding to this node, itself included.
    async fn collect_grants(&self, present: &Present) -> Result<usize, String> {
        let founder = self.handle.id();
        match grant(&self.data, false, founder).await {
            Founding::Granted => {}
            Founding::GrantedTo(other) => {
                return Err(format!(
                    "this node agreed that {other} founds the cluster; if that node is lost for \
                     good, remove the (empty) data directories of all nodes and start again"
                ));
            }
            Founding::Born => return Err("this node belongs to one".to_owned()),
            Founding::Failed => return Err("its disk could not note the founding".to_owned()),
        }
        let mut grants = 1;
        for (name, (id, _)) in present {
            let request = peer_request::encode(&PeerRequest::GrantFounding { founder });
            let deadline = Instant::now() + ASK_TIMEOUT;
            let asked = self.handle.net().request(*id, request, deadline).await;
            let Ok(bytes) = asked else { continue };
            match peer_request::decode(&bytes) {
                Some(PeerReply::Founding(Founding::Granted)) => grants += 1,
                Some(PeerReply::Founding(Founding::Born)) => {
                    return Err(format!("{name} belongs to one already"));
                }
                Some(PeerReply::Founding(Founding::Failed)) => {
                    tracing::warn!(peer = name, "its disk could not note the founding");
                }
                _ => {}
            }
        }
        Ok(grants)
    }
}

fn servers(config: &Config) -> BTreeMap<String, Addresses> {
    let server = |(name, raft): (&crate::config::NodeName, &crate::config::HostPort)| {
        let http = config.http_servers.get(name.as_str()).map(ToString::to_string);
        let addresses = Addresses { raft: raft.to_string(), http: http.unwrap_or_default() };
        (name.to_string(), addresses)
    };
    config.servers.iter().map(server).collect()
}

/// Grants the founding to `founder` unless another has it; durable when it returns.
pub(super) async fn grant(data: &DataDir, born: bool, founder: NodeId) -> Founding {
    let data = data.clone();
    let granted = tokio::task::spawn_blocking(move || {
        bootstrap::grant(born, founder, |founder| data.grant_founding(founder))
    });
    match granted.await {
        Ok(Ok(founding)) => founding,
        Ok(Err(error)) => {
            tracing::error!(%error, "the founding grant could not be stored");
            Founding::Failed
        }
        Err(_) => Founding::Failed,
    }
}
