//! How the times of a configuration become the core's ticks.

use std::time::Duration;

use rand::RngExt;

use crate::config::RaftConfig;
use crate::kv::Settings;
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
    /// What the cluster has to agree on before this node relies on leases.
    pub(crate) own: Settings,
    election_ticks: u32,
}

impl Timing {
    pub(crate) fn new(raft: &RaftConfig, own: Settings) -> Timing {
        let tick = raft.heartbeat / TICKS_PER_HEARTBEAT;
        let ticks = raft.election_timeout.as_micros() / tick.as_micros().max(1);
        let election_ticks = u32::try_from(ticks).unwrap_or(u32::MAX).max(TICKS_PER_HEARTBEAT * 2);
        Timing {
            tick,
            late_ticks_max: (election_ticks / 10).max(1),
            election_timeout: raft.election_timeout,
            own,
            election_ticks,
        }
    }

    /// Whether the core is told the time.
    pub(crate) fn leases(&self) -> bool {
        self.own.lease_reads
    }

    /// What a core is told that helps nobody to the leader's place for so many milliseconds after its start.
    pub(crate) fn raft_config(&self, id: NodeId, start_guard_ms: u64) -> raft::Config {
        raft::Config {
            heartbeat_ticks: TICKS_PER_HEARTBEAT,
            election_ticks: self.election_ticks,
            lease_us: if self.leases() { self.lease_us() } else { 0 },
            start_guard_ticks: self.start_guard_ticks(start_guard_ms),
            ..raft::Config::new(id, rand::rng().random())
        }
    }

    /// For how many ticks it helps nobody to the leader's place.
    fn start_guard_ticks(&self, guard_ms: u64) -> u32 {
        let time = Duration::from_millis(guard_ms);
        let ticks = time.as_micros().div_ceil(self.tick.as_micros().max(1));
        u32::try_from(ticks).unwrap_or(u32::MAX)
    }

    /// An election time-out as the hastiest follower may count it, whatever its heartbeat: with the part of its last tick
    /// left out, with ticks made up for, with its first and last tick cut short, and by a clock that runs a tenth faster
    /// than the leader's. That is least where a time-out has ten ticks, the fewest: 7 of nearly 11, less a tenth.
    fn lease_us(&self) -> u64 {
        u64::try_from(self.election_timeout.as_micros()).unwrap_or(u64::MAX) / 100 * 57
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_outlasts_a_heartbeat_and_not_an_election_timeout() {
        for (heartbeat, election, lease_us) in
            [(50, 500, 285_000), (50, 100, 57_000), (10, 1000, 570_000)]
        {
            let raft = RaftConfig {
                heartbeat: Duration::from_millis(heartbeat),
                election_timeout: Duration::from_millis(election),
            };
            let own = |lease_reads| Settings {
                value_bytes_max: 1,
                election_timeout_ms: election,
                lease_reads,
            };
            let core = Timing::new(&raft, own(true)).raft_config(NodeId(1), 0);
            assert_eq!(core.lease_us, lease_us);
            assert!((heartbeat * 1000..election * 1000).contains(&core.lease_us));
            let without = Timing::new(&raft, own(false));
            // Whoever has the same time-out, and another heartbeat, guards a leader for longer than that.
            for heartbeat_us in (5_000..=election * 500).step_by(7) {
                let raft =
                    RaftConfig { heartbeat: Duration::from_micros(heartbeat_us), ..raft.clone() };
                let other = Timing::new(&raft, own(true));
                let ticks = other.election_ticks - other.late_ticks_max - 2;
                assert!((other.tick * ticks).as_micros() * 9 / 10 > u128::from(lease_us));
            }
            let core = without.raft_config(NodeId(1), 3 * election);
            assert_eq!(core.lease_us, 0);
            assert_eq!(u64::from(core.start_guard_ticks), 15 * election / heartbeat);
        }
    }
}
