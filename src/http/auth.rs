//! `/v1/auth`: who may do what.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::Response;
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::{Kind, Problem};
use super::identity::caller_of;
use super::list::json_response;
use super::query::Query;
use super::{Api, body, headers, json, key};
use crate::api::{
    self, AllowedJson, Caller, CanJson, Consistency, Freshness, NewTokenJson, RoleJson, SeeAccess,
    SeeStatus, TokenJson, UserJson, WhoamiJson,
};
use crate::kv::{Access, AccessChange, Name, Outcome, Revision, Token, Write};

/// The largest body, in bytes: a role of a thousand rights.
const BODY_BYTES_MAX: usize = 128 << 10;
/// The longest life of a token that has an end.
const TTL_MAX: Duration = Duration::from_secs(10 * 366 * 24 * 3600);

/// Who may do what, for somebody who may see it: as of now or later.
pub(super) async fn see(api: &Api, request: Request) -> Result<(Arc<Access>, Revision), Problem> {
    let parts = request.into_parts().0;
    Query::parse(parts.uri.query(), &[])?;
    let caller = caller_of(&parts.extensions);
    api.handle.admit(&caller, SeeAccess).await?;
    let freshness = Freshness { consistency: Consistency::Linearizable, ..Freshness::default() };
    api.handle.reach(freshness, headers::deadline(&parts.headers)?).await?;
    let allowed = api.handle.admit(&caller, SeeAccess).await?;
    Ok((api.handle.access(&allowed), api.handle.revision()))
}

pub(super) fn answer<T: Serialize>(revision: Revision, value: &T) -> Response {
    // Serializing plain data into memory cannot fail.
    json_response(revision, serde_json::to_vec(value).unwrap_or_default())
}

fn name_of(text: &str) -> Result<Name, Problem> {
    text.parse().map_err(|error| {
        Problem::new(Kind::InvalidParameter, format!("{text:?} cannot be a name: {error}"))
    })
}

fn no_such(what: &str, name: &Name) -> Problem {
    Problem::new(Kind::NoSuchName, format!("there is no {what} {:?}", name.as_str()))
}

/// `GET /v1/auth/users`.
pub(super) async fn users(
    State(api): State<Arc<Api>>,
    request: Request,
) -> Result<Response, Problem> {
    let (access, revision) = see(&api, request).await?;
    let users: Vec<_> =
        access.users().iter().map(|(name, user)| UserJson::of(name, user)).collect();
    Ok(answer(revision, &users))
}

/// `GET /v1/auth/users/{name}`.
pub(super) async fn user(
    State(api): State<Arc<Api>>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    let (access, revision) = see(&api, request).await?;
    let name = name_of(&name)?;
    let user = access.users().get(&name).ok_or_else(|| no_such("user", &name))?;
    Ok(answer(revision, &UserJson::of(&name, user)))
}

/// `GET /v1/auth/roles`.
pub(super) async fn roles(
    State(api): State<Arc<Api>>,
    request: Request,
) -> Result<Response, Problem> {
    let (access, revision) = see(&api, request).await?;
    let roles: Vec<_> =
        access.roles().iter().map(|(name, role)| RoleJson::of(name, role)).collect();
    Ok(answer(revision, &roles))
}

/// `GET /v1/auth/roles/{name}`.
pub(super) async fn role(
    State(api): State<Arc<Api>>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    let (access, revision) = see(&api, request).await?;
    let name = name_of(&name)?;
    let role = access.roles().get(&name).ok_or_else(|| no_such("role", &name))?;
    Ok(answer(revision, &RoleJson::of(&name, role)))
}

/// `GET /v1/auth/tokens`.
pub(super) async fn tokens(
    State(api): State<Arc<Api>>,
    request: Request,
) -> Result<Response, Problem> {
    let (access, revision) = see(&api, request).await?;
    let tokens: Vec<_> =
        access.tokens().iter().map(|(name, token)| TokenJson::of(name, token)).collect();
    Ok(answer(revision, &tokens))
}

/// `GET /v1/auth/tokens/{name}`.
pub(super) async fn token(
    State(api): State<Arc<Api>>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    let (access, revision) = see(&api, request).await?;
    let name = name_of(&name)?;
    let token = access.tokens().get(&name).ok_or_else(|| no_such("token", &name))?;
    Ok(answer(revision, &TokenJson::of(&name, token)))
}

/// The body of a request that changes something, if there is one, and what came before it.
pub(super) async fn read<T: DeserializeOwned>(
    api: &Api,
    request: Request,
    like: &str,
) -> Result<(Parts, T), Problem> {
    Query::parse(request.uri().query(), &[])?;
    let (parts, body) = request.into_parts();
    headers::refuse_idempotency_key(&parts.headers)?;
    headers::refuse_conditions(&parts.headers, "who may do what has no conditions")?;
    let held = body::read(&parts, body, BODY_BYTES_MAX, &api.bodies).await?;
    let wanted = json::object(&held.bytes).map_err(|error| malformed(like, &error))?;
    Ok((parts, wanted))
}

