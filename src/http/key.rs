//! `/v1/kv/{key}`: one key. The hot path of the server.

use std::time::{Duration, Instant};

use axum::body::{Body, HttpBody};
use axum::http::header::{
    ALLOW, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, VARY,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;

use super::body;
use super::budget::Guest;
use super::condition::{self, Verdict};
use super::error::{Kind, Problem};
use super::fields::Representation;
use super::query::{self, Query};
use super::{Api, headers};
use crate::api::{CONTENT_TYPE_BYTES_MAX, Caller, Found, Freshness, Get, Got, ItemJson, Wait};
use crate::kv::{Condition, Item, Matcher, Outcome, Put, Revision, Single, Write};
use crate::server::Allowed;

/// The parameters of GET and HEAD.
const READ_PARAMETERS: &[&str] = &["consistency", "revision", "min_revision", "wait"];

/// Answers a request whose path is `/v1/kv/` and a key. Every way lets go of the request's head before it waits for
/// anything: a head may be large, and there may be many who wait.
pub(super) async fn respond<B>(
    api: &Api,
    request: Request<B>,
    caller: &Caller,
    key_start: usize,
) -> Response
where
    B: HttpBody<Data = Bytes>,
{
    let (head, body) = request.into_parts();
    let result = match head.method {
        Method::GET | Method::HEAD => match Read::parse(&head, key_start) {
            Ok(read) => {
                drop((head, body));
                read.answer(api, caller).await
            }
            Err(problem) => Err(problem),
        },
        Method::PUT => match PutHead::parse(&head, key_start) {
            Ok(wanted) => {
                let length = body::declared(&head.headers, &body);
                let guest = Guest::of(&head.extensions);
                drop(head);
                put(api, caller, wanted, body, length, &guest).await
            }
            Err(problem) => Err(problem),
        },
        Method::DELETE => match delete_of(&head, key_start) {
            Ok((write, deadline)) => {
                drop((head, body));
                delete(api, caller, write, deadline).await
            }
            Err(problem) => Err(problem),
        },
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

/// What a GET or a HEAD asks for.
struct Read {
    get: Get,
    wait: Option<Duration>,
    condition: Condition,
    representation: Representation,
    without_body: bool,
    deadline: Instant,
    guest: Guest,
}

/// What a read comes to.
enum Settled {
    Answer(Response),
    /// A change is waited for: the revision that was seen, and the key's, if it exists.
    Waits(Revision, Option<Revision>),
}

impl Read {
    fn parse(head: &Parts, key_start: usize) -> Result<Read, Problem> {
        let key = key_of(head, key_start)?;
        let (freshness, wait) = match head.uri.query() {
            None => (Freshness::default(), None),
            Some(raw) => {
                let query = Query::parse(Some(raw), READ_PARAMETERS)?;
                (query.freshness()?, query.duration("wait")?)
            }
        };
        if wait.is_some() && freshness.at.is_some() {
            return Err(Problem::new(
                Kind::InvalidParameter,
                "wait and revision exclude each other: the past does not change",
            ));
        }
        let representation = Representation::of(&head.headers);
        let condition = condition::parse_for(&head.headers, representation)?;
        Ok(Read {
            get: Get { key, freshness, unless: condition.if_none_match.clone() },
            wait,
            condition,
            representation,
            without_body: head.method == Method::HEAD,
            deadline: headers::deadline(&head.headers)?,
            guest: Guest::of(&head.extensions),
        })
    }

    async fn answer(self, api: &Api, caller: &Caller) -> Result<Response, Problem> {
        if let Some(wait) = self.wait {
            let wanted = api.handle.admit(caller, Wait(self.get.clone())).await?;
            // Whoever waits for a change waits for this node's.
            api.handle.reach(self.get.freshness, self.deadline).await?;
            return self.wait(api, &wanted, Instant::now() + wait).await;
        }
        let get = api.handle.admit(caller, self.get.clone()).await?;
        let got = api.handle.get(get, self.deadline).await?;
        match self.settle(api, got)? {
            Settled::Answer(response) => Ok(response),
            Settled::Waits(revision, current) => self.unchanged(revision, current),
        }
    }

    /// Reads the key as this node has it now.
    fn look(&self, api: &Api, wanted: &Allowed<Wait>) -> Result<Settled, Problem> {
        self.settle(api, api.handle.look(wanted)?)
    }

    /// Answers once the key is another than the request's conditions name. Meanwhile it holds the key and the tags.
    async fn wait(
        self,
        api: &Api,
        wanted: &Allowed<Wait>,
        until: Instant,
    ) -> Result<Response, Problem> {
        loop {
            // Before the key is read, so that no change is missed.
            let _place = self.guest.wait(api.waiters_per_guest)?;
            let waiter = api.handle.waiter(wanted)?;
            let (revision, current) = match self.look(api, wanted) {
                Ok(Settled::Answer(response)) => return Ok(response),
                Ok(Settled::Waits(revision, current)) => (revision, current),
                // Many may be woken by one change: each has its turn.
                Err(problem) if problem.kind() == Kind::TooBusy && Instant::now() < until => {
                    tokio::time::sleep(BUSY_PAUSE.min(until - Instant::now())).await;
                    continue;
                }
                Err(problem) => return Err(problem),
            };
            let woken = tokio::select! {
                woken = waiter.woken(until) => woken,
                () = api.stopping.cancelled() => false,
                // The next look says so.
                () = api.handle.until_forbidden(wanted) => true,
            };
            if !woken {
                return self.unchanged(revision, current);
            }
        }
    }

    /// What the key as it was read comes to.
    fn settle(&self, api: &Api, got: Got) -> Result<Settled, Problem> {
        let Got { revision, found } = got;
        let current = match &found {
            Found::Absent => {
                // Whoever names the tag of what was there hears that it is gone.
                let knew = matches!(self.condition.if_none_match, Some(Matcher::Revisions(_)));
                if self.wait.is_some() && !knew && self.condition.if_match.is_none() {
                    return Ok(Settled::Waits(revision, None));
                }
                return Err(absent(revision));
            }
            Found::Item(item) => item.mod_revision,
            Found::Unchanged(current) => *current,
        };
        match (condition::of_read(&self.condition, current), found) {
            (Verdict::Failed, _) => Err(failed(revision, Some(current))),
            (Verdict::Proceed, Found::Item(item)) => {
                self.found(api, revision, item).map(Settled::Answer)
            }
            _ => Ok(Settled::Waits(revision, Some(current))),
        }
    }

    /// The answer where nothing is new.
    fn unchanged(
        &self,
        revision: Revision,
        current: Option<Revision>,
    ) -> Result<Response, Problem> {
        let current = current.ok_or_else(|| absent(revision))?;
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        let fields = response.headers_mut();
        fields.insert(ETAG, self.representation.etag(current));
        fields.insert(&headers::REVISION, HeaderValue::from(revision.0));
        fields.insert(VARY, HeaderValue::from_static("Accept"));
        Ok(response)
    }

    /// The answer with an item; `Accept: application/json` gets it as listings have it.
    fn found(&self, api: &Api, revision: Revision, item: Item) -> Result<Response, Problem> {
        let mut fields = HeaderMap::with_capacity(12);
        fields.insert(ETAG, self.representation.etag(item.mod_revision));
        fields.insert(&headers::REVISION, HeaderValue::from(revision.0));
        fields.insert(&headers::CREATE_REVISION, HeaderValue::from(item.create_revision.0));
        fields.insert(&headers::VERSION, HeaderValue::from(item.version));
        fields.insert(VARY, HeaderValue::from_static("Accept"));
        let body = match self.representation {
            Representation::Json => {
                fields.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
                // Serializing plain data into memory cannot fail.
                Bytes::from(serde_json::to_vec(&ItemJson::new(&item, false)).unwrap_or_default())
            }
            Representation::Value => {
                let content_type = match item.content_type {
                    Some(text) => HeaderValue::from_maybe_shared(Bytes::from(text)).ok(),
                    None => None,
                };
                let octets = HeaderValue::from_static("application/octet-stream");
                fields.insert(CONTENT_TYPE, content_type.unwrap_or(octets));
                strangers(&mut fields);
                item.value
            }
        };
        let body = if self.without_body {
            fields.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
            Body::empty()
        } else {
            Body::from(api.answers.hold(&self.guest, body)?)
        };
        let mut response = Response::new(body);
        *response.headers_mut() = fields;
        Ok(response)
    }
}

/// How long one who waited pauses while the answers of others fill the memory set aside for them.
const BUSY_PAUSE: Duration = Duration::from_millis(50);

/// The bytes are a stranger's: no browser shall guess a type for them, nor run what is in them as this site's.
pub(super) fn strangers(fields: &mut HeaderMap) {
    fields.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    fields.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox"));
}

fn absent(revision: Revision) -> Problem {
    Problem::new(Kind::NoSuchKey, "the key does not exist").at(revision)
}

fn failed(revision: Revision, current: Option<Revision>) -> Problem {
    let detail = match current {
        Some(current) => format!("the key's mod revision is {current}"),
        None => "the key does not exist".to_owned(),
    };
    Problem::new(Kind::ConditionFailed, detail).at(revision).current(current)
}

/// Writes take no parameters in this release.
fn no_parameters(head: &Parts) -> Result<(), Problem> {
    match head.uri.query() {
        None => Ok(()),
        raw => Query::parse(raw, &[]).map(drop),
    }
}

/// What a PUT asks for, but for its body.
struct PutHead {
    key: Bytes,
    condition: Condition,
    content_type: Option<String>,
    timeout: Duration,
}

impl PutHead {
    fn parse(head: &Parts, key_start: usize) -> Result<PutHead, Problem> {
        let key = key_of(head, key_start)?;
        no_parameters(head)?;
        let fields = &head.headers;
        headers::refuse_idempotency_key(fields)?;
        headers::refuse_encoding(fields)?;
        if fields.contains_key(CONTENT_RANGE) {
            let detail = "a PUT replaces the whole value; Content-Range is not supported";
            return Err(Problem::new(Kind::InvalidHeader, detail));
        }
        Ok(PutHead {
            key,
            condition: condition::parse(fields)?,
            content_type: content_type(fields)?,
            timeout: headers::timeout(fields)?,
        })
    }
}

async fn put<B>(
    api: &Api,
    caller: &Caller,
    wanted: PutHead,
    body: B,
    length: Option<u64>,
    guest: &Guest,
) -> Result<Response, Problem>
where
    B: HttpBody<Data = Bytes>,
{
    let PutHead { key, condition, content_type, timeout } = wanted;
    // Before anything of the body is taken in.
    let named = Put::new(key.clone(), Bytes::new());
    if let Err(error) = api.handle.admit(caller, Write::put_if(named, condition.clone())).await {
        body::discard(body).await;
        return Err(error.into());
    }
    let value_bytes_max = api.handle.value_bytes_max();
    let held = body::read_declared(length, guest, body, value_bytes_max, &api.bodies).await?;
    let _under_way = api.requests.begin(guest)?;
    // The time counts from the body's end, so that a slow upload does not use it up.
    let deadline = Instant::now() + timeout;
    let put = Put { content_type, ..Put::new(key, held.bytes.clone()) };
    let write = api.handle.admit(caller, Write::put_if(put, condition)).await?;
    let reply = api.handle.write(write, deadline).await?;
    let status = match reply.outcome.single() {
        Some(Single::Put { created: true }) => StatusCode::CREATED,
        Some(Single::Put { created: false }) => StatusCode::NO_CONTENT,
        Some(Single::ConditionFailed { current }) => return Err(failed(reply.revision, current)),
        _ => return Err(unexpected(reply.outcome, reply.revision)),
    };
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response.headers_mut().insert(ETAG, Representation::Value.etag(reply.revision));
    response.headers_mut().insert(&headers::REVISION, HeaderValue::from(reply.revision.0));
    Ok(response)
}

fn content_type(fields: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(value) = headers::single(fields, &CONTENT_TYPE)? else { return Ok(None) };
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

fn delete_of(head: &Parts, key_start: usize) -> Result<(Write, Instant), Problem> {
    let key = key_of(head, key_start)?;
    no_parameters(head)?;
    let fields = &head.headers;
    headers::refuse_idempotency_key(fields)?;
    let condition = condition::parse(fields)?;
    Ok((Write::delete_if(key, condition), headers::deadline(fields)?))
}

async fn delete(
    api: &Api,
    caller: &Caller,
    write: Write,
    deadline: Instant,
) -> Result<Response, Problem> {
    let write = api.handle.admit(caller, write).await?;
    let reply = api.handle.write(write, deadline).await?;
    match reply.outcome.single() {
        Some(Single::Deleted { count: 1.. }) => {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::NO_CONTENT;
            let revision = HeaderValue::from(reply.revision.0);
            response.headers_mut().insert(&headers::REVISION, revision);
            Ok(response)
        }
        // Without a key the answer is 404 whatever the conditions say (RFC 9110, section 13.2.1).
        Some(Single::Deleted { count: 0 } | Single::ConditionFailed { current: None }) => {
            Err(absent(reply.revision))
        }
        Some(Single::ConditionFailed { current }) => Err(failed(reply.revision, current)),
        _ => Err(unexpected(reply.outcome, reply.revision)),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Consistency;

    fn read(target: &str) -> Read {
        let head = Request::builder().uri(target).body(()).unwrap().into_parts().0;
        Read::parse(&head, "/v1/kv/".len()).unwrap_or_else(|problem| panic!("{problem:?}"))
    }

    /// The query is read once, so that no way of writing it hides from whoever looks at it.
    #[test]
    fn an_encoded_parameter_means_what_it_says() {
        for target in ["/v1/kv/a?consistency=%73tale", "/v1/kv/a?%63onsistency=stale"] {
            assert_eq!(read(target).get.freshness.consistency, Consistency::Stale, "{target}");
        }
        assert_eq!(read("/v1/kv/a?w%61it=1s").wait, Some(Duration::from_secs(1)));
    }
}
