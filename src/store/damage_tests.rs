//! One byte of a file is not what was written: what is read is an error or exactly what was written.

use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::error::StoreError;
use super::sample::{log_files, read_log, read_state, state_files};
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
#[ignore = "takes minutes"]
fn every_single_byte_of_a_log_is_told_when_it_is_damaged() {
    flip_log(1);
}

#[test]
#[ignore = "takes minutes"]
fn every_single_byte_of_a_state_is_told_when_it_is_damaged() {
    flip_state(1);
}
