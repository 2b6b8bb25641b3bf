//! Changes of the membership that operators ask for.

use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio::time::timeout_at;

use crate::api::{
    self, Caller, ChangeError, Error, MemberChange, MemberInfo, Members, TransferError,
};
use crate::cluster::change::warnings;
use crate::cluster::reconcile::has_place;
use crate::cluster::{Addresses, Change, ChangeRefused, Shown};
use crate::net::{PeerStatus, RequestError};
use crate::raft::{Membership, NodeId, Refused};
use crate::replica::{ChangeFailed, Proposed, Step};
use crate::server::allowed::Allowed;
use crate::server::handle::Handle;
use crate::server::peer::at_leader::Leader;
use crate::server::run::event::Control;
use crate::server::run::mailbox::NotTaken;
use crate::server::wire::{Asked, ChangeOutcome, Operation, PeerReply};

impl From<ChangeRefused> for ChangeError {
    fn from(refused: ChangeRefused) -> ChangeError {
        let text = refused.to_string();
        match refused {
            ChangeRefused::NoSuchMember { .. } => ChangeError::NoSuchMember(text),
            _ => ChangeError::Refused(text),
        }
    }
}

impl From<MemberChange> for Operation {
    fn from(change: MemberChange) -> Operation {
        let at = |at: api::Addresses| Addresses { raft: at.raft, http: at.http };
        Operation::Change(match change {
            MemberChange::Undo => return Operation::Undo,
            MemberChange::Add { name, addresses, promote } => {
                Change::Add { name, addresses: at(addresses), promote }
            }
            MemberChange::Remove { name } => Change::Remove { name },
            MemberChange::Promote { name } => Change::Promote { name },
            MemberChange::Replace { name, addresses } => {
                Change::Replace { name, addresses: addresses.map(at) }
            }
        })
    }
}

impl Operation {
    fn puts_out(&self, name: &str) -> bool {
        matches!(self, Operation::Change(change) if change.puts_out(name))
    }

    fn step(&self, force: bool) -> Step {
        match self {
            Operation::Change(change) => Step::Operator { change: change.clone(), force },
            Operation::Undo => Step::Undo { force },
        }
    }
}

impl<E: Into<ChangeError>> From<E> for ChangeOutcome {
    fn from(error: E) -> ChangeOutcome {
        ChangeOutcome::Not(error.into())
    }
}

impl Handle {
    /// Changes the membership, here or at the leader, and waits until the change is complete. What `force`
    /// overrides the refusals name; see [`crate::cluster::change::change`].
    ///
    /// A leader that is to go hands over first. A change that is under way is undone if that is safe; with `force` and
    /// without a leader at any risk: if the other side of the change has decided without this one, two clusters go on.
    pub async fn change(
        &self,
        change: Allowed<MemberChange>,
        force: bool,
        deadline: Instant,
    ) -> Result<Members, ChangeError> {
        let caller = change.caller().clone();
        self.operate(&caller, change.into_request().into(), force, deadline).await
    }

    async fn operate(
        &self,
        caller: &Caller,
        operation: Operation,
        force: bool,
        deadline: Instant,
    ) -> Result<Members, ChangeError> {
        let undoes = operation == Operation::Undo;
        let patience = deadline.min(Instant::now() + LEADER_PATIENCE * self.election_timeout());
        let leaders = self.leaders(deadline).of_members();
        let mut leaders = if undoes { leaders.patient_until(patience) } else { leaders };
        loop {
            let outcome = match leaders.next().await {
                Ok(Leader::Here) => self.operate_here(caller, &operation, force, deadline).await,
                Ok(Leader::There(leader)) => {
                    self.forward_change(leader, caller, &operation, force, deadline).await
                }
                Err(Error::NoLeader | Error::NoElection(_))
                    if undoes && leaders.tried().is_some_and(|tried| tried.leader.is_none()) =>
                {
                    return self.undo_without_leader(force, deadline).await;
                }
                Err(error) => return Err(error.into()),
            };
            match outcome {
                ChangeOutcome::Done(members) => return Ok(members),
                ChangeOutcome::Not(error) => return Err(error),
                ChangeOutcome::NotLeader => {}
            }
        }
    }

