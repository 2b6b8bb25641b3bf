//! `/v1/kv/{key}`: one key. The hot path of the server.

use std::time::Instant;

use axum::body::{Body, HttpBody};
use axum::http::header::{
    ALLOW, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, VARY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;

use super::body;
use super::condition::{self, Verdict};
use super::error::{Kind, Problem};
use super::json::ItemJson;
use super::query::{self, Query};
use super::read::Freshness;
use super::{Api, headers};
use crate::kv::{Condition, Item, Outcome, Put, Revision, Write};

/// The parameters of GET and HEAD.
const READ_PARAMETERS: &[&str] = &["consistency", "revision", "min_revision", "wait"];
/// The longest media type that is stored with a value, in bytes.
pub const CONTENT_TYPE_BYTES_MAX: usize = 255;

/// Answers a request whose path is `/v1/kv/` and a key.
pub(super) async fn respond<B>(api: &Api, request: Request<B>, key_start: usize) -> Response
where
    B: HttpBody<Data = Bytes>,
{
    let (head, body) = request.into_parts();
    let result = match head.method {
        Method::GET => get(api, &head, key_start, false).await,
        Method::HEAD => get(api, &head, key_start, true).await,
        Method::PUT => put(api, &head, body, key_start).await,
        Method::DELETE => delete(api, &head, key_start).await,
        _ => {
            let mut response = Problem::new(
                Kind::MethodNotAllowed,
                format!("a key has GET, HEAD, PUT and DELETE, not {}", head.method),
            )
            .into_response();
            let methods = HeaderValue::from_static("GET,HEAD,PUT,DELETE");
            response.headers_mut().insert(ALLOW, methods);
            return response;
        }
    };
    result.unwrap_or_else(IntoResponse::into_response)
}

fn key_of(head: &Parts, key_start: usize) -> Result<Bytes, Problem> {
    query::key(head.uri.path().get(key_start..).unwrap_or_default())
}

async fn get(
    api: &Api,
    head: &Parts,
    key_start: usize,
    without_body: bool,
) -> Result<Response, Problem> {
    let key = key_of(head, key_start)?;
    let (freshness, wait) = match head.uri.query() {
        None => (Freshness::default(), None),
        Some(raw) => {
            let query = Query::parse(Some(raw), READ_PARAMETERS)?;
            (Freshness::parse(&query)?, query.duration("wait")?)
        }
    };
    let condition = condition::parse(&head.headers)?;
    if wait.is_some() {
        check_wait(&condition, freshness)?;
    }
    let deadline = headers::deadline(&head.headers)?;
    freshness.reach(&api.handle, deadline).await?;
    let wait_deadline = wait.map(|wait| Instant::now() + wait);
    loop {
        let (revision, item) = api.handle.get(&key, freshness.at)?;
        let Some(item) = item else {
            return Err(Problem::new(Kind::NoSuchKey, "the key does not exist").at(revision));
        };
        match condition::of_read(&condition, item.mod_revision) {
            Verdict::Proceed => return Ok(found(&head.headers, revision, item, without_body)),
            Verdict::Failed => return Err(failed(revision, Some(item.mod_revision))),
            Verdict::NotModified => {
                if let Some(deadline) = wait_deadline
                    && changed(api, revision, deadline).await
                {
                    continue;
                }
                return Ok(not_modified(revision, item.mod_revision));
            }
        }
    }
}

/// Waits for a newer revision; false if the time or the server ends first.
async fn changed(api: &Api, seen: Revision, deadline: Instant) -> bool {
    tokio::select! {
        revision = api.handle.changed(seen, deadline) => revision > seen,
        () = api.stopping.cancelled() => false,
    }
}

fn check_wait(condition: &Condition, freshness: Freshness) -> Result<(), Problem> {
    if condition.if_none_match.is_none() {
        return Err(Problem::new(
            Kind::InvalidParameter,
            "wait needs If-None-Match with the ETag that you have, such as \"42\"",
        ));
    }
    if freshness.at.is_some() {
        return Err(Problem::new(
            Kind::InvalidParameter,
            "wait and revision exclude each other: the past does not change",
        ));
    }
    Ok(())
}

fn failed(revision: Revision, current: Option<Revision>) -> Problem {
    let detail = match current {
        Some(current) => format!("the key's mod revision is {current}"),
        None => "the key does not exist".to_owned(),
    };
    Problem::new(Kind::ConditionFailed, detail).at(revision).current(current)
}

fn not_modified(revision: Revision, current: Revision) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NOT_MODIFIED;
    response.headers_mut().insert(ETAG, headers::etag(current));
    response.headers_mut().insert(&headers::REVISION, HeaderValue::from(revision.0));
    response
}

