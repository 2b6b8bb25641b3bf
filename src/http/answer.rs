//! Answers on their way to a client, in small parts, and what is known of how it takes them.
//!
//! A library that speaks HTTP takes a part of a body when it can, and knows no more of its memory. So large answers are
//! given to it a piece at a time, and the rest lies here, where it can be dropped if the client takes none.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::body::{Body, HttpBody};
use bytes::{Buf, Bytes};
use hyper::body::{Frame, SizeHint};
use parking_lot::Mutex;

use super::budget::Answers;
use super::watch::{InFlight, Taken};

/// The most bytes that are handed over at once over HTTP/1. What is not sent of them stays in memory.
const PIECE_BYTES: usize = 64 << 10;
/// The same over HTTP/2, where a client may keep each of its streams waiting.
const HTTP2_PIECE_BYTES: usize = 16 << 10;

/// One answer.
#[derive(Debug)]
pub(super) struct Answer(Mutex<State>);

#[derive(Debug)]
struct State {
    /// None at its end.
    body: Option<Body>,
    /// What came from the body and was not handed over.
    rest: Bytes,
    /// Since when the last piece has been on its way.
    sending_since: Option<Instant>,
    /// How long pieces were, before that one.
    sending: Duration,
    bytes: u64,
    /// It was given up.
    dropped: bool,
    /// Nobody asks any more.
    over: bool,
}

impl Taken for Answer {
    fn is_over(&self) -> bool {
        self.0.lock().over
    }

    fn stalls(&self, stall_max: Duration, rate_min: u64) -> bool {
        let mut state = self.0.lock();
        let Some(since) = state.sending_since.filter(|_| !state.over) else { return false };
        let waits = since.elapsed();
        let all = state.sending + waits;
        let due = u128::from(rate_min).saturating_mul(all.as_millis()) / 1000;
        let stalls = waits > stall_max || (all > stall_max && u128::from(state.bytes) < due);
        if stalls {
            state.dropped = true;
            let left = (state.body.take(), std::mem::take(&mut state.rest));
            drop(state);
            drop(left);
        }
        stalls
    }
}

/// The body of an answer, as it is handed over.
pub(super) struct Metered {
    answer: Arc<Answer>,
    is_http2: bool,
    answers: Answers,
    /// The request is under way until its answer is given.
    in_flight: InFlight,
}

/// The client did not take the answer.
#[derive(Debug, thiserror::Error)]
#[error("the client took the answer too slowly")]
struct TakenTooSlowly;

impl Metered {
    pub(super) fn new(
        body: Body,
        is_http2: bool,
        answers: Answers,
        in_flight: InFlight,
    ) -> Metered {
        let answer = Arc::new(Answer(Mutex::new(State {
            body: Some(body),
            rest: Bytes::new(),
            sending_since: None,
            sending: Duration::ZERO,
            bytes: 0,
            dropped: false,
            over: false,
        })));
        in_flight.clock().answer(answer.clone());
        Metered { answer, is_http2, answers, in_flight }
    }

    /// The next piece of what there is.
    fn piece(&self, state: &mut State) -> Bytes {
        let most = if self.is_http2 { HTTP2_PIECE_BYTES } else { PIECE_BYTES };
        let piece = match state.rest.len() {
            length if length <= most => std::mem::take(&mut state.rest),
            // A copy, which does not keep all of it.
            _ if self.is_http2 => {
                let piece = Bytes::copy_from_slice(&state.rest[..most]);
                state.rest.advance(most);
                self.answers.hold_anyway(piece)
            }
            _ => state.rest.split_to(most),
        };
        state.bytes += piece.len() as u64;
        state.sending_since = Some(Instant::now());
        piece
    }
}

impl HttpBody for Metered {
    type Data = Bytes;
    type Error = axum::BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let mut state = self.answer.0.lock();
        if let Some(since) = state.sending_since.take() {
            state.sending += since.elapsed();
        }
        loop {
            if state.dropped {
                self.in_flight.clock().abort_http1();
                return Poll::Ready(Some(Err(TakenTooSlowly.into())));
            }
            if !state.rest.is_empty() {
                let piece = self.piece(&mut state);
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
            let Some(body) = &mut state.body else { return Poll::Ready(None) };
            match std::task::ready!(Pin::new(body).poll_frame(context)) {
                None => {
                    state.body = None;
                    return Poll::Ready(None);
                }
                Some(Err(error)) => {
                    state.body = None;
                    self.in_flight.clock().abort_http1();
                    return Poll::Ready(Some(Err(error.into())));
                }
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => state.rest = data,
                    Err(other) => return Poll::Ready(Some(Ok(other))),
                },
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        let state = self.answer.0.lock();
        let ended = state.body.as_ref().is_none_or(HttpBody::is_end_stream);
        ended && state.rest.is_empty() && !state.dropped
    }

    fn size_hint(&self) -> SizeHint {
        let state = self.answer.0.lock();
        let mut hint = state.body.as_ref().map(HttpBody::size_hint).unwrap_or_default();
        let rest = state.rest.len() as u64;
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper.saturating_add(rest));
        }
        hint.set_lower(hint.lower().saturating_add(rest));
        hint
    }
}

impl Drop for Metered {
    fn drop(&mut self) {
        let mut state = self.answer.0.lock();
        state.over = true;
        let left = (state.body.take(), std::mem::take(&mut state.rest));
        drop(state);
        drop(left);
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::super::budget::Guest;
    use super::super::watch::Clock;
    use super::*;

    fn metered(answers: &Answers, length: usize, is_http2: bool) -> Metered {
        let bytes = answers.hold(&Guest::new(), Bytes::from(vec![b'x'; length])).unwrap();
        Metered::new(Body::from(bytes), is_http2, answers.clone(), Clock::new().request())
    }

    #[tokio::test]
    async fn an_answer_comes_whole_in_pieces() {
        let answers = Answers::new(1 << 20);
        for (is_http2, most) in [(false, PIECE_BYTES), (true, HTTP2_PIECE_BYTES)] {
            let mut body = metered(&answers, 200_000, is_http2);
            assert_eq!(body.size_hint().exact(), Some(200_000));
            let mut length = 0;
            while let Some(frame) = body.frame().await {
                let data = frame.unwrap().into_data().unwrap();
                assert!(data.len() <= most);
                length += data.len();
                assert_eq!(body.size_hint().exact(), Some(200_000 - length as u64));
            }
            assert_eq!(length, 200_000);
            assert!(body.is_end_stream());
            drop(body);
            assert_eq!(answers.used(), 0);
        }
    }

    #[tokio::test]
    async fn an_answer_that_is_not_taken_is_dropped() {
        let answers = Answers::new(1 << 20);
        let mut body = metered(&answers, 200_000, true);
        let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
        let answer = body.answer.clone();
        assert!(!answer.stalls(Duration::from_secs(9), 1));
        std::thread::sleep(Duration::from_millis(2));
        assert!(answer.stalls(Duration::from_millis(1), 0));
        assert_eq!(answers.used(), first.len());
        assert!(body.frame().await.unwrap().is_err());
        drop((first, body));
        assert!(answer.is_over());
        assert_eq!(answers.used(), 0);
    }
}
