//! HTTP: routes, conditions, errors, and the server that speaks it.
//!
//! [`router`] makes an [`App`] of a node's handle. One key, the hot path, is served before the
//! router is asked; everything else is an axum route. [`serve`] runs an app on a listener.

mod anchors;
mod answer;
mod audit;
mod auth;
mod body;
mod budget;
mod compact;
mod compat;
mod compat_json;
mod condition;
mod cursor;
mod date;
pub mod error;
mod fields;
mod form;
mod framing;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod guard;
mod headers;
mod heads;
mod hpack;
mod identity;
mod json;
mod key;
mod leader;
mod list;
mod members;
mod metrics;
mod node;
mod places;
mod plain;
mod query;
mod range_delete;
mod rates;
mod revoked;
mod serve;
mod snapshot;
mod socket;
mod trail;
mod txn;
mod watch;

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use axum::Router;
use axum::body::{Body, HttpBody};
use axum::extract::Request;
use axum::http::Method;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use bytes::Bytes;
use rustls_pki_types::CertificateDer;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tower::{Service, ServiceExt};

pub use compat::FORM_EXTRA_BYTES_MAX;
pub use framing::{HEADER_BYTES_MAX, HEADERS_MAX};
pub use list::STREAM_PART_BYTES_MAX;
pub use places::SPARE_CONNECTIONS;
pub use serve::{DRAIN_TIME_MAX, LINGER_TIME, SPARE_TIME_MAX, STREAMS_MAX, serve};
pub use watch::HALF_CLOSED_MAX;

use crate::server::{Counts, Handle, ReadClient, Route, passed_on};
use audit::Audited;
use budget::Guest;
use error::{Kind, Problem};
use identity::Head;
use places::is_spare;

/// What every route needs.
struct Api {
    handle: Handle,
    /// How often users ask.
    rates: rates::Rates,
    /// The requests that are carried out.
    requests: budget::Requests,
    /// The bodies of requests.
    bodies: body::Bodies,
    /// The memory for answers.
    answers: budget::Answers,
    /// The most requests of one address that wait for a change.
    waiters_per_guest: usize,
    /// Whose turn it is among deletions that go in steps.
    deletions: Semaphore,
    /// Cancelled when a shutdown begins, so that no wait for a change holds it up.
    stopping: CancellationToken,
}

const KEY_PATH: &str = "/v1/kv/";

/// konsen's HTTP API over one node. Cheap to clone.
#[derive(Clone)]
pub struct App {
    inner: Arc<Inner>,
}

struct Inner {
    api: Arc<Api>,
    rest: Router,
}

/// The API of a node.
pub fn router(handle: Handle) -> App {
    let limits = handle.limits();
    let api = Arc::new(Api {
        rates: rates::Rates::new(limits.user_rate_max),
        requests: budget::Requests::new(limits.requests_max),
        bodies: body::Bodies::new(limits),
        answers: budget::Answers::new(limits.answer_bytes_max),
        waiters_per_guest: limits.waiters_max / 2,
        deletions: Semaphore::new(1),
        handle,
        stopping: CancellationToken::new(),
    });
    let rest = Router::new()
        .route("/v1/kv", get(list::list).delete(range_delete::delete))
        .route("/v1/txn", post(txn::txn))
        .route("/v1/compact", post(compact::compact))
        .route("/v1/status", get(node::status))
        .route("/v1/auth/users", get(auth::users))
        .route(
            "/v1/auth/users/{name}",
            get(auth::user).put(auth::put_user).delete(auth::delete_user),
        )
        .route("/v1/auth/roles", get(auth::roles))
        .route(
            "/v1/auth/roles/{name}",
            get(auth::role).put(auth::put_role).delete(auth::delete_role),
        )
        .route("/v1/auth/tokens", get(auth::tokens))
        .route(
            "/v1/auth/tokens/{name}",
            get(auth::token).put(auth::put_token).delete(auth::delete_token),
        )
        .route("/v1/auth/revoked", get(revoked::list))
        .route(
            "/v1/auth/revoked/{serial}",
            get(revoked::one).put(revoked::put).delete(revoked::delete),
        )
        .route("/v1/auth/whoami", get(auth::whoami))
        .route("/v1/auth/can", post(auth::can))
        .route("/v1/cluster", get(node::cluster))
        .route("/v1/cluster/leader", post(leader::transfer))
        .route("/v1/cluster/members", get(members::list).post(members::add))
        .route("/v1/cluster/members/undo", post(members::undo))
        .route("/v1/cluster/members/{name}", delete(members::remove))
        .route("/v1/cluster/members/{name}/promote", post(members::promote))
        .route("/v1/cluster/members/{name}/replace", post(members::replace))
        .route("/v1/cluster/members/{name}/renew", post(members::renew))
        .route("/v1/audit/anchors", get(anchors::anchors))
        .route("/v1/snapshot", get(snapshot::snapshot))
        .route("/metrics", get(metrics::metrics))
        .route("/healthz", get(node::health))
        .route("/readyz", get(node::ready))
        .route("/konsen", get(compat::text_get).post(compat::form_put))
        .route("/api/kv", get(compat::json_get).post(compat::json_put))
        .route("/api/keys", get(compat::keys))
        .route("/api/status", get(compat::status))
        .route("/health", get(compat::health))
        .route("/ready", get(compat::ready))
        .fallback(no_such_route)
        .method_not_allowed_fallback(no_such_method)
        .with_state(Arc::clone(&api));
    App { inner: Arc::new(Inner { api, rest }) }
}

impl App {
    /// Ends the waits for a change: their requests are answered at once.
    fn end_waits(&self) {
        self.inner.api.stopping.cancel();
    }

