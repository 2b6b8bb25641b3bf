//! Counts of what a node has done since its start, which `/metrics` shows beside those of the store. Atomics alone: nobody who
//! counts waits for anybody.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crate::raft::{NodeId, ReadRounds, RoleName, SoftState};
use crate::store::Histogram;

/// How long requests take, in microseconds.
const REQUEST_US: &[u64] =
    &[500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 500_000, 1_000_000, 5_000_000];
/// How many reads go to the protocol together.
const READS: &[u64] = &[1, 2, 4, 8, 16, 64, 256, 1024];
/// The classes of status codes: 1xx to 5xx.
const STATUS_CLASSES: usize = 5;

/// An enumeration whose values have names, as labels of metrics.
macro_rules! named {
    ($(#[$attribute:meta])* $kind:ident { $($(#[$doc:meta])* $value:ident = $name:literal),* $(,)? }) => {
        $(#[$attribute])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $kind {
            $($(#[$doc])* $value),*
        }

        impl $kind {
            /// All of them, in their order.
            pub const ALL: &'static [$kind] = &[$($kind::$value),*];

            /// Its name in metrics.
            pub fn name(self) -> &'static str {
                match self {
                    $($kind::$value => $name),*
                }
            }
        }
    };
}

named! {
    /// What a request is for.
    Route {
        /// One key.
        Kv = "kv",
        /// Many keys.
        KvList = "kv_list",
        /// A transaction.
        Txn = "txn",
        /// One key, once it changes.
        Watch = "watch",
        /// How the node is.
        Status = "status",
        /// Members and leadership.
        Cluster = "cluster",
        /// A backup.
        Snapshot = "snapshot",
        /// Whether the node can do its work, or serve.
        Health = "health",
        /// The metrics.
        Metrics = "metrics",
        /// Who may do what.
        Auth = "auth",
        /// Anything else.
        Other = "other",
    }
}

named! {
    /// Why a request was refused that another node, or another time, might have served.
    Refusal {
        /// The queue of the replica, or the room for writes, is full.
        Queue = "queue",
        /// There are too many listings and reads of the past.
        Reads = "reads",
        /// Too many requests are being carried out.
        Requests = "requests",
        /// A user asks too often.
        UserRate = "user_rate",
        /// Too many wait for a change.
        Waiters = "waiters",
        /// There are too many backups.
        Backups = "backups",
        /// Bodies fill the memory for them.
        Bodies = "bodies",
        /// Answers fill the memory for them.
        Answers = "answers",
        /// There are too many connections.
        Connections = "connections",
        /// A disk has too little room.
        DiskFull = "disk_full",
        /// No leader is known.
        NoLeader = "no_leader",
        /// The node belongs to no cluster.
        NotAMember = "not_a_member",
        /// The node is stopping.
        ShuttingDown = "shutting_down",
        /// The leader was lost, or is of an older release.
        LeadershipChanged = "leadership_changed",
        /// The audit takes no record of it.
        NotRecorded = "not_recorded",
        /// The node is not ready, or not healthy.
        NotReady = "not_ready",
        /// The deadline passed.
        TimedOut = "timed_out",
    }
}

/// What became of the requests of one route.
#[derive(Debug)]
pub(crate) struct Requests {
    answered: [AtomicU64; STATUS_CLASSES],
    pub(crate) time: Histogram,
}

impl Default for Requests {
    fn default() -> Requests {
        Requests { answered: Default::default(), time: Histogram::new(REQUEST_US) }
    }
}

impl Requests {
    /// How many were answered, by the class of the status code.
    pub(crate) fn answered(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let names = ["1xx", "2xx", "3xx", "4xx", "5xx"];
        names.into_iter().zip(&self.answered).map(|(name, count)| (name, load(count)))
    }
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Counts {
    pub(crate) elections: AtomicU64,
    pub(crate) leaderships: AtomicU64,
    pub(crate) leader_changes: AtomicU64,
    pub(crate) reads: Histogram,
    pub(crate) read_rounds_started: AtomicU64,
    pub(crate) read_rounds_confirmed: AtomicU64,
    pub(crate) read_round_readers: Histogram,
    pub(crate) snapshots_sent: AtomicU64,
    pub(crate) snapshots_not_sent: AtomicU64,
    pub(crate) snapshots_received: AtomicU64,
    requests: [Requests; Route::ALL.len()],
    refusals: [AtomicU64; Refusal::ALL.len()],
    /// Answers that nobody shows who asks, and that it is not allowed.
    denials: [AtomicU64; 2],
    /// Those in ordinary places, and those in the kept ones.
    connections: [AtomicUsize; 2],
}

impl Default for Counts {
    fn default() -> Counts {
        Counts {
            elections: AtomicU64::new(0),
            leaderships: AtomicU64::new(0),
            leader_changes: AtomicU64::new(0),
            reads: Histogram::new(READS),
            read_rounds_started: AtomicU64::new(0),
            read_rounds_confirmed: AtomicU64::new(0),
            read_round_readers: Histogram::new(READS),
            snapshots_sent: AtomicU64::new(0),
            snapshots_not_sent: AtomicU64::new(0),
            snapshots_received: AtomicU64::new(0),
            requests: Default::default(),
            refusals: Default::default(),
            denials: Default::default(),
            connections: Default::default(),
        }
    }
}

/// A connection that counts until this is dropped.
#[derive(Debug)]
pub struct OpenConnection {
    counts: Arc<Counts>,
    kept: bool,
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.counts.connections[usize::from(self.kept)].fetch_sub(1, Ordering::Relaxed);
    }
}

impl Counts {
    /// A request was answered.
    pub fn answered(&self, route: Route, status: u16, refusal: Option<Refusal>, took: Duration) {
        let requests = &self.requests[route as usize];
        let class = usize::from(status / 100).clamp(1, STATUS_CLASSES) - 1;
        requests.answered[class].fetch_add(1, Ordering::Relaxed);
        requests.time.observe_time(took);
        if let 401 | 403 = status {
            self.denials[usize::from(status == 403)].fetch_add(1, Ordering::Relaxed);
        }
        if let Some(refusal) = refusal {
            self.refusals[refusal as usize].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A connection is open from now on, in an ordinary place or in one that is kept.
    pub fn connection(self: &Arc<Self>, kept: bool) -> OpenConnection {
        self.connections[usize::from(kept)].fetch_add(1, Ordering::Relaxed);
        OpenConnection { counts: self.clone(), kept }
    }

    /// The node's standing was that, and is another now.
    pub(crate) fn stands(&self, before: SoftState, now: SoftState, led_last: &mut Option<NodeId>) {
        let again = before.role != now.role || before.term != now.term;
        if now.role == RoleName::Candidate && again {
            add(&self.elections);
        }
        if now.role == RoleName::Leader && before.role != RoleName::Leader {
            add(&self.leaderships);
        }
        if let Some(leader) = now.leader
            && *led_last != Some(leader)
        {
            *led_last = Some(leader);
            add(&self.leader_changes);
        }
    }

    /// Rounds for reads began or ended.
    pub(crate) fn rounds(&self, rounds: &ReadRounds) {
        for readers in &rounds.started {
            add(&self.read_rounds_started);
            self.read_round_readers.observe(*readers as u64);
        }
        self.read_rounds_confirmed.fetch_add(rounds.confirmed, Ordering::Relaxed);
    }

    pub(crate) fn requests(&self) -> impl Iterator<Item = (&'static str, &Requests)> {
        Route::ALL.iter().map(|route| route.name()).zip(&self.requests)
    }

    pub(crate) fn refusals(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Refusal::ALL.iter().map(|kind| kind.name()).zip(self.refusals.iter().map(load))
    }

    pub(crate) fn denials(&self) -> impl Iterator<Item = (&'static str, u64)> {
        ["unauthenticated", "forbidden"].into_iter().zip(self.denials.iter().map(load))
    }

    pub(crate) fn connections(&self) -> impl Iterator<Item = (&'static str, usize)> {
        let counts = self.connections.iter().map(|count| count.load(Ordering::Relaxed));
        ["ordinary", "kept"].into_iter().zip(counts)
    }
}

/// One more.
pub(crate) fn add(count: &AtomicU64) {
    count.fetch_add(1, Ordering::Relaxed);
}

/// How many.
pub(crate) fn load(count: &AtomicU64) -> u64 {
    count.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::Term;

    #[test]
    fn elections_and_leaders_are_counted_once() {
        let counts = Counts::default();
        let mut last = None;
        let stand = |role, term, leader: Option<u64>| SoftState {
            role,
            term: Term(term),
            leader: leader.map(NodeId),
        };
        let course = [
            stand(RoleName::Follower, 1, None),
            stand(RoleName::Follower, 1, Some(2)),
            stand(RoleName::PreCandidate, 1, None),
            stand(RoleName::Follower, 1, Some(2)),
            stand(RoleName::Candidate, 2, None),
            stand(RoleName::Candidate, 3, None),
            stand(RoleName::Leader, 3, Some(1)),
            stand(RoleName::Follower, 4, None),
            stand(RoleName::Follower, 4, Some(2)),
        ];
        for pair in course.windows(2) {
            counts.stands(pair[0], pair[1], &mut last);
        }
        let all = [&counts.elections, &counts.leaderships, &counts.leader_changes].map(load);
        assert_eq!(all, [2, 1, 3], "a leader that is heard again is no other one");
    }

    #[test]
    fn requests_are_counted_by_route_and_class() {
        let counts = Arc::new(Counts::default());
        let took = Duration::from_millis(3);
        counts.answered(Route::Kv, 201, None, took);
        counts.answered(Route::Kv, 200, None, took);
        counts.answered(Route::Other, 429, Some(Refusal::Bodies), took);
        let classes = |route| {
            let (_, requests) = counts.requests().find(|(name, _)| *name == route).unwrap();
            requests.answered().map(|(_, count)| count).collect::<Vec<_>>()
        };
        assert_eq!(classes("kv"), [0, 2, 0, 0, 0]);
        assert_eq!(classes("other"), [0, 0, 0, 1, 0]);
        let refused = counts.refusals().filter(|(_, count)| *count > 0).collect::<Vec<_>>();
        assert_eq!(refused, [("bodies", 1)]);
        let open = counts.connection(true);
        assert_eq!(counts.connections().collect::<Vec<_>>(), [("ordinary", 0), ("kept", 1)]);
        drop(open);
        assert!(counts.connections().all(|(_, count)| count == 0));
    }
}
