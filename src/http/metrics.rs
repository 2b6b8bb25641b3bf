//! `GET /metrics`, and what is counted of each request for it.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderValue, Uri};
use axum::response::Response;

use super::error::{OfKonsen, Problem};
use super::query::Query;
use super::{Api, KEY_PATH};
use crate::server::{Counts, Route};

const OPENMETRICS: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");

/// `GET /metrics`.
pub(super) async fn metrics(
    State(api): State<Arc<Api>>,
    request: Request,
) -> Result<Response, Problem> {
    Query::parse(request.uri().query(), &[])?;
    let mut response = Response::new(Body::from(api.handle.metrics().await));
    let fields = response.headers_mut();
    fields.insert(CONTENT_TYPE, OPENMETRICS);
    fields.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// What a request is for.
pub(super) fn route(uri: &Uri) -> Route {
    let waits = || uri.query().is_some_and(|query| query.split('&').any(is_wait));
    match uri.path() {
        path if path.starts_with(KEY_PATH) => {
            if waits() {
                Route::Watch
            } else {
                Route::Kv
            }
        }
        "/konsen" | "/api/kv" => Route::Kv,
        "/v1/kv" | "/api/keys" => Route::KvList,
        "/v1/txn" => Route::Txn,
        "/v1/status" | "/api/status" => Route::Status,
        "/v1/snapshot" => Route::Snapshot,
        "/healthz" | "/readyz" | "/health" | "/ready" => Route::Health,
        "/metrics" => Route::Metrics,
        path if path == "/v1/cluster" || path.starts_with("/v1/cluster/") => Route::Cluster,
        path if path.starts_with("/v1/auth/") => Route::Auth,
        _ => Route::Other,
    }
}

/// Whether a parameter asks to wait for a change.
pub(super) fn is_wait(parameter: &str) -> bool {
    parameter.starts_with("wait=")
}

/// Counts an answer, and why it is a refusal if it is one.
pub(super) fn count(counts: &Counts, route: Route, response: &Response, took: Duration) {
    let refusal = response.extensions().get::<OfKonsen>().and_then(|problem| problem.refusal);
    counts.answered(route, response.status().as_u16(), refusal, took);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_belongs_to_a_class() {
        for (uri, name) in [
            ("/v1/kv/a", "kv"),
            ("/v1/kv/a?consistency=stale", "kv"),
            ("/v1/kv/a?consistency=stale&wait=3s", "watch"),
            ("/v1/kv?prefix=wait=", "kv_list"),
            ("/v1/txn", "txn"),
            ("/v1/status", "status"),
            ("/v1/cluster", "cluster"),
            ("/v1/cluster/members/a", "cluster"),
            ("/v1/snapshot", "snapshot"),
            ("/readyz", "health"),
            ("/metrics", "metrics"),
            ("/v1/auth/users/a", "auth"),
            ("/v1/compact", "other"),
            ("/v1/clusters", "other"),
            ("/", "other"),
        ] {
            assert_eq!(route(&uri.parse().unwrap()).name(), name, "{uri}");
        }
    }
}
