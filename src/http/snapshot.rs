//! `GET /v1/snapshot`: a backup as a stream.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::body::{Body, HttpBody};
use axum::extract::{Request, State};
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE, TRAILER};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::Response;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use hyper::body::Frame;
use tokio::sync::mpsc;

use super::error::{Kind, Problem};
use super::query::Query;
use super::{Api, headers};
use crate::api::{DIGEST_TRAILER, Error, digest_field};
use crate::store::{BackupReader, Sha256};

/// About how many bytes are read at once.
const PART_BYTES: usize = 1 << 20;
/// How long reading one may take.
const PART_TIME_MAX: Duration = Duration::from_secs(60);
/// The most parts that wait between the disk and the connection.
const PARTS_MAX: usize = 2;

/// `GET /v1/snapshot`.
pub(super) async fn snapshot(
    State(api): State<Arc<Api>>,
    request: Request,
) -> Result<Response, Problem> {
    Query::parse(request.uri().query(), &[])?;
    let deadline = headers::deadline(request.headers())?;
    drop(request);
    let limits = api.handle.limits();
    let Ok(place) = Arc::clone(&api.backups).try_acquire_owned() else {
        let backups = limits.backups_max;
        let detail =
            format!("{backups} backups are under way, the most at a time (limits.backups)");
        return Err(Problem::new(Kind::TooBusy, detail));
    };
    let reader = api.handle.backup(deadline).await?;
    let revision = reader.revision();
    let bounds = Bounds {
        stall_max: limits.stall_max,
        rate_min: limits.backup_rate_min,
        growth_max: limits.backup_growth_max,
    };
    let (parts, next) = mpsc::channel(PARTS_MAX);
    let stopping = api.stopping.clone();
    tokio::spawn(async move {
        let handle = api.handle.clone();
        let step = |mut reader: BackupReader| -> Step {
            let handle = handle.clone();
            Box::pin(async move {
                let read = move || {
                    let part = reader.next_part(PART_BYTES);
                    (reader, part)
                };
                let deadline = Instant::now() + PART_TIME_MAX;
                let (reader, part) = handle.read_apart(deadline, read).await?;
                Ok((reader, part.map_err(|error| handle.damaged(error))?))
            })
        };
        tokio::select! {
            () = read(reader, &parts, bounds, step, || handle.state_bytes()) => {}
            // The stream breaks off: a node that stops waits for no backup.
            () = stopping.cancelled() => {}
        }
        drop(place);
    });
    let mut response = Response::new(Body::new(Parts { next, ended: false }));
    let fields = response.headers_mut();
    fields.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    fields.insert(TRAILER, HeaderValue::from_static(DIGEST_TRAILER));
    fields.insert(&headers::REVISION, HeaderValue::from(revision.0));
    let name = format!("attachment; filename=\"konsen-{revision}.backup\"");
    if let Ok(name) = HeaderValue::try_from(name) {
        fields.insert(CONTENT_DISPOSITION, name);
    }
    Ok(response)
}

enum Part {
    Bytes(Bytes),
    /// All was given out.
    Digest(Sha256),
}

/// Reads a part.
type Step = BoxFuture<'static, Result<(BackupReader, Option<Vec<u8>>), Error>>;

/// What a backup may ask of the node: meanwhile the state's file keeps everything that it still needs.
#[derive(Clone, Copy)]
struct Bounds {
    /// How long its client may take nothing.
    stall_max: Duration,
    /// The least bytes a second that it takes, once it has been waited for so long.
    rate_min: u64,
    /// How many bytes the file may grow.
    growth_max: u64,
}

/// Reads the backup as fast as the client takes it, within the bounds. `step` reads a part, `size` tells the file's size.
async fn read(
    mut reader: BackupReader,
    parts: &mpsc::Sender<Result<Part, Error>>,
    bounds: Bounds,
    step: impl Fn(BackupReader) -> Step,
    size: impl Fn() -> u64,
) {
    let size_max = size().saturating_add(bounds.growth_max);
    let (mut waited, mut bytes) = (Duration::ZERO, 0_u64);
    loop {
        let part;
        (reader, part) = match step(reader).await {
            Ok(read) => read,
            Err(error) => {
                let _ = parts.send(Err(error)).await;
                return;
            }
        };
        let length = part.as_ref().map_or(0, Vec::len) as u64;
        let part = match part {
            Some(bytes) => Ok(Part::Bytes(bytes.into())),
            None => reader.digest().map(Part::Digest).ok_or(Error::Storage),
        };
        let ends = !matches!(part, Ok(Part::Bytes(_)));
        let began = Instant::now();
        match tokio::time::timeout(bounds.stall_max, parts.send(part)).await {
            Ok(Ok(())) if !ends => {}
            // Whoever asked has it all, or has gone.
            Ok(_) => return,
            Err(_) => {
                tracing::warn!(stall = ?bounds.stall_max, "a backup was given up: its client took nothing for so long");
                return;
            }
        }
        waited += began.elapsed();
        bytes += length;
        let due = u128::from(bounds.rate_min).saturating_mul(waited.as_millis()) / 1000;
        if waited > bounds.stall_max && u128::from(bytes) < due {
            tracing::warn!(
                bytes,
                ?waited,
                "a backup was given up: its client took too little (http.backupRate)"
            );
            return;
        }
        if size() > size_max {
            let growth = bounds.growth_max;
            tracing::warn!(
                growth,
                "a backup was given up: the state's file has grown by so much (limits.backupGrowth)"
            );
            return;
        }
    }
}

