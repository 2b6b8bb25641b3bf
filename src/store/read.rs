//! Reading keys and their past, from the overlays and the file.

use std::cmp::Ordering;
use std::sync::Arc;

use bytes::Bytes;

use super::error::StoreError;
use super::position::Position;
use super::state::State;
use super::view::FileView;
use crate::kv::{Counters, Item, KeyRange, KeyRow, Revision, RevisionRow, RowId};

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
    /// only for the newest: see [`PastRead`](super::PastRead) for others.
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
            if let Walked::To(item) = self.walk_back(&mut chain, at, &mut || false)? {
                return Ok((at, item));
            }
        }
    }

    /// The mod revision of a key as it is now, if it exists, without its value; and the revision that it was read at.
    pub fn mod_revision(&self, key: &[u8]) -> Result<(Revision, Option<Revision>), StoreError> {
        let shared = self.shared.read();
        let at = shared.position.counters.revision;
        let fresh = shared.active.keys.get(key);
        let fresh = fresh.or_else(|| shared.frozen.as_ref().and_then(|old| old.keys.get(key)));
        let row = match fresh {
            Some(row) => Some(*row),
            None => {
                let view = shared.view.clone();
                drop(shared);
                view.key(key)?
            }
        };
        Ok((at, row.filter(KeyRow::is_live).map(|row| row.newest.revision)))
    }

    /// One key at a revision, or where to begin to look for it.
    pub(super) fn find(&self, key: &[u8], at: Option<Revision>) -> Result<Sought, ReadError> {
        let shared = self.shared.read();
        let newest = shared.position.counters.revision;
        let at = readable(at, &shared.position)?;
        let found = shared
            .active
            .newest(key)
            .or_else(|| shared.frozen.as_ref().and_then(|frozen| frozen.newest(key)));
        if let Some((key_row, row)) = found {
            if key_row.newest.revision <= at {
                return Ok(Sought::Found(at.min(newest), item(key_row.newest, row.clone())));
            }
            let chain = Chain { next: row.previous, created: row.creates() };
            return Ok(Sought::Before(at, chain));
        }
        let view = shared.view.clone();
        drop(shared);
        let Some(key_row) = view.key(key)? else { return Ok(Sought::Found(at, None)) };
        let newest = key_row.newest;
        if newest.revision > at {
            return Ok(Sought::Before(at, Chain { next: Some(newest), created: false }));
        }
        if !key_row.is_live() {
            return Ok(Sought::Found(at, None));
        }
        // From the same view, so that whatever is compacted meanwhile does not matter.
        let row = view.row(newest)?.ok_or_else(|| missing(newest))?;
        Ok(Sought::Found(at, item(newest, row)))
    }

    /// The newest change at or before `at` along a key's chain; none if the key did not exist then. Where `pause`
    /// says so it stops, and goes on from there the next time.
    pub(super) fn walk_back(
        &self,
        chain: &mut Chain,
        at: Revision,
        pause: &mut dyn FnMut() -> bool,
    ) -> Result<Walked, ReadError> {
        while let Some(id) = chain.next {
            let Some(row) = self.row(id)? else {
                // Either it was compacted away meanwhile, or it was a deletion, or it is lost.
                self.readable(Some(at))?;
                return match chain.created && id.revision <= self.compacted() {
                    true => Ok(Walked::To(None)),
                    false => Err(missing(id).into()),
                };
            };
            if id.revision <= at {
                return Ok(Walked::To(item(id, row)));
            }
            *chain = Chain { next: row.previous, created: row.creates() };
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

/// How far a walk along a key's changes has come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chain {
    /// The change to look at next.
    pub(super) next: Option<RowId>,
    /// Whether the change that leads to it created the key.
    pub(super) created: bool,
}

/// What a step of such a walk came to.
pub(super) enum Walked {
    To(Option<Item>),
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
    keys.map(|(key, row)| (key.clone(), *row)).collect()
}

fn readable(at: Option<Revision>, position: &Position) -> Result<Revision, ReadError> {
    let Counters { revision: newest, compacted: oldest, .. } = position.counters;
    match at {
        None => Ok(newest),
        Some(asked) if asked > newest => Err(ReadError::Future { asked, newest }),
        Some(asked) if asked < oldest => Err(ReadError::Compacted { asked, oldest }),
        Some(asked) => Ok(asked),
    }
}

fn missing(id: RowId) -> StoreError {
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
