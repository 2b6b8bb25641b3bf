//! Questions to other nodes.

use std::time::Instant;

use super::passed_on;
use crate::net::RequestError;
use crate::raft::NodeId;
use crate::server::handle::Handle;
use crate::server::wire::{self, PeerReply, PeerRequest};

impl Handle {
    /// Asks a peer, and waits for its reply until the deadline; none for a reply that cannot be read.
    pub(crate) async fn ask(
        &self,
        peer: NodeId,
        request: &PeerRequest,
        deadline: Instant,
    ) -> Result<Option<PeerReply>, RequestError> {
        let reply = self.net().request(peer, wire::encode(request), deadline).await?;
        Ok(wire::decode(&reply))
    }

    /// Asks the leader the same way, and gives the question up once another leads: if the one that was asked lives, it has
    /// learnt by then what became of it.
    pub(crate) async fn ask_leader(
        &self,
        leader: NodeId,
        request: &PeerRequest,
        deadline: Instant,
    ) -> Result<Option<PeerReply>, RequestError> {
        passed_on::note();
        tokio::select! {
            replied = self.ask(leader, request, deadline) => replied,
            () = self.deposed(leader) => Err(RequestError::Unknown),
        }
    }

    /// Waits until another has led for an election time-out.
    async fn deposed(&self, leader: NodeId) {
        let mut standing = self.shared.standing.clone();
        let another = standing.wait_for(|now| now.leader.is_some_and(|now| now != leader));
        if another.await.is_err() {
            // The node stops; whoever asked hears of that otherwise.
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(self.election_timeout()).await;
    }
}
