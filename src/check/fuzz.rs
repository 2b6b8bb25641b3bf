//! Files of histories, from any bytes.

use super::history::History;
use super::judge::{Fault, Lines, judge, summary};

/// More calls are not judged here: each one more doubles what the worst of them take.
const CALLS_MAX: usize = 12;

/// What is read is written and read again the same, and shown and judged, whatever it says.
pub fn history(data: &[u8]) {
    let history = match History::read(data) {
        Ok(history) => history,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    let mut written = Vec::new();
    history.write(&mut written).expect("memory");
    let again = History::read(written.as_slice()).expect("what was just written");
    assert_eq!(again, history);
    let all: Vec<usize> = (0..history.calls.len()).collect();
    assert_eq!(Lines(&history.calls, &all).to_string().lines().count(), all.len());
    let summed = summary(&history);
    assert_eq!(summed.operations, all.len());
    if all.len() > CALLS_MAX {
        return;
    }
    match judge(&history) {
        Ok(judged) => assert_eq!(judged, summed),
        Err(Fault::Violated(violation)) => {
            assert!(violation.key.is_none_or(|key| key < history.head.keys));
            assert!(!violation.rule.is_empty() && !violation.window.is_empty());
            assert!(violation.window.iter().all(|at| all.contains(at)));
        }
        Err(Fault::Undecided(key)) => panic!("too few calls to give up on key {key}"),
    }
}
