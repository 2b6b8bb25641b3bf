//! The bodies of requests about the store as a whole.

use serde::{Deserialize, Serialize};

use crate::kv::Revision;

/// The body of `POST /v1/compact`, and the answer's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CompactJson {
    /// The oldest revision that can still be read afterwards, 1 or more.
    pub revision: Revision,
}

/// The body of `POST /v1/cluster/leader`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TransferJson {
    /// Who is to lead; none: the voter that is furthest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
}
