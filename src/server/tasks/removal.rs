//! How a node learns that it is a member no more; see [`crate::cluster::removal`].

use std::sync::Arc;

use tokio::sync::{Notify, watch};

use crate::server::handle::Handle;

/// Tells `removed` once this node was put out. `disowned` says that somebody does not let it in.
pub(crate) async fn run(handle: Handle, disowned: Arc<Notify>, removed: watch::Sender<bool>) {
    loop {
        disowned.notified().await;
        if handle.net().is_removed() {
            removed.send_replace(true);
            return;
        }
    }
}
