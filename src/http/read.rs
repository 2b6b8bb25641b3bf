//! How fresh a read must be, and waiting until this node is that fresh.

use std::time::Instant;

use super::error::Problem;
use super::query::Query;
use crate::kv::Revision;
use crate::server::{Consistency, Handle};

/// What a read asks of the state that answers it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Freshness {
    pub(crate) consistency: Consistency,
    /// Read as of this revision; none: the newest.
    pub(crate) at: Option<Revision>,
    /// Not before this node has seen this revision.
    pub(crate) min_revision: Option<Revision>,
}

impl Freshness {
    /// From `consistency`, `revision` and `min_revision`.
    pub(crate) fn parse(query: &Query) -> Result<Freshness, Problem> {
        Ok(Freshness {
            consistency: query.consistency()?,
            at: query.revision("revision")?,
            min_revision: query.revision("min_revision")?,
        })
    }

    /// Waits until this node's state is fresh enough.
    pub(crate) async fn reach(&self, handle: &Handle, deadline: Instant) -> Result<(), Problem> {
        // A revision never changes once it exists, so a node that has it need ask nobody.
        if let Some(at) = self.at
            && at.max(self.min_revision.unwrap_or_default()) <= handle.revision()
            && self.consistency != Consistency::Lease
        {
            return Ok(());
        }
        Ok(handle.read_barrier(self.consistency, self.min_revision, deadline).await?)
    }
}
