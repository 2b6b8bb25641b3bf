//! What can go wrong with a data directory, one clear line each.

use std::any::Any;
use std::io;
use std::path::{Path, PathBuf};

use super::paths;
use crate::kv::Unreadable;
use crate::raft::{Broken, Index};

/// Why something could not be stored or read. After an error from a commit the node must stop: what is
/// on the disk is known only after it is opened again.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The operating system refused.
    #[error("cannot {what} {}: {source}", path.display())]
    Io {
        /// What was tried: a verb.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Its answer.
        source: io::Error,
    },
    /// The disk is full.
    #[error(
        "the disk is full: the {what} could not be written; make room and start the node again"
    )]
    DiskFull {
        /// The log or the state.
        what: &'static str,
    },
    /// Another process has the directory open.
    #[error("data directory {} is in use by another process", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// The directory belongs to another node or another cluster.
    #[error("data directory {} belongs to {holds}, not to {expected}; give this node its own `data`", path.display())]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// Whose it is.
        holds: String,
        /// Whose it should be.
        expected: String,
    },
    /// A file that the directory had is gone.
    #[error(
        "data directory {} has lost {file}, and with it what this node voted for or acknowledged: put the \
         file back, or remove the whole directory, so that the node starts anew with another identity",
        path.display()
    )]
    Lost {
        /// The directory.
        path: PathBuf,
        /// The file's name.
        file: &'static str,
    },
    /// A restore into the directory broke off.
    #[error(
        "data directory {} is half restored, since the restore broke off: remove the directory and restore again",
        path.display()
    )]
    HalfRestored {
        /// The directory.
        path: PathBuf,
    },
    /// Making the directory that of a new cluster broke off.
    #[error(
        "data directory {} is on its way to be that of a new cluster, and that broke off: run `konsen snapshot \
         restore --force-new-cluster` on it again",
        path.display()
    )]
    HalfRescued {
        /// The directory.
        path: PathBuf,
    },
    /// The directory must be empty.
    #[error("data directory {} is not empty, it holds {holds}; give an empty or a new one", path.display())]
    NotEmpty {
        /// The directory.
        path: PathBuf,
        /// A name in it.
        holds: String,
    },
    /// The directory must be that of a node.
    #[error("{} is not the data directory of a node: it holds no identity", path.display())]
    NoNode {
        /// The directory.
        path: PathBuf,
    },
    /// A file was written by a release that this one does not understand.
    #[error("{} has format {found}; this release knows format {known}: run the newer release", path.display())]
    NewerFormat {
        /// The file.
        path: PathBuf,
        /// The format found.
        found: u32,
        /// The format known.
        known: u32,
    },
    /// A row, an entry or a record was written by a release that this one does not understand.
    #[error("{which} was written by a newer release than konsen {own}: run that one", own = env!("CARGO_PKG_VERSION"))]
    NewerRow {
        /// Which.
        which: String,
    },
    /// A record cannot be read.
    #[error("a record of the state: {0}")]
    Record(#[from] Unreadable),
    /// A committed command cannot be read: what it leads to is unknown, and so is all that follows.
    #[error(
        "the command at entry {index}: {why}; it was not applied, and this node stops before it"
    )]
    Command {
        /// The entry.
        index: Index,
        /// Why.
        why: Unreadable,
    },
    /// A file was written by a release whose formats this one does not read any more.
    #[error("{} has format {found}, from before the first release; this release reads format {known}: begin with an empty \
             directory", path.display())]
    OlderFormat {
        /// The file.
        path: PathBuf,
        /// The format found.
        found: u32,
        /// The format known.
        known: u32,
    },
    /// A file does not hold what it must.
    #[error("the {what} is damaged: {detail}")]
    Damaged {
        /// The log, the state or the identity.
        what: &'static str,
        /// What is wrong.
        detail: String,
    },
    /// An entry of the log is not what was written, or is missing.
    #[error("entry {index} of the log is corrupt: {detail}")]
    CorruptEntry {
        /// The entry.
        index: Index,
        /// What is wrong.
        detail: String,
    },
    /// A thread or a task of the node panicked, and with it nobody does its work.
    #[error("{what} ended: {why}")]
    Ended {
        /// Which.
        what: &'static str,
        /// What it said.
        why: String,
    },
    /// The other replicas have another state.
    #[error(
        "the state at entry {index} is not that of the majority of the replicas (hash {own:016x} here, {majority:016x} \
         there): the memory or the disk of this machine is at fault, or konsen; replace this node with `konsen \
         member replace`, and let it start with an empty data directory"
    )]
    Diverged {
        /// Where they were compared.
        index: u64,
        /// The hash here.
        own: u64,
        /// The hash of the majority.
        majority: u64,
    },
    /// An invariant of the protocol is broken.
    #[error(
        "{0}: somebody has lost what was on its disk or has had an old copy of it put in its place, or konsen is at \
         fault; this node stops rather than go on with that"
    )]
    Broken(#[from] Broken),
    /// The database refused or failed.
    #[error("the {what} failed: {source}")]
    Database {
        /// The log or the state.
        what: &'static str,
        /// Its answer.
        source: Box<redb::Error>,
    },
}

