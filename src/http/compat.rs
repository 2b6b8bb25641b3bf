//! The routes of the original konsen, with its shapes, so that its users' scripts keep working.
//! Unlike there, reads are linearizable, and unknown parameters are ignored as it ignores them.

use std::collections::BTreeMap;
use std::collections::HashSet;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::Serialize;

use super::budget::Guest;
use super::compat_json::PutJson;
use super::error::{Kind, Problem};
use super::identity::caller_of;
use super::trail::Trail;
use super::{Api, body, form, headers, key, query};
use crate::api::{Consistency, Error, Found, Freshness, Get, List, PAGE_BYTES_MAX, SeeStatus};
use crate::audit::Target;
use crate::kv::{Item, KeyRange, Outcome, RangeQuery, Revision, Write};

/// How many bytes a form may be larger than a value.
pub const FORM_EXTRA_BYTES_MAX: usize = 64 * 1024;
const KEYS_DEFAULT: usize = 100;
pub(super) const KEYS_MAX: usize = 1000;
const JSON: &str = "application/json; charset=utf-8";
const MISSING_KEY: &str = "missing required query parameter: key";

/// A query parameter, read as leniently as the original does: pairs that are broken are left out,
/// the first of a name counts.
pub(super) fn lenient(raw: Option<&str>, wanted: &str) -> Option<Bytes> {
    raw?.split('&').filter(|pair| !pair.contains(';')).find_map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let name = query::decode(name.as_bytes(), true).ok()?;
        let value = query::decode(value.as_bytes(), true).ok()?;
        (name == wanted).then_some(value)
    })
}

fn key_parameter(head: &Parts) -> Result<Bytes, Problem> {
    let key = lenient(head.uri.query(), "key").filter(|key| !key.is_empty());
    let key = key.ok_or_else(|| Problem::new(Kind::InvalidKey, MISSING_KEY))?;
    query::check_key(&key)?;
    Ok(key)
}

/// One key, linearizably.
async fn read(api: &Api, head: &Parts) -> Result<(Bytes, Revision, Option<Item>), Problem> {
    let key = key_parameter(head)?;
    let deadline = headers::deadline(&head.headers)?;
    let get = Get { key: key.clone(), freshness: Freshness::default(), unless: None };
    let get = api.handle.admit(&caller_of(&head.extensions), get).await?;
    let got = api.handle.get(get, deadline).await?;
    let item = match got.found {
        Found::Item(item) => Some(item),
        Found::Absent | Found::Unchanged(_) => None,
    };
    Ok((key, got.revision, item))
}

async fn write(api: &Api, head: &Parts, write: Write) -> Result<Revision, Problem> {
    let deadline = headers::deadline(&head.headers)?;
    let write = api.handle.admit(&caller_of(&head.extensions), write).await?;
    let reply = api.handle.write(write, deadline).await?;
    match reply.outcome {
        Outcome::Txn(_) => Ok(reply.revision),
        other => Err(key::unexpected(other, reply.revision)),
    }
}

fn answer(content_type: &'static str, revision: Revision, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    let fields = response.headers_mut();
    fields.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    fields.insert(&headers::REVISION, HeaderValue::from(revision.0));
    response
}

fn text(revision: Revision, body: impl Into<Body>) -> Response {
    answer("text/plain; charset=utf-8", revision, body)
}

fn json<T: Serialize>(revision: Revision, value: &T) -> Response {
    // Serializing plain data into memory cannot fail.
    let body = serde_json::to_vec(value).unwrap_or_default();
    answer(JSON, revision, body)
}

/// `GET /konsen?key=K`.
pub(super) async fn text_get(
    State(api): State<Arc<Api>>,
    head: Parts,
) -> Result<Response, Problem> {
    let (_, revision, item) = read(&api, &head).await.map_err(Problem::as_text)?;
    let value = item.map(|item| item.value).unwrap_or_default();
    let guest = Guest::of(&head.extensions);
    let value = api.answers.hold(&guest, value).map_err(Problem::as_text)?;
    let mut response = text(revision, value);
    key::strangers(response.headers_mut());
    Ok(response)
}

