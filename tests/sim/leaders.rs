//! What must hold of those who lead, and of the memberships that they lead by.

use std::collections::BTreeMap;

use konsen::raft::{Entry, HardState, Index, Membership, NodeId, Payload, RoleName, Term};
use konsen::replica::Summary;

use super::oracle::{Broken, Durable, Oracle, ensure};

impl Oracle {
    /// A host tells its role.
    pub(crate) fn leads(&mut self, id: NodeId, role: RoleName, term: Term) -> Result<(), Broken> {
        if role == RoleName::Leader {
            let first = *self.leaders.entry(term).or_insert(id);
            ensure!(first == id, "{first} and {id} both lead term {term}");
            // One that wins an old election late need not hold what later leaders have committed.
            let before = self.committed_in.iter().rposition(|&committed| committed < term);
            if let Some((entry, hash)) = before.map(|at| &self.committed[at]) {
                let index = entry.id.index;
                let held =
                    self.hosts.get(&id).and_then(|host| host.at(index)).map(|(_, held)| *held);
                ensure!(
                    held == Some(*hash),
                    "{id} leads {term} and does not hold what is committed at {index}"
                );
            }
        }
        Ok(())
    }

    /// What a leader is after a step.
    pub(super) fn stepped_as_leader(&mut self, id: NodeId, now: &Summary) -> Result<(), Broken> {
        if now.role != RoleName::Leader {
            return Ok(());
        }
        let host = self.host(id);
        if host.led != now.term {
            host.led = now.term;
            host.matched.clear();
        }
        // Only a founder leads before its disk knows the term.
        let HardState { term: written, vote, .. } = host.hard_state;
        ensure!(
            now.term == Term(1) || (written == now.term && vote == Some(id)),
            "{id} leads {}, its disk knows a vote for {vote:?} in {written}",
            now.term
        );
        let matched: BTreeMap<NodeId, Index> =
            now.peers.iter().map(|peer| (peer.id, peer.matched)).collect();
        let before = std::mem::replace(&mut host.matched, matched.clone());
        for (peer, index) in matched {
            let known = before.get(&peer).copied().unwrap_or_default();
            ensure!(index >= known, "{id} knew {peer} to be at {known}, now at {index}");
            let Some(other) = self.hosts.get(&peer) else { continue };
            let same = match (self.hosts[&id].at(index), other.at(index)) {
                (Some((_, own)), Some((_, held))) => own == held,
                _ => true,
            };
            ensure!(
                other.hard_state.term > now.term || same,
                "{id} believes {peer} to agree up to {index}, whose disk holds another entry there"
            );
            // A peer that has gone on to another leader may have cut off what it told this one.
            ensure!(
                other.hard_state.term > now.term || index <= other.last(),
                "{id} believes {peer} to be at {index}, whose disk holds {}",
                other.last()
            );
        }
        let host = self.host(id);
        // Which entry is in force is known here once all of the log is durable.
        if host.last() == now.last
            && let Some((entry, membership)) = host.stated()
        {
            // A learner whose vote was needed leads until it has committed something of its own.
            let committed = host.at(now.commit).map(|(committed, _)| committed.id.term);
            ensure!(
                entry.index > now.commit
                    || membership.outgoing.is_some()
                    || membership.voters.contains(&id)
                    || committed != Some(now.term),
                "{id} leads {}, and is no voter of the membership of {entry}, which is committed",
                now.term
            );
        }
        Ok(())
    }

    /// Nothing waits to be written, so the log is what the disk holds: what it states is in force.
    pub(crate) fn in_force(&self, id: NodeId, now: Option<&Membership>) -> Result<(), Broken> {
        let stated =
            self.hosts.get(&id).and_then(Durable::stated).map(|(_, membership)| membership);
        ensure!(now == stated, "{id} goes by {now:?}, its log states {stated:?}");
        self.holds_what_it_applied(id)
    }

    /// What is applied may become durable later, and what an older leader had put in its place may be written before.
    /// Once nothing waits to be written, the log holds it.
    fn holds_what_it_applied(&self, id: NodeId) -> Result<(), Broken> {
        let Some(host) = self.hosts.get(&id).filter(|host| host.behind.is_none()) else {
            return Ok(());
        };
        let applied = host.applied();
        let decided = applied.0.checked_sub(1).and_then(|at| self.committed.get(at as usize));
        let held = host.at(applied);
        ensure!(
            decided.map(|(_, hash)| hash) == held.map(|(_, hash)| hash),
            "{id} has applied up to {applied}, its log holds {} entries for certain, and there {:?}",
            host.last(),
            held.map(|(entry, _)| entry.id)
        );
        Ok(())
    }

    /// A membership enters a log: one change at a time, none before the leader has committed in its
    /// term, and no
    /// voters change but through a joint phase.
    pub(super) fn changes_in_order(&self, id: NodeId, entry: &Entry) -> Result<(), Broken> {
        let Payload::Membership(next) = &entry.payload else { return Ok(()) };
        let before = self.hosts.get(&id).and_then(Durable::stated);
        let Some((at, before)) = before else { return Ok(()) };
        let there = self.committed.get(at.index.0 as usize - 1);
        let decided = there.is_some_and(|(entry, _)| entry.id == at);
        // A joint change that is not decided may be undone; by the leader that began it also if it is decided
        // before that leader hears of it: nobody has gone on from it then.
        let same_leader = entry.id.term == at.term;
        let undone = (!decided || same_leader || self.undone.contains(&at.index))
            && next.outgoing.is_none()
            && before.outgoing.as_ref() == Some(&next.voters);
        ensure!(
            decided || undone,
            "{id} takes the membership of {} in, and that of {at} is not committed",
            entry.id
        );
        let of_term = self.committed.iter().rev().find(|(one, _)| one.id.term <= entry.id.term);
        let forced = undone && self.forced;
        ensure!(
            forced || of_term.is_some_and(|(one, _)| one.id.term == entry.id.term),
            "{id} takes the membership of {} in, before anything of its term is committed",
            entry.id
        );
        let follows = match &next.outgoing {
            Some(outgoing) => before.outgoing.is_none() && *outgoing == before.voters,
            None => undone || next.voters == before.voters,
        };
        ensure!(follows, "{id} goes from {before:?} to {next:?} in one step");
        Ok(())
    }
}
