//! One host: its two files, and while it runs the real replica on them. The threads of a server
//! that
//! write the log and the checkpoints are steps here.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use konsen::cluster::settings::{guards_at_start_ms, promised_ms};
use konsen::cluster::{Addresses, Known, Own, Roster, Seat};

use konsen::kv::{FeatureLevel, Settings};
use konsen::raft::founding::Grant;
use konsen::raft::{
    self, Fetch, HardState, Input, LogId, LogWrite, Membership, Node, NodeId, Term,
};
use konsen::replica::history::RevisionTimes;
use konsen::replica::holds::{Holds, TransferId};
use konsen::replica::{LookedUp, Lookup, Replica};
use konsen::store::{
    self, BackupError, Frozen, Incoming, Log, LogReader, RecoveredLog, RowsRead, State, StoreError,
};

use super::bootstrap::Founding;
use super::disk::{Ail, Disk, Operation, Survival, damage, power_off};
use super::plan::{Plan, Time};
use super::random::Random;

/// A host, running or not.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) id: NodeId,
    /// What its configuration says.
    pub(crate) config: Configuration,
    /// The highest feature level that its release knows.
    pub(crate) highest: FeatureLevel,
    /// Whether its configuration is of the second kind of those that differ.
    pub(crate) second_settings: bool,
    /// For how long leaders may count on what it promised in its last life and in all, in milliseconds, and when that began.
    promised: (u64, u64, Time),
    /// What it has said about who founds the cluster, durably.
    pub(crate) grant: Grant,
    /// It found out that it was put out, and stopped for good.
    pub(crate) removed: bool,
    log_disk: Disk,
    wal_disk: Disk,
    state_disk: Disk,
    /// Counts the starts, so that what was meant for an earlier life is told apart.
    pub(crate) life: u64,
    pub(crate) running: Option<Running>,
    /// Stands still until then.
    pub(crate) paused_until: Time,
    /// The disk answers nothing until then.
    pub(crate) stalled_until: Time,
    /// Until then its disk answers no read.
    pub(crate) unread_until: Time,
    /// The write that was under way when the power failed. It may be on the disk, as a whole.
    pub(crate) unsure: Vec<LogWrite>,
    /// The checkpoint that was under way then.
    pub(crate) unsure_checkpoint: Option<LogId>,
    /// The snapshot that was taking the state's place then.
    pub(crate) unsure_install: Option<LogId>,
}

/// A host's file of configuration.
#[derive(Clone, Debug)]
pub(crate) struct Configuration {
    /// Its name, which its certificate states, too.
    pub(crate) name: String,
    /// Where it listens, and says that it does.
    pub(crate) addresses: Addresses,
    /// The servers that it knows of.
    pub(crate) servers: BTreeMap<String, Addresses>,
    /// Whether it is to join a cluster, and never to found one.
    pub(crate) join: bool,
}

/// What a host knows of a peer that it has met.
#[derive(Clone, Debug, Default)]
pub(crate) struct Met {
    /// Where it says that it listens.
    pub(crate) said: Option<Addresses>,
    /// Where it was heard from.
    pub(crate) heard_from: Option<String>,
}

#[derive(Debug)]
pub(crate) struct Running {
    /// What it knows of who belongs.
    pub(crate) roster: Roster,
    /// What is known of those that it has met.
    pub(crate) met: BTreeMap<Seat, Met>,
    /// What each of those said last that its configuration says.
    pub(crate) said: BTreeMap<NodeId, Settings>,
    /// Who says that it is no member, and which membership they know.
    pub(crate) disowners: BTreeMap<Seat, (NodeId, Known)>,
    /// How often each peer was dialled since it was reached last.
    pub(crate) dialled: BTreeMap<Seat, usize>,
    /// Since when it has had no leader.
    pub(crate) leaderless: Option<Time>,
    /// Its attempts to found the cluster.
    pub(super) founding: Founding,
    pub(crate) replica: Replica,
    pub(crate) state: Arc<State>,
    log: Log,
    reader: LogReader,
    /// Waits for the write that is under way to end.
    pub(crate) queue: Vec<LogWrite>,
    /// What is being written, and since when.
    pub(crate) writing: Option<(Vec<LogWrite>, Time)>,
    /// Since when apply waits for what is being looked up.
    pub(crate) unread: Option<Time>,
    pub(crate) frozen: Option<Frozen>,
    /// A snapshot that is taking the state's place.
    pub(crate) placing: Option<(Incoming, LogId)>,
    /// A checkpoint of which the log has not heard, and how many writes come before it.
    pub(crate) covered: Option<(LogId, usize)>,
    pub(crate) told_slow: bool,
    /// Since when it leads, if it does.
    pub(crate) leads_since: Option<Time>,
    /// What of the log stays for who takes a snapshot in.
    pub(crate) holds: Holds,
    /// The last snapshot that was begun for each peer: the one that counts.
    pub(crate) sends: BTreeMap<NodeId, TransferId>,
    /// When it had which revision.
    pub(crate) times: RevisionTimes,
}

