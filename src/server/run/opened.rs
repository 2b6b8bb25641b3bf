//! A data directory, opened: in the order in which one file needs the other. Before it is opened nothing is known of who
//! this node is, and how far it is.

use std::sync::Arc;

use crate::cluster::settings::promised_ms;
use crate::config::Config;
use crate::raft;
use crate::server::limits::{bytes, settings_of};
use crate::store::{
    self, DataDir, IdentityCheck, Life, Log, LogOptions, Space, State, StateOptions, StoreError,
    Verify,
};

/// What a data directory holds, opened.
pub(crate) struct Opened {
    pub(crate) data: DataDir,
    pub(crate) space: Arc<Space>,
    pub(crate) log: Log,
    pub(crate) state: Arc<State>,
    /// For how long a leader may count on what this node has promised, in milliseconds.
    pub(crate) guards_ms: u64,
}

/// Opens it, and tells what the replica begins with.
pub(crate) fn open(
    config: &Config,
    life: Arc<Life>,
) -> Result<(Opened, raft::Recovered), StoreError> {
    let check =
        IdentityCheck { cluster: config.cluster.to_string(), node: config.name.to_string() };
    let data = DataDir::open(&config.data, &check)?;
    let space = Space::open_with(data.path(), config.limits.free_space, life)?;
    let _room = space.make_way();
    let state_options = StateOptions {
        cache_bytes: bytes(config.limits.state_cache),
        rows_bytes: bytes(config.limits.state_cache) / 2,
        overlay_bytes: bytes(config.limits.overlay),
        verify: Verify::Later,
        ..StateOptions::default()
    };
    let state = Arc::new(State::open(&data.state_path(), Some(&space), &state_options)?);
    let log_options = LogOptions {
        cache_bytes: bytes(config.limits.log_cache),
        tail_bytes: config.limits.log_tail,
        wal_bytes: config.limits.wal,
        // A slot more has to fit into what the ballast leaves to votes.
        wal_slot_bytes: (config.limits.free_space / 16).clamp(1 << 20, 4 << 20),
    };
    let (mut log, found) = Log::open(&data.log_path(), Some(&space), &log_options)?;
    data.files_made()?;
    let guards_ms = data.guards(promised_ms(&settings_of(config)))?;
    let recovered = store::recover(&state, &mut log, found)?;
    tracing::info!(
        id = %data.id(),
        applied = recovered.applied.0,
        last = recovered.tail.last().map_or(recovered.committed, |entry| entry.id).index.0,
        "data directory opened"
    );
    Ok((Opened { data, space, log, state, guards_ms }, recovered))
}
