//! What is recorded of each request: taken note of before it is carried out, and written down once it is answered.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use axum::http::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use axum::http::{Method, Request, StatusCode, Uri};
use axum::response::Response;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::budget::Guest;
use super::compat::lenient;
use super::cursor::Cursor;
use super::error::{Kind, OfKonsen, Problem};
use super::list::{LIST_PARAMETERS, range};
use super::metrics::is_wait;
use super::query::{Query, decode};
use super::trail::{Trail, of_range};
use super::{KEY_PATH, headers};
use crate::api::Caller;
use crate::audit::{
    Action, Audit, Class, Head, Outcome, Record, Room, TARGET_BYTES_MAX, Target, Targets, Who,
};
use crate::kv::KeyRange;

/// How much of a key, or of the ends of a range, is recorded where nobody knows who asks, in bytes.
const STRANGERS_BYTES_MAX: usize = 32;
/// How long the answer of an administrative request waits until its record is durable. What it asked for is done by then; a
/// disk that takes longer is told by metrics and warnings.
const DURABLE_TIME_MAX: Duration = Duration::from_secs(5);

const MEMBERS_PATH: &str = "/v1/cluster/members/";
const AUTH_PATH: &str = "/v1/auth/";

/// What a request does; none: it is not recorded.
fn action(method: &Method, uri: &Uri) -> Option<Action> {
    let path = uri.path();
    let reads = matches!(*method, Method::GET | Method::HEAD);
    if path.starts_with(KEY_PATH) {
        return Some(match *method {
            Method::PUT => Action::Put,
            Method::DELETE => Action::Delete,
            _ if uri.query().is_some_and(|query| query.split('&').any(is_wait)) => Action::Watch,
            _ => Action::Get,
        });
    }
    if let Some(rest) = path.strip_prefix(MEMBERS_PATH) {
        return Some(match rest.rsplit_once('/') {
            None if rest == "undo" => Action::MemberUndo,
            None => Action::MemberRemove,
            Some((_, "promote")) => Action::MemberPromote,
            Some((_, "replace")) => Action::MemberReplace,
            Some((_, "renew")) => Action::MemberRenew,
            Some(_) => Action::Unknown,
        });
    }
    Some(match path {
        "/healthz" | "/readyz" | "/health" | "/ready" | "/metrics" => return None,
        "/v1/kv" if *method == Method::DELETE => Action::DeleteRange,
        "/v1/kv" | "/api/keys" => Action::Range,
        "/v1/txn" => Action::Txn,
        "/konsen" | "/api/kv" if reads => Action::Get,
        "/konsen" | "/api/kv" => Action::Put,
        "/v1/compact" => Action::Compact,
        "/v1/snapshot" => Action::Backup,
        "/v1/cluster/leader" => Action::Leader,
        "/v1/cluster/members" if !reads => Action::MemberAdd,
        "/v1/status" | "/api/status" | "/v1/cluster" | "/v1/cluster/members" => Action::Status,
        "/v1/audit/anchors" => Action::AuditRead,
        "/v1/auth/whoami" | "/v1/auth/can" => Action::AuthRead,
        _ if path.starts_with(AUTH_PATH) && reads => Action::AuthRead,
        _ if path.starts_with(AUTH_PATH) => Action::AuthChange,
        _ => Action::Unknown,
    })
}

/// The method, of those that there are.
fn name_of(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::PUT => "PUT",
        Method::POST => "POST",
        Method::DELETE => "DELETE",
        _ => "OTHER",
    }
}

/// Whether what it is about stands in its body: whoever reads that notes it.
fn tells_in_body(action: Action, path: &str) -> bool {
    match action {
        Action::Put => !path.starts_with(KEY_PATH),
        Action::Txn | Action::Compact | Action::Leader | Action::MemberAdd => true,
        _ => false,
    }
}

/// A request that is to be recorded once it is answered; or once it is dropped, since its client has left before.
#[derive(Debug)]
pub(super) struct Audited {
    audit: Arc<Audit>,
    action: Action,
    method: &'static str,
    uri: Uri,
    guest: Guest,
    trail: Option<Trail>,
    who: OnceLock<Who>,
    /// None where it is recorded only if it is not allowed, and once it is recorded.
    room: Option<Room>,
    done: bool,
}

