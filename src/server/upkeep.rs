//! What a leader does to the membership by itself: lets hosts in that show themselves, learns new
//! addresses, gives votes to learners that have caught up.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use super::handle::Handle;
use crate::raft::{Membership, RoleName};
use crate::replica::roster::{self, Addresses};

/// How often a leader looks at the hosts when nothing was heard of any.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// How often it looks while somebody waits for a vote.
const LOOK_SOON: Duration = Duration::from_millis(100);

/// Looks after the membership while this node leads, until it stops.
pub(super) async fn run(handle: Handle, peers_changed: Arc<Notify>) {
    let mut standing = handle.watch_standing();
    let mut membership = handle.watch_membership();
    loop {
        let leads = standing.borrow_and_update().role == RoleName::Leader;
        let now = membership.borrow_and_update().clone().filter(|_| leads);
        let waits = now.as_ref().is_some_and(somebody_waits);
        if let Some((what, next)) = match &now {
            Some(now) => next(&handle, now).await,
            None => None,
        } {
            match handle.propose_membership(next).await {
                Ok(at) => tracing::info!(index = at.index.0, "{what}"),
                Err(refused) => tracing::debug!(?refused, "{what}: has to wait"),
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

/// Whether a learner that was seen is to have a vote.
fn somebody_waits(now: &Membership) -> bool {
    now.members.values().any(|member| member.promote && member.seen)
}

/// The next thing to do, and what the membership is then.
async fn next(handle: &Handle, now: &Membership) -> Option<(String, Membership)> {
    let (own, reached) = handle.own_addresses();
    if let Some(next) = roster::relocate(now, own, &reached) {
        return Some(("this node has moved".to_owned(), next));
    }
    for peer in handle.net().peers().into_iter().filter(|peer| peer.connected) {
        let Some(id) = peer.node_id else { continue };
        if let Some(next) = roster::admit(now, &peer.name, id) {
            return Some((format!("{} shows itself for the first time", peer.name), next));
        }
        let said = peer.addresses.filter(|said| !said.raft.is_empty() && !said.http.is_empty());
        let said = said.map(|said| Addresses { raft: said.raft, http: said.http });
        if let Some(next) = said.and_then(|said| roster::relocate(now, id, &said)) {
            return Some((format!("{} has moved", peer.name), next));
        }
    }
    if !somebody_waits(now) {
        return None;
    }
    let progress = handle.progress().await?;
    let next = handle.sight(&progress, |sight| roster::promote(now, sight))?;
    Some(("a learner has caught up and is given a vote".to_owned(), next))
}
