//! The kinds of errors, the same for every protocol: each knows its name, its outcome and its title.

use super::error::{ChangeError, Error, TransferError};
use super::outcome::Outcome;

/// How the type of a problem begins (RFC 9457); the kind's name follows.
pub const PROBLEM_TYPE: &str = "urn:konsen:problem:";

macro_rules! kinds {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $outcome:ident, $title:literal;)*) => {
        /// The kinds of errors. `docs/errors.md` lists them.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Kind { $($(#[$doc])* $variant,)* }

        impl Kind {
            /// Every kind.
            pub const ALL: &[Kind] = &[$(Kind::$variant,)*];

            /// The last part of `urn:konsen:problem:NAME`.
            pub fn name(self) -> &'static str {
                match self { $(Kind::$variant => $name,)* }
            }

            /// Whether the request may have changed something.
            pub fn outcome(self) -> Outcome {
                match self { $(Kind::$variant => Outcome::$outcome,)* }
            }

            /// One sentence, the same for every error of the kind.
            pub fn title(self) -> &'static str {
                match self { $(Kind::$variant => $title,)* }
            }
        }
    };
}

kinds! {
    /// The body or its framing is broken.
    Malformed = "malformed", NotApplied, "The request is malformed";
    /// A query parameter that the route does not have.
    UnknownParameter = "unknown-parameter", NotApplied, "A query parameter is not known";
    /// A query parameter that is there twice, or has a value that means nothing.
    InvalidParameter = "invalid-parameter", NotApplied, "A query parameter is not valid";
    /// A header whose value means nothing.
    InvalidHeader = "invalid-header", NotApplied, "A header is not valid";
    /// An empty key, or one with broken percent-encoding.
    InvalidKey = "invalid-key", NotApplied, "The key is not valid";
    /// A cursor that no listing of this release gave.
    InvalidCursor = "invalid-cursor", NotApplied, "The cursor is not valid";
    /// Something that this release does not do.
    NotSupported = "not-supported", NotApplied, "This release does not support the request";
    /// A revision that the store has not reached.
    FutureRevision = "future-revision", NotApplied, "The revision is not reached yet";
    /// `consistency=lease` in a cluster that does not allow it.
    LeaseReadsOff = "lease-reads-off", NotApplied, "Lease reads are off";
    /// A transaction that asks for too much, or changes a key twice.
    InvalidTransaction = "invalid-transaction", NotApplied, "The transaction is not valid";
    /// Plain HTTP came where HTTPS is spoken.
    NeedsTls = "needs-tls", NotApplied, "The port speaks HTTPS";
    /// The store refused the write.
    Refused = "refused", NotApplied, "The write was refused";
    /// Nobody shows who asks, or what is shown opens nothing.
    Unauthenticated = "unauthenticated", NotApplied, "It is not known who asks";
    /// Whoever asks may not do this.
    Forbidden = "forbidden", NotApplied, "The request is not allowed";
    /// Who may do what cannot be changed so.
    AccessConflict = "access-conflict", NotApplied, "Who may do what cannot be changed so";
    /// There is no user, role or token of that name.
    NoSuchName = "no-such-name", NotApplied, "There is no user, role or token of that name";
    /// A web page of elsewhere wants to change something.
    CrossSite = "cross-site", NotApplied, "The request comes from another site";
    /// The key does not exist.
    NoSuchKey = "no-such-key", NotApplied, "The key does not exist";
    /// The membership has nobody of that name.
    NoSuchMember = "no-such-member", NotApplied, "There is no such member";
    /// The path is not one of konsen's.
    NoSuchRoute = "no-such-route", NotApplied, "There is nothing at this path";
    /// The path exists, the method does not.
    MethodNotAllowed = "method-not-allowed", NotApplied, "The path does not have this method";
    /// The body did not arrive in time.
    BodyTimeout = "body-timeout", NotApplied, "The body did not arrive in time";
    /// The member that was named, or any other, has no vote.
    CannotLead = "cannot-lead", NotApplied, "The member cannot lead";
    /// The change would leave the membership as it must not be, or another change is under way.
    MembershipConflict = "membership-conflict", NotApplied, "The membership cannot be changed so";
    /// The revision can no longer be read.
    Compacted = "compacted", NotApplied, "The revision is compacted";
    /// `If-Match` or `If-None-Match` did not hold.
    ConditionFailed = "condition-failed", NotApplied, "A condition of the request does not hold";
    /// The value of a key is to be kept that does not exist.
    NothingToKeep = "nothing-to-keep", NotApplied, "There is no value to keep";
    /// The body is over the limit.
    ValueTooLarge = "value-too-large", NotApplied, "The value is too large";
    /// A range deletion would delete more keys than one may.
    TooManyKeys = "too-many-keys", NotApplied, "The ranges hold too many keys for one write";
    /// The key is over the limit.
    KeyTooLong = "key-too-long", NotApplied, "The key is too long";
    /// The body has a coding that is neither undone nor kept.
    UnsupportedEncoding = "unsupported-encoding", NotApplied, "The body's coding is not supported";
    /// The request names a host that this node is not.
    WrongHost = "wrong-host", NotApplied, "The request is for another host";
    /// A queue is full.
    TooBusy = "too-busy", NotApplied, "Too many requests are waiting";
    /// The head is over the limit.
    HeadTooLarge = "head-too-large", NotApplied, "The head of the request is too large";
    /// The state could not be read.
    Internal = "internal", Unknown, "The node failed";
    /// A transfer coding beside `chunked`.
    UnsupportedCoding = "unsupported-transfer-coding", NotApplied, "The transfer coding is not supported";
    /// Nobody leads.
    NoLeader = "no-leader", NotApplied, "No leader is known";
    /// Nothing was founded, or the node was not taken in.
    NoCluster = "no-cluster", NotApplied, "The node belongs to no cluster yet";
    /// The node was put out, or is not decided to come in.
    NotAMember = "not-a-member", NotApplied, "The node is no member of the cluster";
    /// The node is stopping.
    ShuttingDown = "shutting-down", NotApplied, "The node is shutting down";
    /// The write lost its leader before it was agreed on.
    LeadershipChanged = "leadership-changed", NotApplied, "Leadership changed before the write was agreed on";
    /// The leader runs a release that does not know the request.
    NotUnderstood = "not-understood", NotApplied, "The leader does not know such a request";
    /// The audit takes no record of it.
    NotRecorded = "not-recorded", NotApplied, "The request cannot be recorded";
    /// `/readyz`: the node cannot serve now.
    NotReady = "not-ready", NotApplied, "The node is not ready";
    /// `/healthz`: the process cannot do its work.
    Unhealthy = "unhealthy", NotApplied, "The node is not healthy";
    /// Neither HTTP/1.0 nor HTTP/1.1 nor HTTP/2.
    UnsupportedVersion = "unsupported-version", NotApplied, "The version of HTTP is not supported";
    /// The deadline of a write passed.
    OutcomeUnknown = "outcome-unknown", Unknown, "The outcome of the write is not known";
    /// The deadline of a read passed.
    ReadTimedOut = "read-timed-out", NotApplied, "The deadline passed before the read could be answered";
    /// The disk or a quota is full.
    DiskFull = "disk-full", NotApplied, "The disk is full";
}

