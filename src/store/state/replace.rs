//! When others take the place of the state's rows or of its members, in one step.

use std::sync::Arc;

use super::at_hand::AtHand;
use super::checkpoint;
use super::core::State;
use super::hashes::StateHashes;
use super::position::Position;
use super::view::FileView;
use crate::raft::{LogId, Membership};
use crate::store::error::StoreError;

impl State {
    /// The snapshot that took the state's place last: its last entry, and the membership as of then if
    /// nothing was applied since.
    pub fn installed(&self) -> Option<(LogId, Membership)> {
        let view = self.view();
        let (_, membership) = view.position.membership.clone()?;
        Some((view.installed?, membership))
    }

    /// Puts the rows that came in, and where they stand in the history, in the state's place, durably when it returns.
    /// Nothing may be applied meanwhile. False, and nothing is done, if they bring nothing new.
    pub(in crate::store) fn replace(&self, position: &Position) -> Result<bool, StoreError> {
        let _alone = self.writing.lock();
        if position.applied.index <= self.applied().index {
            return Ok(false);
        }
        checkpoint::install(&self.db, position)?;
        let view = Arc::new(FileView::open(&self.db, self.options.highest)?);
        // With what records hold of it.
        let position = view.position.clone();
        let mut shared = self.shared.write();
        let old = (
            std::mem::take(&mut shared.active),
            shared.frozen.take(),
            std::mem::replace(&mut shared.view, view),
            // Its rows, and those of the file that was.
            std::mem::replace(&mut shared.at_hand, AtHand::nothing(self.options.rows_bytes)),
        );
        shared.active_since = None;
        shared.durable = position.applied;
        self.access.store(position.counters.access.clone());
        shared.position = position;
        shared.installs += 1;
        // What was applied before belongs to the state that is gone.
        shared.hashes = StateHashes::default();
        drop(shared);
        if let Some(observer) = self.observer.get() {
            observer.replaced();
        }
        drop(old);
        checkpoint::remove_old(&self.db)?;
        // Of what was there when the file was opened nobody needs anything any more.
        self.verification.end();
        Ok(true)
    }

    /// Lets `members` be those of the state as of its last entry, as if a snapshot had brought it. Durable
    /// when it returns; all that is applied must be in the file. The state must be opened anew after it.
    pub(in crate::store) fn begin_anew(&self, members: Membership) -> Result<(), StoreError> {
        let mut position = self.view().position.clone();
        position.membership = Some((position.applied.index, members));
        checkpoint::rewrite(&self.db, &position)
    }
}
