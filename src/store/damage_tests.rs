//! One byte of a file is not what was written: what is read is an error or exactly what was written.

use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};

use redb::StorageBackend;

use super::disk::backend::PAGE_BYTES;
use super::error::StoreError;
use super::sample::{
    StateContent, compact, content, fill_state, log_files, open_state, read_log, read_state,
    state_files, write_more,
};
use super::state::{ReadError, State, StateOptions, Verify};
use super::test_disk::Disk;

/// Changes one byte after the other, `step` apart, and reads all. What is found is one of `written`,
/// the first of which is what the file holds, or an error.
fn flip<T: PartialEq + Debug>(
    bytes: &[u8],
    step: usize,
    written: &[T],
    read: impl Fn(Disk) -> Result<T, StoreError>,
) {
    assert_eq!(Some(&read(Disk::holding(bytes.to_vec())).unwrap()), written.first());
    let mut refused = 0;
    for at in (0..bytes.len()).step_by(step) {
        let mut changed = bytes.to_vec();
        changed[at] ^= if at.is_multiple_of(2) { 1 } else { 0xff };
        match catch_unwind(AssertUnwindSafe(|| read(Disk::holding(changed)))) {
            Err(_) => panic!("byte {at} made it panic"),
            Ok(Err(_)) => refused += 1,
            Ok(Ok(found)) => assert!(written.contains(&found), "byte {at}: {found:#?}"),
        }
    }
    // Most of a file is free space.
    assert!(refused > 20, "of {} changes {refused} were found", bytes.len() / step);
}

fn flip_log(step: usize) {
    let ([open, closed], before) = log_files();
    let written = read_log(Disk::holding(closed.clone())).unwrap();
    // Of a log that was not closed the last write cannot be told from one that a crash cut short.
    flip(&open, step, &[written.clone(), before], read_log);
    flip(&closed, step, &[written], read_log);
}

/// A state that is opened as a node does: its pages are verified as they are read, and all of them later. Nothing is cached, so that all
/// that is read comes from the file.
fn open_later(disk: &Disk) -> Result<State, StoreError> {
    open_caching(disk, 0)
}

fn open_caching(disk: &Disk, cache_bytes: usize) -> Result<State, StoreError> {
    let options = StateOptions { cache_bytes, verify: Verify::Later, ..StateOptions::default() };
    State::open_backend(disk.clone(), &options)
}

fn verify(state: &State) -> Result<(), StoreError> {
    while state.verify(PAGE_BYTES as u64)? {}
    Ok(())
}

/// Reads all before the pages are verified: it is as it was written, or an error; and so is what is left of them.
fn read_later(disk: &Disk, written: &StateContent) -> Result<(), StoreError> {
    let state = open_later(disk)?;
    let found = match content(&state) {
        Err(ReadError::Store(error)) => return Err(error),
        found => found.unwrap(),
    };
    assert_eq!(&found, written, "it was read before it was verified");
    verify(&state)
}

/// What is found of damage as a file is opened is found later, too, and nothing of it was believed before.
fn flip_state_later(step: usize) {
    let [open, closed] = state_files();
    let written = read_state(Disk::holding(closed.clone())).unwrap();
    for bytes in [open, closed] {
        read_later(&Disk::holding(bytes.clone()), &written).unwrap();
        let mut found = 0;
        // All of the header, which says where everything is.
        for at in (0..512).chain((512..bytes.len()).step_by(step)) {
            let mut changed = bytes.clone();
            changed[at] ^= if at.is_multiple_of(2) { 1 } else { 0xff };
            let at_open = read_state(Disk::holding(changed.clone()));
            let disk = Disk::holding(changed);
            let later = catch_unwind(AssertUnwindSafe(|| read_later(&disk, &written)));
            match (later, at_open) {
                (Err(_), _) => panic!("byte {at} made it panic"),
                (Ok(Ok(())), Err(error)) => panic!("byte {at} was missed: {error}"),
                (Ok(Err(_)), _) => found += 1,
                (Ok(Ok(())), Ok(_)) => {}
            }
        }
        assert!(found > 20, "{found} were found");
    }
}

fn flip_state(step: usize) {
    let [open, closed] = state_files();
    let written = read_state(Disk::holding(closed.clone())).unwrap();
    flip(&open, step, std::slice::from_ref(&written), read_state);
    flip(&closed, step, &[written], read_state);
}

#[test]
fn a_damaged_log_is_read_as_it_was_written_or_not_at_all() {
    flip_log(67);
}

