//! What the state has to be: the committed log carried out on plain maps.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::ops::ControlFlow;

use bytes::Bytes;
use konsen::kv::{
    Command, Counters, FeatureLevel, KeyRange, KeyRow, Outcome, Prepared, ReadRows, RecordKey,
    Reply, Revision, RevisionRow, RowId, Rows,
};
use konsen::raft::{Entry, Index, Payload};

use super::anchors::NaiveAnchors;
use super::naive::Naive;
use super::oracle::{Broken, ensure};

/// It knows whatever level a cluster is raised to.
const HIGHEST: FeatureLevel = FeatureLevel(u32::MAX);

/// The state machine on plain maps, fed with what is committed, once and in order.
#[derive(Debug, Default)]
pub(crate) struct Reference {
    model: Model,
    naive: Naive,
    anchors: NaiveAnchors,
    counters: Counters,
    hashes: Vec<u64>,
    compacted: Vec<Revision>,
    /// By the token of the command, which names the request: where it stands and what it did.
    pub(crate) replies: HashMap<u64, (Index, Reply)>,
}

#[derive(Debug, Default)]
struct Model {
    keys: BTreeMap<Bytes, KeyRow>,
    rows: BTreeMap<RowId, RevisionRow>,
    records: BTreeMap<RecordKey, Bytes>,
    /// All that ever changed a key, in order.
    changes: BTreeMap<Bytes, Vec<RowId>>,
}

impl ReadRows for Model {
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

impl Rows for Model {
    fn set(&mut self, id: RowId, row: RevisionRow, key_row: KeyRow) {
        self.changes.entry(row.key.clone()).or_default().push(id);
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

impl Reference {
    pub(super) fn apply(&mut self, entry: &Entry) -> Result<(), Broken> {
        if let Payload::Command(bytes) = &entry.payload {
            let broken = |why| Broken(format!("entry {}: {why}", entry.id));
            let Command { header, write } =
                Command::decode(bytes, HIGHEST).map_err(|why| broken(why.to_string()))?;
            let prepared = Prepared::of(bytes, HIGHEST).map_err(|why| broken(why.to_string()))?;
            let clock = self.counters.clock_ms;
            let Ok(reply) = prepared.apply(&mut self.model, &mut self.counters);
            let clients = header.token.is_some() && header.level >= FeatureLevel::ACCESS;
            ensure!(
                header.admitted.is_some() || !clients,
                "nobody says by what the command at {} was admitted",
                entry.id
            );
            self.naive.apply(header.admitted, &write, &reply)?;
            self.anchors.follow(&write, clock.max(header.clock_ms), &self.model.records)?;
            ensure!(
                self.counters.clock_ms >= clock,
                "the clock goes back at {}, from {clock} to {}",
                entry.id,
                self.counters.clock_ms
            );
            let Some(request) = header.token.and_then(|token| token.parse().ok()) else {
                self.note();
                return Ok(());
            };
            // It was not carried out, and whoever took it in may try again.
            if reply.outcome == Outcome::Outdated {
                self.note();
                return Ok(());
            }
            let twice = self.replies.insert(request, (entry.id.index, reply));
            ensure!(twice.is_none(), "request {request} is committed twice");
        }
        self.note();
        Ok(())
    }

    fn note(&mut self) {
        self.hashes.push(self.counters.hash);
        self.compacted.push(self.counters.compacted);
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
