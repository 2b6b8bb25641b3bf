//! A cluster's new beginning with one node: from a backup, or from what one node of it still has.
//!
//! Both end in the same: a state whose members are those of the new cluster as of its last entry, and a log
//! that begins after that entry. Nothing of the old cluster's members is left in the log, so that nobody who
//! follows it can take them for its own.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use super::identity::{DataDir, IdentityCheck, Rebuild};
use super::recovery::recover;
use crate::kv::Revision;
use crate::raft::{HardState, LogId, LogWrite, Membership, NodeId, Recovered};
use crate::store::disk::files;
use crate::store::error::StoreError;
use crate::store::log::{Log, LogOptions, RecoveredLog};
use crate::store::snapshot::backup_check::{BackupError, Blocks, origin, refused};
use crate::store::state::{State, StateOptions};

/// How many bytes of a backup are read at once.
const READ_BYTES: usize = 1 << 20;
/// How many bytes of entries are applied at once, at most.
const APPLY_BYTES: usize = 1 << 20;

/// Makes a data directory of a backup, with a new identity. `members` names the cluster's, given that
/// identity; the new node must be the only voter. The directory must be empty or missing.
///
/// # Errors
/// What is wrong with the backup or the directory, in which nothing of it is left then. A directory in which this
/// broke off otherwise is refused by [`DataDir::open`].
pub fn restore(
    backup: impl Read,
    path: &Path,
    check: &IdentityCheck,
    members: impl FnOnce(NodeId) -> Membership,
) -> Result<NodeId, BackupError> {
    let is_new = !files::exists(path, "data directory")?;
    let opened = DataDir::open_for(path, check, Some(Rebuild::Restore));
    let data = opened.inspect_err(|_| unmake(path, is_new))?;
    let make = || {
        let state = State::open(&data.state_path(), None, &StateOptions::default())?;
        let log = || Log::open(&data.log_path(), None, &LogOptions::default());
        fill(backup, state, log, members(data.id()))?;
        data.files_made()?;
        data.finish()?;
        Ok(data.id())
    };
    let made: Result<NodeId, BackupError> = make();
    if made.is_err() {
        data.abandon();
        unmake(path, is_new);
    }
    made
}

/// Removes a directory that was made and has nothing in it.
fn unmake(path: &Path, is_new: bool) {
    if is_new {
        // It stays where something is in it.
        let _ = std::fs::remove_dir(path);
    }
}

/// Makes an empty state and an empty log those of a node that begins with a backup. All of it is durable and both
/// files are closed when it returns.
fn fill(
    backup: impl Read,
    state: State,
    log: impl FnOnce() -> Result<(Log, RecoveredLog), StoreError>,
    members: Membership,
) -> Result<(), BackupError> {
    let state = Arc::new(state);
    take_in(backup, &state, members)?;
    let (mut log, found) = log()?;
    // It sees a state that a snapshot brought, which the log does not follow yet.
    recover(&state, &mut log, found)?;
    log.close()?;
    Ok(())
}

/// Puts a backup in the place of a state that is empty; `members` are those of the cluster from then on. The
/// log is to begin after it, as [`recover`] sees to.
///
/// # Errors
/// What is wrong with the backup. The state is empty still.
pub fn take_in(
    mut backup: impl Read,
    state: &Arc<State>,
    members: Membership,
) -> Result<(), BackupError> {
    let mut incoming = state.receive().map_err(|error| refused(0, error))?;
    incoming.begin_with(members);
    let mut blocks = Blocks::new();
    let (mut buffer, mut known) = (vec![0; READ_BYTES], None);
    loop {
        let read = match backup.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(BackupError::Unreadable(error)),
        };
        blocks.feed(&buffer[..read], |at, body| match known {
            None => {
                known = Some(origin(at, body)?);
                Ok(())
            }
            Some(_) => incoming.take(&[body]).map_err(|error| refused(at, error)),
        })?;
    }
    let (bytes, _) = blocks.finish()?;
    if state.put_in_place(incoming)? {
        return Ok(());
    }
    let what = "the snapshot in it has no end, or holds nothing".to_owned();
    Err(BackupError::Damaged { at: bytes, what })
}

/// What a stopped node has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Survivor {
    /// The node.
    pub id: NodeId,
    /// The newest members that it knows of.
    pub members: Membership,
    /// The last entry that it knows to be decided.
    pub committed: LogId,
    /// Its last entry.
    pub last: LogId,
}

