//! Settings that all nodes have to follow alike, and so are agreed on in the state.

use serde::{Deserialize, Serialize};

/// What a configuration says that has to hold for the whole cluster. The order of the fields is part of the formats of the
/// log and of the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// `limits.value`, in bytes: otherwise a value is taken at one node and refused at another.
    pub value_bytes_max: u64,
    /// `raft.electionTimeout`, in milliseconds: a lease is as safe as the shortest of them is long.
    pub election_timeout_ms: u64,
    /// `reads.lease`.
    pub lease_reads: bool,
}