    /// The memory for answers.
    fn answers(&self) -> &budget::Answers {
        &self.inner.api.answers
    }

    /// One more connection.
    fn read_client(&self) -> ReadClient {
        self.inner.api.handle.read_client()
    }

    /// Whom a client's certificate stands for.
    fn certified(&self, certificate: &CertificateDer<'_>) -> Option<identity::Certified> {
        self.inner.api.handle.certified(certificate).map(identity::Certified)
    }

    /// Waits until the certificate of a connection is revoked.
    async fn until_revoked(&self, certified: Option<&identity::Certified>) {
        match certified.and_then(|identity::Certified(caller)| caller.certificate()) {
            Some(serial) => self.inner.api.handle.until_revoked(serial).await,
            None => std::future::pending().await,
        }
    }

    /// What the node counts of requests.
    fn counts(&self) -> &Arc<Counts> {
        self.inner.api.handle.counts()
    }

    /// Answers one request, counts it, and records it.
    pub async fn respond<B>(&self, mut request: axum::http::Request<B>) -> Response
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<axum::BoxError>,
    {
        let (route, began) = (metrics::route(request.uri()), Instant::now());
        let response = match Audited::begin(self.inner.api.handle.audit(), &mut request) {
            Ok(None) => self.carry_out(route, request, None).await,
            Ok(Some(audited)) => {
                let carried_out = self.carry_out(route, request, Some(&audited));
                let (response, passed_on) = passed_on::watch(carried_out).await;
                if let Some(durable) = audited.end(&response, passed_on) {
                    durable.wait().await;
                }
                response
            }
            Err(problem) => turned_away(problem, request).await,
        };
        metrics::count(self.counts(), route, &response, began.elapsed());
        response
    }

    async fn carry_out<B>(
        &self,
        route: Route,
        request: axum::http::Request<B>,
        audited: Option<&Audited>,
    ) -> Response
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<axum::BoxError>,
    {
        if !begins_at_once(route, &request) {
            return self.answer(request, audited).await;
        }
        let guest = Guest::of(request.extensions());
        match self.inner.api.requests.begin(&guest) {
            Ok(_under_way) => self.answer(request, audited).await,
            Err(problem) => problem.into_response(),
        }
    }

    async fn answer<B>(
        &self,
        request: axum::http::Request<B>,
        audited: Option<&Audited>,
    ) -> Response
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<axum::BoxError>,
    {
        let limits = self.inner.api.handle.limits();
        if let Err(problem) = guard::check(&request, limits.hosts.as_deref()) {
            return turned_away(problem, request).await;
        }
        let caller = identity::authenticate(&self.inner.api.handle, Head::of(&request)).await;
        if let Some(audited) = audited {
            audited.is_of(caller.as_ref().ok(), request.headers());
        }
        let caller = match caller {
            Ok(caller) => caller,
            Err(problem) => {
                return turned_away(styled(problem, request.uri().path()), request).await;
            }
        };
        if let Err(problem) = self.inner.api.rates.begin(&caller, Instant::now()) {
            return turned_away(styled(problem, request.uri().path()), request).await;
        }
        if request.uri().path().starts_with(KEY_PATH) {
            return key::respond(&self.inner.api, request, &caller, KEY_PATH.len()).await;
        }
        let mut request = request;
        request.extensions_mut().insert(caller);
        match self.inner.rest.clone().oneshot(request.map(Body::new)).await {
            Ok(response) => own(response),
            Err(never) => match never {},
        }
    }
}

/// Answers a request before anything of it was looked at. A small body is read and let go first: whoever has begun to send one looks
/// for the answer after that.
async fn turned_away<B>(problem: Problem, request: axum::http::Request<B>) -> Response
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<axum::BoxError>,
{
    body::discard(request.into_body()).await;
    problem.into_response()
}

/// The problem in the way of its route.
fn styled(problem: Problem, path: &str) -> Problem {
    match path {
        "/konsen" => problem.as_text(),
        path if path.starts_with("/api/") => problem.as_json_error(),
        _ => problem,
    }
}

/// Whether a request counts for `limits.requests` from its head on: not what has a bound of its own, nor what tells how the node
/// is. What comes with a body counts once that is there (`key::put`, `txn`, `compat`), lest bodies that never come keep others out.
fn begins_at_once<B>(route: Route, request: &axum::http::Request<B>) -> bool {
    let path = request.uri().path();
    let has_bound = || matches!(route, Route::Watch | Route::Snapshot) || is_spare(path);
    let has_body = matches!(*request.method(), Method::PUT | Method::POST);
    !has_body && (route == Route::Kv || !has_bound())
}

/// An answer of the library that finds the route, which knows no problems, as one.
fn own(response: Response) -> Response {
    let fields = response.headers();
    let is_plain =
        fields.get(CONTENT_TYPE).is_some_and(|it| it.as_bytes().starts_with(b"text/plain"));
    let is_konsens = response.extensions().get::<error::OfKonsen>().is_some();
    if !response.status().is_client_error() || !is_plain || is_konsens {
        return response;
    }
    Problem::new(Kind::Malformed, "the path of the request cannot be read").into_response()
}

impl Service<Request> for App {
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let app = self.clone();
        Box::pin(async move { Ok(app.respond(request).await) })
    }
}

async fn no_such_route(request: Request) -> Response {
    let path = request.uri().path();
    let detail = format!("{path} is not a path of konsen; one key is at /v1/kv/KEY");
    body::discard(request.into_body()).await;
    Problem::new(Kind::NoSuchRoute, detail).into_response()
}

/// The router adds `Allow` to this answer.
async fn no_such_method(request: Request) -> Response {
    let detail = format!("{} does not have {}", request.uri().path(), request.method());
    Problem::new(Kind::MethodNotAllowed, detail).into_response()
}
