//! Randomized time-outs (section 9.3 of the paper), from a generator that is seeded from outside.

use std::hash::{Hash, Hasher};

/// Sebastiano Vigna's splitmix64: small, fast, and good enough to spread time-outs.
#[derive(Clone, Debug)]
pub(super) struct SplitMix64(u64);

/// Nodes that differ in their luck to come only are the same to whoever looks for states seen before.
impl Hash for SplitMix64 {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

impl SplitMix64 {
    pub(super) fn new(seed: u64) -> SplitMix64 {
        SplitMix64(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// Counts ticks up to a time-out drawn from `election_ticks` to twice that.
#[derive(Clone, Debug, Hash)]
pub(super) struct ElectionTimer {
    elapsed: u32,
    timeout: u32,
}

impl ElectionTimer {
    pub(super) fn start(random: &mut SplitMix64, election_ticks: u32) -> ElectionTimer {
        let least = u64::from(election_ticks.max(1));
        let timeout = least + random.next() % least;
        ElectionTimer { elapsed: 0, timeout: u32::try_from(timeout).unwrap_or(u32::MAX) }
    }

    /// Counts a tick; true once the time-out is reached.
    pub(super) fn tick(&mut self) -> bool {
        self.elapsed = self.elapsed.saturating_add(1);
        self.elapsed >= self.timeout
    }

    /// Starts again with the same time-out.
    pub(super) fn reset(&mut self) {
        self.elapsed = 0;
    }

    /// Ticks since the start or the last reset.
    pub(super) fn elapsed(&self) -> u32 {
        self.elapsed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_lie_between_the_least_and_twice_that_and_differ() {
        let mut random = SplitMix64::new(7);
        let drawn: Vec<u32> =
            (0..200).map(|_| ElectionTimer::start(&mut random, 50).timeout).collect();
        assert!(drawn.iter().all(|timeout| (50..100).contains(timeout)));
        let different: std::collections::BTreeSet<_> = drawn.iter().collect();
        assert!(different.len() > 30, "only {} different time-outs", different.len());
    }

    #[test]
    fn fires_at_the_timeout_and_not_before() {
        let mut timer = ElectionTimer { elapsed: 0, timeout: 3 };
        assert_eq!([timer.tick(), timer.tick(), timer.tick()], [false, false, true]);
        timer.reset();
        assert!(!timer.tick());
    }
}
