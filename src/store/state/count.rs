//! Counting what a write would look at, before it is taken into the log.
//!
//! The command itself cannot count the rows of deletions that compaction hides, since they are gone at other replicas, and
//! here at any moment; nor should a large value be read only to find that too many are. Whoever proposes a write counts what
//! this replica has.

use std::collections::VecDeque;

use bytes::Bytes;

use super::core::State;
use super::range::Scan;
use super::read::{ReadError, missing};
use crate::kv::{Bound, DELETED_PER_KEY_MAX, KeyRange, Need, Write, successor};

/// The most bytes of values that the compares of one transaction may look at, and its puts that keep a value.
const VALUE_BYTES_MAX: usize = 16 << 20;

/// A count that may pause at any row, and go on later.
#[derive(Debug)]
pub struct CountRead {
    bound: Bound,
    rows_left: u64,
    bytes_left: usize,
    /// What was not yet looked at.
    left: VecDeque<Part>,
}

#[derive(Debug)]
struct Part {
    range: KeyRange,
    /// Whether the keys count.
    keys: bool,
    /// Whether the values count.
    values: bool,
}

/// What a [`CountRead`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Counted {
    /// It is not too much.
    Fits,
    /// What begins here, in the first range that is too much, is too much.
    UpTo(Bytes),
    /// The values are too much.
    TooManyBytes,
}

impl CountRead {
    /// Counts what a write may look at: all its ranges together, those of branches that are not chosen, too.
    pub fn new(write: &Write) -> CountRead {
        let mut left = VecDeque::new();
        write.needs(&mut |need| {
            let (range, keys, values) = match need {
                Need::Key(_) => return,
                Need::Value(key) => (KeyRange::key(key), false, true),
                Need::Range(range) => (range.clone(), true, false),
                Need::Values(range) => (range.clone(), true, true),
            };
            left.push_back(Part { range, keys, values });
        });
        let keys_max = write.keys_max();
        CountRead {
            bound: Bound::new(keys_max),
            rows_left: keys_max.saturating_mul(DELETED_PER_KEY_MAX),
            bytes_left: VALUE_BYTES_MAX,
            left,
        }
    }

    /// Goes on until it is done or `pause`, which is asked after every row, says so; none if it is to go on.
    pub fn step(
        &mut self,
        state: &State,
        pause: &mut dyn FnMut() -> bool,
    ) -> Result<Option<Counted>, ReadError> {
        let compacted = state.compacted();
        while let Some(part) = self.left.front_mut() {
            let mut scan = Scan::new(state, part.range.clone(), false);
            while let Some((key, row)) = scan.next()? {
                if part.keys {
                    if self.rows_left == 0 || self.bound.takes(&row, compacted) == Some(false) {
                        return Ok(Some(Counted::UpTo(key)));
                    }
                    self.rows_left -= 1;
                }
                if part.values && row.is_live() {
                    let bytes = match state.row(row.newest)? {
                        Some(change) => change.value.len(),
                        // It was changed and swept meanwhile.
                        None if state.compacted() > compacted => 0,
                        None => return Err(missing(row.newest).into()),
                    };
                    let Some(left) = self.bytes_left.checked_sub(bytes) else {
                        return Ok(Some(Counted::TooManyBytes));
                    };
                    self.bytes_left = left;
                }
                if pause() {
                    part.range.start = successor(&key);
                    return Ok(None);
                }
            }
            self.left.pop_front();
        }
        Ok(Some(Counted::Fits))
    }
}