/// `POST /konsen`: every field of a form, in one revision.
pub(super) async fn form_put(
    State(api): State<Arc<Api>>,
    request: Request,
) -> Result<Response, Problem> {
    put_form(&api, request).await.map_err(Problem::as_text)
}

async fn put_form(api: &Api, request: Request) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    headers::refuse_idempotency_key(&parts.headers)?;
    let value_bytes_max = api.handle.value_bytes_max();
    // Percent-encoding can make every byte three.
    let form_bytes_max = 3 * value_bytes_max + FORM_EXTRA_BYTES_MAX;
    let held = body::read(&parts, body, form_bytes_max, &api.bodies).await?;
    let guest = Guest::of(&parts.extensions);
    let _under_way = api.requests.begin(&guest)?;
    let content_type = parts.headers.get(CONTENT_TYPE);
    let content_type = content_type.and_then(|value| value.to_str().ok()).unwrap_or_default();
    // Without a body there is nothing to be of a type.
    if content_type.is_empty() && held.bytes.is_empty() {
        return Ok(text(api.handle.revision(), Body::empty()));
    }
    let pairs = form::parse(content_type, &held.bytes)
        .map_err(|error| Problem::new(Kind::Malformed, error.to_string()))?;
    if pairs.is_empty() {
        return Ok(text(api.handle.revision(), Body::empty()));
    }
    Trail::note(&parts.extensions, |targets| {
        pairs.iter().for_each(|(key, _)| targets.add(Target::Key(key.clone())));
    });
    for (key, _) in &pairs {
        query::check_key(key)?;
    }
    let total: usize = pairs.iter().map(|(key, value)| key.len() + value.len()).sum();
    let total_max = value_bytes_max + FORM_EXTRA_BYTES_MAX;
    if total > total_max || pairs.iter().any(|(_, value)| value.len() > value_bytes_max) {
        let detail = format!(
            "a value may have {value_bytes_max} bytes, all keys and values of a form {total_max}"
        );
        return Err(Problem::new(Kind::ValueTooLarge, detail));
    }
    // Of a key that is named twice the first value counts, as in the original.
    let mut named = HashSet::new();
    let firsts = pairs.into_iter().filter(|(key, _)| named.insert(key.clone()));
    let revision = write(api, &parts, Write::put_many(firsts.collect())).await?;
    Ok(text(revision, Body::empty()))
}

/// A key that was found, or was not.
#[derive(Serialize)]
struct FoundJson<'a> {
    key: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<&'a str>,
    found: bool,
}

/// `GET /api/kv?key=K`. Bytes that are not UTF-8 become replacement characters, as in the original.
pub(super) async fn json_get(
    State(api): State<Arc<Api>>,
    head: Parts,
) -> Result<Response, Problem> {
    let (key, revision, item) = read(&api, &head).await.map_err(Problem::as_json_error)?;
    let key = String::from_utf8_lossy(&key);
    let value = item.as_ref().map(|item| String::from_utf8_lossy(&item.value));
    let found = FoundJson { key: &key, value: value.as_deref(), found: value.is_some() };
    // Serializing plain data into memory cannot fail.
    let body = serde_json::to_vec(&found).unwrap_or_default().into();
    let guest = Guest::of(&head.extensions);
    let body = api.answers.hold(&guest, body).map_err(Problem::as_json_error)?;
    Ok(answer(JSON, revision, body))
}

/// `POST /api/kv`.
pub(super) async fn json_put(
    State(api): State<Arc<Api>>,
    request: Request,
) -> Result<Response, Problem> {
    put_json(&api, request).await.map_err(Problem::as_json_error)
}

