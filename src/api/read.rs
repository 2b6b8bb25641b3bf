//! What a read may ask of the state that answers it.

use serde::{Deserialize, Serialize};

use crate::kv::Revision;

/// How fresh a read must be. The order of the variants is part of the wire format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Consistency {
    /// As of now or later: a round of read-index.
    #[default]
    Linearizable,
    /// As of now while clocks run at like rates: the leader's lease. Needs `reads.lease`.
    Lease,
    /// Whatever this node has applied.
    Stale,
}

/// What a read asks of the state that answers it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Freshness {
    /// How fresh it must be.
    pub consistency: Consistency,
    /// Read as of this revision; none: the newest.
    pub at: Option<Revision>,
    /// Not before the node has seen this revision.
    pub min_revision: Option<Revision>,
}
