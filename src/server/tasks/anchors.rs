//! Has the cluster keep the last record of this node's audit, and, at the leader, forget those of nodes that belong to it no more;
//! see [`Anchor`].

use std::collections::BTreeSet;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::time::{MissedTickBehavior, timeout};

use crate::api::{AnchorJson, AnchorsJson, Error, SeeAudit};
use crate::audit::{Audit, Hash, Head};
use crate::kv::{Anchor, Anchored, Write};
use crate::raft::{NodeId, RoleName};
use crate::replica::Origin;
use crate::server::allowed::Allowed;
use crate::server::handle::Handle;
use crate::server::peer::at_leader::Leader;
use crate::server::run::audit::anchors_of;
use crate::server::run::event::Asker;
use crate::server::wire::{PeerReply, PeerRequest};

/// How long a proposal may wait to be carried out.
const PATIENCE: Duration = Duration::from_secs(5);
/// And that of a node that stops.
const LAST_PATIENCE: Duration = Duration::from_secs(1);

/// Anchors from time to time, if there is something new; for ever.
pub(crate) async fn run(handle: Handle) {
    let mut ticks = tokio::time::interval(handle.shared.config.audit.anchor);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Some(audit) = &handle.shared.audit {
            anchor(&handle, audit, PATIENCE).await;
        }
        if handle.standing().role == RoleName::Leader {
            forget(&handle).await;
        }
    }
}

/// Anchors what was recorded last, before the node stops.
pub(crate) async fn anchor_last(handle: &Handle) {
    if let Some(audit) = &handle.shared.audit {
        anchor(handle, audit, LAST_PATIENCE).await;
    }
}

async fn anchor(handle: &Handle, audit: &Audit, patience: Duration) {
    let needs = Write::ForgetAnchors { node: 0 }.level();
    if handle.state().level() < needs || audit.head().sequence <= audit.anchored() {
        return;
    }
    let deadline = Instant::now() + patience;
    // What is anchored must be there after every crash.
    let Ok(Ok(Head { sequence, hash })) = timeout(patience, audit.settle()).await else { return };
    let at_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let anchor = Anchor { node: handle.id().0, sequence, hash: hash.0, at_s };
    // What fails is due again at the next tick.
    match propose(handle, anchor, deadline).await {
        Ok(true) => audit.note_anchored(sequence),
        done => tracing::debug!(sequence, ?done, "the audit could not be anchored"),
    }
}

/// Whether it is kept.
async fn propose(handle: &Handle, anchor: Anchor, deadline: Instant) -> Result<bool, Error> {
    match handle.leaders(deadline).next().await? {
        Leader::Here => {
            let write = Write::Anchor(anchor);
            Ok(handle.write_here(write, Origin::default(), Asker::Client, deadline).await.is_ok())
        }
        Leader::There(leader) => {
            let request = PeerRequest::Anchor(anchor);
            let replied = handle.ask(leader, &request, deadline).await;
            Ok(matches!(replied, Ok(Some(PeerReply::Noted))))
        }
    }
}

/// Forgets the anchors of nodes that belong to the cluster no more.
async fn forget(handle: &Handle) {
    let state = handle.shared.state.clone();
    let known = tokio::task::spawn_blocking(move || anchors_of(&state)).await;
    let known = match known {
        Ok(Ok(known)) => known,
        Ok(Err(error)) => {
            handle.damaged(error);
            return;
        }
        Err(_) => return,
    };
    let nodes: BTreeSet<u64> = known.iter().map(|it| it.anchor.node).collect();
    let Some(membership) = handle.membership() else { return };
    let belongs = |node: &u64| {
        let id = NodeId(*node);
        membership.members.contains_key(&id) || membership.is_voter(id)
    };
    for node in nodes.into_iter().filter(|node| !belongs(node)) {
        let deadline = Instant::now() + PATIENCE;
        let write = Write::ForgetAnchors { node };
        // What fails is due again at the next look.
        if let Err(error) =
            handle.write_here(write, Origin::default(), Asker::Client, deadline).await
        {
            tracing::debug!(?error, "the anchors of a node that was put out stay");
        }
    }
}

impl Handle {
    /// What the cluster knows of the audits of its members, as this node has it.
    ///
    /// # Errors
    /// The disk's.
    pub async fn anchors(&self, _: &Allowed<SeeAudit>) -> Result<AnchorsJson, Error> {
        let handle = self.clone();
        // They may be in the file alone.
        let read = tokio::task::spawn_blocking(move || anchors_of(handle.state()));
        let anchors = read.await.map_err(|_| Error::ShuttingDown)?;
        let anchors = anchors.map_err(|error| self.damaged(error))?;
        Ok(AnchorsJson { anchors: anchors.iter().map(|it| self.told(it)).collect() })
    }

    fn told(&self, anchored: &Anchored) -> AnchorJson {
        let Anchored { anchor, clock_ms } = *anchored;
        let id = NodeId(anchor.node);
        let at = i64::try_from(anchor.at_s).ok();
        let at = at.and_then(|at| OffsetDateTime::from_unix_timestamp(at).ok());
        AnchorJson {
            node: self.name_of(id),
            id: id.to_string(),
            sequence: anchor.sequence,
            hash: Hash(anchor.hash).to_string(),
            time: at.and_then(|at| at.format(&Rfc3339).ok()).unwrap_or_default(),
            clock_ms,
        }
    }

    /// Keeps what a peer says of its own audit, if this node leads. Whether that is done.
    pub(crate) async fn anchor_peer(&self, from: NodeId, anchor: Anchor) -> bool {
        // Nobody speaks for another node.
        if anchor.node != from.0 {
            return false;
        }
        let deadline = Instant::now() + PATIENCE;
        let write = Write::Anchor(anchor);
        self.write_here(write, Origin::default(), Asker::Client, deadline).await.is_ok()
    }
}
