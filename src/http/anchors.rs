//! `GET /v1/audit/anchors`: what the cluster knows of the audits of its nodes.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;

use super::error::Problem;
use super::identity::caller_of;
use super::list::json_response;
use super::query::Query;
use super::{Api, headers};
use crate::api::{Freshness, SeeAudit};

/// `GET /v1/audit/anchors`.
pub(super) async fn anchors(
    State(api): State<Arc<Api>>,
    request: Request,
) -> Result<Response, Problem> {
    Query::parse(request.uri().query(), &[])?;
    let deadline = headers::deadline(request.headers())?;
    let caller = caller_of(request.extensions());
    drop(request);
    api.handle.admit(&caller, SeeAudit).await?;
    api.handle.reach(Freshness::default(), deadline).await?;
    let allowed = api.handle.admit(&caller, SeeAudit).await?;
    let anchors = api.handle.anchors(&allowed).await?;
    // Serializing plain data into memory cannot fail.
    let body = serde_json::to_vec(&anchors).unwrap_or_default();
    Ok(json_response(api.handle.revision(), body))
}
