//! Reads request bodies: bounded each, bounded together, and in bounded time.

use std::time::Duration;

use axum::body::HttpBody;
use axum::http::HeaderMap;
use axum::http::header::CONTENT_LENGTH;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use tokio::sync::{Semaphore, SemaphorePermit, TryAcquireError};

use super::error::{Kind, Problem};

/// The longest pause between two parts of a body.
pub const PAUSE_MAX: Duration = Duration::from_secs(10);
/// The longest time from a request's head to the end of its body.
pub const BODY_TIME_MAX: Duration = Duration::from_secs(60);

/// A body, and its share of the bytes that all bodies may hold, until it is dropped.
pub(crate) struct Held<'a> {
    pub(crate) bytes: Bytes,
    _share: Option<SemaphorePermit<'a>>,
}

/// Reads a whole body of at most `bytes_max` bytes.
pub(crate) async fn read<'a, B>(
    headers: &HeaderMap,
    body: B,
    bytes_max: usize,
    budget: &'a Semaphore,
) -> Result<Held<'a>, Problem>
where
    B: HttpBody<Data = Bytes>,
{
    let declared = headers
        .get(CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<u64>().ok())
        .or_else(|| body.size_hint().exact());
    if declared.is_some_and(|declared| declared > bytes_max as u64) {
        return Err(too_large(bytes_max));
    }
    if declared == Some(0) {
        return Ok(Held { bytes: Bytes::new(), _share: None });
    }
    match tokio::time::timeout(BODY_TIME_MAX, collect(body, declared, bytes_max, PAUSE_MAX, budget))
        .await
    {
        Ok(held) => held,
        Err(_) => Err(late(BODY_TIME_MAX)),
    }
}

async fn collect<'a, B>(
    body: B,
    declared: Option<u64>,
    bytes_max: usize,
    pause_max: Duration,
    budget: &'a Semaphore,
) -> Result<Held<'a>, Problem>
where
    B: HttpBody<Data = Bytes>,
{
    let mut body = std::pin::pin!(body);
    let mut bytes = BytesMut::new();
    let mut share: Option<SemaphorePermit<'a>> = None;
    loop {
        let Ok(frame) = tokio::time::timeout(pause_max, body.frame()).await else {
            return Err(late(pause_max));
        };
        let Some(frame) = frame else { break };
        let Ok(frame) = frame else {
            return Err(Problem::new(Kind::Malformed, "the body broke off before its end"));
        };
        let Ok(data) = frame.into_data() else { continue };
        if data.len() > bytes_max - bytes.len() {
            return Err(too_large(bytes_max));
        }
        let more = take(budget, data.len())?;
        match &mut share {
            Some(share) => share.merge(more),
            None => share = Some(more),
        }
        if bytes.is_empty() {
            // A size that the client merely declares is not reserved beyond a modest part.
            let expected = declared.unwrap_or_default().min(64 * 1024) as usize;
            bytes.reserve(expected.max(data.len()));
        }
        // Copied, because the data is a view into the connection's much larger read buffer, which
        // a stored value would keep alive.
        bytes.extend_from_slice(&data);
    }
    Ok(Held { bytes: bytes.freeze(), _share: share })
}

fn take(budget: &Semaphore, bytes: usize) -> Result<SemaphorePermit<'_>, Problem> {
    let busy = || {
        Problem::new(
            Kind::TooBusy,
            "the bodies of other requests fill the memory set aside for them",
        )
    };
    let bytes = u32::try_from(bytes).map_err(|_| busy())?;
    budget.try_acquire_many(bytes).map_err(|error| match error {
        TryAcquireError::NoPermits | TryAcquireError::Closed => busy(),
    })
}

fn too_large(bytes_max: usize) -> Problem {
    Problem::new(Kind::ValueTooLarge, format!("the body is larger than {bytes_max} bytes"))
}

fn late(limit: Duration) -> Problem {
    let limit = humantime::format_duration(limit);
    Problem::new(Kind::BodyTimeout, format!("the body did not arrive within {limit}"))
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    async fn read_all(body: Body, bytes_max: usize, budget: &Semaphore) -> Result<Bytes, Kind> {
        let read = read(&HeaderMap::new(), body, bytes_max, budget).await;
        read.map(|held| held.bytes).map_err(|problem| problem.kind())
    }

    #[tokio::test]
    async fn the_limit_holds_declared_or_not() {
        let budget = Semaphore::new(100);
        assert_eq!(read_all(Body::from("12345"), 5, &budget).await, Ok("12345".into()));
        assert_eq!(read_all(Body::empty(), 5, &budget).await, Ok(Bytes::new()));
        assert_eq!(read_all(Body::from("123456"), 5, &budget).await, Err(Kind::ValueTooLarge));
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_LENGTH, 6.into());
        let declared = read(&headers, NeverEnding, 5, &budget).await;
        assert_eq!(declared.err().unwrap().kind(), Kind::ValueTooLarge);
        assert_eq!(budget.available_permits(), 100);
    }

    #[tokio::test]
    async fn all_bodies_share_one_budget() {
        let budget = Semaphore::new(8);
        let headers = HeaderMap::new();
        let first = read(&headers, Body::from("12345"), 10, &budget).await.unwrap();
        assert_eq!(read_all(Body::from("12345"), 10, &budget).await, Err(Kind::TooBusy));
        drop(first);
        assert_eq!(read_all(Body::from("12345"), 10, &budget).await, Ok("12345".into()));
    }

    /// A body of which nothing ever comes.
    struct NeverEnding;

    impl HttpBody for NeverEnding {
        type Data = Bytes;
        type Error = std::convert::Infallible;

        fn poll_frame(
            self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<hyper::body::Frame<Bytes>, Self::Error>>> {
            std::task::Poll::Pending
        }
    }

    #[tokio::test]
    async fn a_body_that_never_comes_is_given_up() {
        let budget = Semaphore::new(8);
        let result = collect(NeverEnding, None, 5, Duration::from_millis(1), &budget).await;
        assert_eq!(result.err().unwrap().kind(), Kind::BodyTimeout);
    }
}
