//! A data directory: whose it is, and that only one process has it open.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use rand::RngExt;
use serde::{Deserialize, Serialize};

use crate::raft::NodeId;
use crate::raft::founding::{Answer, Ask, Ballot, Grant};
use crate::store::disk::files;
use crate::store::error::StoreError;
use crate::store::meta;
use crate::store::paths;

/// The version of the identity file that this release reads and writes. It is looked at before the databases, whose
/// opening writes to them: so whoever raises their version raises this one too, and an older release changes nothing, but for
/// one that comes upon an upgrade that broke off between the two.
pub(in crate::store) const FORMAT: u32 = 3;
/// The oldest one that it reads: its log has no write-ahead log yet.
const OLDEST: u32 = 2;
const _: () = assert!(FORMAT >= meta::FORMAT);
/// What an error calls it.
const WHAT: &str = "identity";
const IDENTITY_FILE: &str = "identity";
const LOCK_FILE: &str = "lock";
/// There while the directory is being made into something else; holds the name of what is being done.
const UNFINISHED_FILE: &str = "unfinished";

/// Whose a directory must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityCheck {
    /// The cluster's name.
    pub cluster: String,
    /// The node's name.
    pub node: String,
}

/// What can be made of a directory besides running a node in it. Until it is finished no node runs in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rebuild {
    /// A new one from a backup.
    Restore,
    /// The one that there is becomes that of another cluster.
    NewCluster,
}

impl Rebuild {
    fn name(self) -> &'static str {
        match self {
            Rebuild::Restore => "restore",
            Rebuild::NewCluster => "force-new-cluster",
        }
    }
}

/// An open data directory. Cheap to clone; the lock is held until the last clone is gone.
#[derive(Clone, Debug)]
pub struct DataDir {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    identity: Mutex<Identity>,
    _lock: File,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::store) struct Identity {
    format: u32,
    /// 16 hex digits.
    pub(in crate::store) id: String,
    cluster: String,
    node: String,
    /// The ballot that this node granted last: its round in decimal digits, `:` and its founder in 16 hex digits;
    /// without the round it is round 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    founding_grant: Option<String>,
    /// The highest ballot that it has promised, if that is not the one that it granted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    founding_promise: Option<String>,
    /// For how many milliseconds leaders may count on what this node promised before it stopped, if they rely on leases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    guards_ms: Option<u64>,
    /// Whether the log and the state were made. From then on one that is missing is lost; before it the
    /// node has promised nothing that they would hold.
    #[serde(default)]
    files_made: bool,
}

/// What the files take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Bytes of the log's files.
    pub log_bytes: u64,
    /// Bytes of the state's file.
    pub state_bytes: u64,
}

impl DataDir {
    /// Opens the directory, or makes one with a new identity.
    pub fn open(path: &Path, check: &IdentityCheck) -> Result<DataDir, StoreError> {
        DataDir::open_for(path, check, None)
    }

    /// Opens the directory in order to make something else of it; no node runs in it until
    /// [`DataDir::finish`]. To restore it must be empty or missing, and is marked as unfinished at once;
    /// for a new cluster it must be a node's.
    pub(super) fn open_for(
        path: &Path,
        check: &IdentityCheck,
        rebuild: Option<Rebuild>,
    ) -> Result<DataDir, StoreError> {
        if rebuild == Some(Rebuild::NewCluster) && !files::exists(&path.join(IDENTITY_FILE), WHAT)?
        {
            return Err(StoreError::NoNode { path: path.to_path_buf() });
        }
        create(path)?;
        let lock = lock(path)?;
        if rebuild != Some(Rebuild::Restore) {
            unfinished(path, rebuild)?;
            return DataDir::open_locked(path, check, lock);
        }
        is_empty(path)?;
        let marked = write_file(path, UNFINISHED_FILE, Rebuild::Restore.name().as_bytes());
        let opened = marked.and_then(|()| DataDir::open_locked(path, check, lock));
        if opened.is_err() {
            remove_made(path);
        }
        opened
    }

