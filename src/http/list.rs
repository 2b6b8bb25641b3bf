//! `GET /v1/kv`: listings, in pages and as streams.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::body::{Body, HttpBody};
use axum::extract::{Request, State};
use axum::http::header::{CONTENT_TYPE, LINK, VARY};
use axum::http::{HeaderMap, HeaderValue, Method};
use axum::response::Response;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use hyper::body::Frame;

use super::budget::{Answers, Guest};
use super::cursor::{Bounds, Cursor};
use super::error::{Kind, Problem};
use super::identity::caller_of;
use super::query::Query;
use super::{Api, headers};
use crate::api::{
    Caller, Consistency, Freshness, ItemJson, List, PAGE_BYTES_MAX, PAGE_ITEMS_MAX, PageJson,
    item_bytes,
};
use crate::kv::{KeyRange, Page, RangeQuery, Revision};
use crate::server::Handle;

/// As [`PAGE_BYTES_MAX`], for the parts that a streamed listing is read in.
pub const STREAM_PART_BYTES_MAX: usize = 256 * 1024;

pub(super) const LIST_PARAMETERS: &[&str] = &[
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
pub(super) const NDJSON: &str = "application/x-ndjson";

/// What a request for a listing asks for.
struct Listing {
    list: List,
    /// As the client gave it; none: as many as a page or the stream holds.
    limit: Option<usize>,
    bounds: Bounds,
}

/// The range that `prefix`, `start` and `end` name together.
pub(super) fn range(query: &Query) -> KeyRange {
    let between = KeyRange {
        start: query.bytes("start").cloned().unwrap_or_default(),
        // Empty, it is no bound, as an empty start is none.
        end: query.bytes("end").filter(|end| !end.is_empty()).cloned(),
    };
    match query.bytes("prefix") {
        Some(prefix) => KeyRange::prefix(prefix).intersect(&between),
        None => between,
    }
}

impl Listing {
    fn parse(raw: Option<&str>) -> Result<Listing, Problem> {
        let query = Query::parse(raw, LIST_PARAMETERS)?;
        let mut freshness = query.freshness()?;
        let limit = query.positive("limit")?;
        let limit = limit.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX));
        let (mut range, mut bounds) = (range(&query), Bounds::of(&query));
        let mut descending = query.descending()?.unwrap_or(false);
        let mut keys_only = query.flag("keys_only")?.unwrap_or(false);
        if let Some(cursor) = query.bytes("cursor") {
            let cursor = Cursor::decode(cursor)?;
            cursor.check(&query)?;
            freshness.at = Some(cursor.revision);
            Cursor { range, descending, keys_only, bounds, .. } = cursor;
        }
        let query = RangeQuery {
            range,
            at: freshness.at,
            descending,
            keys_only,
            items_max: limit.unwrap_or(PAGE_ITEMS_MAX).min(PAGE_ITEMS_MAX),
            bytes_max: PAGE_BYTES_MAX,
        };
        let Freshness { consistency, min_revision, .. } = freshness;
        Ok(Listing { list: List { query, consistency, min_revision }, limit, bounds })
    }
}

/// `GET /v1/kv`.
pub(super) async fn list(
    State(api): State<Arc<Api>>,
    request: Request,
) -> Result<Response, Problem> {
    let mut listing = Listing::parse(request.uri().query())?;
    let timeout = headers::timeout(request.headers())?;
    let deadline = Instant::now() + timeout;
    let streamed = headers::accepts(request.headers(), NDJSON);
    let guest = Guest::of(request.extensions());
    if streamed && request.method() == Method::HEAD {
        listing.list.query.items_max = 1;
        listing.limit = Some(1);
    }
    let caller = caller_of(request.extensions());
    // There may be many who wait, and a head may be large.
    drop(request);
    if streamed {
        listing.list.query.bytes_max = STREAM_PART_BYTES_MAX;
        // All of it is read here: a stream has no bound, and an answer between nodes has.
        api.handle.admit(&caller, listing.list.clone()).await?;
        api.handle.reach(listing.list.freshness(), deadline).await?;
        return stream(&api, caller, listing, timeout, guest).await;
    }
    let Listing { limit, bounds, .. } = listing;
    let keep = listing.list.query.clone();
    let list = api.handle.admit(&caller, listing.list).await?;
    let read = api.handle.list(list, deadline, move |mut page| {
        let bytes = cut(&mut page, &keep, PAGE_BYTES_MAX);
        let next = Cursor::after(&keep, &page, bounds).map(|cursor| cursor.encode());
        let json = PageJson {
            revision: page.revision,
            items: page.items.iter().map(|item| ItemJson::new(item, keep.keys_only)).collect(),
            next: next.as_deref().map(Into::into),
        };
        let mut body = Vec::with_capacity(bytes + next.as_ref().map_or(0, String::len) + 128);
        // Serializing plain data into memory cannot fail.
        let _ = serde_json::to_writer(&mut body, &json);
        (page.revision, next, Bytes::from(body))
    });
    let (revision, next, body) = read.await?;
    let body = api.answers.hold(&guest, body)?;
    let mut response = json_response(revision, body);
    response.headers_mut().insert(VARY, HeaderValue::from_static("Accept"));
    if let Some(next) = next {
        let limit = limit.map(|limit| format!("&limit={limit}")).unwrap_or_default();
        let link = format!("</v1/kv?cursor={next}{limit}>; rel=\"next\"");
        if let Ok(link) = HeaderValue::try_from(link) {
            response.headers_mut().insert(LINK, link);
        }
    }
    Ok(response)
}

