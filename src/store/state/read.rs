//! Reading keys and their past, from the overlays and the file.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::core::State;
use super::position::Position;
use super::view::FileView;
use crate::kv::{Counters, Item, KeyRange, KeyRow, RecordKey, Revision, RevisionRow, RowId};
use crate::store::error::StoreError;

/// Why a read has no answer.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The revision is compacted away.
    #[error("revision {asked} is compacted; the oldest readable one is {oldest}")]
    Compacted {
        /// What was asked for.
        asked: Revision,
        /// The oldest that can be read.
        oldest: Revision,
    },
    /// The revision is not reached yet.
    #[error("revision {asked} is not reached yet; the newest is {newest}")]
    Future {
        /// What was asked for.
        asked: Revision,
        /// The newest.
        newest: Revision,
    },
    /// The disk.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl State {
    /// One key at a revision, or the newest; and the revision that it was read at. What it takes is bounded
    /// only for the newest: see [`PastRead`](crate::store::PastRead) for others.
    pub fn get(
        &self,
        key: &[u8],
        at: Option<Revision>,
    ) -> Result<(Revision, Option<Item>), ReadError> {
        let (at, mut chain) = match self.find(key, at)? {
            Sought::Found(at, item) => return Ok((at, item)),
            Sought::Before(at, chain) => (at, chain),
        };
        loop {
            if let Walked::To(found) = self.walk_back(&mut chain, When::at(at), &mut || false)? {
                return Ok((at, found.and_then(|(id, row)| item(id, row))));
            }
        }
    }

    /// The mod revision of a key as it is now, if it exists, without its value; and the revision that it was read at.
    pub fn mod_revision(&self, key: &[u8]) -> Result<(Revision, Option<Revision>), StoreError> {
        let (at, row) = self.newest_row(key)?;
        Ok((at, row.filter(KeyRow::is_live).map(|row| row.newest.revision)))
    }

    /// A record as it is now.
    pub fn record(&self, key: &RecordKey) -> Result<Option<Bytes>, StoreError> {
        let shared = self.shared.read();
        let fresh = shared.active.records.get(key);
        let fresh = fresh.or_else(|| shared.frozen.as_ref().and_then(|old| old.records.get(key)));
        if let Some(record) = fresh {
            return Ok(record.clone());
        }
        let view = shared.view.clone();
        drop(shared);
        view.record(key)
    }

    /// The records from one key on and before another, as they are now: of a kind of which there are few.
    pub fn records(
        &self,
        from: &RecordKey,
        to: &RecordKey,
    ) -> Result<BTreeMap<RecordKey, Bytes>, StoreError> {
        let shared = self.shared.read();
        // What is newer comes later.
        let overlays = shared.frozen.as_deref().into_iter().chain([&shared.active]);
        let fresh = overlays.flat_map(|overlay| overlay.records.range(from..to));
        let fresh: Vec<_> = fresh.map(|(key, record)| (key.clone(), record.clone())).collect();
        let view = shared.view.clone();
        drop(shared);
        let mut all = view.records(from, to)?;
        for (key, record) in fresh {
            match record {
                Some(record) => all.insert(key, record),
                None => all.remove(&key),
            };
        }
        Ok(all)
    }

    /// The row of a key as it is now.
    pub(super) fn key_row(&self, key: &[u8]) -> Result<Option<KeyRow>, StoreError> {
        self.newest_row(key).map(|(_, row)| row)
    }

    fn newest_row(&self, key: &[u8]) -> Result<(Revision, Option<KeyRow>), StoreError> {
        let shared = self.shared.read();
        let at = shared.position.counters.revision;
        let row = match shared.row(key) {
            Some(row) => row,
            None => {
                let view = shared.view.clone();
                drop(shared);
                view.key(key)?
            }
        };
        Ok((at, row))
    }

    /// One key at a revision, or where to begin to look for it.
    pub(super) fn find(&self, key: &[u8], at: Option<Revision>) -> Result<Sought, ReadError> {
        let shared = self.shared.read();
        let at = readable(at, &shared.position)?;
        let when = When::at(at);
        let known = shared.row(key);
        // With the view of the same moment, so that whatever is compacted meanwhile does not matter.
        let change = known.iter().flatten().find_map(|row| shared.overlaid_change(row.newest));
        let (change, view) = (change.cloned(), shared.view.clone());
        drop(shared);
        let row = match known {
            Some(row) => row,
            None => view.key(key)?,
        };
        let Some(row) = row else { return Ok(Sought::Found(at, None)) };
        let newest = row.newest;
        if newest >= when.before {
            let chain = match change {
                Some(change) => Chain::from_change(&change, when),
                None => Chain { next: Some(newest), created: false },
            };
            return Ok(Sought::Before(at, chain));
        }
        if !row.is_live() {
            return Ok(Sought::Found(at, None));
        }
        let change = match change {
            Some(change) => change,
            None => view.row(newest)?.ok_or_else(|| missing(newest))?,
        };
        Ok(Sought::Found(at, item(newest, change)))
    }

    /// The newest change along a key's chain as of then, which may be a deletion; none if there is none. Where
    /// `pause` says so it stops, and goes on from there the next time.
    pub(super) fn walk_back(
        &self,
        chain: &mut Chain,
        when: When,
        pause: &mut dyn FnMut() -> bool,
    ) -> Result<Walked, ReadError> {
        while let Some(id) = chain.next {
            let Some(row) = self.row(id)? else {
                // Either it was compacted away meanwhile, or it was a deletion, or it is lost.
                self.still_readable(when)?;
                return match chain.created && id.revision < self.compacted() {
                    true => Ok(Walked::To(None)),
                    false => Err(missing(id).into()),
                };
            };
            if id < when.before {
                return Ok(Walked::To(Some((id, row))));
            }
            *chain = Chain::from_change(&row, when);
            // Else it might never end.
            if chain.next.is_some_and(|previous| previous >= id) {
                let RowId { revision, sub } = id;
                let detail =
                    format!("the row of revision {revision}, change {sub}, does not lead back");
                return Err(StoreError::damaged("state", detail).into());
            }
            if pause() {
                return Ok(Walked::Paused);
            }
        }
        Ok(Walked::To(None))
    }

    /// One change.
    pub(super) fn row(&self, id: RowId) -> Result<Option<RevisionRow>, StoreError> {
        let shared = self.shared.read();
        let fresh = shared.active.rows.get(&id);
        let fresh = fresh.or_else(|| shared.frozen.as_ref().and_then(|old| old.rows.get(&id)));
        if let Some(row) = fresh {
            return Ok(Some(row.clone()));
        }
        let view = shared.view.clone();
        drop(shared);
        view.row(id)
    }

    /// Whether what is read as of then has not been compacted meanwhile.
    pub(super) fn still_readable(&self, when: When) -> Result<(), ReadError> {
        let shared = self.shared.read();
        match when.pinned {
            Some(installs) if installs == shared.installs => Ok(()),
            // What the snapshot's sender had swept by then is gone here, too.
            Some(_) => Err(ReadError::Compacted {
                asked: when.at,
                oldest: shared.position.counters.revision,
            }),
            None => readable(Some(when.at), &shared.position).map(drop),
        }
    }

    /// The revision to read at, checked.
    pub(super) fn readable(&self, at: Option<Revision>) -> Result<Revision, ReadError> {
        readable(at, &self.shared.read().position)
    }

    /// The overlays' part of a range, at most `count` keys from its beginning (or its end), and the view of
    /// the file that goes with it.
    pub(super) fn fresh_keys(
        &self,
        range: &KeyRange,
        descending: bool,
        count: usize,
    ) -> (Vec<(Bytes, KeyRow)>, Arc<FileView>) {
        let shared = self.shared.read();
        let active = shared.active.range(range);
        let frozen = shared.frozen.as_ref().map(|frozen| frozen.range(range));
        let keys = match (frozen, descending) {
            (None, false) => owned(active.take(count)),
            (None, true) => owned(active.rev().take(count)),
            (Some(frozen), false) => owned(newer(active, frozen, Ordering::is_lt).take(count)),
            (Some(frozen), true) => {
                owned(newer(active.rev(), frozen.rev(), Ordering::is_gt).take(count))
            }
        };
        (keys, shared.view.clone())
    }
}