    fn open_locked(path: &Path, check: &IdentityCheck, lock: File) -> Result<DataDir, StoreError> {
        let file = path.join(IDENTITY_FILE);
        let identity = match fs::read(&file) {
            Ok(bytes) => {
                let identity = read(&bytes, &file)?;
                belongs(&identity, path, check)?;
                if identity.files_made {
                    has_files(path, identity.format)?;
                }
                identity
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                for name in files_of(FORMAT) {
                    if files::exists(&path.join(name), WHAT)? {
                        return Err(StoreError::damaged(
                            "data directory",
                            format!("{} holds {name} but no {IDENTITY_FILE}", path.display()),
                        ));
                    }
                }
                let identity = Identity {
                    format: FORMAT,
                    id: hex(new_id()),
                    cluster: check.cluster.clone(),
                    node: check.node.clone(),
                    founding_grant: None,
                    founding_promise: None,
                    guards_ms: None,
                    files_made: false,
                };
                write(path, &identity)?;
                identity
            }
            Err(error) => return Err(failed("read", &file, error)),
        };
        let shared =
            Shared { path: path.to_path_buf(), identity: Mutex::new(identity), _lock: lock };
        Ok(DataDir { shared: Arc::new(shared) })
    }

    /// The node in the directory becomes that of another cluster: it does not run until
    /// [`DataDir::finish`].
    pub(super) fn begin_new_cluster(&self) -> Result<(), StoreError> {
        write_file(&self.shared.path, UNFINISHED_FILE, Rebuild::NewCluster.name().as_bytes())
    }

    /// What was begun is done, durably: a node can run in the directory.
    pub(super) fn finish(&self) -> Result<(), StoreError> {
        let file = self.shared.path.join(UNFINISHED_FILE);
        fs::remove_file(&file).map_err(|error| failed("remove", &file, error))?;
        files::sync_dir(&self.shared.path, WHAT)
    }

    /// What was begun cannot be done: removes what was made, as far as that goes.
    pub(super) fn abandon(&self) {
        remove_made(&self.shared.path);
    }

    /// The node's identity, drawn when the directory was made.
    pub fn id(&self) -> NodeId {
        // Checked when the file was read.
        NodeId(number(&self.shared.identity.lock().id).unwrap_or_default())
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.shared.path
    }

    /// Where the log is.
    pub fn log_path(&self) -> PathBuf {
        self.shared.path.join(paths::LOG)
    }

    /// Where the state is.
    pub fn state_path(&self) -> PathBuf {
        self.shared.path.join(paths::STATE)
    }

    /// What the files take now; 0 for one that cannot be asked.
    pub fn sizes(&self) -> Sizes {
        let size = |path: PathBuf| fs::metadata(path).map_or(0, |found| found.len());
        let log_bytes = size(self.log_path()) + size(self.shared.path.join(paths::WAL));
        Sizes { log_bytes, state_bytes: size(self.state_path()) }
    }

    /// Records that the log and the state are made, which both must be, durably. To be called before the
    /// node takes part in anything: from then on a directory that lacks one of them is refused, since a
    /// node that forgot its votes could give them twice.
    pub fn files_made(&self) -> Result<(), StoreError> {
        let mut identity = self.shared.identity.lock();
        if identity.files_made && identity.format == FORMAT {
            return Ok(());
        }
        has_files(&self.shared.path, FORMAT)?;
        let made = Identity { format: FORMAT, files_made: true, ..identity.clone() };
        write(&self.shared.path, &made)?;
        *identity = made;
        Ok(())
    }

    /// For how many milliseconds a node that starts has to keep what it may have promised a leader before it stopped: the
    /// longest for which it did, of which `from_now_ms` is one from now on. Durable when it returns.
    pub fn guards(&self, from_now_ms: u64) -> Result<u64, StoreError> {
        let before = self.shared.identity.lock().guards_ms.unwrap_or_default();
        let guards = before.max(from_now_ms);
        self.guards_no_longer(guards)?;
        Ok(guards)
    }

    /// Whatever was promised for longer than `ms` is over. Durable when it returns.
    pub fn guards_no_longer(&self, ms: u64) -> Result<(), StoreError> {
        let mut identity = self.shared.identity.lock();
        let guards_ms = (ms > 0).then_some(ms);
        if identity.guards_ms != guards_ms {
            let now = Identity { guards_ms, ..identity.clone() };
            write(&self.shared.path, &now)?;
            *identity = now;
        }
        Ok(())
    }

