//! Changes of the membership (section 6) and of the leader (thesis 3.10).

use super::core::Core;
use super::entry::Payload;
use super::id::{LogId, NodeId, ProposalId};
use super::io::Refused;
use super::leader::{Leader, Transfer};
use super::membership::Membership;
use super::message::Body;
use super::progress::Sending;
use super::transition::Transition;

impl Leader {
    pub(super) fn change_members(&mut self, core: &mut Core, id: ProposalId, wanted: Membership) {
        let accepted = self.try_change_members(core, wanted);
        core.out.accepted.push((id, accepted));
    }

    fn try_change_members(
        &mut self,
        core: &mut Core,
        wanted: Membership,
    ) -> Result<LogId, Refused> {
        if self.transfer.is_some() {
            return Err(Refused::Transferring);
        }
        // Two changes at a time, or one before the first commit of the term, could let two disjoint
        // sets decide.
        let Some((index, now)) = core.log.membership() else {
            return Err(Refused::ChangeInProgress);
        };
        if !self.is_established(core) || *index > core.log.commit() || now.outgoing.is_some() {
            return Err(Refused::ChangeInProgress);
        }
        let next = Leader::next_membership(now, wanted).ok_or(Refused::UnfitMembership)?;
        let id = self.append(core, Payload::Membership(next));
        self.follow_membership(core, id.index);
        Ok(id)
    }

    /// Undoes the change that is under way, if that is safe.
    pub(super) fn undo_change(&mut self, core: &mut Core, id: ProposalId) {
        let undone = self.undo(core).ok_or(Refused::NothingToUndo);
        core.out.accepted.push((id, undone));
    }

    /// Appends the membership from before the joint one in force. Safe while that is not committed and this
    /// leader is established: nobody can have gone on from the joint phase then, and whoever wants to needs
    /// a majority of the outgoing voters as well. A joint one that is committed goes on at once.
    pub(super) fn undo(&mut self, core: &mut Core) -> Option<LogId> {
        let (index, now) = core.log.membership()?;
        if *index <= core.log.commit() || !self.is_established(core) || self.transfer.is_some() {
            return None;
        }
        let undone = now.undone()?;
        let id = self.append(core, Payload::Membership(undone));
        self.follow_membership(core, id.index);
        Some(id)
    }

    /// The commit index moved on. If the membership in force is committed, the change goes on: out of the joint
    /// phase, and out of office for a leader that is no voter, be it removed or a learner whose log was needed.
    pub(super) fn membership_committed(&mut self, core: &mut Core) -> Option<Transition> {
        let (index, membership) = core.log.membership()?;
        if *index > core.log.commit() {
            return None;
        }
        if let Some(outgoing) = &membership.outgoing {
            let mut members = membership.members.clone();
            members.retain(|node, _| membership.voters.contains(node) || !outgoing.contains(node));
            let last = Membership { members, outgoing: None, ..membership.clone() };
            let id = self.append(core, Payload::Membership(last));
            self.follow_membership(core, id.index);
            return None;
        }
        if !membership.voters.contains(&core.id()) {
            if let Some(heir) = self.best_voter(core) {
                core.send(heir, Body::TimeoutNow);
            }
            return Some(Transition::Follower { term: core.term(), leader: None });
        }
        None
    }

    /// The voter among the peers that holds most of the log, of those that answer.
    fn best_voter(&self, core: &Core) -> Option<NodeId> {
        let membership = core.membership()?;
        self.peers
            .iter()
            .filter(|(node, progress)| {
                membership.voters.contains(node)
                    && progress.active
                    && !matches!(progress.sending, Sending::Snapshot { .. })
            })
            .max_by_key(|(_, progress)| progress.matched)
            .map(|(&node, _)| node)
    }

    pub(super) fn transfer(&mut self, core: &mut Core, to: Option<NodeId>) {
        if self.transfer.is_some() {
            return;
        }
        let is_voter =
            |node: &NodeId| core.membership().is_some_and(|now| now.voters.contains(node));
        let to = to.or_else(|| self.best_voter(core)).filter(is_voter);
        if let Some(to) = to.filter(|to| self.peers.contains_key(to)) {
            self.transfer = Some(Transfer { to, ticks: 0, told: false });
            self.send_timeout_now_if_ready(core);
        }
    }

    /// Tells the receiver to stand once its log is complete.
    pub(super) fn send_timeout_now_if_ready(&mut self, core: &mut Core) {
        let last = core.log.last().index;
        let Some(transfer) = &mut self.transfer else { return };
        let ready = self.peers.get(&transfer.to).is_some_and(|progress| !progress.is_lagging(last));
        if ready && !transfer.told {
            transfer.told = true;
            // Voters help the receiver, whatever they heard of this leader; and it may stand late.
            self.lease.forfeit();
            core.send(transfer.to, Body::TimeoutNow);
        }
    }

    /// Gives up a transfer that takes longer than an election.
    pub(super) fn tick_transfer(&mut self, core: &Core) {
        if let Some(transfer) = &mut self.transfer {
            transfer.ticks += 1;
            if transfer.ticks >= core.config.election_ticks
                || !self.peers.contains_key(&transfer.to)
            {
                self.transfer = None;
            }
        }
    }
}
