//! The Rust client: konsen's HTTP API over several endpoints.
//!
//! An endpoint that is down is passed over for the next one, but only when the request certainly
//! did not happen there. A write whose outcome is unknown is never sent again. A read that one endpoint does
//! not answer is asked of the next one, too; a write goes only to one that answers as konsen does, and only where
//! all endpoints that answer belong to one cluster. All that together is bounded by the timeout.

mod auth;
mod clusters;
mod error;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod members;
mod pin;
mod read;
mod send;
mod snapshot;
mod tls;
mod token;
mod transaction;
mod txn;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap};
use reqwest::{Method, Response, StatusCode, Url};

pub use crate::api::Outcome;
pub use clusters::differ;
pub use error::Error;
pub use pin::{Fingerprint, FingerprintError};
pub use read::{ListPage, ListRequest, Value};
pub use snapshot::SnapshotStream;
pub use tls::TlsFiles;
pub(crate) use tls::config as tls_config;
pub(crate) use token::{authorization, check_endpoint as check_token_endpoint};
pub use transaction::{
    LIST_BYTES_MAX, LIST_ITEMS_MAX, OPERATIONS_MAX, READS_MAX, Retry, Transacted, Transaction,
};

use crate::api::{
    AnchorsJson, ClusterStatus, CompactJson, DeletedJson, Leadership, Status, TIMEOUT_MAX,
    TransferJson,
};
use crate::kv::Revision;

/// All but the unreserved characters of RFC 3986.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// How much longer than the timeout the client waits: so a node that says at the end of the time what became of the
/// request is still heard.
const GRACE: Duration = Duration::from_millis(250);
/// How long a stream may take altogether.
const STREAM_TIME_MAX: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// How long an endpoint may take to say how it is: that needs no other node.
const STATUS_TIME_MAX: Duration = Duration::from_secs(2);
/// No answer is larger: what a node sets aside for all of them unless its configuration says otherwise (`limits.answers`).
const ANSWER_BYTES_MAX: usize = 256 << 20;
/// The shortest time that an answer may be given.
const TIMEOUT_MIN: Duration = Duration::from_millis(1);
/// How long a connection may take to be set up.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(3);
/// The fields of the store's revision and of the key's.
const REVISION: &str = "konsen-revision";
const ETAG: &str = "etag";
/// How long an idle connection is kept; less than the server keeps it, so that no request meets a
/// connection that is being closed.
const IDLE_TIME_MAX: Duration = Duration::from_secs(5);

/// How to reach a cluster.
#[derive(Clone, Debug)]
pub struct Options {
    /// Base URLs such as `http://127.0.0.1:20001`, in the order in which they are tried.
    pub endpoints: Vec<String>,
    /// Certificates, for `https`.
    pub tls: TlsFiles,
    /// A file, readable by its owner only, with a bearer token that is sent with every request.
    pub token: Option<PathBuf>,
    /// How long an answer may take, over all endpoints together, at most five minutes. A quarter of a second more is
    /// waited for a node that gives its own answer at the end of that time. Of a stream it bounds the beginning, and
    /// each pause.
    pub timeout: Duration,
}

/// What must hold for a write to be carried out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Preconditions {
    /// The key's mod revision must be this one.
    pub if_match: Option<Revision>,
    /// The key must not exist.
    pub if_absent: bool,
}

/// What a put did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// The key's new mod revision.
    pub revision: Revision,
    /// Whether the key is new.
    pub created: bool,
}

/// A connection to a cluster. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Client {
    endpoints: Vec<Url>,
    http: reqwest::Client,
    timeout: Duration,
    /// Who is asked first: whoever answered last.
    first: Arc<AtomicUsize>,
    /// Who answered last as konsen does, and when.
    proven: Arc<Mutex<Option<(usize, Instant)>>>,
    notice: Option<fn(&str)>,
}

/// A request before it has an endpoint.
struct Call<'a> {
    method: Method,
    /// After the endpoint; percent-encoded.
    path: String,
    query: Vec<(&'static str, String)>,
    headers: HeaderMap,
    body: Option<&'a Bytes>,
    /// It changes nothing, although its method says otherwise.
    only_reads: bool,
    /// The answer goes on for as long as something comes.
    streams: bool,
    /// The fields with numbers that each success of konsen has. Without any, its body shows whose it is.
    shows: &'static [&'static str],
}

