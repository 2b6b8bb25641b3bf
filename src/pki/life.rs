//! When a certificate is renewed: at two thirds of its life, and again soon if that fails.

use time::{Duration, OffsetDateTime};

/// The shortest pause between two attempts.
const PAUSE_MIN: Duration = Duration::seconds(10);
/// The longest.
const PAUSE_MAX: Duration = Duration::hours(1);
/// The part of its life within which those that were made together are renewed one after the other: one in so many.
const SPREAD_PARTS: f64 = 24.0;

/// From when until when a certificate is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// Its first moment.
    pub from: OffsetDateTime,
    /// Its last.
    pub until: OffsetDateTime,
}

impl Life {
    /// From when on it is to be renewed: two thirds of its life, or up to a twenty-fourth of it earlier by `spread`, from 0 to 1,
    /// which its owner draws once.
    pub fn renewal(&self, spread: f64) -> OffsetDateTime {
        let all = (self.until - self.from).max(Duration::ZERO);
        self.from + all * (2.0 / 3.0) - all * (spread.clamp(0.0, 1.0) / SPREAD_PARTS)
    }

    /// How long to wait before the next attempt, after so many that failed since it was due. The pause doubles; it is no longer
    /// than a tenth of what is left, so that some come before the end, however short the life.
    pub fn pause(&self, now: OffsetDateTime, failures: u32, spread: f64) -> Duration {
        let left = (self.until - now).max(Duration::ZERO);
        let doubled =
            PAUSE_MIN * f64::from(1u32 << failures.min(16)) * (1.0 + spread.clamp(0.0, 1.0));
        doubled.min(PAUSE_MAX).min(Duration::max(left / 10, PAUSE_MIN / 10))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::days(1);

    fn life(days: i64) -> Life {
        let from = OffsetDateTime::UNIX_EPOCH;
        Life { from, until: from + DAY * days as i32 }
    }

    #[test]
    fn it_is_due_at_two_thirds_of_its_life_and_not_for_all_at_once() {
        let at = |spread| life(90).renewal(spread) - OffsetDateTime::UNIX_EPOCH;
        assert_eq!(at(0.0), DAY * 60);
        assert!(at(0.5) < at(0.0) && at(1.0) < at(0.5));
        assert!(at(1.0) > DAY * 56);
        // Nobody is warned, 30 days ahead, of what renews itself.
        assert!(DAY * 90 - at(0.0) >= DAY * 30);
        // What is no number between 0 and 1 makes none of it earlier or later.
        assert_eq!((at(-7.0), at(9.0)), (at(0.0), at(1.0)));
    }

    #[test]
    fn a_life_that_ends_before_it_begins_is_due_at_once() {
        let upside_down =
            Life { from: OffsetDateTime::UNIX_EPOCH + DAY, until: OffsetDateTime::UNIX_EPOCH };
        assert_eq!(upside_down.renewal(0.7), upside_down.from);
    }

    #[test]
    fn pauses_grow_to_a_bound_and_leave_time_before_the_end() {
        let life = life(90);
        let now = life.renewal(0.0);
        let pauses: Vec<Duration> =
            (0..40).map(|failures| life.pause(now, failures, 0.3)).collect();
        assert!(pauses.is_sorted() && pauses[0] >= PAUSE_MIN, "{pauses:?}");
        assert_eq!(pauses.last(), Some(&PAUSE_MAX));
        assert!(life.pause(now, 2, 0.9) > life.pause(now, 2, 0.1), "not all at once");
        // Shortly before the end the attempts come closer together, but not without a pause.
        let late = life.until - Duration::minutes(10);
        assert_eq!(life.pause(late, 30, 0.5), Duration::minutes(1));
        assert_eq!(life.pause(life.until + DAY, 30, 0.5), PAUSE_MIN / 10);
    }
}
