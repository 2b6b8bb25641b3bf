//! Writes, here or at the leader.

use std::time::Instant;

use tokio::sync::oneshot;
use tokio::time::timeout_at;

use crate::api::Error;
use crate::kv::{FeatureLevel, Name, Outcome, Reply, Write};
use crate::net::RequestError;
use crate::raft::NodeId;
use crate::replica::Origin;
use crate::replica::forwarding::{Cause, Fate, Passed};
use crate::server::allowed::Allowed;
use crate::server::handle::Handle;
use crate::server::peer::at_leader::Leader;
use crate::server::run::event::{Asker, Request};
use crate::server::run::mailbox::NotTaken;
use crate::server::wire::{Asked, PeerReply};

impl Handle {
    /// Carries a write out, here or at the leader, and tells what became of it.
    ///
    /// It is tried again only where it certainly went nowhere; the deadline bounds the whole.
    pub async fn write(&self, write: Allowed<Write>, deadline: Instant) -> Result<Reply, Error> {
        self.reach_level(write.level(), deadline).await?;
        let mut leaders = self.leaders(deadline);
        loop {
            let leader = leaders.next().await?;
            self.still_allowed(&write)?;
            let tried = match leader {
                Leader::Here => self.write_allowed(&write, Asker::Client, deadline).await?,
                Leader::There(leader) => self.forward(leader, &write, deadline).await,
            };
            match tried {
                Ok(reply) => return Ok(reply),
                Err(Fate::Again) => {}
                Err(Fate::NotApplied(cause)) => return Err(cause.into()),
                Err(Fate::Unknown) => return Err(Error::Unknown),
            }
        }
    }

    /// Waits until the cluster is raised to a feature level, as it is in a moment where all members know it.
    async fn reach_level(&self, wanted: FeatureLevel, deadline: Instant) -> Result<(), Error> {
        let mut level = self.shared.level.clone();
        if *level.borrow() >= wanted {
            return Ok(());
        }
        let reached = level.wait_for(|level| *level >= wanted);
        match timeout_at(deadline.into(), reached).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(Error::ShuttingDown),
            Err(_) => {
                let held = match &self.level_held_back_by()[..] {
                    [] => "a member cannot be reached, or features.hold keeps it".to_owned(),
                    names => format!("the release of {} does not know it", names.join(", ")),
                };
                Err(Error::LevelTooLow(format!(
                    "this takes feature level {wanted}, and the cluster is at {}: {held}",
                    self.state().level()
                )))
            }
        }
    }

    /// Carries a write out for somebody if this node leads: as long as that is allowed, which is found out anew where it has
    /// changed before the write was applied.
    pub(crate) async fn write_allowed(
        &self,
        write: &Allowed<Write>,
        from: Asker,
        deadline: Instant,
    ) -> Result<Result<Reply, Fate>, Error> {
        loop {
            let origin = Origin {
                caller: write.caller().user().map(Name::to_string),
                token: None,
                admitted: Some(self.still_allowed(write)?),
            };
            match self.write_here((**write).clone(), origin, from, deadline).await {
                Ok(Reply { outcome: Outcome::Outdated, .. }) if Instant::now() < deadline => {}
                Ok(Reply { outcome: Outcome::Outdated, .. }) => {
                    return Ok(Err(Fate::NotApplied(Cause::Busy)));
                }
                done => return Ok(done),
            }
        }
    }

    /// Carries a write out if this node leads, for whom `origin` says.
    pub(crate) async fn write_here(
        &self,
        write: Write,
        origin: Origin,
        from: Asker,
        deadline: Instant,
    ) -> Result<Reply, Fate> {
        match write.counts_first() {
            true => self.count_and_propose(write, origin, from, deadline).await,
            false => self.propose(write, origin, from, deadline).await,
        }
    }

    /// Lets the replica take a write into the log, once there is room for it.
    pub(crate) async fn propose(
        &self,
        write: Write,
        origin: Origin,
        from: Asker,
        deadline: Instant,
    ) -> Result<Reply, Fate> {
        let Some(_room) = self.shared.write_rooms.here.wait(write.cost_bytes(), deadline).await
        else {
            return Err(Fate::NotApplied(Cause::Busy));
        };
        let (reply, answer) = oneshot::channel();
        match self.shared.mailbox.try_send(Request::Write { write, origin, from, reply }) {
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
        write: &Allowed<Write>,
        deadline: Instant,
    ) -> Result<Reply, Fate> {
        // It is in memory several times on its way.
        let Some(_room) =
            self.shared.write_rooms.passed_on.wait(write.cost_bytes(), deadline).await
        else {
            return Err(Fate::NotApplied(Cause::Busy));
        };
        let left = deadline.saturating_duration_since(Instant::now());
        let asked = Asked::Write((**write).clone());
        let request = asked.passed_on(write.caller(), left, self.peers_know_callers());
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
            Cause::Forbidden => {
                Error::Forbidden("the leader does not allow it: rights have changed".to_owned())
            }
        }
    }
}
