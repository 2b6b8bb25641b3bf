//! How fresh a read is, and waiting for changes.

use std::time::Instant;

use tokio::sync::oneshot;
use tokio::time::timeout_at;

use crate::api::{Consistency, Error, Freshness, Wait};
use crate::kv::{KeyRange, Revision};
use crate::raft::Refused;
use crate::server::allowed::Allowed;
use crate::server::handle::Handle;
use crate::server::run::event::Request;
use crate::server::run::mailbox::NotTaken;
use crate::server::watch::waiters::Waiter;

impl Handle {
    /// Waits until this node's state is as fresh as asked for.
    pub async fn reach(&self, freshness: Freshness, deadline: Instant) -> Result<(), Error> {
        let Freshness { consistency, at, min_revision } = freshness;
        // A revision never changes once it exists, so a node that has it need ask nobody.
        if let Some(at) = at
            && at.max(min_revision.unwrap_or_default()) <= self.revision()
            && consistency != Consistency::Lease
        {
            return Ok(());
        }
        self.read_barrier(consistency, min_revision, deadline).await
    }

    /// Waits until a local read is as fresh as asked for, and has seen `min_revision`.
    pub(crate) async fn read_barrier(
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
            Some(wanted) if self.revision() >= wanted => Ok(()),
            // The leader's answer to a question tells what is committed, whatever comes of the question.
            Some(wanted) if consistency == Consistency::Stale => tokio::select! {
                biased;
                reached = self.reach_revision(wanted, deadline) => reached,
                Ok(()) = self.read_index(false, deadline) => {
                    self.reach_revision(wanted, deadline).await
                }
            },
            Some(wanted) => self.reach_revision(wanted, deadline).await,
        }
    }

    /// Waits until this node has applied that revision.
    async fn reach_revision(&self, wanted: Revision, deadline: Instant) -> Result<(), Error> {
        while self.revision() < wanted {
            let waiter = self.shared.waiters.for_revision(wanted)?;
            if self.revision() < wanted && !waiter.woken(deadline).await {
                return Err(Error::ReadTimedOut);
            }
        }
        Ok(())
    }

    async fn read_index(&self, lease: bool, deadline: Instant) -> Result<(), Error> {
        let mut leaders = self.leaders(deadline);
        loop {
            // Whoever it is: the replica asks it.
            leaders.next().await?;
            let (reply, answer) = oneshot::channel();
            match self.shared.mailbox.try_send(Request::Read { lease, reply }) {
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
    }

    /// Begins to wait for a change of the key; [`Error::TooManyWaiters`] where `limits.waiters` do. Whoever reads it
    /// after that and waits then misses none.
    pub fn waiter(&self, wait: &Allowed<Wait>) -> Result<Waiter, Error> {
        let Wait(get) = &**wait;
        self.shared.waiters.for_range(KeyRange::key(&get.key))
    }
}
