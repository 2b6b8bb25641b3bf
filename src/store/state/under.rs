//! How far the log under the state is durable: a checkpoint waits for that.
//!
//! What is committed is applied as soon as that is known, although this node's own log may not hold it yet. A checkpoint that
//! ran ahead of the log would leave a state that the next start finds no log to.

use parking_lot::{Condvar, Mutex};

use crate::raft::Index;

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct LogUnder {
    reached: Mutex<Reached>,
    moved: Condvar,
}

#[derive(Debug, Default)]
struct Reached {
    index: Index,
    /// Nobody will tell of more.
    ended: bool,
}

impl LogUnder {
    /// Everything up to `index` is durable in the log, as it is applied.
    pub(super) fn reached(&self, index: Index) {
        let mut reached = self.reached.lock();
        if index > reached.index {
            reached.index = index;
            drop(reached);
            self.moved.notify_all();
        }
    }

    /// The log will not grow any more.
    pub(super) fn ended(&self) {
        self.reached.lock().ended = true;
        self.moved.notify_all();
    }

    /// Whether everything up to `index` is durable in the log.
    pub(super) fn holds(&self, index: Index) -> bool {
        self.reached.lock().index >= index
    }

    /// Waits until it is; false if it will not be.
    pub(super) fn wait(&self, index: Index) -> bool {
        let mut reached = self.reached.lock();
        self.moved.wait_while(&mut reached, |reached| reached.index < index && !reached.ended);
        reached.index >= index
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn who_waits_goes_on_once_the_log_is_there_or_will_not_be() {
        let under = LogUnder::default();
        thread::scope(|scope| {
            let early = scope.spawn(|| under.wait(Index(2)));
            let never = scope.spawn(|| under.wait(Index(3)));
            under.reached(Index(1));
            assert!(!under.holds(Index(2)));
            under.reached(Index(2));
            // An old one tells nothing.
            under.reached(Index(1));
            assert!(early.join().unwrap() && under.holds(Index(2)));
            under.ended();
            assert!(!never.join().unwrap());
        });
    }
}
