//! A backup as a stream.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use reqwest::header::{HeaderValue, TE};
use reqwest::{Body, Method};

use super::{Call, Client, Error, REVISION, error, shown};
use crate::api::DIGEST_TRAILER;
use crate::kv::Revision;

/// A backup that is coming in.
#[derive(Debug)]
pub struct SnapshotStream {
    revision: Revision,
    body: Body,
    digest: Option<String>,
    /// How long nothing may come.
    silence_max: Duration,
}

impl Client {
    /// Begins a backup at the first endpoint that gives one. It reflects everything acknowledged before. Its beginning, for
    /// which a node may have to write a checkpoint, is due within the timeout, and so is what comes after each pause.
    /// What came is whole only if it is a sound backup in itself.
    pub async fn snapshot(&self) -> Result<SnapshotStream, Error> {
        let mut call =
            Call { streams: true, shows: &[REVISION], ..Call::new(Method::GET, "v1/snapshot") };
        call.headers.insert(TE, HeaderValue::from_static("trailers"));
        let (_, response) = self.send(&call).await?;
        let revision = Revision(shown(&response, REVISION));
        let silence_max = self.timeout;
        Ok(SnapshotStream { revision, body: response.into(), digest: None, silence_max })
    }
}

impl SnapshotStream {
    /// The revision that it reflects.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The next bytes; none at the end.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            let broke_off =
                |why: String| Error::Unavailable(format!("the backup broke off: {why}"));
            let frame = match tokio::time::timeout(self.silence_max, self.body.frame()).await {
                Ok(Some(Ok(frame))) => frame,
                Ok(Some(Err(error))) => return Err(broke_off(error::chain(&error))),
                Ok(None) => return Ok(None),
                Err(_) => {
                    let silence = humantime::format_duration(self.silence_max);
                    return Err(broke_off(format!("nothing came for {silence}")));
                }
            };
            match frame.into_data() {
                Ok(bytes) => return Ok(Some(bytes)),
                Err(other) => {
                    let trailers = other.into_trailers().unwrap_or_default();
                    let digest = trailers.get(DIGEST_TRAILER).and_then(|value| value.to_str().ok());
                    self.digest = digest.map(str::to_owned);
                }
            }
        }
    }

    /// The digest over all bytes as the trailer states it (RFC 9530), once the end was reached; none if
    /// something on the way dropped it.
    pub fn digest(&self) -> Option<&str> {
        self.digest.as_deref()
    }
}
