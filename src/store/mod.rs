//! redb: the log, the state with its overlay and checkpoints, the node's identity.
//!
//! A data directory holds `identity` (whose it is), `log.redb`, `state.redb` and `ballast` (room that is kept). Two databases, since one
//! redb database has one writer, and the log must never wait for the state.

#[cfg(test)]
mod damage_tests;
mod dir;
mod disk;
mod error;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod life;
mod log;
mod meta;
#[cfg(test)]
mod newer_format_tests;
mod paths;
#[cfg(any(test, fuzzing))]
mod sample;
mod sealed;
mod snapshot;
mod state;
mod tally;
#[cfg(any(test, fuzzing))]
// Fuzzing needs a part of it only.
#[cfg_attr(not(test), allow(dead_code))]
mod test_disk;

pub use dir::{
    DataDir, IdentityCheck, Sizes, Survivor, begin_alone, recover, rescue, restore, stored_records,
    survey, take_in,
};
pub use disk::{Purpose, Reserved, Space, SpaceWatch};
pub use error::StoreError;
pub use life::{Life, Pulse};
pub use log::{Log, LogEvent, LogOptions, LogReader, LogWriter, RecoveredLog};
pub use snapshot::{
    BackupCheck, BackupError, BackupReader, BackupSummary, Incoming, IncomingError, Origin, Sha256,
    SnapshotReader,
};
pub use state::{
    Applied, Carried, Checkpointer, CountRead, Counted, Event, EventBatch, Frozen, HashAt,
    Observer, PastRead, Pin, PinnedError, PinnedRows, RangeRead, ReadError, RowsRead, State,
    StateOptions, Verified, Verify,
};
pub use tally::{Histogram, Reading, Tally};

/// The versions of what this release writes: the identity of a data directory, its two databases, the pieces of a
/// snapshot, and the file of a backup.
pub const FORMATS: [(&str, u32); 4] = [
    ("identity", dir::identity::FORMAT),
    ("files", meta::FORMAT),
    ("snapshot", snapshot::pieces::FORMAT),
    ("backup", snapshot::backup::FORMAT),
];
