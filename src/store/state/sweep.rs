//! Removing what compaction hides, a bounded number of rows in each checkpoint.
//!
//! What can be read is for the compacted revision alone to say; the rows that it hides go later. A sweep
//! looks at each change up to the compacted revision, in order: it has superseded the one that it links
//! back to, so that one goes; a deletion goes itself, and its key with it unless that was set again. But the deletions of
//! the compacted revision itself stay: whoever goes on from there is still to see them. The next compaction takes them, for
//! which those changes are looked at once more.
//!
//! How far it came is no part of the state and in no snapshot: whoever receives one looks at everything
//! once more, which removes what the sender had not come to and changes nothing else.

use bytes::Bytes;
use redb::{ReadableTable, Table};

use super::overlay::Overlay;
use super::tables::{key_row, revision_row};
use crate::kv::{Revision, RowId};
use crate::store::error::{StoreError, state_failed as failed};
use crate::store::meta;

const SWEPT_KEY: &str = "swept";
/// The most bytes of rows looked at in one checkpoint, beyond twice what it writes.
const BYTES_AT_ONCE: usize = 64 << 20;
/// The most rows, and bytes of them, looked at where the disk is full: what removes a row writes pages before it frees others.
const ROWS_IN_NEED: usize = 32;
const BYTES_IN_NEED: usize = 1 << 20;
/// What the removal of a row may write: two pages at the bottom of each of two trees, and those above. An estimate.
const ROW_WRITES_BYTES: u64 = 32 << 10;

/// How far sweeps have come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Swept {
    /// The first change that no sweep has looked at.
    next: RowId,
    /// The compacted revision of which deletions were left alone; 0: of none. Once another is compacted they go first.
    spared: Revision,
}

impl Swept {
    /// As the file has it. No record: nothing was looked at.
    pub(super) fn load(
        meta: &impl ReadableTable<&'static str, &'static [u8]>,
    ) -> Result<Swept, StoreError> {
        let found = meta::find::<(u64, u32, u64)>(meta, "state", SWEPT_KEY)?;
        let (revision, sub, spared) = found.unwrap_or((1, 0, 0));
        let next = RowId { revision: Revision(revision), sub };
        Ok(Swept { next, spared: Revision(spared) })
    }

    /// Other rows took the place of those that were looked at.
    pub(super) fn forget(meta: &mut Table<'_, &str, &[u8]>) -> Result<(), StoreError> {
        meta.remove(SWEPT_KEY).map(drop).map_err(failed)
    }

    fn store(self, meta: &mut Table<'_, &str, &[u8]>) -> Result<(), StoreError> {
        let Swept { next, spared } = self;
        meta::put(meta, "state", SWEPT_KEY, &(next.revision.0, next.sub, spared.0))
    }

    /// Whether changes up to `compacted` are still to be looked at.
    pub(super) fn is_behind(self, compacted: Revision) -> bool {
        self.next.revision <= compacted || self.has_spared_before(compacted)
    }

    fn has_spared_before(self, compacted: Revision) -> bool {
        self.spared > Revision(0) && self.spared < compacted
    }
}

/// How much may be looked at in one transaction.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    rows: usize,
    bytes: usize,
}

impl Budget {
    /// Of a checkpoint that writes `overlay`: more than that adds, so that sweeps keep up with any load.
    pub(super) fn beside(overlay: &Overlay, rows_at_once: usize) -> Budget {
        Budget {
            rows: rows_at_once.max(1) + 2 * overlay.rows.len(),
            bytes: BYTES_AT_ONCE + 2 * overlay.bytes,
        }
    }

    /// On a full disk.
    pub(super) fn in_need() -> Budget {
        Budget { rows: ROWS_IN_NEED, bytes: BYTES_IN_NEED }
    }

    /// What a checkpoint with that budget may write besides its overlay.
    pub(super) fn in_need_bytes() -> u64 {
        ROW_WRITES_BYTES * ROWS_IN_NEED as u64 + BYTES_IN_NEED as u64
    }
}

/// Looks at the next changes up to `compacted`, which is at most what the tables hold, and removes what
/// has to go.
pub(super) fn sweep(
    keys: &mut Table<'_, &[u8], &[u8]>,
    revisions: &mut Table<'_, (u64, u32), &[u8]>,
    meta: &mut Table<'_, &str, &[u8]>,
    compacted: Revision,
    budget: Budget,
) -> Result<(), StoreError> {
    let swept = Swept::load(meta)?;
    if !swept.is_behind(compacted) {
        return Ok(());
    }
    let (going, next) = look(revisions, swept, compacted, budget)?;
    for Going { id, previous, deletes } in going {
        if let Some(previous) = previous {
            revisions.remove((previous.revision.0, previous.sub)).map_err(failed)?;
        }
        if let Some(key) = deletes {
            revisions.remove((id.revision.0, id.sub)).map_err(failed)?;
            let newest = keys.get(&key[..]).map_err(failed)?;
            let newest = newest.map(|row| key_row(row.value(), &key)).transpose()?;
            if newest.is_some_and(|row| row.newest == id) {
                keys.remove(&key[..]).map_err(failed)?;
            }
        }
    }
    next.store(meta)
}

/// A change up to the compacted revision.
struct Going {
    id: RowId,
    previous: Option<RowId>,
    /// The key, if it deleted it.
    deletes: Option<Bytes>,
}

fn look(
    revisions: &Table<'_, (u64, u32), &[u8]>,
    swept: Swept,
    compacted: Revision,
    budget: Budget,
) -> Result<(Vec<Going>, Swept), StoreError> {
    let mut swept = swept;
    if swept.has_spared_before(compacted) {
        let next = RowId { revision: swept.spared, sub: 0 };
        swept = Swept { next, spared: Revision(0) };
    }
    let from = swept.next;
    let range = (from.revision.0, from.sub)..(compacted.0.saturating_add(1), 0);
    let (mut going, mut bytes) = (Vec::new(), 0);
    for row in revisions.range(range).map_err(failed)? {
        let (id, row) = row.map_err(failed)?;
        let (revision, sub) = id.value();
        let id = RowId { revision: Revision(revision), sub };
        if going.len() >= budget.rows || bytes >= budget.bytes {
            return Ok((going, Swept { next: id, ..swept }));
        }
        bytes += row.value().len();
        let row = revision_row(row.value(), id)?;
        let goes = !row.is_live() && id.revision < compacted;
        if !row.is_live() && !goes {
            swept.spared = compacted;
        }
        let deletes = goes.then(|| row.key.clone());
        going.push(Going { id, previous: row.previous, deletes });
    }
    let next = RowId { revision: Revision(compacted.0.saturating_add(1)), sub: 0 };
    Ok((going, Swept { next, ..swept }))
}

#[cfg(test)]
#[path = "sweep_tests.rs"]
mod tests;
