//! Keeps the network's list of peers in step with the membership, and the membership in step with hosts
//! that show their identity for the first time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};

use super::handle::Handle;
use crate::config::Config;
use crate::net::{Net, Peer};
use crate::raft::{Membership, RoleName, Standing};

/// How often a leader looks for hosts that are new to the membership when nothing was heard of any.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Tells the network who its peers are, from the configuration until there is a membership.
pub(super) fn tell_net(net: &Net, config: &Config, membership: Option<&Membership>) {
    let mut peers = BTreeMap::new();
    match membership {
        None => {
            for (name, address) in &config.servers {
                peers.insert(
                    name.to_string(),
                    Peer { address: address.to_string(), expected: None },
                );
            }
        }
        Some(membership) => {
            for (&id, member) in &membership.members {
                // An operator who moves a host edits its address in the file.
                let configured = config.servers.get(member.name.as_str());
                let address =
                    configured.map_or_else(|| member.raft_address.clone(), ToString::to_string);
                let expected = member.seen.then_some(id);
                peers.insert(member.name.clone(), Peer { address, expected });
            }
        }
    }
    peers.remove(config.name.as_str());
    net.set_peers(peers);
    net.set_born(membership.map(|membership| membership.cluster));
}

/// Follows the membership until the node stops.
pub(super) async fn follow_membership(
    net: Net,
    config: Arc<Config>,
    mut membership: watch::Receiver<Option<Membership>>,
) {
    loop {
        tell_net(&net, &config, membership.borrow_and_update().as_ref());
        if membership.changed().await.is_err() {
            return;
        }
    }
}

/// While this node leads: when a member that was absent at the cluster's birth shows its identity for
/// the first time, puts it in the place that was kept for it.
pub(super) async fn admit_late_members(
    handle: Handle,
    net: Net,
    membership: watch::Receiver<Option<Membership>>,
    mut standing: watch::Receiver<Standing>,
    peers_changed: Arc<Notify>,
) {
    loop {
        tokio::select! {
            changed = standing.changed() => if changed.is_err() { return },
            () = peers_changed.notified() => {}
            () = tokio::time::sleep(LOOK_AGAIN) => {}
        }
        if standing.borrow_and_update().role != RoleName::Leader {
            continue;
        }
        let current = membership.borrow().clone();
        let Some(changed) = current.as_ref().and_then(|current| with_late_member(current, &net))
        else {
            continue;
        };
        match handle.change_members(changed).await {
            Ok(at) => tracing::info!(index = at.index.0, "a member that was absent joins"),
            Err(refused) => tracing::debug!(?refused, "a late member has to wait"),
        }
    }
}

fn with_late_member(current: &Membership, net: &Net) -> Option<Membership> {
    if current.outgoing.is_some() {
        return None;
    }
    for peer in net.peers() {
        let Some(id) = peer.node_id.filter(|_| peer.connected) else { continue };
        match current.by_name(&peer.name) {
            Some((stand_in, member)) if !member.seen && !current.members.contains_key(&id) => {
                let mut changed = current.clone();
                let mut member = member.clone();
                member.seen = true;
                changed.members.remove(&stand_in);
                changed.members.insert(id, member);
                if changed.voters.remove(&stand_in) {
                    changed.voters.insert(id);
                }
                return Some(changed);
            }
            _ => {}
        }
    }
    None
}
