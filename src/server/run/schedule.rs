//! When the replica's thread has to do something though nothing has come: ticks, and to tell peers of commits.

use std::time::{Duration, Instant};

use super::timing::Timing;

/// How long peers wait to be told of what is committed. A client that writes one thing after the other mostly sends the next one
/// within that time, and the append that it makes tells them for nothing.
const TELL_AFTER: Duration = Duration::from_millis(1);

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Schedule {
    tick: Duration,
    late_ticks_max: u32,
    next_tick: Instant,
    tell_at: Option<Instant>,
}

impl Schedule {
    pub(super) fn new(timing: &Timing, now: Instant) -> Schedule {
        let Timing { tick, late_ticks_max, .. } = *timing;
        Schedule { tick, late_ticks_max, next_tick: now + tick, tell_at: None }
    }

    /// The next moment at which something is due.
    pub(super) fn next(&self) -> Instant {
        self.tell_at.map_or(self.next_tick, |at| at.min(self.next_tick))
    }

    /// How many ticks are due: of a thread that was held up, no more than are to be made up for.
    pub(super) fn ticks(&mut self, now: Instant) -> u32 {
        let mut due = 0;
        while now >= self.next_tick {
            self.next_tick += self.tick;
            due += 1;
            if due == self.late_ticks_max {
                self.next_tick = self.next_tick.max(now + self.tick);
            }
        }
        due
    }

    /// Whether peers are to be told of commits now.
    pub(super) fn tells(&mut self, now: Instant) -> bool {
        self.tell_at.take_if(|at| now >= *at).is_some()
    }

    /// Whether there is something to tell them, after all that has left for them.
    pub(super) fn untold(&mut self, untold: bool, now: Instant) {
        if untold {
            self.tell_at.get_or_insert(now + TELL_AFTER);
        } else {
            self.tell_at = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::RaftConfig;
    use crate::kv::Settings;

    const MS: Duration = Duration::from_millis(1);

    /// Ticks of 10 ms, 5 of which are made up for.
    fn schedule(now: Instant) -> Schedule {
        let raft = RaftConfig { heartbeat: 50 * MS, election_timeout: 500 * MS };
        let own = Settings { value_bytes_max: 1, election_timeout_ms: 500, lease_reads: false };
        Schedule::new(&Timing::new(&raft, own), now)
    }

    #[test]
    fn ticks_are_made_up_for_but_for_those_of_a_long_sleep() {
        let began = Instant::now();
        let mut schedule = schedule(began);
        assert_eq!((schedule.ticks(began), schedule.next()), (0, began + 10 * MS));
        assert_eq!(schedule.ticks(began + 10 * MS), 1);
        assert_eq!((schedule.ticks(began + 45 * MS), schedule.next()), (3, began + 50 * MS));
        let late = began + 3_600_000 * MS;
        assert_eq!((schedule.ticks(late), schedule.next()), (5, late + 10 * MS));
    }

    #[test]
    fn peers_are_told_a_moment_after_a_commit_unless_something_else_did() {
        let began = Instant::now();
        let mut schedule = schedule(began);
        schedule.untold(true, began + 2 * MS);
        schedule.untold(true, began + 2 * MS + MS / 2);
        assert_eq!(schedule.next(), began + 3 * MS, "from the first on");
        assert!(!schedule.tells(began + 2 * MS));
        schedule.untold(false, began + 2 * MS);
        assert_eq!(schedule.next(), began + 10 * MS);
        assert!(!schedule.tells(began + 4 * MS), "an append did");
        schedule.untold(true, began + 5 * MS);
        assert!(schedule.tells(began + 6 * MS));
        assert!(!schedule.tells(began + 6 * MS), "once");
        schedule.untold(true, began + 95 * MS / 10);
        assert_eq!(schedule.next(), began + 10 * MS, "a tick comes first");
    }
}