/// As of when keys are read.
#[derive(Clone, Copy, Debug)]
pub(super) struct When {
    /// The revision.
    pub(super) at: Revision,
    /// The first change that does not count.
    pub(super) before: RowId,
    /// Whether a pin keeps what that revision needs, compacted or not: as long as snapshots have taken the state's place so
    /// often.
    pub(super) pinned: Option<u64>,
}

impl When {
    /// After all changes of a revision.
    pub(super) fn at(at: Revision) -> When {
        let before = RowId { revision: Revision(at.0.saturating_add(1)), sub: 0 };
        When { at, before, pinned: None }
    }
}

/// How far a walk along a key's changes has come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chain {
    /// The change to look at next.
    pub(super) next: Option<RowId>,
    /// Whether the change that leads to it created the key.
    pub(super) created: bool,
}

impl Chain {
    /// Where to go on behind a change that came after the revision looked for.
    fn from_change(row: &RevisionRow, when: When) -> Chain {
        let (next, further) = (row.previous, row.jump.filter(|jump| *jump >= when.before));
        Chain { next: further.or(next), created: row.creates() }
    }
}

/// What a step of such a walk came to.
pub(super) enum Walked {
    To(Option<(RowId, RevisionRow)>),
    Paused,
}

/// What is known of a key at once, with the revision that it is read at.
pub(super) enum Sought {
    Found(Revision, Option<Item>),
    /// It is older than its newest change.
    Before(Revision, Chain),
}

