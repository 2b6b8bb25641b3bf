//! `/v1/cluster/members`: who belongs to the cluster.

use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, de::DeserializeOwned};

use super::error::{Kind, Problem};
use super::identity::caller_of;
use super::list::json_response;
use super::query::Query;
use super::trail::Trail;
use super::{Api, body, headers, json};
use crate::api::{
    AddJson, Addresses, Error, MemberChange, Members, RenewMember, RenewedJson, ReplaceJson,
    SeeMembers,
};
use crate::audit::Target;
use crate::config::{HostPort, NodeName};

/// The largest body, in bytes.
const BODY_BYTES_MAX: usize = 4096;

/// `GET /v1/cluster/members`: the members as this node knows them.
pub(super) async fn list(
    State(api): State<Arc<Api>>,
    request: Request,
) -> Result<Response, Problem> {
    Query::parse(request.uri().query(), &[])?;
    api.handle.admit(&caller_of(request.extensions()), SeeMembers).await?;
    api.handle.knows_members()?;
    Ok(answer(&api, StatusCode::OK, &api.handle.members().ok_or(Error::NoCluster)?))
}

/// `POST /v1/cluster/members`: 201.
pub(super) async fn add(
    State(api): State<Arc<Api>>,
    request: Request,
) -> Result<Response, Problem> {
    let change = |wanted: Option<AddJson>| {
        let wanted = wanted.ok_or_else(|| malformed::<AddJson>("it is empty"))?;
        Ok(MemberChange::Add {
            name: name(&wanted.name)?,
            addresses: Addresses {
                raft: raft_address(&wanted.raft_address)?,
                http: address("http_address", &wanted.http_address)?.to_string(),
            },
            promote: !wanted.learner,
        })
    };
    carry_out(&api, request, StatusCode::CREATED, change).await
}

/// `DELETE /v1/cluster/members/{name}`.
pub(super) async fn remove(
    State(api): State<Arc<Api>>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    carry_out(&api, request, StatusCode::OK, |body| {
        no_body(body).map(|()| MemberChange::Remove { name })
    })
    .await
}

/// `POST /v1/cluster/members/{name}/promote`.
pub(super) async fn promote(
    State(api): State<Arc<Api>>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    carry_out(&api, request, StatusCode::OK, |body| {
        no_body(body).map(|()| MemberChange::Promote { name })
    })
    .await
}

/// `POST /v1/cluster/members/{name}/replace`.
pub(super) async fn replace(
    State(api): State<Arc<Api>>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    let change = |wanted: Option<ReplaceJson>| {
        let ReplaceJson { raft_address: raft, http_address: http } = wanted.unwrap_or_default();
        let addresses = match (raft, http) {
            (None, None) => None,
            (Some(raft), Some(http)) => Some(Addresses {
                raft: raft_address(&raft)?,
                http: address("http_address", &http)?.to_string(),
            }),
            _ => return Err(malformed::<ReplaceJson>("it has one of the two addresses only")),
        };
        Ok(MemberChange::Replace { name, addresses })
    };
    carry_out(&api, request, StatusCode::OK, change).await
}

/// `POST /v1/cluster/members/undo`: undoes the change that is under way.
pub(super) async fn undo(
    State(api): State<Arc<Api>>,
    request: Request,
) -> Result<Response, Problem> {
    carry_out(&api, request, StatusCode::OK, |body| no_body(body).map(|()| MemberChange::Undo))
        .await
}

