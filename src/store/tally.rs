//! Counts of what the workers have done, for whoever looks on. Atomics alone: nobody who counts waits for anybody.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Writes that went together.
const GROUP: &[u64] = &[1, 2, 4, 8, 16, 64, 256, 1024];
/// Bytes that went together.
const GROUP_BYTES: &[u64] =
    &[1 << 8, 1 << 10, 1 << 12, 1 << 14, 1 << 16, 1 << 18, 1 << 20, 4 << 20];
/// Writes of a disk, in microseconds: from a fast one to one that keeps its node from leading.
const WRITE_US: &[u64] =
    &[100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000];
/// What is applied together, in microseconds: from one small entry to what holds up heartbeats.
const APPLY_US: &[u64] =
    &[10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 50_000, 100_000, 500_000];
/// Checkpoints, in microseconds.
const CHECKPOINT_US: &[u64] =
    &[10_000, 50_000, 100_000, 500_000, 1_000_000, 5_000_000, 10_000_000, 60_000_000];

/// How many of what was seen lay between which bounds.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [u64],
    /// One for each bound, of what lies above the one before; and one for the rest.
    counts: Box<[AtomicU64]>,
    sum: AtomicU64,
}

/// A histogram as it was at a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// The upper bounds, each of which belongs to what it bounds.
    pub bounds: &'static [u64],
    /// How many lie between them; one more than there are bounds.
    pub counts: Vec<u64>,
    /// All values together.
    pub sum: u64,
}

impl Histogram {
    /// One with these upper bounds, in ascending order.
    pub fn new(bounds: &'static [u64]) -> Histogram {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Histogram { bounds, counts, sum: AtomicU64::new(0) }
    }

    /// Counts a value.
    pub fn observe(&self, value: u64) {
        let at = self.bounds.partition_point(|bound| *bound < value);
        self.counts[at].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(value, Ordering::Relaxed);
    }

    /// Counts a time, in microseconds.
    pub fn observe_time(&self, time: Duration) {
        self.observe(u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
    }

    /// What was counted so far.
    pub fn read(&self) -> Reading {
        Reading {
            bounds: self.bounds,
            counts: self.counts.iter().map(|count| count.load(Ordering::Relaxed)).collect(),
            sum: self.sum.load(Ordering::Relaxed),
        }
    }
}

/// What the workers of a node have done.
#[derive(Debug)]
pub struct Tally {
    /// How many writes went into each commit of the log.
    pub log_writes: Histogram,
    /// How many bytes of entries did.
    pub log_bytes: Histogram,
    /// How long each commit took until it was durable, in microseconds.
    pub log_time: Histogram,
    /// How long it took to apply what was applied together, in microseconds.
    pub apply_time: Histogram,
    /// How long each checkpoint took, in microseconds.
    pub checkpoint_time: Histogram,
}

impl Default for Tally {
    fn default() -> Tally {
        Tally {
            log_writes: Histogram::new(GROUP),
            log_bytes: Histogram::new(GROUP_BYTES),
            log_time: Histogram::new(WRITE_US),
            apply_time: Histogram::new(APPLY_US),
            checkpoint_time: Histogram::new(CHECKPOINT_US),
        }
    }
}

impl Tally {
    /// The log was written: so many writes with so many bytes of entries in one commit.
    pub(super) fn log_written(&self, writes: usize, bytes: u64, took: Duration) {
        self.log_writes.observe(writes as u64);
        self.log_bytes.observe(bytes);
        self.log_time.observe_time(took);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_counts_up_to_the_bound_that_it_reaches() {
        let histogram = Histogram::new(&[1, 10]);
        for value in [0, 1, 2, 10, 11, 1000] {
            histogram.observe(value);
        }
        histogram.observe_time(Duration::from_micros(3));
        assert_eq!(
            histogram.read(),
            Reading { bounds: &[1, 10], counts: vec![2, 3, 2], sum: 1027 }
        );
    }
}
