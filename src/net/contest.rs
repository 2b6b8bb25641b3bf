//! Which of two hosts with one identity is let in: the one that came first, as long as it is heard.
//!
//! A connection does not show at once that its other end is gone, so whoever comes from elsewhere with a known identity
//! has to wait for a moment, in which the one that was there before is heard if it lives: it is never silent for longer
//! than [`KEEP_ALIVE`]. Whoever comes back at the same address, as a host does that was started again, waits for nothing.

use std::time::Duration;

use quinn::Connection;
use tokio::time::sleep;

use super::tls::KEEP_ALIVE;

/// How long one that is not heard may live: a sign of life that was lost is repeated within that time.
const SILENT_AT_MOST: Duration = KEEP_ALIVE.saturating_add(Duration::from_millis(500));
/// How often to look; nothing tells when a datagram has come.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Waits until one of these is heard, or none can be that lives; those that are not heard.
pub(super) async fn silent(connections: Vec<Connection>) -> Vec<Connection> {
    let heard = |connection: &Connection| connection.stats().udp_rx.datagrams;
    let before: Vec<u64> = connections.iter().map(heard).collect();
    // Looks are counted, not time: where this process stood still, what came meanwhile is not read yet.
    let looks = SILENT_AT_MOST.as_millis() / LOOK_AGAIN.as_millis();
    for _ in 0..looks {
        if connections.iter().all(|connection| connection.close_reason().is_some()) {
            break;
        }
        sleep(LOOK_AGAIN).await;
        let lives = |(connection, before): (&Connection, &u64)| {
            connection.close_reason().is_none() && heard(connection) > *before
        };
        if connections.iter().zip(&before).any(lives) {
            return Vec::new();
        }
    }
    connections
}