/// `POST /v1/cluster/members/{name}/renew`: 200, once the member has another certificate.
pub(super) async fn renew(
    State(api): State<Arc<Api>>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    Query::parse(request.uri().query(), &[])?;
    let (parts, body) = request.into_parts();
    let deadline = headers::deadline(&parts.headers)?;
    headers::refuse_idempotency_key(&parts.headers)?;
    let held = body::read(&parts, body, BODY_BYTES_MAX, &api.bodies).await?;
    if !held.bytes.is_empty() {
        json::object::<Nothing>(&held.bytes).map_err(malformed::<Nothing>)?;
    }
    let member = RenewMember { name: Some(name.clone()) };
    let member = api.handle.admit(&caller_of(&parts.extensions), member).await?;
    let expires = api.handle.renew(member, deadline).await?;
    // Serializing plain data into memory cannot fail.
    let body = serde_json::to_vec(&RenewedJson { name, expires }).unwrap_or_default();
    Ok(json_response(api.handle.revision(), body))
}

/// An object without members: what a request without arguments may carry.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

fn no_body(_: Option<Nothing>) -> Result<(), Problem> {
    Ok(())
}

/// A body, and how it should look.
trait Wanted: DeserializeOwned {
    const LIKE: &str;
}

impl Wanted for AddJson {
    const LIKE: &str =
        r#"{"name":"node4","raft_address":"10.0.0.4:10001","http_address":"10.0.0.4:20001"}"#;
}

impl Wanted for ReplaceJson {
    const LIKE: &str =
        r#"{"raft_address":"10.0.0.4:10001","http_address":"10.0.0.4:20001"}, or empty"#;
}

impl Wanted for Nothing {
    const LIKE: &str = "{}, or empty";
}

/// Reads the request, does what is asked for, answers with the members after it. All take `?force=true`.
async fn carry_out<T: Wanted>(
    api: &Api,
    request: Request,
    status: StatusCode,
    change: impl FnOnce(Option<T>) -> Result<MemberChange, Problem>,
) -> Result<Response, Problem> {
    let force = Query::parse(request.uri().query(), &["force"])?.flag("force")?;
    let (parts, body) = request.into_parts();
    let deadline = headers::deadline(&parts.headers)?;
    headers::refuse_idempotency_key(&parts.headers)?;
    let held = body::read(&parts, body, BODY_BYTES_MAX, &api.bodies).await?;
    let wanted = match &held.bytes[..] {
        b"" => None,
        bytes => Some(json::object(bytes).map_err(malformed::<T>)?),
    };
    let (force, change) = (force.unwrap_or_default(), change(wanted)?);
    if let MemberChange::Add { name, .. } = &change {
        Trail::note(&parts.extensions, |targets| targets.add(Target::Name(name.clone())));
    }
    let change = api.handle.admit(&caller_of(&parts.extensions), change).await?;
    let members = api.handle.change(change, force, deadline).await?;
    Ok(answer(api, status, &members))
}

fn answer(api: &Api, status: StatusCode, members: &Members) -> Response {
    // Serializing plain data into memory cannot fail.
    let body = serde_json::to_vec(members).unwrap_or_default();
    let mut response = json_response(api.handle.revision(), body);
    *response.status_mut() = status;
    response
}

fn malformed<T: Wanted>(error: impl std::fmt::Display) -> Problem {
    Problem::new(Kind::Malformed, format!("the body is not like {}: {error}", T::LIKE))
}

fn name(text: &str) -> Result<String, Problem> {
    let name: NodeName =
        text.parse().map_err(|error| Problem::new(Kind::Malformed, format!("name: {error}")))?;
    Ok(name.to_string())
}

fn address(key: &str, text: &str) -> Result<HostPort, Problem> {
    let wrong = |what: String| Problem::new(Kind::Malformed, format!("{key}: {what}"));
    let address: HostPort =
        text.parse().map_err(|error: crate::config::AddressError| wrong(error.to_string()))?;
    match address.port() {
        0 => Err(wrong(format!("{address} has the port 0; give one from 1 to 65535"))),
        _ => Ok(address),
    }
}

fn raft_address(text: &str) -> Result<String, Problem> {
    let key = "raft_address";
    let address = address(key, text)?;
    if address.is_unspecified() {
        let what = format!("{key}: peers cannot dial {address}; give the host's own address");
        return Err(Problem::new(Kind::Malformed, what));
    }
    Ok(address.to_string())
}
