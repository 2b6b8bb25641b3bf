//! Whether a node can do its work, by the signs of life of its workers. Pure: who asks says how long each has
//! not got further.

use std::time::Duration;

use crate::store::Life;

/// How long the replica's thread may neither turn nor get further with an entry.
const REPLICA_MAX: Duration = Duration::from_secs(10);
/// How long a row or an entry that is to be applied may take to be read.
const LOOKUP_MAX: Duration = Duration::from_secs(20);
/// How long a commit of the log may take. One that waits for room gets further.
const LOG_MAX: Duration = Duration::from_secs(20);
/// How long a checkpoint may go without another row, and how long its commit may take.
const CHECKPOINT_MAX: Duration = Duration::from_secs(60);
/// How long the file system may take to tell how much room there is.
const SPACE_MAX: Duration = Duration::from_secs(20);

/// How long each worker has been at work without getting further; none for one that rests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stillness {
    pub(crate) replica: Option<Duration>,
    pub(crate) apply: Option<Duration>,
    pub(crate) lookup: Option<Duration>,
    pub(crate) log: Option<Duration>,
    pub(crate) checkpoint: Option<Duration>,
    pub(crate) space: Option<Duration>,
}

impl Stillness {
    /// As it is now.
    pub(crate) fn of(life: &Life) -> Stillness {
        Stillness {
            replica: life.replica.still_for(),
            apply: life.apply.still_for(),
            lookup: life.lookup.still_for(),
            log: life.log.still_for(),
            checkpoint: life.checkpoint.still_for(),
            space: life.space.still_for(),
        }
    }

    /// Whether the thread that everybody asks is busy with an entry that it gets further with: it answers late
    /// then, and lives.
    pub(crate) fn carries_out(&self) -> bool {
        self.apply.is_some_and(|still| still <= REPLICA_MAX)
    }

    /// What hangs, if anything does.
    pub(crate) fn judge(&self) -> Result<(), String> {
        // One thread does both: an entry that it gets further with is a sign of its life.
        let replica = match (self.replica, self.apply) {
            (Some(turn), Some(row)) => Some(turn.min(row)),
            (turn, _) => turn,
        };
        let late = |still: Option<Duration>, max| still.filter(|still| *still > max);
        let seconds = |still: Duration| still.as_secs();
        if let Some(still) = late(replica, REPLICA_MAX) {
            return Err(format!("the replica thread has not got further for {} s", seconds(still)));
        }
        if let Some(still) = late(self.lookup, LOOKUP_MAX) {
            let seconds = seconds(still);
            return Err(format!(
                "what is to be applied has been read for {seconds} s: its disk does not answer"
            ));
        }
        if let Some(still) = late(self.log, LOG_MAX) {
            let seconds = seconds(still);
            return Err(format!(
                "a commit of the log has taken {seconds} s: its disk does not answer"
            ));
        }
        if let Some(still) = late(self.checkpoint, CHECKPOINT_MAX) {
            let seconds = seconds(still);
            return Err(format!(
                "a checkpoint has not got further for {seconds} s: its disk does not answer"
            ));
        }
        if let Some(still) = late(self.space, SPACE_MAX) {
            let seconds = seconds(still);
            return Err(format!(
                "the file system has not told for {seconds} s how much room there is"
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Option<Duration> = Some(Duration::from_secs(3600));
    const NOW: Option<Duration> = Some(Duration::ZERO);

    #[test]
    fn who_rests_or_gets_further_lives() {
        assert_eq!(Stillness::default().judge(), Ok(()));
        let busy = Stillness {
            replica: NOW,
            apply: NOW,
            lookup: NOW,
            log: NOW,
            checkpoint: NOW,
            space: NOW,
        };
        assert_eq!(busy.judge(), Ok(()));
    }

    #[test]
    fn each_worker_has_its_own_bound_and_its_own_words() {
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        for (still, just, word) in [
            (
                Stillness { replica: seconds(11), ..Stillness::default() },
                Stillness { replica: seconds(10), ..Stillness::default() },
                "replica",
            ),
            (
                Stillness { lookup: seconds(21), ..Stillness::default() },
                Stillness { lookup: seconds(20), ..Stillness::default() },
                "read",
            ),
            (
                Stillness { log: seconds(21), ..Stillness::default() },
                Stillness { log: seconds(20), ..Stillness::default() },
                "log",
            ),
            (
                Stillness { checkpoint: seconds(61), ..Stillness::default() },
                Stillness { checkpoint: seconds(60), ..Stillness::default() },
                "checkpoint",
            ),
            (
                Stillness { space: seconds(21), ..Stillness::default() },
                Stillness { space: seconds(20), ..Stillness::default() },
                "room",
            ),
        ] {
            assert_eq!(just.judge(), Ok(()));
            let why = still.judge().unwrap_err();
            assert!(why.contains(word), "{why}");
        }
    }

    #[test]
    fn an_entry_of_many_rows_is_progress_and_one_that_hangs_is_not() {
        let far = Stillness { replica: LONG, apply: NOW, ..Stillness::default() };
        assert_eq!(far.judge(), Ok(()));
        assert!(far.carries_out());
        let hangs = Stillness { replica: LONG, apply: LONG, ..Stillness::default() };
        assert!(hangs.judge().is_err());
        assert!(!hangs.carries_out());
    }
}