/// The answer with an item; `Accept: application/json` gets it as listings have it.
fn found(request: &HeaderMap, revision: Revision, item: Item, without_body: bool) -> Response {
    let mut fields = HeaderMap::with_capacity(10);
    fields.insert(ETAG, headers::etag(item.mod_revision));
    fields.insert(&headers::REVISION, HeaderValue::from(revision.0));
    fields.insert(&headers::CREATE_REVISION, HeaderValue::from(item.create_revision.0));
    fields.insert(&headers::VERSION, HeaderValue::from(item.version));
    fields.insert(VARY, HeaderValue::from_static("Accept"));
    let body = if headers::accepts(request, "application/json") {
        fields.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        // Serializing plain data into memory cannot fail.
        Bytes::from(serde_json::to_vec(&ItemJson::new(&item, false)).unwrap_or_default())
    } else {
        let content_type = match item.content_type {
            Some(text) => HeaderValue::from_maybe_shared(Bytes::from(text)).ok(),
            None => None,
        };
        let octets = HeaderValue::from_static("application/octet-stream");
        fields.insert(CONTENT_TYPE, content_type.unwrap_or(octets));
        // The bytes are a stranger's: no browser shall guess a type for them.
        fields.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        item.value
    };
    let body = if without_body {
        fields.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
        Body::empty()
    } else {
        Body::from(body)
    };
    let mut response = Response::new(body);
    *response.headers_mut() = fields;
    response
}

/// Writes take no parameters in this release.
fn no_parameters(head: &Parts) -> Result<(), Problem> {
    match head.uri.query() {
        None => Ok(()),
        raw => Query::parse(raw, &[]).map(drop),
    }
}

async fn put<B>(api: &Api, head: &Parts, body: B, key_start: usize) -> Result<Response, Problem>
where
    B: HttpBody<Data = Bytes>,
{
    let key = key_of(head, key_start)?;
    no_parameters(head)?;
    let fields = &head.headers;
    headers::refuse_idempotency_key(fields)?;
    if fields.contains_key(CONTENT_RANGE) {
        let detail = "a PUT replaces the whole value; Content-Range is not supported";
        return Err(Problem::new(Kind::InvalidHeader, detail));
    }
    let condition = condition::parse(fields)?;
    let content_type = content_type(fields)?;
    // Checked before the body is read; the time counts from its end, so that a slow upload does
    // not use it up.
    headers::deadline(fields)?;
    let value_bytes_max = api.handle.limits().value_bytes_max;
    let held = body::read(fields, body, value_bytes_max, &api.bodies).await?;
    let deadline = headers::deadline(fields)?;
    let put = Put { key, value: held.bytes.clone(), content_type, condition };
    let reply = api.handle.write(Write::Put(put), deadline).await?;
    let status = match reply.outcome {
        Outcome::Put { created: true } => StatusCode::CREATED,
        Outcome::Put { created: false } => StatusCode::NO_CONTENT,
        Outcome::ConditionFailed { current } => return Err(failed(reply.revision, current)),
        other => return Err(unexpected(other, reply.revision)),
    };
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response.headers_mut().insert(ETAG, headers::etag(reply.revision));
    response.headers_mut().insert(&headers::REVISION, HeaderValue::from(reply.revision.0));
    Ok(response)
}

fn content_type(fields: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(value) = fields.get(CONTENT_TYPE) else { return Ok(None) };
    match value.to_str() {
        Ok(text) if text.len() <= CONTENT_TYPE_BYTES_MAX => {
            Ok((!text.is_empty()).then(|| text.to_owned()))
        }
        _ => Err(Problem::new(
            Kind::InvalidHeader,
            format!("Content-Type must be ASCII text of at most {CONTENT_TYPE_BYTES_MAX} bytes"),
        )),
    }
}

async fn delete(api: &Api, head: &Parts, key_start: usize) -> Result<Response, Problem> {
    let key = key_of(head, key_start)?;
    no_parameters(head)?;
    let fields = &head.headers;
    headers::refuse_idempotency_key(fields)?;
    let condition = condition::parse(fields)?;
    let deadline = headers::deadline(fields)?;
    let reply = api.handle.write(Write::Delete { key, condition }, deadline).await?;
    match reply.outcome {
        Outcome::Deleted { count: 1.. } => {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::NO_CONTENT;
            let revision = HeaderValue::from(reply.revision.0);
            response.headers_mut().insert(&headers::REVISION, revision);
            Ok(response)
        }
        // Without a key the answer is 404 whatever the conditions say (RFC 9110, section 13.2.1).
        Outcome::Deleted { count: 0 } | Outcome::ConditionFailed { current: None } => {
            Err(Problem::new(Kind::NoSuchKey, "the key does not exist").at(reply.revision))
        }
        Outcome::ConditionFailed { current } => Err(failed(reply.revision, current)),
        other => Err(unexpected(other, reply.revision)),
    }
}

/// The problem for an outcome that is not one of the request's own.
pub(super) fn unexpected(outcome: Outcome, revision: Revision) -> Problem {
    match outcome {
        Outcome::Invalid { reason } => Problem::new(Kind::Refused, reason).at(revision),
        other => {
            tracing::error!(?other, "a write was answered with the outcome of another kind");
            Problem::new(Kind::Internal, "the write was answered with an unexpected outcome")
        }
    }
}