pub(super) fn json_response(revision: Revision, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    let fields: &mut HeaderMap = response.headers_mut();
    fields.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    fields.insert(&headers::REVISION, HeaderValue::from(revision.0));
    response
}

/// Ends a page with the item with which its JSON reaches so many bytes; how many it takes. Escapes make it up to six times
/// as long as what the items hold.
fn cut(page: &mut Page, query: &RangeQuery, bytes_max: usize) -> usize {
    let mut bytes = 0;
    let mut items = 0;
    while let Some(item) = page.items.get(items).filter(|_| bytes < bytes_max) {
        bytes += item_bytes(item, query.keys_only);
        items += 1;
    }
    if let Some(item) = page.items.get(items) {
        page.rest = Some(query.range.onward(&item.key, query.descending));
        page.items.truncate(items);
    }
    bytes
}

/// A part of a streamed listing, as bytes, and what to ask for next.
struct Part {
    revision: Revision,
    bytes: Bytes,
    rest: Option<(RangeQuery, Option<usize>)>,
}

/// What a page becomes in a stream of at most `left` items more.
fn part(query: &RangeQuery, left: Option<usize>, mut page: Page) -> Part {
    let length = cut(&mut page, query, query.bytes_max);
    let mut bytes = Vec::with_capacity(length);
    for item in &page.items {
        // Serializing plain data into memory cannot fail.
        let _ = serde_json::to_writer(&mut bytes, &ItemJson::new(item, query.keys_only));
        bytes.push(b'\n');
    }
    let left = left.map(|left| left.saturating_sub(page.items.len()));
    let rest = match page.rest {
        Some(range) if left != Some(0) => {
            Some((RangeQuery { range, at: Some(page.revision), ..query.clone() }, left))
        }
        _ => None,
    };
    Part { revision: page.revision, bytes: bytes.into(), rest }
}

/// What reads the parts of one stream.
#[derive(Clone)]
struct Source {
    handle: Handle,
    /// Each part is allowed by itself, so that a stream ends with the right to it.
    caller: Caller,
    answers: Answers,
    guest: Guest,
    /// How long a part may take.
    timeout: Duration,
}

impl Source {
    /// The next part, its bytes counted among those that answers hold.
    async fn read(&self, mut query: RangeQuery, left: Option<usize>) -> Result<Part, Problem> {
        query.items_max = left.unwrap_or(PAGE_ITEMS_MAX).min(PAGE_ITEMS_MAX);
        // So that what finds no room is not read, for most.
        let room = self.answers.reserve(&self.guest, query.bytes_max)?;
        let keep = query.clone();
        let deadline = Instant::now() + self.timeout;
        let list = List { query, consistency: Consistency::Stale, min_revision: None };
        let list = self.handle.admit(&self.caller, list).await?;
        let read = self.handle.page(list, deadline, move |page| part(&keep, left, page));
        let part = read.await?;
        drop(room);
        Ok(Part { bytes: self.answers.hold(&self.guest, part.bytes)?, ..part })
    }

    /// The same of a stream that has begun: while the answers of others fill the memory, it waits.
    async fn read_next(self, query: RangeQuery, left: Option<usize>) -> Result<Part, Problem> {
        let until = Instant::now() + self.timeout;
        loop {
            match self.read(query.clone(), left).await {
                Err(problem) if problem.kind() == Kind::TooBusy && Instant::now() < until => {
                    tokio::time::sleep(BUSY_PAUSE).await;
                }
                result => return result,
            }
        }
    }
}

