//! How a cluster is born, once.
//!
//! A node with an empty data directory belongs to no cluster and is inert. One node founds the cluster:
//! it writes the first entry of the log, the membership with everybody's identity, and leads term 1;
//! all others take that entry from it as they would any other. For there to be one founder only, it
//! needs a grant from a majority of the configured nodes, itself among them. A grant is durable and
//! given once, and only by a node that belongs to no cluster. So a node whose disk was wiped founds
//! nothing while a majority of the others remembers the cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::RngExt;
use tokio::sync::{Notify, watch};

use super::mailbox::{Letter, Mailbox};
use super::peer_request::{self, Founding, PeerReply, PeerRequest};
use super::peers;
use crate::config::Config;
use crate::net::{Net, PeerStatus};
use crate::raft::{ClusterId, Input, Member, Membership, NodeId};
use crate::replica::roster::stand_in;
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
pub(super) struct Birth {
    pub(super) id: NodeId,
    pub(super) config: Arc<Config>,
    pub(super) data: DataDir,
    pub(super) net: Net,
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) membership: watch::Receiver<Option<Membership>>,
    pub(super) peers_changed: Arc<Notify>,
}

impl Birth {
    /// Returns once this node has a membership: because it founded the cluster, or because the cluster
    /// reached it.
    pub(super) async fn run(mut self) {
        let started = Instant::now();
        let mut said = None::<Instant>;
        while self.membership.borrow_and_update().is_none() {
            let obstacle = self.try_to_found(started.elapsed()).await;
            if let Some(obstacle) = obstacle
                && started.elapsed() > GRACE
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

    /// Founds the cluster if it is up to this node; else says what is missing.
    async fn try_to_found(&self, waited: Duration) -> Option<String> {
        let own = self.config.name.to_string();
        let size = self.config.servers.len();
        let peers: BTreeMap<String, PeerStatus> = self
            .net
            .peers()
            .into_iter()
            .filter(|peer| peer.connected)
            .map(|peer| (peer.name.clone(), peer))
            .collect();
        if let Some(peer) = peers.values().find(|peer| peer.born.is_some()) {
            self.meet_members(peer).await;
            return Some(format!("{} belongs to one and has not let this node in yet", peer.name));
        }
        if self.config.join {
            return Some("no member of the cluster to join can be reached".to_owned());
        }
        let mut present: BTreeSet<&String> = peers.keys().collect();
        present.insert(&own);
        if present.len() * 2 <= size {
            let missing = self.config.servers.keys().map(ToString::to_string);
            let missing: Vec<_> = missing.filter(|name| !present.contains(name)).collect();
            return Some(format!("no majority is here; missing: {}", missing.join(", ")));
        }
        if let Some(first) = present.first()
            && **first != own
        {
            return Some(format!("{first} is to found it"));
        }
        if present.len() < size && waited < GRACE {
            return Some("giving the others a moment".to_owned());
        }
        match self.collect_grants(&peers).await {
            Ok(grants) if grants * 2 > size => {
                let membership = self.first_membership(&peers);
                tracing::info!(cluster = %membership.cluster, "founding the cluster");
                self.mailbox.tell(Letter::Input(Input::Found { membership }));
                None
            }
            Ok(grants) => {
                Some(format!("only {grants} of {size} nodes agree that this one founds it"))
            }
            Err(obstacle) => Some(obstacle),
        }
    }

    /// Learns from a member who the others are, so that whichever of them leads can be answered.
    async fn meet_members(&self, peer: &PeerStatus) {
        let Some(id) = peer.node_id else { return };
        let request = peer_request::encode(&PeerRequest::Members);
        let deadline = Instant::now() + ASK_TIMEOUT;
        let Ok(bytes) = self.net.request(id, request, deadline).await else { return };
        if let Some(PeerReply::Members(Some(membership))) = peer_request::decode(&bytes)
            && self.membership.borrow().is_none()
        {
            self.net.set_peers(peers::of(&self.config, Some(&membership)));
        }
    }

    /// How many grant the founding to this node, itself included.
    async fn collect_grants(&self, peers: &BTreeMap<String, PeerStatus>) -> Result<usize, String> {
        match grant(&self.data, self.id).await {
            Founding::Granted => {}
            Founding::GrantedTo(other) => {
                return Err(format!(
                    "this node agreed that {other} founds the cluster; if that node is lost for \
                     good, remove the (empty) data directories of all nodes and start again"
                ));
            }
            Founding::Born => return Err("this node belongs to one".to_owned()),
        }
        let mut grants = 1;
        for peer in peers.values() {
            let Some(id) = peer.node_id else { continue };
            let request = peer_request::encode(&PeerRequest::GrantFounding { founder: self.id });
            let deadline = Instant::now() + ASK_TIMEOUT;
            let Ok(bytes) = self.net.request(id, request, deadline).await else { continue };
            match peer_request::decode(&bytes) {
                Some(PeerReply::Founding(Founding::Granted)) => grants += 1,
                Some(PeerReply::Founding(Founding::Born)) => {
                    return Err(format!("{} belongs to one already", peer.name));
                }
                _ => {}
            }
        }
        Ok(grants)
    }

    fn first_membership(&self, peers: &BTreeMap<String, PeerStatus>) -> Membership {
        let mut members = BTreeMap::new();
        for (name, raft_address) in &self.config.servers {
            let name = name.to_string();
            let own = name == self.config.name.to_string();
            let id =
                if own { Some(self.id) } else { peers.get(&name).and_then(|peer| peer.node_id) };
            let http = self.config.http_servers.get(name.as_str());
            let member = Member {
                name: name.clone(),
                raft_address: raft_address.to_string(),
                http_address: http.map(ToString::to_string).unwrap_or_default(),
                seen: id.is_some(),
                promote: false,
                replaces: None,
            };
            members.insert(id.unwrap_or_else(|| stand_in(&name)), member);
        }
        Membership {
            cluster: ClusterId(rand::rng().random()),
            voters: members.keys().copied().collect(),
            members,
            outgoing: None,
        }
    }
}

/// Grants the founding to `founder` unless another has it; durable when it returns.
pub(super) async fn grant(data: &DataDir, founder: NodeId) -> Founding {
    let data = data.clone();
    let granted = tokio::task::spawn_blocking(move || data.grant_founding(founder)).await;
    match granted {
        Ok(Ok(holder)) if holder == founder => Founding::Granted,
        Ok(Ok(holder)) => Founding::GrantedTo(holder),
        Ok(Err(error)) => {
            tracing::error!(%error, "the founding grant could not be stored");
            Founding::Born
        }
        Err(_) => Founding::Born,
    }
}
