//! `POST /v1/cluster/leader`: hands leadership over.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;

use super::error::{Kind, Problem};
use super::identity::caller_of;
use super::list::json_response;
use super::query::Query;
use super::trail::Trail;
use super::{Api, body, headers, json};
use crate::api::{Transfer, TransferJson};
use crate::audit::Target;

/// The largest body, in bytes.
const BODY_BYTES_MAX: usize = 1024;

/// `POST /v1/cluster/leader`. Without a body it is as `{}`.
pub(super) async fn transfer(
    State(api): State<Arc<Api>>,
    request: Request,
) -> Result<Response, Problem> {
    Query::parse(request.uri().query(), &[])?;
    let (parts, body) = request.into_parts();
    let deadline = headers::deadline(&parts.headers)?;
    headers::refuse_idempotency_key(&parts.headers)?;
    let held = body::read(&parts, body, BODY_BYTES_MAX, &api.bodies).await?;
    let wanted: TransferJson = match &held.bytes[..] {
        b"" => TransferJson::default(),
        bytes => json::object(bytes).map_err(|error| {
            let detail = format!("the body is not like {{\"to\":\"node2\"}}: {error}");
            Problem::new(Kind::Malformed, detail)
        })?,
    };
    if let Some(to) = &wanted.to {
        Trail::note(&parts.extensions, |targets| targets.add(Target::Name(to.clone())));
    }
    let transfer = Transfer { to: wanted.to };
    let transfer = api.handle.admit(&caller_of(&parts.extensions), transfer).await?;
    let done = api.handle.transfer_leadership(&transfer, deadline).await?;
    // Serializing plain data into memory cannot fail.
    let body = serde_json::to_vec(&done).unwrap_or_default();
    Ok(json_response(api.handle.revision(), body))
}