pub(super) fn malformed(like: &str, why: &str) -> Problem {
    Problem::new(Kind::Malformed, format!("the body is not like {like}: {why}"))
}

/// Makes a change; whether what it names was there before.
pub(super) async fn change(
    api: &Api,
    parts: &Parts,
    change: AccessChange,
) -> Result<(bool, Revision), Problem> {
    let deadline: Instant = headers::deadline(&parts.headers)?;
    let write = api.handle.admit(&caller_of(&parts.extensions), Write::Access(change)).await?;
    let reply = api.handle.write(write, deadline).await?;
    match reply.outcome {
        Outcome::AccessChanged { found, .. } => Ok((found, reply.revision)),
        Outcome::AccessRefused(refused) => {
            Err(Problem::new(Kind::AccessConflict, refused.to_string()).at(reply.revision))
        }
        other => Err(key::unexpected(other, reply.revision)),
    }
}

pub(super) fn done(found: bool, revision: Revision) -> Response {
    let mut response = json_response(revision, Bytes::new());
    response.headers_mut().remove(axum::http::header::CONTENT_TYPE);
    *response.status_mut() = if found { StatusCode::NO_CONTENT } else { StatusCode::CREATED };
    response
}

/// `PUT /v1/auth/users/{name}`: 201 if there was none of the name, else 204.
pub(super) async fn put_user(
    State(api): State<Arc<Api>>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    const LIKE: &str = r#"{"roles":["reader"]}"#;
    let (parts, wanted): (_, UserJson) = read(&api, request, LIKE).await?;
    let roles = wanted.roles().map_err(|why| malformed(LIKE, &why))?;
    let name = same_name(&name, wanted.name.as_deref())?;
    let (found, revision) = change(&api, &parts, AccessChange::PutUser { name, roles }).await?;
    Ok(done(found, revision))
}

/// `PUT /v1/auth/roles/{name}`: 201 if there was none of the name, else 204.
pub(super) async fn put_role(
    State(api): State<Arc<Api>>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    const LIKE: &str =
        r#"{"rights":[{"prefix":"app/","may":["read","write","watch"]}],"admin":["members"]}"#;
    let (parts, wanted): (_, RoleJson) = read(&api, request, LIKE).await?;
    let role = wanted.role().map_err(|why| malformed(LIKE, &why))?;
    let name = same_name(&name, wanted.name.as_deref())?;
    let (found, revision) = change(&api, &parts, AccessChange::PutRole { name, role }).await?;
    Ok(done(found, revision))
}

/// What an answer told may be sent back as it was, under its name.
fn same_name(path: &str, body: Option<&str>) -> Result<Name, Problem> {
    match body {
        Some(name) if name != path => Err(Problem::new(
            Kind::Malformed,
            format!("the path names {path:?} and the body {name:?}"),
        )),
        _ => name_of(path),
    }
}

/// `PUT /v1/auth/tokens/{name}`: 201, with the token, which nobody is ever told again; one of the name before it opens
/// nothing any more.
pub(super) async fn put_token(
    State(api): State<Arc<Api>>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    const LIKE: &str = r#"{"user":"alice","ttl":"30d"}"#;
    let (parts, wanted): (_, NewTokenJson) = read(&api, request, LIKE).await?;
    let wrong = |why: String| malformed(LIKE, &why);
    let (name, user) = (name_of(&name)?, wanted.user().map_err(wrong)?);
    let ttl = wanted.ttl.as_deref().map(ttl_of).transpose().map_err(wrong)?;
    first_is_an_administrators(&api, &parts, &user).await?;
    let made = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let (hash, secret) = match wanted.hash().map_err(wrong)? {
        Some(hash) => (hash, None),
        None => {
            let secret = api::new_token().ok_or_else(|| {
                Problem::new(Kind::Internal, "the system gives no random bytes; nothing was made")
            })?;
            (api::token_hash(secret.as_bytes()), Some(secret))
        }
    };
    let token =
        Token { user, hash, made: made.as_secs(), expires: ttl.map(|ttl| (made + ttl).as_secs()) };
    let told = TokenJson { token: secret, ..TokenJson::of(&name, &token) };
    let (_, revision) = change(&api, &parts, AccessChange::PutToken { name, token }).await?;
    let mut response = answer(revision, &told);
    *response.status_mut() = StatusCode::CREATED;
    let no_store = axum::http::HeaderValue::from_static("no-store");
    response.headers_mut().insert(axum::http::header::CACHE_CONTROL, no_store);
    Ok(response)
}

