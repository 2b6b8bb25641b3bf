//! Signs of life: what each worker of a node is at, and when it last got further.
//!
//! A worker that has nothing to do rests. One that is at work beats whenever it got further, be it by one row;
//! one that has not for long hangs, or meets a disk that answers nothing. What is long is not decided here.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use super::tally::Tally;

/// The clock, which is looked at for every row: a few milliseconds do not matter.
#[cfg(target_os = "linux")]
const CLOCK: ClockId = ClockId::MonotonicCoarse;
#[cfg(not(target_os = "linux"))]
const CLOCK: ClockId = ClockId::Monotonic;

/// Microseconds since the machine started.
fn now_us() -> u64 {
    let now = clock_gettime(CLOCK);
    u64::try_from(now.tv_sec * 1_000_000 + now.tv_nsec / 1_000).unwrap_or_default()
}

/// One worker's signs.
#[derive(Debug, Default)]
pub struct Pulse {
    /// When it last got further, plus one; 0 while it rests.
    last: AtomicU64,
}

impl Pulse {
    /// The worker is at work, and has just got further.
    pub fn beat(&self) {
        self.last.store(now_us() + 1, Ordering::Relaxed);
    }

    /// The worker has nothing to do.
    pub fn rest(&self) {
        self.last.store(0, Ordering::Relaxed);
    }

    /// For how long the worker has not got further although it is at work; none while it rests.
    pub fn still_for(&self) -> Option<Duration> {
        let last = self.last.load(Ordering::Relaxed).checked_sub(1)?;
        Some(Duration::from_micros(now_us().saturating_sub(last)))
    }
}

/// A worker that rests when this is dropped, however that comes about.
#[derive(Debug)]
pub(super) struct AtWork<'a>(&'a Pulse);

impl AtWork<'_> {
    pub(super) fn begin(pulse: &Pulse) -> AtWork<'_> {
        pulse.beat();
        AtWork(pulse)
    }
}

impl Drop for AtWork<'_> {
    fn drop(&mut self) {
        self.0.rest();
    }
}

/// The workers of a node.
#[derive(Debug, Default)]
pub struct Life {
    /// Reads and writes of the log's and the state's file, whoever makes them. Never rests once it began.
    pub disk: Pulse,
    /// The replica's thread, which never rests.
    pub replica: Pulse,
    /// Carrying entries out, a row at a time.
    pub apply: Pulse,
    /// Reading what is to be applied from a file, a row at a time.
    pub lookup: Pulse,
    /// Commits of the log.
    pub log: Pulse,
    /// Checkpoints of the state.
    pub checkpoint: Pulse,
    /// The look at how much room the disk has.
    pub space: Pulse,
    /// What they have done so far.
    pub tally: Tally,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_rests_is_never_late() {
        let pulse = Pulse::default();
        assert_eq!(pulse.still_for(), None);
        pulse.beat();
        let first = pulse.still_for().unwrap();
        assert!(first < Duration::from_secs(10));
        assert!(pulse.still_for().unwrap() >= first);
        pulse.rest();
        assert_eq!(pulse.still_for(), None);
    }
}
