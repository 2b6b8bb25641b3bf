//! What a request came to when it did not succeed: each error knows its outcome.

use std::path::PathBuf;

use reqwest::{StatusCode, Url};
use serde::Deserialize;

use super::pin;
use crate::api::{Kind, Outcome};
use crate::kv::Revision;

/// Why a request did not succeed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The request cannot be made as it is.
    #[error("{0}")]
    Usage(String),
    /// The key does not exist.
    #[error("the key does not exist")]
    NoSuchKey {
        /// The store's revision that the answer reflects, if it told.
        revision: Option<Revision>,
    },
    /// A condition did not hold.
    #[error("{}", condition_failed(*.current))]
    ConditionFailed {
        /// The key's mod revision, if it exists.
        current: Option<Revision>,
    },
    /// What a transaction read was changed before it could commit; nothing of it was applied.
    #[error("something that was read at revision {since} was changed since; nothing was applied")]
    Conflict {
        /// The revision that it read at.
        since: Revision,
    },
    /// Nobody of that name belongs to the cluster.
    #[error("{0}")]
    NoSuchMember(String),
    /// The cluster understood the request and refused it.
    #[error("{0}")]
    Refused(String),
    /// The revision is given up already.
    #[error("{0}")]
    Compacted(String),
    /// The endpoints belong to more than one cluster, so nothing was asked of any.
    #[error("{0}")]
    SeveralClusters(String),
    /// No endpoint belongs to a cluster.
    #[error("{0}")]
    Outside(String),
    /// The client may not do this.
    #[error("{0}")]
    NotAllowed(String),
    /// A file with a secret in it that others can read.
    #[error("{}: holds a secret, and others can read it (mode {mode:o})", .file.display())]
    Exposed {
        /// The file.
        file: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// One side does not trust the other's certificate, or does not speak TLS.
    #[error("{0}")]
    Tls(String),
    /// The port does not speak what the URL says, and has understood nothing of the request.
    #[error("{endpoint} {}", if *.is_tls { "speaks plain HTTP, not TLS" } else { "speaks TLS, not plain HTTP" })]
    WrongScheme {
        /// The endpoint.
        endpoint: String,
        /// Whether the URL says TLS.
        is_tls: bool,
    },
    /// Nobody took the request, and no node said why.
    #[error("{0}")]
    Unavailable(String),
    /// A node answers that it cannot take the request now, and says why.
    #[error("{0}")]
    Busy(String),
    /// The cluster answers and has no leader that could take the request.
    #[error("{0}")]
    NoLeader(String),
    /// A write whose outcome nobody told.
    #[error("{0}")]
    Unknown(String),
    /// An answer that says or means nothing, to what changes nothing: a read, or the look for somebody to write to.
    #[error("{0}")]
    Failed(String),
}

fn condition_failed(current: Option<Revision>) -> String {
    match current {
        Some(current) => format!("the condition failed: the key's revision is {current}"),
        None => "the condition failed: the key does not exist".to_owned(),
    }
}

impl Error {
    /// Whether the request may have changed something.
    pub fn outcome(&self) -> Outcome {
        match self {
            Error::Unknown(_) => Outcome::Unknown,
            _ => Outcome::NotApplied,
        }
    }
}

/// The members of a problem (RFC 9457) that the client reads.
#[derive(Debug, Deserialize)]
pub(super) struct Problem {
    #[serde(default)]
    r#type: String,
    #[serde(default)]
    detail: String,
    pub(super) outcome: Option<Outcome>,
}

/// The revisions in the headers of an answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Told {
    /// The store's.
    pub(super) revision: Option<Revision>,
    /// The key's.
    pub(super) current: Option<Revision>,
}

/// An error, and whether the same request may be sent to another endpoint.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) error: Error,
    pub(super) may_try_another: bool,
    pub(super) heard: Heard,
}

