//! `/v1/kv`: listings and range deletes.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Body, HttpBody};
use axum::extract::{Request, State};
use axum::http::header::{CONTENT_TYPE, LINK};
use axum::http::{HeaderMap, HeaderValue, Method};
use axum::response::Response;
use bytes::Bytes;
use hyper::body::Frame;
use tokio::task::JoinHandle;

use super::cursor::Cursor;
use super::error::{Kind, Problem};
use super::json::{DeletedJson, ItemJson, PageJson};
use super::query::Query;
use super::read::Freshness;
use super::{Api, headers, key};
use crate::kv::{KeyRange, Outcome, Page, RangeQuery, Revision, Write};
use crate::server::{Error, Handle};

/// The most items of a page.
pub const PAGE_ITEMS_MAX: usize = 1000;
/// A page ends with the item that makes its keys and values reach this many bytes.
pub const PAGE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// The same for the parts that a streamed listing is read in.
pub const STREAM_PART_BYTES_MAX: usize = 256 * 1024;

const LIST_PARAMETERS: &[&str] = &[
    "prefix",
    "start",
    "end",
    "limit",
    "keys_only",
    "order",
    "revision",
    "cursor",
    "consistency",
    "min_revision",
];
const DELETE_PARAMETERS: &[&str] = &["prefix", "start", "end"];
pub(super) const NDJSON: &str = "application/x-ndjson";

/// What a request for a listing asks for.
struct Listing {
    query: RangeQuery,
    freshness: Freshness,
    /// As the client gave it; none: as many as a page or the stream holds.
    limit: Option<usize>,
}

/// The range that `prefix`, `start` and `end` name together.
fn range(query: &Query) -> KeyRange {
    let between = KeyRange {
        start: query.bytes("start").cloned().unwrap_or_default(),
        end: query.bytes("end").cloned(),
    };
    match query.bytes("prefix") {
        Some(prefix) => KeyRange::prefix(prefix).intersect(&between),
        None => between,
    }
}

impl Listing {
    fn parse(raw: Option<&str>) -> Result<Listing, Problem> {
        let query = Query::parse(raw, LIST_PARAMETERS)?;
        let mut freshness = Freshness::parse(&query)?;
        let limit = query.positive("limit")?;
        let limit = limit.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX));
        let mut range = range(&query);
        let mut descending = query.descending()?;
        let mut keys_only = query.flag("keys_only")?;
        if let Some(cursor) = query.bytes("cursor") {
            let cursor = Cursor::decode(cursor)?;
            let contradicts = |name: &str| {
                let detail = format!("{name} is not what the cursor's listing was asked for with");
                Problem::new(Kind::InvalidCursor, detail)
            };
            if freshness.at.is_some_and(|at| at != cursor.revision) {
                return Err(contradicts("revision"));
            }
            if descending.is_some_and(|descending| descending != cursor.descending) {
                return Err(contradicts("order"));
            }
            freshness.at = Some(cursor.revision);
            range = range.intersect(&cursor.range);
            descending = Some(cursor.descending);
            keys_only = keys_only.or(Some(cursor.keys_only));
        }
        let query = RangeQuery {
            range,
            at: freshness.at,
            descending: descending.unwrap_or(false),
            keys_only: keys_only.unwrap_or(false),
            items_max: limit.unwrap_or(PAGE_ITEMS_MAX).min(PAGE_ITEMS_MAX),
            bytes_max: PAGE_BYTES_MAX,
        };
        Ok(Listing { query, freshness, limit })
    }
}

/// `GET /v1/kv`.
pub(super) async fn list(
    State(api): State<Arc<Api>>,
    request: Request,
) -> Result<Response, Problem> {
    let mut listing = Listing::parse(request.uri().query())?;
    let deadline = headers::deadline(request.headers())?;
    listing.freshness.reach(&api.handle, deadline).await?;
    if headers::accepts(request.headers(), NDJSON) {
        listing.query.bytes_max = STREAM_PART_BYTES_MAX;
        if request.method() == Method::HEAD {
            listing.query.items_max = 1;
            listing.limit = Some(1);
        }
        return stream(&api, listing).await;
    }
    let handle = api.handle.clone();
    let limit = listing.limit;
    let (revision, next, body) = blocking(move || {
        let query = listing.query;
        let page = handle.range(&query)?;
        let next = Cursor::after(&query, &page).map(|cursor| cursor.encode());
        let json = PageJson {
            revision: page.revision,
            items: page.items.iter().map(|item| ItemJson::new(item, query.keys_only)).collect(),
            next: next.as_deref().map(Into::into),
        };
        // Serializing plain data into memory cannot fail.
        let body = serde_json::to_vec(&json).unwrap_or_default();
        Ok((page.revision, next, body))
    })
    .await?;
    let mut response = json_response(revision, body);
    if let Some(next) = next {
        let limit = limit.map(|limit| format!("&limit={limit}")).unwrap_or_default();
        let link = format!("</v1/kv?cursor={next}{limit}>; rel=\"next\"");
        if let Ok(link) = HeaderValue::try_from(link) {
            response.headers_mut().insert(LINK, link);
        }
    }
    Ok(response)
}