    /// What this node has said about who founds the cluster.
    pub fn founding(&self) -> Grant {
        founding(&self.shared.identity.lock())
    }

    /// Answers who wants to found the cluster. Durable when it returns.
    pub fn asked_to_found(&self, ask: Ask) -> Result<Answer, StoreError> {
        let mut identity = self.shared.identity.lock();
        let before = founding(&identity);
        let (after, answer) = before.answer(ask);
        if after != before {
            let promise = (after.granted != Some(after.promised)).then_some(after.promised);
            let said = Identity {
                founding_grant: after.granted.map(text),
                founding_promise: promise.map(text),
                ..identity.clone()
            };
            write(&self.shared.path, &said)?;
            *identity = said;
        }
        Ok(answer)
    }
}

fn founding(identity: &Identity) -> Grant {
    // Both were checked when the file was read.
    let ballot = |text: &Option<String>| text.as_deref().and_then(ballot);
    let granted = ballot(&identity.founding_grant);
    let promised = ballot(&identity.founding_promise).or(granted).unwrap_or_default();
    Grant { promised, granted }
}

fn text(ballot: Ballot) -> String {
    format!("{}:{}", ballot.round, hex(ballot.founder))
}

fn ballot(text: &str) -> Option<Ballot> {
    let (round, founder) = text.split_once(':').unwrap_or(("0", text));
    Some(Ballot { round: round.parse().ok()?, founder: NodeId(number(founder)?) })
}

/// As it was written: a number that lost a digit would be another node's.
fn number(id: &str) -> Option<u64> {
    u64::from_str_radix(id, 16).ok().filter(|number| hex(NodeId(*number)) == id)
}

/// The top bit stays clear: ids with it stand in for hosts that were never seen. Small numbers belong to
/// tests.
fn new_id() -> NodeId {
    NodeId(rand::rng().random_range(1000..1 << 63))
}

fn hex(id: NodeId) -> String {
    format!("{:016x}", id.0)
}

/// Makes the directory, and those above it, durably: what is acknowledged from it is worth no more than
/// its name.
fn create(path: &Path) -> Result<(), StoreError> {
    let mut missing = Vec::new();
    for dir in path.ancestors().filter(|dir| !dir.as_os_str().is_empty()) {
        if files::exists(dir, WHAT)? {
            break;
        }
        missing.push(dir);
    }
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|error| failed("create", path, error))?;
    let mode = fs::metadata(path).map_or(0, |found| found.permissions().mode() & 0o777);
    if mode & 0o077 != 0 {
        tracing::warn!(
            "the data directory {} is open to others (mode {mode:o}): chmod 700 {0}",
            path.display()
        );
    }
    missing.into_iter().try_for_each(|dir| files::sync_dir(paths::dir_of(dir), WHAT))
}

pub(super) fn lock(path: &Path) -> Result<File, StoreError> {
    let file = path.join(LOCK_FILE);
    let lock = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&file)
        .map_err(|error| failed("open", &file, error))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(StoreError::InUse { path: path.to_path_buf() }),
        Err(TryLockError::Error(error)) => Err(failed("lock", &file, error)),
    }
}

pub(in crate::store) fn read(bytes: &[u8], file: &Path) -> Result<Identity, StoreError> {
    let damaged = |why: String| StoreError::damaged(WHAT, format!("{}: {why}", file.display()));
    let value: serde_json::Value =
        serde_json::from_slice(bytes).map_err(|error| damaged(error.to_string()))?;
    // The format first: a newer file may look quite different.
    let found = value.get("format").and_then(serde_json::Value::as_u64);
    let found = found.and_then(|found| u32::try_from(found).ok());
    let found = found.ok_or_else(|| damaged("it states no format".to_owned()))?;
    if !(OLDEST..=FORMAT).contains(&found) {
        return Err(StoreError::other_format(file, found, FORMAT));
    }
    let identity: Identity =
        serde_json::from_value(value).map_err(|error| damaged(error.to_string()))?;
    if number(&identity.id).is_none() {
        return Err(damaged(format!("{:?} is no identity, which has 16 hex digits", identity.id)));
    }
    for said in [&identity.founding_grant, &identity.founding_promise].into_iter().flatten() {
        if ballot(said).is_none() {
            return Err(damaged(format!(
                "{said:?} is no ballot, which is a number, a colon, and an identity of 16 hex digits"
            )));
        }
    }
    Ok(identity)
}

