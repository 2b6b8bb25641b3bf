//! The replica's task: takes events in, steps the replica, carries its effects out.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::answers::{Answer, Answers};
use super::clock;
use super::event::{Asker, Notice};
use super::lag::Lag;
use super::lookups::Lookups;
use super::mailbox::{Mail, Mailbox};
use super::read_gate::ReadGate;
use super::read_load::ReadLoad;
use super::schedule::Schedule;
use super::snapshots;
use super::timing::Timing;
use super::turn::{Turn, Waiting};
use super::verifier::Verifier;
use crate::cluster::settings::may_lease;
use crate::cluster::{Memberships, Settings};
use crate::kv::{AccessRevision, FeatureLevel};
use crate::net::{Net, OwnFeatures};
use crate::raft::{Body, Fetch, Index, Input, LogId, Membership, NodeId, RoleName, SoftState};
use crate::replica::{Capacity, Effects, Event, Replica, is_disk_slow};
use crate::server::tally::Counts;
use crate::server::wire::{self, PeerRequest};
use crate::store::{Checkpointer, Life, LogWriter, Space, SpaceWatch, StoreError};

/// How long it may take to tell the leader that the disk has little room. It is told every 200 ms or so.
const TELL_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a node that stops waits for the decisions on what it has taken in.
const STOP_TIMEOUT: Duration = Duration::from_secs(1);

/// What the thread lets everybody know.
#[derive(Debug)]
pub(crate) struct Published {
    pub(crate) standing: watch::Sender<SoftState>,
    pub(crate) membership: watch::Sender<Option<Membership>>,
    pub(crate) memberships: watch::Sender<Memberships>,
    pub(crate) applied: watch::Sender<Index>,
    pub(crate) checkpoints: watch::Sender<Index>,
    /// What the cluster has agreed on.
    pub(crate) agreed: watch::Sender<Option<Settings>>,
    /// The cluster's feature level.
    pub(crate) level: watch::Sender<FeatureLevel>,
    /// Who may do what.
    pub(crate) access: watch::Sender<AccessRevision>,
    /// The cluster's clock as this node has it, in milliseconds.
    pub(crate) clock_ms: Arc<AtomicU64>,
    /// What this node says of feature levels.
    pub(crate) features: OwnFeatures,
}

/// Everything that the thread works with.
#[derive(Debug)]
pub(crate) struct Driver {
    pub(super) replica: Replica,
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) space: Arc<Space>,
    pub(super) _space_watch: SpaceWatch,
    pub(super) life: Arc<Life>,
    pub(super) log_writer: LogWriter,
    pub(super) checkpointer: Checkpointer,
    pub(super) verifier: Verifier,
    pub(super) snapshots: snapshots::Sender,
    pub(super) fetcher: std::sync::mpsc::SyncSender<Fetch>,
    pub(super) lookups: Lookups,
    pub(super) net: Net,
    pub(super) published: Published,
    pub(super) answers: Answers,
    pub(super) timing: Timing,
    pub(super) lag: Lag,
    pub(super) read_load: Arc<ReadLoad>,
    pub(super) counts: Arc<Counts>,
    /// The leader that was heard last.
    pub(super) led_last: Option<NodeId>,
}

/// How the disks answer.
#[derive(Debug)]
struct Disks {
    told_slow: bool,
    /// When apply last waited for nothing that is being looked up.
    looked_up: Instant,
    /// Since when this node leads, if it does.
    leads_since: Option<Instant>,
}

impl Driver {
    /// Runs until it is told to stop, or until the disk fails; then closes the network and the files.
    pub(super) async fn run(mut self) -> Result<(), StoreError> {
        let result = self.serve().await;
        // Nobody may wait for a replica that is gone.
        self.mailbox.close();
        self.net.shutdown().await;
        // Who met it in the state's file says less than what it is.
        let damage = self.verifier.stop();
        let _room = self.space.make_way();
        // The last checkpoint covers what was applied, once the log under it is written.
        self.replica.log_ended(self.log_writer.stop());
        self.checkpointer.stop();
        damage.map_or(result, Err)
    }

