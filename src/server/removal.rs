//! How a node learns that it is a member no more: those who decide without it do not talk to it.

use std::sync::Arc;

use tokio::sync::{Notify, watch};

use super::handle::Handle;
use crate::raft::{Membership, NodeId};

/// Tells `removed` once this node was put out.
///
/// The entry that removes a node need not reach it, and a single peer may know of an old membership. So it
/// counts: a majority of the other voters that this node knows of says that it is no member.
pub(super) async fn run(handle: Handle, disowned: Arc<Notify>, removed: watch::Sender<bool>) {
    loop {
        disowned.notified().await;
        let Some(now) = handle.membership() else { continue };
        let peers = handle.net().peers();
        let disowners = peers.iter().filter(|peer| peer.disowns).map(|peer| peer.name.as_str());
        if is_removed(&now, handle.id(), &disowners.collect::<Vec<_>>()) {
            removed.send_replace(true);
            return;
        }
    }
}

fn is_removed(now: &Membership, own: NodeId, disowners: &[&str]) -> bool {
    let others = now.voters.iter().filter(|id| **id != own);
    let names: Vec<&str> =
        others.filter_map(|id| now.members.get(id)).map(|member| member.name.as_str()).collect();
    let disown = names.iter().filter(|name| disowners.contains(name)).count();
    disown * 2 > names.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::{ClusterId, Member};

    #[test]
    fn a_majority_of_the_other_voters_decides() {
        let member = |n: u64| Member {
            name: format!("n{n}"),
            raft_address: String::new(),
            http_address: String::new(),
            seen: true,
            promote: false,
            replaces: None,
        };
        let now = |voters: u64| Membership {
            cluster: ClusterId(1),
            members: (1..=4).map(|n| (NodeId(n), member(n))).collect(),
            voters: (1..=voters).map(NodeId).collect(),
            outgoing: None,
        };
        assert!(!is_removed(&now(3), NodeId(3), &["n1"]));
        assert!(is_removed(&now(3), NodeId(3), &["n1", "n2"]));
        assert!(is_removed(&now(2), NodeId(2), &["n1"]));
        // A learner is put out by the voters; other learners have no say.
        assert!(!is_removed(&now(3), NodeId(4), &["n1"]));
        assert!(is_removed(&now(3), NodeId(4), &["n1", "n3"]));
        assert!(!is_removed(&now(3), NodeId(3), &["n1", "n4"]));
        // Nobody removes the only voter.
        assert!(!is_removed(&now(1), NodeId(1), &["n2", "n3", "n4"]));
    }
}
