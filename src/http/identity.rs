//! Who asks: by what the request carries, else by what its connection showed.

use axum::http::header::AUTHORIZATION;
use axum::http::{Extensions, HeaderMap, Request};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::error::{Kind, Problem};
use crate::api::{Caller, Error, Proof, token_hash};
use crate::kv::{Name, TokenHash};
use crate::server::Handle;

/// What is asked by health checks and scrapers, which are nobody.
const OPEN: &[&str] = &["/healthz", "/readyz", "/metrics", "/health", "/ready"];

/// Whom the client's certificate of a connection stands for.
#[derive(Clone, Debug)]
pub(super) struct Certified(pub(super) Caller);

/// What is looked at of a request. Its body may be one that no other thread may see.
pub(super) struct Head<'a> {
    path: &'a str,
    fields: &'a HeaderMap,
    extensions: &'a Extensions,
}

impl<'a> Head<'a> {
    pub(super) fn of<B>(request: &'a Request<B>) -> Head<'a> {
        let (fields, extensions) = (request.headers(), request.extensions());
        Head { path: request.uri().path(), fields, extensions }
    }
}

/// Whoever a request was found to be of: as whoever may nothing where that was not looked for.
pub(super) fn caller_of(extensions: &Extensions) -> Caller {
    extensions.get::<Caller>().cloned().unwrap_or(Caller::Anybody)
}

/// Finds out who asks.
///
/// # Errors
/// A problem of the kind [`Kind::Unauthenticated`], where access is controlled and that cannot be told.
pub(super) async fn authenticate(handle: &Handle, head: Head<'_>) -> Result<Caller, Problem> {
    if !handle.controls_access() || OPEN.contains(&head.path) {
        return Ok(Caller::Anybody);
    }
    match credentials(head.fields)? {
        Some(shown) => {
            let holder = handle.holder(&shown.hash).await;
            let fits = |holder: &Name| {
                shown.user.as_ref().is_none_or(|user| holder.as_str().as_bytes() == &user[..])
            };
            let caller = |name| Caller::User { name, by: Proof::Token(shown.hash) };
            holder.filter(fits).map(caller).ok_or_else(|| unauthenticated(
                "the token opens nothing: it is not one of this cluster, it has expired, or it was deleted",
            ))
        }
        None => match head.extensions.get::<Certified>() {
            // Its connection is about to end.
            Some(Certified(caller))
                if caller.certificate().is_some_and(|it| handle.is_revoked(it)) =>
            {
                Err(unauthenticated("the certificate of this connection was revoked"))
            }
            Some(Certified(caller)) => Ok(caller.clone()),
            None => Err(Error::Unauthenticated.into()),
        },
    }
}

/// What a request shows in a header.
struct Shown {
    hash: TokenHash,
    /// Whose the token is said to be.
    user: Option<Vec<u8>>,
}

fn credentials(fields: &HeaderMap) -> Result<Option<Shown>, Problem> {
    let mut values = fields.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        let detail = "there is more than one Authorization header";
        return Err(Problem::new(Kind::InvalidHeader, detail));
    }
    let value = value.as_bytes();
    let space = value.iter().position(|byte| *byte == b' ').unwrap_or(value.len());
    let (scheme, rest) = value.split_at(space);
    let rest = rest.trim_ascii();
    if scheme.eq_ignore_ascii_case(b"bearer") {
        return Ok(Some(Shown { hash: token_hash(rest), user: None }));
    }
    let basic = || {
        let plain = STANDARD.decode(rest).ok()?;
        let colon = plain.iter().position(|byte| *byte == b':')?;
        Some(Shown { hash: token_hash(&plain[colon + 1..]), user: Some(plain[..colon].to_vec()) })
    };
    match scheme.eq_ignore_ascii_case(b"basic").then(basic).flatten() {
        Some(shown) => Ok(Some(shown)),
        // What it holds may be a secret, also where it is misspelt.
        None => Err(unauthenticated(
            "Authorization is neither \"Bearer TOKEN\" nor \"Basic\" with NAME:TOKEN in base64",
        )),
    }
}

fn unauthenticated(detail: &'static str) -> Problem {
    Problem::new(Kind::Unauthenticated, detail)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn of(value: &str) -> Result<Option<Shown>, Problem> {
        let mut fields = HeaderMap::new();
        fields.insert(AUTHORIZATION, HeaderValue::from_str(value).unwrap());
        credentials(&fields)
    }

    #[test]
    fn a_token_comes_as_bearer_or_as_basic() {
        let hash = token_hash(b"secret");
        for value in ["Bearer secret", "bearer  secret ", "BEARER secret"] {
            let shown = of(value).unwrap().unwrap();
            assert!(shown.hash == hash && shown.user.is_none(), "{value}");
        }
        let basic = format!("Basic {}", STANDARD.encode("alice:secret"));
        let shown = of(&basic).unwrap().unwrap();
        assert!(shown.hash == hash && shown.user.as_deref() == Some(b"alice"));
        assert!(credentials(&HeaderMap::new()).unwrap().is_none());
    }

    #[test]
    fn what_cannot_be_read_is_not_repeated() {
        for value in ["Basic s3cret", "Digest s3cret", "s3cret", "Basic", ""] {
            let problem = of(value).err().unwrap();
            assert_eq!(problem.kind(), Kind::Unauthenticated, "{value}");
            assert!(!String::from_utf8(problem.json().to_vec()).unwrap().contains("s3cret"));
        }
        let mut twice = HeaderMap::new();
        twice.append(AUTHORIZATION, HeaderValue::from_static("Bearer a"));
        twice.append(AUTHORIZATION, HeaderValue::from_static("Bearer b"));
        assert_eq!(credentials(&twice).err().unwrap().kind(), Kind::InvalidHeader);
    }
}
