//! What a seed draws before the run: the size of the cluster, its limits, and which faults there
//! are.

use std::time::Duration;

use konsen::kv::{FeatureLevel, Settings};
use konsen::raft::{self, Load, Moment};
use konsen::replica::history::Keep;
use konsen::store::{LogOptions, StateOptions, Verify};

use super::features::Releases;
use super::random::Random;

/// Virtual time: milliseconds since the beginning.
pub(crate) type Time = u64;

/// How long a tick is on the fastest clusters; on others it is some times that.
const TICK: Time = 10;

/// The mix of one seed.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// The first members.
    pub(crate) voters: usize,
    /// Hosts that are there and belong to no cluster until somebody adds them.
    pub(crate) spares: usize,
    /// How many times [`TICK`] a tick takes, and everything with it that people and operators do. What a
    /// wire and a disk take is another matter.
    pub(crate) slowness: Time,
    /// How long faults go on.
    pub(crate) stormy: Time,
    /// And how many events there are while they do, at least.
    pub(crate) events_min: u64,
    pub(crate) clients: usize,
    pub(crate) keys: u64,
    /// The longest pause of a client between two operations.
    pub(crate) think: Time,
    /// How long a client waits for an answer.
    pub(crate) patience: Time,
    pub(crate) heartbeat_ticks: u32,
    pub(crate) election_ticks: u32,
    pub(crate) append_bytes: usize,
    pub(crate) inflight_bytes: usize,
    pub(crate) inflight_appends: usize,
    pub(crate) uncommitted_bytes: usize,
    pub(crate) tail_bytes: usize,
    pub(crate) reads: usize,
    pub(crate) overlay_bytes: usize,
    pub(crate) cache_bytes: usize,
    pub(crate) rows_bytes: usize,
    /// How many of a thousand operations give up the past.
    pub(crate) compactions: u64,
    /// How many changes a checkpoint looks at, to remove what is hidden, beyond twice what it writes.
    pub(crate) sweep_rows: usize,
    /// The mean time between two checkpoints of a host.
    pub(crate) checkpoint_every: Time,
    /// The longest that a sync takes while the disk is well.
    pub(crate) sync: Time,
    /// The longest that a message takes on a good day.
    pub(crate) delay: Time,
    /// The longest that one takes on a bad day, and how often that is, a thousand.
    pub(crate) long_delay: (Time, u64),
    /// Messages lost, doubled, and sent again much later, a thousand.
    pub(crate) loss: u64,
    pub(crate) duplication: u64,
    pub(crate) replay: u64,
    /// How many bytes of the log stay although a checkpoint covers them.
    pub(crate) log_tail: u64,
    /// How large a slot of the write-ahead log is, and how many there are.
    pub(crate) wal: (u64, u64),
    /// The mean time between two faults; none: no faults at all.
    pub(crate) fault_every: Option<Time>,
    pub(crate) faults: Vec<Fault>,
    /// The mean time between two changes of the membership, beside the faults.
    pub(crate) change_every: Option<Time>,
    /// How many operators there are, and the mean time between two things that one of them does.
    pub(crate) operators: usize,
    pub(crate) operate_every: Option<Time>,
    /// Whether one host more has the certificate of the first spare.
    pub(crate) twin: bool,
    /// Whether hosts pass on to the leader what they cannot take in.
    pub(crate) passes_on: bool,
    /// What leaders keep of the past.
    pub(crate) keep: Keep,
    /// Whether the configurations say different things of what has to be agreed on.
    pub(crate) settings_differ: bool,
    /// Whether who may do what is changed all the time.
    pub(crate) rights: bool,
    /// Which releases there are, where it is not one alone.
    pub(crate) releases: Option<Releases>,
    /// What each host takes for a tick.
    pub(crate) ticks: Vec<Time>,
    /// Whether leaders hold leases, and how fast each host's clock runs then, in thousandths.
    pub(crate) leases: Option<Vec<u64>>,
}

