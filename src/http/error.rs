//! What goes wrong, as clients see it: RFC 9457 problems. The only place where an error becomes a status.

use std::borrow::Cow;

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, ETAG, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::condition::Representation;
use super::headers;
use crate::cluster::ChangeRefused;
use crate::kv::Revision;
use crate::server;

/// What is certain about a request that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Nothing changed, and nothing will.
    NotApplied,
    /// The change may have happened, or may still happen.
    Unknown,
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $status:ident, $outcome:ident, $title:literal;)*) => {
        /// The kinds of problems. `docs/errors.md` lists them.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Kind { $($(#[$doc])* $variant,)* }

        impl Kind {
            /// Every kind.
            pub const ALL: &[Kind] = &[$(Kind::$variant,)*];

            /// The last part of `urn:konsen:problem:NAME`.
            pub fn name(self) -> &'static str {
                match self { $(Kind::$variant => $name,)* }
            }

            /// The status code of an answer with this problem.
            pub fn status(self) -> StatusCode {
                match self { $(Kind::$variant => StatusCode::$status,)* }
            }

            /// Whether the request may have changed something.
            pub fn outcome(self) -> Outcome {
                match self { $(Kind::$variant => Outcome::$outcome,)* }
            }

            /// One sentence, the same for every problem of the kind.
            pub fn title(self) -> &'static str {
                match self { $(Kind::$variant => $title,)* }
            }
        }
    };
}

