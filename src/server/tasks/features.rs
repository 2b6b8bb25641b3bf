//! Raises the cluster's feature level once every member knows a higher one; see [`crate::cluster::features`].

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::cluster::features::{held_back_by, known_by, raise_to};
use crate::kv::{FeatureLevel, Raised, RecordKey, Write, decode_level};
use crate::raft::NodeId;
use crate::replica::Origin;
use crate::server::handle::Handle;
use crate::server::run::event::Asker;

/// How often to look whether somebody keeps the level where it is.
const NOTE_EVERY: Duration = Duration::from_secs(10);
/// How long a proposal may wait to be carried out.
const PATIENCE: Duration = Duration::from_secs(5);

/// Notes since when somebody has kept the level where it is.
pub(crate) async fn note_held_back(handle: Handle, since: watch::Sender<Option<Instant>>) {
    loop {
        tokio::time::sleep(NOTE_EVERY).await;
        let held = !handle.level_held_back_by().is_empty();
        since.send_if_modified(|since| {
            let changed = since.is_some() != held;
            if changed {
                *since = held.then(Instant::now);
            }
            changed
        });
    }
}

/// Raises the level, no higher than `hold` says.
pub(super) async fn raise(handle: &Handle, hold: Option<FeatureLevel>) {
    let (current, highest) = (handle.state().level(), handle.state().highest());
    let Some(level) = raise_to(current, highest, &handle.levels_known(), hold) else { return };
    let release = env!("CARGO_PKG_VERSION").to_owned();
    let deadline = Instant::now() + PATIENCE;
    // What fails is due again at the next look.
    match handle
        .write_here(Write::Raise { level, release }, Origin::default(), Asker::Client, deadline)
        .await
    {
        Ok(_) => tracing::info!(
            "all members know feature level {level}, to which the cluster is raised: no older release can take part any \
             more"
        ),
        Err(error) => tracing::debug!(?error, "the feature level could not be raised to {level}"),
    }
}

/// Carries out a command that only the next release knows, once: whoever does not know it would stop before it.
#[cfg(feature = "next-level")]
pub(super) async fn prove(handle: &Handle, proved: &mut bool) {
    if *proved || handle.state().level() < Write::Nothing.level() {
        return;
    }
    let deadline = Instant::now() + PATIENCE;
    match handle.write_here(Write::Nothing, Origin::default(), Asker::Client, deadline).await {
        Ok(_) => {
            *proved = true;
            tracing::info!("a command of the next release is committed");
        }
        Err(error) => tracing::debug!(?error, "a command of the next release"),
    }
}

impl Handle {
    /// What each member knows of feature levels, as far as this node is connected to it; empty before there is a cluster.
    pub(crate) fn levels_known(&self) -> BTreeMap<NodeId, Option<FeatureLevel>> {
        let Some(membership) = self.membership() else { return BTreeMap::new() };
        let peers = self.net().peers();
        known_by(&membership, |id| {
            if id == self.id() {
                return Some(self.state().highest());
            }
            let peer = peers.iter().find(|peer| peer.seat == id && peer.connected)?;
            let features = peer.features.filter(|_| peer.node_id == Some(id))?;
            Some(features.highest)
        })
    }

    /// Who raised the level; none if nobody did yet, or it cannot be read.
    pub(crate) async fn raised(&self) -> Option<Raised> {
        if self.state().level() == FeatureLevel::BASE {
            return None;
        }
        let handle = self.clone();
        // It may be in the file alone.
        let read = move || handle.state().record(&RecordKey::level());
        let record = tokio::task::spawn_blocking(read).await.ok()?.ok()?;
        decode_level(record.as_deref()).ok().flatten()
    }

    /// The names of the members that keep the level where it is, although others know more.
    pub(crate) fn level_held_back_by(&self) -> Vec<String> {
        let held = held_back_by(self.state().level(), &self.levels_known());
        let name = |id: NodeId| self.name_of(id).unwrap_or_else(|| id.to_string());
        let mut names: Vec<String> = held.into_iter().map(name).collect();
        names.sort_unstable();
        names
    }
}