async fn put_json(api: &Api, request: Request) -> Result<Response, Problem> {
    #[derive(Serialize)]
    struct Success {
        success: bool,
    }

    let (parts, body) = request.into_parts();
    headers::refuse_idempotency_key(&parts.headers)?;
    let value_bytes_max = api.handle.value_bytes_max();
    // JSON writes a byte in six characters at most.
    let json_bytes_max = 6 * value_bytes_max + FORM_EXTRA_BYTES_MAX;
    let held = body::read(&parts, body, json_bytes_max, &api.bodies).await?;
    let guest = Guest::of(&parts.extensions);
    let _under_way = api.requests.begin(&guest)?;
    let put = PutJson::parse(&held.bytes)
        .map_err(|error| Problem::new(Kind::Malformed, format!("invalid JSON: {error}")))?;
    if put.key.is_empty() {
        return Err(Problem::new(Kind::InvalidKey, "key is required"));
    }
    let key = Bytes::from(put.key);
    Trail::note(&parts.extensions, |targets| targets.add(Target::Key(key.clone())));
    query::check_key(&key)?;
    if put.value.len() > value_bytes_max {
        let detail = format!("the value is larger than {value_bytes_max} bytes");
        return Err(Problem::new(Kind::ValueTooLarge, detail));
    }
    let revision = write(api, &parts, Write::put(key, put.value.into())).await?;
    Ok(json(revision, &Success { success: true }))
}

/// `GET /api/keys?prefix=&limit=`.
pub(super) async fn keys(State(api): State<Arc<Api>>, head: Parts) -> Result<Response, Problem> {
    list_keys(&api, &head).await.map_err(Problem::as_json_error)
}

async fn list_keys(api: &Api, head: &Parts) -> Result<Response, Problem> {
    #[derive(Serialize)]
    struct Keys {
        keys: Vec<String>,
    }

    let prefix = lenient(head.uri.query(), "prefix").unwrap_or_default();
    let mut query = RangeQuery {
        range: KeyRange::prefix(&prefix),
        at: None,
        descending: false,
        keys_only: true,
        items_max: keys_limit(lenient(head.uri.query(), "limit")),
        bytes_max: PAGE_BYTES_MAX,
    };
    let deadline = headers::deadline(&head.headers)?;
    let mut keys = Keys { keys: Vec::new() };
    let caller = caller_of(&head.extensions);
    // Whoever asks here knows of no cursor.
    let revision = loop {
        let list =
            List { query: query.clone(), consistency: Consistency::default(), min_revision: None };
        let list = api.handle.admit(&caller, list).await?;
        let page = match api.handle.list(list, deadline, |page| page).await {
            // The past is given up meanwhile. It goes on with what there is now, which cannot be compacted, so each page
            // is read twice at most. Whatever is there all the time is listed, and nothing twice, as in the original.
            Err(Error::Compacted { .. }) if query.at.take().is_some() => continue,
            page => page?,
        };
        let bytes: usize = page.items.iter().map(|item| item.key.len()).sum();
        query.items_max = query.items_max.saturating_sub(page.items.len());
        query.bytes_max = query.bytes_max.saturating_sub(bytes);
        let name = |item: &Item| String::from_utf8_lossy(&item.key).into_owned();
        keys.keys.extend(page.items.iter().map(name));
        match page.rest {
            Some(rest) if query.items_max > 0 && query.bytes_max > 0 => {
                (query.range, query.at) = (rest, Some(page.revision));
            }
            _ => break page.revision,
        }
    };
    // Serializing plain data into memory cannot fail.
    let body = Bytes::from(serde_json::to_vec(&keys).unwrap_or_default());
    let body = api.answers.hold(&Guest::of(&head.extensions), body)?;
    Ok(answer(JSON, revision, body))
}

pub(super) fn keys_limit(given: Option<Bytes>) -> usize {
    given
        .and_then(|bytes| std::str::from_utf8(&bytes).ok()?.parse::<usize>().ok())
        .filter(|&limit| limit > 0)
        .unwrap_or(KEYS_DEFAULT)
        .min(KEYS_MAX)
}

/// The original's status, in its order.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct StatusJson {
    node: String,
    role: String,
    current_leader: String,
    current_term: u64,
    commit_index: u64,
    last_applied: u64,
    next_index: BTreeMap<String, u64>,
    match_index: BTreeMap<String, u64>,
    log_count: u64,
}

/// The original knows three roles; whoever is none of them follows.
fn original_role(role: &str) -> &'static str {
    match role {
        "leader" => "LEADER",
        "candidate" => "CANDIDATE",
        _ => "FOLLOWER",
    }
}

