//! Mistakes in what is told of changes, and in how a listing goes on, which no run sees: nobody waits in the simulator,
//! and its listings are short. The state, asked by hand.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use konsen::kv::{Command, KeyRange, Page, RangeQuery, Revision, Write};
use konsen::raft::{Entry, LogId, Payload, Term};
use konsen::store::{EventBatch, Observer, RangeRead, State, StateOptions};
use redb::backends::InMemoryBackend;

use super::direct::Check;
use super::oracle::{Broken, ensure};

/// The checks that find a mistake, by its name.
pub(crate) const CHECKS: &[(&str, Check)] = &[
    ("LateListenerUntold", who_begins_to_listen_at_the_last_moment_hears),
    ("ListingUnbounded", a_page_ends_after_its_rows),
    ("ListingSkipsKey", pages_are_the_whole_listing),
    ("PageEndsInPast", the_past_of_a_key_is_gone_through_in_one_page),
];

fn state() -> State {
    // The memory is sound.
    State::open_backend(InMemoryBackend::new(), &StateOptions::default()).expect("an empty state")
}

fn put(state: &State, key: &'static str) -> Revision {
    let command = Command::new(Write::put(key.into(), "v".into()));
    let id = LogId::new(Term(1), state.applied().index.next());
    let entry = Entry { id, payload: Payload::Command(command.encode()) };
    state.apply(&[entry]).expect("the memory is sound");
    state.revision()
}

/// Begins to listen after it was asked once.
#[derive(Debug, Default)]
struct Late {
    asked: AtomicUsize,
    told: AtomicUsize,
}

impl Observer for Late {
    fn watches(&self) -> bool {
        self.asked.fetch_add(1, Ordering::SeqCst) > 0
    }

    fn changed(&self, batch: Arc<EventBatch>) {
        self.told.fetch_add(batch.events().len(), Ordering::SeqCst);
    }

    fn replaced(&self) {}
}

fn who_begins_to_listen_at_the_last_moment_hears() -> Result<(), Broken> {
    let (state, late) = (state(), Arc::new(Late::default()));
    state.observe(late.clone());
    put(&state, "a");
    let told = late.told.load(Ordering::SeqCst);
    ensure!(told == 1, "whoever began to listen before a change could be seen heard of {told}");
    Ok(())
}

/// The first pages of a listing, each of at most two rows but for the changes of one key, and read a row at a time.
fn pages(state: &State, at: Revision) -> Vec<Page> {
    let mut query = RangeQuery {
        range: KeyRange::all(),
        at: Some(at),
        descending: false,
        keys_only: false,
        items_max: 100,
        bytes_max: 1 << 20,
    };
    let mut pages: Vec<Page> = Vec::new();
    while pages.len() < 20 {
        let mut read = RangeRead::within(query.clone(), 2);
        let page = loop {
            if let Some(page) = read.step(state, &mut || true).expect("the memory is sound") {
                break page;
            }
        };
        let rest = page.rest.clone();
        pages.push(page);
        match rest {
            Some(rest) => query.range = rest,
            None => break,
        }
    }
    pages
}

fn keys(pages: &[Page]) -> Vec<&Bytes> {
    pages.iter().flat_map(|page| &page.items).map(|item| &item.key).collect()
}

fn three_keys() -> (State, Revision) {
    let state = state();
    let last = ["a", "b", "c"].map(|key| put(&state, key))[2];
    (state, last)
}

fn a_page_ends_after_its_rows() -> Result<(), Broken> {
    let (state, at) = three_keys();
    let items: Vec<usize> = pages(&state, at).iter().map(|page| page.items.len()).collect();
    ensure!(items == [2, 1], "pages of two rows have {items:?} items");
    Ok(())
}

fn pages_are_the_whole_listing() -> Result<(), Broken> {
    let (state, at) = three_keys();
    let pages = pages(&state, at);
    ensure!(keys(&pages) == ["a", "b", "c"], "pages of two rows have {:?}", keys(&pages));
    Ok(())
}

fn the_past_of_a_key_is_gone_through_in_one_page() -> Result<(), Broken> {
    let (state, at) = three_keys();
    for _ in 0..5 {
        put(&state, "b");
    }
    let pages = pages(&state, at);
    let (count, keys) = (pages.len(), keys(&pages));
    ensure!(count == 2 && keys == ["a", "b", "c"], "{count} pages have {keys:?}");
    Ok(())
}
