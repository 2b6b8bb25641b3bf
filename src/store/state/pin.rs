//! Pins: what a revision needs stays on the disk while somebody holds one, even if it is compacted meanwhile.
//!
//! Who carries a transaction out for a client reads previous values and ranges after it was applied. A compaction may be
//! applied right behind it. The log says what may be read by anybody; a pin only puts off the removal of rows, on this
//! replica alone, which no other can tell.

use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;

use super::core::State;
use super::long_read::RangeRead;
use super::range::Scan;
use super::read::{Chain, ReadError, Walked, When, item, missing};
use crate::kv::{
    Item, KeyRange, KeyRow, RangeQuery, ReadRows, Revision, RevisionRow, Roots, RowId,
};

/// Keeps what its revision needs, and every later one, until it is dropped.
#[derive(Debug)]
pub struct Pin {
    state: Arc<State>,
    revision: Revision,
    /// How often a snapshot had taken the state's place: one that does takes the rows with it.
    installs: u64,
}

impl State {
    /// Pins the newest revision.
    pub fn pin(self: &Arc<State>) -> Pin {
        // Under the lock: a compaction that is applied after this goes no further than the revision's own successors.
        let shared = self.shared.read();
        let revision = shared.position.counters.revision;
        let installs = shared.installs;
        self.pins.add(revision);
        drop(shared);
        Pin { state: self.clone(), revision, installs }
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        self.state.pins.remove(self.revision);
    }
}

impl Pin {
    /// Of which state it is.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The revision.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// What a change made of its key; none if that deleted it. The change is one that a revision since the pin's has.
    pub fn item(&self, id: RowId) -> Result<Option<Item>, ReadError> {
        Ok(item(id, self.row(id)?))
    }

    /// The change before one that deleted a key, as an item: what was deleted.
    pub fn deleted(&self, id: RowId) -> Result<Option<Item>, ReadError> {
        let previous = self.row(id)?.previous;
        previous.map_or(Ok(None), |previous| self.item(previous))
    }

    /// The reading of a range as it was right before a change that comes after the pin.
    pub fn range(&self, query: RangeQuery, before: RowId) -> RangeRead {
        RangeRead::pinned(query, self.when(before))
    }

    /// The rows as of the pin's revision. `stop`, asked at every row, ends what reads them.
    pub fn rows<'a>(&'a self, stop: &'a dyn Fn() -> bool) -> PinnedRows<'a> {
        PinnedRows { pin: self, when: self.when(When::at(self.revision).before), stop }
    }

    fn when(&self, before: RowId) -> When {
        // Without a change before it in its revision, that is not begun.
        let at = Revision(before.revision.0.saturating_sub(u64::from(before.sub == 0)));
        When { at, before, pinned: (at >= self.revision).then_some(self.installs) }
    }

    fn row(&self, id: RowId) -> Result<RevisionRow, ReadError> {
        match self.state.row(id)? {
            Some(row) => Ok(row),
            None => {
                self.state.still_readable(self.when(id))?;
                Err(missing(id).into())
            }
        }
    }
}

/// See [`Pin::rows`].
pub struct PinnedRows<'a> {
    pin: &'a Pin,
    when: When,
    stop: &'a dyn Fn() -> bool,
}

impl std::fmt::Debug for PinnedRows<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PinnedRows").field("when", &self.when).finish_non_exhaustive()
    }
}

/// Why rows as of a revision were not read to the end.
#[derive(Debug, thiserror::Error)]
pub enum PinnedError {
    /// Whoever reads them is to stop.
    #[error("the read was stopped")]
    Stopped,
    /// They could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl PinnedRows<'_> {
    /// The row that a key with this newest change had then.
    fn as_of(&self, row: KeyRow) -> Result<Option<KeyRow>, PinnedError> {
        if row.newest < self.when.before {
            return Ok(Some(row));
        }
        let mut chain = Chain { next: Some(row.newest), created: false };
        let mut stopped = false;
        let mut pause = || {
            stopped = (self.stop)();
            stopped
        };
        let walked = self.pin.state.walk_back(&mut chain, self.when, &mut pause)?;
        Ok(match walked {
            Walked::Paused => return Err(PinnedError::Stopped),
            Walked::To(None) => None,
            Walked::To(Some((newest, row))) => Some(KeyRow {
                newest,
                create_revision: row.create_revision,
                version: row.version,
                lease: row.lease,
                roots: Roots::default(),
            }),
        })
    }
}

impl ReadRows for PinnedRows<'_> {
    type Error = PinnedError;

    fn key(&self, key: &[u8]) -> Result<Option<KeyRow>, PinnedError> {
        if (self.stop)() {
            return Err(PinnedError::Stopped);
        }
        let row = self.pin.state.key_row(key).map_err(ReadError::from)?;
        row.map_or(Ok(None), |row| self.as_of(row))
    }

    fn row(&self, id: RowId) -> Result<RevisionRow, PinnedError> {
        Ok(self.pin.row(id)?)
    }

    fn visit(
        &self,
        range: &KeyRange,
        visit: &mut dyn FnMut(Bytes, KeyRow) -> ControlFlow<()>,
    ) -> Result<(), PinnedError> {
        let mut scan = Scan::new(&self.pin.state, range.clone(), false);
        while let Some((key, row)) = scan.next().map_err(ReadError::from)? {
            if (self.stop)() {
                return Err(PinnedError::Stopped);
            }
            if let Some(row) = self.as_of(row)?
                && visit(key, row).is_break()
            {
                break;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use redb::backends::InMemoryBackend;

    use super::*;
    use crate::kv::{Command, Compare, Counters, Outcome, Over, Test, Txn, Write, evaluate};
    use crate::raft::{Entry, LogId, Payload, Term};
    use crate::store::StateOptions;

    fn apply(state: &State, write: Write) {
        let id = LogId::new(Term(1), state.applied().index.next());
        let payload = Payload::Command(Command::new(write).encode());
        state.apply(&[Entry { id, payload }]).unwrap();
    }

    #[test]
    fn a_deletion_counts_as_a_change_after_the_key_was_set_again() {
        let state = State::open_backend(InMemoryBackend::new(), &StateOptions::default());
        let state = Arc::new(state.unwrap());
        let key = || Bytes::from_static(b"a");
        apply(&state, Write::put(key(), "1".into()));
        let before = state.revision();
        apply(&state, Write::delete(key()));
        let pin = state.pin();
        apply(&state, Write::put(key(), "2".into()));
        for over in [Over::Key(key()), Over::Range(KeyRange::all())] {
            let holds = |since| {
                let test = Test::UnchangedSince(since);
                let compares = vec![Compare { over: over.clone(), test }];
                let txn = Txn { compares, ..Txn::default() };
                let counters = Counters { revision: pin.revision(), ..Counters::default() };
                match evaluate(&pin.rows(&|| false), &counters, txn, 9).unwrap().outcome {
                    Outcome::Txn(outcome) => outcome.succeeded,
                    other => panic!("{other:?}"),
                }
            };
            assert!(!holds(before), "{over:?}: it was deleted since");
            assert!(holds(pin.revision()), "{over:?}");
        }
    }
}