/// A host that begins a cluster anew.
#[derive(Debug)]
pub(crate) struct Begun {
    pub(crate) state: Arc<State>,
    pub(crate) recovered: raft::Recovered,
}

/// What a start found on the disk.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) hard_state: HardState,
    /// The entry before the first one.
    pub(crate) base: LogId,
    pub(crate) entries: Vec<raft::Entry>,
    pub(crate) applied: LogId,
    /// The membership in force.
    pub(crate) membership: Option<Membership>,
}

impl Host {
    pub(crate) fn new(id: NodeId, config: Configuration) -> Host {
        Host {
            id,
            config,
            highest: FeatureLevel::BASE,
            second_settings: false,
            promised: (0, 0, 0),
            grant: Grant::default(),
            removed: false,
            log_disk: Disk::default(),
            wal_disk: Disk::default(),
            state_disk: Disk::default(),
            life: 0,
            running: None,
            paused_until: 0,
            stalled_until: 0,
            unread_until: 0,
            unsure: Vec::new(),
            unsure_checkpoint: None,
            unsure_install: None,
        }
    }

    fn open_log(&self, plan: &Plan) -> Result<(Log, RecoveredLog), StoreError> {
        Log::open_backends(self.log_disk.clone(), self.wal_disk.clone(), &plan.log())
    }

    /// Opens what the disk holds, as the server does.
    pub(crate) fn start(&mut self, plan: &Plan, seed: u64, now: Time) -> Result<Found, StoreError> {
        self.life += 1;
        let state =
            Arc::new(State::open_backend(self.state_disk.clone(), &plan.state(self.highest))?);
        let (mut log, found) = self.open_log(plan)?;
        let reader = log.reader();
        let applied = state.applied();
        let recovered = store::recover(&state, &mut log, found)?;
        let last = recovered.tail.last().map_or(recovered.committed, |entry| entry.id).index;
        let base = recovered.base;
        let entries = match last {
            last if last == base.index => Vec::new(),
            last => reader.read(base.index.next(), last, usize::MAX)?,
        };
        let hard_state = recovered.hard_state;
        let own = plan.settings(self.second_settings);
        let guard_ms = guards_at_start_ms(state.settings(), own, self.guards(own, now));
        let node = Node::new(plan.raft(self.id, seed, own, guard_ms), recovered);
        let membership = node.membership().cloned();
        let replica = Replica::new(node, state.clone(), Duration::from_millis(10));
        let own = Own { name: self.config.name.clone(), id: self.id };
        let servers = self.config.servers.iter();
        let servers = servers.map(|(name, at)| (name.clone(), at.raft.clone())).collect();
        let mut roster = Roster::new(own, servers);
        roster.follow(replica.memberships());
        let decided = hard_state.commit;
        roster.remember(reader.memberships()?.into_iter().filter(|(at, _)| *at <= decided));
        self.running = Some(Running {
            roster,
            met: BTreeMap::new(),
            said: BTreeMap::new(),
            disowners: BTreeMap::new(),
            dialled: BTreeMap::new(),
            leaderless: Some(now),
            founding: Founding::new(now),
            replica,
            state,
            log,
            reader,
            queue: Vec::new(),
            writing: None,
            unread: None,
            frozen: None,
            placing: None,
            covered: None,
            told_slow: false,
            leads_since: None,
            holds: Holds::default(),
            sends: BTreeMap::new(),
            times: RevisionTimes::new(plan.keep),
        });
        Ok(Found { hard_state, base, entries, applied, membership })
    }

    /// For how long leaders may count on what the host promised before, as its directory says: what it did in its last
    /// lives is over once that time has passed since it started.
    fn guards(&mut self, own: Settings, now: Time) -> u64 {
        let (promised, longest, since) = self.promised;
        let before = if now >= since + longest { promised } else { longest };
        let promises = promised_ms(&own);
        self.promised = (promises, before.max(promises), now);
        before.max(promises)
    }

    /// Becomes the only voter of a new cluster while it does not run: its last entry before, and what a start
    /// finds after.
    pub(crate) fn begin_anew(
        &mut self,
        plan: &Plan,
        members: &Membership,
    ) -> Result<(LogId, Begun), StoreError> {
        let open = |host: &Host| {
            let state =
                Arc::new(State::open_backend(host.state_disk.clone(), &plan.state(host.highest))?);
            let (mut log, found) = host.open_log(plan)?;
            let recovered = store::recover(&state, &mut log, found)?;
            Ok::<_, StoreError>((state, log, recovered))
        };
        let (state, mut log, recovered) = open(self)?;
        let last = recovered.tail.last().map_or(recovered.committed, |entry| entry.id);
        store::begin_alone(&state, &mut log, &recovered, members.clone())?;
        drop((state, log));
        let (state, _, recovered) = open(self)?;
        Ok((last, Begun { state, recovered }))
    }

