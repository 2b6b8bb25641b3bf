//! How a node that was away finds the others: while it hears no leader it asks whoever is connected who belongs
//! to the cluster by now. What it is told counts until its own log says more; see [`crate::cluster::Roster`].

use std::time::{Duration, Instant};

use futures_util::future::join_all;

use crate::raft::NodeId;
use crate::server::handle::Handle;
use crate::server::wire::{PeerReply, PeerRequest};

/// How often to ask.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// How long a peer may take to answer.
const ASK_TIMEOUT: Duration = Duration::from_secs(1);

/// How often to say why no leader can be elected, if that stays the same.
const SAY_AGAIN: Duration = Duration::from_secs(10);

/// Asks while no leader is heard, until the node stops, and says why there is none where it knows.
pub(crate) async fn run(handle: Handle) {
    let mut standing = handle.watch_standing();
    let mut said = None::<(Instant, String)>;
    loop {
        if standing.wait_for(|now| now.leader.is_none()).await.is_err() {
            return;
        }
        // An election that goes well is over by then.
        let heard = tokio::time::timeout(
            handle.election_timeout(),
            standing.wait_for(|now| now.leader.is_some()),
        );
        match heard.await {
            Ok(Ok(_)) => continue,
            Ok(Err(_)) => return,
            Err(_) => {}
        }
        ask_all(&handle).await;
        let because = handle.no_election().filter(|because| {
            said.as_ref().is_none_or(|(at, before)| before != because || at.elapsed() > SAY_AGAIN)
        });
        if let Some(because) = because {
            tracing::warn!("{because}");
            said = Some((Instant::now(), because));
        }
        let heard = standing.wait_for(|now| now.leader.is_some());
        if let Ok(Err(_)) = tokio::time::timeout(ASK_AGAIN, heard).await {
            return;
        }
    }
}

async fn ask_all(handle: &Handle) {
    let peers = handle.net().peers().into_iter().filter(|peer| peer.connected);
    let asked = peers.filter_map(|peer| peer.node_id).map(|id| ask(handle, id));
    join_all(asked).await;
}

/// Asks a member who belongs to the cluster.
pub(crate) async fn ask(handle: &Handle, id: NodeId) {
    let deadline = Instant::now() + ASK_TIMEOUT;
    let reply = handle.ask(id, &PeerRequest::Members, deadline).await;
    if let Ok(Some(PeerReply::Members(Some(known)))) = reply {
        handle.net().learn(&known);
    }
}