/// How much an endpoint had to say: of several that failed, the one with most is told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Heard {
    /// Nothing came back.
    Nothing,
    /// It speaks otherwise, or trusts nobody.
    Misunderstood,
    /// It belongs to no cluster.
    Outside,
    /// It gave its reason.
    Answer,
}

/// What to say of a refusal that is not in konsen's form.
fn foreign(detail: &str) -> String {
    format!("the answer is not konsen's: {detail}")
}

/// An error with its causes, in one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

/// The error of TLS among the causes, if there is one.
fn tls_cause<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a rustls::Error> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(tls) = error.downcast_ref::<rustls::Error>() {
            return Some(tls);
        }
        // An I/O error is no cause of what it holds: only those who ask for that see it.
        let held = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        if let Some(tls) = held.and_then(|held| tls_cause(held)) {
            return Some(tls);
        }
        cause = error.source();
    }
    None
}

/// Whether the server does not take the client's certificate. With TLS 1.3 the client learns that
/// only after the handshake, when it may have sent its request; the server has read none of it.
fn refuses_a_certificate(error: &rustls::Error) -> bool {
    use rustls::AlertDescription as Alert;
    matches!(
        error,
        rustls::Error::AlertReceived(
            Alert::CertificateRequired
                | Alert::BadCertificate
                | Alert::UnsupportedCertificate
                | Alert::CertificateRevoked
                | Alert::CertificateExpired
                | Alert::CertificateUnknown
                | Alert::UnknownCA
                | Alert::AccessDenied
                | Alert::DecryptError
        )
    )
}

/// Whether what answered does not speak TLS at all.
pub(super) fn is_no_tls(error: &reqwest::Error) -> bool {
    let cause = tls_cause(error);
    matches!(cause, Some(rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType)))
}

/// Whether what came in the place of an answer is no HTTP.
pub(super) fn is_no_http(error: &reqwest::Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_parse) {
            return true;
        }
        cause = error.source();
    }
    false
}

impl Failure {
    /// No answer came.
    pub(super) fn of_transport(endpoint: &Url, error: &reqwest::Error, writes: bool) -> Failure {
        let endpoint = endpoint.as_str().trim_end_matches('/');
        if let Some(tls) = tls_cause(error)
            && (error.is_connect() || refuses_a_certificate(tls))
        {
            let error = Error::Tls(format!("{endpoint}: {}", pin::text(tls)));
            return Failure { error, may_try_another: true, heard: Heard::Misunderstood };
        }
        let failure =
            |error, may_try_another| Failure { error, may_try_another, heard: Heard::Nothing };
        let text = match error.is_timeout() && !error.is_connect() {
            true => format!("{endpoint}: no answer in time"),
            false => format!("{endpoint}: {}", chain(error)),
        };
        if error.is_connect() || !writes {
            return failure(Error::Unavailable(text), true);
        }
        if error.is_builder() {
            return failure(Error::Usage(text), false);
        }
        failure(Error::Unknown(text), false)
    }

    /// Something else than konsen answered as if it had done what was asked.
    pub(super) fn of_stranger(text: String, writes: bool) -> Failure {
        match writes {
            true => Failure {
                // It was carried out, or by somebody who does not speak as konsen does.
                error: Error::Unknown(text),
                may_try_another: false,
                heard: Heard::Answer,
            },
            false => Failure {
                error: Error::Failed(text),
                may_try_another: true,
                heard: Heard::Misunderstood,
            },
        }
    }

    /// Nothing was sent, or nothing came of a read for too long.
    pub(super) fn of_silence(endpoint: &Url) -> Failure {
        let text = format!("{}: no answer in time", endpoint.as_str().trim_end_matches('/'));
        Failure { error: Error::Unavailable(text), may_try_another: true, heard: Heard::Nothing }
    }

    /// Of two failures the one that has more to say, the earlier one if both have as much.
    pub(super) fn with_most_to_say(before: Option<Failure>, now: Failure) -> Failure {
        match before {
            Some(before) if before.heard >= now.heard => before,
            _ => now,
        }
    }

