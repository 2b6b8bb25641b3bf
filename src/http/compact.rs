//! `POST /v1/compact`: gives up the past before a revision.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;

use super::error::{Kind, Problem};
use super::identity::caller_of;
use super::list::json_response;
use super::query::Query;
use super::trail::Trail;
use super::{Api, body, headers, json, key};
use crate::api::CompactJson;
use crate::audit::Target;
use crate::kv::{Outcome, Revision, Write};

/// The largest body, in bytes.
const BODY_BYTES_MAX: usize = 1024;

/// `POST /v1/compact`.
pub(super) async fn compact(
    State(api): State<Arc<Api>>,
    request: Request,
) -> Result<Response, Problem> {
    Query::parse(request.uri().query(), &[])?;
    let (parts, body) = request.into_parts();
    headers::refuse_idempotency_key(&parts.headers)?;
    let held = body::read(&parts, body, BODY_BYTES_MAX, &api.bodies).await?;
    let deadline = headers::deadline(&parts.headers)?;
    let wanted = parse(&held.bytes)?;
    let CompactJson { revision } = wanted;
    Trail::note(&parts.extensions, |targets| targets.add(Target::Name(revision.to_string())));
    let write = Write::Compact { revision };
    let write = api.handle.admit(&caller_of(&parts.extensions), write).await?;
    let reply = api.handle.write(write, deadline).await?;
    match reply.outcome {
        Outcome::Compacted => {
            // Serializing plain data into memory cannot fail.
            let body = serde_json::to_vec(&wanted).unwrap_or_default();
            Ok(json_response(reply.revision, body))
        }
        Outcome::CompactedAlready { oldest } => {
            let detail = format!(
                "revision {revision} is compacted already: the oldest readable one is {oldest}"
            );
            Err(Problem::new(Kind::Compacted, detail).at(reply.revision))
        }
        Outcome::NotReached => {
            let newest = reply.revision;
            let detail =
                format!("revision {revision} is not reached yet; the store is at {newest}");
            Err(Problem::new(Kind::FutureRevision, detail).at(newest))
        }
        other => Err(key::unexpected(other, reply.revision)),
    }
}

fn parse(body: &[u8]) -> Result<CompactJson, Problem> {
    let malformed = |why: String| {
        let detail = format!("the body is not like {{\"revision\":1234}}: {why}");
        Problem::new(Kind::Malformed, detail)
    };
    let wanted: CompactJson = json::object(body).map_err(malformed)?;
    match wanted.revision {
        Revision(0) => Err(malformed("revisions begin at 1".to_owned())),
        _ => Ok(wanted),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_names_one_revision() {
        let of = |revision| CompactJson { revision: Revision(revision) };
        assert_eq!(parse(br#"{"revision":7}"#).unwrap(), of(7));
        for broken in [
            "",
            "7",
            "{}",
            r#"{"revision":0}"#,
            r#"{"revision":-1}"#,
            r#"{"revision":"7"}"#,
            r#"{"revision":7.5}"#,
            r#"{"revision":7,"physical":true}"#,
            r#"{"revision":7}{"#,
        ] {
            assert_eq!(parse(broken.as_bytes()).unwrap_err().kind(), Kind::Malformed, "{broken}");
        }
    }
}
