//! Whether a node is so far behind its leader that its clients' reads wait long: then the leader answers them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::raft::Index;

/// How long it may take until what the leader has decided is applied here. A read that must be fresh waits as long.
const LAG_MAX: Duration = Duration::from_millis(200);

/// Watches how long it takes to apply what was decided at some moment, one such moment after the other.
#[derive(Debug)]
pub(crate) struct Lag {
    mark: Index,
    since: Instant,
    behind: Arc<AtomicBool>,
}

/// What it comes to, for others to see. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct IsBehind(Arc<AtomicBool>);

impl IsBehind {
    pub(crate) fn now(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Lag {
    pub(crate) fn new(now: Instant) -> (Lag, IsBehind) {
        let behind = Arc::new(AtomicBool::new(false));
        (Lag { mark: Index(0), since: now, behind: behind.clone() }, IsBehind(behind))
    }

    /// The node has applied so much, of so much that is known to be decided.
    pub(crate) fn look(&mut self, applied: Index, decided: Index, now: Instant) {
        let late = now.saturating_duration_since(self.since) > LAG_MAX;
        if applied < self.mark {
            if late {
                self.behind.store(true, Ordering::Relaxed);
            }
            return;
        }
        // Whoever reaches the mark late stays behind until it reaches one in time, or there is nothing more.
        self.behind.store(late && applied < decided, Ordering::Relaxed);
        (self.mark, self.since) = (decided, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_applies_late_is_behind_until_it_does_so_in_time() {
        let begin = Instant::now();
        let (mut lag, behind) = Lag::new(begin);
        let mut look = |ms, applied, decided| {
            lag.look(Index(applied), Index(decided), begin + Duration::from_millis(ms));
            behind.now()
        };
        assert!(!look(0, 10, 10));
        assert!(!look(10_000, 10, 10), "nothing is decided");
        assert!(!look(10_010, 10, 20));
        assert!(!look(10_020, 15, 30), "it is on its way");
        assert!(!look(10_030, 20, 40), "steady writes are no lag");
        assert!(!look(10_200, 20, 50));
        assert!(look(10_300, 20, 60), "of what was decided 270 ms ago");
        assert!(look(10_400, 45, 90), "reached, but late");
        assert!(look(10_500, 70, 100), "on its way to 90");
        assert!(!look(10_550, 90, 110), "reached in time");
        assert!(look(11_000, 90, 110));
        assert!(!look(11_100, 110, 110), "there is nothing more");
    }
}
