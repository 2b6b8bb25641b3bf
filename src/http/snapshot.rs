//! `GET /v1/snapshot`: a backup as a stream.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::extract::{Request, State};
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE, TRAILER};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hyper::body::Frame;
use tokio::sync::mpsc;

use super::error::{Kind, Problem};
use super::query::Query;
use super::{Api, headers};
use crate::server::Error;
use crate::store::{BackupReader, Sha256, StoreError};

/// The most backups at a time.
pub const BACKUPS_MAX: usize = 2;
/// How long a client may take nothing before its backup is given up: meanwhile the state's file keeps
/// everything that the backup still needs.
pub const STALL_MAX: Duration = Duration::from_secs(60);
/// The trailer with the digest over the whole file (RFC 9530).
pub const DIGEST_TRAILER: &str = "repr-digest";

/// About how many bytes are read at once.
const PART_BYTES: usize = 1 << 20;
/// The most parts that wait between the disk and the connection.
const PARTS_MAX: usize = 2;

/// A digest as the trailer states it.
pub fn digest_field(digest: &Sha256) -> String {
    format!("sha-256=:{}:", STANDARD.encode(digest.0))
}

/// `GET /v1/snapshot`.
pub(super) async fn snapshot(
    State(api): State<Arc<Api>>,
    request: Request,
) -> Result<Response, Problem> {
    Query::parse(request.uri().query(), &[])?;
    let deadline = headers::deadline(request.headers())?;
    let Ok(place) = Arc::clone(&api.backups).try_acquire_owned() else {
        let detail = format!("{BACKUPS_MAX} backups are under way, the most at a time");
        return Err(Problem::new(Kind::TooBusy, detail));
    };
    let reader = api.handle.backup(deadline).await?;
    let revision = reader.revision();
    let (parts, next) = mpsc::channel(PARTS_MAX);
    let stopping = api.stopping.clone();
    tokio::spawn(async move {
        tokio::select! {
            () = read(reader, &parts, STALL_MAX, |error| api.handle.damaged(error)) => {}
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

/// Reads the backup as fast as the client takes it, until it takes nothing for `stall_max`.
async fn read(
    mut reader: BackupReader,
    parts: &mpsc::Sender<Result<Part, Error>>,
    stall_max: Duration,
    damaged: impl Fn(StoreError) -> Error,
) {
    loop {
        let step = tokio::task::spawn_blocking(move || {
            let part = reader.next_part(PART_BYTES);
            (reader, part)
        });
        let part;
        // It panics only if the disk made it.
        (reader, part) = match step.await {
            Ok(step) => step,
            Err(_) => {
                let _ = parts.send(Err(Error::Storage)).await;
                return;
            }
        };
        let part = match part {
            Ok(Some(bytes)) => Ok(Part::Bytes(bytes.into())),
            Ok(None) => match reader.digest() {
                Some(digest) => Ok(Part::Digest(digest)),
                None => Err(Error::Storage),
            },
            Err(error) => Err(damaged(error)),
        };
        let ends = !matches!(part, Ok(Part::Bytes(_)));
        match tokio::time::timeout(stall_max, parts.send(part)).await {
            Ok(Ok(())) if !ends => {}
            // Whoever asked has it all, or has gone.
            Ok(_) => return,
            Err(_) => {
                tracing::warn!(
                    ?stall_max,
                    "a backup was given up: its client took nothing for so long"
                );
                return;
            }
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
                if let Ok(value) = HeaderValue::try_from(digest_field(&digest)) {
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

    #[tokio::test]
    async fn a_client_that_stalls_is_given_up_and_learns_that_the_rest_is_missing() {
        let (_dir, state) = state();
        let (parts, next) = mpsc::channel(PARTS_MAX);
        // Nobody takes a part meanwhile.
        read(reader(&state), &parts, Duration::from_millis(20), |_| Error::Storage).await;
        drop(parts);
        let body = Parts { next, ended: false }.collect().await;
        assert!(body.is_err());
    }

    #[tokio::test]
    async fn all_that_is_read_comes_with_the_digest_at_its_end() {
        let (_dir, state) = state();
        let (parts, next) = mpsc::channel(PARTS_MAX);
        let body = Parts { next, ended: false };
        let ((), body) = tokio::join!(
            read(reader(&state), &parts, Duration::from_secs(9), |_| Error::Storage),
            body.collect()
        );
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
