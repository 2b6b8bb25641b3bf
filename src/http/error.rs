//! What goes wrong, as clients of HTTP see it: RFC 9457 problems. The only place where an error becomes a status.

use std::borrow::Cow;

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, ETAG, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::fields::{self, Representation};
use crate::api::{ChangeError, Error, Outcome, PROBLEM_TYPE, TransferError};
use crate::kv::Revision;
use crate::server::{Handle, Refusal};

pub use crate::api::Kind;

/// What comes with 401, so that a client knows how to say who it is.
const CHALLENGE: &str = r#"Bearer realm="konsen", Basic realm="konsen", charset="UTF-8""#;

/// The status code of an answer with a problem of that kind.
pub(super) fn status(kind: Kind) -> StatusCode {
    match kind {
        Kind::Malformed
        | Kind::UnknownParameter
        | Kind::InvalidParameter
        | Kind::InvalidHeader
        | Kind::InvalidKey
        | Kind::InvalidCursor
        | Kind::NotSupported
        | Kind::FutureRevision
        | Kind::LeaseReadsOff
        | Kind::InvalidTransaction
        | Kind::NeedsTls
        | Kind::Refused => StatusCode::BAD_REQUEST,
        Kind::Unauthenticated => StatusCode::UNAUTHORIZED,
        Kind::CrossSite | Kind::Forbidden => StatusCode::FORBIDDEN,
        Kind::NoSuchKey | Kind::NoSuchMember | Kind::NoSuchName | Kind::NoSuchRoute => {
            StatusCode::NOT_FOUND
        }
        Kind::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
        Kind::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
        Kind::CannotLead | Kind::MembershipConflict | Kind::AccessConflict => StatusCode::CONFLICT,
        Kind::Compacted => StatusCode::GONE,
        Kind::ConditionFailed | Kind::NothingToKeep => StatusCode::PRECONDITION_FAILED,
        Kind::ValueTooLarge | Kind::TooManyKeys => StatusCode::PAYLOAD_TOO_LARGE,
        Kind::KeyTooLong => StatusCode::URI_TOO_LONG,
        Kind::UnsupportedEncoding => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        Kind::WrongHost => StatusCode::MISDIRECTED_REQUEST,
        Kind::TooBusy => StatusCode::TOO_MANY_REQUESTS,
        Kind::HeadTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        Kind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        Kind::UnsupportedCoding => StatusCode::NOT_IMPLEMENTED,
        Kind::NoLeader
        | Kind::NoCluster
        | Kind::NotAMember
        | Kind::ShuttingDown
        | Kind::LeadershipChanged
        | Kind::NotUnderstood
        | Kind::NotRecorded
        | Kind::NotReady
        | Kind::Unhealthy => StatusCode::SERVICE_UNAVAILABLE,
        Kind::UnsupportedVersion => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
        Kind::OutcomeUnknown | Kind::ReadTimedOut => StatusCode::GATEWAY_TIMEOUT,
        Kind::DiskFull => StatusCode::INSUFFICIENT_STORAGE,
    }
}

/// Marks an answer as one that was made of a [`Problem`].
#[derive(Clone, Copy, Debug)]
pub(super) struct OfKonsen {
    /// Of which kind the problem is.
    pub(super) kind: Kind,
    /// Why it is a refusal, if it is one.
    pub(super) refusal: Option<Refusal>,
}

/// Why a problem of that kind is a refusal, if it is one.
fn refusal(kind: Kind) -> Option<Refusal> {
    Some(match kind {
        Kind::TooBusy => Refusal::Queue,
        Kind::DiskFull => Refusal::DiskFull,
        Kind::NoLeader => Refusal::NoLeader,
        Kind::NoCluster | Kind::NotAMember => Refusal::NotAMember,
        Kind::ShuttingDown => Refusal::ShuttingDown,
        Kind::LeadershipChanged | Kind::NotUnderstood => Refusal::LeadershipChanged,
        Kind::NotRecorded => Refusal::NotRecorded,
        Kind::NotReady | Kind::Unhealthy => Refusal::NotReady,
        Kind::OutcomeUnknown | Kind::ReadTimedOut => Refusal::TimedOut,
        _ => return None,
    })
}

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
    /// Likewise.
    refusal: Option<Refusal>,
}

impl Problem {
    /// The replica thread does not answer: it has ended, or hangs.
    pub(super) fn unanswered(handle: &Handle) -> Problem {
        match handle.is_stopping() {
            true => Error::ShuttingDown.into(),
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
            refusal: None,
        }
    }

    /// The same, refused for another reason than others of its kind.
    pub(super) fn refused(self, refusal: Refusal) -> Problem {
        Problem { refusal: Some(refusal), ..self }
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

impl From<Error> for Problem {
    fn from(error: Error) -> Problem {
        let refusal = match error {
            Error::TooManyReads => Some(Refusal::Reads),
            Error::TooManyWaiters => Some(Refusal::Waiters),
            Error::TooManyBackups(_) => Some(Refusal::Backups),
            _ => None,
        };
        Problem { refusal, ..Problem::new(error.kind(), error.to_string()) }
    }
}

impl From<TransferError> for Problem {
    fn from(error: TransferError) -> Problem {
        Problem::new(error.kind(), error.to_string())
    }
}

impl From<ChangeError> for Problem {
    fn from(error: ChangeError) -> Problem {
        Problem::new(error.kind(), error.to_string())
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
            r#type: format!("{PROBLEM_TYPE}{}", self.kind.name()),
            title: self.kind.title(),
            status: status(self.kind).as_u16(),
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
        let status = status(self.kind);
        *response.status_mut() = status;
        let refusal = self.refusal.or_else(|| refusal(self.kind));
        response.extensions_mut().insert(OfKonsen { kind: self.kind, refusal });
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        if let Some(revision) = self.revision {
            headers.insert(&fields::REVISION, HeaderValue::from(revision.0));
        }
        if let Some(current) = self.current {
            headers.insert(ETAG, Representation::Value.etag(current));
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(CHALLENGE));
        }
        if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
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
        let response = Problem::from(Error::NoLeader).at(Revision(7)).into_response();
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
                let status = status(*kind).as_u16();
                format!("|`{}`|{status}|{outcome}|{}", kind.name(), kind.title())
            })
            .collect();
        assert_eq!(rows, expected);
    }
}
