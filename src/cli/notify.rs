//! What systemd is told, where it runs the node: that it serves, that it lives, that it stops.

use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;

use crate::server::Handle;
use crate::store::Life;

/// For how long a node that works on its files asks, and how often.
const ASK_AHEAD: Duration = Duration::from_secs(60);
const ASK_EVERY: Duration = Duration::from_secs(10);

/// The node serves clients. It may still wait for the others: a cluster starts in any order.
pub(super) fn ready() {
    tell(NotifyState::Ready);
}

/// The node stops.
pub(super) fn stopping() {
    tell(NotifyState::Stopping);
}

/// Asks for more time again and again, as long as the node gets further with its files: opening them reads all
/// of them, and closing them writes a last checkpoint.
pub(super) async fn ask_for_time(life: Arc<Life>) {
    life.disk.beat();
    loop {
        if life.disk.still_for().is_none_or(|still| still < ASK_AHEAD) {
            let microseconds = u32::try_from(ASK_AHEAD.as_micros()).unwrap_or(u32::MAX);
            tell(NotifyState::ExtendTimeoutUsec(microseconds));
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
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
