//! How many clients read: what decides how many reads a round may wait for.
//!
//! The reads that wait at the replica do not tell: those of clients that were answered a moment ago are still on their way,
//! and a rule that looks at them alone takes the few that it finds for all that there are.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Whoever has read in this time or the one before it counts as a client that reads.
const SPAN: Duration = Duration::from_millis(4);

/// Counts the clients that read.
#[derive(Debug)]
pub(crate) struct ReadLoad {
    began: Instant,
    /// The span that is counted.
    span: AtomicU32,
    /// Those who have read in it.
    current: AtomicU32,
    /// Those who had read in the one before.
    last: AtomicU32,
}

impl ReadLoad {
    pub(crate) fn new() -> ReadLoad {
        let [span, current, last] = [0; 3].map(AtomicU32::new);
        ReadLoad { began: Instant::now(), span, current, last }
    }

    /// One more who may read.
    pub(crate) fn client(self: &Arc<ReadLoad>) -> ReadClient {
        ReadClient { load: self.clone(), counted_in: AtomicU32::new(u32::MAX) }
    }

    /// How many have read lately, about.
    pub(crate) fn clients(&self) -> usize {
        let (now, span) = (self.now(), self.span.load(Ordering::Relaxed));
        let [current, last] =
            [&self.current, &self.last].map(|count| count.load(Ordering::Relaxed));
        let clients = match now.wrapping_sub(span) {
            0 => current.max(last),
            1 => current,
            _ => 0,
        };
        clients as usize
    }

    fn now(&self) -> u32 {
        (self.began.elapsed().as_micros() / SPAN.as_micros()) as u32
    }

    fn count_in(&self, now: u32) {
        let span = self.span.load(Ordering::Relaxed);
        let begins = span != now
            && self.span.compare_exchange(span, now, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if begins {
            let before = self.current.swap(0, Ordering::Relaxed);
            let before = if now.wrapping_sub(span) == 1 { before } else { 0 };
            self.last.store(before, Ordering::Relaxed);
        }
        // Who comes at this very moment may be counted in the wrong span: it is about how many there are.
        self.current.fetch_add(1, Ordering::Relaxed);
    }
}

/// A client: one connection.
#[derive(Debug)]
pub struct ReadClient {
    load: Arc<ReadLoad>,
    counted_in: AtomicU32,
}

impl ReadClient {
    /// It reads. It counts once, however often it does.
    pub fn reads(&self) {
        let now = self.load.now();
        if self.counted_in.swap(now, Ordering::Relaxed) != now {
            self.load.count_in(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_client_counts_once_and_not_for_long() {
        let load = Arc::new(ReadLoad::new());
        assert_eq!(load.clients(), 0);
        let clients: Vec<ReadClient> = (0..10).map(|_| load.client()).collect();
        // The test may be held up between two lines.
        let counted = (0..1000).any(|_| {
            for client in clients.iter().chain(&clients) {
                client.reads();
            }
            load.clients() == clients.len()
        });
        assert!(counted, "{load:?}");
        std::thread::sleep(3 * SPAN);
        assert_eq!(load.clients(), 0);
    }
}
