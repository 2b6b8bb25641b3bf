//! A state on its way to elsewhere, and what comes in of one: snapshots for peers, and backups, which are snapshots in files.

pub(super) mod backup;
pub(super) mod backup_check;
mod decoder;
mod early_sync;
mod install;
pub(super) mod pieces;

pub use backup::{BackupReader, Origin, Sha256};
pub use backup_check::{BackupCheck, BackupError, BackupSummary};
pub use install::{Incoming, IncomingError};
pub use pieces::SnapshotReader;
