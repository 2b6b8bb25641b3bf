//! Reads that may take long, in steps: a listing over any number of deletions, a key far in the past.
//!
//! What a read has to step over is no client's to bound, so whoever carries it out may pause it at any row, and
//! go on later, or not at all.

use bytes::Bytes;

use super::range::Scan;
use super::read::{Chain, ReadError, Sought, Walked};
use super::state::State;
use crate::kv::{
    Bound, DELETED_PER_KEY_MAX, Item, KeyRange, KeyRow, Page, RangeQuery, Revision, successor,
};

/// How often a listing of the newest revision begins anew because that was compacted while it was read.
const TRIES: u32 = 4;

impl State {
    /// A part of a listing: at one revision, in order. Tombstones and newer changes are stepped over, however
    /// many there are: see [`RangeRead`] for a listing that can be interrupted.
    pub fn range(&self, query: &RangeQuery) -> Result<Page, ReadError> {
        let mut read = RangeRead::new(query.clone());
        loop {
            if let Some(page) = read.step(self, &mut || false)? {
                return Ok(page);
            }
        }
    }
}

/// A part of a listing.
#[derive(Debug)]
pub struct RangeRead {
    query: RangeQuery,
    tries: u32,
    /// As of which revision, once that is settled.
    revision: Option<Revision>,
    page: Page,
    bytes: usize,
    /// What is still to be looked at.
    left: KeyRange,
    /// How far the past of a key was followed.
    chain: Option<(Bytes, Chain)>,
}

/// What became of one key of it.
enum Step {
    Absent,
    Item(Item),
    Paused,
}

impl RangeRead {
    /// One that has not begun.
    pub fn new(query: RangeQuery) -> RangeRead {
        let left = query.range.clone();
        RangeRead {
            query,
            tries: TRIES,
            revision: None,
            page: Page::default(),
            bytes: 0,
            left,
            chain: None,
        }
    }

    /// Goes on until it is done or `pause`, which is asked after every row, says so; none if it is to go on.
    pub fn step(
        &mut self,
        state: &State,
        pause: &mut dyn FnMut() -> bool,
    ) -> Result<Option<Page>, ReadError> {
        loop {
            match self.go_on(state, pause) {
                // What was the newest revision a moment ago.
                Err(ReadError::Compacted { .. }) if self.query.at.is_none() && self.tries > 1 => {
                    *self =
                        RangeRead { tries: self.tries - 1, ..RangeRead::new(self.query.clone()) };
                }
                result => return result,
            }
        }
    }

    fn go_on(
        &mut self,
        state: &State,
        pause: &mut dyn FnMut() -> bool,
    ) -> Result<Option<Page>, ReadError> {
        let revision = state.readable(self.revision.or(self.query.at))?;
        self.revision = Some(revision);
        let mut scan = Scan::new(state, self.left.clone(), self.query.descending);
        while let Some((key, row)) = scan.next()? {
            match self.item_at(state, &key, row, revision, pause)? {
                Step::Paused => {
                    self.leave(&key, true);
                    return Ok(None);
                }
                Step::Item(_)
                    if self.page.items.len() >= self.query.items_max
                        || self.bytes >= self.query.bytes_max =>
                {
                    self.page.more = true;
                    break;
                }
                Step::Item(item) => {
                    self.bytes += item.key.len() + item.value.len();
                    self.page.items.push(item);
                }
                Step::Absent => {}
            }
            if pause() {
                self.leave(&key, false);
                return Ok(None);
            }
        }
        self.page.revision = revision;
        Ok(Some(std::mem::take(&mut self.page)))
    }

    /// Notes that the next step begins at this key, or behind it.
    fn leave(&mut self, key: &Bytes, at_it: bool) {
        let after = || successor(key);
        match (self.query.descending, at_it) {
            (false, true) => self.left.start = key.clone(),
            (false, false) => self.left.start = after(),
            (true, true) => self.left.end = Some(after()),
            (true, false) => self.left.end = Some(key.clone()),
        }
    }

    /// The key as it was at `at`.
    fn item_at(
        &mut self,
        state: &State,
        key: &Bytes,
        row: KeyRow,
        at: Revision,
        pause: &mut dyn FnMut() -> bool,
    ) -> Result<Step, ReadError> {
        let keys_only = self.query.keys_only;
        if row.newest.revision <= at {
            if !row.is_live() {
                return Ok(Step::Absent);
            }
            if keys_only {
                return Ok(Step::Item(Item {
                    key: key.clone(),
                    value: Bytes::new(),
                    content_type: None,
                    create_revision: row.create_revision,
                    mod_revision: row.newest.revision,
                    version: row.version,
                }));
            }
        }
        let begun = self.chain.take().filter(|(of, _)| of == key).map(|(_, chain)| chain);
        let mut chain = begun.unwrap_or(Chain { next: Some(row.newest), created: false });
        match state.walk_back(&mut chain, at, pause)? {
            Walked::Paused => {
                self.chain = Some((key.clone(), chain));
                Ok(Step::Paused)
            }
            Walked::To(None) => Ok(Step::Absent),
            Walked::To(Some(item)) if keys_only => {
                Ok(Step::Item(Item { value: Bytes::new(), content_type: None, ..item }))
            }
            Walked::To(Some(item)) => Ok(Step::Item(item)),
        }
    }
}

