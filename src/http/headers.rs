//! The names of konsen's headers, and values that several routes give or read.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use axum::http::header::{HeaderMap, HeaderName, HeaderValue};

use super::error::{Kind, Problem};
use crate::kv::Revision;

/// The store's revision that the answer reflects.
pub(crate) static REVISION: HeaderName = HeaderName::from_static("konsen-revision");
/// The revision that created the key.
pub(crate) static CREATE_REVISION: HeaderName = HeaderName::from_static("konsen-create-revision");
/// How many times the key was set since it was created.
pub(crate) static VERSION: HeaderName = HeaderName::from_static("konsen-version");
/// How long the client is ready to wait for the answer.
pub(crate) static TIMEOUT: HeaderName = HeaderName::from_static("konsen-timeout");
/// Names a write so that it can be repeated.
pub(crate) static IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// The deadline of a request that names none.
pub const TIMEOUT_DEFAULT: Duration = Duration::from_secs(5);
/// The longest deadline, and the longest `wait`.
pub const TIMEOUT_MAX: Duration = Duration::from_secs(300);

/// The entity tag of a key: its mod revision.
pub(crate) fn etag(revision: Revision) -> HeaderValue {
    let mut text = String::with_capacity(22);
    // Writing to a string cannot fail.
    let _ = write!(text, "\"{revision}\"");
    HeaderValue::from_maybe_shared(bytes::Bytes::from(text))
        .unwrap_or(HeaderValue::from_static("\"0\""))
}

/// When the request must be answered: `Konsen-Timeout` from now.
pub(crate) fn deadline(headers: &HeaderMap) -> Result<Instant, Problem> {
    let now = Instant::now();
    let Some(value) = headers.get(&TIMEOUT) else { return Ok(now + TIMEOUT_DEFAULT) };
    let text = value.to_str().unwrap_or_default();
    match duration(text) {
        Some(timeout) => Ok(now + timeout),
        None => Err(Problem::new(
            Kind::InvalidHeader,
            format!(
                "Konsen-Timeout {text:?} is not a time between 1ms and 5m, such as 2s or 500ms"
            ),
        )),
    }
}

/// A duration between a millisecond and [`TIMEOUT_MAX`].
pub(crate) fn duration(text: &str) -> Option<Duration> {
    let duration = humantime::parse_duration(text.trim()).ok()?;
    (Duration::from_millis(1)..=TIMEOUT_MAX).contains(&duration).then_some(duration)
}

/// Refuses a write that asks to be carried out only once, rather than carry it out twice.
pub(crate) fn refuse_idempotency_key(headers: &HeaderMap) -> Result<(), Problem> {
    if headers.contains_key(&IDEMPOTENCY_KEY) {
        return Err(Problem::new(
            Kind::NotSupported,
            "Idempotency-Key is not supported by this release, so nothing was done; \
             leave it out, or make the write conditional with If-Match or If-None-Match",
        ));
    }
    Ok(())
}

/// Whether `Accept` names this media type (of which it may say `;q=0`).
pub(crate) fn accepts(headers: &HeaderMap, media_type: &str) -> bool {
    headers.get_all(axum::http::header::ACCEPT).iter().any(|value| {
        value.to_str().unwrap_or_default().split(',').any(|range| {
            let mut parts = range.split(';').map(str::trim);
            let named = parts.next().is_some_and(|name| name.eq_ignore_ascii_case(media_type));
            named && !parts.any(|part| matches!(part, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: &'static str, value: &'static str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(name, HeaderValue::from_static(value));
        headers
    }

    #[test]
    fn deadlines_are_bounded() {
        assert!(deadline(&HeaderMap::new()).unwrap() > Instant::now());
        assert!(deadline(&with("konsen-timeout", "2s")).is_ok());
        assert!(deadline(&with("konsen-timeout", "5m")).is_ok());
        for broken in ["", "2", "-1s", "0s", "6m", "soon"] {
            let problem = deadline(&with("konsen-timeout", broken)).unwrap_err();
            assert_eq!(problem.kind(), Kind::InvalidHeader, "{broken}");
        }
    }

    #[test]
    fn accept_is_a_list_with_weights() {
        let json = "application/json";
        assert!(accepts(&with("accept", "application/json"), json));
        assert!(accepts(&with("accept", "text/html, Application/JSON;q=0.5"), json));
        assert!(!accepts(&with("accept", "*/*"), json));
        assert!(!accepts(&with("accept", "application/json;q=0"), json));
        assert!(!accepts(&HeaderMap::new(), json));
    }

    #[test]
    fn an_entity_tag_is_a_quoted_revision() {
        assert_eq!(etag(Revision(u64::MAX)), "\"18446744073709551615\"");
    }
}
