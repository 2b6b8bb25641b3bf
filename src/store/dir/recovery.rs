//! What a start finds in the two files together.

use crate::raft::{HardState, LogWrite, Recovered};
use crate::store::error::StoreError;
use crate::store::log::{Log, RecoveredLog};
use crate::store::state::State;

/// What the core starts from. If a snapshot took the state's place and the power failed before the log
/// followed, the log is begun anew first.
pub fn recover(state: &State, log: &mut Log, found: RecoveredLog) -> Result<Recovered, StoreError> {
    let found = match state.installed() {
        Some((last, membership)) if !log.holds(last)? => {
            if state.applied() != last {
                return Err(StoreError::damaged(
                    "data directory",
                    format!(
                        "the state holds a snapshot up to {last}, and the log does not follow it"
                    ),
                ));
            }
            // Whoever sent it spoke in its term or a newer one, of which the disk may not have heard.
            let hard_state = match found.hard_state() {
                old if old.term < last.term => {
                    HardState { term: last.term, vote: None, commit: last.index }
                }
                old => HardState { commit: last.index, ..old },
            };
            tracing::warn!(%last, "the log begins anew after the snapshot that took the state's place");
            let write = LogWrite {
                hard_state: Some(hard_state),
                reset: Some((last, membership)),
                ..LogWrite::default()
            };
            log.append(&[write])?;
            log.recovered()
        }
        _ => found,
    };
    found.into_recovered(&log.reader(), state.applied())
}