pub(super) fn json_response(revision: Revision, body: Vec<u8>) -> Response {
    let mut response = Response::new(Body::from(body));
    let fields: &mut HeaderMap = response.headers_mut();
    fields.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    fields.insert(&headers::REVISION, HeaderValue::from(revision.0));
    response
}

/// Runs a read of many rows, which may wait for the disk, where it holds nobody up.
pub(super) async fn blocking<T: Send + 'static>(
    read: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Problem> {
    match tokio::task::spawn_blocking(read).await {
        Ok(result) => Ok(result?),
        Err(_) => Err(Error::Storage.into()),
    }
}

/// A part of a streamed listing, as bytes, and what to ask for next.
struct Part {
    revision: Revision,
    bytes: Bytes,
    rest: Option<(RangeQuery, Option<usize>)>,
}

fn read_part(handle: &Handle, mut query: RangeQuery, left: Option<usize>) -> Result<Part, Error> {
    query.items_max = left.unwrap_or(PAGE_ITEMS_MAX).min(PAGE_ITEMS_MAX);
    let page: Page = handle.range(&query)?;
    let mut bytes = Vec::new();
    for item in &page.items {
        // Serializing plain data into memory cannot fail.
        let _ = serde_json::to_writer(&mut bytes, &ItemJson::new(item, query.keys_only));
        bytes.push(b'\n');
    }
    let left = left.map(|left| left.saturating_sub(page.items.len()));
    let rest = match Cursor::after(&query, &page) {
        Some(cursor) if left != Some(0) => {
            let query = RangeQuery { range: cursor.range, at: Some(cursor.revision), ..query };
            Some((query, left))
        }
        _ => None,
    };
    Ok(Part { revision: page.revision, bytes: bytes.into(), rest })
}

async fn stream(api: &Api, listing: Listing) -> Result<Response, Problem> {
    let handle = api.handle.clone();
    let first = blocking(move || read_part(&handle, listing.query, listing.limit)).await?;
    let revision = first.revision;
    let body = StreamedListing { handle: api.handle.clone(), state: StreamState::Ready(first) };
    let mut response = Response::new(Body::new(body));
    let fields = response.headers_mut();
    fields.insert(CONTENT_TYPE, HeaderValue::from_static(NDJSON));
    fields.insert(&headers::REVISION, HeaderValue::from(revision.0));
    Ok(response)
}

/// A whole listing at one revision. The next part is read when the connection has room for it, so
/// that a slow client holds one part and no more.
struct StreamedListing {
    handle: Handle,
    state: StreamState,
}

enum StreamState {
    Ready(Part),
    Waiting(RangeQuery, Option<usize>),
    Reading(JoinHandle<Result<Part, Error>>),
    Done,
}

impl HttpBody for StreamedListing {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        loop {
            match std::mem::replace(&mut self.state, StreamState::Done) {
                StreamState::Done => return Poll::Ready(None),
                StreamState::Ready(part) => {
                    if let Some((query, left)) = part.rest {
                        self.state = StreamState::Waiting(query, left);
                    }
                    if !part.bytes.is_empty() {
                        return Poll::Ready(Some(Ok(Frame::data(part.bytes))));
                    }
                }
                StreamState::Waiting(query, left) => {
                    let handle = self.handle.clone();
                    let reading =
                        tokio::task::spawn_blocking(move || read_part(&handle, query, left));
                    self.state = StreamState::Reading(reading);
                }
                StreamState::Reading(mut reading) => match Pin::new(&mut reading).poll(context) {
                    Poll::Pending => {
                        self.state = StreamState::Reading(reading);
                        return Poll::Pending;
                    }
                    Poll::Ready(Ok(Ok(part))) => self.state = StreamState::Ready(part),
                    // Breaks the connection off, which is how a client learns that lines are missing.
                    Poll::Ready(Ok(Err(error))) => return Poll::Ready(Some(Err(error))),
                    Poll::Ready(Err(_)) => return Poll::Ready(Some(Err(Error::Storage))),
                },
            }
        }
    }
}

