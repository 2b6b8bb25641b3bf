//! How fast a snapshot goes out while writes wait: they are what the node is there for.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// After how many bytes there is a pause.
pub(crate) const STRIDE_BYTES: u64 = 1 << 20;
/// How long it is for each write that waits.
const PAUSE_A_WRITE: Duration = Duration::from_millis(2);
/// The writes that count: however many wait, a snapshot comes to an end.
const WRITES_MAX: u32 = 16;

/// Kept by the replica thread, read by those that send.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    writes: AtomicUsize,
}

impl Pace {
    /// Says how many writes wait to be decided.
    pub(crate) fn writes_wait(&self, writes: usize) {
        self.writes.store(writes, Ordering::Relaxed);
    }

    /// How long nothing more should be sent after a stride.
    pub(crate) fn pause(&self) -> Duration {
        let writes = u32::try_from(self.writes.load(Ordering::Relaxed)).unwrap_or(u32::MAX);
        PAUSE_A_WRITE * writes.min(WRITES_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_more_writes_wait_the_longer_the_pause_up_to_a_limit() {
        let pace = Pace::default();
        let pause = |writes| {
            pace.writes_wait(writes);
            pace.pause().as_millis()
        };
        assert_eq!([0, 1, 3, 16, 17, usize::MAX].map(pause), [0, 2, 6, 32, 32, 32]);
    }
}