/// What [`read`] reads.
pub(in crate::store) fn bytes(identity: &Identity) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec_pretty(identity)
        .map_err(|error| StoreError::damaged(WHAT, error.to_string()))
}

fn belongs(identity: &Identity, path: &Path, check: &IdentityCheck) -> Result<(), StoreError> {
    if identity.cluster == check.cluster && identity.node == check.node {
        return Ok(());
    }
    let whose = |node: &str, cluster: &str| format!("node {node} of cluster {cluster}");
    Err(StoreError::Foreign {
        path: path.to_path_buf(),
        holds: whose(&identity.node, &identity.cluster),
        expected: whose(&check.node, &check.cluster),
    })
}

/// Refuses a directory that is half made, but for whoever takes that up again.
fn unfinished(path: &Path, rebuild: Option<Rebuild>) -> Result<(), StoreError> {
    let file = path.join(UNFINISHED_FILE);
    let what = match fs::read(&file) {
        Ok(what) => what,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed("read", &file, error)),
    };
    let path = path.to_path_buf();
    match rebuild {
        Some(rebuild) if rebuild.name().as_bytes() == what => Ok(()),
        // Whatever else the file holds: what cannot be told is taken for what can only be thrown away.
        _ if what == Rebuild::NewCluster.name().as_bytes() => Err(StoreError::HalfRescued { path }),
        _ => Err(StoreError::HalfRestored { path }),
    }
}

/// Refuses a directory that holds anything but its lock, and what file systems put into their root.
fn is_empty(path: &Path) -> Result<(), StoreError> {
    let entries = fs::read_dir(path).map_err(|error| failed("list", path, error))?;
    for entry in entries {
        let name = entry.map_err(|error| failed("list", path, error))?.file_name();
        if name != LOCK_FILE && name != "lost+found" {
            let holds = name.to_string_lossy().into_owned();
            return Err(StoreError::NotEmpty { path: path.to_path_buf(), holds });
        }
    }
    Ok(())
}

/// Removes what a restore made in a directory that was empty before. What says that it is unfinished goes last.
fn remove_made(path: &Path) {
    let databases = files_of(FORMAT).iter().map(|name| path.join(name));
    let databases: Vec<PathBuf> = databases.collect();
    let beside: Vec<PathBuf> = databases.iter().map(|file| file.with_extension("new")).collect();
    let own = [IDENTITY_FILE, "identity.new", "unfinished.new", LOCK_FILE, UNFINISHED_FILE];
    let own = own.map(|name| path.join(name));
    for file in databases.iter().chain(&beside).chain(&own) {
        match fs::remove_file(file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return,
            _ => {}
        }
    }
}

/// What a directory of that format holds besides the identity.
fn files_of(format: u32) -> &'static [&'static str] {
    if format < FORMAT {
        &[paths::LOG, paths::STATE]
    } else {
        &[paths::LOG, paths::WAL, paths::STATE]
    }
}

fn has_files(path: &Path, format: u32) -> Result<(), StoreError> {
    for &file in files_of(format) {
        if !files::exists(&path.join(file), WHAT)? {
            return Err(StoreError::Lost { path: path.to_path_buf(), file });
        }
    }
    Ok(())
}

fn write(dir: &Path, identity: &Identity) -> Result<(), StoreError> {
    write_file(dir, IDENTITY_FILE, &bytes(identity)?)
}

/// Replaces a file in one step: a crash leaves the old one or the new one.
fn write_file(dir: &Path, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
    let temporary = dir.join(format!("{name}.new"));
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(&temporary)
        .map_err(|error| failed("create", &temporary, error))?;
    file.write_all(bytes)
        .and_then(|()| file.sync_all())
        .map_err(|error| failed("write", &temporary, error))?;
    let target = dir.join(name);
    fs::rename(&temporary, &target).map_err(|error| failed("replace", &target, error))?;
    files::sync_dir(dir, WHAT)
}

fn failed(what: &'static str, path: &Path, source: io::Error) -> StoreError {
    StoreError::io(WHAT, what, path, source)
}

#[cfg(test)]
#[path = "identity_tests.rs"]
mod tests;