/// `DELETE /v1/kv`.
pub(super) async fn delete(
    State(api): State<Arc<Api>>,
    request: Request,
) -> Result<Response, Problem> {
    let range = deleted_range(request.uri().query())?;
    headers::refuse_idempotency_key(request.headers())?;
    for name in ["if-match", "if-none-match"] {
        if request.headers().contains_key(name) {
            let detail = format!("{name} is about one key; a range delete cannot be conditional");
            return Err(Problem::new(Kind::InvalidHeader, detail));
        }
    }
    let deadline = headers::deadline(request.headers())?;
    let reply = api.handle.write(Write::DeleteRange { range }, deadline).await?;
    let Outcome::Deleted { count } = reply.outcome else {
        return Err(key::unexpected(reply.outcome, reply.revision));
    };
    let json = DeletedJson { deleted: count, revision: reply.revision };
    // Serializing plain data into memory cannot fail.
    Ok(json_response(reply.revision, serde_json::to_vec(&json).unwrap_or_default()))
}

fn deleted_range(raw: Option<&str>) -> Result<KeyRange, Problem> {
    let range = range(&Query::parse(raw, DELETE_PARAMETERS)?);
    // An unset shell variable in `?prefix=$P` must not empty the store.
    if range.start.is_empty() && range.end.is_none() {
        return Err(Problem::new(
            Kind::InvalidParameter,
            "a range delete needs a prefix, start or end that is not empty; \
             start=%00 deletes every key",
        ));
    }
    Ok(range)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(raw: &str) -> Kind {
        Listing::parse(Some(raw)).err().unwrap().kind()
    }

    #[test]
    fn prefix_start_and_end_hold_together() {
        let query = Listing::parse(Some("prefix=a&start=ab&end=zz&limit=5000&order=desc"));
        let listing = query.unwrap();
        assert_eq!(
            listing.query,
            RangeQuery {
                range: KeyRange { start: "ab".into(), end: Some("b".into()) },
                at: None,
                descending: true,
                keys_only: false,
                items_max: PAGE_ITEMS_MAX,
                bytes_max: PAGE_BYTES_MAX,
            }
        );
        assert_eq!(listing.limit, Some(5000));
    }

    #[test]
    fn a_cursor_fixes_revision_order_and_range() {
        let cursor = Cursor {
            revision: Revision(7),
            range: KeyRange { start: "b".into(), end: Some("d".into()) },
            descending: true,
            keys_only: true,
        };
        let encoded = cursor.encode();
        let listing = Listing::parse(Some(&format!("cursor={encoded}"))).unwrap();
        assert_eq!(listing.query.range, cursor.range);
        assert_eq!(listing.query.at, Some(Revision(7)));
        assert!(listing.query.descending && listing.query.keys_only);
        let same = format!("cursor={encoded}&order=desc&revision=7&prefix=c&keys_only=false");
        let listing = Listing::parse(Some(&same)).unwrap();
        assert_eq!(listing.query.range, KeyRange { start: "c".into(), end: Some("d".into()) });
        assert!(!listing.query.keys_only);
        assert_eq!(kind(&format!("cursor={encoded}&order=asc")), Kind::InvalidCursor);
        assert_eq!(kind(&format!("cursor={encoded}&revision=8")), Kind::InvalidCursor);
        assert_eq!(kind("cursor=abc"), Kind::InvalidCursor);
        assert_eq!(kind("cursor="), Kind::InvalidCursor);
    }

    #[test]
    fn a_range_delete_needs_a_range() {
        for raw in [None, Some(""), Some("prefix="), Some("start="), Some("prefix=%ff&start=")] {
            let result = deleted_range(raw);
            let names_a_range = raw == Some("prefix=%ff&start=");
            assert_eq!(result.is_ok(), names_a_range, "{raw:?}");
        }
        assert!(deleted_range(Some("start=%00")).is_ok());
        assert!(deleted_range(Some("end=m")).is_ok());
        assert!(deleted_range(Some("limit=1")).is_err());
    }
}
