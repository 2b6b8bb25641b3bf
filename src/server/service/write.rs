//! Writes, here or at the leader.

use std::time::Instant;

use tokio::sync::oneshot;
use tokio::time::timeout_at;

use crate::api::Error;
use crate::kv::{Reply, Write};
use crate::net::RequestError;
use crate::raft::NodeId;
use crate::replica::forwarding::{Cause, Fate, Passed};
use crate::server::handle::Handle;
use crate::server::peer::at_leader::Leader;
use crate::server::run::event::{Asker, Request};
use crate::server::run::mailbox::NotTaken;
use crate::server::wire::{PeerReply, PeerRequest};

impl Handle {
    /// Carries a write out, here or at the leader, and tells what became of it.
    ///
    /// It is tried again only where it certainly went nowhere; the deadline bounds the whole.
    pub async fn write(&self, write: Write, deadline: Instant) -> Result<Reply, Error> {
        let mut leaders = self.leaders(deadline);
        loop {
            let tried = match leaders.next().await? {
                Leader::Here => self.write_here(write.clone(), Asker::Client, deadline).await,
                Leader::There(leader) => self.forward(leader, write.clone(), deadline).await,
            };
            match tried {
                Ok(reply) => return Ok(reply),
                Err(Fate::Again) => {}
                Err(Fate::NotApplied(cause)) => return Err(cause.into()),
                Err(Fate::Unknown) => return Err(Error::Unknown),
            }
        }
    }

    /// Carries a write out if this node leads.
    pub(crate) async fn write_here(
        &self,
        write: Write,
        from: Asker,
        deadline: Instant,
    ) -> Result<Reply, Fate> {
        match write.counts_first() {
            true => self.count_and_propose(write, from, deadline).await,
            false => self.propose(write, from, deadline).await,
        }
    }

    /// Lets the replica take a write into the log, once there is room for it.
    pub(crate) async fn propose(
        &self,
        write: Write,
        from: Asker,
        deadline: Instant,
    ) -> Result<Reply, Fate> {
        let Some(_room) = self.shared.write_rooms.here.wait(write.cost_bytes(), deadline).await
        else {
            return Err(Fate::NotApplied(Cause::Busy));
        };
        let (reply, answer) = oneshot::channel();
        match self.shared.mailbox.try_send(Request::Write { write, from, reply }) {
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
        // It is in memory several times on its way.
        let Some(_room) =
            self.shared.write_rooms.passed_on.wait(write.cost_bytes(), deadline).await
        else {
            return Err(Fate::NotApplied(Cause::Busy));
        };
        let left = deadline.saturating_duration_since(Instant::now());
        let request = PeerRequest::Write { write, deadline: left };
        let passed = match self.ask_leader(leader, &request, deadline).await {
            Ok(Some(PeerReply::Write(result))) => Passed::Answered(result),
            Ok(Some(PeerReply::NotUnderstood)) => Passed::NotUnderstood,
            Ok(_) | Err(RequestError::Unknown) => Passed::NoAnswer,
            Err(RequestError::NotSent) => Passed::NotSent,
        };
        passed.outcome()
    }
}

impl From<Cause> for Error {
    fn from(cause: Cause) -> Error {
        match cause {
            Cause::Busy => Error::Busy,
            Cause::NoRoom => Error::DiskFull,
            Cause::Overwritten => Error::NotApplied,
            Cause::NotUnderstood => Error::NotUnderstood,
        }
    }
}
