//! Founds the cluster, or waits to be taken in; see [`crate::cluster::bootstrap`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use rand::RngExt;
use tokio::sync::{Notify, watch};

use super::discovery;
use crate::cluster::Addresses;
use crate::cluster::bootstrap::{self, Next, Situation, Standing};
use crate::config::Config;
use crate::raft::founding::{Answer, Ask, Attempt, Ballot, Verdict};
use crate::raft::{ClusterId, Membership, NodeId};
use crate::server::handle::Handle;
use crate::server::run::event::Notice;
use crate::server::wire::{PeerReply, PeerRequest};
use crate::store::DataDir;

/// How long a node waits for hosts that are not there yet, once a majority is; and how long it leaves the founding to
/// each of those that come before it by name.
const GRACE: Duration = Duration::from_secs(2);
/// How often to look again when nothing was heard.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// How often to say what is missing, if that stays the same.
const SAY_AGAIN: Duration = Duration::from_secs(10);
/// How long a peer may take to answer.
const ASK_TIMEOUT: Duration = Duration::from_secs(2);

/// What founding needs.
#[derive(Debug)]
pub(crate) struct Bootstrap {
    pub(crate) handle: Handle,
    pub(crate) config: Arc<Config>,
    pub(crate) data: DataDir,
    pub(crate) membership: watch::Receiver<Option<Membership>>,
    pub(crate) peers_changed: Arc<Notify>,
}

type Present = BTreeMap<String, (NodeId, Option<ClusterId>)>;

/// What a node remembers of its attempts.
#[derive(Debug)]
struct Attempts {
    /// Since when a majority is there, or since the last attempt ended.
    idle: Instant,
    tried: bool,
    /// The highest ballot that was heard of.
    heard: Ballot,
}

impl Bootstrap {
    /// Returns once this node has a membership: because it founded the cluster, or because the cluster
    /// reached it.
    pub(crate) async fn run(mut self) {
        let servers = servers(&self.config);
        let started = Instant::now();
        let mut attempts = Attempts { idle: started, tried: false, heard: Ballot::default() };
        let mut said = None::<(Instant, String)>;
        while self.membership.borrow_and_update().is_none() {
            let obstacle = self.step(&servers, &mut attempts).await;
            let is_news = |obstacle: &String| match &said {
                Some((at, before)) if before == obstacle => at.elapsed() > SAY_AGAIN,
                Some((at, _)) => at.elapsed() > GRACE,
                None => started.elapsed() > GRACE,
            };
            if let Some(obstacle) = obstacle.filter(is_news) {
                tracing::info!("waiting to become part of a cluster: {obstacle}");
                said = Some((Instant::now(), obstacle));
            }
            tokio::select! {
                changed = self.membership.changed() => if changed.is_err() { return },
                () = self.peers_changed.notified() => {}
                () = tokio::time::sleep(LOOK_AGAIN) => {}
            }
        }
    }

    /// Does what is to be done next; says what is missing, if anything is.
    async fn step(
        &self,
        servers: &BTreeMap<String, Addresses>,
        attempts: &mut Attempts,
    ) -> Option<String> {
        let own = self.config.name.as_str();
        let present = self.present();
        let (idle, tried) = (attempts.idle.elapsed(), attempts.tried);
        let join = self.config.join;
        let situation =
            Situation { own, servers, join, present: &present, idle, tried, grace: GRACE };
        match bootstrap::decide(&situation) {
            Next::Gather(why) => {
                attempts.idle = Instant::now();
                Some(why)
            }
            Next::Wait(why) => Some(why),
            Next::Meet { name, id } => {
                // Who the others are, so that whichever of them leads can be answered.
                discovery::ask(&self.handle, id).await;
                let because = self.handle.no_election();
                let because = because.map(|because| format!(": {because}")).unwrap_or_default();
                Some(format!("{name} belongs to one and has not let this node in yet{because}"))
            }
            Next::Ask => {
                let attempt = self.attempt(&situation, attempts.heard).await;
                attempts.heard = attempts.heard.max(attempt.heard());
                (attempts.idle, attempts.tried) = (Instant::now(), true);
                if attempt.verdict() != Verdict::Chosen {
                    return Some(obstacle(&attempt, &situation));
                }
                let cluster = ClusterId(rand::rng().random());
                let own = (own, self.handle.id());
                let first = bootstrap::first_membership(cluster, own, servers, &present);
                let Some(membership) = first else {
                    return Some("those who agreed have gone again".to_owned());
                };
                tracing::info!(%cluster, "founding the cluster");
                self.handle.tell(Notice::Found { membership });
                None
            }
        }
    }