kinds! {
    /// The body or its framing is broken.
    Malformed = "malformed", BAD_REQUEST, NotApplied, "The request is malformed";
    /// A query parameter that the route does not have.
    UnknownParameter = "unknown-parameter", BAD_REQUEST, NotApplied, "A query parameter is not known";
    /// A query parameter that is there twice, or has a value that means nothing.
    InvalidParameter = "invalid-parameter", BAD_REQUEST, NotApplied, "A query parameter is not valid";
    /// A header whose value means nothing.
    InvalidHeader = "invalid-header", BAD_REQUEST, NotApplied, "A header is not valid";
    /// An empty key, or one with broken percent-encoding.
    InvalidKey = "invalid-key", BAD_REQUEST, NotApplied, "The key is not valid";
    /// A cursor that no listing of this release gave.
    InvalidCursor = "invalid-cursor", BAD_REQUEST, NotApplied, "The cursor is not valid";
    /// Something that this release does not do.
    NotSupported = "not-supported", BAD_REQUEST, NotApplied, "This release does not support the request";
    /// A revision that the store has not reached.
    FutureRevision = "future-revision", BAD_REQUEST, NotApplied, "The revision is not reached yet";
    /// `consistency=lease` in a cluster that does not allow it.
    LeaseReadsOff = "lease-reads-off", BAD_REQUEST, NotApplied, "Lease reads are off";
    /// The store refused the write.
    Refused = "refused", BAD_REQUEST, NotApplied, "The write was refused";
    /// A web page of elsewhere wants to change something.
    CrossSite = "cross-site", FORBIDDEN, NotApplied, "The request comes from another site";
    /// The key does not exist.
    NoSuchKey = "no-such-key", NOT_FOUND, NotApplied, "The key does not exist";
    /// The membership has nobody of that name.
    NoSuchMember = "no-such-member", NOT_FOUND, NotApplied, "There is no such member";
    /// The path is not one of konsen's.
    NoSuchRoute = "no-such-route", NOT_FOUND, NotApplied, "There is nothing at this path";
    /// The path exists, the method does not.
    MethodNotAllowed = "method-not-allowed", METHOD_NOT_ALLOWED, NotApplied, "The path does not have this method";
    /// The body did not arrive in time.
    BodyTimeout = "body-timeout", REQUEST_TIMEOUT, NotApplied, "The body did not arrive in time";
    /// The member that was named, or any other, has no vote.
    CannotLead = "cannot-lead", CONFLICT, NotApplied, "The member cannot lead";
    /// The change would leave the membership as it must not be, or another change is under way.
    MembershipConflict = "membership-conflict", CONFLICT, NotApplied, "The membership cannot be changed so";
    /// The revision can no longer be read.
    Compacted = "compacted", GONE, NotApplied, "The revision is compacted";
    /// `If-Match` or `If-None-Match` did not hold.
    ConditionFailed = "condition-failed", PRECONDITION_FAILED, NotApplied, "A condition of the request does not hold";
    /// The body is over the limit.
    ValueTooLarge = "value-too-large", PAYLOAD_TOO_LARGE, NotApplied, "The value is too large";
    /// A range deletion would delete more keys than one may.
    TooManyKeys = "too-many-keys", PAYLOAD_TOO_LARGE, NotApplied, "The range holds too many keys to delete at once";
    /// The key is over the limit.
    KeyTooLong = "key-too-long", URI_TOO_LONG, NotApplied, "The key is too long";
    /// The body has a coding that is neither undone nor kept.
    UnsupportedEncoding = "unsupported-encoding", UNSUPPORTED_MEDIA_TYPE, NotApplied, "The body's coding is not supported";
    /// The request names a host that this node is not.
    WrongHost = "wrong-host", MISDIRECTED_REQUEST, NotApplied, "The request is for another host";
    /// A queue is full.
    TooBusy = "too-busy", TOO_MANY_REQUESTS, NotApplied, "Too many requests are waiting";
    /// The head is over the limit.
    HeadTooLarge = "head-too-large", REQUEST_HEADER_FIELDS_TOO_LARGE, NotApplied, "The head of the request is too large";
    /// The state could not be read.
    Internal = "internal", INTERNAL_SERVER_ERROR, Unknown, "The node failed";
    /// A transfer coding beside `chunked`.
    UnsupportedCoding = "unsupported-transfer-coding", NOT_IMPLEMENTED, NotApplied, "The transfer coding is not supported";
    /// Nobody leads.
    NoLeader = "no-leader", SERVICE_UNAVAILABLE, NotApplied, "No leader is known";
    /// Nothing was founded, or the node was not taken in.
    NoCluster = "no-cluster", SERVICE_UNAVAILABLE, NotApplied, "The node belongs to no cluster yet";
    /// The node was put out, or is not decided to come in.
    NotAMember = "not-a-member", SERVICE_UNAVAILABLE, NotApplied, "The node is no member of the cluster";
    /// The node is stopping.
    ShuttingDown = "shutting-down", SERVICE_UNAVAILABLE, NotApplied, "The node is shutting down";
    /// The write lost its leader before it was agreed on.
    LeadershipChanged = "leadership-changed", SERVICE_UNAVAILABLE, NotApplied, "Leadership changed before the write was agreed on";
    /// The leader runs a release that does not know the request.
    NotUnderstood = "not-understood", SERVICE_UNAVAILABLE, NotApplied, "The leader does not know such a request";
    /// `/readyz`: the node cannot serve now.
    NotReady = "not-ready", SERVICE_UNAVAILABLE, NotApplied, "The node is not ready";
    /// `/healthz`: the process cannot do its work.
    Unhealthy = "unhealthy", SERVICE_UNAVAILABLE, NotApplied, "The node is not healthy";
    /// Neither HTTP/1.0 nor HTTP/1.1 nor HTTP/2.
    UnsupportedVersion = "unsupported-version", HTTP_VERSION_NOT_SUPPORTED, NotApplied, "The version of HTTP is not supported";
    /// The deadline of a write passed.
    OutcomeUnknown = "outcome-unknown", GATEWAY_TIMEOUT, Unknown, "The outcome of the write is not known";
    /// The deadline of a read passed.
    ReadTimedOut = "read-timed-out", GATEWAY_TIMEOUT, NotApplied, "The deadline passed before the read could be answered";
    /// The disk or a quota is full.
    DiskFull = "disk-full", INSUFFICIENT_STORAGE, NotApplied, "The disk is full";
}

/// Marks an answer as one that was made of a [`Problem`].
#[derive(Clone, Copy, Debug)]
pub(super) struct OfKonsen;

/// How the body of an error looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    /// `application/problem+json`.
    Problem,
    /// The original konsen's text routes: the detail alone.
    Text,
    /// The original konsen's JSON routes: `{"error": detail}`.
    Json,
}

