//! Looking up the rows of the file that commands need, on a thread that may wait for the disk, and finding them at hand
//! on the one that applies, which may not.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use super::at_hand::{Halt, RANGES_MAX, RangeAhead, row_bytes};
use super::core::{Shared, State};
use super::read::missing;
use super::view::FileView;
use crate::kv::{
    DELETED_PER_KEY_MAX, KeyRange, KeyRow, Need, Prepared, RevisionRow, RowId, Write, successor,
};
use crate::store::error::StoreError;

/// How many bytes of rows of ranges are fetched at once. Who needs more asks again, and goes through all of it again: so it is
/// what a deletion of as many short keys goes through as one may.
const RANGE_BYTES_MAX: usize = 32 << 20;
/// How many keys of the overlays are taken under the lock at once.
const PIECE_KEYS: usize = 512;

impl Shared {
    /// The newest row of a key, none if there is none; none at all if the file would have to be read for it.
    pub(super) fn row(&self, key: &[u8]) -> Option<Option<KeyRow>> {
        self.at_hand.key(key)
    }

    /// A change that is the newest of a key, if it is in memory.
    fn change(&self, id: RowId) -> Option<&RevisionRow> {
        self.overlaid_change(id).or_else(|| self.at_hand.change(id))
    }

    /// A change, if the overlays have it.
    pub(super) fn overlaid_change(&self, id: RowId) -> Option<&RevisionRow> {
        let frozen = || self.frozen.as_ref().and_then(|old| old.rows.get(&id));
        self.active.rows.get(&id).or_else(frozen)
    }

    /// Whether what a write needs is at hand, but for the end of a range.
    fn has(&self, need: Need<'_>) -> bool {
        match need {
            Need::Key(key) => self.at_hand.knows(key),
            Need::Value(key) => self.row(key).is_some_and(|row| {
                let row = row.filter(KeyRow::is_live);
                row.is_none_or(|row| self.change(row.newest).is_some())
            }),
            Need::Range(range) => self.at_hand.range(range).is_some(),
            Need::Values(_) => false,
        }
    }
}

impl State {
    /// The row of a key, none if there is none; none at all if the file would have to be read for it.
    pub(super) fn row_at_hand(&self, key: &[u8]) -> Option<Option<KeyRow>> {
        self.shared.read().row(key)
    }

    /// The newest change of a key, unless the file would have to be read for it.
    pub(super) fn change_at_hand(&self, id: RowId) -> Option<RevisionRow> {
        self.shared.read().change(id).cloned()
    }

    /// Whether the rows are at hand that a write needs.
    pub fn has_at_hand(&self, write: &Write) -> bool {
        let shared = self.shared.read();
        let mut has = true;
        write.needs(&mut |need| has = has && shared.has(need));
        has
    }

