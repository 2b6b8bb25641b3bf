//! Lets the network know whose certificates were revoked, as soon as that is applied here.

use crate::server::handle::Handle;

/// Passes it on whenever it may have changed.
pub(crate) async fn follow(handle: Handle) {
    let mut access = handle.shared.access.clone();
    loop {
        handle.net().revoke(handle.state().access().revoked().keys().copied().collect());
        if access.changed().await.is_err() {
            return;
        }
    }
}