/// How long a stream pauses while the answers of others fill the memory.
const BUSY_PAUSE: Duration = Duration::from_millis(50);

async fn stream(
    api: &Api,
    caller: Caller,
    listing: Listing,
    timeout: Duration,
    guest: Guest,
) -> Result<Response, Problem> {
    let (handle, answers) = (api.handle.clone(), api.answers.clone());
    let source = Source { handle, caller, answers, guest, timeout };
    let first = source.read(listing.list.query, listing.limit).await?;
    let revision = first.revision;
    let body = StreamedListing { source, state: StreamState::Ready(first) };
    let mut response = Response::new(Body::new(body));
    let fields = response.headers_mut();
    fields.insert(CONTENT_TYPE, HeaderValue::from_static(NDJSON));
    fields.insert(VARY, HeaderValue::from_static("Accept"));
    fields.insert(&headers::REVISION, HeaderValue::from(revision.0));
    Ok(response)
}

/// A whole listing at one revision. The next part is read when the connection has room for it, so
/// that a slow client holds one part and no more.
struct StreamedListing {
    source: Source,
    state: StreamState,
}

enum StreamState {
    Ready(Part),
    Waiting(RangeQuery, Option<usize>),
    Reading(BoxFuture<'static, Result<Part, Problem>>),
    Done,
}

/// A stream that breaks off.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.detail())]
struct BrokenOff(Problem);

impl HttpBody for StreamedListing {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
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
                    let reading = self.source.clone().read_next(query, left);
                    self.state = StreamState::Reading(Box::pin(reading));
                }
                StreamState::Reading(mut reading) => match reading.as_mut().poll(context) {
                    Poll::Pending => {
                        self.state = StreamState::Reading(reading);
                        return Poll::Pending;
                    }
                    Poll::Ready(Ok(part)) => self.state = StreamState::Ready(part),
                    // Breaks the connection off, which is how a client learns that lines are missing.
                    Poll::Ready(Err(problem)) => {
                        return Poll::Ready(Some(Err(BrokenOff(problem))));
                    }
                },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefix_start_and_end_hold_together() {
        let query = Listing::parse(Some("prefix=a&start=ab&end=zz&limit=5000&order=desc"));
        let listing = query.unwrap();
        assert_eq!(
            listing.list.query,
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
        let first = Query::parse(Some("prefix=b&end=d"), LIST_PARAMETERS).unwrap();
        let cursor = Cursor {
            revision: Revision(7),
            range: KeyRange { start: "b".into(), end: Some("bx".into()) },
            descending: true,
            keys_only: true,
            bounds: Bounds::of(&first),
        };
        let encoded = cursor.encode();
        for same in ["", "&order=desc&revision=7&keys_only", "&prefix=b", "&prefix=b&start=&end=d"]
        {
            let listing = Listing::parse(Some(&format!("cursor={encoded}{same}"))).unwrap();
            let query = &listing.list.query;
            assert_eq!((&query.range, query.at), (&cursor.range, Some(Revision(7))), "{same}");
            assert!(query.descending && query.keys_only, "{same}");
            assert_eq!(listing.bounds, cursor.bounds, "{same}");
        }
        for (other, names) in [
            ("order=asc", "another order;"),
            ("revision=8", "another revision;"),
            ("keys_only=false", "another keys_only;"),
            ("prefix=", "another prefix;"),
            ("prefix=bb", "another prefix;"),
            ("start=b", "another start;"),
            ("end=", "another end;"),
            ("prefix=b&end=c&order=asc", "another end and another order;"),
        ] {
            let refused = Listing::parse(Some(&format!("{other}&cursor={encoded}"))).err().unwrap();
            assert_eq!(refused.kind(), Kind::InvalidParameter, "{other}");
            assert!(refused.detail().contains(names), "{other}: {}", refused.detail());
        }
        for broken in ["cursor=abc", "cursor="] {
            let refused = Listing::parse(Some(broken)).err().unwrap();
            assert_eq!(refused.kind(), Kind::InvalidCursor, "{broken}");
        }
    }

    #[test]
    fn an_empty_end_is_no_bound() {
        let listing = Listing::parse(Some("start=a&end=")).unwrap();
        assert_eq!(listing.list.query.range, KeyRange { start: "a".into(), end: None });
    }
}
