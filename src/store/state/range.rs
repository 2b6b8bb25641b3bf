//! Reading many keys: the overlays and the file merged, a bounded piece at a time.

use std::cmp::Ordering;

use bytes::Bytes;

use super::core::State;
use super::view::KeyRows;
use crate::kv::{KeyRange, KeyRow, successor};
use crate::store::error::StoreError;

/// How many keys of the overlays are taken under the lock at once.
const PIECE_KEYS: usize = 512;

/// Walks over the newest rows of a range. Each piece is consistent in itself; between pieces the state
/// may move on, which shows as rows newer than the revision that is being read.
pub(super) struct Scan<'a> {
    state: &'a State,
    /// What no piece has covered yet; none at the end.
    left: Option<KeyRange>,
    descending: bool,
    fresh: std::iter::Peekable<std::vec::IntoIter<(Bytes, KeyRow)>>,
    stored: Option<KeyRows>,
    stored_next: Option<(Bytes, KeyRow)>,
}

impl<'a> Scan<'a> {
    pub(super) fn new(state: &'a State, range: KeyRange, descending: bool) -> Scan<'a> {
        let left = (!range.is_empty()).then_some(range);
        Scan {
            state,
            left,
            descending,
            fresh: Vec::new().into_iter().peekable(),
            stored: None,
            stored_next: None,
        }
    }

    pub(super) fn next(&mut self) -> Result<Option<(Bytes, KeyRow)>, StoreError> {
        loop {
            if self.stored_next.is_none()
                && let Some(stored) = &mut self.stored
            {
                self.stored_next = stored.next(self.descending)?;
                if self.stored_next.is_none() {
                    self.stored = None;
                }
            }
            let order = match (self.fresh.peek(), &self.stored_next) {
                (None, None) => match self.next_piece()? {
                    true => continue,
                    false => return Ok(None),
                },
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some((fresh, _)), Some((stored, _))) if self.descending => stored.cmp(fresh),
                (Some((fresh, _)), Some((stored, _))) => fresh.cmp(stored),
            };
            return Ok(match order {
                Ordering::Less => self.fresh.next(),
                Ordering::Greater => self.stored_next.take(),
                Ordering::Equal => {
                    // What the overlays hold is newer.
                    self.stored_next = None;
                    self.fresh.next()
                }
            });
        }
    }

    /// Takes the next piece of both; false at the end of the range.
    fn next_piece(&mut self) -> Result<bool, StoreError> {
        let Some(range) = self.left.take() else { return Ok(false) };
        let (fresh, view) = self.state.fresh_keys(&range, self.descending, PIECE_KEYS);
        let mut piece = range.clone();
        if fresh.len() == PIECE_KEYS
            && let Some((last, _)) = fresh.last()
        {
            // The overlays may hold more: this piece ends at the last key taken.
            if self.descending {
                piece.start = last.clone();
                self.left = Some(KeyRange { end: Some(last.clone()), ..range });
            } else {
                let after = successor(last);
                piece.end = Some(after.clone());
                self.left = Some(KeyRange { start: after, ..range });
            }
            self.left.take_if(|left| left.is_empty());
        }
        self.stored = Some(view.range(&piece)?);
        self.fresh = fresh.into_iter().peekable();
        Ok(true)
    }
}
