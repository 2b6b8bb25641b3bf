//! The cluster's clock at the leader: what it gives to the commands that it takes in.
//!
//! It goes on from the state's clock when the node comes to lead, by ticks of the node's own monotonic time. A node that was
//! held up makes few ticks up for, so a pause lengthens whatever waits for the clock; a wall clock that jumps does nothing,
//! and time without a leader does not count.

/// See the module's documentation.
#[derive(Clone, Copy, Debug)]
pub(super) struct ClusterClock {
    tick_us: u64,
    now_us: u64,
}

impl ClusterClock {
    /// A clock that has not begun, with ticks of that many microseconds.
    pub(super) fn new(tick_us: u64) -> ClusterClock {
        ClusterClock { tick_us, now_us: 0 }
    }

    /// A tick has gone by at a node that leads, or not, and whose state has that clock.
    pub(super) fn tick(&mut self, leads: bool, state_ms: u64) {
        self.now_us = match leads {
            true => self.at_least(state_ms).saturating_add(self.tick_us),
            // Whatever it thought while it led has no part in another's time.
            false => state_ms.saturating_mul(1000),
        };
    }

    /// What it shows at a leader whose state has that clock, in milliseconds.
    pub(super) fn now_ms(&self, state_ms: u64) -> u64 {
        self.at_least(state_ms) / 1000
    }

    fn at_least(&self, state_ms: u64) -> u64 {
        self.now_us.max(state_ms.saturating_mul(1000))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_on_from_the_state_and_counts_only_while_its_node_leads() {
        let mut clock = ClusterClock::new(10_000);
        (0..5).for_each(|_| clock.tick(false, 700));
        assert_eq!(clock.now_ms(700), 700, "a follower's is the state's");
        (0..5).for_each(|_| clock.tick(true, 700));
        assert_eq!(clock.now_ms(700), 750);
        assert_eq!(clock.now_ms(900), 900, "what the last leader left is applied late");
        clock.tick(true, 900);
        assert_eq!(clock.now_ms(900), 910);
        clock.tick(false, 905);
        assert_eq!(clock.now_ms(905), 905, "what it gave to no command is forgotten");
    }
}
