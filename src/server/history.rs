//! Gives up the past by itself, as `history` in the configuration says.
//!
//! Every node notes at which time it had reached which revision, so that whoever comes to lead knows what is
//! old. The leader alone proposes, so its configuration counts, and the log tells everybody the same.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use tokio::time::MissedTickBehavior;

use super::handle::Handle;
use crate::config::HistoryConfig;
use crate::kv::{Revision, Write};
use crate::raft::RoleName;

/// Into how many steps the time that the past is kept for is divided.
const STEPS: u32 = 60;
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// How long a proposal may wait to be carried out.
const PATIENCE: Duration = Duration::from_secs(5);
/// The part of the wanted number of revisions by which there may be more, so that few proposals do.
const SPARE: u64 = 100;

/// Proposes compactions while this node leads; for ever.
pub(super) async fn give_up_the_past(handle: Handle, config: HistoryConfig) {
    if config == HistoryConfig::EVERYTHING {
        return;
    }
    let pause = config.keep.map_or(PAUSE_MAX, |keep| keep / STEPS).clamp(PAUSE_MIN, PAUSE_MAX);
    let mut ticks = tokio::time::interval(pause);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut marks = Marks::new(config);
    loop {
        ticks.tick().await;
        let now = Instant::now();
        marks.note(now, handle.revision());
        let Some(revision) = marks.oldest_wanted(now) else { continue };
        if handle.standing().role != RoleName::Leader || revision <= handle.compacted() {
            continue;
        }
        // What fails is due again at the next tick.
        match handle.write_here(Write::Compact { revision }, now + PATIENCE).await {
            Ok(reply) => tracing::debug!(%revision, outcome = ?reply.outcome, "compaction"),
            Err(error) => tracing::debug!(%revision, ?error, "compaction"),
        }
    }
}

/// When which revision was reached. Holds about [`STEPS`] marks.
#[derive(Debug)]
struct Marks {
    config: HistoryConfig,
    reached: VecDeque<(Instant, Revision)>,
    newest: Revision,
}

impl Marks {
    fn new(config: HistoryConfig) -> Marks {
        Marks { config, reached: VecDeque::new(), newest: Revision(0) }
    }

    fn note(&mut self, now: Instant, revision: Revision) {
        self.newest = revision;
        let Some(keep) = self.config.keep else { return };
        let apart = keep / STEPS;
        if self.reached.back().is_none_or(|(at, _)| now.duration_since(*at) >= apart) {
            self.reached.push_back((now, revision));
        }
        // Of those that are old enough the newest says all.
        while self.reached.get(1).is_some_and(|(at, _)| now.duration_since(*at) >= keep) {
            self.reached.pop_front();
        }
    }

    /// The oldest revision that has to stay readable; none before there is one to give up.
    fn oldest_wanted(&self, now: Instant) -> Option<Revision> {
        let by_age = self.config.keep.and_then(|keep| {
            let (at, revision) = *self.reached.front()?;
            (now.duration_since(at) >= keep).then_some(revision)
        });
        let by_count = self.config.revisions.and_then(|most| {
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

    fn marks(keep_seconds: Option<u64>, revisions: Option<u64>) -> Marks {
        Marks::new(HistoryConfig { keep: keep_seconds.map(Duration::from_secs), revisions })
    }

    #[test]
    fn what_was_reached_so_long_ago_is_the_oldest_wanted() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut marks = marks(Some(60), None);
        for second in 0..=600 {
            // Ten changes a second.
            marks.note(at(second), Revision(10 * second + 5));
            let wanted = marks.oldest_wanted(at(second));
            assert_eq!(wanted, second.checked_sub(60).map(|then| Revision(10 * then + 5)));
            assert!(marks.reached.len() <= 62);
        }
        // Nothing happens any more: the newest is all that is wanted in the end.
        assert_eq!(marks.newest, Revision(6_005));
        for second in 601..=661 {
            marks.note(at(second), Revision(6_005));
        }
        assert_eq!(marks.oldest_wanted(at(661)), Some(Revision(6_005)));
    }

    #[test]
    fn time_that_passed_unnoticed_makes_nothing_older_than_it_is() {
        let start = Instant::now();
        let mut marks = marks(Some(60), None);
        marks.note(start, Revision(7));
        let later = start + Duration::from_secs(1_000);
        marks.note(later, Revision(500));
        assert_eq!(marks.oldest_wanted(later), Some(Revision(7)));
        let later = later + Duration::from_secs(59);
        marks.note(later, Revision(900));
        assert_eq!(marks.oldest_wanted(later), Some(Revision(7)));
    }

    #[test]
    fn so_many_revisions_are_wanted_and_no_more() {
        let now = Instant::now();
        let mut marks = marks(None, Some(100));
        for (newest, wanted) in [(0, None), (100, None), (101, Some(2)), (250, Some(151))] {
            marks.note(now, Revision(newest));
            assert_eq!(marks.oldest_wanted(now), wanted.map(Revision), "{newest}");
        }
        assert!(marks.reached.is_empty());
    }

    #[test]
    fn of_many_revisions_a_hundredth_more_may_stay() {
        let now = Instant::now();
        let mut marks = marks(None, Some(1_000_000));
        let mut proposals = std::collections::BTreeSet::new();
        for newest in (1_000_000..1_100_000).step_by(100) {
            marks.note(now, Revision(newest));
            let oldest = marks.oldest_wanted(now).unwrap_or(Revision(1)).0;
            assert!((1_000_000..=1_010_000).contains(&(newest - oldest + 1)) || oldest == 1);
            proposals.insert(oldest);
        }
        assert_eq!(proposals.len(), 10);
    }

    #[test]
    fn the_stricter_of_two_limits_counts() {
        let start = Instant::now();
        let mut marks = marks(Some(60), Some(100));
        marks.note(start, Revision(50));
        marks.note(start + Duration::from_secs(60), Revision(120));
        assert_eq!(marks.oldest_wanted(start + Duration::from_secs(60)), Some(Revision(50)));
        marks.note(start + Duration::from_secs(61), Revision(1_000));
        assert_eq!(marks.oldest_wanted(start + Duration::from_secs(61)), Some(Revision(901)));
    }
}
