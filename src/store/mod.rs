//! redb: the log, the state with its overlay and checkpoints, the node's identity.
//!
//! A data directory holds `identity` (whose it is), `log.redb`, `state.redb` and `ballast` (room that is kept). Two databases, since one
//! redb database has one writer, and the log must never wait for the state.

mod apply;
mod at_hand;
mod backend;
mod backup;
mod backup_check;
mod checkpoint;
mod checkpointer;
mod coalesce;
mod count;
#[cfg(test)]
mod damage_tests;
mod early_sync;
mod error;
mod events;
mod files;
mod freeze;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod identity;
mod install;
mod life;
mod log;
mod log_writer;
mod long_read;
mod lookup;
mod meta;
#[cfg(test)]
mod newer_format_tests;
mod overlay;
mod paths;
mod pin;
mod pins;
mod position;
mod range;
mod read;
mod recovery;
mod replace;
mod restore;
#[cfg(any(test, fuzzing))]
mod sample;
mod sealed;
mod snapshot;
mod snapshot_decoder;
mod space;
mod state;
mod state_hashes;
mod sweep;
mod tables;
mod tail;
#[cfg(any(test, fuzzing))]
// Fuzzing needs a part of it only.
#[cfg_attr(not(test), allow(dead_code))]
mod test_disk;
mod under;
mod view;
mod yielding;

pub use apply::{Applied, Carried};
pub use backup::{BackupReader, Origin, Sha256};
pub use backup_check::{BackupCheck, BackupError, BackupSummary};
pub use checkpoint::Frozen;
pub use checkpointer::Checkpointer;
pub use count::{CountRead, Counted};
pub use error::StoreError;
pub use events::{Event, EventBatch, Observer};
pub use identity::{DataDir, IdentityCheck, Sizes};
pub use install::{Incoming, IncomingError};
pub use life::{Life, Pulse};
pub use log::{Log, LogOptions, LogReader, RecoveredLog};
pub use log_writer::{LogEvent, LogWriter};
pub use long_read::{PastRead, RangeRead};
pub use lookup::RowsRead;
pub use pin::{Pin, PinnedError, PinnedRows};
pub use read::ReadError;
pub use recovery::recover;
pub use restore::{Survivor, begin_alone, rescue, restore, survey, take_in};
pub use snapshot::SnapshotReader;
pub use space::{Purpose, Reserved, Space, SpaceWatch};
pub use state::{State, StateOptions};
pub use state_hashes::Mark;

/// The versions of what this release writes: the identity of a data directory, its two databases, the pieces of a
/// snapshot, and the file of a backup.
pub const FORMATS: [(&str, u32); 4] = [
    ("identity", identity::FORMAT),
    ("files", meta::FORMAT),
    ("snapshot", snapshot::FORMAT),
    ("backup", backup::FORMAT),
];