impl Audited {
    /// Takes note of a request before anything is done; none if it is not recorded.
    ///
    /// # Errors
    /// It cannot be recorded, so it must not be carried out.
    pub(super) fn begin<B>(
        audit: Option<&Arc<Audit>>,
        request: &mut Request<B>,
    ) -> Result<Option<Audited>, Problem> {
        let Some(audit) = audit else { return Ok(None) };
        let Some(action) = action(request.method(), request.uri()) else { return Ok(None) };
        let class = action.class();
        let in_body = tells_in_body(action, request.uri().path());
        let room = match audit.records(class) {
            true => {
                let body_bytes = if in_body { TARGET_BYTES_MAX } else { 0 };
                let target = request.uri().path_and_query().map_or(0, |it| it.as_str().len());
                let key_bytes = target + body_bytes;
                let taken = audit.take_room(class, key_bytes);
                let refused = |why| Problem::new(Kind::NotRecorded, format!("{why}"));
                match taken.map_err(refused)? {
                    Some(room) => Some(room),
                    None => return Ok(None),
                }
            }
            false => None,
        };
        let trail = (in_body && room.is_some()).then(Trail::default);
        if let Some(trail) = &trail {
            request.extensions_mut().insert(trail.clone());
        }
        Ok(Some(Audited {
            audit: Arc::clone(audit),
            action,
            method: name_of(request.method()),
            uri: request.uri().clone(),
            guest: Guest::of(request.extensions()),
            trail,
            who: OnceLock::new(),
            room,
            done: false,
        }))
    }

    /// Whose it was found to be, if that could be told; `headers` are those of the request.
    pub(super) fn is_of(&self, caller: Option<&Caller>, headers: &HeaderMap) {
        // It is found out once.
        let _ = self.who.set(who(caller, headers.get(AUTHORIZATION)));
    }

    /// Records what came of it. What changes the cluster is to be durable before it is answered.
    pub(super) fn end(mut self, response: &Response, passed_on: bool) -> Option<Durable> {
        self.done = true;
        let denied = matches!(response.status(), StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
        let room = match self.room.take() {
            Some(room) => room,
            // Reads that are not recorded are, where somebody tried what is not allowed.
            None if denied => match self.audit.take_room(Class::Status, self.uri.path().len()) {
                Ok(Some(room)) => room,
                _ => return None,
            },
            None => return None,
        };
        let record = self.record(outcome(response), passed_on);
        // What was refused has changed nothing.
        if self.action.class() == Class::Administration && !response.status().is_client_error() {
            return Some(Durable { action: self.action, wait: room.record_durably(record) });
        }
        room.record(record);
        None
    }

    fn record(&self, outcome: Outcome, passed_on: bool) -> Record {
        Record {
            time: SystemTime::now(),
            action: self.action,
            method: self.method,
            who: self.who.get().cloned().unwrap_or(Who::Anonymous),
            from: self.guest.address(),
            via: None,
            targets: self.targets(),
            outcome,
            passed_on,
        }
    }

    /// What it is about: what its body says, else what its target does.
    fn targets(&self) -> Targets {
        if let Some(trail) = &self.trail {
            let noted = trail.take();
            if !noted.first().is_empty() || noted.more() > 0 {
                return noted;
            }
        }
        let target = of_uri(self.action, &self.uri);
        match self.who.get() {
            // Nobody is to fill the files, and push out what others did, by what nobody may ask.
            Some(Who::Unknown { .. }) => {
                target.map(|target| Targets::one(target.shortened(STRANGERS_BYTES_MAX)))
            }
            _ => target.map(Targets::one),
        }
        .unwrap_or_default()
    }
}

/// A record on its way to the disk.
#[derive(Debug)]
pub(super) struct Durable {
    action: Action,
    wait: oneshot::Receiver<Head>,
}

impl Durable {
    /// Waits until it is there, or for as long as an answer may wait.
    pub(super) async fn wait(self) {
        if timeout(DURABLE_TIME_MAX, self.wait).await.is_err() {
            let kind = self.action.name();
            tracing::warn!(kind, "a request is answered whose record is not durable yet");
        }
    }
}

impl Drop for Audited {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        // Nobody knows what came of it, or that it came to nothing.
        if let Some(room) = self.room.take() {
            room.record(self.record(Outcome::default(), false));
        }
    }
}

/// What the target of a request names.
fn of_uri(action: Action, uri: &Uri) -> Option<Target> {
    let (path, query) = (uri.path(), uri.query());
    let name = |raw: &str| {
        let name = decode(raw.as_bytes(), false).ok()?;
        Some(Target::Name(String::from_utf8_lossy(&name).into_owned()))
    };
    match action {
        Action::Get | Action::Watch | Action::Put | Action::Delete => {
            let key = match path.strip_prefix(KEY_PATH) {
                Some(raw) => decode(raw.as_bytes(), false).ok(),
                None => lenient(query, "key"),
            };
            key.map(Target::Key)
        }
        Action::Range if path == "/api/keys" => {
            let prefix = lenient(query, "prefix").unwrap_or_default();
            Some(of_range(KeyRange::prefix(&prefix)))
        }
        Action::Range | Action::DeleteRange => listed(query).map(of_range),
        Action::MemberRemove
        | Action::MemberPromote
        | Action::MemberReplace
        | Action::MemberRenew => {
            let rest = path.strip_prefix(MEMBERS_PATH)?;
            name(rest.split('/').next()?)
        }
        Action::AuthChange | Action::AuthRead => name(path.strip_prefix(AUTH_PATH)?),
        _ => None,
    }
}

