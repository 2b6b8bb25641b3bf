//! Reads: what they ask, also of the state that answers them, and what they come to.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::kv::{Item, Matcher, RangeQuery, Revision};

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

/// A read of one key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Get {
    /// The key.
    pub key: Bytes,
    /// Of which state.
    pub freshness: Freshness,
    /// If the key is this, its value is not wanted. Of the newest state only: the past is given in any case.
    pub unless: Option<Matcher>,
}

/// What a [`Get`] came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Got {
    /// The store's revision that it was read at.
    pub revision: Revision,
    /// The key.
    pub found: Found,
}

/// A key as it was read. The order of the variants is part of the wire format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Found {
    /// It does not exist.
    Absent,
    /// It exists.
    Item(Item),
    /// It is what [`Get::unless`] says, and has this mod revision.
    Unchanged(Revision),
}

/// A read of a part of a listing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct List {
    /// Which keys, as of which revision.
    pub query: RangeQuery,
    /// How fresh it must be.
    pub consistency: Consistency,
    /// Not before the node has seen this revision.
    pub min_revision: Option<Revision>,
}

impl List {
    /// Of which state it is.
    pub fn freshness(&self) -> Freshness {
        let List { query, consistency, min_revision } = self;
        Freshness { consistency: *consistency, at: query.at, min_revision: *min_revision }
    }
}
