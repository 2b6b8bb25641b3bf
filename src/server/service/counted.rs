//! Writes that go through ranges, at the leader, which lets none into the log that would take long to apply.
//!
//! A command says how many keys it may look at. It cannot count the rows of deletions that compaction has reached: each
//! replica removes these when it comes to them, and all have to come to the same result. But the leader can, before it
//! takes the command in. Other replicas look at more rows only by as many as they are behind with removing them.

use std::time::Instant;

use crate::api::{Consistency, Error};
use crate::kv::{Outcome, Reply, Write};
use crate::replica::Origin;
use crate::replica::forwarding::{Cause, Fate};
use crate::server::handle::Handle;
use crate::server::run::event::Asker;
use crate::store::Counted;

impl Handle {
    /// Carries a write out if this node leads: all of it, none, or as much of it as a step may take.
    pub(super) async fn count_and_propose(
        &self,
        mut write: Write,
        origin: Origin,
        from: Asker,
        deadline: Instant,
    ) -> Result<Reply, Fate> {
        if self.standing().leader != Some(self.shared.id) {
            return Err(Fate::Again);
        }
        // A refusal is an answer about what there is: no older than the question.
        self.read_barrier(Consistency::Linearizable, None, deadline).await.map_err(not_begun)?;
        let counted = self.count(&write, deadline).await.map_err(not_begun)?;
        let refused = |outcome| Ok(Reply { revision: self.revision(), outcome });
        let mut rest = None;
        match (counted, &mut write) {
            (Counted::Fits, _) => {}
            (Counted::UpTo(key), Write::DeleteStep { range, .. }) => {
                range.end = Some(key.clone());
                rest = Some(key);
            }
            (Counted::UpTo(_), _) => return refused(Outcome::TooManyKeys),
            (Counted::TooManyBytes, _) => return refused(Outcome::TooManyBytes),
        }
        let mut reply = self.propose(write, origin, from, deadline).await?;
        if let Outcome::Stepped { next, .. } = &mut reply.outcome {
            *next = next.take().or(rest);
        }
        Ok(reply)
    }
}

/// What becomes of a write that was not taken into the log.
fn not_begun(error: Error) -> Fate {
    match error {
        Error::NoLeader | Error::NoElection(_) | Error::ShuttingDown => Fate::Again,
        _ => Fate::NotApplied(Cause::Busy),
    }
}
