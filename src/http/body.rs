//! Reads request bodies: bounded each, bounded together and by address, and in bounded time.

use std::sync::Arc;
use std::time::Duration;

use axum::body::HttpBody;
use axum::http::HeaderMap;
use axum::http::header::CONTENT_LENGTH;
use axum::http::request::Parts;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};
use tokio::time::Instant;

use super::budget::{BodyBytes, Guest};
use super::error::{Kind, Problem};
use super::headers;
use crate::api::Limits;
use crate::server::Refusal;

/// What counts as a small body, in bytes.
const SMALL_BYTES: u64 = 4096;
/// How long a body waits for room before it is refused. Whoever asks again at once, as few should and many do, costs a
/// node little that way.
const WAIT_MAX: Duration = Duration::from_millis(500);

/// How bodies are read.
#[derive(Debug)]
pub(crate) struct Bodies {
    /// One permit for each byte that may be held.
    budget: Semaphore,
    /// How many those are when none is held: no body can be larger.
    budget_bytes: usize,
    /// The same for small ones, a quarter as much: large ones leave them room.
    small: Semaphore,
    /// The longest pause between two parts.
    pause_max: Duration,
    /// The longest time from a request's head to the end of its body.
    time_max: Duration,
    /// The least bytes a second, once a pause's time is over.
    rate_min: u64,
}

impl Bodies {
    pub(crate) fn new(limits: &Limits) -> Bodies {
        let bytes_max = limits.body_bytes_max.min(Semaphore::MAX_PERMITS);
        Bodies {
            budget: Semaphore::new(bytes_max),
            budget_bytes: bytes_max,
            small: Semaphore::new(bytes_max / 4),
            pause_max: limits.stall_max,
            time_max: limits.body_time_max,
            rate_min: limits.rate_min.max(1),
        }
    }

    /// Half of it all for one address.
    fn of_one_address(&self) -> BodyBytes {
        let half = |bytes: usize| Arc::new(Semaphore::new(bytes.div_ceil(2)));
        BodyBytes { small: half(self.budget_bytes / 4), large: half(self.budget_bytes) }
    }

    /// When a body that began then has to have more than so many bytes.
    fn due(&self, began: Instant, bytes: usize) -> Instant {
        let by_rate = Duration::from_millis((bytes as u64).saturating_mul(1000) / self.rate_min);
        let by_rate = began + self.pause_max.max(by_rate);
        by_rate.min(began + self.time_max)
    }
}

/// A body, and its share of the bytes that all bodies may hold, until it is dropped.
#[derive(Debug)]
pub(crate) struct Held<'a> {
    pub(crate) bytes: Bytes,
    _share: Option<Share<'a>>,
}

/// Room for a body: of its address, and of all.
#[derive(Debug)]
struct Share<'a> {
    own: Option<OwnedSemaphorePermit>,
    all: SemaphorePermit<'a>,
}

/// Where a body finds room.
struct Room<'a> {
    /// Of its address; none for a peer.
    own: Option<Arc<Semaphore>>,
    /// The most that it can have of that: one body alone may be larger.
    own_max: usize,
    all: &'a Semaphore,
}

/// The length that a request says its body has.
pub(crate) fn declared<B: HttpBody>(headers: &HeaderMap, body: &B) -> Option<u64> {
    headers
        .get(CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<u64>().ok())
        .or_else(|| body.size_hint().exact())
}

/// Reads a whole body of at most `bytes_max` bytes.
pub(crate) async fn read<'a, B>(
    head: &Parts,
    body: B,
    bytes_max: usize,
    bodies: &'a Bodies,
) -> Result<Held<'a>, Problem>
where
    B: HttpBody<Data = Bytes>,
{
    headers::refuse_encoding(&head.headers)?;
    let declared = declared(&head.headers, &body);
    let guest = Guest::of(&head.extensions);
    read_declared(declared, &guest, body, bytes_max, bodies).await
}

