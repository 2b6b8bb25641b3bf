//! What systemd is told, where it runs the node: that it serves, that it lives, that it stops.

use sd_notify::NotifyState;

use crate::server::Handle;

/// The node serves clients. It may still wait for the others: a cluster starts in any order.
pub(super) fn ready() {
    tell(NotifyState::Ready);
}

/// The node stops.
pub(super) fn stopping() {
    tell(NotifyState::Stopping);
}

/// Gives a sign of life, twice in the time that the unit allows, as long as the node can do its work.
pub(super) async fn keep_alive(handle: Handle) {
    let Some(allowed) = sd_notify::watchdog_enabled() else { return };
    let mut ticks = tokio::time::interval(allowed / 2);
    loop {
        ticks.tick().await;
        match handle.healthy().await {
            Ok(()) => tell(NotifyState::Watchdog),
            Err(why) => tracing::error!("no sign of life for the watchdog: {why}"),
        }
    }
}

/// Without systemd it does nothing.
fn tell(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "systemd cannot be told");
    }
}
