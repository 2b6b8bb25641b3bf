//! The headers of requests that several routes read.

use std::time::{Duration, Instant};

use axum::http::header::{HeaderMap, HeaderName, HeaderValue};

use super::error::{Kind, Problem};
pub(crate) use super::fields::{CREATE_REVISION, REVISION, VERSION};
use crate::api::{TIMEOUT_DEFAULT, TIMEOUT_MAX};

/// How long the client is ready to wait for the answer.
pub(crate) static TIMEOUT: HeaderName = HeaderName::from_static("konsen-timeout");
/// Names a write so that it can be repeated.
pub(crate) static IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Those that make a request depend on what a key is.
static CONDITIONS: [HeaderName; 2] =
    [axum::http::header::IF_MATCH, axum::http::header::IF_NONE_MATCH];

/// A header that may be there once.
pub(crate) fn single<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> Result<Option<&'a HeaderValue>, Problem> {
    let mut all = headers.get_all(name).iter();
    let first = all.next();
    match all.next() {
        None => Ok(first),
        Some(_) => {
            Err(Problem::new(Kind::InvalidHeader, format!("the header {name} is there twice")))
        }
    }
}

/// Refuses a body whose coding would have to be undone, or kept, to mean what it meant.
pub(crate) fn refuse_encoding(headers: &HeaderMap) -> Result<(), Problem> {
    let encodings = headers.get_all(axum::http::header::CONTENT_ENCODING).iter();
    let mut names = encodings.flat_map(|value| value.as_bytes().split(|&byte| byte == b','));
    let plain = |name: &[u8]| {
        let name = name.trim_ascii();
        name.is_empty() || name.eq_ignore_ascii_case(b"identity")
    };
    match names.find(|name| !plain(name)) {
        None => Ok(()),
        Some(name) => Err(Problem::new(
            Kind::UnsupportedEncoding,
            format!(
                "Content-Encoding {:?} is neither undone nor kept; send the body without it",
                String::from_utf8_lossy(name.trim_ascii())
            ),
        )),
    }
}

/// When the request must be answered: `Konsen-Timeout` from now.
pub(crate) fn deadline(headers: &HeaderMap) -> Result<Instant, Problem> {
    timeout(headers).map(|timeout| Instant::now() + timeout)
}

/// How long the answer may take: `Konsen-Timeout`.
pub(crate) fn timeout(headers: &HeaderMap) -> Result<Duration, Problem> {
    let Some(value) = single(headers, &TIMEOUT)? else { return Ok(TIMEOUT_DEFAULT) };
    let text = value.to_str().unwrap_or_default();
    match duration(text) {
        Some(timeout) => Ok(timeout),
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

/// Refuses conditions that nothing would come of: whoever sets them relies on them.
pub(crate) fn refuse_conditions(headers: &HeaderMap, why: &str) -> Result<(), Problem> {
    match CONDITIONS.iter().find(|name| headers.contains_key(*name)) {
        Some(name) => {
            Err(Problem::new(Kind::InvalidHeader, format!("{name} is about one key; {why}")))
        }
        None => Ok(()),
    }
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
    fn what_may_be_there_once_is() {
        let mut headers = with("konsen-timeout", "2s");
        headers.append("konsen-timeout", HeaderValue::from_static("2s"));
        assert_eq!(deadline(&headers).unwrap_err().kind(), Kind::InvalidHeader);
    }

    #[test]
    fn coded_bodies_are_refused() {
        assert!(refuse_encoding(&HeaderMap::new()).is_ok());
        assert!(refuse_encoding(&with("content-encoding", "identity")).is_ok());
        for coded in ["gzip", "identity, br", "GZIP"] {
            let problem = refuse_encoding(&with("content-encoding", coded)).unwrap_err();
            assert_eq!(problem.kind(), Kind::UnsupportedEncoding, "{coded}");
        }
    }
}