/// An error on its way to the client.
#[derive(Clone, Debug)]
pub struct Problem {
    kind: Kind,
    detail: Cow<'static, str>,
    style: Style,
    revision: Option<Revision>,
    current: Option<Revision>,
    /// If it is not that of the kind.
    outcome: Option<Outcome>,
}

impl Problem {
    /// The replica thread does not answer: it has ended, or hangs.
    pub(super) fn unanswered(handle: &server::Handle) -> Problem {
        match handle.is_stopping() {
            true => server::Error::ShuttingDown.into(),
            false => Problem::new(Kind::Unhealthy, "the replica thread does not answer"),
        }
    }

    /// A problem; `detail` says what was wrong, where, and what would be right.
    pub fn new(kind: Kind, detail: impl Into<Cow<'static, str>>) -> Problem {
        let detail = detail.into();
        Problem {
            kind,
            detail,
            style: Style::Problem,
            revision: None,
            current: None,
            outcome: None,
        }
    }

    /// The same, with the store's revision that the answer reflects.
    pub fn at(self, revision: Revision) -> Problem {
        Problem { revision: Some(revision), ..self }
    }

    /// The same, with the key's mod revision as an entity tag.
    pub fn current(self, current: Option<Revision>) -> Problem {
        Problem { current, ..self }
    }

    /// The same of a request of which a part was carried out before; `done` says what.
    pub fn after(self, done: &str) -> Problem {
        let detail = format!("{}; {done}", self.detail).into();
        Problem { detail, outcome: Some(Outcome::Unknown), ..self }
    }

    /// The same, as the original konsen's text routes answer.
    pub fn as_text(self) -> Problem {
        Problem { style: Style::Text, ..self }
    }

    /// The same, as the original konsen's JSON routes answer.
    pub fn as_json_error(self) -> Problem {
        Problem { style: Style::Json, ..self }
    }

    /// Its kind.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// What was wrong.
    pub fn detail(&self) -> &str {
        &self.detail
    }
}

impl From<server::Error> for Problem {
    fn from(error: server::Error) -> Problem {
        use server::Error;
        let kind = match error {
            Error::NoLeader => Kind::NoLeader,
            Error::Busy | Error::TooManyReads | Error::TooManyWaiters => Kind::TooBusy,
            Error::ShuttingDown => Kind::ShuttingDown,
            Error::NotApplied => Kind::LeadershipChanged,
            Error::NotUnderstood => Kind::NotUnderstood,
            Error::Unknown => Kind::OutcomeUnknown,
            Error::ReadTimedOut => Kind::ReadTimedOut,
            Error::DiskFull => Kind::DiskFull,
            Error::Compacted { .. } => Kind::Compacted,
            Error::Future { .. } => Kind::FutureRevision,
            Error::LeaseReadsOff => Kind::LeaseReadsOff,
            Error::Storage => Kind::Internal,
            Error::NoCluster => Kind::NoCluster,
            Error::NotAMember => Kind::NotAMember,
        };
        Problem::new(kind, error.to_string())
    }
}

impl From<server::TransferError> for Problem {
    fn from(error: server::TransferError) -> Problem {
        use server::TransferError;
        match error {
            TransferError::NoSuchMember { .. } => {
                Problem::new(Kind::NoSuchMember, error.to_string())
            }
            TransferError::Learner(_)
            | TransferError::Alone
            | TransferError::Unreachable { tried: false, .. } => {
                Problem::new(Kind::CannotLead, error.to_string())
            }
            TransferError::Unreachable { tried: true, .. } => {
                Problem::new(Kind::OutcomeUnknown, error.to_string())
            }
            TransferError::Failed(error) => error.into(),
        }
    }
}

impl From<server::ChangeError> for Problem {
    fn from(error: server::ChangeError) -> Problem {
        use server::ChangeError;
        match error {
            ChangeError::Refused(ChangeRefused::NoSuchMember { .. }) => {
                Problem::new(Kind::NoSuchMember, error.to_string())
            }
            ChangeError::Refused(_) => Problem::new(Kind::MembershipConflict, error.to_string()),
            ChangeError::Failed(error) => error.into(),
        }
    }
}