/// What the nemesis does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// Two halves that do not hear each other.
    Split,
    /// A host that nobody hears.
    Mute,
    /// A host that hears nobody.
    Deafen,
    /// One host out, both ways.
    Isolate,
    /// A ring of links is gone, so that only a chain or a bridge is left.
    Chain,
    /// One host loses power at once.
    Crash,
    /// One host loses power in the middle of writing.
    CrashInWrite,
    /// All lose power at the same moment.
    CrashAll,
    /// The one that leads loses power.
    CrashLeader,
    /// A host stands still and goes on later as if nothing had happened.
    Pause,
    /// The one that leads stands still.
    PauseLeader,
    /// A disk answers nothing for a while.
    Stall,
    /// A disk answers no read for a while.
    Unread,
    /// Leadership is handed over.
    Transfer,
    /// The transport believes a way to be lost.
    Unreachable,
    /// The one that leads stands still until it is deposed, and goes on while still cut off.
    Depose,
    /// A host that has just given its vote loses power and is back at once.
    CrashVoter,
    /// The membership changes.
    Change,
    /// A way that loses whatever is large: appends with entries, while heartbeats get through.
    Hole,
    /// The one that leads reaches one host only, and that one reaches all.
    Bridge,
    /// A way that is there and gone, again and again.
    Flap,
    /// A host that loses power again and again, soon after it is back.
    Storm,
    /// A clock that jumps ahead.
    Jump,
    /// What tells a host to stand for election comes late, or twice.
    LateTimeoutNow,
    /// A disk that fails to read, write or sync, once or until the next start.
    DiskError,
    /// Bytes that change while a host is down.
    Rot,
    /// A disk that takes no more.
    Full,
    /// Disks with little room, for a while.
    Scarce,
    /// A host that stays down until it needs a snapshot.
    Away,
    /// A host that loses its data directory, and comes back as another.
    Wipe,
    /// Many old messages come once more.
    Echo,
    /// What the one that leads says is lost, and what is said to it comes very late.
    Lag,
    /// Once in the run the cluster is lost for ever, and another begins in its place.
    Rebirth,
    /// Operators are at work.
    Operator,
}

pub(crate) const FAULTS: &[Fault] = &[
    Fault::Split,
    Fault::Mute,
    Fault::Deafen,
    Fault::Isolate,
    Fault::Chain,
    Fault::Crash,
    Fault::CrashInWrite,
    Fault::CrashAll,
    Fault::CrashLeader,
    Fault::Pause,
    Fault::PauseLeader,
    Fault::Stall,
    Fault::Unread,
    Fault::Transfer,
    Fault::Unreachable,
    Fault::Depose,
    Fault::CrashVoter,
    Fault::Change,
    Fault::Hole,
    Fault::Bridge,
    Fault::Flap,
    Fault::Storm,
    Fault::Jump,
    Fault::LateTimeoutNow,
    Fault::DiskError,
    Fault::Rot,
    Fault::Full,
    Fault::Scarce,
    Fault::Away,
    Fault::Wipe,
    Fault::Echo,
    Fault::Lag,
    Fault::Rebirth,
    Fault::Operator,
];

impl Fault {
    /// How often it is chosen, compared with others: those of many kinds, or which often find nothing to do,
    /// more often.
    pub(crate) fn weight(self) -> usize {
        match self {
            Fault::DiskError | Fault::Wipe => 6,
            // It has its own time.
            Fault::Rebirth | Fault::Operator => 0,
            Fault::Change | Fault::Unreachable | Fault::LateTimeoutNow => 4,
            _ => 1,
        }
    }
}

