//! Deletions of ranges at the leader, which lets none into the log that would take long to apply.
//!
//! A command says how many keys it may delete. It cannot count the rows of deletions that compaction has reached: each
//! replica removes these when it comes to them, and all have to come to the same result. But the leader can, before it
//! takes the command in. Other replicas look at more rows only by as many as they are behind with removing them.

use std::time::Instant;

use crate::api::{Consistency, Error};
use crate::kv::{KeyRange, Outcome, Reply, Write};
use crate::replica::forwarding::{Cause, Fate};
use crate::server::handle::Handle;
use crate::server::run::event::Asker;
use crate::store::Counted;

/// What a [`Write::DeleteUpTo`] asks for.
pub(super) struct Deletion {
    pub(super) range: KeyRange,
    pub(super) keys_max: u64,
    pub(super) in_steps: bool,
}

impl Handle {
    /// Carries a deletion out if this node leads: all of it, none, or as much of it as a step may take.
    pub(super) async fn delete_here(
        &self,
        deletion: Deletion,
        from: Asker,
        deadline: Instant,
    ) -> Result<Reply, Fate> {
        let Deletion { mut range, keys_max, in_steps } = deletion;
        if self.standing().leader != Some(self.shared.id) {
            return Err(Fate::Again);
        }
        // A refusal is an answer about what there is: no older than the question.
        self.read_barrier(Consistency::Linearizable, None, deadline).await.map_err(not_begun)?;
        let counted = self.count(range.clone(), keys_max, deadline).await.map_err(not_begun)?;
        let rest = match counted {
            Counted::Fits => None,
            Counted::UpTo(_) if !in_steps => {
                return Ok(Reply { revision: self.revision(), outcome: Outcome::TooManyKeys });
            }
            Counted::UpTo(key) => Some(key),
        };
        if let Some(rest) = &rest {
            range.end = Some(rest.clone());
        }
        let write = Write::DeleteUpTo { range, keys_max, in_steps };
        let mut reply = self.propose(write, from, deadline).await?;
        if let Outcome::DeletedInPart { next, .. } = &mut reply.outcome {
            *next = next.take().or(rest);
        }
        Ok(reply)
    }
}

/// What becomes of a deletion that was not taken into the log.
fn not_begun(error: Error) -> Fate {
    match error {
        Error::NoLeader | Error::NoElection(_) | Error::ShuttingDown => Fate::Again,
        _ => Fate::NotApplied(Cause::Busy),
    }
}
