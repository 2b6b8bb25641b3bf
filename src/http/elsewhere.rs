//! Reads that the leader answers for a node that does not keep up, or whose disk has too little room to.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::future::BoxFuture;

use super::error::Problem;
use super::list::NDJSON;
use super::{Inner, KEY_PATH, headers};
use crate::api::Error;
use crate::raft::NodeId;
use crate::server::{PassedAnswer, PassedRead, Reads};

/// Everything that reads keys, but for [`KEY_PATH`] and the stream of a listing, which has no bound.
const PATHS: &[&str] = &["/v1/kv", "/konsen", "/api/kv", "/api/keys"];
/// How much of the client's patience is left for the way.
const WAY: Duration = Duration::from_millis(250);

/// A read that the leader is to answer.
pub(super) struct Passed {
    leader: NodeId,
    read: PassedRead,
    deadline: Instant,
}

impl Inner {
    /// What is to be answered by the leader; none if it is to be answered here.
    pub(super) fn to_pass_on<B>(&self, request: &Request<B>) -> Option<Passed> {
        let leader = self.api.handle.reads_elsewhere()?;
        let read = passable(request)?;
        // A field that cannot be read is complained of here.
        let deadline = headers::deadline(request.headers()).ok()? + WAY;
        Some(Passed { leader, read, deadline })
    }

    /// The leader's answer; none if there is none, or none that fits between nodes.
    pub(super) async fn pass_on(&self, passed: Passed) -> Option<Response> {
        let Passed { leader, read, deadline } = passed;
        match self.api.handle.pass_read(leader, read, deadline).await {
            Some(answer) => response(answer),
            None if Instant::now() < deadline => None,
            None => Some(Problem::from(Error::ReadTimedOut).into_response()),
        }
    }
}

impl Reads for Inner {
    fn answer(
        self: Arc<Self>,
        read: PassedRead,
        bytes_max: usize,
    ) -> BoxFuture<'static, Option<PassedAnswer>> {
        Box::pin(async move {
            let response = self.respond_here(request(read)?).await;
            let (head, body) = response.into_parts();
            let body = to_bytes(body, bytes_max).await.ok()?;
            Some(PassedAnswer { status: head.status.as_u16(), fields: fields(&head.headers), body })
        })
    }
}

/// The request as it is passed on; none if it is to be answered here.
fn passable<B>(request: &Request<B>) -> Option<PassedRead> {
    let (path, query) = (request.uri().path(), request.uri().query().unwrap_or_default());
    let head = match *request.method() {
        Method::GET => false,
        Method::HEAD => true,
        _ => return None,
    };
    let reads = path.starts_with(KEY_PATH) || PATHS.contains(&path);
    // Whoever wants what this node has, or to wait for a change, gets it here.
    let here =
        query.split('&').any(|pair| pair == "consistency=stale" || pair.starts_with("wait="));
    let streamed = headers::accepts(request.headers(), NDJSON);
    (reads && !here && !streamed).then(|| PassedRead {
        head,
        target: request.uri().path_and_query().map(ToString::to_string).unwrap_or_default(),
        fields: fields(request.headers()),
    })
}

fn request(read: PassedRead) -> Option<Request<Body>> {
    let method = if read.head { Method::HEAD } else { Method::GET };
    let mut request =
        Request::builder().method(method).uri(read.target).body(Body::empty()).ok()?;
    *request.headers_mut() = headers_of(read.fields)?;
    Some(request)
}

fn response(answer: PassedAnswer) -> Option<Response> {
    let mut response = Response::new(Body::from(answer.body));
    *response.status_mut() = StatusCode::from_u16(answer.status).ok()?;
    *response.headers_mut() = headers_of(answer.fields)?;
    Some(response)
}

fn fields(headers: &HeaderMap) -> Vec<(String, Bytes)> {
    let fields = headers.iter();
    fields
        .map(|(name, value)| (name.to_string(), Bytes::copy_from_slice(value.as_bytes())))
        .collect()
}

fn headers_of(fields: Vec<(String, Bytes)>) -> Option<HeaderMap> {
    let field = |(name, value): (String, Bytes)| {
        Some((HeaderName::try_from(name).ok()?, HeaderValue::from_maybe_shared(value).ok()?))
    };
    fields.into_iter().map(field).collect()
}
