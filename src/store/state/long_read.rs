//! Reads that may take long, in steps: a listing over any number of deletions, a key far in the past.
//!
//! What a read has to step over is no client's to bound, so whoever carries it out may pause it at any row, and
//! go on later, or not at all. A page of a listing has a budget of rows, too, after which it ends wherever it is.

use std::cell::Cell;

use bytes::Bytes;

use super::core::State;
use super::range::Scan;
use super::read::{Chain, ReadError, Sought, Walked, When, item};
use crate::kv::{Item, KeyRange, KeyRow, Page, RangeQuery, Revision};

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
    /// The budget.
    rows_max: u64,
    /// How many rows were looked at: keys that are there or not, and changes along their past.
    rows: u64,
    tries: u32,
    /// As of when, once that is settled.
    when: Option<When>,
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
    /// One that has not begun, which goes as far as it takes.
    pub fn new(query: RangeQuery) -> RangeRead {
        RangeRead::within(query, u64::MAX)
    }

    /// One that has not begun, whose page ends once it has looked at so many rows: tombstones, newer changes and steps
    /// into the past count like items. It never ends within the past of a key, since the next one would have to begin
    /// there anew; so each page gets further, by one key at least, and looks at no more than this and one key's changes.
    pub fn within(query: RangeQuery, rows_max: u64) -> RangeRead {
        let left = query.range.clone();
        RangeRead {
            query,
            rows_max: rows_max.max(1),
            rows: 0,
            tries: TRIES,
            when: None,
            page: Page::default(),
            bytes: 0,
            left,
            chain: None,
        }
    }

    /// One that reads as of then, which a pin keeps readable, through however many rows that do not count.
    pub(super) fn pinned(query: RangeQuery, when: When) -> RangeRead {
        RangeRead { when: Some(when), ..RangeRead::within(query, u64::MAX) }
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
                    let anew = RangeRead::within(self.query.clone(), self.rows_max);
                    *self = RangeRead { tries: self.tries - 1, ..anew };
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
        let when = match self.when {
            Some(when) if when.pinned.is_some() => when,
            when => When::at(state.readable(when.map(|when| when.at).or(self.query.at))?),
        };
        self.when = Some(when);
        let descending = self.query.descending;
        let mut scan = Scan::new(state, self.left.clone(), descending);
        // It is asked after every row.
        let rows = Cell::new(self.rows);
        let mut pause = || {
            rows.set(rows.get().saturating_add(1));
            pause()
        };
        while let Some((key, row)) = scan.next()? {
            if rows.get() >= self.rows_max && self.chain.is_none() {
                self.page.rest = Some(self.left.onward(&key, descending));
                break;
            }
            match self.item_at(state, &key, row, when, &mut pause)? {
                Step::Paused => {
                    self.left = self.left.onward(&key, descending);
                    self.rows = rows.get();
                    return Ok(None);
                }
                Step::Item(_)
                    if self.page.items.len() >= self.query.items_max
                        || self.bytes >= self.query.bytes_max =>
                {
                    self.page.rest = Some(self.left.onward(&key, descending));
                    break;
                }
                Step::Item(item) => {
                    self.bytes += item.key.len() + item.value.len();
                    self.page.items.push(item);
                }
                Step::Absent => {}
            }
            if pause() {
                self.left = self.left.beyond(&key, descending);
                self.rows = rows.get();
                return Ok(None);
            }
        }
        self.page.revision = when.at;
        Ok(Some(std::mem::take(&mut self.page)))
    }

    /// The key as it was then.
    fn item_at(
        &mut self,
        state: &State,
        key: &Bytes,
        row: KeyRow,
        when: When,
        pause: &mut dyn FnMut() -> bool,
    ) -> Result<Step, ReadError> {
        let keys_only = self.query.keys_only;
        if row.newest < when.before {
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
        match state.walk_back(&mut chain, when, pause)? {
            Walked::Paused => {
                self.chain = Some((key.clone(), chain));
                Ok(Step::Paused)
            }
            Walked::To(None) => Ok(Step::Absent),
            Walked::To(Some((id, row))) => {
                let found = item(id, row);
                let found = found.map(|item| match keys_only {
                    true => Item { value: Bytes::new(), content_type: None, ..item },
                    false => item,
                });
                Ok(found.map_or(Step::Absent, Step::Item))
            }
        }
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
        let walked = state.walk_back(&mut chain, When::at(self.at), pause)?;
        self.chain = Some(chain);
        Ok(match walked {
            Walked::To(found) => Some((self.at, found.and_then(|(id, row)| item(id, row)))),
            Walked::Paused => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use redb::backends::InMemoryBackend;

    use super::*;
    use crate::kv::{Command, Condition, Write};
    use crate::raft::{Entry, LogId, Payload, Term};
    use crate::store::state::count::{CountRead, Counted};
    use crate::store::test_disk::Disk;
    use crate::store::{StateOptions, sample};

    #[test]
    fn a_read_that_pauses_at_every_row_finds_the_same() {
        let state = sample::fill_state(&Disk::default(), "key", 60);
        let newest = state.revision();
        for at in [None, Some(Revision(newest.0 / 2)), Some(Revision(3))] {
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
            let mut count = CountRead::new(&Write::delete_range(KeyRange::all(), keys_max));
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

    fn put(key: &str) -> Write {
        let (key, _condition) = (Bytes::copy_from_slice(key.as_bytes()), Condition::default());
        Write::put(key, "value".into())
    }

    fn delete(key: &str) -> Write {
        let (key, _condition) = (Bytes::copy_from_slice(key.as_bytes()), Condition::default());
        Write::delete(key)
    }

    fn write(state: &State, write: Write) {
        let id = LogId::new(Term(1), state.applied().index.next());
        let payload = Payload::Command(Command::new(write).encode());
        state.apply(&[Entry { id, payload }]).unwrap();
    }

    fn checkpoint(state: &State) {
        if let Some(frozen) = state.freeze() {
            state.write_checkpoint(frozen).unwrap();
        }
    }

    fn empty() -> State {
        State::open_backend(InMemoryBackend::new(), &StateOptions::default()).unwrap()
    }

    fn query(at: Option<Revision>, descending: bool) -> RangeQuery {
        let (range, items_max, bytes_max) = (KeyRange::all(), 1000, 1 << 20);
        RangeQuery { range, at, descending, keys_only: false, items_max, bytes_max }
    }

    /// A page, and how many rows were looked at for it; it is paused after every `slice` of them.
    fn page(state: &State, query: &RangeQuery, rows_max: u64, slice: u64) -> (Page, u64) {
        let mut read = RangeRead::within(query.clone(), rows_max);
        let mut rows = 0;
        loop {
            let mut pause = || {
                rows += 1;
                rows % slice == 0
            };
            if let Some(page) = read.step(state, &mut pause).unwrap() {
                return (page, rows);
            }
        }
    }

    /// All pages of a listing, each at the first one's revision, and the most rows that one of them looked at.
    fn walk(state: &State, first: &RangeQuery, rows_max: u64, slice: u64) -> (Vec<Page>, u64) {
        let (mut query, mut pages, mut most) = (first.clone(), Vec::new(), 0);
        loop {
            let (page, rows) = page(state, &query, rows_max, slice);
            most = most.max(rows);
            let rest = page.rest.clone();
            query.at = Some(page.revision);
            pages.push(page);
            match rest {
                Some(rest) => {
                    assert_ne!(rest, query.range, "every page gets further");
                    query.range = rest;
                }
                None => return (pages, most),
            }
        }
    }

    #[test]
    fn a_range_of_tombstones_is_gone_through_in_pages() {
        let state = empty();
        let name = |number: u32| format!("k{number:03}");
        for number in 0..250 {
            write(&state, put(&name(number)));
        }
        for number in 0..249 {
            write(&state, delete(&name(number)));
        }
        for stored in [false, true] {
            if stored {
                checkpoint(&state);
            }
            for (descending, with_item) in [(false, 2), (true, 0)] {
                let (pages, most) = walk(&state, &query(None, descending), 100, 7);
                let items: Vec<usize> = pages.iter().map(|page| page.items.len()).collect();
                let expected: Vec<usize> =
                    (0..3).map(|number| usize::from(number == with_item)).collect();
                assert_eq!((items, most), (expected, 100), "{descending}");
            }
        }
        let exact = walk(&state, &query(None, false), 250, 1).0;
        assert_eq!(exact.len(), 1, "what ends with the budget has no rest");
    }

    #[test]
    fn the_past_of_one_key_is_never_begun_twice() {
        let state = empty();
        write(&state, put("a"));
        write(&state, put("b"));
        let at = state.revision();
        for _ in 0..50 {
            write(&state, put("a"));
            write(&state, put("b"));
        }
        for slice in [1, 3, 1000] {
            let (pages, most) = walk(&state, &query(Some(at), false), 10, slice);
            // The row of the key, and of fifty changes those that lead there.
            assert_eq!((pages.len(), most), (2, 13), "{slice}");
            assert!(pages.iter().all(|page| page.items.len() == 1 && page.revision == at));
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Put(String),
        Delete(String),
        Checkpoint,
        Compact,
    }

    fn step() -> impl Strategy<Value = Step> {
        let name = || "[abc]{1,2}";
        prop_oneof![
            6 => name().prop_map(Step::Put),
            4 => name().prop_map(Step::Delete),
            1 => Just(Step::Checkpoint),
            1 => Just(Step::Compact),
        ]
    }

    proptest! {
        #[test]
        fn pages_together_are_the_whole_listing(
            steps in proptest::collection::vec(step(), 1..80),
            later in proptest::collection::vec(step(), 0..40),
            (rows_max, items_max, slice) in (1_u64..12, 1_usize..8, 1_u64..9),
            (descending, keys_only, of_the_past) in any::<(bool, bool, bool)>(),
        ) {
            let state = empty();
            let carry_out = |step: &Step, compacts: bool| match step {
                Step::Put(key) => write(&state, put(key)),
                Step::Delete(key) => write(&state, delete(key)),
                Step::Checkpoint => checkpoint(&state),
                Step::Compact if compacts => {
                    write(&state, Write::Compact { revision: state.revision() });
                }
                Step::Compact => {}
            };
            steps.iter().for_each(|step| carry_out(step, true));
            let at = of_the_past.then(|| state.revision());
            if of_the_past {
                later.iter().for_each(|step| carry_out(step, false));
            }
            let whole = RangeQuery { keys_only, ..query(at, descending) };
            let expected = state.range(&whole).unwrap();
            prop_assert!(expected.rest.is_none());
            let first = RangeQuery { items_max, ..whole };
            let (pages, most) = walk(&state, &first, rows_max, slice);
            let items: Vec<Item> = pages.iter().flat_map(|page| page.items.clone()).collect();
            prop_assert_eq!(items, expected.items);
            prop_assert!(pages.iter().all(|page| page.revision == expected.revision));
            // One key may have changed so often since.
            prop_assert!(most <= rows_max + later.len() as u64 + 1, "{} rows", most);
        }
    }
}