/// The same where the head is gone, which said that the body has so many bytes.
pub(crate) async fn read_declared<'a, B>(
    declared: Option<u64>,
    guest: &Guest,
    body: B,
    bytes_max: usize,
    bodies: &'a Bodies,
) -> Result<Held<'a>, Problem>
where
    B: HttpBody<Data = Bytes>,
{
    let too_large = || too_large(bytes_max, bodies);
    // What the cluster allows may be more than all the memory set aside here: waiting would not help.
    let bytes_max = bytes_max.min(bodies.budget_bytes);
    if declared.is_some_and(|declared| declared > bytes_max as u64) {
        return Err(too_large());
    }
    if declared == Some(0) {
        return Ok(Held { bytes: Bytes::new(), _share: None });
    }
    // The connection holds a body to what it declares.
    let is_small = declared.is_some_and(|declared| declared <= SMALL_BYTES);
    let own = guest.body_bytes(|| bodies.of_one_address());
    let room = match is_small {
        true => Room::new(own.map(|own| own.small), bodies.budget_bytes / 4, &bodies.small),
        false => Room::new(own.map(|own| own.large), bodies.budget_bytes, &bodies.budget),
    };
    let began = Instant::now();
    let mut body = std::pin::pin!(body);
    let mut bytes = BytesMut::new();
    let mut share: Option<Share<'a>> = None;
    loop {
        let now = Instant::now();
        let until = bodies.due(began, bytes.len()).min(now + bodies.pause_max);
        let Ok(frame) = tokio::time::timeout_at(until, body.frame()).await else {
            return Err(late(bodies, now - began));
        };
        let Some(frame) = frame else { break };
        let Ok(frame) = frame else {
            return Err(Problem::new(Kind::Malformed, "the body broke off before its end"));
        };
        let Ok(data) = frame.into_data() else { continue };
        if data.len() > bytes_max - bytes.len() {
            return Err(too_large());
        }
        if let Err(whose) = room.take(&mut share, data.len()).await {
            // Nothing is kept from others meanwhile.
            drop((share, bytes, data));
            tokio::time::sleep_until(began + WAIT_MAX).await;
            let detail =
                format!("bodies {whose} fill the memory set aside for them (limits.bodies)");
            return Err(Problem::new(Kind::TooBusy, detail).refused(Refusal::Bodies));
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

impl<'a> Room<'a> {
    fn new(own: Option<Arc<Semaphore>>, bytes_max: usize, all: &'a Semaphore) -> Room<'a> {
        Room { own, own_max: bytes_max.div_ceil(2), all }
    }

    /// Adds room for so many bytes more to what a body has, or says whose bodies left none. Only who has none yet waits for
    /// it: if all who have some waited, nobody would ever end.
    async fn take(&self, share: &mut Option<Share<'a>>, bytes: usize) -> Result<(), &'static str> {
        const OF_ADDRESS: &str = "of this address";
        const OF_OTHERS: &str = "of other requests";
        let count = |bytes: usize| u32::try_from(bytes).map_err(|_| OF_OTHERS);
        let Some(share) = share else {
            let mut whose = OF_ADDRESS;
            let wait = async {
                let own = match &self.own {
                    Some(own) => {
                        let bytes = count(bytes.min(self.own_max))?;
                        Some(own.clone().acquire_many_owned(bytes).await.map_err(|_| OF_ADDRESS)?)
                    }
                    None => None,
                };
                whose = OF_OTHERS;
                let all = self.all.acquire_many(count(bytes)?).await.map_err(|_| OF_OTHERS)?;
                Ok::<_, &str>(Share { own, all })
            };
            let waited = tokio::time::timeout(WAIT_MAX, wait).await;
            *share = Some(waited.map_err(|_| whose)??);
            return Ok(());
        };
        if let (Some(own), Some(has)) = (&self.own, &mut share.own) {
            let more = count(bytes.min(self.own_max.saturating_sub(has.num_permits())))?;
            has.merge(own.clone().try_acquire_many_owned(more).map_err(|_| OF_ADDRESS)?);
        }
        let more = self.all.try_acquire_many(count(bytes)?).map_err(|_| OF_OTHERS)?;
        share.all.merge(more);
        Ok(())
    }
}

fn too_large(bytes_max: usize, bodies: &Bodies) -> Problem {
    let detail = match bodies.budget_bytes {
        budget if budget < bytes_max => format!(
            "the body is larger than {budget} bytes, all that this node sets aside for bodies (limits.bodies); another \
             node may take it"
        ),
        _ => format!("the body is larger than {bytes_max} bytes"),
    };
    Problem::new(Kind::ValueTooLarge, detail)
}

fn late(bodies: &Bodies, after: Duration) -> Problem {
    let show = |time: Duration| humantime::format_duration(time);
    let after = show(Duration::from_secs(after.as_secs()));
    let detail = format!(
        "the body did not arrive in time, and was given up after {after}: no pause may be longer than {} \
         (http.stall), the rate no less than {} bytes a second after that (http.minRate), the whole no longer than {} \
         (http.body)",
        show(bodies.pause_max),
        bodies.rate_min,
        show(bodies.time_max)
    );
    Problem::new(Kind::BodyTimeout, detail)
}

/// The most bytes of a body that are read to be let go.
const DISCARDED_BYTES_MAX: usize = 64 << 10;
/// How long that may take.
const DISCARD_TIME_MAX: Duration = Duration::from_millis(500);

/// Reads a body to its end and keeps nothing of it, if it is small and soon there: a connection that is closed with some of a body
/// on its way loses the answer, too.
pub(super) async fn discard<B: HttpBody<Data = Bytes>>(body: B) {
    let mut body = std::pin::pin!(body);
    let mut bytes = 0;
    let read = async {
        while let Some(Ok(frame)) = body.as_mut().frame().await {
            bytes += frame.data_ref().map_or(0, Bytes::len);
            if bytes > DISCARDED_BYTES_MAX {
                break;
            }
        }
    };
    // Whoever takes longer finds the connection closed.
    let _ = tokio::time::timeout(DISCARD_TIME_MAX, read).await;
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use axum::body::Body;
    use futures_util::stream;
    use hyper::body::Frame;

    use super::*;

    fn bodies(bytes: usize) -> Bodies {
        Bodies {
            budget: Semaphore::new(bytes),
            budget_bytes: bytes,
            small: Semaphore::new(bytes / 4),
            pause_max: Duration::from_millis(200),
            time_max: Duration::from_millis(900),
            rate_min: 100,
        }
    }

    fn head(headers: HeaderMap) -> Parts {
        let mut head = axum::http::Request::new(()).into_parts().0;
        head.headers = headers;
        head
    }

    /// Of a peer.
    async fn read_declared<'a, B>(
        declared: Option<u64>,
        body: B,
        bytes_max: usize,
        bodies: &'a Bodies,
    ) -> Result<Held<'a>, Problem>
    where
        B: HttpBody<Data = Bytes>,
    {
        super::read_declared(declared, &Guest::default(), body, bytes_max, bodies).await
    }

    async fn read_all(body: Body, bytes_max: usize, budget: &Bodies) -> Result<Bytes, Kind> {
        let read = read(&head(HeaderMap::new()), body, bytes_max, budget).await;
        read.map(|held| held.bytes).map_err(|problem| problem.kind())
    }

    #[tokio::test]
    async fn the_limit_holds_declared_or_not() {
        let budget = bodies(100);
        assert_eq!(read_all(Body::from("12345"), 5, &budget).await, Ok("12345".into()));
        assert_eq!(read_all(Body::empty(), 5, &budget).await, Ok(Bytes::new()));
        assert_eq!(read_all(Body::from("123456"), 5, &budget).await, Err(Kind::ValueTooLarge));
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_LENGTH, 6.into());
        let declared = read(&head(headers), NeverEnding, 5, &budget).await;
        assert_eq!(declared.err().unwrap().kind(), Kind::ValueTooLarge);
        let left = [&budget.budget, &budget.small].map(Semaphore::available_permits);
        assert_eq!(left, [100, 25]);
    }

    #[tokio::test]
    async fn what_does_not_fit_into_all_the_budget_is_too_large_and_nobody_waits() {
        let budget = bodies(20);
        let read = |declared, bytes| {
            let body = Body::from("x".repeat(bytes));
            read_declared(declared, body, 100, &budget)
        };
        for declared in [None, Some(5000)] {
            let refused = read(declared, 21).await.unwrap_err();
            assert_eq!(refused.kind(), Kind::ValueTooLarge);
            assert!(refused.detail().contains("limits.bodies"), "{}", refused.detail());
        }
        assert_eq!(read(None, 20).await.unwrap().bytes.len(), 20);
    }

    #[tokio::test]
    async fn all_bodies_share_one_budget_but_for_small_ones() {
        let budget = bodies(20);
        let large = || read_declared(None, Body::from("x".repeat(15)), 20, &budget);
        let small = || read_declared(Some(5), Body::from("12345"), 20, &budget);
        let first = large().await.unwrap();
        assert_eq!(large().await.unwrap_err().kind(), Kind::TooBusy);
        let beside = small().await.unwrap();
        assert_eq!(small().await.unwrap_err().kind(), Kind::TooBusy);
        drop((first, beside));
        assert_eq!(large().await.unwrap().bytes.len(), 15);
        assert_eq!(small().await.unwrap().bytes, "12345");
    }

    #[tokio::test]
    async fn one_address_leaves_half_to_others_and_one_body_may_be_larger() {
        let budget = bodies(20);
        let (one, other) = (Guest::new(), Guest::new());
        let of = |guest: Guest, declared, length: usize| {
            let body = Body::from("x".repeat(length));
            let budget = &budget;
            async move { super::read_declared(declared, &guest, body, 20, budget).await }
        };
        let first = of(one.clone(), None, 8).await.unwrap();
        let refused = of(one.clone(), None, 8).await.unwrap_err();
        assert!(refused.detail().contains("of this address"), "{}", refused.detail());
        assert!(refused.detail().contains("limits.bodies"), "{}", refused.detail());
        let second = of(other.clone(), None, 10).await.unwrap();
        let refused = of(Guest::default(), None, 8).await.unwrap_err();
        assert!(refused.detail().contains("of other requests"), "{}", refused.detail());
        // Of small ones as well.
        let third = of(one.clone(), Some(3), 3).await.unwrap();
        assert_eq!(of(one.clone(), Some(1), 1).await.unwrap_err().kind(), Kind::TooBusy);
        drop((of(other.clone(), Some(2), 2).await.unwrap(), third, second, first));
        let parts = [15, 5].map(|length| Ok::<_, Infallible>(Bytes::from("x".repeat(length))));
        let body = Body::from_stream(stream::iter(parts));
        let whole = super::read_declared(None, &one, body, 20, &budget).await.unwrap();
        assert_eq!(whole.bytes.len(), 20);
        drop(whole);
        let own = one.body_bytes(|| panic!("it has some")).unwrap();
        let left = [&*own.large, &*own.small, &budget.budget, &budget.small];
        assert_eq!(left.map(Semaphore::available_permits), [10, 3, 20, 5]);
    }

    #[tokio::test]
    async fn who_has_nothing_waits_for_room_and_who_has_some_gives_it_up() {
        let budget = bodies(20);
        let large = |length| read_declared(None, Body::from("x".repeat(length)), 20, &budget);
        let first = large(15).await.unwrap();
        let second = large(15);
        tokio::pin!(second);
        let waits = tokio::time::timeout(WAIT_MAX / 2, &mut second).await;
        assert!(waits.is_err(), "it does not wait");
        drop(first);
        drop(second.await.unwrap());
        // One that needs more than there is keeps nothing while it waits to be told so.
        let parts = ["12345", "123456789012345"].map(|part| Ok::<_, Infallible>(Bytes::from(part)));
        let beside = large(10).await.unwrap();
        let third = read_declared(None, Body::from_stream(stream::iter(parts)), 20, &budget);
        tokio::pin!(third);
        assert!(tokio::time::timeout(WAIT_MAX / 2, &mut third).await.is_err());
        assert_eq!(budget.budget.available_permits(), 10);
        assert_eq!(third.await.unwrap_err().kind(), Kind::TooBusy);
        drop(beside);
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

    /// A byte comes every so often.
    struct Drip(tokio::time::Interval);

    impl HttpBody for Drip {
        type Data = Bytes;
        type Error = std::convert::Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
            self.0.poll_tick(context).map(|_| Some(Ok(Frame::data(Bytes::from_static(b"x")))))
        }
    }

    #[tokio::test]
    async fn bodies_that_do_not_come_or_drip_are_given_up() {
        let budget = bodies(1000);
        // None after the first; a fifth of the rate; enough, but for ever.
        for (every, millis) in [(60_000, 200), (50, 200), (2, 900)] {
            let drip = Drip(tokio::time::interval(Duration::from_millis(every)));
            let began = Instant::now();
            let result = read_declared(None, drip, 1000, &budget).await;
            assert_eq!(result.unwrap_err().kind(), Kind::BodyTimeout);
            assert!(began.elapsed() >= Duration::from_millis(millis), "{every}");
        }
        assert_eq!(budget.budget.available_permits(), 1000);
    }
}
