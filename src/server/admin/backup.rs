//! Backups: the state as of now, for a client to take away while the node serves.

use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::sync::mpsc;
use tokio::time::timeout_at;
use tokio_util::sync::CancellationToken;

use crate::api::{Consistency, Error, TakeBackup};
use crate::kv::Revision;
use crate::server::allowed::Allowed;
use crate::server::handle::Handle;
use crate::store::{BackupReader, Origin};

/// How long the checkpoint that a backup is made of may take.
const CHECKPOINT_TIME_MAX: Duration = Duration::from_secs(60);

/// About how many bytes are read at once.
const PART_BYTES: usize = 1 << 20;
/// How long reading one may take.
const PART_TIME_MAX: Duration = Duration::from_secs(60);
/// The most parts that wait between the disk and the connection.
const PARTS_MAX: usize = 2;

/// A backup as it is read, as fast as its client takes it: while it is open the state's file keeps old pages, so one that is
/// taken too slowly, or for which the file grows too much, is given up.
#[derive(Debug)]
pub struct Backup {
    revision: Revision,
    next: mpsc::Receiver<Result<BackupPart, Error>>,
    ended: bool,
}

/// A part of a [`Backup`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackupPart {
    /// The next bytes.
    Bytes(Bytes),
    /// All was given out: SHA-256 over it.
    Digest([u8; 32]),
}

impl Backup {
    /// The revision that it reflects.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The next part; none at the end. An end without a digest before it is an error, so that nobody takes a part for the
    /// whole.
    pub fn poll_next(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<BackupPart, Error>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let next = ready!(self.next.poll_recv(context));
        self.ended = !matches!(next, Some(Ok(BackupPart::Bytes(_))));
        Poll::Ready(Some(next.unwrap_or(Err(Error::ShuttingDown))))
    }

    /// Whether nothing comes any more.
    pub fn is_at_end(&self) -> bool {
        self.ended
    }
}

impl Handle {
    /// A backup that reflects everything acknowledged before. Asks for a checkpoint if the newest is older;
    /// writes go on meanwhile. The deadline is for finding out what has to be in it. Once `stopping` is cancelled the backup
    /// breaks off: a node that stops waits for none.
    ///
    /// # Errors
    /// [`Error::TooManyBackups`] beyond `limits.backups`; [`Error::DiskFull`] if no checkpoint can be written; and as a read.
    pub async fn backup(
        &self,
        backup: &Allowed<TakeBackup>,
        deadline: Instant,
        stopping: CancellationToken,
    ) -> Result<Backup, Error> {
        let limits = self.limits();
        let place = Arc::clone(&self.shared.backups).try_acquire_owned();
        let place = place.map_err(|_| Error::TooManyBackups(limits.backups_max))?;
        let reader = self.backup_reader(deadline).await?;
        self.still_allowed(backup)?;
        let revision = reader.revision();
        let bounds = Bounds {
            stall_max: limits.stall_max,
            rate_min: limits.backup_rate_min,
            growth_max: limits.backup_growth_max,
        };
        let (parts, next) = mpsc::channel(PARTS_MAX);
        let (handle, allowed) = (self.clone(), backup.clone());
        tokio::spawn(async move {
            let step = |reader| -> Step { Box::pin(next_part(handle.clone(), reader)) };
            let size = || handle.shared.data.sizes().state_bytes;
            tokio::select! {
                () = read(reader, &parts, bounds, step, size) => {}
                () = stopping.cancelled() => {}
                // Its client finds it cut off.
                () = handle.until_forbidden(&allowed) => {}
            }
            drop(place);
        });
        Ok(Backup { revision, next, ended: false })
    }

    async fn backup_reader(&self, deadline: Instant) -> Result<BackupReader, Error> {
        self.read_barrier(Consistency::Linearizable, None, deadline).await?;
        let state = self.state();
        let wanted = state.applied().index;
        let deadline = Instant::now() + CHECKPOINT_TIME_MAX;
        let mut checkpoints = self.watch_checkpoints();
        while state.durable().index < wanted {
            state.want_checkpoint();
            match timeout_at(deadline.into(), checkpoints.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(Error::ShuttingDown),
                Err(_) if state.is_put_off() => return Err(Error::DiskFull),
                Err(_) => return Err(Error::ReadTimedOut),
            }
        }
        Ok(state.backup(Origin {
            konsen: env!("CARGO_PKG_VERSION").to_owned(),
            cluster: self.cluster_name(),
            node: self.name(),
            created: now(),
        }))
    }
}

async fn next_part(
    handle: Handle,
    mut reader: BackupReader,
) -> Result<(BackupReader, Option<Vec<u8>>), Error> {
    let read = move || {
        let part = reader.next_part(PART_BYTES);
        (reader, part)
    };
    let (reader, part) = handle.read_apart(Instant::now() + PART_TIME_MAX, read).await?;
    Ok((reader, part.map_err(|error| handle.damaged(error))?))
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
    parts: &mpsc::Sender<Result<BackupPart, Error>>,
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
            Some(bytes) => Ok(BackupPart::Bytes(bytes.into())),
            None => {
                reader.digest().map(|digest| BackupPart::Digest(digest.0)).ok_or(Error::Storage)
            }
        };
        let ends = !matches!(part, Ok(BackupPart::Bytes(_)));
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

fn now() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = i64::try_from(since.as_secs()).unwrap_or_default();
    let time = OffsetDateTime::from_unix_timestamp(seconds).ok();
    // Fails for years that no clock says.
    time.and_then(|time| time.format(&Rfc3339).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{self, BackupCheck, StateOptions};

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

    /// All bytes, and the digest at their end.
    async fn collect(
        next: mpsc::Receiver<Result<BackupPart, Error>>,
    ) -> (Vec<u8>, Result<[u8; 32], Error>) {
        let mut backup = Backup { revision: Revision(0), next, ended: false };
        let mut bytes = Vec::new();
        loop {
            match std::future::poll_fn(|context| backup.poll_next(context)).await {
                Some(Ok(BackupPart::Bytes(more))) => bytes.extend_from_slice(&more),
                Some(Ok(BackupPart::Digest(digest))) => {
                    assert!(backup.is_at_end());
                    return (bytes, Ok(digest));
                }
                Some(Err(error)) => return (bytes, Err(error)),
                None => panic!("it ends without a word"),
            }
        }
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
        let (_, end) = collect(next).await;
        assert!(end.is_err());
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
                    ended = matches!(part, Ok(BackupPart::Digest(_)));
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
        let reads = async {
            let parts = parts;
            read(reader(&state), &parts, BOUNDS, step, || 0).await;
        };
        let ((), (bytes, said)) = tokio::join!(reads, collect(next));
        let mut check = BackupCheck::default();
        // It is of no member of a cluster: the bytes are whole, and no backup.
        assert!(check.feed(&bytes).unwrap_err().to_string().contains("names no members"));
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &bytes);
        assert_eq!(said.as_ref().map(|said| &said[..]), Ok(digest.as_ref()));
    }
}
