//! The way into a running node: what everybody who asks something of it shares. What can be asked is in [`super::service`]
//! and [`super::admin`], where the rest of [`Handle`] is.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::time::timeout;

use super::certificates::Facts;
use super::limits::bytes;
use super::renewal::Renewal;
use super::run::answer_room::AnswerRoom;
use super::run::event::{Control, Notice, Question};
use super::run::lag::IsBehind;
use super::run::mailbox::{Mailbox, NotTaken};
use super::run::read_load::{ReadClient, ReadLoad};
use super::run::readers::Readers;
use super::run::write_room::WriteRooms;
use super::tally::Counts;
use super::watch::waiters::Waiters;
use crate::api::{Error, Limits, TxnLimits};
use crate::audit::Audit;
use crate::cluster::{Addresses, Settings};
use crate::config::Config;
use crate::kv::{AccessRevision, FeatureLevel, Revision};
use crate::net::Net;
use crate::raft::{Index, Membership, NodeId, SoftState};
use crate::replica::{Capacity, Summary};
use crate::store::{DataDir, HashAt, Life, ReadError, Space, State, StoreError};

/// How long a question about how things stand may take.
pub(super) const INSPECT_TIMEOUT: Duration = Duration::from_secs(1);

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
    pub(super) write_rooms: WriteRooms,
    pub(super) read_load: Arc<ReadLoad>,
    pub(super) life: Arc<Life>,
    pub(super) counts: Arc<Counts>,
    /// What is recorded of clients' requests, if anything is.
    pub(super) audit: Option<Arc<Audit>>,
    pub(super) facts: Arc<ArcSwap<Facts>>,
    pub(super) renewal: Arc<Renewal>,
    pub(super) answer_room: AnswerRoom,
    /// One permit for each backup that may be under way.
    pub(super) backups: Arc<Semaphore>,
    /// The largest answer that fits between nodes, in bytes.
    pub(super) frame_bytes_max: usize,
    pub(super) net: Net,
    pub(super) data: DataDir,
    pub(super) standing: watch::Receiver<SoftState>,
    pub(super) membership: watch::Receiver<Option<Membership>>,
    /// Since when a change of the membership has been under way, if one is.
    pub(super) joint_since: watch::Receiver<Option<Instant>>,
    /// Since when somebody has kept the feature level where it is, if somebody does.
    pub(super) held_back_since: watch::Receiver<Option<Instant>>,
    pub(super) applied: watch::Receiver<Index>,
    /// What the cluster has agreed on.
    pub(super) agreed: watch::Receiver<Option<Settings>>,
    /// The cluster's feature level, as this node has applied it.
    pub(super) level: watch::Receiver<FeatureLevel>,
    /// Who may do what, as this node has applied it.
    pub(super) access: watch::Receiver<AccessRevision>,
    pub(super) waiters: Arc<Waiters>,
    pub(super) readers: Readers,
    pub(super) checkpoints: watch::Receiver<Index>,
    pub(super) clock_ms: Arc<AtomicU64>,
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

    pub(super) fn read_failed(&self, error: ReadError) -> Error {
        match error {
            ReadError::Compacted { asked, oldest } => Error::Compacted { asked, oldest },
            ReadError::Future { asked, newest } => Error::Future { asked, newest },
            ReadError::Store(error) => self.damaged(error),
        }
    }

    /// The cluster's clock, as far as this node knows it: the time that the cluster had a leader.
    pub(crate) fn clock(&self) -> Duration {
        Duration::from_millis(self.shared.clock_ms.load(Ordering::Relaxed))
    }

    /// The state could not be read: the node stops, since nobody knows what else is damaged.
    pub(super) fn damaged(&self, error: StoreError) -> Error {
        tracing::error!(%error, "the state could not be read");
        self.fail(error);
        Error::Storage
    }

    /// One more client that may read.
    pub(crate) fn read_client(&self) -> ReadClient {
        self.shared.read_load.client()
    }

    /// Where requests of clients are recorded, if they are.
    pub(crate) fn audit(&self) -> Option<&Arc<Audit>> {
        self.shared.audit.as_ref()
    }

    /// What this node has counted.
    pub(crate) fn counts(&self) -> &Arc<Counts> {
        &self.shared.counts
    }

    /// The revision that this node has applied.
    pub fn revision(&self) -> Revision {
        self.shared.state.revision()
    }

    /// The oldest revision that can be read here.
    pub(super) fn compacted(&self) -> Revision {
        self.shared.state.compacted()
    }

    /// Whether the node is stopping, or has to, since it was put out or its replica has ended: nothing comes of waiting
    /// for a leader.
    pub fn is_stopping(&self) -> bool {
        let (stopping, removed) = (*self.shared.stopping.borrow(), *self.shared.removed.borrow());
        stopping || removed || self.shared.mailbox.is_closed()
    }

    /// This node's role, term and leader, as of the last change.
    pub(super) fn standing(&self) -> SoftState {
        *self.shared.standing.borrow()
    }

    /// The name of the node with that identity, as the membership has it.
    pub(super) fn name_of(&self, id: NodeId) -> Option<String> {
        if id == self.shared.id {
            return Some(self.shared.config.name.to_string());
        }
        let membership = self.shared.membership.borrow();
        membership.as_ref()?.members.get(&id).map(|member| member.name.clone())
    }

    /// What this node's configuration says that clients may send and hold. The largest value is another matter; see
    /// [`Handle::value_bytes_max`].
    pub fn limits(&self) -> &Limits {
        &self.shared.limits
    }

    /// The largest value that clients may send, in bytes: what the cluster has agreed on, once it did.
    pub fn value_bytes_max(&self) -> usize {
        let agreed = self.shared.state.settings();
        agreed.map_or(self.limits().value_bytes_max, |agreed| bytes(agreed.value_bytes_max))
    }

    /// What clients' transactions may be.
    pub fn txn_limits(&self) -> TxnLimits {
        let operations_max = self.limits().txn_operations_max;
        TxnLimits { operations_max, value_bytes_max: self.value_bytes_max() }
    }

    /// Hashes of the state at some indexes.
    pub(super) fn state_hashes(&self) -> Vec<HashAt> {
        self.shared.state.state_hashes()
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
        self.shared.mailbox.send(notice);
    }

    /// Stops the node, with what happened.
    pub(super) fn fail(&self, error: StoreError) {
        self.shared.mailbox.fail(error);
    }

    /// A peer says how much room its disk has. It says so again, so that one that is lost does no harm.
    pub(super) fn peer_capacity(&self, peer: NodeId, capacity: Capacity) {
        let _ = self.shared.mailbox.try_send_control(Control::PeerCapacity { peer, capacity });
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

    /// Follows what the cluster has agreed on.
    pub(super) fn watch_agreed(&self) -> watch::Receiver<Option<Settings>> {
        self.shared.agreed.clone()
    }

    /// Follows what the state's file holds.
    pub(super) fn watch_checkpoints(&self) -> watch::Receiver<Index> {
        self.shared.checkpoints.clone()
    }

    /// Follows this node's standing.
    pub(super) fn watch_standing(&self) -> watch::Receiver<SoftState> {
        self.shared.standing.clone()
    }

    /// How things stand; none if the replica does not answer.
    pub(super) async fn inspect(&self) -> Option<Summary> {
        timeout(INSPECT_TIMEOUT, self.ask_how().ok()?).await.ok()?.ok()
    }

    /// Asks the replica how things stand.
    pub(super) fn ask_how(&self) -> Result<oneshot::Receiver<Summary>, NotTaken> {
        let (reply, answer) = oneshot::channel();
        self.shared.mailbox.try_send_question(Question(reply)).map(|()| answer)
    }
}