    /// Another try to become that is broken off by a loss of power: it can be done again.
    pub(crate) fn crash_in_beginning(
        &mut self,
        plan: &Plan,
        members: &Membership,
        random: &mut Random,
    ) {
        self.log_disk.fail_after(random.below(20));
        self.wal_disk.fail_after(random.below(6));
        self.state_disk.fail_after(random.below(40));
        // The failure is what is wanted; the next try shows whether it did harm.
        power_off(self.begin_anew(plan, members));
        self.replace_disks(random);
    }

    /// Takes a backup in, with empty files, as the only voter of a new cluster: what a start finds after.
    pub(crate) fn take_in(
        &self,
        plan: &Plan,
        backup: &[u8],
        members: Membership,
    ) -> Result<Begun, BackupError> {
        let state =
            Arc::new(State::open_backend(self.state_disk.clone(), &plan.state(self.highest))?);
        store::take_in(backup, &state, members)?;
        let (mut log, found) = self.open_log(plan)?;
        let recovered = store::recover(&state, &mut log, found)?;
        Ok(Begun { state, recovered })
    }

    /// The power fails. What was being written may get some of the way.
    pub(crate) fn crash(&mut self, random: &mut Random, in_write: bool) -> Survival {
        let mut survival = Survival::default();
        self.unsure.clear();
        self.unsure_checkpoint = None;
        self.unsure_install = None;
        let failed = self.disk_failed();
        let Some(mut running) = self.running.take() else { return survival };
        if let Some((batch, _)) = running.writing.take()
            && (in_write || failed || random.chance(500))
        {
            // How it ends, or has ended, is for the next start to find out.
            if !failed {
                // Most writes need the write-ahead log alone.
                self.wal_disk.fail_after(random.below(4));
                self.log_disk.fail_after(random.below(12));
                let _ = running.log.append(&batch);
            }
            self.unsure = batch;
        }
        if let Some(frozen) = running.frozen.take()
            && !failed
            && running.state.log_holds(&frozen)
            && (in_write || random.chance(500))
        {
            self.state_disk.fail_after(random.below(14));
            self.unsure_checkpoint = Some(frozen.applied());
            let _ = running.state.write_checkpoint(frozen);
        }
        if let Some((incoming, last)) = running.placing.take()
            && !failed
            && (in_write || random.chance(500))
        {
            self.state_disk.fail_after(random.below(14));
            self.unsure_install = Some(last);
            // Whether it got there is for the next start to find out.
            let _ = running.state.put_in_place(incoming);
        }
        for disk in [&mut self.log_disk, &mut self.wal_disk, &mut self.state_disk] {
            let (after, survived) = disk.crash(random.next());
            survival.kept += survived.kept;
            survival.lost += survived.lost;
            // The old file refuses everything from here on: dropping the database changes nothing.
            *disk = after;
        }
        power_off(running);
        survival
    }

    fn disks(&self) -> [&Disk; 3] {
        [&self.log_disk, &self.wal_disk, &self.state_disk]
    }

    /// Whether one of the disks has told an error.
    pub(crate) fn disk_failed(&self) -> bool {
        self.disks().iter().any(|disk| disk.has_failed())
    }

    /// Whether one of the disks will fail, or has.
    pub(crate) fn is_ailing(&self) -> bool {
        self.disks().iter().any(|disk| disk.is_ailing())
    }