    fn present(&self) -> Present {
        let connected = self.handle.net().peers().into_iter().filter(|peer| peer.connected);
        connected.filter_map(|peer| Some((peer.name, (peer.node_id?, peer.cluster_id)))).collect()
    }

    /// Asks those that are there to let this node found the cluster.
    async fn attempt(&self, now: &Situation<'_>, heard: Ballot) -> Attempt {
        let founder = self.handle.id();
        let heard = heard.max(self.data.founding().promised);
        let mut attempt = Attempt::new(founder, now.servers.len(), heard);
        let others = now.present.iter().filter(|(name, _)| now.servers.contains_key(*name));
        let others: Vec<NodeId> = others.map(|(_, (id, _))| *id).collect();
        let ballot = attempt.ballot();
        for ask in [Ask::Promise(ballot), Ask::Grant(ballot)] {
            // On its own disk first: a ballot is never used again.
            let standing = Standing { founded: false, joins: false };
            attempt.answered(founder, answer(&self.data, standing, ask).await);
            let answers = others.iter().map(|id| async move { (*id, self.ask(*id, ask).await) });
            for (id, answer) in join_all(answers).await {
                if let Some(answer) = answer {
                    attempt.answered(id, answer);
                }
            }
            if attempt.verdict() != Verdict::Free {
                break;
            }
        }
        attempt
    }

    async fn ask(&self, id: NodeId, ask: Ask) -> Option<Answer> {
        let deadline = Instant::now() + ASK_TIMEOUT;
        match self.handle.ask(id, &PeerRequest::Found(ask), deadline).await {
            Ok(Some(PeerReply::Founding(answer))) => Some(answer),
            _ => None,
        }
    }
}

/// Why an attempt came to nothing.
fn obstacle(attempt: &Attempt, now: &Situation<'_>) -> String {
    let size = now.servers.len();
    let Verdict::Held(holder) = attempt.verdict() else {
        return match attempt.verdict() {
            Verdict::Founded => "one that is here belongs to a cluster already".to_owned(),
            _ => format!("only {} of {size} nodes agree that this one founds it", attempt.grants()),
        };
    };
    if let Some((name, _)) = now.present.iter().find(|(_, (id, _))| *id == holder) {
        return format!("{name} may have been chosen to found it, and is to go on with that");
    }
    let absent = now.servers.keys().filter(|name| *name != now.own);
    let absent: Vec<&str> =
        absent.filter(|name| !now.present.contains_key(*name)).map(String::as_str).collect();
    format!(
        "one that is not here ({}) may have been chosen to found it: start it. If it is lost for good, together with          its data directory, stop all nodes, empty their data directories, in which nothing is yet, and start them          again",
        absent.join(", ")
    )
}

fn servers(config: &Config) -> BTreeMap<String, Addresses> {
    let server = |(name, raft): (&crate::config::NodeName, &crate::config::HostPort)| {
        let http = config.http_servers.get(name.as_str()).map(ToString::to_string);
        let addresses = Addresses { raft: raft.to_string(), http: http.unwrap_or_default() };
        (name.to_string(), addresses)
    };
    config.servers.iter().map(server).collect()
}

/// Answers a peer that wants to found the cluster; what is said is durable when it returns.
pub(crate) async fn answer_peer(handle: &Handle, ask: Ask) -> Answer {
    let founded = handle.shared.membership.borrow().is_some();
    // One that is to join a cluster helps nobody to found one.
    let standing = Standing { founded, joins: handle.shared.config.join };
    answer(&handle.shared.data, standing, ask).await
}

async fn answer(data: &DataDir, node: Standing, ask: Ask) -> Answer {
    let data = data.clone();
    let answered = tokio::task::spawn_blocking(move || {
        bootstrap::answer(node, ask, |ask| data.asked_to_found(ask))
    });
    match answered.await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => {
            tracing::error!(%error, "what this node says about the founding could not be stored");
            Answer::Failed
        }
        Err(_) => Answer::Failed,
    }
}
