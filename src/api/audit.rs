//! What the cluster knows of the audits of its nodes, as clients are told.

use serde::{Deserialize, Serialize};

/// All anchors.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnchorsJson {
    /// By node, and in the order of its records.
    pub anchors: Vec<AnchorJson>,
}

/// A record of a node's audit that the cluster knows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnchorJson {
    /// The node's name; none where it is no member any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Its identity, 16 hexadecimal digits.
    pub id: String,
    /// The number of the record.
    pub sequence: u64,
    /// Its hash, 64 hexadecimal digits.
    pub hash: String,
    /// When the node had it, by its own clock, RFC 3339.
    pub time: String,
    /// The cluster's clock when it was anchored, in milliseconds.
    pub clock_ms: u64,
}
