//! Backups: the state as of now, for a client to take away while the node serves.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::time::timeout_at;

use crate::api::{Consistency, Error};
use crate::server::handle::Handle;
use crate::store::{BackupReader, Origin};

/// How long the checkpoint that a backup is made of may take.
const CHECKPOINT_TIME_MAX: Duration = Duration::from_secs(60);

impl Handle {
    /// A backup that reflects everything acknowledged before. Asks for a checkpoint if the newest is older;
    /// writes go on meanwhile. The deadline is for finding out what has to be in it.
    pub async fn backup(&self, deadline: Instant) -> Result<BackupReader, Error> {
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

fn now() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = i64::try_from(since.as_secs()).unwrap_or_default();
    let time = OffsetDateTime::from_unix_timestamp(seconds).ok();
    // Fails for years that no clock says.
    time.and_then(|time| time.format(&Rfc3339).ok()).unwrap_or_default()
}
