//! How the times of a configuration become the core's ticks.

use std::time::Duration;

use rand::RngExt;

use crate::config::RaftConfig;
use crate::raft::{self, NodeId};

const TICKS_PER_HEARTBEAT: u32 = 5;

/// What the replica's driver keeps time by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timing {
    /// How long a tick is.
    pub(crate) tick: Duration,
    /// The most ticks made up for at once after the thread, or the whole process, was held up: so few
    /// that they hardly shorten an election time-out.
    pub(crate) late_ticks_max: u32,
    /// The shortest election time-out.
    pub(crate) election_timeout: Duration,
    /// Whether the core is told the time.
    pub(crate) leases: bool,
    election_ticks: u32,
}

impl Timing {
    pub(crate) fn new(raft: &RaftConfig, leases: bool) -> Timing {
        let tick = raft.heartbeat / TICKS_PER_HEARTBEAT;
        let ticks = raft.election_timeout.as_micros() / tick.as_micros().max(1);
        let election_ticks = u32::try_from(ticks).unwrap_or(u32::MAX).max(TICKS_PER_HEARTBEAT * 2);
        Timing {
            tick,
            late_ticks_max: (election_ticks / 10).max(1),
            election_timeout: raft.election_timeout,
            leases,
            election_ticks,
        }
    }

    pub(crate) fn raft_config(&self, id: NodeId) -> raft::Config {
        raft::Config {
            heartbeat_ticks: TICKS_PER_HEARTBEAT,
            election_ticks: self.election_ticks,
            lease_us: if self.leases { self.lease_us() } else { 0 },
            ..raft::Config::new(id, rand::rng().random())
        }
    }

    /// An election time-out as the hastiest follower may count it: with ticks made up for, with its first
    /// and last tick cut short, and by a clock that runs a tenth faster than the leader's.
    fn lease_us(&self) -> u64 {
        let ticks = self.election_ticks.saturating_sub(self.late_ticks_max + 2);
        u64::try_from((self.tick * ticks).as_micros()).unwrap_or(u64::MAX) / 10 * 9
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_outlasts_a_heartbeat_and_not_an_election_timeout() {
        for (heartbeat, election, lease_us) in
            [(50, 500, 387_000), (50, 100, 63_000), (10, 1000, 806_400)]
        {
            let raft = RaftConfig {
                heartbeat: Duration::from_millis(heartbeat),
                election_timeout: Duration::from_millis(election),
            };
            let core = Timing::new(&raft, true).raft_config(NodeId(1));
            assert_eq!(core.lease_us, lease_us);
            assert!((heartbeat * 1000..election * 1000).contains(&core.lease_us));
            assert_eq!(Timing::new(&raft, false).raft_config(NodeId(1)).lease_us, 0);
        }
    }
}
