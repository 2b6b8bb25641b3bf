//! Changes of the membership that operators ask for.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::time::timeout_at;

use super::error::Error;
use super::handle::{Handle, wait_for_leader};
use super::leadership::TransferError;
use super::peer_request::{self, LeaderProgress, PeerReply, PeerRequest};
use super::status::{MemberInfo, Members};
use crate::net::RequestError;
use crate::raft::{LogId, Membership, NodeId, Refused};
use crate::replica::roster::{self, Change, Obstacle, Sight};

/// Why the membership was not changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum ChangeError {
    /// The change is not to be made. Nothing was changed.
    #[error(transparent)]
    Refused(#[from] Obstacle),
    /// As with any request.
    #[error(transparent)]
    Failed(#[from] Error),
}

/// What became of a change at the node that was asked to make it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Tried {
    Done(Members),
    NotLeader,
    Not(ChangeError),
}

impl<E: Into<ChangeError>> From<E> for Tried {
    fn from(error: E) -> Tried {
        Tried::Not(error.into())
    }
}

impl Handle {
    /// Changes the membership, here or at the leader, and waits until the change is complete. With `force` even
    /// if too few of the voters can be reached afterwards.
    ///
    /// A leader that is to go hands over first.
    pub async fn change(
        &self,
        change: Change,
        force: bool,
        deadline: Instant,
    ) -> Result<Members, ChangeError> {
        let mut standing = self.watch_standing();
        loop {
            if self.is_stopping() {
                return Err(Error::ShuttingDown.into());
            }
            let leader = standing.borrow_and_update().leader;
            let tried = match leader {
                Some(leader) if leader == self.id() => {
                    self.change_here(&change, force, deadline).await
                }
                Some(leader) => self.forward_change(leader, &change, force, deadline).await,
                None => Tried::NotLeader,
            };
            match tried {
                Tried::Done(members) => return Ok(members),
                Tried::Not(error) => return Err(error),
                Tried::NotLeader => wait_for_leader(&mut standing, leader, deadline).await?,
            }
        }
    }

    async fn forward_change(
        &self,
        leader: NodeId,
        change: &Change,
        force: bool,
        deadline: Instant,
    ) -> Tried {
        let left = deadline.saturating_duration_since(Instant::now());
        let request = PeerRequest::Change { change: change.clone(), force, deadline: left };
        let request = peer_request::encode(&request);
        let replied = tokio::select! {
            replied = self.net().request(leader, request, deadline) => replied,
            () = self.deposed(leader) => Err(RequestError::Unknown),
        };
        match replied.map(|bytes| peer_request::decode(&bytes)) {
            Ok(Some(PeerReply::Change(tried))) => tried,
            Err(RequestError::Unknown) if change.puts_out(&self.name()) => {
                // The answer cannot come from whoever does not talk to this node any more.
                let patience = deadline.min(Instant::now() + self.election_timeout());
                match timeout_at(patience.into(), self.put_out()).await {
                    Ok(()) => {
                        self.members_without_this().map_or(Error::Unknown.into(), Tried::Done)
                    }
                    Err(_) => Error::Unknown.into(),
                }
            }
            Ok(_) | Err(RequestError::Unknown) => Error::Unknown.into(),
            Err(RequestError::NotSent) => Tried::NotLeader,
        }
    }

