//! Looking up the rows of the file that commands need, on a thread that may wait for the disk, and finding them at hand
//! on the one that applies, which may not.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use super::ahead::{Halt, RANGES_MAX, RangeAhead};
use super::error::StoreError;
use super::state::{Shared, State};
use super::view::FileView;
use crate::kv::{KeyRange, KeyRow, Prepared, Write, successor};

/// How many rows of ranges are fetched at once. Who needs more asks again.
const RANGE_ROWS_MAX: usize = 16_384;
/// How many rows of a range are fetched at least, since some keys of it may have been deleted.
const RANGE_ROWS_MIN: usize = 1024;
/// How many keys of the overlays are taken under the lock at once.
const PIECE_KEYS: usize = 512;

impl Shared {
    /// The row of a key as the overlays have it.
    fn overlaid(&self, key: &[u8]) -> Option<KeyRow> {
        let frozen = || self.frozen.as_ref().and_then(|old| old.keys.get(key));
        self.active.keys.get(key).or_else(frozen).copied()
    }
}

impl State {
    /// The row of a key, none if there is none; none at all if the file would have to be read for it.
    pub(super) fn row_at_hand(&self, key: &[u8]) -> Option<Option<KeyRow>> {
        let shared = self.shared.read();
        shared.overlaid(key).map(Some).or_else(|| shared.ahead.key(key))
    }

    /// Whether the rows are at hand that a write needs.
    pub fn has_at_hand(&self, write: &Write) -> bool {
        let shared = self.shared.read();
        let key = |key: &Bytes| shared.overlaid(key).is_some() || shared.ahead.key(key).is_some();
        let range = |range: &KeyRange| shared.ahead.range(range).is_some();
        write.keys().all(key) && write.range().is_none_or(|(needed, _)| range(needed))
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
        let commands = commands.into_iter().map(|command| Prepared::of(command));
        let (mut keys, mut ranges, mut needed) = (BTreeSet::new(), Vec::new(), Vec::new());
        let shared = self.shared.read();
        for command in commands {
            for key in command.keys() {
                if shared.overlaid(key).is_none() && shared.ahead.key(key).is_none() {
                    keys.insert(key.clone());
                }
            }
            if let Some((range, keys_max)) = command.range()
                && !needed.contains(range)
                && needed.len() < RANGES_MAX
            {
                needed.push(range.clone());
                let held = shared.ahead.range(range).cloned();
                if held.as_ref().is_none_or(|held| held.until.is_some()) {
                    ranges.push((range.clone(), keys_max, held));
                }
            }
        }
        let view = shared.view.clone();
        drop(shared);
        let further = || self.life.lookup.beat();
        let rows = keys.into_iter().map(|key| {
            further();
            Ok((view.key(&key)?, key))
        });
        let rows = rows.collect::<Result<Vec<_>, StoreError>>()?;
        let mut found = Vec::new();
        let mut left = RANGE_ROWS_MAX;
        for (range, keys_max, held) in ranges {
            if left == 0 {
                break;
            }
            let wanted = usize::try_from(keys_max.saturating_add(1)).unwrap_or(usize::MAX);
            let before = held.as_ref().map_or(0, |held| held.rows.len());
            let more = more_of(&view, range, held, wanted.max(RANGE_ROWS_MIN).min(left), &further)?;
            left -= (more.rows.len() - before).min(left);
            found.push(more);
        }
        Ok(RowsRead { view, rows, ranges: found, first: needed.into_iter().next() })
    }

    /// The second half: puts what was read where apply finds it. `at_once` if apply waits for it, which makes place for
    /// it then.
    pub fn hold_rows(&self, read: RowsRead, at_once: bool) {
        let RowsRead { view, rows, ranges, first } = read;
        if rows.is_empty() && ranges.is_empty() {
            return;
        }
        let mut shared = self.shared.write();
        // The file holds something else meanwhile.
        if !Arc::ptr_eq(&view, &shared.view) {
            return;
        }
        for (row, key) in rows {
            // It may have been written meanwhile.
            if shared.overlaid(&key).is_none() {
                shared.ahead.hold(key, row);
            }
        }
        if let (true, Some(first)) = (at_once, &first) {
            shared.ahead.make_place(first);
        }
        ranges.into_iter().for_each(|range| shared.ahead.hold_range(range));
    }
}

/// Rows of the file for commands that are to be applied.
pub struct RowsRead {
    /// Of which they are.
    view: Arc<FileView>,
    rows: Vec<(Option<KeyRow>, Bytes)>,
    ranges: Vec<RangeAhead>,
    /// The range that is needed first.
    first: Option<KeyRange>,
}

impl fmt::Debug for RowsRead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (rows, ranges) = (self.rows.len(), self.ranges.len());
        f.debug_struct("RowsRead").field("rows", &rows).field("ranges", &ranges).finish()
    }
}

/// What is at hand of a range, and its next `count` rows. `further` hears of each.
fn more_of(
    view: &FileView,
    range: KeyRange,
    held: Option<RangeAhead>,
    count: usize,
    further: &impl Fn(),
) -> Result<RangeAhead, StoreError> {
    let start = held.as_ref().and_then(|held| held.until.clone());
    let mut rows = held.map(|held| Arc::unwrap_or_clone(held.rows)).unwrap_or_default();
    let left = KeyRange { start: start.unwrap_or_else(|| range.start.clone()), ..range.clone() };
    if left.is_empty() {
        return Ok(RangeAhead { range, rows: Arc::new(rows), until: None });
    }
    let mut more = view.range(&left)?;
    let mut until = None;
    for taken in 1..=count {
        further();
        let Some((key, row)) = more.next(false)? else { break };
        if taken == count {
            until = Some(successor(&key));
        }
        rows.push((key, row));
    }
    Ok(RangeAhead { range, rows: Arc::new(rows), until })
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
        let held = match shared.ahead.range(range) {
            Some(held) => held.clone(),
            None if range.is_empty() => {
                RangeAhead { range: range.clone(), rows: Arc::default(), until: None }
            }
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
                Ok(Some((key.clone(), *row)))
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
