//! One node's protocol, log and state machine put together: still single-threaded, and
//! deterministic but for what the disk answers.
//!
//! A [`Replica`] takes an [`Event`], changes, and leaves its [`Effects`] to be collected. It owns the
//! core and applies what is committed to the state; it keeps the promise between them: a write is
//! answered when the entry at its index has been applied, a read when its index has.

mod capacity;
mod clock;
mod effects;
pub mod forwarding;
pub mod history;
pub mod holds;
mod inspect;
mod pending;
mod replay;
mod slow;
mod writes;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use capacity::Capacities;
use clock::ClusterClock;
pub use effects::{
    Capacity, ChangeFailed, Effects, Event, LookedUp, Lookup, Origin, Proposed, ReadRefused,
    RequestId, Step, Summary, WriteFailed,
};
use pending::{PendingReads, PendingWrites};
use replay::Replay;
pub use slow::is_disk_slow;

use crate::cluster::consistency::StateHash;
use crate::cluster::{ClusterView, Shown, change, reconcile};
use crate::raft::{
    ClusterId, Index, Input, LogId, Membership, Node, NodeId, Payload, ProposalId, ReadId, Refused,
    RoleName, Term,
};
use crate::store::{Carried, HashAt, State, StoreError};

impl StateHash for HashAt {
    fn index(&self) -> u64 {
        self.index
    }
}

/// A change of the membership that the core was asked for.
#[derive(Debug)]
struct Wanted {
    before: BTreeSet<NodeId>,
    membership: Option<Membership>,
    what: String,
}

/// What to ask the core for.
enum Next {
    Propose(Membership, String),
    Undo { force: bool },
}

/// The most bytes of entries applied between two looks at the inbox, so that a long replay delays no
/// heartbeat.
const APPLY_BYTES_MAX: usize = 1 << 20;
/// The most entries whose rows are looked up at once.
const LOOKUP_ENTRIES_MAX: usize = 1024;

/// See the module's documentation.
#[derive(Debug)]
pub struct Replica {
    node: Node,
    state: Arc<State>,
    writes: PendingWrites,
    reads: PendingReads,
    changes: HashMap<ProposalId, Wanted>,
    commit: Index,
    applied: LogId,
    /// A snapshot is taking the state's place: nothing may be applied.
    installing: bool,
    /// Commands that are on their way into the log, and whose rows are not at hand: they are fetched meanwhile.
    ahead: Vec<Bytes>,
    /// Entries that have to come from the log.
    replay: Replay,
    /// Whether apply waits for rows that are being fetched.
    awaits_rows: bool,
    /// Whether apply waits for entries that are being read.
    awaits_entries: bool,
    /// An entry that is to be applied is not in the log.
    lost: Option<Index>,
    clock: ClusterClock,
    capacities: Capacities,
    effects: Effects,
}

impl Replica {
    /// Puts the parts together. `node` was recovered from the `state` and the log of one data directory; it ticks so often.
    pub fn new(node: Node, state: Arc<State>, tick: Duration) -> Replica {
        let applied = state.applied();
        Replica {
            commit: node.commit(),
            node,
            state,
            writes: PendingWrites::default(),
            reads: PendingReads::default(),
            changes: HashMap::new(),
            applied,
            installing: false,
            ahead: Vec::new(),
            replay: Replay::default(),
            awaits_rows: false,
            awaits_entries: false,
            lost: None,
            clock: ClusterClock::new(u64::try_from(tick.as_micros()).unwrap_or(u64::MAX)),
            capacities: Capacities::default(),
            effects: Effects::default(),
        }
    }

    /// Takes one event. What follows from it is gathered until [`Replica::take_effects`].
    pub fn step(&mut self, event: Event) {
        match event {
            // Lost on the way, as far as the protocol knows.
            Event::Raft(Input::Receive(message)) if !self.capacities.takes(&message) => {}
            Event::Raft(Input::Tick) => {
                let leads = self.node.role() == RoleName::Leader;
                self.clock.tick(leads, self.state.clock_ms());
                self.node.step(Input::Tick);
                self.effects.tell_capacity =
                    self.capacities.tick(&self.node).or(self.effects.tell_capacity);
                self.transfer_for_capacity();
            }
            Event::Raft(input) => self.node.step(input),
            Event::Capacity(capacity) => {
                self.capacities.set_own(capacity);
                self.transfer_for_capacity();
            }
            Event::PeerCapacity { peer, capacity } => {
                let now = self.node.membership();
                if now.is_some_and(|now| now.members.contains_key(&peer)) {
                    self.capacities.heard(peer, capacity);
                }
            }
            Event::Write { id, write, origin } => self.take_in(id, write, origin),
            Event::Read { id, lease } => self.node.step(Input::Read { id: ReadId(id.0), lease }),
            Event::Change { id, step, hosts } => self.change(id, step, &hosts),
            Event::LookedUp(LookedUp::Rows) => self.awaits_rows = false,
            Event::LookedUp(LookedUp::Entries(entries)) => {
                self.lost = self.replay.came(entries);
                // A snapshot may have come instead of them.
                self.awaits_entries = false;
            }
        }
    }