impl Call<'_> {
    fn new(method: Method, path: impl Into<String>) -> Call<'static> {
        Call {
            method,
            path: path.into(),
            query: Vec::new(),
            headers: HeaderMap::new(),
            body: None,
            only_reads: false,
            streams: false,
            shows: &[],
        }
    }

    fn changes_something(&self) -> bool {
        !self.only_reads && !matches!(self.method, Method::GET | Method::HEAD)
    }
}

/// Which keys to delete: those that are within all bounds that are named, of which there has to be one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeleteRequest {
    /// Only keys that begin so.
    pub prefix: Option<Bytes>,
    /// Only keys from this one on.
    pub start: Option<Bytes>,
    /// Only keys before this one.
    pub end: Option<Bytes>,
    /// In steps, each a revision of its own, and not all at once: for more keys than one revision may delete.
    pub in_steps: bool,
}

impl Client {
    /// A client; fails if an endpoint is no URL, a certificate or the token cannot be read, or the token would be sent in
    /// plain text to another host.
    pub fn new(options: &Options) -> Result<Client, Error> {
        if options.endpoints.is_empty() {
            return Err(Error::Usage("there is no endpoint".to_owned()));
        }
        if !(TIMEOUT_MIN..=TIMEOUT_MAX).contains(&options.timeout) {
            return Err(Error::Usage("the timeout must be between 1ms and 5m".to_owned()));
        }
        let endpoints = options.endpoints.iter().map(|text| endpoint(text));
        let endpoints = endpoints.collect::<Result<Vec<_>, _>>()?;
        let mut headers = HeaderMap::new();
        if let Some(file) = &options.token {
            endpoints.iter().try_for_each(token::check_endpoint)?;
            headers.insert(AUTHORIZATION, token::authorization(file)?);
        }
        let http = reqwest::Client::builder()
            .default_headers(headers)
            .tls_backend_preconfigured(tls::config(&options.tls)?)
            .connect_timeout(CONNECT_TIME_MAX.min(options.timeout))
            .pool_idle_timeout(IDLE_TIME_MAX)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .http1_only()
            .build()
            .map_err(|error| Error::Usage(error::chain(&error)))?;
        Ok(Client {
            endpoints,
            http,
            timeout: options.timeout,
            first: Arc::default(),
            proven: Arc::default(),
            notice: None,
        })
    }

    /// The same, which says what it waits for.
    #[must_use]
    pub fn with_notice(self, notice: fn(&str)) -> Client {
        Client { notice: Some(notice), ..self }
    }

    /// Sets a key.
    pub async fn put(
        &self,
        key: &[u8],
        value: &Bytes,
        content_type: Option<&str>,
        preconditions: Preconditions,
    ) -> Result<Written, Error> {
        let mut call = Call::new(Method::PUT, key_path(key)?);
        call.body = Some(value);
        call.shows = &[REVISION, ETAG];
        if let Some(content_type) = content_type {
            let parsed = content_type.parse().map_err(|_| {
                Error::Usage(format!("{content_type:?} cannot be sent as a content type"))
            })?;
            call.headers.insert(CONTENT_TYPE, parsed);
        }
        conditional(&mut call.headers, preconditions)?;
        let (_, response) = self.send(&call).await?;
        let created = response.status() == StatusCode::CREATED;
        Ok(Written { revision: Revision(shown(&response, REVISION)), created })
    }

    /// Deletes a key; the store's revision then.
    pub async fn delete(
        &self,
        key: &[u8],
        preconditions: Preconditions,
    ) -> Result<Revision, Error> {
        let mut call = Call::new(Method::DELETE, key_path(key)?);
        call.shows = &[REVISION];
        conditional(&mut call.headers, preconditions)?;
        let (_, response) = self.send(&call).await?;
        Ok(Revision(shown(&response, REVISION)))
    }

    /// Deletes every key that begins so.
    pub async fn delete_prefix(&self, prefix: &[u8]) -> Result<DeletedJson, Error> {
        let prefix = Some(Bytes::copy_from_slice(prefix));
        self.delete_all(&DeleteRequest { prefix, ..DeleteRequest::default() }).await
    }

    /// Deletes every key from one on and before another.
    pub async fn delete_range(&self, start: &[u8], end: &[u8]) -> Result<DeletedJson, Error> {
        let [start, end] = [start, end].map(|bound| Some(Bytes::copy_from_slice(bound)));
        self.delete_all(&DeleteRequest { start, end, ..DeleteRequest::default() }).await
    }

