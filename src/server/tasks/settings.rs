//! Has the cluster agree on settings, and tells where this node's configuration, or a member's, says something else; see
//! [`crate::cluster::settings`].

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::cluster::Settings;
use crate::cluster::settings::{deviations, differences, promised_ms, said_by, to_agree};
use crate::kv::Write;
use crate::raft::{NodeId, RoleName};
use crate::replica::Origin;
use crate::server::handle::Handle;
use crate::server::limits::settings_of;
use crate::server::run::event::Asker;

/// How long a proposal may wait to be carried out.
const PATIENCE: Duration = Duration::from_secs(5);

/// Has the cluster agree on what this node's configuration says, if that is what has to be agreed on next.
pub(super) async fn agree(handle: &Handle) {
    let (agreed, own) = (handle.state().settings(), handle.own_settings());
    let Some(settings) = to_agree(agreed, own, &handle.settings_known()) else { return };
    let deadline = Instant::now() + PATIENCE;
    // What fails is due again at the next look.
    if let Err(error) = handle
        .write_here(Write::Agree { settings }, Origin::default(), Asker::Client, deadline)
        .await
    {
        tracing::debug!(?error, "the cluster could not agree on {settings:?}");
    }
}

/// Says in the log what the cluster agrees on, and where this node, or at the leader a member, says something else; until the
/// node stops.
pub(crate) async fn tell(handle: Handle) {
    let mut agreed = handle.watch_agreed();
    let mut standing = handle.watch_standing();
    let mut told = None;
    loop {
        let now = *agreed.borrow_and_update();
        if let Some(settings) = now.filter(|_| now != told) {
            let Settings { value_bytes_max, election_timeout_ms, lease_reads } = settings;
            tracing::info!(
                "the cluster has agreed on limits.value: {value_bytes_max} bytes, raft.electionTimeout: \
                 {election_timeout_ms} ms, reads.lease: {lease_reads}"
            );
        }
        let led = standing.borrow_and_update().role == RoleName::Leader;
        // What all members say will be agreed on in a moment.
        let next = to_agree(now, handle.own_settings(), &handle.settings_known());
        if now.is_some() && next.is_none() && (now != told || led) {
            handle.settings_that_differ().iter().for_each(|differs| tracing::warn!("{differs}"));
        }
        told = now;
        // A leader is told of members that come later as they come.
        loop {
            tokio::select! {
                changed = agreed.changed() => match changed {
                    Ok(()) => break,
                    Err(_) => return,
                },
                changed = standing.changed() => match changed {
                    Ok(()) if led == (standing.borrow_and_update().role == RoleName::Leader) => {}
                    Ok(()) => break,
                    Err(_) => return,
                },
            }
        }
    }
}

/// What this node promised leaders before it started is over once that time has passed: then only what it promises now outlasts
/// the next start.
pub(crate) async fn end_promises(handle: Handle) {
    let promises = promised_ms(&handle.own_settings());
    let data = handle.shared.data.clone();
    let guards = match data.guards(promises) {
        Ok(guards) if guards > promises => guards,
        _ => return,
    };
    tokio::time::sleep(Duration::from_millis(guards)).await;
    let end = move || data.guards_no_longer(promises);
    if let Ok(Err(error)) = tokio::task::spawn_blocking(end).await {
        // The next start waits for longer than it had to.
        tracing::debug!(%error, "the end of what was promised could not be recorded");
    }
}

impl Handle {
    /// What this node's configuration says.
    fn own_settings(&self) -> Settings {
        settings_of(&self.shared.config)
    }

    /// What each member says, as far as this node is connected to it; empty before there is a cluster.
    fn settings_known(&self) -> BTreeMap<NodeId, Option<Settings>> {
        let Some(membership) = self.membership() else { return BTreeMap::new() };
        let peers = self.net().peers();
        said_by(&membership, |id| {
            if id == self.id() {
                return Some(self.own_settings());
            }
            let peer = peers.iter().find(|peer| peer.seat == id && peer.connected)?;
            peer.settings.filter(|_| peer.node_id == Some(id))
        })
    }

    /// Where this node's configuration says something else than the cluster has agreed on, and at the leader each peer's that
    /// is connected; before anything is agreed on, where they differ from this node's. Each as a sentence.
    pub(crate) fn settings_that_differ(&self) -> Vec<String> {
        let (own, agreed) = (self.own_settings(), self.state().settings());
        let leads = self.standing().role == RoleName::Leader;
        let mut sentences = agreed.map_or_else(Vec::new, |agreed| deviations(own, None, agreed));
        for peer in self.net().peers().into_iter().filter(|peer| peer.connected) {
            sentences.extend(match (peer.settings, agreed) {
                (Some(theirs), None) => differences(own, &peer.name, theirs),
                (Some(theirs), Some(agreed)) if leads => {
                    deviations(theirs, Some(&peer.name), agreed)
                }
                _ => Vec::new(),
            });
        }
        sentences
    }
}
