//! What the state has to be: the committed log carried out on plain maps.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::ops::ControlFlow;

use bytes::Bytes;
use konsen::kv::{
    self, Command, Counters, KeyRange, KeyRow, Reply, Revision, RevisionRow, RowId, Rows,
};
use konsen::raft::{Entry, Index, Payload};

use super::oracle::{Broken, ensure};

/// The state machine on plain maps, fed with what is committed, once and in order.
#[derive(Debug, Default)]
pub(crate) struct Reference {
    model: Model,
    counters: Counters,
    hashes: Vec<u64>,
    compacted: Vec<Revision>,
    /// By the clock of the command, which names the request: where it stands and what it did.
    pub(crate) replies: HashMap<u64, (Index, Reply)>,
}

#[derive(Debug, Default)]
struct Model {
    keys: BTreeMap<Bytes, KeyRow>,
    rows: BTreeMap<RowId, RevisionRow>,
    /// All that ever changed a key, in order.
    changes: BTreeMap<Bytes, Vec<RowId>>,
}

impl Rows for Model {
    type Error = Infallible;

    fn key(&self, key: &[u8]) -> Result<Option<KeyRow>, Infallible> {
        Ok(self.keys.get(key).copied())
    }

    fn visit(
        &self,
        range: &KeyRange,
        visit: &mut dyn FnMut(Bytes, KeyRow) -> ControlFlow<()>,
    ) -> Result<(), Infallible> {
        let keys = self.keys.iter().filter(|(key, _)| range.contains(key));
        let _ = keys.map(|(key, row)| visit(key.clone(), *row)).find(ControlFlow::is_break);
        Ok(())
    }

    fn set(&mut self, id: RowId, row: RevisionRow) {
        self.changes.entry(row.key.clone()).or_default().push(id);
        self.keys.insert(row.key.clone(), row.key_row(id));
        self.rows.insert(id, row);
    }
}

impl Reference {
    pub(super) fn apply(&mut self, entry: &Entry) -> Result<(), Broken> {
        if let Payload::Command(bytes) = &entry.payload {
            let Ok(reply) = kv::apply(&mut self.model, &mut self.counters, bytes);
            let command = Command::decode(bytes)
                .map_err(|why| Broken(format!("entry {} is no command: {why}", entry.id)))?;
            let request = command.time_unix_ms;
            let twice = self.replies.insert(request, (entry.id.index, reply));
            ensure!(twice.is_none(), "request {request} is committed twice");
        }
        self.hashes.push(self.counters.hash);
        self.compacted.push(self.counters.compacted);
        Ok(())
    }

    pub(super) fn hash_at(&self, index: Index) -> u64 {
        (index.0 as usize).checked_sub(1).map_or(0, |at| self.hashes[at])
    }

    /// The oldest revision that can be read after an entry.
    pub(super) fn compacted_at(&self, index: Index) -> Revision {
        (index.0 as usize).checked_sub(1).map_or(Revision(0), |at| self.compacted[at])
    }

    /// The store's revision after the last committed entry.
    pub(crate) fn revision(&self) -> Revision {
        self.counters.revision
    }

    /// The value and mod revision of a key at a revision, whether or not that is compacted.
    pub(crate) fn value_at(&self, key: &[u8], at: Revision) -> Option<(Bytes, Revision)> {
        let changes = self.model.changes.get(key)?;
        let id = changes.iter().rfind(|id| id.revision <= at)?;
        let row = &self.model.rows[id];
        (row.version > 0).then(|| (row.value.clone(), id.revision))
    }

    /// Every key that existed at a revision, with value and mod revision.
    pub(crate) fn listing(&self, at: Revision) -> Vec<(Bytes, Bytes, Revision)> {
        let existing = |key: &Bytes| {
            self.value_at(key, at).map(|(value, revision)| (key.clone(), value, revision))
        };
        self.model.changes.keys().filter_map(existing).collect()
    }
}