/// What both have, in their order; where both have a key, what the first says.
fn newer<'a>(
    first: impl Iterator<Item = (&'a Bytes, &'a KeyRow)>,
    second: impl Iterator<Item = (&'a Bytes, &'a KeyRow)>,
    comes_first: fn(Ordering) -> bool,
) -> impl Iterator<Item = (&'a Bytes, &'a KeyRow)> {
    let (mut first, mut second) = (first.peekable(), second.peekable());
    std::iter::from_fn(move || match (first.peek(), second.peek()) {
        (Some((one, _)), Some((other, _))) if one == other => {
            second.next();
            first.next()
        }
        (Some((one, _)), Some((other, _))) => match comes_first(one.cmp(other)) {
            true => first.next(),
            false => second.next(),
        },
        (Some(_), None) => first.next(),
        (None, _) => second.next(),
    })
}

fn owned<'a>(keys: impl Iterator<Item = (&'a Bytes, &'a KeyRow)>) -> Vec<(Bytes, KeyRow)> {
    keys.map(|(key, row)| (key.clone(), row.clone())).collect()
}

fn readable(at: Option<Revision>, position: &Position) -> Result<Revision, ReadError> {
    let &Counters { revision: newest, compacted: oldest, .. } = &position.counters;
    match at {
        None => Ok(newest),
        Some(asked) if asked > newest => Err(ReadError::Future { asked, newest }),
        Some(asked) if asked < oldest => Err(ReadError::Compacted { asked, oldest }),
        Some(asked) => Ok(asked),
    }
}

pub(super) fn missing(id: RowId) -> StoreError {
    let RowId { revision, sub } = id;
    StoreError::damaged(
        "state",
        format!("the row of revision {revision}, change {sub}, is missing"),
    )
}

/// The item that a change made; none if it deleted the key.
pub(super) fn item(id: RowId, row: RevisionRow) -> Option<Item> {
    row.is_live().then_some(Item {
        key: row.key,
        value: row.value,
        content_type: row.content_type,
        create_revision: row.create_revision,
        mod_revision: id.revision,
        version: row.version,
    })
}