/// The body: its end is an error but for after the digest, so that no client takes a part for the whole.
struct Parts {
    next: mpsc::Receiver<Result<Part, Error>>,
    ended: bool,
}

impl HttpBody for Parts {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let next = std::task::ready!(self.next.poll_recv(context));
        self.ended = !matches!(next, Some(Ok(Part::Bytes(_))));
        Poll::Ready(Some(match next {
            Some(Ok(Part::Bytes(bytes))) => Ok(Frame::data(bytes)),
            Some(Ok(Part::Digest(digest))) => {
                let mut trailers = HeaderMap::new();
                if let Ok(value) = HeaderValue::try_from(digest_field(&digest.0)) {
                    trailers.insert(HeaderName::from_static(DIGEST_TRAILER), value);
                }
                Ok(Frame::trailers(trailers))
            }
            Some(Err(error)) => Err(error),
            None => Err(Error::ShuttingDown),
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use http_body_util::BodyExt;

    use super::*;
    use crate::store::{self, BackupCheck, Origin, StateOptions};

    fn reader(state: &store::State) -> BackupReader {
        let text = String::new;
        state.backup(Origin { konsen: text(), cluster: text(), node: text(), created: text() })
    }

    fn state() -> (tempfile::TempDir, store::State) {
        let dir = tempfile::tempdir().unwrap();
        let options = StateOptions::default();
        let state = store::State::open(&dir.path().join("state"), None, &options).unwrap();
        (dir, state)
    }

    const BOUNDS: Bounds =
        Bounds { stall_max: Duration::from_millis(200), rate_min: 1 << 20, growth_max: 100 };

    fn step(mut reader: BackupReader) -> Step {
        let part = reader.next_part(100).unwrap();
        Box::pin(async move { Ok((reader, part)) })
    }

    #[tokio::test]
    async fn a_client_that_stalls_is_given_up_and_learns_that_the_rest_is_missing() {
        let (_dir, state) = state();
        let (parts, next) = mpsc::channel(1);
        // Nobody takes a part meanwhile.
        let bounds = Bounds { stall_max: Duration::from_millis(20), ..BOUNDS };
        read(reader(&state), &parts, bounds, step, || 0).await;
        drop(parts);
        let body = Parts { next, ended: false }.collect().await;
        assert!(body.is_err());
    }

    #[tokio::test]
    async fn a_slow_client_is_given_up_and_so_is_one_for_whom_the_file_grows() {
        let (_dir, state) = state();
        for (slow, grows) in [(true, false), (false, true), (false, false)] {
            let (parts, mut next) = mpsc::channel(1);
            let size = std::cell::Cell::new(7);
            let size = || {
                size.set(size.get() + if grows { 60 } else { 0 });
                size.get()
            };
            let takes = async {
                let mut ended = false;
                while let Some(part) = next.recv().await {
                    ended = matches!(part, Ok(Part::Digest(_)));
                    if slow {
                        tokio::time::sleep(Duration::from_millis(150)).await;
                    }
                }
                ended
            };
            let reads = async {
                let parts = parts;
                read(reader(&state), &parts, BOUNDS, step, size).await;
            };
            let ((), ended) = tokio::join!(reads, takes);
            assert_eq!(ended, !slow && !grows);
        }
    }

    #[tokio::test]
    async fn all_that_is_read_comes_with_the_digest_at_its_end() {
        let (_dir, state) = state();
        let (parts, next) = mpsc::channel(PARTS_MAX);
        let body = Parts { next, ended: false };
        let ((), body) =
            tokio::join!(read(reader(&state), &parts, BOUNDS, step, || 0), body.collect());
        let body = body.unwrap();
        let said = body.trailers().unwrap()[DIGEST_TRAILER].to_str().unwrap().to_owned();
        let mut check = BackupCheck::default();
        // It is of no member of a cluster: the bytes are whole, and no backup.
        let bytes = body.to_bytes();
        assert!(check.feed(&bytes).unwrap_err().to_string().contains("names no members"));
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &bytes);
        assert_eq!(said, format!("sha-256=:{}:", STANDARD.encode(digest)));
    }
}
