//! Has the cluster decide that not everybody may do everything, where this node's configuration asks clients who they are: so
//! that it goes for all nodes, whatever their configurations say.

use std::time::{Duration, Instant};

use crate::config::ClientAuth;
use crate::kv::{AccessChange, Write};
use crate::replica::Origin;
use crate::server::handle::Handle;
use crate::server::run::event::Asker;

/// How long a proposal may wait to be carried out.
const PATIENCE: Duration = Duration::from_secs(5);

/// Turns it on, if this node asks clients who they are and the cluster can decide so.
pub(super) async fn turn_on(handle: &Handle) {
    let asks = handle.shared.config.http.client_auth != ClientAuth::None;
    if !asks || handle.state().access().is_on() || !handle.peers_know_callers() {
        return;
    }
    let (write, deadline) = (Write::Access(AccessChange::TurnOn), Instant::now() + PATIENCE);
    // What fails is due again at the next look.
    match handle.write_here(write, Origin::default(), Asker::Client, deadline).await {
        Ok(_) => tracing::info!(
            "access control is on: from now on every client has to show who it is, at every node"
        ),
        Err(error) => tracing::debug!(?error, "access control could not be turned on"),
    }
}
