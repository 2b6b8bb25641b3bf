//! The state machine on plain maps.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::ops::ControlFlow;

use bytes::Bytes;

use super::access::{ReadRows, Rows};
use super::apply::Prepared;
use super::counters::Counters;
use super::outcome::Outcome;
use super::range::KeyRange;
use super::record::RecordKey;
use super::row_id::RowId;
use super::rows::{KeyRow, RevisionRow};

/// Rows in memory, and the counters.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Memory {
    pub(super) keys: BTreeMap<Bytes, KeyRow>,
    pub(super) rows: BTreeMap<RowId, RevisionRow>,
    pub(super) records: BTreeMap<RecordKey, Bytes>,
    pub(super) counters: Counters,
}

/// Their rows alone, since counters move on beside them.
struct Maps<'a> {
    keys: &'a mut BTreeMap<Bytes, KeyRow>,
    rows: &'a mut BTreeMap<RowId, RevisionRow>,
    records: &'a mut BTreeMap<RecordKey, Bytes>,
}

impl ReadRows for Maps<'_> {
    type Error = Infallible;

    fn key(&self, key: &[u8]) -> Result<Option<KeyRow>, Infallible> {
        Ok(self.keys.get(key).cloned())
    }

    fn row(&self, id: RowId) -> Result<RevisionRow, Infallible> {
        Ok(self.rows[&id].clone())
    }

    fn visit(
        &self,
        range: &KeyRange,
        visit: &mut dyn FnMut(Bytes, KeyRow) -> ControlFlow<()>,
    ) -> Result<(), Infallible> {
        let keys = self.keys.iter().filter(|(key, _)| range.contains(key));
        let _ = keys.map(|(key, row)| visit(key.clone(), row.clone())).find(ControlFlow::is_break);
        Ok(())
    }
}

impl Rows for Maps<'_> {
    fn set(&mut self, id: RowId, row: RevisionRow, key_row: KeyRow) {
        self.keys.insert(row.key.clone(), key_row);
        self.rows.insert(id, row);
    }

    fn set_record(&mut self, key: RecordKey, record: Option<Bytes>) {
        match record {
            Some(record) => self.records.insert(key, record),
            None => self.records.remove(&key),
        };
    }
}

impl Memory {
    /// The revision after the command, and what it did.
    pub(super) fn apply(&mut self, command: Prepared) -> (u64, Outcome) {
        let Memory { keys, rows, records, counters } = self;
        let mut maps = Maps { keys, rows, records };
        let Ok(reply) = command.apply(&mut maps, counters);
        (reply.revision.0, reply.outcome)
    }
}
