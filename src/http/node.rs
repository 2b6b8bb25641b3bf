//! What a node says of itself: `/v1/status`, `/v1/cluster`, `/healthz`, `/readyz`.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use axum::response::Response;

use super::Api;
use super::error::{Kind, Problem};
use super::identity::caller_of;
use super::list::json_response;
use super::query::Query;
use crate::api::{SeeMembers, SeeStatus};
use crate::kv::Revision;

/// `GET /v1/status`.
pub(super) async fn status(
    State(api): State<Arc<Api>>,
    request: Request,
) -> Result<Response, Problem> {
    Query::parse(request.uri().query(), &[])?;
    let known = api.handle.admit(&caller_of(request.extensions()), SeeStatus).await?;
    let status = api.handle.status(&known).await;
    let status = status.ok_or_else(|| Problem::unanswered(&api.handle))?;
    // Serializing plain data into memory cannot fail.
    let body = serde_json::to_vec(&status).unwrap_or_default();
    Ok(json_response(Revision(status.revision), body))
}

/// `GET /v1/cluster`.
pub(super) async fn cluster(
    State(api): State<Arc<Api>>,
    request: Request,
) -> Result<Response, Problem> {
    Query::parse(request.uri().query(), &[])?;
    let allowed = api.handle.admit(&caller_of(request.extensions()), SeeMembers).await?;
    api.handle.knows_members()?;
    let cluster = api.handle.cluster(&allowed).await;
    let cluster = cluster.ok_or_else(|| Problem::unanswered(&api.handle))?;
    // Serializing plain data into memory cannot fail.
    let body = serde_json::to_vec(&cluster).unwrap_or_default();
    Ok(json_response(api.handle.revision(), body))
}

/// `GET /healthz`.
pub(super) async fn health(State(api): State<Arc<Api>>) -> Result<Response, Problem> {
    match api.handle.healthy().await {
        Ok(()) => Ok(ok()),
        Err(reason) => Err(Problem::new(Kind::Unhealthy, reason)),
    }
}

/// `GET /readyz`.
pub(super) async fn ready(State(api): State<Arc<Api>>) -> Result<Response, Problem> {
    match api.handle.ready().await {
        Ok(()) => Ok(ok()),
        Err(reason) => Err(Problem::new(Kind::NotReady, reason)),
    }
}

fn ok() -> Response {
    let mut response = Response::new(Body::from("ok\n"));
    let text = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, text);
    response
}
