//! How much of the past is kept: by age, by number of revisions, or both.
//!
//! Every node notes at which time it had reached which revision, so that whoever comes to lead knows what is
//! old. The leader alone proposes a compaction, and the log tells everybody the same.

use std::collections::VecDeque;
use std::time::Duration;

use crate::kv::Revision;

/// Into how many steps the time that the past is kept for is divided.
pub const STEPS: u32 = 60;
/// The part of the wanted number of revisions by which there may be more, so that few proposals do.
const SPARE: u64 = 100;

/// What is to be kept of the past; nothing is given up where neither is set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keep {
    /// What was superseded no longer ago than that.
    pub age: Option<Duration>,
    /// So many revisions.
    pub revisions: Option<u64>,
}

/// When which revision was reached, by the cluster's clock. Holds about [`STEPS`] times.
#[derive(Clone, Debug)]
pub struct RevisionTimes {
    keep: Keep,
    reached: VecDeque<(Duration, Revision)>,
    newest: Revision,
}

impl RevisionTimes {
    /// Nothing was reached yet.
    pub fn new(keep: Keep) -> RevisionTimes {
        RevisionTimes { keep, reached: VecDeque::new(), newest: Revision(0) }
    }

    /// The revision is that now.
    pub fn note(&mut self, now: Duration, revision: Revision) {
        self.newest = revision;
        let Some(keep) = self.keep.age else { return };
        let apart = keep / STEPS;
        if self.reached.back().is_none_or(|(at, _)| now.saturating_sub(*at) >= apart) {
            self.reached.push_back((now, revision));
        }
        // Of those that are old enough the newest says all.
        while self.reached.get(1).is_some_and(|(at, _)| now.saturating_sub(*at) >= keep) {
            self.reached.pop_front();
        }
    }

    /// The oldest revision that has to stay readable; none before there is one to give up.
    pub fn oldest_wanted(&self, now: Duration) -> Option<Revision> {
        let by_age = self.keep.age.and_then(|keep| {
            let (at, revision) = *self.reached.front()?;
            (now.saturating_sub(at) >= keep).then_some(revision)
        });
        let by_count = self.keep.revisions.and_then(|most| {
            let oldest = self.newest.0.checked_sub(most)? + 1;
            let step = (most / SPARE).max(1);
            Some(Revision(oldest - oldest % step))
        });
        by_age.max(by_count).filter(|revision| *revision > Revision(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(keep_seconds: Option<u64>, revisions: Option<u64>) -> RevisionTimes {
        RevisionTimes::new(Keep { age: keep_seconds.map(Duration::from_secs), revisions })
    }

    #[test]
    fn what_was_reached_so_long_ago_is_the_oldest_wanted() {
        let start = Duration::from_secs(1_000);
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut times = times(Some(60), None);
        for second in 0..=600 {
            // Ten changes a second.
            times.note(at(second), Revision(10 * second + 5));
            let wanted = times.oldest_wanted(at(second));
            assert_eq!(wanted, second.checked_sub(60).map(|then| Revision(10 * then + 5)));
            assert!(times.reached.len() <= 62);
        }
        // Nothing happens any more: the newest is all that is wanted in the end.
        assert_eq!(times.newest, Revision(6_005));
        for second in 601..=661 {
            times.note(at(second), Revision(6_005));
        }
        assert_eq!(times.oldest_wanted(at(661)), Some(Revision(6_005)));
    }

    #[test]
    fn time_that_passed_unnoticed_makes_nothing_older_than_it_is() {
        let start = Duration::from_secs(1_000);
        let mut times = times(Some(60), None);
        times.note(start, Revision(7));
        let later = start + Duration::from_secs(1_000);
        times.note(later, Revision(500));
        assert_eq!(times.oldest_wanted(later), Some(Revision(7)));
        let later = later + Duration::from_secs(59);
        times.note(later, Revision(900));
        assert_eq!(times.oldest_wanted(later), Some(Revision(7)));
    }

    #[test]
    fn so_many_revisions_are_wanted_and_no_more() {
        let now = Duration::ZERO;
        let mut times = times(None, Some(100));
        for (newest, wanted) in [(0, None), (100, None), (101, Some(2)), (250, Some(151))] {
            times.note(now, Revision(newest));
            assert_eq!(times.oldest_wanted(now), wanted.map(Revision), "{newest}");
        }
        assert!(times.reached.is_empty());
    }

    #[test]
    fn of_many_revisions_a_hundredth_more_may_stay() {
        let now = Duration::ZERO;
        let mut times = times(None, Some(1_000_000));
        let mut proposals = std::collections::BTreeSet::new();
        for newest in (1_000_000..1_100_000).step_by(100) {
            times.note(now, Revision(newest));
            let oldest = times.oldest_wanted(now).unwrap_or(Revision(1)).0;
            assert!((1_000_000..=1_010_000).contains(&(newest - oldest + 1)) || oldest == 1);
            proposals.insert(oldest);
        }
        assert_eq!(proposals.len(), 10);
    }

    #[test]
    fn the_stricter_of_two_limits_counts() {
        let start = Duration::from_secs(1_000);
        let mut times = times(Some(60), Some(100));
        times.note(start, Revision(50));
        times.note(start + Duration::from_secs(60), Revision(120));
        assert_eq!(times.oldest_wanted(start + Duration::from_secs(60)), Some(Revision(50)));
        times.note(start + Duration::from_secs(61), Revision(1_000));
        assert_eq!(times.oldest_wanted(start + Duration::from_secs(61)), Some(Revision(901)));
    }
}