    /// Makes the change if this node leads.
    pub(super) async fn change_here(
        &self,
        change: &Change,
        force: bool,
        deadline: Instant,
    ) -> Tried {
        // Who runs into another change waits for it as long as one takes in a cluster that is well.
        let patience = deadline.min(Instant::now() + self.election_timeout());
        let mut membership = self.watch_membership();
        loop {
            let Some(now) = membership.borrow_and_update().clone() else { return Tried::NotLeader };
            let Some(progress) = self.progress().await else { return Tried::NotLeader };
            let next =
                match self.sight(&progress, |sight| roster::change(&now, change, sight, force)) {
                    Ok(next) => next,
                    // The other change ends; whoever has just been counted answers the next heartbeat.
                    Err(Obstacle::InProgress | Obstacle::QuorumAtRisk { .. })
                        if Instant::now() < patience =>
                    {
                        let soon = patience.min(Instant::now() + RETRY_PAUSE);
                        let _ = timeout_at(soon.into(), membership.changed()).await;
                        continue;
                    }
                    Err(obstacle) => return obstacle.into(),
                };
            if now.is_voter(self.id()) && !next.voters.contains(&self.id()) {
                return match self.transfer_leadership(None, deadline).await {
                    Ok(_) => Tried::NotLeader,
                    Err(TransferError::Failed(error)) => error.into(),
                    Err(_) => Error::NotApplied.into(),
                };
            }
            match self.propose_membership(next).await {
                Ok(at) => return self.completed(at, deadline).await,
                Err(Refused::ChangeInProgress | Refused::Transferring) => {
                    if Instant::now() >= patience {
                        return Obstacle::InProgress.into();
                    }
                    let soon = patience.min(Instant::now() + RETRY_PAUSE);
                    let _ = timeout_at(soon.into(), membership.changed()).await;
                }
                Err(Refused::Busy) => return Error::Busy.into(),
                Err(Refused::NotLeader { .. }) => return Tried::NotLeader,
                Err(_) => return Error::NotApplied.into(),
            }
        }
    }

    /// Waits until the entry at `at`, and the one that ends a joint phase after it, are applied.
    async fn completed(&self, at: LogId, deadline: Instant) -> Tried {
        let mut applied = self.watch_applied();
        let mut membership = self.watch_membership();
        let complete = async {
            applied.wait_for(|applied| *applied >= at.index).await.ok()?;
            if self.standing().term != at.term {
                return None;
            }
            // The leader goes on to the end of the joint phase by itself, and whoever follows it as well.
            membership
                .wait_for(|now| now.as_ref().is_some_and(|now| now.outgoing.is_none()))
                .await
                .ok()?;
            let last = self.progress().await?.last;
            applied.wait_for(|applied| applied.0 >= last).await.ok()?;
            self.members()
        };
        match timeout_at(deadline.into(), complete).await {
            Ok(Some(members)) => Tried::Done(members),
            // Another leads, or this node stops, or it takes too long: the change may yet be made.
            Ok(None) | Err(_) => Error::Unknown.into(),
        }
    }

    /// The members as this node knows them; none before there is a cluster.
    pub fn members(&self) -> Option<Members> {
        self.membership().map(|now| members_of(&now))
    }

    fn members_without_this(&self) -> Option<Members> {
        let mut now = self.membership()?;
        now.members.remove(&self.id());
        now.voters.remove(&self.id());
        Some(members_of(&now))
    }

    /// What this node, as the leader, knows of the hosts.
    pub(super) fn sight<T>(
        &self,
        progress: &LeaderProgress,
        look: impl FnOnce(Sight<'_>) -> T,
    ) -> T {
        let peers = self.net().peers();
        let is_connected = |id| peers.iter().any(|peer| peer.connected && peer.node_id == Some(id));
        look(Sight {
            reachable: &|id| id == self.id() || (is_connected(id) && progress.active.contains(&id)),
            lag: &|id| {
                let (_, matched) = progress.matched.iter().find(|(node, _)| *node == id)?;
                Some(progress.last.saturating_sub(*matched))
            },
        })
    }
}

/// How long to wait for a leader that has just begun, or is handing over.
const RETRY_PAUSE: Duration = Duration::from_millis(20);

fn members_of(now: &Membership) -> Members {
    let info = |(&id, member): (&NodeId, &crate::raft::Member)| MemberInfo {
        name: member.name.clone(),
        id: member.seen.then(|| id.to_string()),
        raft_address: member.raft_address.clone(),
        http_address: member.http_address.clone(),
        voter: now.is_voter(id),
        promote: member.promote,
    };
    let mut members: Vec<MemberInfo> = now.members.iter().map(info).collect();
    members.sort_by(|a, b| a.name.cmp(&b.name));
    Members { members, warnings: roster::warnings(now) }
}