impl Kind {
    /// The kind that the type of a problem names; none if this release knows none of that name.
    pub fn of_type(text: &str) -> Option<Kind> {
        let name = text.strip_prefix(PROBLEM_TYPE)?;
        Kind::ALL.iter().copied().find(|kind| kind.name() == name)
    }
}

impl Error {
    /// Of which kind it is.
    pub fn kind(&self) -> Kind {
        match self {
            Error::NoLeader | Error::NoElection(_) => Kind::NoLeader,
            Error::Busy
            | Error::TooManyReads
            | Error::TooManyWaiters
            | Error::TooManyBackups(_) => Kind::TooBusy,
            Error::ShuttingDown => Kind::ShuttingDown,
            Error::NotApplied => Kind::LeadershipChanged,
            Error::NotUnderstood | Error::LevelTooLow(_) => Kind::NotUnderstood,
            Error::Unknown => Kind::OutcomeUnknown,
            Error::ReadTimedOut => Kind::ReadTimedOut,
            Error::DiskFull => Kind::DiskFull,
            Error::Compacted { .. } => Kind::Compacted,
            Error::Future { .. } => Kind::FutureRevision,
            Error::LeaseReadsOff => Kind::LeaseReadsOff,
            Error::Storage => Kind::Internal,
            Error::NoCluster => Kind::NoCluster,
            Error::NotAMember => Kind::NotAMember,
            Error::Unauthenticated => Kind::Unauthenticated,
            Error::Forbidden(_) => Kind::Forbidden,
        }
    }
}

impl TransferError {
    /// Of which kind it is.
    pub fn kind(&self) -> Kind {
        match self {
            TransferError::NoSuchMember { .. } => Kind::NoSuchMember,
            TransferError::Learner(_)
            | TransferError::Alone
            | TransferError::Unreachable { tried: false, .. } => Kind::CannotLead,
            TransferError::Unreachable { tried: true, .. } => Kind::OutcomeUnknown,
            TransferError::Failed(error) => error.kind(),
        }
    }
}

impl ChangeError {
    /// Of which kind it is.
    pub fn kind(&self) -> Kind {
        match self {
            ChangeError::NoSuchMember(_) => Kind::NoSuchMember,
            ChangeError::Refused(_) => Kind::MembershipConflict,
            ChangeError::Failed(error) => error.kind(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_writes_past_their_deadline_and_failing_nodes_leave_the_outcome_unknown() {
        for kind in Kind::ALL {
            let unknown = matches!(kind, Kind::OutcomeUnknown | Kind::Internal);
            assert_eq!(kind.outcome() == Outcome::Unknown, unknown, "{kind:?}");
        }
    }

    #[test]
    fn a_kind_is_found_by_the_type_of_its_problems() {
        for &kind in Kind::ALL {
            assert_eq!(Kind::of_type(&format!("{PROBLEM_TYPE}{}", kind.name())), Some(kind));
        }
        assert_eq!(Kind::of_type("no-leader"), None);
        assert_eq!(Kind::of_type("urn:konsen:problem:other"), None);
    }
}