    /// No leader can be elected: perhaps since one side of the change cannot be reached.
    async fn undo_without_leader(
        &self,
        force: bool,
        deadline: Instant,
    ) -> Result<Members, ChangeError> {
        let Some(now) = self.membership() else { return Err(Error::NoLeader.into()) };
        if now.outgoing.is_none() {
            return Err(self.without_leader(Error::NoLeader).into());
        }
        if !force {
            return Err(ChangeRefused::UndecidedWithoutLeader.into());
        }
        tracing::warn!("an operator takes the risk to undo the change of the membership");
        let mut membership = self.watch_membership();
        loop {
            // It stands for election, and again if that fails.
            let _ = self.change_membership(Step::Undo { force }).await;
            let until = deadline.min(Instant::now() + 2 * self.election_timeout());
            let undone =
                membership.wait_for(|now| now.as_ref().is_some_and(|now| now.outgoing.is_none()));
            match timeout_at(until.into(), undone).await {
                Ok(Ok(_)) => break,
                Ok(Err(_)) => return Err(Error::ShuttingDown.into()),
                Err(_) if until == deadline => return Err(Error::Unknown.into()),
                Err(_) => {}
            }
        }
        self.members().ok_or(Error::Unknown.into())
    }

    async fn forward_change(
        &self,
        leader: NodeId,
        caller: &Caller,
        operation: &Operation,
        force: bool,
        deadline: Instant,
    ) -> ChangeOutcome {
        let left = deadline.saturating_duration_since(Instant::now());
        let asked = Asked::Change { operation: operation.clone(), force };
        let request = asked.passed_on(caller, left, self.peers_know_callers());
        match self.ask_leader(leader, &request, deadline).await {
            Ok(Some(PeerReply::Change(outcome))) => outcome,
            Err(RequestError::Unknown) if operation.puts_out(&self.name()) => {
                // The answer cannot come from whoever does not talk to this node any more. It hears from a
                // majority that it was put out, of whom some may lag.
                match timeout_at(deadline.into(), self.put_out()).await {
                    Ok(()) => self
                        .members_without_this()
                        .map_or(Error::Unknown.into(), ChangeOutcome::Done),
                    Err(_) => Error::Unknown.into(),
                }
            }
            Ok(_) | Err(RequestError::Unknown) => Error::Unknown.into(),
            Err(RequestError::NotSent) => ChangeOutcome::NotLeader,
        }
    }

    /// Does what is asked for if this node leads.
    pub(crate) async fn operate_here(
        &self,
        caller: &Caller,
        operation: &Operation,
        force: bool,
        deadline: Instant,
    ) -> ChangeOutcome {
        // Who runs into another change waits for it as long as one takes in a cluster that is well.
        let patience = deadline.min(Instant::now() + self.election_timeout());
        let mut membership = self.watch_membership();
        loop {
            if membership.borrow_and_update().is_none() {
                return ChangeOutcome::NotLeader;
            }
            let refused = match self.change_membership(operation.step(force)).await {
                Ok(proposed) => return self.completed(&proposed, deadline).await,
                Err(ChangeFailed::Unneeded) => {
                    return self.members().map_or(Error::NoCluster.into(), ChangeOutcome::Done);
                }
                Err(ChangeFailed::OwnSeat) => {
                    return match self.hand_over(caller, None, deadline).await {
                        Ok(_) => ChangeOutcome::NotLeader,
                        Err(TransferError::Failed(error)) => error.into(),
                        Err(_) => Error::NotApplied.into(),
                    };
                }
                // The other change ends; whoever has just been counted answers the next heartbeat.
                Err(ChangeFailed::Refused(
                    refused @ (ChangeRefused::InProgress | ChangeRefused::QuorumAtRisk { .. }),
                )) => refused,
                Err(ChangeFailed::Refused(refused)) => return refused.into(),
                Err(ChangeFailed::NotTaken(refused)) => match refused {
                    Refused::ChangeInProgress | Refused::Transferring => ChangeRefused::InProgress,
                    Refused::NothingToUndo => return ChangeRefused::NothingToUndo.into(),
                    Refused::Busy => return Error::Busy.into(),
                    Refused::NotLeader { .. } => return ChangeOutcome::NotLeader,
                    Refused::UnfitMembership => return Error::NotApplied.into(),
                },
            };
            if Instant::now() >= patience {
                return refused.into();
            }
            let soon = patience.min(Instant::now() + RETRY_PAUSE);
            let _ = timeout_at(soon.into(), membership.changed()).await;
        }
    }

