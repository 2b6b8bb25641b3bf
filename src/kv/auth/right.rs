//! What may be given: rights on ranges of keys, and named administration. The order of fields and variants is part of the
//! formats of the log and of the state.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::super::range::KeyRange;
use super::name::Name;

/// What may be done with keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Right {
    /// To be told what they are and were: gets, listings, compares, previous values.
    Read,
    /// To set and delete them.
    Write,
    /// To wait for their changes.
    Watch,
}

/// What may be done with the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Administration {
    /// To see and change who belongs to it.
    Members,
    /// To hand leadership over.
    Leader,
    /// To take a copy of everything.
    Backup,
    /// To give up the past.
    Compact,
    /// To see and change who may do what.
    Auth,
    /// To see what the audit of each node has come to.
    Audit,
}

impl Right {
    /// Every right.
    pub const ALL: [Right; 3] = [Right::Read, Right::Write, Right::Watch];

    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Right::Read => "read",
            Right::Write => "write",
            Right::Watch => "watch",
        }
    }
}

impl Administration {
    /// Every kind.
    pub const ALL: [Administration; 6] = [
        Administration::Members,
        Administration::Leader,
        Administration::Backup,
        Administration::Compact,
        Administration::Auth,
        Administration::Audit,
    ];

    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Administration::Members => "members",
            Administration::Leader => "leader",
            Administration::Backup => "backup",
            Administration::Compact => "compact",
            Administration::Auth => "auth",
            Administration::Audit => "audit",
        }
    }
}

/// Rights on a range of keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// The keys.
    pub range: KeyRange,
    /// What may be done with them.
    pub may: BTreeSet<Right>,
}

/// What its holders may do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Role {
    /// With keys.
    pub grants: Vec<Grant>,
    /// With the cluster.
    pub admin: BTreeSet<Administration>,
}

impl Role {
    /// Everything.
    pub(super) fn all() -> Role {
        let everything = Grant { range: KeyRange::all(), may: Right::ALL.into() };
        Role { grants: vec![everything], admin: Administration::ALL.into() }
    }
}

/// SHA-256 of a token: who reads it has no token.
pub type TokenHash = [u8; 32];

/// A token, without what proves that one has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// Whose.
    pub user: Name,
    /// Of what its holder shows.
    pub hash: TokenHash,
    /// When it was made, in seconds since 1970.
    pub made: u64,
    /// From when on it opens nothing, in seconds since 1970; none: it has no end.
    pub expires: Option<u64>,
}
