//! Whether the replicas hold the same: the leader compares hashes of their states at the same index, and
//! stops whoever differs from the majority.
//! See [`crate::cluster::consistency`].

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::cluster::consistency::{differs, judge};
use crate::raft::{NodeId, RoleName};
use crate::server::handle::Handle;
use crate::server::wire::{PeerReply, PeerRequest};
use crate::store::{HashAt, StoreError};

/// How often the leader compares.
const COMPARE_EVERY: Duration = Duration::from_secs(2);
/// How long a peer may take to answer.
const ASK_TIMEOUT: Duration = Duration::from_secs(1);

/// Compares while this node leads, until it stops.
pub(crate) async fn run(handle: Handle) {
    let mut standing = handle.watch_standing();
    loop {
        tokio::time::sleep(COMPARE_EVERY).await;
        if standing.borrow_and_update().role != RoleName::Leader {
            if standing.wait_for(|now| now.role == RoleName::Leader).await.is_err() {
                return;
            }
            continue;
        }
        compare(&handle).await;
    }
}

async fn compare(handle: &Handle) {
    let Some(membership) = handle.membership() else { return };
    let mut all = BTreeMap::from([(handle.id(), handle.state_hashes())]);
    for &id in membership.members.keys().filter(|id| **id != handle.id()) {
        if let Some(PeerReply::StateHashes(hashes)) =
            ask(handle, id, &PeerRequest::StateHashes).await
        {
            all.insert(id, hashes);
        }
    }
    let Some(verdict) = judge(&all, &membership) else { return };
    for (id, own) in verdict.minority {
        let name = handle.name_of(id).unwrap_or_else(|| id.to_string());
        tracing::error!(
            index = verdict.majority.index,
            "{name} holds another state than the majority, and is told to stop"
        );
        if id == handle.id() {
            handle.diverged(own, verdict.majority);
        } else {
            let told = PeerRequest::Diverged { own, majority: verdict.majority };
            ask(handle, id, &told).await;
        }
    }
}

async fn ask(handle: &Handle, id: NodeId, request: &PeerRequest) -> Option<PeerReply> {
    handle.ask(id, request, Instant::now() + ASK_TIMEOUT).await.ok()?
}

impl Handle {
    /// Stops this node, if it has at that index what it is said to have.
    pub(crate) fn diverged(&self, own: HashAt, majority: HashAt) {
        if differs(&self.state_hashes(), own, majority) {
            self.fail(StoreError::Diverged {
                index: majority.index,
                own: own.hash,
                majority: majority.hash,
            });
        }
    }
}