    /// The same, which names the endpoint where it is that which is wrong.
    pub(super) fn at(self, endpoint: &Url) -> Failure {
        let endpoint = endpoint.as_str().trim_end_matches('/');
        match self.error {
            Error::WrongScheme { is_tls, .. } => {
                let error = Error::WrongScheme { endpoint: endpoint.to_owned(), is_tls };
                Failure { error, ..self }
            }
            Error::Outside(text) => {
                Failure { error: Error::Outside(format!("{endpoint}: {text}")), ..self }
            }
            error => Failure { error, ..self },
        }
    }

    /// An answer came that is not a success. `told` are the revisions in its headers.
    pub(super) fn of_answer(
        status: StatusCode,
        problem: Option<Problem>,
        told: Told,
        writes: bool,
    ) -> Failure {
        let outcome = problem.as_ref().and_then(|problem| problem.outcome);
        let kind = problem.as_ref().and_then(|problem| Kind::of_type(&problem.r#type));
        let detail = problem.map(|problem| problem.detail).filter(|detail| !detail.is_empty());
        let detail = detail.unwrap_or_else(|| format!("the answer was {status}"));
        let failure = |error, may_try_another, heard| Failure { error, may_try_another, heard };
        let settled = |error| failure(error, false, Heard::Answer);
        if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
            // Only konsen's own word makes it certain that a write did not happen.
            let certain = !writes || outcome == Some(Outcome::NotApplied);
            return match (certain, status) {
                (true, StatusCode::INSUFFICIENT_STORAGE) => settled(Error::Refused(detail)),
                (true, _) if matches!(kind, Some(Kind::NoCluster | Kind::NotAMember)) => {
                    failure(Error::Outside(detail), true, Heard::Outside)
                }
                (true, _) if kind == Some(Kind::NoLeader) => {
                    failure(Error::NoLeader(detail), true, Heard::Answer)
                }
                (true, _) if kind.is_some() => failure(Error::Busy(detail), true, Heard::Answer),
                (true, _) => failure(Error::Unavailable(detail), true, Heard::Answer),
                (false, _) => settled(Error::Unknown(detail)),
            };
        }
        // Whatever the status says otherwise.
        if writes && outcome == Some(Outcome::Unknown) {
            return settled(Error::Unknown(detail));
        }
        if kind == Some(Kind::NeedsTls) {
            // The endpoint is named by who knows it.
            let error = Error::WrongScheme { endpoint: String::new(), is_tls: false };
            return failure(error, true, Heard::Misunderstood);
        }
        let is_konsens = kind.is_some() || outcome.is_some();
        match status {
            StatusCode::NOT_FOUND if kind == Some(Kind::NoSuchKey) => {
                settled(Error::NoSuchKey { revision: told.revision })
            }
            StatusCode::NOT_FOUND if kind == Some(Kind::NoSuchMember) => {
                settled(Error::NoSuchMember(detail))
            }
            StatusCode::GONE if kind == Some(Kind::Compacted) => settled(Error::Compacted(detail)),
            StatusCode::PRECONDITION_FAILED if kind == Some(Kind::NothingToKeep) => {
                settled(Error::Refused(detail))
            }
            StatusCode::PRECONDITION_FAILED if kind == Some(Kind::ConditionFailed) => {
                settled(Error::ConditionFailed { current: told.current })
            }
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => settled(Error::NotAllowed(detail)),
            // Whoever answered in konsen's place may have passed a write on.
            _ if !is_konsens && writes => settled(Error::Unknown(foreign(&detail))),
            _ if !is_konsens => {
                failure(Error::Failed(foreign(&detail)), true, Heard::Misunderstood)
            }
            _ => settled(Error::Refused(detail)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::PROBLEM_TYPE;

    fn failure(status: u16, outcome: Option<&str>, writes: bool) -> Failure {
        let problem = outcome.map(|outcome| {
            let kind = "urn:konsen:problem:no-such-key";
            let text = format!(r#"{{"type":"{kind}","detail":"d","outcome":"{outcome}"}}"#);
            serde_json::from_str(&text).unwrap()
        });
        Failure::of_answer(
            StatusCode::from_u16(status).unwrap(),
            problem,
            Told { revision: Some(Revision(9)), current: Some(Revision(7)) },
            writes,
        )
    }

    fn problem(name: &str) -> Option<Problem> {
        let text =
            format!(r#"{{"type":"{PROBLEM_TYPE}{name}","detail":"d","outcome":"not_applied"}}"#);
        Some(serde_json::from_str(&text).unwrap())
    }

    #[test]
    fn only_what_certainly_did_not_happen_is_tried_elsewhere() {
        assert!(failure(503, Some("not_applied"), true).may_try_another);
        assert!(failure(429, Some("not_applied"), true).may_try_another);
        assert!(failure(503, None, false).may_try_another);
        assert!(failure(504, Some("unknown"), false).may_try_another);
        for (status, outcome) in [
            (504, Some("unknown")),
            (500, Some("unknown")),
            (502, None),
            (503, None),
            (404, Some("unknown")),
            (409, Some("unknown")),
        ] {
            let failure = failure(status, outcome, true);
            assert!(!failure.may_try_another, "{status}");
            assert_eq!(failure.error.outcome(), Outcome::Unknown, "{status}");
        }
    }

    #[test]
    fn refusals_have_their_own_errors() {
        assert_eq!(
            failure(404, Some("not_applied"), true).error,
            Error::NoSuchKey { revision: Some(Revision(9)) }
        );
        let told = Told { revision: Some(Revision(9)), current: Some(Revision(7)) };
        let answer = |status: StatusCode, name: &str| {
            Failure::of_answer(status, problem(name), told, true).error
        };
        let failed = StatusCode::PRECONDITION_FAILED;
        let current = Some(Revision(7));
        assert_eq!(answer(failed, "condition-failed"), Error::ConditionFailed { current });
        // Not of whoever else says so: nothing is known of the key then.
        assert!(matches!(failure(412, None, true).error, Error::Unknown(_)));
        // A node that answers is up; of a proxy nobody knows whether one is behind it.
        let busy = |status| answer(status, "too-busy");
        assert_eq!(busy(StatusCode::TOO_MANY_REQUESTS), Error::Busy("d".to_owned()));
        assert_eq!(busy(StatusCode::SERVICE_UNAVAILABLE), Error::Busy("d".to_owned()));
        assert!(matches!(failure(502, None, false).error, Error::Unavailable(_)));
        // Nor whether it has passed a write on; a read may be asked of another.
        for status in [304, 307, 400, 404, 408, 413] {
            assert!(matches!(failure(status, None, true).error, Error::Unknown(_)), "{status}");
            let read = failure(status, None, false);
            assert!(read.may_try_another && matches!(read.error, Error::Failed(_)), "{status}");
        }
        assert!(matches!(failure(403, None, true).error, Error::NotAllowed(_)));
        assert!(matches!(failure(413, Some("not_applied"), true).error, Error::Refused(_)));
        assert!(matches!(failure(507, Some("not_applied"), true).error, Error::Refused(_)));
    }

    #[test]
    fn a_reason_counts_more_than_silence() {
        let silent = Failure::of_silence(&"http://h:1/".parse().unwrap());
        let told = Told { revision: None, current: None };
        let answer = |name: &str| {
            let status = StatusCode::SERVICE_UNAVAILABLE;
            Failure::of_answer(status, problem(name), told, true)
                .at(&"http://h:2/".parse().unwrap())
        };
        let outside = answer("no-cluster");
        assert_eq!(outside.error, Error::Outside("http://h:2: d".to_owned()));
        assert!(outside.may_try_another && answer("not-a-member").may_try_another);
        assert!(silent.heard < outside.heard && outside.heard < answer("no-leader").heard);
        assert_eq!(answer("no-leader").error, Error::NoLeader("d".to_owned()));
    }
}