/// The first token turns access control on: if nobody could administer then, nobody could ever.
async fn first_is_an_administrators(api: &Api, parts: &Parts, user: &Name) -> Result<(), Problem> {
    if api.handle.controls_access() {
        return Ok(());
    }
    let access =
        api.handle.access(&api.handle.admit(&caller_of(&parts.extensions), SeeAccess).await?);
    match access.refuses(user, &SeeAccess) {
        None => Ok(()),
        Some(_) => Err(Problem::new(
            Kind::AccessConflict,
            "the first token turns access control on, so it has to be one of an administrator: make one for the user \
             \"admin\" first, and keep it",
        )),
    }
}

fn ttl_of(text: &str) -> Result<Duration, String> {
    let ttl = humantime::parse_duration(text)
        .map_err(|_| format!("ttl: {text:?} is no time; write it as 30d or 12h"))?;
    match ttl {
        Duration::ZERO => Err("ttl: it has to be longer than nothing".to_owned()),
        ttl if ttl > TTL_MAX => Err("ttl: it may be ten years; leave it out for no end".to_owned()),
        ttl => Ok(ttl),
    }
}

/// What comes with a request that says all it wants by its path.
pub(super) fn without_body(request: Request) -> Result<Parts, Problem> {
    Query::parse(request.uri().query(), &[])?;
    let (parts, _) = request.into_parts();
    headers::refuse_idempotency_key(&parts.headers)?;
    headers::refuse_conditions(&parts.headers, "who may do what has no conditions")?;
    Ok(parts)
}

async fn delete(
    api: &Api,
    request: Request,
    what: &str,
    name: &str,
    of: impl FnOnce(Name) -> AccessChange,
) -> Result<Response, Problem> {
    let parts = without_body(request)?;
    let name = name_of(name)?;
    let (found, revision) = change(api, &parts, of(name.clone())).await?;
    match found {
        true => Ok(done(true, revision)),
        false => Err(no_such(what, &name)),
    }
}

/// `DELETE /v1/auth/users/{name}`: 204, and all tokens of the user are gone.
pub(super) async fn delete_user(
    State(api): State<Arc<Api>>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    delete(&api, request, "user", &name, |name| AccessChange::DeleteUser { name }).await
}

/// `DELETE /v1/auth/roles/{name}`: 204, and nobody has it any more.
pub(super) async fn delete_role(
    State(api): State<Arc<Api>>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    delete(&api, request, "role", &name, |name| AccessChange::DeleteRole { name }).await
}

/// `DELETE /v1/auth/tokens/{name}`: 204.
pub(super) async fn delete_token(
    State(api): State<Arc<Api>>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    delete(&api, request, "token", &name, |name| AccessChange::DeleteToken { name }).await
}

/// `GET /v1/auth/whoami`.
pub(super) async fn whoami(
    State(api): State<Arc<Api>>,
    request: Request,
) -> Result<Response, Problem> {
    Query::parse(request.uri().query(), &[])?;
    let caller = caller_of(request.extensions());
    let known = api.handle.admit(&caller, SeeStatus).await?;
    let (kind, name) = match &caller {
        Caller::Anybody => ("anybody", None),
        Caller::User { name, .. } => ("user", Some(name.to_string())),
        Caller::Node { name, .. } => ("node", Some(name.clone())),
    };
    let whoami = WhoamiJson {
        access_control: api.handle.controls_access(),
        kind: kind.to_owned(),
        name,
        roles: api.handle.own_roles(&known).iter().map(Name::to_string).collect(),
    };
    Ok(answer(api.handle.revision(), &whoami))
}

/// `POST /v1/auth/can`: whether whoever asks may do something; of somebody else for those who may see that.
pub(super) async fn can(
    State(api): State<Arc<Api>>,
    request: Request,
) -> Result<Response, Problem> {
    const LIKE: &str = r#"{"may":"read","prefix":"app/"} or {"admin":"members"}"#;
    let (parts, wanted): (_, CanJson) = read(&api, request, LIKE).await?;
    let (user, question) = wanted.question().map_err(|why| malformed(LIKE, &why))?;
    let caller = caller_of(&parts.extensions);
    api.handle.admit(&caller, SeeStatus).await?;
    let allowed = match user {
        Some(user) if caller.user() != Some(&user) => {
            let access = api.handle.access(&api.handle.admit(&caller, SeeAccess).await?);
            access.refuses(&user, &question).is_none()
        }
        _ => api.handle.admit(&caller, question).await.is_ok(),
    };
    Ok(answer(api.handle.revision(), &AllowedJson { allowed }))
}