/// A stopped node's directory, opened.
struct Opened {
    survivor: Survivor,
    data: DataDir,
    state: State,
    log: Log,
    recovered: Recovered,
}

fn open(path: &Path, check: &IdentityCheck) -> Result<Opened, StoreError> {
    let none = || StoreError::NoNode { path: path.to_path_buf() };
    let data = DataDir::open_for(path, check, Some(Rebuild::NewCluster))?;
    for file in [data.log_path(), data.state_path()] {
        // Before they were made the node was part of nothing.
        if !files::exists(&file, "data directory")? {
            return Err(none());
        }
    }
    let state = State::open(&data.state_path(), None, &StateOptions::default())?;
    let (mut log, found) = Log::open(&data.log_path(), None, &LogOptions::default())?;
    let recovered = recover(&state, &mut log, found)?;
    let (_, members) = recovered.memberships.last().cloned().ok_or_else(none)?;
    let (committed, last) = (recovered.committed, last_of(&recovered));
    let survivor = Survivor { id: data.id(), members, committed, last };
    Ok(Opened { survivor, data, state, log, recovered })
}

fn last_of(recovered: &Recovered) -> LogId {
    recovered.tail.last().map_or(recovered.committed, |entry| entry.id)
}

/// Looks at what a stopped node has, and changes nothing of it but the format of one that an older release wrote.
///
/// # Errors
/// What is wrong with the directory.
pub fn survey(path: &Path, check: &IdentityCheck) -> Result<Survivor, StoreError> {
    open(path, check).map(|opened| opened.survivor)
}

/// Makes a stopped node the only voter of a new cluster, in its own data directory; what it had, and the store's
/// revision now. `members` names the cluster's, given the node's identity.
///
/// All entries of its log are carried out, those too that it does not know to be decided: each of them may
/// have been acknowledged, and a leader that was elected with this log would have decided them all.
///
/// # Errors
/// What is wrong with the directory. One in which this broke off is refused by [`DataDir::open`]; running it
/// again ends it.
pub fn rescue(
    path: &Path,
    check: &IdentityCheck,
    members: impl FnOnce(NodeId) -> Membership,
) -> Result<(Survivor, Revision), StoreError> {
    let Opened { survivor, data, state, mut log, recovered } = open(path, check)?;
    // From here on the state may be ahead of what the old cluster decided.
    data.begin_new_cluster()?;
    begin_alone(&state, &mut log, &recovered, members(survivor.id))?;
    let revision = state.revision();
    log.close()?;
    drop(state);
    data.files_made()?;
    data.finish()?;
    Ok((survivor, revision))
}

/// Carries out all entries of a log, lets `members` be those of the cluster from then on, and begins the log anew.
/// All of it is durable when it returns; state and log must be opened anew after it. If it breaks off the node
/// must not run, and the same can be done again.
///
/// # Errors
/// What the disk says.
pub fn begin_alone(
    state: &State,
    log: &mut Log,
    recovered: &Recovered,
    members: Membership,
) -> Result<(), StoreError> {
    let last = last_of(recovered);
    let reader = log.reader();
    let bytes_max = APPLY_BYTES.min(state.options.overlay_bytes);
    while state.applied().index < last.index {
        let next = state.applied().index.next();
        state.apply(&reader.read(next, last.index, bytes_max)?)?;
        if state.overlay_large()
            && let Some(frozen) = state.freeze()
        {
            state.write_checkpoint(frozen)?;
        }
    }
    while state.durable() != state.applied()
        && let Some(frozen) = state.freeze()
    {
        state.write_checkpoint(frozen)?;
    }
    state.begin_anew(members.clone())?;
    // Terms and votes were those of the cluster that is given up. One of its members may have used them up.
    let hard_state = HardState { term: last.term, vote: None, commit: last.index };
    log.append(&[LogWrite {
        hard_state: Some(hard_state),
        reset: Some((last, members)),
        ..LogWrite::default()
    }])
}

impl From<StoreError> for BackupError {
    fn from(error: StoreError) -> BackupError {
        BackupError::Store(error)
    }
}

#[cfg(test)]
#[path = "restore_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "restore_crash_tests.rs"]
mod crash_tests;
