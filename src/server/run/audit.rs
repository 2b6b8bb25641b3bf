//! The thread that writes the audit, and its end.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::time::timeout;

use super::mailbox::Mailbox;
use super::watched;
use crate::audit::{Audit, Hash, Head, Owner, Place, Rules, Worker};
use crate::config::{AuditConfig, Config, OnFailure};
use crate::kv::{Anchored, RecordKey, decode_anchors};
use crate::raft::NodeId;
use crate::server::limits::bytes;
use crate::store::{DataDir, State, StoreError};

/// Where the files are, in a data directory.
const DIR: &str = "audit";
/// How long the end waits for what is to be written last.
const END_TIME_MAX: Duration = Duration::from_secs(5);

/// The newest anchor of a node, as its state has it.
pub(crate) fn newest(state: &State, node: NodeId) -> Result<Option<Head>, StoreError> {
    let of_node = anchors_of(state)?.into_iter().filter(|it| it.anchor.node == node.0);
    let newest = of_node.max_by_key(|it| (it.anchor.sequence, it.clock_ms));
    Ok(newest.map(|it| Head { sequence: it.anchor.sequence, hash: Hash(it.anchor.hash) }))
}

/// All anchors that a state has.
pub(crate) fn anchors_of(state: &State) -> Result<Vec<Anchored>, StoreError> {
    let (from, to) = RecordKey::anchors();
    let records = state.records(&from, &to)?;
    Ok(decode_anchors(records.values())?)
}

/// What is recorded, if anything is.
#[derive(Debug, Default)]
pub(crate) struct Recording {
    pub(crate) audit: Option<Arc<Audit>>,
    thread: Option<JoinHandle<()>>,
}

impl Recording {
    /// Begins to record, if the configuration says so. `anchored` is the last record that the cluster knows, as far as this
    /// node's state has come. Files that cannot be opened are tried again: a node votes without, too.
    pub(crate) fn start(
        config: &Config,
        data: &DataDir,
        anchored: Option<Head>,
        mailbox: &Arc<Mailbox>,
    ) -> io::Result<Recording> {
        let AuditConfig { on, reads, file, keep, queue, on_failure, .. } = config.audit;
        if !on {
            return Ok(Recording::default());
        }
        let refuse = on_failure == OnFailure::Refuse;
        let audit = Audit::new(Rules { reads, refuse, queue_bytes: bytes(queue) });
        audit.note_anchored(anchored.map_or(0, |head| head.sequence));
        let owner = Owner {
            node: config.name.to_string(),
            id: data.id().to_string(),
            cluster: config.cluster.to_string(),
        };
        let place = Place { dir: data.path().join(DIR), file_bytes: file, keep, owner };
        let worker = Worker::open(Arc::clone(&audit), place, anchored);
        let thread = watched::thread("audit", Arc::clone(mailbox), || worker.run())?;
        Ok(Recording { audit: Some(audit), thread: Some(thread) })
    }

    /// Writes what is left, and ends.
    pub(crate) async fn stop(self) {
        let Some((audit, thread)) = self.audit.zip(self.thread) else { return };
        audit.stop();
        let ended = tokio::task::spawn_blocking(|| thread.join());
        if timeout(END_TIME_MAX, ended).await.is_err() {
            tracing::error!("the audit's disk does not answer: the last records may be lost");
        }
    }
}
