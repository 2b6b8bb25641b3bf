//! Damaged files.

use std::sync::OnceLock;

use super::sample::{LogContent, StateContent, log_files, read_log, read_state, state_files};
use super::test_disk::Disk;

struct Sample {
    log: Vec<u8>,
    log_content: LogContent,
    state: Vec<u8>,
    state_content: StateContent,
}

fn sample() -> &'static Sample {
    static SAMPLE: OnceLock<Sample> = OnceLock::new();
    SAMPLE.get_or_init(|| {
        let ([_, log], _) = log_files();
        let [_, state] = state_files();
        Sample {
            log_content: read_log(Disk::holding(log.clone())).expect("a sound file"),
            log,
            state_content: read_state(Disk::holding(state.clone())).expect("a sound file"),
            state,
        }
    })
}

/// Which file, and in four bytes each where to change it and how: it is refused, or nothing is read from it
/// that was never written.
pub fn files(data: &[u8]) {
    let Some((which, changes)) = data.split_first() else { return };
    let sample = sample();
    if which % 2 == 0 {
        if let Ok((_, _, entries, memberships)) = read_log(damaged(&sample.log, changes)) {
            let (_, _, written, written_memberships) = &sample.log_content;
            assert!(entries.iter().all(|entry| written.contains(entry)));
            assert!(memberships.iter().all(|found| written_memberships.contains(found)));
        }
    } else if let Ok((_, _, _, items)) = read_state(damaged(&sample.state, changes)) {
        assert!(items.iter().all(|item| sample.state_content.3.contains(item)));
    }
}

fn damaged(bytes: &[u8], changes: &[u8]) -> Disk {
    let mut bytes = bytes.to_vec();
    for change in changes.chunks_exact(4).take(16) {
        let at = u32::from_le_bytes([change[0], change[1], change[2], 0]) as usize % bytes.len();
        bytes[at] ^= change[3];
    }
    Disk::holding(bytes)
}
