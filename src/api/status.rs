//! What a node tells about itself and its cluster.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What this node says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Its name.
    pub name: String,
    /// Its identity, 16 hex digits.
    pub id: String,
    /// The cluster's name in its certificate.
    #[serde(default)]
    pub cluster: String,
    /// The cluster's identity, once there is one.
    pub cluster_id: Option<String>,
    /// `follower`, `candidate` or `leader`.
    pub role: String,
    /// The term.
    pub term: u64,
    /// The leader's name, if known.
    pub leader: Option<String>,
    /// The commit index.
    pub commit: u64,
    /// The last index applied.
    pub applied: u64,
    /// The last index in the log.
    pub last_index: u64,
    /// The store's revision.
    pub revision: u64,
    /// The oldest revision that can be read; 0 while that is all of them.
    pub compact_revision: u64,
    /// Bytes of the log's file.
    pub log_bytes: u64,
    /// Bytes of the state's file.
    pub state_bytes: u64,
    /// How far the state's file is verified; none of a release that did that before it served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verification: Option<Verification>,
    /// konsen's version.
    pub version: String,
    /// The cluster's feature level, and what this node knows; none of a release from before there were any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub features: Option<NodeFeatures>,
    /// Milliseconds since the node started.
    pub uptime_ms: u64,
    /// At a leader: the next index to send, by name of the peer.
    pub next_index: BTreeMap<String, u64>,
    /// At a leader: the last index known to be durable there, by name of the peer.
    pub match_index: BTreeMap<String, u64>,
    /// What somebody has to do something about: certificates that end within a month, configurations that differ, why
    /// no leader can be elected.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// How far the pages are verified that the state's file had when the node started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verification {
    /// The bytes of pages that were verified.
    pub verified_bytes: u64,
    /// How many bytes of pages there are at most; exactly, once it has ended.
    pub of_bytes: u64,
    /// While it is under way: in how many seconds it ends at most, if it goes on as it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds_left: Option<u64>,
    /// When it ended, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<String>,
}

/// What a node says of feature levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeFeatures {
    /// The cluster's, as far as the node has applied its log.
    pub level: u32,
    /// The highest that the node's release knows.
    pub highest: u32,
}

/// The cluster's feature level.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterFeatures {
    /// The level.
    pub level: u32,
    /// The release that raised it; none while nobody did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raised_by: Option<String>,
    /// The members that keep it where it is, although others know more, as the node asked sees them: those of which it
    /// knows nothing, too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub held_back_by: Vec<String>,
}

/// The settings that all members follow alike, whatever their own files say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgreedSettings {
    /// `limits.value`, in bytes.
    pub value_bytes: u64,
    /// `raft.electionTimeout`, in milliseconds.
    pub election_timeout_ms: u64,
    /// `reads.lease`.
    pub lease_reads: bool,
}

/// Who leads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leadership {
    /// The leader's name.
    pub leader: String,
    /// Its term.
    pub term: u64,
}

/// The members after a change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Members {
    /// Everybody, by name.
    pub members: Vec<MemberInfo>,
    /// What works and is probably not meant.
    pub warnings: Vec<String>,
    /// Whether this is decided, as far as the node asked knows, and it hears a leader. Else it may yet be undone, or
    /// be out of date.
    #[serde(default)]
    pub decided: bool,
}

/// A member as the membership states it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberInfo {
    /// Its name.
    pub name: String,
    /// Its identity, 16 hex digits; none while its host was never seen.
    pub id: Option<String>,
    /// Where it listens for peers.
    pub raft_address: String,
    /// Where it serves clients.
    pub http_address: String,
    /// Whether it votes; a learner does not.
    pub voter: bool,
    /// Of a learner: whether it is given a vote once it has caught up.
    pub promote: bool,
}

/// A member as the node asked sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberStatus {
    /// Its name.
    pub name: String,
    /// Its identity, 16 hex digits; none while its host was never seen.
    pub id: Option<String>,
    /// Where it listens for peers.
    pub raft_address: String,
    /// Where it serves clients.
    pub http_address: String,
    /// Whether it votes; a learner does not.
    pub voter: bool,
    /// `leader`, `follower`, `candidate`, `learner` or `unknown`.
    pub role: String,
    /// The last index known to be durable there (the leader knows it).
    pub matched: Option<u64>,
    /// How many entries it lacks.
    pub lag: Option<u64>,
    /// Whether the node asked has a connection to it.
    pub reachable: bool,
    /// Whether its host was never taken in, or that is not decided: until then it has no vote, however well it is
    /// connected, though its place counts in how many are needed.
    #[serde(default)]
    pub awaited: bool,
    /// When its certificate ends, RFC 3339.
    pub certificate_expires: Option<String>,
    /// Its version of konsen.
    pub version: Option<String>,
    /// The highest feature level that it knows; none where the node asked has no connection to it.
    #[serde(default)]
    pub features: Option<u32>,
}

/// The cluster as the node asked sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterStatus {
    /// The cluster's name in the certificates.
    pub cluster: String,
    /// Its identity.
    pub cluster_id: Option<String>,
    /// The leader's name, if known.
    pub leader: Option<String>,
    /// The term.
    pub term: u64,
    /// SHA-256 of each certificate of the authority that the node asked trusts, in hexadecimal.
    #[serde(default)]
    pub authorities: Vec<String>,
    /// The feature level; none of a release from before there were any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub features: Option<ClusterFeatures>,
    /// What the cluster has agreed on; none before it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settings: Option<AgreedSettings>,
    /// Everybody.
    pub members: Vec<MemberStatus>,
    /// The change of the voters that is under way, if one is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<PendingChange>,
}

/// A change of the voters that is not complete: those before it and those after it have to agree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingChange {
    /// The names of the voters before it.
    pub before: Vec<String>,
    /// The names of the voters after it.
    pub after: Vec<String>,
    /// Who is needed and cannot be reached from the node asked; empty where the change can go on.
    pub missing: Vec<String>,
    /// For how many seconds the node asked has known of it.
    pub for_seconds: u64,
}