    async fn serve(&mut self) -> Result<(), StoreError> {
        let mut waiting = Waiting::default();
        let mut mail = Mail::default();
        let mut gate = ReadGate::new();
        let mut schedule = Schedule::new(&self.timing, Instant::now());
        let mut due = std::pin::pin!(tokio::time::sleep_until(schedule.next().into()));
        let mut disks = Disks { told_slow: false, looked_up: Instant::now(), leads_since: None };
        let mut stop_by = None;
        let mut capacity = Capacity::default();
        let began = Instant::now();
        loop {
            self.life.replica.beat();
            // Who waits for what this node has taken in should learn what became of it.
            let idle = waiting.is_empty() && mail.is_empty();
            if stop_by.is_some_and(|by| idle || Instant::now() >= by) {
                return Ok(());
            }
            if self.replica.has_more() || !mail.is_empty() {
                tokio::task::yield_now().await;
            } else {
                if due.deadline().into_std() != schedule.next() {
                    due.as_mut().reset(schedule.next().into());
                }
                self.mailbox.filled(due.as_mut(), gate.opened()).await;
            }
            self.mailbox.take(&mut mail, stop_by.is_some() || gate.is_open(Instant::now()));
            if mail.stop {
                // Whoever reads is answered, and not held until nobody is there.
                self.mailbox.take(&mut mail, true);
            }
            if !mail.reads.is_empty() {
                gate.passed(Instant::now(), self.read_load.clients());
            }
            if let Some(error) = mail.failed.take() {
                return Err(error);
            }
            if std::mem::take(&mut mail.stop) {
                stop_by = Some(Instant::now() + STOP_TIMEOUT);
            }
            self.tell_the_time();
            let now = self.capacity();
            if now != capacity {
                capacity = now;
                self.replica.step(Event::Capacity(capacity));
            }
            let mut turn = Turn::new(&mut self.replica, &mut waiting, &self.counts);
            turn.take_in(&mut mail, || began.elapsed());
            if turn.checkpointed {
                self.published.checkpoints.send_replace(self.replica.durable());
            }
            let now = Instant::now();
            if schedule.tells(now) {
                self.replica.step(Event::Raft(Input::TellCommits));
            }
            let ticks = schedule.ticks(now);
            (0..ticks).for_each(|_| self.replica.step(Event::Raft(Input::Tick)));
            if ticks > 0 {
                self.ticked(&mut disks, capacity);
            }
            self.published.clock_ms.store(self.replica.clock_ms(), Ordering::Relaxed);
            self.lag.look(self.replica.applied(), self.replica.heard_commit(), Instant::now());
            let effects = self.replica.take_effects()?;
            if !self.replica.awaits_lookup() {
                disks.looked_up = Instant::now();
            }
            if let Some(standing) = effects.standing {
                let leads = standing.role == RoleName::Leader;
                disks.leads_since = leads.then(Instant::now);
            }
            if let Some(broken) = effects.fatal {
                tracing::error!("an invariant of the protocol is broken: {broken}");
                return Err(broken.into());
            }
            self.publish_agreements();
            schedule.untold(effects.untold, Instant::now());
            self.carry_out(effects, &mut waiting);
        }
    }

    /// Tells the core the time, and whether its leases may be relied on, as those say whose messages have come.
    fn tell_the_time(&mut self) {
        if self.timing.leases() {
            let said = self.net.settings().into_iter().map(|(_, said)| said);
            let leases = may_lease(self.replica.agreed(), self.timing.own, said);
            self.replica.step(Event::Raft(Input::Leases(leases)));
            self.replica.step(Event::Raft(Input::Now(clock::now())));
        }
    }

    /// Lets everybody know what the cluster has agreed on.
    fn publish_agreements(&self) {
        let level = self.replica.level();
        self.published.features.reached(level);
        self.published.level.send_if_modified(|before| std::mem::replace(before, level) != level);
        let access = self.replica.access_revision();
        self.published
            .access
            .send_if_modified(|before| std::mem::replace(before, access) != access);
        let agreed = self.replica.agreed();
        self.published.agreed.send_if_modified(|before| {
            let changed = *before != agreed;
            *before = agreed;
            changed
        });
    }

    /// What is looked after once a tick.
    fn ticked(&mut self, disks: &mut Disks, capacity: Capacity) {
        let (write, lookup) = (self.log_writer.busy_for(), disks.looked_up.elapsed());
        let leads_for = disks.leads_since.map_or(Duration::MAX, |since| since.elapsed());
        let slow = is_disk_slow(write, lookup, leads_for, self.timing.election_timeout);
        if slow && !disks.told_slow {
            tracing::warn!("the disk has not answered for an election time-out");
        }
        disks.told_slow = slow;
        // Until somebody has taken over: right after the core counted who answers, nobody may seem to.
        if slow {
            self.replica.step(Event::Raft(Input::DiskSlow));
        }
        self.checkpointer.poll();
        // Where there is little room nobody is waited for.
        let awaited = self.snapshots.heard(&self.replica.peers());
        self.log_writer.await_after(awaited.filter(|_| !capacity.low));
    }

