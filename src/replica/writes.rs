//! Taking writes in: what the leader stamps on a command, and what it does not let into the log.

use super::effects::{Origin, RequestId, WriteFailed};
use super::{Input, Payload, ProposalId, Replica, RoleName};
use crate::kv::{Command, FeatureLevel, Header, Write};

impl Replica {
    /// Has a write proposed as a command, or says at once why not.
    pub(super) fn take_in(&mut self, id: RequestId, write: Write, origin: Origin) {
        if let Some(why) = self.refuses(&write) {
            self.effects.writes.push((id, Err(why)));
            return;
        }
        let leads = self.node.role() == RoleName::Leader;
        let ahead = leads && !self.state.has_at_hand(&write);
        let (level, clock_ms) = (self.state.level(), self.clock_ms());
        let Origin { caller, token, admitted } = origin;
        // Below that level commands cannot say it, and nothing can be taken from anybody.
        let admitted = admitted.filter(|_| level >= FeatureLevel::ACCESS);
        let header = Header { level, clock_ms, caller, token, admitted };
        let command = Command { header, write }.encode();
        if ahead {
            self.ahead.push(command.clone());
        }
        let payload = Payload::Command(command);
        self.node.step(Input::Propose { id: ProposalId(id.0), payload });
    }

    /// Why a write must not get into the log. Whoever passes one on may run a newer release than others: what the cluster
    /// has not been raised to would stop those before it.
    fn refuses(&self, write: &Write) -> Option<WriteFailed> {
        let reached = write.level() <= self.state.level();
        let known = match write {
            Write::Raise { level, .. } => *level <= self.state.highest(),
            _ => true,
        };
        if !reached || !known {
            return Some(WriteFailed::NewerLevel);
        }
        let no_room =
            self.capacities.refuses(&self.node) && !self.capacities.spares(&self.node, write);
        no_room.then_some(WriteFailed::NoRoom)
    }
}

#[cfg(test)]
#[path = "writes_tests.rs"]
mod tests;