/// `GET /api/status`.
pub(super) async fn status(State(api): State<Arc<Api>>, head: Parts) -> Result<Response, Problem> {
    let known = api.handle.admit(&caller_of(&head.extensions), SeeStatus).await;
    let known = known.map_err(|error| Problem::from(error).as_json_error())?;
    let status = api.handle.status(&known).await;
    let status = status.ok_or_else(|| Problem::unanswered(&api.handle))?;
    let json_status = StatusJson {
        node: status.name,
        role: original_role(&status.role).to_owned(),
        current_leader: status.leader.unwrap_or_default(),
        current_term: status.term,
        commit_index: status.commit,
        last_applied: status.applied,
        next_index: status.next_index,
        match_index: status.match_index,
        log_count: status.last_index,
    };
    Ok(json(Revision(status.revision), &json_status))
}

#[derive(Serialize)]
struct GoodJson {
    status: &'static str,
    role: &'static str,
    leader: String,
}

async fn good(api: &Api, word: &'static str) -> Response {
    let Some((role, leader)) = api.handle.role_and_leader().await else {
        return Problem::unanswered(&api.handle).into_response();
    };
    let (role, leader) = (original_role(&role), leader.unwrap_or_default());
    json(api.handle.revision(), &GoodJson { status: word, role, leader })
}

/// `GET /health`.
pub(super) async fn health(State(api): State<Arc<Api>>) -> Response {
    #[derive(Serialize)]
    struct Unhealthy {
        status: &'static str,
        error: String,
    }

    match api.handle.healthy().await {
        Ok(()) => good(&api, "healthy").await,
        Err(error) => unavailable(&api, &Unhealthy { status: "unhealthy", error }),
    }
}

/// `GET /ready`.
pub(super) async fn ready(State(api): State<Arc<Api>>) -> Response {
    #[derive(Serialize)]
    struct NotReady {
        status: &'static str,
        reason: String,
    }

    match api.handle.ready().await {
        Ok(()) => good(&api, "ready").await,
        Err(reason) => unavailable(&api, &NotReady { status: "not ready", reason }),
    }
}

/// A check that failed; its body is the original's, not a problem.
fn unavailable<T: Serialize>(api: &Api, value: &T) -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, json(api.handle.revision(), value)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_read_leniently() {
        assert_eq!(lenient(Some("a=1&key=x+y%2Fz&key=2"), "key").unwrap(), "x y/z");
        assert_eq!(lenient(Some("key=%zz&other"), "key"), None);
        assert_eq!(lenient(Some("key"), "key").unwrap(), "");
        assert_eq!(lenient(None, "key"), None);
    }

    #[test]
    fn limits_that_cannot_be_read_are_the_default() {
        let limit = |text: &'static str| keys_limit(Some(text.into()));
        assert_eq!(keys_limit(None), 100);
        assert_eq!(limit("7"), 7);
        assert_eq!(limit("5000"), 1000);
        for unreadable in ["", "x", "0", "-3", "1.5"] {
            assert_eq!(limit(unreadable), 100, "{unreadable}");
        }
    }

    #[test]
    fn the_shapes_are_the_originals() {
        let found = FoundJson { key: "a", value: Some("1"), found: true };
        assert_eq!(
            serde_json::to_string(&found).unwrap(),
            r#"{"key":"a","value":"1","found":true}"#
        );
        let absent = FoundJson { key: "a", value: None, found: false };
        assert_eq!(serde_json::to_string(&absent).unwrap(), r#"{"key":"a","found":false}"#);
        let status = StatusJson {
            node: "node1".into(),
            role: original_role("follower").into(),
            current_leader: String::new(),
            current_term: 3,
            commit_index: 2,
            last_applied: 1,
            next_index: BTreeMap::new(),
            match_index: BTreeMap::from([("node2".into(), 4)]),
            log_count: 5,
        };
        assert_eq!(
            serde_json::to_string(&status).unwrap(),
            r#"{"node":"node1","role":"FOLLOWER","currentLeader":"","currentTerm":3,"commitIndex":2,"lastApplied":1,"nextIndex":{},"matchIndex":{"node2":4},"logCount":5}"#
        );
    }
}