    /// One of the disks will fail; says how.
    pub(crate) fn ail(&self, random: &mut Random) -> &'static str {
        let at = *random.pick(&[Operation::Read, Operation::Write, Operation::Sync]);
        let once = random.chance(500);
        let ail = Ail { at, after: random.below(10), once, error: ErrorKind::Other };
        random.pick(&self.disks()).ail(ail);
        match (at, once) {
            (Operation::Read, true) => "fault: a read will fail once",
            (Operation::Read, false) => "fault: reads will fail",
            (Operation::Write, true) => "fault: a write will fail once",
            (Operation::Write, false) => "fault: writes will fail",
            (Operation::Sync, true) => "fault: a sync will fail once, its data gone",
            (Operation::Sync, false) => "fault: syncs will fail",
        }
    }

    /// Both files are on a disk that soon takes no more.
    pub(crate) fn fill(&self, random: &mut Random) {
        let after = random.below(10);
        let error = ErrorKind::StorageFull;
        for disk in self.disks() {
            disk.ail(Ail { at: Operation::Write, after, once: false, error });
        }
    }

    /// Another try to open failed half-way: whatever it left is what a crash leaves.
    pub(crate) fn crash_in_start(&mut self, plan: &Plan, random: &mut Random, now: Time) {
        self.log_disk.fail_after(random.below(10));
        self.wal_disk.fail_after(random.below(4));
        self.state_disk.fail_after(random.below(10));
        let seed = random.next();
        // The failure is what is wanted; the next start shows whether it did harm.
        let _ = self.start(plan, seed, now);
        power_off(self.running.take());
        self.replace_disks(random);
    }

    /// The host stops in order. What waited to be written was never begun.
    pub(crate) fn stop(&mut self) {
        self.running = None;
        self.unsure.clear();
        self.unsure_checkpoint = None;
        self.unsure_install = None;
    }

    /// Both files are gone, and with them the identity.
    pub(crate) fn wipe(&mut self, id: NodeId) {
        let Host { life, highest, second_settings, .. } = *self;
        *self = Host { life, highest, second_settings, ..Host::new(id, self.config.clone()) };
    }

    /// What the files hold.
    pub(crate) fn images(&self) -> [Vec<u8>; 3] {
        self.disks().map(Disk::image)
    }

    /// Puts the files back.
    pub(crate) fn restore(&mut self, images: [Vec<u8>; 3]) {
        self.running = None;
        [self.log_disk, self.wal_disk, self.state_disk] = images.map(Disk::with);
    }

    /// Damages one of the files; says how.
    pub(crate) fn damage(&mut self, random: &mut Random) -> String {
        let (file, disk) = match random.below(4) {
            0 => ("log", &mut self.log_disk),
            1 => ("write-ahead log", &mut self.wal_disk),
            _ => ("state", &mut self.state_disk),
        };
        let mut image = disk.image();
        let what = damage(&mut image, random);
        *disk = Disk::with(image);
        format!("{what} of its {file}")
    }

    /// New disks with what survived on the old ones.
    pub(crate) fn replace_disks(&mut self, random: &mut Random) {
        for disk in [&mut self.log_disk, &mut self.wal_disk, &mut self.state_disk] {
            *disk = disk.crash(random.next()).0;
        }
    }

    /// The disks fail no more.
    pub(crate) fn cure(&self) {
        self.disks().iter().for_each(|disk| disk.cure());
    }

    pub(crate) fn disk_operations(&self) -> u64 {
        self.disks().iter().map(|disk| disk.operations()).sum()
    }
}

impl Running {
    /// Tells the log of a checkpoint, after all writes that there are.
    pub(crate) fn compact_to(&mut self, checkpoint: LogId) {
        let writing = self.writing.as_ref().map_or(0, |(batch, _)| batch.len());
        self.covered = Some((checkpoint, writing + self.queue.len()));
    }

    /// Carries out the write that is under way.
    pub(crate) fn end_write(&mut self) -> Result<Vec<LogWrite>, StoreError> {
        let Some((batch, _)) = &self.writing else { return Ok(Vec::new()) };
        if let Some((checkpoint, _)) = self.covered.take_if(|(_, before)| *before == 0) {
            self.log.compact_to(checkpoint)?;
        }
        self.log.append(batch)?;
        if let Some((_, before)) = &mut self.covered {
            *before = before.saturating_sub(batch.len());
        }
        Ok(self.writing.take().map(|(batch, _)| batch).unwrap_or_default())
    }

    /// Reads old entries for a peer.
    pub(crate) fn fetch(&self, fetch: Fetch) -> Result<Input, StoreError> {
        let Fetch { peer, from, to, max_bytes } = fetch;
        let (prev, entries) = self.reader.fetch(from, to, max_bytes)?.unwrap_or_default();
        Ok(Input::Fetched { peer, prev, entries })
    }

    /// Looks up what is to be applied: the rows for it, and what the replica hears once those are held, if it waits.
    pub(crate) fn look_up(
        &self,
        lookup: Lookup,
    ) -> Result<(RowsRead, Option<LookedUp>), StoreError> {
        Ok(match lookup {
            Lookup::RowsAhead(commands) => (self.state.read_rows(&commands)?, None),
            Lookup::Rows(commands) => (self.state.read_rows(&commands)?, Some(LookedUp::Rows)),
            Lookup::Entries { from, to, max_bytes } => {
                let entries = self.reader.fetch(from, to, max_bytes)?.unwrap_or_default().1;
                let commands = entries.iter().filter_map(|entry| entry.payload.command());
                (self.state.read_rows(commands)?, Some(LookedUp::Entries(entries)))
            }
        })
    }

    /// The entry before the first one in the log's file.
    pub(crate) fn base(&self) -> LogId {
        self.log.base()
    }

    pub(crate) fn term(&self) -> Term {
        self.replica.summary().term
    }
}
