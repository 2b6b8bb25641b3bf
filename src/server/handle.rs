//! The way into a running node, for HTTP and for peers that forward.

use std::fmt;
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::{oneshot, watch};
use tokio::time::{timeout, timeout_at};

use super::certificates::Facts;
use super::deletions::Deletion;
use super::error::{Consistency, Error};
use super::lag::IsBehind;
use super::letter::{Control, Notice, Question, Request};
use super::life::Stillness;
use super::limits::Limits;
use super::mailbox::{Mailbox, NotTaken};
use super::passing::Reads;
use super::peer_request::{self, LeaderProgress, PeerReply, PeerRequest};
use super::readers::Readers;
use super::waiters::{Waiter, Waiters};
use super::write_room::WriteRoom;
use crate::cluster::Addresses;
use crate::config::Config;
use crate::kv::{Item, KeyRange, Reply, Revision, Write};
use crate::net::{Net, RequestError};
use crate::raft::{Index, Membership, NodeId, Refused, RoleName, SoftState};
use crate::replica::forwarding::{Cause, Fate, Passed};
use crate::replica::{Room, Summary};
use crate::store::{DataDir, Life, Mark, ReadError, Space, State, StoreError};

/// How long a question about how things stand may take.
const INSPECT_TIMEOUT: Duration = Duration::from_secs(1);