#[test]
fn a_damaged_state_is_read_as_it_was_written_or_not_at_all() {
    flip_state(197);
}

#[test]
fn a_damaged_state_is_not_believed_before_it_is_verified() {
    flip_state_later(197);
}

/// The file of a state that is open, with branches and leaves.
fn file_of_some_pages() -> Vec<u8> {
    let disk = Disk::default();
    let _open = fill_state(&disk, "key", 400);
    disk.bytes()
}

#[test]
fn each_page_that_is_damaged_while_the_state_is_open_is_found_and_named() {
    let file = file_of_some_pages();
    let sound = open_later(&Disk::holding(file.clone())).unwrap();
    let before = sound.verified();
    verify(&sound).unwrap();
    let verified = sound.verified();
    assert_eq!((before.ended, verified.verified_bytes), (None, verified.of_bytes));
    assert!(verified.ended.is_some() && sound.damage().is_none());
    let pages = (verified.of_bytes - before.verified_bytes) / PAGE_BYTES as u64;
    assert!(pages > 10, "{pages}");
    let mut found = 0;
    for page in (0..file.len()).step_by(PAGE_BYTES) {
        let disk = Disk::holding(file.clone());
        // redb has what it read already.
        let state = open_caching(&disk, 16 << 20).unwrap();
        // How much there is in a page, of whatever kind it is.
        disk.write(page as u64 + 2, &[file[page + 2] ^ 1]).unwrap();
        if let Err(error) = verify(&state) {
            found += 1;
            let error = error.to_string();
            assert!(error.contains(&format!("the page at byte {page} of state")), "{error}");
            assert_eq!(state.damage().unwrap().to_string(), error);
            assert_eq!(state.verified().ended, None);
        }
    }
    assert_eq!(found, pages, "of those that were not verified as it was opened");
}

#[test]
fn what_a_read_meets_first_is_told_as_damage_too() {
    let file = file_of_some_pages();
    let has_values = |page: &usize| {
        let page = &file[*page..page + PAGE_BYTES];
        page.windows(20).any(|part| part == [b'v'; 20])
    };
    let pages = (0..file.len()).step_by(PAGE_BYTES).filter(has_values);
    let met = pages.filter(|page| {
        let disk = Disk::holding(file.clone());
        let state = open_later(&disk).unwrap();
        disk.write(*page as u64 + 2, &[file[page + 2] ^ 1]).unwrap();
        let Err(ReadError::Store(error)) = content(&state) else { return false };
        assert_eq!(error.damaged_file(), Some("state.redb"), "{error}");
        assert_eq!(state.damage().unwrap().to_string(), error.to_string());
        true
    });
    assert!(met.count() > 5);
}

#[test]
fn writes_go_on_while_pages_are_verified_and_take_the_place_of_none_of_them() {
    let disk = Disk::default();
    drop(fill_state(&disk, "key", 400));
    let state = open_later(&disk).unwrap();
    // As much is written as is given up.
    let go_on = |checkpoints: u64| {
        for _ in 0..checkpoints {
            write_more(&state, 5);
            compact(&state);
            state.write_checkpoint(state.freeze().unwrap()).unwrap();
        }
    };
    let mut strides = 0;
    while state.verify(PAGE_BYTES as u64).unwrap() {
        go_on(1);
        strides += 1;
    }
    assert!(strides > 20, "{strides}");
    // What was kept for it can be used again: whatever is written, the file does not grow.
    go_on(10);
    let length = disk.bytes().len();
    go_on(100);
    assert!(disk.bytes().len() <= length, "{} bytes, {length} before", disk.bytes().len());
    let newest = state.get(b"key 3", None).unwrap();
    drop(state);
    // Neither finds redb anything wrong with it.
    for open in [open_state, open_later] {
        let state = open(&disk).unwrap();
        verify(&state).unwrap();
        assert_eq!(state.get(b"key 3", None).unwrap(), newest);
    }
}

#[test]
#[ignore = "takes minutes"]
fn every_single_byte_of_a_state_is_told_later_when_it_is_damaged() {
    flip_state_later(1);
}

#[test]
#[ignore = "takes minutes"]
fn every_single_byte_of_a_log_is_told_when_it_is_damaged() {
    flip_log(1);
}

#[test]
#[ignore = "takes minutes"]
fn every_single_byte_of_a_state_is_told_when_it_is_damaged() {
    flip_state(1);
}
