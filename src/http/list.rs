//! `/v1/kv`: listings and range deletes.

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
use super::cursor::Cursor;
use super::error::{Kind, Problem};
use super::query::Query;
use super::{Api, headers, key};
use crate::api::{
    DeletedJson, Freshness, ItemJson, List, PAGE_BYTES_MAX, PAGE_ITEMS_MAX, PageJson, item_bytes,
};
use crate::kv::{DELETED_PER_KEY_MAX, KeyRange, Outcome, Page, RangeQuery, Revision, Write};
use crate::server::Handle;

/// As [`PAGE_BYTES_MAX`], for the parts that a streamed listing is read in.
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
const DELETE_PARAMETERS: &[&str] = &["prefix", "start", "end", "atomic"];
pub(super) const NDJSON: &str = "application/x-ndjson";

/// What a request for a listing asks for.
struct Listing {
    list: List,
    /// As the client gave it; none: as many as a page or the stream holds.
    limit: Option<usize>,
}

/// The range that `prefix`, `start` and `end` name together.
fn range(query: &Query) -> KeyRange {
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
        let Freshness { consistency, min_revision, .. } = freshness;
        Ok(Listing { list: List { query, consistency, min_revision }, limit })
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
    // There may be many who wait, and a head may be large.
    drop(request);
    if streamed {
        listing.list.query.bytes_max = STREAM_PART_BYTES_MAX;
        // All of it is read here: a stream has no bound, and an answer between nodes has.
        api.handle.reach(listing.list.freshness(), deadline).await?;
        return stream(&api, listing, timeout, guest).await;
    }
    let limit = listing.limit;
    let keep = listing.list.query.clone();
    let read = api.handle.list(listing.list, deadline, move |mut page| {
        let bytes = cut(&mut page, &keep, PAGE_BYTES_MAX);
        let next = Cursor::after(&keep, &page).map(|cursor| cursor.encode());
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
    let rest = match Cursor::after(query, &page) {
        Some(cursor) if left != Some(0) => {
            let query =
                RangeQuery { range: cursor.range, at: Some(cursor.revision), ..query.clone() };
            Some((query, left))
        }
        _ => None,
    };
    Part { revision: page.revision, bytes: bytes.into(), rest }
}

/// What reads the parts of one stream.
#[derive(Clone)]
struct Source {
    handle: Handle,
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
        let read = self.handle.range(query, deadline, move |page| part(&keep, left, page));
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
    listing: Listing,
    timeout: Duration,
    guest: Guest,
) -> Result<Response, Problem> {
    let (handle, answers) = (api.handle.clone(), api.answers.clone());
    let source = Source { handle, answers, guest, timeout };
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

/// `DELETE /v1/kv`.
pub(super) async fn delete(
    State(api): State<Arc<Api>>,
    request: Request,
) -> Result<Response, Problem> {
    let (range, in_steps) = deletion(request.uri().query())?;
    headers::refuse_idempotency_key(request.headers())?;
    for name in ["if-match", "if-none-match"] {
        if request.headers().contains_key(name) {
            let detail = format!("{name} is about one key; a range delete cannot be conditional");
            return Err(Problem::new(Kind::InvalidHeader, detail));
        }
    }
    let deadline = headers::deadline(request.headers())?;
    drop(request);
    if in_steps {
        return delete_in_steps(&api, range, deadline).await;
    }
    let keys_max = api.handle.limits().delete_keys_max;
    let write = Write::DeleteUpTo { range, keys_max, in_steps };
    let reply = api.handle.write(write, deadline).await?;
    match reply.outcome {
        Outcome::Deleted { count } => {
            Ok(deleted(DeletedJson { deleted: count, revision: reply.revision, steps: None }))
        }
        Outcome::TooManyKeys => Err(too_many(keys_max).at(reply.revision)),
        other => Err(key::unexpected(other, reply.revision)),
    }
}

fn too_many(keys_max: u64) -> Problem {
    let detail = format!(
        "the range holds more than {keys_max} keys (limits.deleteKeys), or {DELETED_PER_KEY_MAX} times as many with \
         those that were deleted and are not swept yet, the most that one revision deletes; ?atomic=false deletes them in steps, each a \
         revision of its own, and smaller ranges go one by one"
    );
    Problem::new(Kind::TooManyKeys, detail)
}

fn deleted(done: DeletedJson) -> Response {
    // Serializing plain data into memory cannot fail.
    json_response(done.revision, serde_json::to_vec(&done).unwrap_or_default())
}

/// Deletes a range a bounded step at a time. What goes wrong after the first says how far it came.
async fn delete_in_steps(
    api: &Api,
    mut range: KeyRange,
    deadline: Instant,
) -> Result<Response, Problem> {
    let keys_max = api.handle.limits().delete_keys_max;
    let mut done = DeletedJson { deleted: 0, revision: Revision(0), steps: Some(0) };
    loop {
        let write = Write::DeleteUpTo { range: range.clone(), keys_max, in_steps: true };
        let reply = api.handle.write(write, deadline).await;
        let so_far = |problem: Problem| match done.deleted {
            0 => problem,
            deleted => {
                let steps = done.steps.unwrap_or_default();
                problem.after(&format!("{deleted} keys were deleted before, in {steps} steps"))
            }
        };
        let reply = reply.map_err(|error| so_far(error.into()))?;
        let (count, next) = match reply.outcome {
            Outcome::DeletedInPart { count, next } => (count, next),
            other => return Err(so_far(key::unexpected(other, reply.revision))),
        };
        done.deleted += count;
        done.revision = reply.revision;
        done.steps = done.steps.map(|steps| steps + u64::from(count > 0));
        match next {
            None => return Ok(deleted(done)),
            Some(next) => range.start = next,
        }
        if Instant::now() >= deadline {
            let problem = Problem::new(
                Kind::OutcomeUnknown,
                "the deadline passed before the end of the range",
            );
            let steps = done.steps.unwrap_or_default();
            return Err(
                problem.after(&format!("{} keys were deleted, in {steps} steps", done.deleted))
            );
        }
    }
}

/// The range to delete, and whether that may take several revisions.
fn deletion(raw: Option<&str>) -> Result<(KeyRange, bool), Problem> {
    let query = Query::parse(raw, DELETE_PARAMETERS)?;
    // An unset shell variable in `?start=a&end=$E` must not delete all that follows.
    if query.bytes("end").is_some_and(|end| end.is_empty()) {
        let detail = "end is empty; leave it out to delete to the end of the keys";
        return Err(Problem::new(Kind::InvalidParameter, detail));
    }
    let range = range(&query);
    // Nor one in `?prefix=$P` empty the store.
    if range.start.is_empty() && range.end.is_none() {
        return Err(Problem::new(
            Kind::InvalidParameter,
            "a range delete needs a prefix, start or end that is not empty; \
             start=%00 deletes every key",
        ));
    }
    Ok((range, query.flag("atomic")? == Some(false)))
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
        let cursor = Cursor {
            revision: Revision(7),
            range: KeyRange { start: "b".into(), end: Some("d".into()) },
            descending: true,
            keys_only: true,
        };
        let encoded = cursor.encode();
        let listing = Listing::parse(Some(&format!("cursor={encoded}"))).unwrap();
        assert_eq!(listing.list.query.range, cursor.range);
        assert_eq!(listing.list.query.at, Some(Revision(7)));
        assert!(listing.list.query.descending && listing.list.query.keys_only);
        let same = format!("cursor={encoded}&order=desc&revision=7&prefix=c&keys_only=false");
        let listing = Listing::parse(Some(&same)).unwrap();
        assert_eq!(listing.list.query.range, KeyRange { start: "c".into(), end: Some("d".into()) });
        assert!(!listing.list.query.keys_only);
        assert_eq!(kind(&format!("cursor={encoded}&order=asc")), Kind::InvalidCursor);
        assert_eq!(kind(&format!("cursor={encoded}&revision=8")), Kind::InvalidCursor);
        assert_eq!(kind("cursor=abc"), Kind::InvalidCursor);
        assert_eq!(kind("cursor="), Kind::InvalidCursor);
    }

    #[test]
    fn a_range_delete_needs_a_range() {
        for raw in [None, Some(""), Some("prefix="), Some("start="), Some("prefix=%ff&start=")] {
            let result = deletion(raw);
            let names_a_range = raw == Some("prefix=%ff&start=");
            assert_eq!(result.is_ok(), names_a_range, "{raw:?}");
        }
        assert!(deletion(Some("start=%00")).is_ok());
        assert!(deletion(Some("end=m")).is_ok());
        assert!(deletion(Some("start=a&end=")).is_err());
        assert!(!deletion(Some("prefix=a&atomic=true")).unwrap().1);
        assert!(deletion(Some("prefix=a&atomic=false")).unwrap().1);
        let listing = Listing::parse(Some("start=a&end=")).unwrap();
        assert_eq!(listing.list.query.range, KeyRange { start: "a".into(), end: None });
        assert!(deletion(Some("limit=1")).is_err());
    }
}