/// Few faults that together do what each alone hardly does, and often.
const SCRIPTS: &[&[Fault]] = &[
    // A receiver that falls behind before it is told to stand.
    &[Fault::Transfer, Fault::LateTimeoutNow],
    &[Fault::Transfer, Fault::LateTimeoutNow, Fault::Hole, Fault::CrashLeader],
    // A bad leader follows a bad leader, each with entries that nobody else has (figure 8).
    &[Fault::CrashLeader, Fault::CrashVoter, Fault::Hole],
    &[Fault::Isolate, Fault::Hole, Fault::CrashLeader],
    // Reads at those who lag or lead no more.
    &[Fault::Depose],
    &[Fault::Depose, Fault::Hole],
    &[Fault::Lag],
    &[Fault::Lag, Fault::Hole, Fault::Transfer],
    &[Fault::PauseLeader, Fault::Hole, Fault::Transfer],
    // Voters change while leaders do.
    &[Fault::Change, Fault::CrashLeader, Fault::Isolate],
    // What was stated to few is cut off, and they start anew.
    &[Fault::Change, Fault::Isolate, Fault::Crash],
    &[Fault::Change, Fault::Split, Fault::Transfer, Fault::Crash],
    // Elections without end.
    &[Fault::Bridge, Fault::Chain, Fault::Flap],
    &[Fault::Storm, Fault::CrashVoter, Fault::CrashInWrite],
    // Voices of the past.
    &[Fault::Echo, Fault::Crash, Fault::Pause],
    &[Fault::Echo, Fault::Isolate, Fault::CrashLeader],
    &[Fault::Echo, Fault::Split, Fault::Transfer],
    // Disks.
    &[Fault::DiskError, Fault::Stall, Fault::CrashAll],
    &[Fault::Unread],
    &[Fault::Unread, Fault::Transfer, Fault::Away],
    &[Fault::Rot, Fault::Crash],
    &[Fault::Full, Fault::Crash],
    &[Fault::Scarce, Fault::CrashLeader],
    &[Fault::Scarce, Fault::Isolate, Fault::Transfer],
    // Logs that do not reach back far enough, and what comes in between.
    &[Fault::Away, Fault::CrashLeader],
    &[Fault::Away, Fault::CrashInWrite, Fault::Transfer],
    &[Fault::Away, Fault::Change, Fault::Isolate],
    &[Fault::Wipe, Fault::CrashLeader],
    &[Fault::Wipe, Fault::Change, Fault::Split],
    // Operators, while hosts come and go.
    &[Fault::Operator],
    &[Fault::Operator, Fault::Away, Fault::Crash],
    &[Fault::Operator, Fault::Wipe, Fault::CrashLeader],
    &[Fault::Operator, Fault::Split, Fault::Isolate],
    &[Fault::Operator, Fault::Rebirth],
    // The end of a cluster, and what comes after it.
    &[Fault::Rebirth, Fault::CrashAll, Fault::Echo],
    &[Fault::Rebirth, Fault::Change, Fault::Isolate],
    &[Fault::Rebirth, Fault::Wipe, Fault::CrashInWrite],
    &[Fault::Rebirth, Fault::Away, Fault::CrashLeader],
];

impl Plan {
    /// What a seed draws.
    pub(crate) fn of(seed: u64) -> Plan {
        Plan::draw(&mut Random::new(seed))
    }

