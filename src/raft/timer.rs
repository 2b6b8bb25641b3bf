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

/// Counts ticks up to a time-out drawn from a least one to half as much again: the width keeps candidates
/// apart, and is what clients wait for beyond the least when a leader dies.
#[derive(Clone, Debug, Hash)]
pub(super) struct ElectionTimer {
    elapsed: u32,
    timeout: u32,
    /// The ticks that must pass even if the time-out is reached.
    held: u32,
}

impl ElectionTimer {
    pub(super) fn start(random: &mut SplitMix64, least: u32) -> ElectionTimer {
        let least = u64::from(least.max(1));
        let timeout = least + random.next() % least.div_ceil(2);
        let timeout = u32::try_from(timeout).unwrap_or(u32::MAX);
        ElectionTimer { elapsed: 0, timeout, held: 0 }
    }

    /// Counts a tick; true once the time-out is reached.
    pub(super) fn tick(&mut self) -> bool {
        self.elapsed = self.elapsed.saturating_add(1);
        self.held = self.held.saturating_sub(1);
        self.elapsed >= self.timeout && self.held == 0
    }

    /// Starts again with the same time-out.
    pub(super) fn reset(&mut self) {
        self.elapsed = 0;
        self.held = 0;
    }

    /// Lets at least `ticks` pass from now on, unless it is reset.
    pub(super) fn hold(&mut self, ticks: u32) {
        self.held = self.held.max(ticks);
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
    fn timeouts_lie_between_the_least_and_half_as_much_again_and_differ() {
        let mut random = SplitMix64::new(7);
        let drawn: Vec<u32> =
            (0..200).map(|_| ElectionTimer::start(&mut random, 50).timeout).collect();
        assert!(drawn.iter().all(|timeout| (50..75).contains(timeout)));
        let different: std::collections::BTreeSet<_> = drawn.iter().collect();
        assert!(different.len() > 20, "only {} different time-outs", different.len());
    }

    #[test]
    fn fires_at_the_timeout_and_not_before() {
        let mut timer = ElectionTimer { elapsed: 0, timeout: 3, held: 0 };
        assert_eq!([timer.tick(), timer.tick(), timer.tick()], [false, false, true]);
        timer.reset();
        assert!(!timer.tick());
    }

    #[test]
    fn whoever_holds_it_never_shortens_it() {
        let mut timer = ElectionTimer { elapsed: 1, timeout: 3, held: 0 };
        timer.hold(1);
        assert_eq!([timer.tick(), timer.tick()], [false, true]);
        timer.hold(2);
        assert_eq!([timer.tick(), timer.tick()], [false, true]);
        timer.hold(9);
        timer.reset();
        assert_eq!([timer.tick(), timer.tick(), timer.tick()], [false, false, true]);
    }
}
