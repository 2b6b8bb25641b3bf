//! What a node publishes of itself, in an output only if it is news.

use super::core::Core;
use super::id::{Index, LogId, Term};
use super::io::SoftState;

/// What the last output said.
#[derive(Clone, Debug, Default, Hash)]
pub(super) struct Published {
    commit: Index,
    standing: Option<SoftState>,
    /// The term and index of the membership's entry.
    membership: Option<LogId>,
    /// The index from which on the committed membership is, and the term of the last entry that is committed.
    committed: Option<LogId>,
}

impl Published {
    /// Puts into the output what has changed since the last one.
    pub(super) fn publish(&mut self, core: &mut Core, standing: SoftState) {
        if self.standing != Some(standing) {
            self.standing = Some(standing);
            core.out.standing = Some(standing);
        }
        let commit = core.log.commit();
        if commit > self.commit {
            self.commit = commit;
            core.out.commit = Some(commit);
        }
        let log = &core.log;
        let in_force = log
            .membership()
            .map(|(index, _)| LogId::new(log.term_at(*index).unwrap_or_default(), *index));
        if in_force != self.membership {
            // An entry that left the memory has no term here any more, but it is the same entry.
            let same = matches!((in_force, self.membership), (Some(now), Some(told))
                if now.index == told.index && now.term == Term(0));
            if !same {
                self.membership = in_force;
                core.out.membership = core.membership().cloned();
            }
        }
        // Also once more in each term: as of later it is newer, though it is the same.
        let term = core.log.term_at(commit).unwrap_or_default();
        let committed = core.log.committed_membership();
        if let Some((index, membership)) = committed
            && self.committed.is_none_or(|told| told.index != *index || told.term < term)
        {
            self.committed = Some(LogId::new(term, *index));
            core.out.committed = Some((*index, membership.clone()));
        }
    }
}
