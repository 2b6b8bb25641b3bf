//! Who asks, and what requests of clients need to be allowed.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::member::MemberChange;
use super::read::{Get, List};
use super::txn::{TxnOp, TxnRequest};
use crate::kv::{Administration, Ask, Asks, Keys, Name, Right, Serial, TokenHash};

/// Who asks, as the node found out that the client was connected to. The order of the variants is part of the wire format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Caller {
    /// Anybody, in a cluster where everybody may do everything.
    Anybody,
    /// A user, as long as what was shown holds.
    User {
        /// The name.
        name: Name,
        /// What was shown.
        by: Proof,
    },
    /// A member of the cluster, by its own certificate: known, and without rights of its own.
    Node {
        /// The name.
        name: String,
        /// When the certificate ends, in seconds since 1970.
        ends: u64,
        /// Its serial number.
        serial: Serial,
    },
}

/// By what somebody is known. It goes with the request wherever that goes, since it may be taken away on the way; whoever reads it can
/// show nothing by it. The order of the variants is part of the wire format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Proof {
    /// A token: its SHA-256.
    Token(TokenHash),
    /// A certificate.
    Certificate {
        /// When it ends, in seconds since 1970.
        ends: u64,
        /// Its serial number.
        serial: Serial,
    },
}

impl Caller {
    /// The certificate by which it is known who asks, if it is one.
    pub fn certificate(&self) -> Option<&Serial> {
        match self {
            Caller::User { by: Proof::Certificate { serial, .. }, .. }
            | Caller::Node { serial, .. } => Some(serial),
            Caller::User { .. } | Caller::Anybody => None,
        }
    }

    /// The user's name; none if it is no user.
    pub fn user(&self) -> Option<&Name> {
        match self {
            Caller::User { name, .. } => Some(name),
            Caller::Anybody | Caller::Node { .. } => None,
        }
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Caller::Anybody => f.write_str("anybody"),
            Caller::User { name, .. } => write!(f, "the user {name}"),
            Caller::Node { name, .. } => write!(f, "the node {name}"),
        }
    }
}

/// To wait for changes of a key, and be told what it is then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wait(pub Get);

/// To hand leadership over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transfer {
    /// To which member; none: to whichever voter is furthest.
    pub to: Option<String>,
}

/// To have a member renew its certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RenewMember {
    /// Which; none: the one that is asked.
    pub name: Option<String>,
}

impl RenewMember {
    /// Of the member that is asked.
    pub fn own() -> RenewMember {
        RenewMember { name: None }
    }
}

/// To take a copy of everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TakeBackup;

/// To see how a node is: what needs no right, but somebody whom the cluster knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeeStatus;

/// To see who belongs to the cluster, and how each member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeeMembers;

/// To see what the cluster knows of the audits of its nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeeAudit;

/// To see who may do what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeeAccess;

impl Asks for Get {
    fn asks(&self, ask: &mut dyn FnMut(Ask<'_>)) {
        ask(Ask::Keys(Right::Read, Keys::One(&self.key)));
    }
}

impl Asks for Wait {
    fn asks(&self, ask: &mut dyn FnMut(Ask<'_>)) {
        self.0.asks(ask);
        ask(Ask::Keys(Right::Watch, Keys::One(&self.0.key)));
    }
}

impl Asks for List {
    fn asks(&self, ask: &mut dyn FnMut(Ask<'_>)) {
        ask(Ask::Keys(Right::Read, Keys::Range(&self.query.range)));
    }
}

impl Asks for TxnRequest {
    fn asks(&self, ask: &mut dyn FnMut(Ask<'_>)) {
        // What replicas are told, and what only this node reads for the answer.
        self.lower(0).asks(ask);
        self.asks_previous(ask);
    }
}

impl TxnRequest {
    fn asks_previous(&self, ask: &mut dyn FnMut(Ask<'_>)) {
        for op in self.then.iter().chain(&self.otherwise) {
            match op {
                TxnOp::Put { put, previous: true } => {
                    ask(Ask::Keys(Right::Read, Keys::One(&put.key)));
                }
                TxnOp::Delete { over, previous: true } => {
                    ask(Ask::Keys(Right::Read, Keys::from(over)));
                }
                TxnOp::Txn(nested) => nested.asks_previous(ask),
                TxnOp::Put { .. } | TxnOp::Delete { .. } | TxnOp::Get { .. } => {}
            }
        }
    }
}

impl Asks for MemberChange {
    fn asks(&self, ask: &mut dyn FnMut(Ask<'_>)) {
        ask(Ask::Admin(Administration::Members));
    }
}

impl Asks for RenewMember {
    fn asks(&self, ask: &mut dyn FnMut(Ask<'_>)) {
        ask(Ask::Admin(Administration::Members));
    }
}

impl Asks for Transfer {
    fn asks(&self, ask: &mut dyn FnMut(Ask<'_>)) {
        ask(Ask::Admin(Administration::Leader));
    }
}

impl Asks for TakeBackup {
    fn asks(&self, ask: &mut dyn FnMut(Ask<'_>)) {
        ask(Ask::Admin(Administration::Backup));
    }
}

impl Asks for SeeStatus {
    fn asks(&self, ask: &mut dyn FnMut(Ask<'_>)) {
        ask(Ask::BeKnown);
    }
}

impl Asks for SeeMembers {
    fn asks(&self, ask: &mut dyn FnMut(Ask<'_>)) {
        ask(Ask::Admin(Administration::Members));
    }
}

impl Asks for SeeAudit {
    fn asks(&self, ask: &mut dyn FnMut(Ask<'_>)) {
        ask(Ask::Admin(Administration::Audit));
    }
}

impl Asks for SeeAccess {
    fn asks(&self, ask: &mut dyn FnMut(Ask<'_>)) {
        ask(Ask::Admin(Administration::Auth));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::{Put, Txn, Write};

    fn asked(request: &dyn Asks) -> Vec<String> {
        let mut asked = Vec::new();
        request.asks(&mut |ask| asked.push(ask.to_string()));
        asked.sort();
        asked.dedup();
        asked
    }

    #[test]
    fn who_wants_previous_values_has_to_be_allowed_to_read() {
        let put = |previous| TxnRequest {
            then: vec![TxnOp::Put { put: Put::new("a".into(), "1".into()), previous }],
            ..TxnRequest::default()
        };
        assert_eq!(asked(&put(false)), ["ask this", "write the key \"a\""]);
        let nested = |inner| TxnRequest { otherwise: vec![TxnOp::Txn(inner)], ..put(false) };
        let all = ["ask this", "read the key \"a\"", "write the key \"a\""];
        assert_eq!(asked(&put(true)), all);
        assert_eq!(asked(&nested(put(true))), all);
        assert_eq!(asked(&Write::txn(Txn::default())), ["ask this"]);
    }

    #[test]
    fn who_waits_has_to_be_allowed_to_read_and_to_watch() {
        let get = Get { key: "k".into(), freshness: Default::default(), unless: None };
        assert_eq!(asked(&Wait(get)), ["read the key \"k\"", "watch the key \"k\""]);
    }
}