    pub(crate) fn draw(random: &mut Random) -> Plan {
        let rate = |random: &mut Random, most: u64| match random.below(3) {
            0 => 0,
            1 => random.below(most / 5 + 1),
            _ => random.below(most + 1),
        };
        let voters = *random.pick(&[1, 2, 3, 3, 3, 3, 3, 3, 4, 4, 5, 5, 5, 7]);
        let script = random.chance(350).then(|| *random.pick(SCRIPTS));
        let mut faults: Vec<Fault> = script.map_or_else(
            || {
                let share = *random.pick(&[200, 500, 1000]);
                FAULTS.iter().copied().filter(|_| random.chance(share)).collect()
            },
            <[Fault]>::to_vec,
        );
        // So that most seeds have a snapshot.
        if !faults.contains(&Fault::Away) && random.chance(if script.is_some() { 300 } else { 900 })
        {
            faults.push(Fault::Away);
        }
        let away = faults.contains(&Fault::Away);
        let changing = faults.contains(&Fault::Change) || faults.contains(&Fault::Rebirth);
        let heartbeat_ticks = random.range(1, 5) as u32;
        let drifting = random.chance(400);
        // Heartbeats every 10 ms in a rack, every other second around the world.
        let slowness = *random.pick(&[1, 1, 2, 5, 10, 20, 50]);
        let ticks = (0..10).map(|_| if drifting { random.range(7, 15) } else { TICK });
        let ticks = ticks.map(|tick| tick * slowness).collect();
        let wires = if random.chance(500) { slowness } else { 1 };
        let leases =
            random.chance(500).then(|| (0..10).map(|_| random.range(950, 1_050)).collect());
        let small = random.chance(500);
        let size = |random: &mut Random, low: u64, high: u64, normal: usize| {
            if small { random.range(low, high) as usize } else { normal }
        };
        let mut plan = Plan {
            voters,
            spares: if changing { random.range(1, 2) as usize } else { 0 },
            slowness,
            stormy: random.range(3_000, 15_000) * slowness,
            events_min: 0,
            clients: random.range(1, 6) as usize,
            keys: random.range(1, 4),
            think: random.range(5, 150) * slowness,
            patience: random.range(50, 1_500) * slowness,
            heartbeat_ticks,
            election_ticks: heartbeat_ticks * random.range(4, 10) as u32,
            append_bytes: size(random, 1, 400, 1 << 20),
            inflight_bytes: size(random, 1, 2_000, 8 << 20),
            inflight_appends: size(random, 1, 4, 256),
            uncommitted_bytes: size(random, 100, 5_000, 64 << 20),
            // Who finds little of the log in memory looks at the disk, and there it may be gone.
            tail_bytes: if random.chance(if away { 970 } else { 800 }) {
                random.below(2_000) as usize
            } else {
                16 << 20
            },
            reads: size(random, 1, 8, 1 << 16),
            overlay_bytes: if random.chance(500) { random.below(2_000) as usize } else { 64 << 20 },
            cache_bytes: if random.chance(300) { 0 } else { 1 << 20 },
            rows_bytes: *random.pick(&[0, 0, 500, 5_000, 32 << 20]),
            compactions: rate(random, 100),
            sweep_rows: *random.pick(&[1, 3, 10, 65_536]),
            checkpoint_every: match away {
                true => *random.pick(&[50, 200, 500, 1_000]) * slowness,
                false => *random.pick(&[50, 500, 3_000, 60_000]) * slowness,
            },
            log_tail: match away {
                true => *random.pick(&[0, 200, 500, 2_000]),
                false => *random.pick(&[0, 500, 5_000, 64 << 20]),
            },
            // What is too large for a slot goes past it; few slots are settled all the time, many never.
            wal: (*random.pick(&[8 << 10, 16 << 10, 64 << 10]), *random.pick(&[3, 4, 64])),
            sync: *random.pick(&[1, 5, 30]) * wires,
            delay: *random.pick(&[1, 3, 10]) * wires,
            long_delay: (random.range(20, 1_500) * slowness, rate(random, 100)),
            loss: rate(random, 200),
            duplication: rate(random, 200),
            replay: rate(random, 50),
            fault_every: match script {
                Some(_) => Some(random.range(40, 400) * slowness),
                None => random.chance(995).then(|| random.range(40, 1_000) * slowness),
            },
            faults,
            change_every: None,
            operators: 0,
            operate_every: None,
            twin: false,
            passes_on: random.chance(600),
            keep: Keep {
                age: random
                    .chance(200)
                    .then(|| Duration::from_millis(random.range(300, 4_000) * slowness)),
                revisions: random.chance(200).then(|| random.range(2, 40)),
            },
            settings_differ: false,
            rights: false,
            releases: None,
            ticks,
            leases,
        };
        if random.chance(200) {
            plan.mix_releases(random);
        }
        plan.settings_differ = random.chance(300);
        plan.rights = random.chance(400);
        if plan.faults.contains(&Fault::Operator) || crate::operator() {
            plan.add_operator(random);
        }
        if crate::churn() {
            plan.add_churn(random);
        }
        plan
    }

    /// Has operators at work all the time, in clusters of one to five voters.
    fn add_operator(&mut self, random: &mut Random) {
        self.voters = self.voters.min(5);
        self.spares = self.spares.max(random.range(1, 3) as usize);
        self.operators = random.range(1, 2) as usize;
        self.operate_every = Some(random.range(100, 2_000) * self.slowness);
        self.twin = random.chance(300);
        let least = 2 * self.election();
        self.fault_every = self.fault_every.map(|every| every.max(least));
        // Mostly only they change the membership, so that it stays as they were told.
        if random.chance(850) {
            self.faults.retain(|fault| *fault != Fault::Change);
        }
    }

    /// Has the membership change from the beginning to the end, whatever else goes wrong.
    fn add_churn(&mut self, random: &mut Random) {
        self.spares = self.spares.max(random.range(1, 2) as usize);
        self.change_every = Some(random.range(50, 800) * self.slowness);
        // Where faults leave no time to elect anybody nothing ever changes.
        let least = 2 * self.election();
        self.fault_every = self.fault_every.map(|every| every.max(least));
        let wipe = random.chance(500).then_some(Fault::Wipe);
        for fault in [Fault::Change].into_iter().chain(wipe) {
            if !self.faults.contains(&fault) {
                self.faults.push(fault);
            }
        }
    }

