//! How far the members are, as the leader knows it.

use std::time::Instant;

use crate::raft::{NodeId, RoleName};
use crate::replica::Summary;
use crate::server::handle::{Handle, INSPECT_TIMEOUT};
use crate::server::wire::{LeaderProgress, PeerReply, PeerRequest};

impl Handle {
    /// How far everybody is, if this node leads.
    pub(crate) async fn progress(&self) -> Option<LeaderProgress> {
        let summary = self.inspect().await?;
        let leads = summary.role == RoleName::Leader;
        leads.then(|| progress_of(self.shared.id, &summary))
    }

    pub(crate) async fn ask_progress(&self, leader: NodeId) -> Option<LeaderProgress> {
        let deadline = Instant::now() + INSPECT_TIMEOUT;
        match self.ask(leader, &PeerRequest::Progress, deadline).await.ok()?? {
            PeerReply::Progress(progress) => progress,
            _ => None,
        }
    }
}

pub(super) fn progress_of(own: NodeId, summary: &Summary) -> LeaderProgress {
    let mut matched: Vec<_> = summary.peers.iter().map(|peer| (peer.id, peer.matched.0)).collect();
    matched.push((own, summary.last.0));
    let active = summary.peers.iter().filter(|peer| peer.active).map(|peer| peer.id).collect();
    LeaderProgress { last: summary.last.0, matched, active }
}