/// How far a deletion of a range may go at once: until it has deleted, or looked at, as many rows as it may.
///
/// The command itself cannot count the rows that compaction hides, since they are gone at other replicas, and here at
/// any moment. Whoever proposes it counts what this replica has.
#[derive(Debug)]
pub struct CountRead {
    bound: Bound,
    rows_left: u64,
    left: KeyRange,
}

/// What a [`CountRead`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Counted {
    /// The whole range is not too much.
    Fits,
    /// What begins here is too much.
    UpTo(Bytes),
}

impl CountRead {
    /// Counts as a deletion of at most `keys_max` keys does, and the rows that this does not.
    pub fn new(range: KeyRange, keys_max: u64) -> CountRead {
        let rows_left = keys_max.saturating_mul(DELETED_PER_KEY_MAX);
        CountRead { bound: Bound::new(keys_max), rows_left, left: range }
    }

    /// Goes on until it is done or `pause`, which is asked after every row, says so; none if it is to go on.
    pub fn step(
        &mut self,
        state: &State,
        pause: &mut dyn FnMut() -> bool,
    ) -> Result<Option<Counted>, ReadError> {
        let compacted = state.compacted();
        let mut scan = Scan::new(state, self.left.clone(), false);
        while let Some((key, row)) = scan.next()? {
            if self.rows_left == 0 || self.bound.takes(&row, compacted) == Some(false) {
                return Ok(Some(Counted::UpTo(key)));
            }
            self.rows_left -= 1;
            if pause() {
                self.left.start = successor(&key);
                return Ok(None);
            }
        }
        Ok(Some(Counted::Fits))
    }
}

/// One key in the past.
#[derive(Debug)]
pub struct PastRead {
    key: Bytes,
    at: Revision,
    chain: Option<Chain>,
}

impl PastRead {
    /// One that has not begun.
    pub fn new(key: Bytes, at: Revision) -> PastRead {
        PastRead { key, at, chain: None }
    }

    /// Goes on until it is done or `pause`, which is asked after every change of the key, says so; none if it is to
    /// go on. The key, and the revision that it was read at.
    pub fn step(
        &mut self,
        state: &State,
        pause: &mut dyn FnMut() -> bool,
    ) -> Result<Option<(Revision, Option<Item>)>, ReadError> {
        let mut chain = match self.chain {
            Some(chain) => chain,
            None => match state.find(&self.key, Some(self.at))? {
                Sought::Found(at, item) => return Ok(Some((at, item))),
                Sought::Before(_, chain) => chain,
            },
        };
        let walked = state.walk_back(&mut chain, self.at, pause)?;
        self.chain = Some(chain);
        Ok(match walked {
            Walked::To(item) => Some((self.at, item)),
            Walked::Paused => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::sample;
    use crate::store::test_disk::Disk;

    #[test]
    fn a_read_that_pauses_at_every_row_finds_the_same() {
        let state = sample::fill_state(&Disk::default(), "key", 60);
        let newest = state.revision();
        for at in [None, Some(Revision(newest.0 / 2)), Some(Revision(2))] {
            for (descending, keys_only) in [(false, false), (true, false), (false, true)] {
                let range = KeyRange::all();
                let (items_max, bytes_max) = (1000, 1 << 20);
                let query = RangeQuery { range, at, descending, keys_only, items_max, bytes_max };
                let mut read = RangeRead::new(query.clone());
                let mut pauses = 0;
                let page = loop {
                    match read.step(&state, &mut || true).unwrap() {
                        Some(page) => break page,
                        None => pauses += 1,
                    }
                };
                assert_eq!(page, state.range(&query).unwrap());
                assert!(pauses >= page.items.len() && page.items.len() > 1);
            }
        }
        for (keys_max, fits) in [(3, false), (31, true)] {
            let mut count = CountRead::new(KeyRange::all(), keys_max);
            let found = std::iter::repeat_with(|| count.step(&state, &mut || true).unwrap());
            assert_eq!(found.flatten().next() == Some(Counted::Fits), fits, "{keys_max}");
        }
        let key = Bytes::from_static(b"key 0");
        for at in 1..=newest.0 {
            let mut read = PastRead::new(key.clone(), Revision(at));
            let found = loop {
                if let Some(found) = read.step(&state, &mut || true).unwrap() {
                    break found;
                }
            };
            assert_eq!(found, state.get(&key, Some(Revision(at))).unwrap());
        }
    }
}
