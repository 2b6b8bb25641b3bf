//! Where a request goes: here if this node leads, else to whoever does, and again to whoever leads next, until its deadline.

use std::time::Instant;

use tokio::sync::watch;

use crate::api::Error;
use crate::raft::{NodeId, SoftState};
use crate::server::handle::Handle;

/// Who leads, as far as this node knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leader {
    /// This node.
    Here,
    /// Another one.
    There(NodeId),
}

/// The leaders to try, one after the other.
pub(crate) struct Leaders<'a> {
    handle: &'a Handle,
    standing: watch::Receiver<SoftState>,
    deadline: Instant,
    /// Until when to wait where none is known.
    leaderless_until: Instant,
    of_members: bool,
    /// Who led when the last attempt was made; none before the first.
    tried: Option<SoftState>,
}

impl Handle {
    /// The leaders to try until the deadline. Whoever has tried one asks for the next only if nothing came of that.
    pub(crate) fn leaders(&self, deadline: Instant) -> Leaders<'_> {
        Leaders {
            handle: self,
            standing: self.watch_standing(),
            deadline,
            leaderless_until: deadline,
            of_members: false,
            tried: None,
        }
    }
}

impl Leaders<'_> {
    /// The same for what only a member may ask for.
    pub(crate) fn of_members(self) -> Self {
        Leaders { of_members: true, ..self }
    }

    /// The same, which waits no longer than until then where no leader is known.
    pub(crate) fn patient_until(self, leaderless_until: Instant) -> Self {
        Leaders { leaderless_until, ..self }
    }

    /// Who is to be tried next, once there is one: another than before, or the same after a moment.
    ///
    /// # Errors
    /// [`Error::ShuttingDown`], and why nobody leads once the time is up.
    pub(crate) async fn next(&mut self) -> Result<Leader, Error> {
        loop {
            if let Some(tried) = self.tried {
                let until = match tried.leader {
                    Some(_) => self.deadline,
                    None => self.leaderless_until,
                };
                self.handle.wait_for_leader(&mut self.standing, tried.leader, until).await?;
            }
            if self.of_members {
                self.handle.knows_members()?;
            }
            if self.handle.is_stopping() {
                return Err(Error::ShuttingDown);
            }
            let now = *self.standing.borrow_and_update();
            self.tried = Some(now);
            match now.leader {
                Some(leader) if leader == self.handle.id() => return Ok(Leader::Here),
                Some(leader) => return Ok(Leader::There(leader)),
                None => {}
            }
        }
    }

    /// The same, without a pause before one who was tried already: whoever asks so has waited for a change itself.
    pub(crate) async fn next_at_once(&mut self) -> Result<Leader, Error> {
        self.tried = None;
        self.next().await
    }

    /// Who led and in which term when [`Leaders::next`] looked last.
    pub(crate) fn tried(&self) -> Option<SoftState> {
        self.tried
    }

    /// This node's standing, to wait for a change.
    pub(crate) fn standing(&mut self) -> &mut watch::Receiver<SoftState> {
        &mut self.standing
    }
}