/// The members of RFC 9457, and the outcome.
#[derive(Serialize)]
struct ProblemJson<'a> {
    r#type: String,
    title: &'static str,
    status: u16,
    detail: &'a str,
    outcome: Outcome,
}

/// The JSON errors of the original konsen.
#[derive(Serialize)]
struct ErrorJson<'a> {
    error: &'a str,
}

impl Problem {
    /// The body of `application/problem+json`.
    pub(super) fn json(&self) -> Vec<u8> {
        let json = ProblemJson {
            r#type: format!("urn:konsen:problem:{}", self.kind.name()),
            title: self.kind.title(),
            status: self.kind.status().as_u16(),
            detail: &self.detail,
            outcome: self.outcome.unwrap_or(self.kind.outcome()),
        };
        // Serializing plain data into memory cannot fail.
        serde_json::to_vec(&json).unwrap_or_default()
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (content_type, body) = match self.style {
            Style::Problem => ("application/problem+json", self.json()),
            Style::Text => ("text/plain; charset=utf-8", self.detail.as_bytes().to_vec()),
            Style::Json => {
                let body = serde_json::to_vec(&ErrorJson { error: &self.detail });
                ("application/json; charset=utf-8", body.unwrap_or_default())
            }
        };
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = self.kind.status();
        response.extensions_mut().insert(OfKonsen);
        let fields = response.headers_mut();
        fields.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        if let Some(revision) = self.revision {
            fields.insert(&headers::REVISION, HeaderValue::from(revision.0));
        }
        if let Some(current) = self.current {
            fields.insert(ETAG, Representation::Value.etag(current));
        }
        if matches!(
            self.kind.status(),
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
        ) {
            fields.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use http_body_util::BodyExt;

    use super::*;

    async fn body(response: Response) -> String {
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[tokio::test]
    async fn a_problem_has_the_members_of_rfc_9457_and_the_outcome() {
        let response = Problem::from(server::Error::NoLeader).at(Revision(7)).into_response();
        assert_eq!(response.status(), 503);
        assert_eq!(response.headers()["content-type"], "application/problem+json");
        assert_eq!(response.headers()["retry-after"], "1");
        assert_eq!(response.headers()["konsen-revision"], "7");
        assert_eq!(
            body(response).await,
            r#"{"type":"urn:konsen:problem:no-leader","title":"No leader is known","status":503,"detail":"no leader is known; the cluster may be electing one","outcome":"not_applied"}"#
        );
    }

    #[tokio::test]
    async fn the_original_routes_have_their_own_bodies() {
        let problem = Problem::new(Kind::InvalidKey, "key is required");
        let response = problem.clone().as_json_error().into_response();
        assert_eq!(response.status(), 400);
        assert_eq!(body(response).await, r#"{"error":"key is required"}"#);
        assert_eq!(body(problem.as_text().into_response()).await, "key is required");
    }

    #[test]
    fn only_writes_past_their_deadline_and_failing_nodes_leave_the_outcome_unknown() {
        for kind in Kind::ALL {
            let unknown = matches!(kind, Kind::OutcomeUnknown | Kind::Internal);
            assert_eq!(kind.outcome() == Outcome::Unknown, unknown, "{kind:?}");
        }
    }

    #[test]
    fn the_documentation_lists_every_kind_as_it_is() {
        let page = include_str!("../../docs/errors.md");
        let rows: BTreeSet<String> = page
            .lines()
            .filter(|line| line.starts_with("| `"))
            .map(|line| line.split('|').take(5).map(str::trim).collect::<Vec<_>>().join("|"))
            .collect();
        let expected: BTreeSet<String> = Kind::ALL
            .iter()
            .map(|kind| {
                let outcome = serde_json::to_value(kind.outcome()).unwrap();
                let outcome = outcome.as_str().unwrap();
                let status = kind.status().as_u16();
                format!("|`{}`|{status}|{outcome}|{}", kind.name(), kind.title())
            })
            .collect();
        assert_eq!(rows, expected);
    }
}