/// The range that a listing or a deletion names, if its parameters are right.
fn listed(query: Option<&str>) -> Option<KeyRange> {
    let known: Vec<&'static str> = LIST_PARAMETERS.iter().copied().chain(["atomic"]).collect();
    let query = Query::parse(query, &known).ok()?;
    match query.bytes("cursor") {
        Some(cursor) => Some(Cursor::decode(cursor).ok()?.range),
        None => Some(range(&query)),
    }
}

/// Who somebody is, and how that is known. What an attempt in vain showed is nobody's business.
fn who(caller: Option<&Caller>, shown: Option<&HeaderValue>) -> Who {
    let is_basic = |value: &HeaderValue| {
        value.as_bytes().get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"basic"))
    };
    match (caller, shown) {
        (Some(Caller::Anybody), _) => Who::Anonymous,
        (Some(Caller::Node { name, .. }), _) => {
            Who::Known { name: name.as_str().into(), how: "node" }
        }
        (Some(Caller::User { name, .. }), shown) => {
            let how = match shown {
                None => "certificate",
                Some(value) if is_basic(value) => "basic",
                Some(_) => "token",
            };
            Who::Known { name: name.as_str().into(), how }
        }
        (None, None) => Who::Unknown { why: "nothing-shown" },
        (None, Some(value)) if is_basic(value) => Who::Unknown { why: "basic" },
        (None, Some(_)) => Who::Unknown { why: "token" },
    }
}

fn outcome(response: &Response) -> Outcome {
    let problem = response.extensions().get::<OfKonsen>();
    let revision = response.headers().get(&headers::REVISION).map(HeaderValue::to_str);
    Outcome {
        status: Some(response.status().as_u16()),
        problem: problem.map(|problem| problem.kind.name()),
        revision: revision.and_then(|text| text.ok()?.parse().ok()),
        fate: None,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn told(line: &str) -> (&'static str, Option<Target>) {
        let (method, target) = line.split_once(' ').unwrap();
        let (method, uri) = (method.parse().unwrap(), target.parse().unwrap());
        match action(&method, &uri) {
            Some(action) => (action.name(), of_uri(action, &uri)),
            None => ("", None),
        }
    }

    fn key(bytes: &'static [u8]) -> Option<Target> {
        Some(Target::Key(Bytes::from_static(bytes)))
    }

    fn between(start: &'static str, end: Option<&'static str>) -> Option<Target> {
        Some(Target::Range { start: start.into(), end: end.map(Bytes::from) })
    }

    #[test]
    fn every_request_has_a_kind_and_what_it_names() {
        let name = |name: &str| Some(Target::Name(name.to_owned()));
        for (line, kind, of) in [
            ("GET /v1/kv/a%2Fb%FF", "get", key(b"a/b\xff")),
            ("HEAD /v1/kv/a", "get", key(b"a")),
            ("GET /v1/kv/a?wait=3s", "watch", key(b"a")),
            ("PUT /v1/kv/a", "put", key(b"a")),
            ("DELETE /v1/kv/a", "delete", key(b"a")),
            ("PATCH /v1/kv/a", "get", key(b"a")),
            ("GET /v1/kv/%zz", "get", None),
            ("GET /v1/kv?prefix=app/&limit=3", "range", between("app/", Some("app0"))),
            ("GET /v1/kv", "range", between("", None)),
            ("GET /v1/kv?token=secret", "range", None),
            ("DELETE /v1/kv?start=a&end=b&atomic=false", "delete-range", between("a", Some("b"))),
            ("GET /konsen?key=a", "get", key(b"a")),
            ("POST /konsen", "put", None),
            ("GET /api/kv?key=a", "get", key(b"a")),
            ("GET /api/keys?prefix=a", "range", between("a", Some("b"))),
            ("POST /v1/txn", "txn", None),
            ("POST /v1/compact", "compact", None),
            ("GET /v1/snapshot", "backup", None),
            ("POST /v1/cluster/leader", "leader", None),
            ("GET /v1/cluster/members", "status", None),
            ("POST /v1/cluster/members", "member-add", None),
            ("POST /v1/cluster/members/undo", "member-undo", None),
            ("DELETE /v1/cluster/members/node%31", "member-remove", name("node1")),
            ("POST /v1/cluster/members/node1/promote", "member-promote", name("node1")),
            ("POST /v1/cluster/members/node1/replace", "member-replace", name("node1")),
            ("POST /v1/cluster/members/node1/renew", "member-renew", name("node1")),
            ("PUT /v1/auth/revoked/4a0b", "auth-change", name("revoked/4a0b")),
            ("PUT /v1/auth/users/alice", "auth-change", name("users/alice")),
            ("GET /v1/auth/users/alice", "auth-read", name("users/alice")),
            ("GET /v1/audit/anchors", "audit-read", None),
            ("GET /v1/status", "status", None),
            ("GET /elsewhere?token=secret", "unknown", None),
            ("GET /healthz", "", None),
            ("GET /metrics", "", None),
        ] {
            assert_eq!(told(line), (kind, of), "{line}");
        }
    }
}
