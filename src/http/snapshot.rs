//! `GET /v1/snapshot`: a backup as a stream.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::body::{Body, HttpBody};
use axum::extract::{Request, State};
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE, TRAILER};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::Response;
use bytes::Bytes;
use hyper::body::Frame;

use super::error::Problem;
use super::identity::caller_of;
use super::query::Query;
use super::{Api, headers};
use crate::api::{DIGEST_TRAILER, Error, TakeBackup, digest_field};
use crate::server::{Backup, BackupPart};

/// `GET /v1/snapshot`.
pub(super) async fn snapshot(
    State(api): State<Arc<Api>>,
    request: Request,
) -> Result<Response, Problem> {
    Query::parse(request.uri().query(), &[])?;
    let deadline = headers::deadline(request.headers())?;
    let allowed = api.handle.admit(&caller_of(request.extensions()), TakeBackup).await?;
    drop(request);
    let backup = api.handle.backup(&allowed, deadline, api.stopping.clone()).await?;
    let revision = backup.revision();
    let mut response = Response::new(Body::new(Parts(backup)));
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

/// The body: its end is an error but for after the digest, so that no client takes a part for the whole.
struct Parts(Backup);

impl HttpBody for Parts {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let next = ready!(self.0.poll_next(context));
        Poll::Ready(next.map(|part| {
            part.map(|part| match part {
                BackupPart::Bytes(bytes) => Frame::data(bytes),
                BackupPart::Digest(digest) => {
                    let mut trailers = HeaderMap::new();
                    if let Ok(value) = HeaderValue::try_from(digest_field(&digest)) {
                        trailers.insert(HeaderName::from_static(DIGEST_TRAILER), value);
                    }
                    Frame::trailers(trailers)
                }
            })
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_at_end()
    }
}
