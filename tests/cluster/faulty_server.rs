//! A server that speaks as konsen does, keeps everything in memory, and now and then does something wrong.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, Method, Response};
use parking_lot::Mutex;
use percent_encoding::percent_decode_str;
use serde_json::json;

/// What it does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Not at all.
    None,
    /// Reads find the state of some changes ago, and say so.
    Old,
    /// Reads find the value before the newest one, at the revision of now.
    Stale,
    /// Puts are acknowledged and thrown away.
    Lost,
    /// Refused puts are carried out all the same.
    Refused,
    /// A condition is not looked at.
    Condition,
    /// The last put of a transaction is thrown away.
    Torn,
    /// The compares of a transaction are not looked at.
    Compare,
    /// Reads inside of a transaction find the state of some changes ago.
    Within,
}

/// One request in so many is lied to.
const EVERY: u64 = 40;
/// How many changes ago an old state is.
pub(crate) const CHANGES_AGO: usize = 20;

#[derive(Clone, Debug)]
pub(crate) struct Cell {
    pub(crate) value: Bytes,
    pub(crate) revision: u64,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct State {
    pub(crate) revision: u64,
    pub(crate) cells: BTreeMap<String, Cell>,
    /// When each key was last put or deleted.
    pub(crate) changed: BTreeMap<String, u64>,
}

#[derive(Debug)]
pub(crate) struct Store {
    fault: Fault,
    requests: AtomicU64,
    /// The states after the last changes, the newest last.
    pub(crate) states: Mutex<Vec<State>>,
}

/// A running server.
#[derive(Debug)]
pub(crate) struct FaultyServer {
    pub(crate) url: String,
    store: Arc<Store>,
    task: tokio::task::JoinHandle<()>,
}

impl FaultyServer {
    pub(crate) async fn start(fault: Fault) -> FaultyServer {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let states = Mutex::new(vec![State::default()]);
        let store = Arc::new(Store { fault, requests: AtomicU64::new(1), states });
        let served = Arc::clone(&store);
        let app = axum::Router::new().fallback(move |request: Request| {
            let store = Arc::clone(&served);
            async move {
                let (head, body) = request.into_parts();
                let body = to_bytes(body, 1 << 20).await.unwrap();
                let query = head.uri.query().unwrap_or_default();
                match head.uri.path().strip_prefix("/v1/kv/") {
                    None if head.uri.path() == "/v1/txn" => store.txn(&body),
                    Some(key) => store.key(&head.method, &decoded(key), &head.headers, body),
                    None => store.range(&head.method, query),
                }
            }
        });
        let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        FaultyServer { url, store, task }
    }

    /// How many keys there are.
    pub(crate) fn keys(&self) -> usize {
        self.store.now().cells.len()
    }
}

impl Drop for FaultyServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Store {
    fn now(&self) -> State {
        self.states.lock().last().unwrap().clone()
    }

    /// Whether this request is lied to in that way.
    pub(crate) fn faults(&self, fault: Fault) -> bool {
        self.fault == fault && self.requests.fetch_add(1, Ordering::SeqCst).is_multiple_of(EVERY)
    }

    fn key(&self, method: &Method, key: &str, headers: &HeaderMap, body: Bytes) -> Response<Body> {
        if method == Method::GET {
            return self.get(key);
        }
        let mut states = self.states.lock();
        let mut state = states.last().unwrap().clone();
        let current = state.cells.get(key).map(|cell| cell.revision);
        let wanted = headers.get("if-match").map(|tag| tag.to_str().unwrap().trim_matches('"'));
        let matches = wanted.is_none_or(|tag| current.is_some_and(|at| at.to_string() == tag));
        let none = !headers.contains_key("if-none-match") || current.is_none();
        if method == Method::DELETE && current.is_none() {
            return missing(state.revision);
        }
        let holds = (matches && none) || self.faults(Fault::Condition);
        if !holds {
            let answer = Response::builder().status(412).header("konsen-revision", state.revision);
            let answer = match current {
                Some(current) => answer.header("etag", format!("\"{current}\"")),
                None => answer,
            };
            return answer.body(problem("condition-failed")).unwrap();
        }
        let revision = state.revision + 1;
        state.revision = revision;
        let lost = method == Method::PUT && self.faults(Fault::Lost);
        if method == Method::DELETE {
            state.set(key, revision, None);
        } else if !lost {
            state.set(key, revision, Some(std::str::from_utf8(&body).unwrap()));
        }
        states.push(state);
        if method == Method::PUT && self.faults(Fault::Refused) {
            return Response::builder().status(503).body(problem("leadership-changed")).unwrap();
        }
        let status = if method == Method::PUT && current.is_none() { 201 } else { 204 };
        let answer = Response::builder().status(status).header("konsen-revision", revision);
        answer.header("etag", format!("\"{revision}\"")).body(Body::empty()).unwrap()
    }

    fn get(&self, key: &str) -> Response<Body> {
        let states = self.states.lock();
        let newest = states.last().unwrap();
        let mut state = newest;
        let mut revision = newest.revision;
        if states.len() > CHANGES_AGO && self.faults(Fault::Old) {
            state = &states[states.len() - CHANGES_AGO];
            revision = state.revision;
        }
        let at = |state: &State| state.cells.get(key).map(|cell| cell.revision);
        if let Some(before) = states.iter().rev().find(|state| at(state) != at(newest))
            && self.faults(Fault::Stale)
        {
            state = before;
        }
        let Some(cell) = state.cells.get(key) else { return missing(revision) };
        let answer = Response::builder().header("konsen-revision", revision);
        let answer = answer.header("etag", format!("\"{}\"", cell.revision));
        let answer = answer.header("konsen-create-revision", 1).header("konsen-version", 1);
        answer.body(cell.value.clone().into()).unwrap()
    }

    /// A listing or the deletion of a range.
    fn range(&self, method: &Method, query: &str) -> Response<Body> {
        let mut states = self.states.lock();
        let mut state = states.last().unwrap().clone();
        let parameter = |name: &str| {
            let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            pairs.find(|(found, _)| *found == name).map(|(_, value)| decoded(value))
        };
        let (prefix, start, end) = (parameter("prefix"), parameter("start"), parameter("end"));
        let asked = |key: &str| {
            prefix.as_ref().is_none_or(|prefix| key.starts_with(prefix))
                && start.as_deref().is_none_or(|start| key >= start)
                && end.as_deref().is_none_or(|end| key < end)
        };
        let json = if method == Method::GET {
            let items = state.items(&asked);
            json!({"revision": state.revision, "items": items.collect::<Vec<_>>()})
        } else {
            let gone: Vec<String> = state.cells.keys().filter(|key| asked(key)).cloned().collect();
            let deleted = gone.len();
            state.revision += u64::from(deleted > 0);
            let revision = state.revision;
            for key in gone {
                state.set(&key, revision, None);
            }
            states.push(state);
            json!({"deleted": deleted, "revision": revision})
        };
        Response::new(json.to_string().into())
    }
}

fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8().unwrap().into_owned()
}

fn problem(kind: &str) -> Body {
    let kind = format!("urn:konsen:problem:{kind}");
    json!({"type": kind, "detail": "d", "outcome": "not_applied"}).to_string().into()
}

fn missing(revision: u64) -> Response<Body> {
    let answer = Response::builder().status(404).header("konsen-revision", revision);
    answer.body(problem("no-such-key")).unwrap()
}
