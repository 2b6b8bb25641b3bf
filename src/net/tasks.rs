//! Tasks of the network whose panic would otherwise go unnoticed: what nobody else would do is the end of the node, and
//! what belongs to one connection is the end of that, which a peer makes anew.

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;
use quinn::Connection;

use super::Inbound;
use super::refusal::CloseCode;

/// Work that the node cannot do without: a panic is told to whoever runs the network.
pub(super) async fn vital(
    inbound: &dyn Inbound,
    name: &'static str,
    work: impl Future<Output = ()>,
) {
    if let Err(panic) = AssertUnwindSafe(work).catch_unwind().await {
        inbound.ended(name, &*panic);
    }
}

/// Work on one connection: a panic closes it.
pub(super) async fn on(connection: &Connection, work: impl Future<Output = ()>) {
    if AssertUnwindSafe(work).catch_unwind().await.is_err() {
        connection.close(CloseCode::Failed.as_varint(), b"a task of this connection panicked");
    }
}