    /// Of a host that says `own`, and helps nobody to the leader's place for some milliseconds after a start.
    pub(crate) fn raft(
        &self,
        id: raft::NodeId,
        seed: u64,
        own: Settings,
        start_guard_ms: u64,
    ) -> raft::Config {
        let ticks = |ms: u64| (ms / self.tick()) as u32;
        let election_ticks = ticks(own.election_timeout_ms);
        raft::Config {
            heartbeat_ticks: self.heartbeat_ticks,
            election_ticks,
            start_guard_ticks: ticks(start_guard_ms),
            append_bytes_max: self.append_bytes,
            inflight_bytes_max: self.inflight_bytes,
            inflight_appends_max: self.inflight_appends,
            uncommitted_bytes_max: self.uncommitted_bytes,
            tail_bytes_max: self.tail_bytes,
            reads_max: self.reads,
            lease_us: self.lease_us(election_ticks),
            ..raft::Config::new(id, seed)
        }
    }

    /// Whether everything that is held in memory is within its bound.
    pub(crate) fn bounds(&self, load: &Load) -> Result<(), String> {
        // Each bound gives way to one entry that is larger, and a leader's own entries are taken in beyond it.
        let entry = 4_096;
        let bounds = [
            ("entries that nobody needs", load.spare_bytes, self.tail_bytes + entry),
            ("uncommitted entries", load.uncommitted_bytes, self.uncommitted_bytes + 4 * entry),
            ("reads", load.reads, self.reads),
            ("appends on their way", load.window_appends, self.inflight_appends),
            (
                "bytes on their way",
                load.window_bytes,
                self.inflight_bytes + self.append_bytes.max(entry),
            ),
        ];
        match bounds.iter().find(|(_, held, most)| held > most) {
            Some((what, held, most)) => Err(format!("{what}: {held} are held, {most} may be")),
            None => Ok(()),
        }
    }

    /// The most ticks made up for after a pause, as the server does.
    pub(crate) fn late_ticks_max(&self) -> u64 {
        u64::from(self.election_ticks / 10).max(1)
    }

    /// An election time-out as the hastiest host may count it, by the slowest clock.
    fn lease_us(&self, election_ticks: u32) -> u64 {
        if self.leases.is_none() {
            return 0;
        }
        let fastest = self.ticks.iter().fold(self.tick(), |least, tick| least.min(*tick));
        let fastest_ms = fastest - self.slowness;
        let ticks = u64::from(election_ticks).saturating_sub(self.late_ticks_max() + 2);
        ticks * fastest_ms * 900
    }

    /// What a host's clock shows, if anybody looks at it.
    pub(crate) fn clock(&self, host: usize, now: Time) -> Option<Moment> {
        let rate = self.leases.as_ref()?[host];
        // Each has an origin of its own.
        Some(Moment(now * rate + 1_000_000 * (10 - host as u64)))
    }

    pub(crate) fn log(&self) -> LogOptions {
        let (wal_slot_bytes, slots) = self.wal;
        LogOptions {
            cache_bytes: self.cache_bytes,
            tail_bytes: self.log_tail,
            wal_bytes: slots * wal_slot_bytes,
            wal_slot_bytes,
        }
    }

    /// Of a host that knows all feature levels up to `highest`.
    pub(crate) fn state(&self, highest: FeatureLevel) -> StateOptions {
        StateOptions {
            cache_bytes: self.cache_bytes,
            overlay_bytes: self.overlay_bytes,
            rows_bytes: self.rows_bytes,
            sweep_rows: self.sweep_rows,
            // The simulator decides when; the wall clock has no say.
            checkpoint_age: Duration::MAX,
            sweep_pause: Duration::MAX,
            highest,
            // A few pages now and then, beside all the rest.
            verify: Verify::Later,
        }
    }

    /// One tick of a clock that runs well.
    pub(crate) fn tick(&self) -> Time {
        TICK * self.slowness
    }

    /// The longest election time-out.
    pub(crate) fn election(&self) -> Time {
        self.tick() * Time::from(self.election_ticks.max(1) * 3 / 2)
    }
}