/// The way into a running node. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Handle {
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Shared {
    pub(super) id: NodeId,
    pub(super) config: Arc<Config>,
    pub(super) limits: Limits,
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) state: Arc<State>,
    pub(super) space: Arc<Space>,
    pub(super) behind: IsBehind,
    pub(super) write_room: WriteRoom,
    pub(super) life: Arc<Life>,
    pub(super) facts: Arc<ArcSwap<Facts>>,
    /// Who answers what peers pass on.
    pub(super) reads: OnceLock<Weak<dyn Reads>>,
    /// The largest answer that fits between nodes, in bytes.
    pub(super) frame_bytes_max: usize,
    pub(super) net: Net,
    pub(super) data: DataDir,
    pub(super) standing: watch::Receiver<SoftState>,
    pub(super) membership: watch::Receiver<Option<Membership>>,
    /// Since when a change of the membership has been under way, if one is.
    pub(super) joint_since: watch::Receiver<Option<Instant>>,
    pub(super) applied: watch::Receiver<Index>,
    pub(super) waiters: Arc<Waiters>,
    pub(super) readers: Readers,
    pub(super) checkpoints: watch::Receiver<Index>,
    pub(super) started: Instant,
    pub(super) stopping: watch::Receiver<bool>,
    pub(super) removed: watch::Receiver<bool>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Handle {
    pub(super) fn new(shared: Arc<Shared>) -> Handle {
        Handle { shared }
    }

    /// Carries a write out, here or at the leader, and tells what became of it.
    ///
    /// It is tried again only where it certainly went nowhere; the deadline bounds the whole.
    pub async fn write(&self, write: Write, deadline: Instant) -> Result<Reply, Error> {
        let mut standing = self.shared.standing.clone();
        loop {
            if self.is_stopping() {
                return Err(Error::ShuttingDown);
            }
            let leader = standing.borrow_and_update().leader;
            let tried = match leader {
                Some(leader) if leader == self.shared.id => {
                    self.write_here(write.clone(), deadline).await
                }
                Some(leader) => self.forward(leader, write.clone(), deadline).await,
                None => Err(Fate::Again),
            };
            match tried {
                Ok(reply) => return Ok(reply),
                Err(Fate::Again) => {
                    self.wait_for_leader(&mut standing, leader, deadline).await?;
                }
                Err(Fate::NotApplied(cause)) => return Err(cause.into()),
                Err(Fate::Unknown) => return Err(Error::Unknown),
            }
        }
    }

    /// Carries a write out if this node leads.
    pub(super) async fn write_here(&self, write: Write, deadline: Instant) -> Result<Reply, Fate> {
        match write {
            Write::DeleteUpTo { range, keys_max, in_steps } => {
                self.delete_here(Deletion { range, keys_max, in_steps }, deadline).await
            }
            write => self.propose(write, deadline).await,
        }
    }

    /// Lets the replica take a write into the log, once there is room for it.
    pub(super) async fn propose(&self, write: Write, deadline: Instant) -> Result<Reply, Fate> {
        let Some(_room) = self.shared.write_room.wait(write.cost_bytes(), deadline).await else {
            return Err(Fate::NotApplied(Cause::Busy));
        };
        let (reply, answer) = oneshot::channel();
        match self.shared.mailbox.ask(Request::Write { write, reply }) {
            Ok(()) => {}
            Err(NotTaken::Full) => return Err(Fate::NotApplied(Cause::Busy)),
            // Whoever asks here then hears that the node shuts down, and a peer asks the next leader.
            Err(NotTaken::Closed) => return Err(Fate::Again),
        }
        match timeout_at(deadline.into(), answer).await {
            Ok(Ok(result)) => result.map_err(Fate::from),
            // The replica thread stopped, or the time is up: the entry may be, or may yet be, committed.
            Ok(Err(_)) | Err(_) => Err(Fate::Unknown),
        }
    }

    async fn forward(
        &self,
        leader: NodeId,
        write: Write,
        deadline: Instant,
    ) -> Result<Reply, Fate> {
        let left = deadline.saturating_duration_since(Instant::now());
        let request = peer_request::encode(&PeerRequest::Write { write, deadline: left });
        let replied = tokio::select! {
            replied = self.shared.net.request(leader, request, deadline) => replied,
            // If it lives, it has learnt by now what became of the write.
            () = self.deposed(leader) => Err(RequestError::Unknown),
        };
        let passed = match replied.map(|bytes| peer_request::decode(&bytes)) {
            Ok(Some(PeerReply::Write(result))) => Passed::Answered(result),
            Ok(Some(PeerReply::NotUnderstood)) => Passed::NotUnderstood,
            Ok(_) | Err(RequestError::Unknown) => Passed::NoAnswer,
            Err(RequestError::NotSent) => Passed::NotSent,
        };
        passed.outcome()
    }

    /// Waits until another has led for an election time-out.
    pub(super) async fn deposed(&self, leader: NodeId) {
        let mut standing = self.shared.standing.clone();
        let another = standing.wait_for(|now| now.leader.is_some_and(|now| now != leader));
        if another.await.is_err() {
            // The node stops; whoever asked hears of that otherwise.
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(self.election_timeout()).await;
    }

    /// Waits until a local read is as fresh as asked for, and has seen `min_revision`.
    pub async fn read_barrier(
        &self,
        consistency: Consistency,
        min_revision: Option<Revision>,
        deadline: Instant,
    ) -> Result<(), Error> {
        match consistency {
            Consistency::Stale => {}
            Consistency::Lease if !self.shared.config.reads.lease => {
                return Err(Error::LeaseReadsOff);
            }
            Consistency::Lease => self.read_index(true, deadline).await?,
            Consistency::Linearizable => self.read_index(false, deadline).await?,
        }
        match min_revision {
            None => Ok(()),
            Some(wanted) => self.reach(wanted, deadline).await,
        }
    }

    /// Waits until this node has applied that revision.
    async fn reach(&self, wanted: Revision, deadline: Instant) -> Result<(), Error> {
        while self.revision() < wanted {
            let waiter = self.shared.waiters.for_revision(wanted)?;
            if self.revision() < wanted && !waiter.woken(deadline).await {
                return Err(Error::ReadTimedOut);
            }
        }
        Ok(())
    }

    async fn read_index(&self, lease: bool, deadline: Instant) -> Result<(), Error> {
        let mut standing = self.shared.standing.clone();
        loop {
            if self.is_stopping() {
                return Err(Error::ShuttingDown);
            }
            let leader = standing.borrow_and_update().leader;
            if leader.is_some() {
                let (reply, answer) = oneshot::channel();
                match self.shared.mailbox.ask(Request::Read { lease, reply }) {
                    Ok(()) => {}
                    Err(NotTaken::Full) => return Err(Error::Busy),
                    Err(NotTaken::Closed) => return Err(Error::ShuttingDown),
                }
                match timeout_at(deadline.into(), answer).await {
                    Ok(Ok(Ok(()))) => return Ok(()),
                    Ok(Ok(Err(Refused::Busy))) => return Err(Error::Busy),
                    Ok(Ok(Err(_))) => {}
                    Ok(Err(_)) => return Err(Error::ShuttingDown),
                    Err(_) => return Err(Error::ReadTimedOut),
                }
            }
            self.wait_for_leader(&mut standing, leader, deadline).await?;
        }
    }

    /// One key as this node has it now, and the revision it was read at.
    pub fn get(&self, key: &[u8]) -> Result<(Revision, Option<Item>), Error> {
        self.shared.state.get(key, None).map_err(|error| self.read_failed(error))
    }

    /// The mod revision of a key as this node has it now, if it exists, and the revision it was read at.
    pub fn mod_revision(&self, key: &[u8]) -> Result<(Revision, Option<Revision>), Error> {
        self.shared.state.mod_revision(key).map_err(|error| self.damaged(error))
    }

    /// Begins to wait for a change in a range; [`Error::TooManyWaiters`] where `limits.waiters` do. Whoever reads the range
    /// after that and waits then misses none.
    pub fn waiter(&self, range: KeyRange) -> Result<Waiter, Error> {
        self.shared.waiters.for_range(range)
    }

    pub(super) fn read_failed(&self, error: ReadError) -> Error {
        match error {
            ReadError::Compacted { asked, oldest } => Error::Compacted { asked, oldest },
            ReadError::Future { asked, newest } => Error::Future { asked, newest },
            ReadError::Store(error) => self.damaged(error),
        }
    }

    /// The state could not be read: the node stops, since nobody knows what else is damaged.
    pub fn damaged(&self, error: StoreError) -> Error {
        tracing::error!(%error, "the state could not be read");
        self.fail(error);
        Error::Storage
    }

    /// The revision that this node has applied.
    pub fn revision(&self) -> Revision {
        self.shared.state.revision()
    }

    /// The size of the state's file, in bytes.
    pub fn state_bytes(&self) -> u64 {
        self.shared.data.sizes().state_bytes
    }

    /// The oldest revision that can be read here.
    pub fn compacted(&self) -> Revision {
        self.shared.state.compacted()
    }

    /// Whether this node can serve linearizable requests now; if not, why.
    pub async fn ready(&self) -> Result<(), String> {
        Stillness::of(&self.shared.life).judge()?;
        let deadline = Instant::now() + INSPECT_TIMEOUT;
        let barrier = self.read_barrier(Consistency::Linearizable, None, deadline);
        barrier.await.map_err(|error| error.to_string())
    }

    /// Whether the process can do its work; if not, why. Its workers must get further, each within its own bound,
    /// also while the node replays its log.
    pub async fn healthy(&self) -> Result<(), String> {
        let asked = self.ask_how();
        if let Err(NotTaken::Closed) = asked {
            return Err(Error::ShuttingDown.to_string());
        }
        let answers = match asked {
            Ok(answer) => timeout(INSPECT_TIMEOUT, answer).await.is_ok_and(|answer| answer.is_ok()),
            // So many ask that one more learns nothing else: whether the thread turns, its signs of life say.
            Err(_) => true,
        };
        let stillness = Stillness::of(&self.shared.life);
        if !answers && !stillness.carries_out() {
            return Err("the replica thread does not answer".to_owned());
        }
        stillness.judge()
    }

    /// Whether the node is stopping, or has to, since it was put out or its replica has ended: nothing comes of waiting
    /// for a leader.
    pub fn is_stopping(&self) -> bool {
        let (stopping, removed) = (*self.shared.stopping.borrow(), *self.shared.removed.borrow());
        stopping || removed || self.shared.mailbox.is_closed()
    }

    /// This node's role, term and leader, as of the last change.
    pub fn standing(&self) -> SoftState {
        *self.shared.standing.borrow()
    }

    /// The name of the node with that identity, as the membership has it.
    pub fn name_of(&self, id: NodeId) -> Option<String> {
        if id == self.shared.id {
            return Some(self.shared.config.name.to_string());
        }
        let membership = self.shared.membership.borrow();
        membership.as_ref()?.members.get(&id).map(|member| member.name.clone())
    }

    /// What clients may send.
    pub fn limits(&self) -> &Limits {
        &self.shared.limits
    }

    /// Hashes of the state at some indexes.
    pub(super) fn marks(&self) -> Vec<Mark> {
        self.shared.state.marks()
    }

    pub(super) fn state(&self) -> &State {
        &self.shared.state
    }

    pub(super) fn cluster_name(&self) -> String {
        self.shared.config.cluster.to_string()
    }

    pub(super) fn name(&self) -> String {
        self.shared.config.name.to_string()
    }

    pub(super) fn id(&self) -> NodeId {
        self.shared.id
    }

    pub(super) fn net(&self) -> &Net {
        &self.shared.net
    }

    pub(super) fn tell(&self, notice: Notice) {
        self.shared.mailbox.tell(notice);
    }

    /// Stops the node, with what happened.
    pub(super) fn fail(&self, error: StoreError) {
        self.shared.mailbox.fail(error);
    }

    /// A peer says how much room its disk has. It says so again, so that one that is lost does no harm.
    pub(super) fn peer_room(&self, peer: NodeId, room: Room) {
        let _ = self.shared.mailbox.direct(Control::PeerRoom { peer, room });
    }

    /// The shortest election time-out.
    pub(super) fn election_timeout(&self) -> Duration {
        self.shared.config.raft.election_timeout
    }

    /// The time between two heartbeats.
    pub(super) fn heartbeat(&self) -> Duration {
        self.shared.config.raft.heartbeat
    }

    /// The membership in force; none before there is one.
    pub(super) fn membership(&self) -> Option<Membership> {
        self.shared.membership.borrow().clone()
    }

    /// How many nodes have a vote; 0 before there is a membership.
    pub(super) fn voters(&self) -> usize {
        self.shared.membership.borrow().as_ref().map_or(0, |membership| membership.voters.len())
    }

    /// Where this node is reached, beside its identity.
    pub(super) fn own_addresses(&self) -> (NodeId, Addresses) {
        let config = &self.shared.config;
        let (raft, http) = (config.raft_address().to_string(), config.http_address().to_string());
        (self.shared.id, Addresses { raft, http })
    }

    /// Follows the membership in force.
    pub(super) fn watch_membership(&self) -> watch::Receiver<Option<Membership>> {
        self.shared.membership.clone()
    }

    /// Whether this node can tell who belongs to the cluster: it must be a member in the newest membership that it
    /// knows of. What others have is older than what is decided, too, but not for long.
    pub fn knows_members(&self) -> Result<(), Error> {
        if self.shared.membership.borrow().is_none() {
            return Err(Error::NoCluster);
        }
        match *self.shared.removed.borrow() || self.shared.net.roster().is_outside() {
            true => Err(Error::NotAMember),
            false => Ok(()),
        }
    }

    /// Waits until the cluster has put this node out.
    pub(super) async fn put_out(&self) {
        if self.shared.removed.clone().wait_for(|removed| *removed).await.is_err() {
            // The node stops, which says nothing.
            std::future::pending::<()>().await;
        }
    }

    /// Follows what is applied.
    pub(super) fn watch_applied(&self) -> watch::Receiver<Index> {
        self.shared.applied.clone()
    }

    /// Follows what the state's file holds.
    pub(super) fn watch_checkpoints(&self) -> watch::Receiver<Index> {
        self.shared.checkpoints.clone()
    }

    /// Follows this node's standing.
    pub(super) fn watch_standing(&self) -> watch::Receiver<SoftState> {
        self.shared.standing.clone()
    }

    /// How far everybody is, if this node leads.
    pub(super) async fn progress(&self) -> Option<LeaderProgress> {
        let summary = self.inspect().await?;
        let leads = summary.role == RoleName::Leader;
        leads.then(|| progress_of(self.shared.id, &summary))
    }

    pub(super) async fn ask_progress(&self, leader: NodeId) -> Option<LeaderProgress> {
        let request = peer_request::encode(&PeerRequest::Progress);
        let deadline = Instant::now() + INSPECT_TIMEOUT;
        let bytes = self.shared.net.request(leader, request, deadline).await.ok()?;
        match peer_request::decode(&bytes)? {
            PeerReply::Progress(progress) => progress,
            _ => None,
        }
    }

    pub(super) async fn inspect(&self) -> Option<Summary> {
        timeout(INSPECT_TIMEOUT, self.ask_how().ok()?).await.ok()?.ok()
    }

    fn ask_how(&self) -> Result<oneshot::Receiver<Summary>, NotTaken> {
        let (reply, answer) = oneshot::channel();
        self.shared.mailbox.ask_how(Question(reply)).map(|()| answer)
    }
}

pub(super) fn progress_of(own: NodeId, summary: &Summary) -> LeaderProgress {
    let mut matched: Vec<_> = summary.peers.iter().map(|peer| (peer.id, peer.matched.0)).collect();
    matched.push((own, summary.last.0));
    let active = summary.peers.iter().filter(|peer| peer.active).map(|peer| peer.id).collect();
    LeaderProgress { last: summary.last.0, matched, active }
}
