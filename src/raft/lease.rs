//! A leader's lease (thesis 6.4.1): reads without a round, at the price of trusting clocks.
//!
//! Whoever answers a heartbeat helps nobody else to the leader's place for the shortest election
//! time-out, not even after a restart. So from when a heartbeat left that a quorum has answered, nobody
//! else can be elected for that long, less what clocks and ticks may err.

use std::collections::VecDeque;

use super::id::Moment;

/// The most heartbeats that are remembered until they are answered.
const LEFT_MAX: usize = 64;

/// What a leader knows of its lease.
#[derive(Clone, Debug, Default, Hash)]
pub(super) struct Lease {
    /// The rounds of heartbeats that no quorum has answered yet, with a moment before they left.
    left: VecDeque<(u64, Moment)>,
    /// A moment before the newest round left that a quorum has answered.
    since: Option<Moment>,
    /// Somebody may stand at this leader's own wish, whom a voter does help.
    forfeited: bool,
}

impl Lease {
    /// A round of heartbeats is leaving.
    pub(super) fn left(&mut self, round: u64, now: Moment) {
        // Rounds that leave at the same moment, as far as is known, count as the first of them.
        if self.left.back().is_none_or(|&(_, last)| last < now) {
            if self.left.len() == LEFT_MAX {
                self.left.pop_front();
            }
            self.left.push_back((round, now));
        }
    }

    /// Whether an answer could prolong it.
    pub(super) fn is_waiting(&self) -> bool {
        !self.left.is_empty()
    }

    /// A quorum has answered `round` and with it all before.
    pub(super) fn answered(&mut self, round: u64) {
        while let Some(&(number, moment)) = self.left.front()
            && number <= round
        {
            self.since = Some(moment);
            self.left.pop_front();
        }
    }

    /// The quorum is another one now: nothing that the old one said counts.
    pub(super) fn restart(&mut self) {
        self.left.clear();
        self.since = None;
    }

    /// There is no lease in this term any more.
    pub(super) fn forfeit(&mut self) {
        self.forfeited = true;
    }

    /// Whether nobody else can have been elected before `now`. `lasts_us` is 0 without leases.
    pub(super) fn holds(&self, now: Moment, lasts_us: u64) -> bool {
        !self.forfeited && self.since.is_some_and(|since| now.0 < since.0.saturating_add(lasts_us))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_lasts_from_when_the_answered_round_left() {
        let mut lease = Lease::default();
        lease.left(1, Moment(100));
        lease.left(2, Moment(200));
        assert!(!lease.holds(Moment(200), 50), "nothing is answered");
        lease.answered(1);
        assert!(lease.holds(Moment(149), 50));
        assert!(!lease.holds(Moment(150), 50));
        lease.answered(2);
        assert!(lease.holds(Moment(249), 50) && !lease.holds(Moment(250), 50));
        assert!(!lease.holds(Moment(200), 0), "without leases");
    }

    #[test]
    fn a_round_of_the_same_moment_is_no_later_than_the_first() {
        let mut lease = Lease::default();
        lease.left(1, Moment(100));
        lease.left(2, Moment(100));
        lease.answered(2);
        assert!(lease.holds(Moment(149), 50) && !lease.holds(Moment(150), 50));
    }

    #[test]
    fn it_ends_with_the_quorum_and_with_a_transfer() {
        let mut lease = Lease::default();
        lease.left(1, Moment(100));
        lease.answered(1);
        lease.restart();
        assert!(!lease.holds(Moment(100), 50));
        lease.left(2, Moment(110));
        lease.answered(2);
        assert!(lease.holds(Moment(110), 50));
        lease.forfeit();
        assert!(!lease.holds(Moment(110), 50));
    }

    #[test]
    fn heartbeats_that_nobody_answers_are_forgotten() {
        let mut lease = Lease::default();
        for round in 1..1000 {
            lease.left(round, Moment(round));
        }
        assert_eq!(lease.left.len(), LEFT_MAX);
    }
}