    /// Changes the membership as this node's replica sees it, if it leads.
    pub(crate) async fn change_membership(&self, step: Step) -> Result<Proposed, ChangeFailed> {
        let (reply, answer) = oneshot::channel();
        let event = Control::Change { step, hosts: self.shown(), reply };
        // Who stops leads no more. Whoever asks here then hears that the node shuts down, and a peer asks the next leader.
        let stops = Err(ChangeFailed::NotTaken(Refused::NotLeader { leader: None }));
        match self.shared.mailbox.try_send_control(event) {
            Ok(()) => answer.await.unwrap_or(stops),
            Err(NotTaken::Closed) => stops,
            Err(NotTaken::Full) => Err(ChangeFailed::NotTaken(Refused::Busy)),
        }
    }

    /// Who is connected, as each showed itself, this node included.
    fn shown(&self) -> Vec<Shown> {
        let (id, addresses) = self.own_addresses();
        let own = Shown { id, name: self.name(), addresses: Some(addresses) };
        let now = self.membership();
        let fits = |peer: &PeerStatus| has_place(peer.seat, &peer.name, now.as_ref());
        let connected = self.net().peers().into_iter().filter(|peer| peer.connected && fits(peer));
        let peers = connected.filter_map(|peer| {
            let said = peer.addresses.map(|said| Addresses { raft: said.raft, http: said.http });
            let addresses = said.filter(|said| !said.raft.is_empty() && !said.http.is_empty());
            Some(Shown { id: peer.node_id?, name: peer.name, addresses })
        });
        std::iter::once(own).chain(peers).collect()
    }

    /// Waits until the entry of a change, and the one that ends a joint phase after it, are applied.
    async fn completed(&self, proposed: &Proposed, deadline: Instant) -> ChangeOutcome {
        let at = proposed.at;
        let mut applied = self.watch_applied();
        let mut membership = self.watch_membership();
        let complete = async {
            applied.wait_for(|applied| *applied >= at.index).await.ok()?;
            if self.standing().term != at.term {
                return None;
            }
            // The leader goes on to the end of the joint phase by itself, and whoever follows it as well.
            let now = membership
                .wait_for(|now| now.as_ref().is_some_and(|now| now.outgoing.is_none()))
                .await
                .ok()?
                .clone()?;
            let last = self.progress().await?.last;
            applied.wait_for(|applied| applied.0 >= last).await.ok()?;
            if now.voters == proposed.before && now.voters != proposed.membership.voters {
                return Some(ChangeRefused::Undone.into());
            }
            // All of the log is applied: what is in force is decided.
            self.membership().map(|now| ChangeOutcome::Done(members_of(&now, true)))
        };
        match timeout_at(deadline.into(), complete).await {
            Ok(Some(outcome)) => outcome,
            // Another leads, or this node stops, or it takes too long: the change may yet be made.
            Ok(None) | Err(_) => Error::Unknown.into(),
        }
    }

    /// The members as this node knows them; none before there is a cluster.
    pub fn members(&self) -> Option<Members> {
        let now = self.membership()?;
        let decided = self.net().roster().newest().is_some_and(|known| known.membership == now);
        let mut members = members_of(&now, decided && self.hears_the_leader());
        members.warnings.extend(self.alarms());
        Some(members)
    }

    /// Whether this node leads, or is connected to who does. Whoever is put out is not from that moment on.
    fn hears_the_leader(&self) -> bool {
        let Some(leader) = self.standing().leader else { return false };
        let connected = |peer: &PeerStatus| peer.seat == leader && peer.connected;
        leader == self.id() || self.net().peers().iter().any(connected)
    }

    /// The members without this node, which was put out.
    fn members_without_this(&self) -> Option<Members> {
        let mut now = self.membership()?;
        now.members.remove(&self.id());
        now.voters.remove(&self.id());
        Some(members_of(&now, true))
    }
}

/// For how many election time-outs a leader is waited for before a change is undone without one.
const LEADER_PATIENCE: u32 = 3;
/// How long to wait for a leader that has just begun, or is handing over.
const RETRY_PAUSE: Duration = Duration::from_millis(20);

fn members_of(now: &Membership, decided: bool) -> Members {
    let info = |(&id, member): (&NodeId, &crate::raft::Member)| MemberInfo {
        name: member.name.clone(),
        id: member.seen.then(|| id.to_string()),
        raft_address: member.raft_address.clone(),
        http_address: member.http_address.clone(),
        voter: now.is_voter(id),
        promote: member.promote,
    };
    let mut members: Vec<MemberInfo> = now.members.iter().map(info).collect();
    members.sort_by(|a, b| a.name.cmp(&b.name));
    Members { members, warnings: warnings(now), decided: decided && now.outgoing.is_none() }
}
