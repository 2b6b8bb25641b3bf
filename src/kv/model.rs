//! The state machine on plain maps.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::ops::ControlFlow;

use bytes::Bytes;

use super::apply::{Counters, Rows, apply};
use super::command::Outcome;
use super::range::KeyRange;
use super::rows::{KeyRow, RevisionRow, RowId};

/// Rows in memory, and the counters.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Memory {
    pub(super) keys: BTreeMap<Bytes, KeyRow>,
    pub(super) rows: BTreeMap<RowId, RevisionRow>,
    pub(super) counters: Counters,
}

impl Rows for (&mut BTreeMap<Bytes, KeyRow>, &mut BTreeMap<RowId, RevisionRow>) {
    type Error = Infallible;

    fn key(&self, key: &[u8]) -> Result<Option<KeyRow>, Infallible> {
        Ok(self.0.get(key).copied())
    }

    fn visit(
        &self,
        range: &KeyRange,
        visit: &mut dyn FnMut(Bytes, KeyRow) -> ControlFlow<()>,
    ) -> Result<(), Infallible> {
        let keys = self.0.iter().filter(|(key, _)| range.contains(key));
        let _ = keys.map(|(key, row)| visit(key.clone(), *row)).find(ControlFlow::is_break);
        Ok(())
    }

    fn set(&mut self, id: RowId, row: RevisionRow) {
        self.0.insert(row.key.clone(), row.key_row(id));
        self.1.insert(id, row);
    }
}

impl Memory {
    /// The revision after the command, and what it did.
    pub(super) fn apply(&mut self, command: &[u8]) -> (u64, Outcome) {
        let mut rows = (&mut self.keys, &mut self.rows);
        let Ok(reply) = apply(&mut rows, &mut self.counters, command);
        (reply.revision.0, reply.outcome)
    }
}