    /// Deletes every key of a range.
    pub async fn delete_all(&self, range: &DeleteRequest) -> Result<DeletedJson, Error> {
        let DeleteRequest { prefix, start, end, in_steps } = range;
        let empty = |bound: &&Option<Bytes>| bound.as_ref().is_none_or(Bytes::is_empty);
        if [prefix, start, end].iter().all(empty) {
            let text = "to delete every key there is, name a bound that is not empty";
            return Err(Error::Usage(text.to_owned()));
        }
        if end.as_ref().is_some_and(Bytes::is_empty) {
            return Err(Error::Usage("nothing comes before an empty end".to_owned()));
        }
        let mut call = Call::new(Method::DELETE, "v1/kv");
        for (name, bound) in [("prefix", prefix), ("start", start), ("end", end)] {
            call.query.extend(bound.as_ref().map(|bound| (name, encode(bound))));
        }
        call.query.extend(in_steps.then(|| ("atomic", "false".to_owned())));
        self.json(call).await
    }

    /// Gives up the past before a revision, which is then the oldest that can be read. Refused if that is the
    /// case already, or if the store has not reached it.
    pub async fn compact(&self, revision: Revision) -> Result<Revision, Error> {
        let body = json_bytes(&CompactJson { revision })?;
        let call = Call { body: Some(&body), ..Call::new(Method::POST, "v1/compact") };
        let done: CompactJson = self.json(call).await?;
        Ok(done.revision)
    }

    /// Everybody, as the first endpoint that answers sees them.
    pub async fn cluster(&self) -> Result<ClusterStatus, Error> {
        self.json(Call::new(Method::GET, "v1/cluster")).await
    }

    /// What the cluster knows of the audits of its nodes.
    pub async fn anchors(&self) -> Result<AnchorsJson, Error> {
        self.json(Call::new(Method::GET, "v1/audit/anchors")).await
    }

    /// Hands leadership over to the member of that name, or to the voter that is furthest; who leads then.
    pub async fn transfer_leadership(&self, to: Option<&str>) -> Result<Leadership, Error> {
        let body = json_bytes(&TransferJson { to: to.map(str::to_owned) })?;
        let mut call = Call::new(Method::POST, "v1/cluster/leader");
        call.body = Some(&body);
        self.json(call).await
    }

    /// What each endpoint says of itself, in order, beside its URL. All are asked at once.
    pub async fn status(&self) -> Vec<(String, Result<Status, Error>)> {
        let due = Instant::now() + STATUS_TIME_MAX.min(self.timeout);
        let ask = |endpoint: &'_ Url| {
            let endpoint = endpoint.clone();
            async move {
                let call = Call::new(Method::GET, "v1/status");
                let answer = match self.send_to(&endpoint, &call, due).await {
                    Ok(response) => json_body(response).await,
                    Err(failure) => Err(failure.error),
                };
                (endpoint.as_str().trim_end_matches('/').to_owned(), answer)
            }
        };
        futures_util::future::join_all(self.endpoints.iter().map(ask)).await
    }

    async fn json<T: serde::de::DeserializeOwned>(&self, call: Call<'_>) -> Result<T, Error> {
        let due = Instant::now() + self.timeout;
        let (at, response) = self.send(&call).await?;
        let (at, answer) = match json_body(response).await {
            Ok(answer) => (at, answer),
            // It was carried out, or by somebody who does not speak as konsen does.
            Err(Error::Failed(text)) if call.changes_something() => {
                return Err(Error::Unknown(text));
            }
            Err(error) => match self.send_elsewhere(&call, at, due).await {
                Some((other, response)) => (other, json_body(response).await?),
                None => return Err(error),
            },
        };
        self.proves(at);
        Ok(answer)
    }
}

/// A base URL, which ends in a slash.
pub(crate) fn endpoint(text: &str) -> Result<Url, Error> {
    let wrong = || {
        Error::Usage(format!(
            "{text:?} is not an endpoint; write it as http://HOST:PORT or https://HOST:PORT"
        ))
    };
    // It is not repeated: what stands before the @ may be a secret.
    if text.contains('@') {
        let why = "an endpoint has no name and password in it, which would show in lists of processes and in logs; name the \
                   file of a token with --token";
        return Err(Error::Usage(why.to_owned()));
    }
    let with_scheme = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let mut url: Url = with_scheme.parse().map_err(|_| wrong())?;
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() || url.query().is_some() {
        return Err(wrong());
    }
    if !url.path().ends_with('/') {
        let path = format!("{}/", url.path());
        url.set_path(&path);
    }
    Ok(url)
}

