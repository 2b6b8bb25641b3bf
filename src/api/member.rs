//! Changes of the membership, as operators ask for them.

use serde::{Deserialize, Serialize};

/// The body of `POST /v1/cluster/members`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddJson {
    /// The new member's name, as its certificate states it.
    pub name: String,
    /// Where it listens for its peers, `host:port` (UDP).
    pub raft_address: String,
    /// Where it serves clients, `host:port` (TCP).
    pub http_address: String,
    /// Whether it stays a learner; else it is given a vote once it has caught up.
    #[serde(default)]
    pub learner: bool,
}

/// The body of `POST /v1/cluster/members/{name}/replace`; it may be left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplaceJson {
    /// Where the new host listens for its peers; none: where the old one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raft_address: Option<String>,
    /// Where the new host serves clients; none: where the old one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_address: Option<String>,
}

/// The answer of `POST /v1/cluster/members/{name}/renew`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RenewedJson {
    /// Who has another certificate.
    pub name: String,
    /// Until when it is good, RFC 3339.
    pub expires: String,
}

/// Where a host is reached, `host:port` each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// By its peers (UDP).
    pub raft: String,
    /// By clients (TCP).
    pub http: String,
}

/// A change of the membership. Names and addresses are taken as they are: whoever makes one of text has checked that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemberChange {
    /// A host comes in.
    Add {
        /// Its name.
        name: String,
        /// Where it is reached.
        addresses: Addresses,
        /// Whether it is given a vote once it has caught up.
        promote: bool,
    },
    /// A member goes.
    Remove {
        /// Its name.
        name: String,
    },
    /// A learner is given a vote.
    Promote {
        /// Its name.
        name: String,
    },
    /// Another host takes a member's place.
    Replace {
        /// The name of both.
        name: String,
        /// Where the new host is reached; none: where the old one was.
        addresses: Option<Addresses>,
    },
    /// The change that is under way is undone.
    Undo,
}