    /// How much room the disk has.
    fn capacity(&self) -> Capacity {
        if !self.space.is_low() {
            return Capacity::default();
        }
        let entries_bytes =
            self.space.entries_max().saturating_sub(self.log_writer.waiting_bytes());
        Capacity { low: true, entries_bytes, stuck: self.replica.is_stuck() }
    }

    fn tell_capacity(&self, leader: NodeId, capacity: Capacity) {
        let net = self.net.clone();
        let request = wire::encode(&PeerRequest::Capacity(capacity));
        tokio::spawn(async move {
            // It is told again soon.
            let _ = net.request(leader, request, Instant::now() + TELL_TIMEOUT).await;
        });
    }

    fn carry_out(&mut self, effects: Effects, waiting: &mut Waiting) {
        for write in effects.persist {
            self.log_writer.submit(write);
        }
        if let Some(checkpoint) = effects.compact_to {
            self.log_writer.compact_to(self.snapshots.may_cut(checkpoint));
        }
        for message in effects.send {
            if matches!(message.body, Body::Snapshot { .. }) {
                self.snapshots.begin(message.cluster, message.to, message.term);
            }
            self.net.send(message);
        }
        for fetch in effects.fetch {
            if let Err(error) = self.fetcher.try_send(fetch) {
                // The core asks again after a failed fetch.
                tracing::debug!(%error, "the log reader is behind");
                self.mailbox.send(fetched_nothing(fetch.peer));
            }
        }
        for lookup in effects.lookups {
            self.lookups.submit(lookup);
        }
        if let Some((leader, capacity)) = effects.tell_capacity {
            self.tell_capacity(leader, capacity);
        }
        if let Some(standing) = effects.standing {
            announce(standing);
            let before = *self.published.standing.borrow();
            self.counts.stands(before, standing, &mut self.led_last);
            self.published.standing.send_replace(standing);
        }
        let changed = effects.membership.is_some() || effects.committed.is_some();
        if let Some(membership) = effects.membership {
            self.published.membership.send_replace(Some(membership));
        }
        if changed {
            self.published.memberships.send_replace(self.replica.memberships());
        }
        self.counts.rounds(&effects.read_rounds);
        if let Some(applied) = effects.applied {
            self.published.applied.send_replace(applied);
        }
        for (id, result) in effects.writes {
            match waiting.writes.remove(&id) {
                Some((Asker::Client, reply)) => self.answers.push(Answer::Write(reply, result)),
                // It may have given up.
                Some((Asker::Peer, reply)) => drop(reply.send(result)),
                None => {}
            }
        }
        for (id, result) in effects.reads {
            if let Some(reply) = waiting.reads.remove(&id) {
                self.answers.push(Answer::Read(reply, result));
            }
        }
        for (id, result) in effects.changes {
            if let Some(reply) = waiting.changes.remove(&id) {
                self.answers.push(Answer::Change(reply, result));
            }
        }
        self.answers.flush();
        self.snapshots.pace().writes_wait(waiting.writes.len());
    }
}

fn announce(standing: SoftState) {
    let SoftState { role, term, leader } = standing;
    match (role, leader) {
        (RoleName::Leader, _) => tracing::info!(term = term.0, "this node leads"),
        (RoleName::Follower, Some(leader)) => {
            tracing::info!(term = term.0, leader = %leader, "following a leader");
        }
        _ => tracing::info!(term = term.0, role = ?role, "no leader is known"),
    }
}

/// Reads ranges of the log for peers that are far behind, on a thread of its own, until the replica
/// thread is gone.
pub(super) fn read_for_peers(
    requests: &std::sync::mpsc::Receiver<Fetch>,
    log: &crate::store::LogReader,
    mailbox: &Mailbox,
) {
    while let Ok(Fetch { peer, from, to, max_bytes }) = requests.recv() {
        mailbox.send(match log.fetch(from, to, max_bytes) {
            Ok(Some((prev, entries))) => Notice::Fetched { peer, prev, entries },
            Ok(None) => fetched_nothing(peer),
            // As on a start. A log that is closed is being left anyway.
            Err(error) => return mailbox.fail(error),
        });
    }
}

fn fetched_nothing(peer: NodeId) -> Notice {
    Notice::Fetched { peer, prev: LogId::ZERO, entries: Vec::new() }
}
