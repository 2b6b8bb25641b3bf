//! Requests that wait for the log.

use std::collections::BTreeMap;

use super::RequestId;
use crate::raft::{Index, LogId, Term};

/// Writes whose entry is in the log and not yet applied. Bounded by what the core takes in uncommitted.
#[derive(Debug, Default)]
pub(super) struct PendingWrites {
    by_index: BTreeMap<Index, Vec<(RequestId, Term)>>,
}

impl PendingWrites {
    pub(super) fn insert(&mut self, at: LogId, id: RequestId) {
        self.by_index.entry(at.index).or_default().push((id, at.term));
    }

    /// Everybody whose entry was once at `index`: at most one of them can have been applied.
    pub(super) fn take(&mut self, index: Index) -> Vec<(RequestId, Term)> {
        match self.by_index.first_key_value() {
            Some((&first, _)) if first == index => {
                self.by_index.pop_first().map(|(_, waiting)| waiting).unwrap_or_default()
            }
            _ => Vec::new(),
        }
    }

    /// Everybody whose entry was at `last` or before.
    pub(super) fn take_up_to(&mut self, last: Index) -> Vec<(RequestId, Term)> {
        let later = self.by_index.split_off(&last.next());
        std::mem::replace(&mut self.by_index, later).into_values().flatten().collect()
    }
}

/// Reads that are released once their index is applied. Bounded by the core's `reads_max`.
#[derive(Debug, Default)]
pub(super) struct PendingReads {
    by_index: BTreeMap<Index, Vec<RequestId>>,
}

impl PendingReads {
    pub(super) fn insert(&mut self, index: Index, id: RequestId) {
        self.by_index.entry(index).or_default().push(id);
    }

    /// Those whose index is reached.
    pub(super) fn take_up_to(&mut self, applied: Index) -> Vec<RequestId> {
        let later = self.by_index.split_off(&applied.next());
        let ready = std::mem::replace(&mut self.by_index, later);
        ready.into_values().flatten().collect()
    }
}
