//! The headers that konsen's answers have of their own, and the tags of what they carry.

use std::fmt::Write as _;

use axum::http::header::{HeaderName, HeaderValue};

use crate::kv::Revision;

/// The store's revision that the answer reflects.
pub(crate) static REVISION: HeaderName = HeaderName::from_static("konsen-revision");
/// The revision that created the key.
pub(crate) static CREATE_REVISION: HeaderName = HeaderName::from_static("konsen-create-revision");
/// How many times the key was set since it was created.
pub(crate) static VERSION: HeaderName = HeaderName::from_static("konsen-version");

/// In which form a key is answered. Each has a tag of its own (RFC 9110, section 8.8.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Representation {
    /// The bytes as they were put: `"42"`.
    Value,
    /// The item as JSON: `"42-json"`.
    Json,
}

/// What the tag of JSON ends in.
pub(crate) const JSON_SUFFIX: &str = "-json";

impl Representation {
    /// The tag of a revision.
    pub(crate) fn etag(self, revision: Revision) -> HeaderValue {
        let suffix = match self {
            Representation::Value => "",
            Representation::Json => JSON_SUFFIX,
        };
        let mut text = String::with_capacity(28);
        // Writing to a string cannot fail.
        let _ = write!(text, "\"{revision}{suffix}\"");
        HeaderValue::from_maybe_shared(bytes::Bytes::from(text))
            .unwrap_or(HeaderValue::from_static("\"0\""))
    }
}
