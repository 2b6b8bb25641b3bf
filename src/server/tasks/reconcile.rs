//! What a leader does to the membership by itself; see [`crate::cluster::reconcile`].

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use crate::cluster::reconcile;
use crate::raft::RoleName;
use crate::replica::{ChangeFailed, Step};
use crate::server::handle::Handle;

/// How often a leader looks at the hosts when nothing was heard of any.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// How often it looks while somebody waits for a vote.
const LOOK_SOON: Duration = Duration::from_millis(100);

/// Looks after the membership while this node leads, until it stops.
pub(crate) async fn run(handle: Handle, peers_changed: Arc<Notify>) {
    let mut standing = handle.watch_standing();
    let mut membership = handle.watch_membership();
    loop {
        let leads = standing.borrow_and_update().role == RoleName::Leader;
        let now = membership.borrow_and_update().clone().filter(|_| leads);
        let waits = now.as_ref().is_some_and(reconcile::somebody_waits);
        if now.is_some() {
            match handle.change_membership(Step::Reconcile).await {
                Ok(proposed) => tracing::info!(index = proposed.at.index.0, "{}", proposed.what),
                Err(ChangeFailed::Unneeded) => {}
                Err(failed) => tracing::debug!(?failed, "the membership has to wait"),
            }
        }
        tokio::select! {
            changed = standing.changed() => if changed.is_err() { return },
            changed = membership.changed() => if changed.is_err() { return },
            () = peers_changed.notified() => {}
            // How far a learner is has no event.
            () = tokio::time::sleep(if waits { LOOK_SOON } else { LOOK_AGAIN }) => {}
        }
    }
}