    /// Fetches what these commands need of the file, so that
    /// [`apply_at_hand`](State::apply_at_hand) gets further; of a range only the next part, beyond what is at hand of it.
    ///
    /// It waits for the disk. Where a checkpoint ends meanwhile it may have been for nothing: whoever still lacks
    /// something calls it again.
    pub fn fetch_rows<'a>(
        &self,
        commands: impl IntoIterator<Item = &'a Bytes>,
    ) -> Result<(), StoreError> {
        self.read_rows(commands).map(|rows| self.hold_rows(rows, true))
    }

    /// The same for what will be applied some time later: it takes no place of what is needed before.
    pub fn fetch_rows_ahead<'a>(
        &self,
        commands: impl IntoIterator<Item = &'a Bytes>,
    ) -> Result<(), StoreError> {
        self.read_rows(commands).map(|rows| self.hold_rows(rows, false))
    }

    /// The first half of fetching: reads what is not at hand of what these commands need.
    pub fn read_rows<'a>(
        &self,
        commands: impl IntoIterator<Item = &'a Bytes>,
    ) -> Result<RowsRead, StoreError> {
        let shared = self.shared.read();
        let mut wanted = Wanted::default();
        for command in commands {
            // One that cannot be read stops the node when its turn comes.
            if let Ok(command) = Prepared::of(command, self.options.highest) {
                wanted.add(&shared, &command);
            }
        }
        let view = shared.view.clone();
        drop(shared);
        let Wanted { keys, values, ranges, first } = wanted;
        let further = || self.life.lookup.beat();
        let (mut rows, mut changes) = (Vec::new(), Vec::new());
        for key in keys {
            further();
            let row = view.key(&key)?;
            if values.contains(&key) {
                self.read_change(&view, row.as_ref(), &mut changes)?;
            }
            rows.push((row, key));
        }
        let mut found = Vec::new();
        let mut left = RANGE_BYTES_MAX;
        for RangeWanted { range, keys_max, values, held } in ranges {
            if left == 0 {
                break;
            }
            // So many keys that exist no more are stepped over.
            let rows = keys_max.saturating_mul(DELETED_PER_KEY_MAX).saturating_add(1);
            let before = held.as_ref().map_or(0, |held| held.bytes);
            let more = match held {
                Some(held) if held.until.is_none() => held,
                held => more_of(&view, range, held, (rows, left), &further)?,
            };
            if values {
                for (_, row) in more.rows.iter() {
                    further();
                    self.read_change(&view, Some(row), &mut changes)?;
                }
            }
            left -= (more.bytes - before).min(left);
            found.push(more);
        }
        Ok(RowsRead { view, rows, changes, ranges: found, first })
    }

    /// Reads the newest change of a key that exists, unless it is at hand.
    fn read_change(
        &self,
        view: &FileView,
        row: Option<&KeyRow>,
        changes: &mut Vec<(RowId, RevisionRow)>,
    ) -> Result<(), StoreError> {
        let Some(row) = row.filter(|row| row.is_live()) else { return Ok(()) };
        if self.change_at_hand(row.newest).is_none() {
            let change = view.row(row.newest)?.ok_or_else(|| missing(row.newest))?;
            changes.push((row.newest, change));
        }
        Ok(())
    }

    /// The second half: puts what was read where apply finds it. `at_once` if apply waits for it, which makes place for
    /// it then.
    pub fn hold_rows(&self, read: RowsRead, at_once: bool) {
        let RowsRead { view, rows, changes, ranges, first } = read;
        if rows.is_empty() && ranges.is_empty() && changes.is_empty() {
            return;
        }
        let mut shared = self.shared.write();
        // The file holds something else meanwhile.
        if !Arc::ptr_eq(&view, &shared.view) {
            return;
        }
        // Some may have been written meanwhile.
        let rows: Vec<_> = rows.into_iter().filter(|(_, key)| !shared.at_hand.knows(key)).collect();
        shared.at_hand.hold(rows, changes);
        if at_once && !first.is_empty() {
            shared.at_hand.make_place(&first);
        }
        for range in ranges {
            let needed = at_once && first.contains(&range.range);
            shared.at_hand.hold_range(range, needed);
        }
    }
}

/// Rows of the file for commands that are to be applied.
pub struct RowsRead {
    /// Of which they are.
    view: Arc<FileView>,
    rows: Vec<(Option<KeyRow>, Bytes)>,
    changes: Vec<(RowId, RevisionRow)>,
    ranges: Vec<RangeAhead>,
    /// The ranges that are needed first.
    first: Vec<KeyRange>,
}

/// What commands need and is not at hand.
#[derive(Default)]
struct Wanted {
    keys: BTreeSet<Bytes>,
    /// Those of the keys whose newest change is needed, too.
    values: BTreeSet<Bytes>,
    ranges: Vec<RangeWanted>,
    /// The ranges of the first command that has any.
    first: Vec<KeyRange>,
}

struct RangeWanted {
    range: KeyRange,
    keys_max: u64,
    values: bool,
    held: Option<RangeAhead>,
}

impl Wanted {
    fn add(&mut self, shared: &Shared, command: &Prepared) {
        let is_first = self.first.is_empty();
        command.needs(&mut |need| match need {
            need if shared.has(need) && !matches!(need, Need::Range(_)) => {}
            Need::Key(key) => drop(self.keys.insert(key.clone())),
            Need::Value(key) => {
                self.keys.insert(key.clone());
                self.values.insert(key.clone());
            }
            Need::Range(range) | Need::Values(range) => {
                if is_first {
                    self.first.push(range.clone());
                }
                let known = self.ranges.iter().any(|wanted| wanted.range == *range);
                let values = matches!(need, Need::Values(_));
                let held = shared.at_hand.range(range).cloned();
                let whole = held.as_ref().is_some_and(|held| held.until.is_none());
                if (known || whole) && !values || !is_first && self.ranges.len() >= RANGES_MAX {
                    return;
                }
                let (range, keys_max) = (range.clone(), command.keys_max());
                self.ranges.push(RangeWanted { range, keys_max, values, held });
            }
        });
    }
}

