//! Waiting until this node is as fresh as a read asks for.

use std::time::Instant;

use super::error::Problem;
use crate::api::{Consistency, Freshness};
use crate::server::Handle;

/// Waits until this node's state is fresh enough.
pub(crate) async fn reach(
    freshness: Freshness,
    handle: &Handle,
    deadline: Instant,
) -> Result<(), Problem> {
    let Freshness { consistency, at, min_revision } = freshness;
    // A revision never changes once it exists, so a node that has it need ask nobody.
    if let Some(at) = at
        && at.max(min_revision.unwrap_or_default()) <= handle.revision()
        && consistency != Consistency::Lease
    {
        return Ok(());
    }
    Ok(handle.read_barrier(consistency, min_revision, deadline).await?)
}
