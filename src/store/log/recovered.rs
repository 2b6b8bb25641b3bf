//! What a log holds when it is opened, and what the core starts from.

use super::reader::LogReader;
use crate::raft::{HardState, Index, LogId, Recovered, Term};
use crate::store::error::StoreError;

/// What a log holds when it is opened.
#[derive(Clone, Debug)]
pub struct RecoveredLog {
    pub(super) hard_state: HardState,
    pub(super) base: LogId,
    pub(super) last: Index,
}
impl RecoveredLog {
    pub(super) fn new(hard_state: HardState, base: LogId, last: Index) -> RecoveredLog {
        RecoveredLog { hard_state, base, last }
    }

    pub(in crate::store) fn hard_state(&self) -> HardState {
        self.hard_state
    }

    /// What the core starts from, given the last entry that the state's file holds. Reads only what comes
    /// after what is known to be committed, and checks it.
    pub fn into_recovered(
        self,
        reader: &LogReader,
        applied: LogId,
    ) -> Result<Recovered, StoreError> {
        let RecoveredLog { mut hard_state, base, last } = self;
        if applied.index > last || applied.index < base.index {
            return Err(StoreError::damaged(
                "data directory",
                format!(
                    "the state is at entry {}, the log holds {} to {last}; the two files are not \
                     from the same time",
                    applied.index,
                    base.index.next()
                ),
            ));
        }
        let found = reader.id_at(applied.index)?;
        if applied.index > Index(0) && found != Some(applied) {
            return Err(StoreError::damaged(
                "data directory",
                format!("the state has applied entry {applied}, the log has {found:?} there"),
            ));
        }
        hard_state.commit = hard_state.commit.max(applied.index).min(last);
        let committed = reader.id_at(hard_state.commit)?;
        let committed = committed.ok_or_else(|| StoreError::missing_entry(hard_state.commit))?;
        let from = committed.index.next();
        let tail = if from <= last { reader.read(from, last, usize::MAX)? } else { Vec::new() };
        // What is not committed may be undone, so the one in force below is kept too.
        let mut memberships = reader.memberships()?;
        let below = memberships.iter().rposition(|(index, _)| *index <= committed.index);
        memberships.drain(..below.unwrap_or(0));
        Ok(Recovered {
            hard_state,
            base,
            committed,
            tail,
            memberships,
            applied: applied.index,
            heard_leader: hard_state.term > Term(0),
        })
    }
}
