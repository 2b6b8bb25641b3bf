//! Waiting for a leader, and why there is none.

use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::timeout_at;

use crate::api::Error;
use crate::cluster::leaderless;
use crate::raft::{NodeId, SoftState};
use crate::server::handle::Handle;

/// How long to wait before asking the same supposed leader again when nothing else was heard.
const STALE_HINT_PAUSE: Duration = Duration::from_millis(25);

impl Handle {
    /// Waits until the leader is another than `tried`, or for a moment if that may have been right. Where there is none
    /// the error says why, if that is known.
    pub(crate) async fn wait_for_leader(
        &self,
        standing: &mut watch::Receiver<SoftState>,
        tried: Option<NodeId>,
        deadline: Instant,
    ) -> Result<(), Error> {
        let waited = wait_for_leader(standing, tried, deadline).await;
        waited.map_err(|error| self.without_leader(error))
    }

    /// The same error, with why there is no leader where that is known.
    pub(crate) fn without_leader(&self, error: Error) -> Error {
        match error {
            Error::NoLeader if self.membership().is_none() => Error::NoCluster,
            Error::NoLeader => self.no_election().map_or(Error::NoLeader, Error::NoElection),
            error => error,
        }
    }

    /// Why no leader can be elected, by whom this node is connected to; none where one is known, or can be. One that
    /// was not taken in yet goes by what others have told it.
    pub(crate) fn no_election(&self) -> Option<String> {
        if self.standing().leader.is_some() {
            return None;
        }
        let roster = self.net().roster();
        if roster.is_outside() && !roster.is_awaited() {
            return None;
        }
        let told = || roster.newest().map(|known| known.membership.clone());
        let now = self.membership().or_else(told)?;
        let peers = self.net().peers();
        let connected = |id| peers.iter().any(|peer| peer.seat == id && peer.connected);
        leaderless::obstacle(&now, roster.own(), &connected)
    }
}

/// The same without the reason.
async fn wait_for_leader(
    standing: &mut watch::Receiver<SoftState>,
    tried: Option<NodeId>,
    deadline: Instant,
) -> Result<(), Error> {
    if Instant::now() >= deadline {
        return Err(Error::NoLeader);
    }
    let until = match tried {
        Some(_) => deadline.min(Instant::now() + STALE_HINT_PAUSE),
        None => deadline,
    };
    match timeout_at(until.into(), standing.changed()).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(Error::ShuttingDown),
        Err(_) if until == deadline => Err(Error::NoLeader),
        Err(_) => Ok(()),
    }
}
