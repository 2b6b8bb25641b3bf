//! `/v1/auth/revoked`: certificates that open nothing any more, by their serial numbers.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::extract::{Path, Request, State};
use axum::response::Response;

use super::Api;
use super::auth::{answer, change, done, malformed, read, see, without_body};
use super::error::{Kind, Problem};
use super::identity::caller_of;
use crate::api::{RevokedJson, SeeAccess};
use crate::kv::{AccessChange, Serial};

fn serial_of(text: &str) -> Result<Serial, Problem> {
    text.parse().map_err(|error| {
        Problem::new(Kind::InvalidParameter, format!("{text:?} is no serial number: {error}"))
    })
}

fn no_such(serial: &Serial) -> Problem {
    Problem::new(Kind::NoSuchName, format!("the certificate {serial} is not revoked"))
}

/// `GET /v1/auth/revoked`.
pub(super) async fn list(
    State(api): State<Arc<Api>>,
    request: Request,
) -> Result<Response, Problem> {
    let (access, revision) = see(&api, request).await?;
    let revoked = access.revoked().iter().map(|(serial, until)| RevokedJson::of(serial, *until));
    Ok(answer(revision, &revoked.collect::<Vec<_>>()))
}

/// `GET /v1/auth/revoked/{serial}`.
pub(super) async fn one(
    State(api): State<Arc<Api>>,
    Path(serial): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    let (access, revision) = see(&api, request).await?;
    let serial = serial_of(&serial)?;
    let until = access.revoked().get(&serial).ok_or_else(|| no_such(&serial))?;
    Ok(answer(revision, &RevokedJson::of(&serial, *until)))
}

/// `PUT /v1/auth/revoked/{serial}`: 201 if it was not revoked, else 204.
pub(super) async fn put(
    State(api): State<Arc<Api>>,
    Path(serial): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    const LIKE: &str = r#"{"until":"2027-01-31T00:00:00Z"}, or {}"#;
    let (parts, wanted): (_, RevokedJson) = read(&api, request, LIKE).await?;
    let until = wanted.until().map_err(|why| malformed(LIKE, &why))?;
    let serial = serial_of(&serial)?;
    let caller = caller_of(&parts.extensions);
    let allowed = api.handle.admit(&caller, SeeAccess).await?;
    api.handle
        .spares_quorum(&allowed, &serial)
        .map_err(|why| Problem::new(Kind::AccessConflict, why))?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let until = until.unwrap_or_else(|| api.handle.certificates_end(now));
    let (found, revision) =
        change(&api, &parts, AccessChange::Revoke { serial, until, now }).await?;
    Ok(done(found, revision))
}

/// `DELETE /v1/auth/revoked/{serial}`: 204, and it opens again what it did.
pub(super) async fn delete(
    State(api): State<Arc<Api>>,
    Path(serial): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    let parts = without_body(request)?;
    let serial = serial_of(&serial)?;
    let undone = change(&api, &parts, AccessChange::Restore { serial });
    match undone.await? {
        (true, revision) => Ok(done(true, revision)),
        (false, _) => Err(no_such(&serial)),
    }
}