    /// Makes a change of the membership from the one in force, so that none is based on an older one.
    fn change(&mut self, id: RequestId, step: Step, hosts: &[Shown]) {
        let proposal = ProposalId(id.0);
        let before = self.node.membership().map(|now| now.voters.clone()).unwrap_or_default();
        match self.next_membership(step, hosts) {
            Ok(Next::Propose(membership, what)) => {
                let wanted = Wanted { before, membership: Some(membership.clone()), what };
                self.changes.insert(proposal, wanted);
                self.node.step(Input::ChangeMembers { id: proposal, membership });
            }
            Ok(Next::Undo { force }) => {
                let membership = self.node.membership().and_then(Membership::undone);
                let what = "the change that was under way is undone".to_owned();
                self.changes.insert(proposal, Wanted { before, membership, what });
                self.node.step(Input::UndoChange { id: proposal, force });
            }
            Err(failed) => self.effects.changes.push((id, Err(failed))),
        }
    }

    fn next_membership(&self, step: Step, hosts: &[Shown]) -> Result<Next, ChangeFailed> {
        if let Step::Undo { force } = step {
            return Ok(Next::Undo { force });
        }
        let own = self.node.id();
        let now = self.node.membership().filter(|_| self.node.role() == RoleName::Leader);
        let Some(now) = now else {
            let leader = self.node.leader().filter(|leader| *leader != own);
            return Err(ChangeFailed::NotTaken(Refused::NotLeader { leader }));
        };
        let peers = self.node.peers();
        let peer = |id| peers.iter().find(|peer| peer.id == id);
        let last = self.node.last().index.0;
        let connected = |id| hosts.iter().any(|host| host.id == id);
        let view = ClusterView {
            reachable: &|id| {
                id == own || (connected(id) && peer(id).is_some_and(|peer| peer.active))
            },
            lag: &|id| Some(last.saturating_sub(peer(id)?.matched.0)),
        };
        let (next, what) = match &step {
            Step::Operator { change, force } => {
                let next = change::change(now, change, view, *force);
                (next.map_err(ChangeFailed::Refused)?, format!("{change:?}"))
            }
            _ => {
                let next = reconcile::next(now, hosts, view);
                let (what, next) = next.ok_or(ChangeFailed::Unneeded)?;
                (next, what)
            }
        };
        if next == *now {
            return Err(ChangeFailed::Unneeded);
        }
        if now.is_voter(own) && !next.voters.contains(&own) {
            return Err(ChangeFailed::OwnSeat);
        }
        Ok(Next::Propose(next, what))
    }

    fn transfer_for_capacity(&mut self) {
        if let Some(transfer) = self.capacities.transferee(&self.node) {
            self.node.step(transfer);
        }
    }

    /// Whether the snapshot that `from` offers as the leader of `term` would bring this node further.
    pub fn wants_snapshot(&self, from: NodeId, term: Term, last: LogId) -> bool {
        self.node.leader() == Some(from) && self.node.term() == term && self.may_install(last)
    }

    /// Stops applying, so that a snapshot that has come can take the state's place; until
    /// [`Replica::installed`]. False if it is not needed any more.
    pub fn begin_install(&mut self, cluster: ClusterId, last: LogId) -> bool {
        self.installing = self.node.cluster() == Some(cluster) && self.may_install(last);
        self.installing
    }

    /// The snapshot will not take the state's place after all.
    pub fn give_up_install(&mut self) {
        self.installing = false;
    }

    fn may_install(&self, last: LogId) -> bool {
        !self.installing && last.index > self.applied.index && self.node.wants_snapshot(last)
    }

    /// The snapshot of `from` is in the state's place, durably, or could not be put there.
    pub fn installed(&mut self, from: NodeId) {
        self.installing = false;
        let last = self.state.applied();
        let Some((_, membership)) = self.state.membership() else { return };
        if last.index <= self.applied.index {
            return;
        }
        self.applied = last;
        // What these became is known where they were applied, but not here.
        for (id, _) in self.writes.take_up_to(last.index) {
            self.effects.writes.push((id, Err(WriteFailed::Superseded)));
        }
        for id in self.reads.take_up_to(last.index) {
            self.effects.reads.push((id, Ok(())));
        }
        self.effects.applied = Some(last.index);
        self.node.step(Input::SnapshotInstalled { last, membership, from });
        // The log may have grown past it meanwhile, so that it was no news to the core.
        self.node.step(Input::Applied { index: last.index });
    }

    /// The state's file covers everything up to `checkpoint`.
    pub fn checkpointed(&mut self, checkpoint: LogId) {
        // Otherwise it is a snapshot's of which nobody has told yet: the log, which may hold something else there,
        // follows it then.
        if checkpoint.index <= self.applied.index {
            self.effects.compact_to = Some(checkpoint);
        }
    }

