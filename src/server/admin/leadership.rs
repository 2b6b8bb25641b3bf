//! Handing leadership over because somebody asks for it.

use std::time::Instant;

use tokio::time::timeout_at;

use crate::api::{Caller, Error, Leadership, Transfer, TransferError};
use crate::raft::NodeId;
use crate::server::allowed::Allowed;
use crate::server::handle::Handle;
use crate::server::peer::at_leader::Leader;
use crate::server::peer::passed_on;
use crate::server::run::event::Control;
use crate::server::wire::{Asked, PeerReply};

impl Handle {
    /// Hands leadership over to the member of that name, or to the voter that is furthest, and waits until it
    /// leads. A transfer that fails is begun again until the deadline, or until it is known that the voter cannot be
    /// reached. Nothing is done if it leads already.
    pub async fn transfer_leadership(
        &self,
        transfer: &Allowed<Transfer>,
        deadline: Instant,
    ) -> Result<Leadership, TransferError> {
        self.hand_over(transfer.caller(), transfer.to.as_deref(), deadline).await
    }

    /// The same, for whoever is known to be allowed.
    pub(super) async fn hand_over(
        &self,
        caller: &Caller,
        to: Option<&str>,
        deadline: Instant,
    ) -> Result<Leadership, TransferError> {
        self.knows_members()?;
        let name = to;
        let to = to.map(|name| self.voter(name)).transpose()?;
        if to.is_none() && self.voters() <= 1 {
            return Err(TransferError::Alone);
        }
        let mut leaders = self.leaders(deadline);
        let (mut first, mut tried, mut unheard_since) = (None, false, None);
        loop {
            let leader = match leaders.next_at_once().await? {
                Leader::Here => self.id(),
                Leader::There(leader) => leader,
            };
            let first = *first.get_or_insert(leader);
            if to.map_or(leader != first, |to| leader == to) {
                let leader = self.name_of(leader).unwrap_or_else(|| leader.to_string());
                let term = leaders.tried().map_or(0, |tried| tried.term.0);
                return Ok(Leadership { leader, term });
            }
            if Instant::now() >= deadline {
                return Err(if tried { Error::Unknown } else { Error::NoLeader }.into());
            }
            if let (Some(to), Some(name)) = (to, name)
                && self.is_heard(leader, to).await == Some(false)
            {
                // Whoever has just been counted answers the next heartbeat.
                let since = *unheard_since.get_or_insert_with(Instant::now);
                if since.elapsed() >= self.election_timeout() {
                    return Err(TransferError::Unreachable { name: name.to_owned(), tried });
                }
                let soon = deadline.min(Instant::now() + self.heartbeat());
                let _ = timeout_at(soon.into(), leaders.standing().changed()).await;
                continue;
            }
            (tried, unheard_since) = (true, None);
            // The leader gives a transfer up after an election time-out, and one that is gone never answers.
            let until = deadline.min(Instant::now() + self.election_timeout());
            self.ask_to_transfer(leader, caller, to, until).await?;
            let moved = leaders.standing();
            let moved = moved.wait_for(|now| now.leader.is_some_and(|now| now != leader));
            if let Ok(Err(_)) = timeout_at(until.into(), moved).await {
                return Err(Error::ShuttingDown.into());
            }
        }
    }

    /// Begins a transfer if this node leads. Whether one was begun shows in who leads.
    pub(crate) fn transfer_here(&self, to: Option<NodeId>) {
        let _ = self.shared.mailbox.try_send_control(Control::TransferLeadership { to });
    }

    async fn ask_to_transfer(
        &self,
        leader: NodeId,
        caller: &Caller,
        to: Option<NodeId>,
        deadline: Instant,
    ) -> Result<(), Error> {
        if leader == self.id() {
            self.transfer_here(to);
            return Ok(());
        }
        let left = deadline.saturating_duration_since(Instant::now());
        let asked = Asked::TransferLeadership { to };
        let request = asked.passed_on(caller, left, self.peers_know_callers());
        passed_on::note();
        // Whether it helped shows in who leads.
        match self.ask(leader, &request, deadline).await {
            Ok(Some(PeerReply::NotAllowed(error))) => return Err(error),
            Ok(_) => {}
            Err(error) => tracing::debug!(?error, "the leader could not be asked to hand over"),
        }
        Ok(())
    }

    /// Whether the leader has heard from a peer lately; none if it does not tell.
    async fn is_heard(&self, leader: NodeId, peer: NodeId) -> Option<bool> {
        let progress = match leader == self.id() {
            true => self.progress().await?,
            false => self.ask_progress(leader).await?,
        };
        Some(progress.active.contains(&peer))
    }

    fn voter(&self, name: &str) -> Result<NodeId, TransferError> {
        let Some(membership) = self.membership() else { return Err(Error::NoLeader.into()) };
        match membership.by_name(name) {
            Some((id, _)) if membership.voters.contains(&id) => Ok(id),
            Some(_) => Err(TransferError::Learner(name.to_owned())),
            None => {
                let names = membership.members.values().map(|member| member.name.as_str());
                let mut names: Vec<&str> = names.collect();
                names.sort_unstable();
                let members = names.join(", ");
                Err(TransferError::NoSuchMember { name: name.to_owned(), members })
            }
        }
    }
}