fn json_bytes(value: &impl serde::Serialize) -> Result<Bytes, Error> {
    serde_json::to_vec(value).map(Bytes::from).map_err(|error| Error::Usage(error.to_string()))
}

fn encode(bytes: &[u8]) -> String {
    percent_encode(bytes, UNRESERVED).to_string()
}

fn key_path(key: &[u8]) -> Result<String, Error> {
    match key {
        b"" => Err(Error::Usage("the key is empty; it must have a byte or more".to_owned())),
        // URL libraries take these for steps within the path, encoded or not.
        b"." | b".." => Err(Error::Usage("the keys . and .. cannot be named in a URL".to_owned())),
        _ => Ok(format!("v1/kv/{}", encode(key))),
    }
}

fn conditional(headers: &mut HeaderMap, preconditions: Preconditions) -> Result<(), Error> {
    if preconditions.if_match.is_some() && preconditions.if_absent {
        let text = "a key that does not exist has no revision: both conditions never hold";
        return Err(Error::Usage(text.to_owned()));
    }
    let invalid = |_| Error::Usage("the condition cannot be sent".to_owned());
    if let Some(revision) = preconditions.if_match {
        let tag = format!("\"{revision}\"").parse().map_err(invalid)?;
        headers.insert(reqwest::header::IF_MATCH, tag);
    }
    if preconditions.if_absent {
        let any = reqwest::header::HeaderValue::from_static("*");
        headers.insert(reqwest::header::IF_NONE_MATCH, any);
    }
    Ok(())
}

/// The number in a field that the call says every answer shows, so that it was looked for.
fn shown(response: &Response, header: &str) -> u64 {
    number_in(response.headers(), header).unwrap_or_default()
}

fn revision_in(headers: &HeaderMap, header: &str) -> Option<Revision> {
    number_in(headers, header).map(Revision)
}

fn number_in(headers: &HeaderMap, header: &str) -> Option<u64> {
    let text = headers.get(header)?.to_str().ok()?;
    text.trim_matches('"').parse().ok()
}

/// What to say of an answer that konsen does not give.
fn not_konsens(from: &Url, why: impl std::fmt::Display) -> String {
    let from = from.origin().ascii_serialization();
    format!("{from}: the answer is not konsen's: {why}")
}

fn broken_answer(error: &reqwest::Error) -> Error {
    Error::Failed(format!("the answer broke off: {}", error::chain(error)))
}

/// The whole body of an answer, if it is no larger than a node's can be.
async fn body(mut response: Response) -> Result<Bytes, Error> {
    let mut bytes = BytesMut::new();
    while let Some(part) = response.chunk().await.map_err(|error| broken_answer(&error))? {
        if part.len() > ANSWER_BYTES_MAX - bytes.len() {
            let from = response.url();
            let why = format!("it has more than {} MiB", ANSWER_BYTES_MAX >> 20);
            return Err(Error::Failed(not_konsens(from, why)));
        }
        bytes.extend_from_slice(&part);
    }
    Ok(bytes.freeze())
}

async fn json_body<T: serde::de::DeserializeOwned>(response: Response) -> Result<T, Error> {
    let from = response.url().clone();
    let bytes = body(response).await?;
    serde_json::from_slice(&bytes).map_err(|error| Error::Failed(not_konsens(&from, error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_urls_or_addresses() {
        assert_eq!(endpoint("127.0.0.1:20001").unwrap().as_str(), "http://127.0.0.1:20001/");
        assert_eq!(endpoint("https://[::1]:1").unwrap().as_str(), "https://[::1]:1/");
        assert_eq!(endpoint("http://h:1/a").unwrap().as_str(), "http://h:1/a/");
        for wrong in ["", "ftp://h:1", "http://", "http://h:99999", "http://h:1/?a=b"] {
            assert!(matches!(endpoint(wrong), Err(Error::Usage(_))), "{wrong}");
        }
        for secret in ["http://a:s3cret@h:1", "a:s3cret@h:1", "ftp://a:s3cret@h:1"] {
            let Err(Error::Usage(why)) = endpoint(secret) else { panic!("{secret}") };
            assert!(!why.contains("s3cret") && why.contains("--token"), "{why}");
        }
    }

    #[test]
    fn keys_are_one_encoded_segment() {
        assert_eq!(key_path(b"a/../b\0\xff+ ~").unwrap(), "v1/kv/a%2F..%2Fb%00%FF%2B%20~");
        for refused in [&b""[..], b".", b".."] {
            assert!(matches!(key_path(refused), Err(Error::Usage(_))));
        }
    }
}