    /// Carries on as far as possible and hands over what is to be done. An error means that the disk
    /// cannot be trusted any more: the node must stop.
    pub fn take_effects(&mut self) -> Result<Effects, StoreError> {
        self.collect();
        if !self.ahead.is_empty() {
            self.effects.lookups.push(Lookup::RowsAhead(std::mem::take(&mut self.ahead)));
        }
        self.state.log_reached(self.node.durable_commit());
        self.apply()?;
        // Applying moves the core's bookkeeping and may release what waited for it.
        self.collect();
        let effects = std::mem::take(&mut self.effects);
        Ok(match effects.fatal {
            // What gathered before rests on what is broken.
            Some(broken) => Effects { fatal: Some(broken), ..Effects::default() },
            None => effects,
        })
    }

    /// The log has ended, with all that this asked to write or not: checkpoints wait for it no more.
    pub fn log_ended(&self, complete: bool) {
        if complete {
            self.state.log_reached(self.node.commit());
        }
        self.state.log_ended();
    }

    fn collect(&mut self) {
        let output = self.node.take_output();
        self.effects.fatal = output.fatal;
        self.effects.persist.extend(output.persist);
        self.effects
            .send
            .extend(output.send.into_iter().filter(|message| self.capacities.sends(message)));
        self.effects.fetch.extend(output.fetch);
        self.effects.untold = output.untold;
        if let Some(commit) = output.commit {
            self.commit = commit;
        }
        for (id, admission) in output.accepted {
            let request = RequestId(id.0);
            match (self.changes.remove(&id), admission) {
                (Some(Wanted { before, membership: Some(membership), what }), Ok(at)) => {
                    let proposed = Proposed { at, before, membership, what };
                    self.effects.changes.push((request, Ok(proposed)));
                }
                (Some(_), Err(refused)) => {
                    self.effects.changes.push((request, Err(ChangeFailed::NotTaken(refused))));
                }
                (Some(_), Ok(_)) => {
                    // Nothing is taken in without a membership to go to.
                    self.effects.changes.push((request, Err(ChangeFailed::Unneeded)));
                }
                (None, Ok(at)) => self.writes.insert(at, request),
                (None, Err(refused)) => {
                    self.effects.writes.push((request, Err(WriteFailed::Refused(refused))));
                }
            }
        }
        for (id, release) in output.reads {
            let id = RequestId(id.0);
            match release {
                Ok(index) if index <= self.applied.index => self.effects.reads.push((id, Ok(()))),
                Ok(index) => self.reads.insert(index, id),
                Err(refused) => self.effects.reads.push((id, Err(refused))),
            }
        }
        self.effects.read_rounds.started.extend(output.read_rounds.started);
        self.effects.read_rounds.confirmed += output.read_rounds.confirmed;
        if output.standing.is_some() {
            self.effects.standing = output.standing;
        }
        if output.membership.is_some() {
            self.effects.membership = output.membership;
        }
        if output.committed.is_some() {
            self.effects.committed = self.memberships().1;
        }
    }

    fn may_apply(&self) -> bool {
        !self.installing && !self.state.overlay_full()
    }

    fn apply(&mut self) -> Result<(), StoreError> {
        let done = self.applied.index >= self.commit;
        if self.effects.fatal.is_some() || done || !self.may_apply() || self.awaits_rows {
            return Ok(());
        }
        let from = self.applied.index.next();
        let in_memory = self.node.entries(from, APPLY_BYTES_MAX);
        self.awaits_entries = false;
        if in_memory.is_none() {
            self.replay.advance(from);
            // Beyond what is durable the file may hold what has been cut off.
            let to = self.node.durable_commit();
            if let Some(next) = self.replay.next_piece(from, to) {
                let max_bytes = APPLY_BYTES_MAX;
                self.effects.lookups.push(Lookup::Entries { from: next, to, max_bytes });
            }
        }
        let Some(entries) = in_memory.or_else(|| self.replay.from(from)) else {
            // What a snapshot has taken the place of is not missed.
            return match self.lost.take() {
                Some(lost) if lost == from => Err(StoreError::missing_entry(lost)),
                _ => {
                    self.awaits_entries = true;
                    Ok(())
                }
            };
        };
        let Carried { applied, lacks_rows } = self.state.apply_at_hand(entries)?;
        if lacks_rows {
            let rest = entries.iter().skip(applied.len()).take(LOOKUP_ENTRIES_MAX);
            let commands = rest.filter_map(|entry| entry.payload.command().cloned());
            self.effects.lookups.push(Lookup::Rows(commands.collect()));
            self.awaits_rows = true;
        }
        if applied.is_empty() {
            return Ok(());
        }
        for entry in applied {
            self.applied = entry.id;
            for (id, term) in self.writes.take(entry.id.index) {
                let result = match &entry.reply {
                    Some(reply) if term == entry.id.term => Ok(reply.clone()),
                    _ => Err(WriteFailed::Overwritten),
                };
                self.effects.writes.push((id, result));
            }
        }
        for id in self.reads.take_up_to(self.applied.index) {
            self.effects.reads.push((id, Ok(())));
        }
        self.effects.applied = Some(self.applied.index);
        self.node.step(Input::Applied { index: self.applied.index });
        Ok(())
    }
}

#[cfg(test)]
#[path = "install_tests.rs"]
mod install_tests;

#[cfg(test)]
#[path = "broken_tests.rs"]
mod broken_tests;