/// A page of a database that does not hold what its parent says. It goes through redb as an error of the system.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct DamagedPage(pub(super) String);

/// What errors call the write-ahead log.
pub(super) const WAL: &str = "write-ahead log";

/// Whether there is no room, be it on the disk or up to the largest file that the process may write (`ulimit -f`).
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::FileTooLarge | io::ErrorKind::QuotaExceeded
    )
}

/// Whether a page that redb asked for does not hold what was written.
fn is_damage(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|source| source.is::<DamagedPage>())
}

/// Whether a file ends before what it should hold.
fn is_short(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::UnexpectedEof
}

/// What redb told of the log.
pub(super) fn log_failed(error: impl Into<redb::Error>) -> StoreError {
    StoreError::database("log", error)
}

/// What redb told of the state.
pub(super) fn state_failed(error: impl Into<redb::Error>) -> StoreError {
    StoreError::database("state", error)
}

impl StoreError {
    /// A file has another format than this release reads.
    pub(super) fn other_format(path: &Path, found: u32, known: u32) -> StoreError {
        let path = path.to_path_buf();
        match found < known {
            true => StoreError::OlderFormat { path, found, known },
            false => StoreError::NewerFormat { path, found, known },
        }
    }

    /// An entry that the log should hold is not in it.
    pub fn missing_entry(index: Index) -> StoreError {
        StoreError::CorruptEntry { index, detail: "it is missing".to_owned() }
    }

    /// An error of the operating system, of the log, the state or the identity; a full disk is recognised.
    pub(super) fn io(
        file: &'static str,
        what: &'static str,
        path: &Path,
        source: io::Error,
    ) -> StoreError {
        if is_full(&source) {
            return StoreError::DiskFull { what: file };
        }
        StoreError::Io { what, path: path.to_path_buf(), source }
    }

    /// An error of the database; a full disk and a damaged file are recognised.
    pub(super) fn database(what: &'static str, error: impl Into<redb::Error>) -> StoreError {
        match error.into() {
            redb::Error::Io(error) if is_full(&error) => StoreError::DiskFull { what },
            redb::Error::Io(error) if is_damage(&error) => {
                StoreError::Damaged { what, detail: error.to_string() }
            }
            redb::Error::Io(error) if is_short(&error) => {
                StoreError::damaged(what, "its file is cut short")
            }
            redb::Error::Corrupted(detail) => StoreError::Damaged { what, detail },
            source => StoreError::Database { what, source: Box::new(source) },
        }
    }

    /// An error of opening the database file at `path`; one that is open elsewhere is recognised.
    pub(super) fn opening(
        what: &'static str,
        path: &Path,
        error: impl Into<redb::Error>,
    ) -> StoreError {
        match error.into() {
            redb::Error::DatabaseAlreadyOpen => {
                StoreError::InUse { path: paths::dir_of(path).to_path_buf() }
            }
            // It does not say which pages.
            redb::Error::Corrupted(detail) => {
                let path = path.display();
                let detail = format!("{path}: a page is not what was written ({detail})");
                StoreError::Damaged { what, detail }
            }
            redb::Error::Io(error) if is_short(&error) => {
                StoreError::damaged(what, format!("{} is cut short", path.display()))
            }
            redb::Error::Io(error) if is_damage(&error) => StoreError::database(what, error),
            redb::Error::Io(error) if error.kind() == io::ErrorKind::InvalidData => {
                let detail = format!("the head of {} is not what was written", path.display());
                StoreError::damaged(what, format!("{detail} ({error})"))
            }
            redb::Error::Io(error) => StoreError::io(what, "open", path, error),
            error => StoreError::database(what, error),
        }
    }

    /// Whoever worked on a file panicked: what it holds now is known only after it is opened anew.
    pub fn panicked(what: &'static str) -> StoreError {
        StoreError::damaged(what, "whoever worked on it panicked")
    }

    /// Whoever did that panicked.
    pub fn ended(what: &'static str, panic: &(dyn Any + Send)) -> StoreError {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
        let why = text.unwrap_or_else(|| "it panicked".to_owned());
        StoreError::Ended { what, why }
    }

    /// The file of the data directory that does not hold what was written, if that is what is wrong.
    pub fn damaged_file(&self) -> Option<&'static str> {
        match self {
            StoreError::CorruptEntry { .. } => Some(paths::LOG),
            StoreError::Damaged { what: "log", .. } => Some(paths::LOG),
            StoreError::Damaged { what: WAL, .. } => Some(paths::WAL),
            StoreError::Damaged { what: "state", .. } => Some(paths::STATE),
            _ => None,
        }
    }

    /// A file that does not hold what it must.
    pub(super) fn damaged(what: &'static str, detail: impl Into<String>) -> StoreError {
        StoreError::Damaged { what, detail: detail.into() }
    }
}