impl fmt::Debug for RowsRead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (rows, ranges) = (self.rows.len(), self.ranges.len());
        f.debug_struct("RowsRead").field("rows", &rows).field("ranges", &ranges).finish()
    }
}

/// What is at hand of a range, and its next rows, until there are so many, or so many bytes. `further` hears of each.
fn more_of(
    view: &FileView,
    range: KeyRange,
    held: Option<RangeAhead>,
    (rows_max, bytes_max): (u64, usize),
    further: &impl Fn(),
) -> Result<RangeAhead, StoreError> {
    let held = held.unwrap_or_else(|| RangeAhead::nothing_of(range));
    let RangeAhead { range, rows, bytes, until } = held;
    let start = until.unwrap_or_else(|| range.start.clone());
    let left = KeyRange { start, ..range.clone() };
    if left.is_empty() {
        return Ok(RangeAhead { range, rows, bytes, until: None });
    }
    let mut rows = Arc::unwrap_or_clone(rows);
    let mut more = view.range(&left)?;
    let (mut taken, mut added, mut until) = (0, 0, None);
    while let Some((key, row)) = more.next(false)? {
        further();
        taken += 1;
        added += row_bytes(&key);
        if taken == rows_max || added >= bytes_max {
            until = Some(successor(&key));
        }
        rows.push((key, row));
        if until.is_some() {
            break;
        }
    }
    Ok(RangeAhead { range, rows: Arc::new(rows), bytes: bytes + added, until })
}

/// Walks over the newest rows of a range from its beginning, those of the overlays and those of the file that are at
/// hand.
pub(super) struct ScanAtHand<'a> {
    state: &'a State,
    held: RangeAhead,
    view: Arc<FileView>,
    /// How many of the held rows have been passed.
    passed: usize,
    fresh: std::iter::Peekable<std::vec::IntoIter<(Bytes, KeyRow)>>,
    /// What was not yet looked for in the overlays.
    left: Option<KeyRange>,
}

impl<'a> ScanAtHand<'a> {
    pub(super) fn new(state: &'a State, range: &KeyRange) -> Result<ScanAtHand<'a>, Halt> {
        let shared = state.shared.read();
        let view = shared.view.clone();
        let held = match shared.at_hand.range(range) {
            Some(held) => held.clone(),
            None if range.is_empty() => RangeAhead::nothing_of(range.clone()),
            None => return Err(Halt::LacksRows),
        };
        drop(shared);
        let left = (!range.is_empty()).then(|| range.clone());
        let fresh = Vec::new().into_iter().peekable();
        Ok(ScanAtHand { state, held, view, passed: 0, fresh, left })
    }

    pub(super) fn next(&mut self) -> Result<Option<(Bytes, KeyRow)>, Halt> {
        if self.fresh.peek().is_none() && self.left.is_some() {
            self.next_piece()?;
        }
        let stored = self.held.rows.get(self.passed);
        let Some((fresh, _)) = self.fresh.peek() else {
            // Nor is there more in the overlays.
            return match stored {
                Some(row) => {
                    self.passed += 1;
                    Ok(Some(row.clone()))
                }
                None if self.held.until.is_some() => Err(Halt::LacksRows),
                None => Ok(None),
            };
        };
        match stored {
            Some((key, row)) if key < fresh => {
                self.passed += 1;
                Ok(Some((key.clone(), row.clone())))
            }
            Some((key, _)) => {
                // What the overlays hold is newer.
                self.passed += usize::from(key == fresh);
                Ok(self.fresh.next())
            }
            None if self.held.until.as_ref().is_some_and(|until| fresh >= until) => {
                Err(Halt::LacksRows)
            }
            None => Ok(self.fresh.next()),
        }
    }

    /// Takes the next piece of the overlays: none is left then, or some were found.
    fn next_piece(&mut self) -> Result<(), Halt> {
        let Some(range) = self.left.take() else { return Ok(()) };
        let (fresh, view) = self.state.fresh_keys(&range, false, PIECE_KEYS);
        // Part of the overlays is in the file now, and not in what is held of it.
        if !Arc::ptr_eq(&view, &self.view) {
            return Err(Halt::LacksRows);
        }
        if fresh.len() == PIECE_KEYS
            && let Some((last, _)) = fresh.last()
        {
            let left = KeyRange { start: successor(last), ..range };
            self.left = (!left.is_empty()).then_some(left);
        }
        self.fresh = fresh.into_iter().peekable();
        Ok(())
    }
}

#[cfg(test)]
#[path = "lookup_tests.rs"]
mod tests;
