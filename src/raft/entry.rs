//! What the log holds.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::id::{Index, LogId, NodeId, Term};
use super::membership::Membership;

/// One entry of the log.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Entry {
    /// Where it stands and who created it.
    pub id: LogId,
    /// What it says.
    pub payload: Payload,
}

/// What an entry says. The order of the variants is part of the disk and wire format.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Payload {
    /// Nothing: a new leader's first entry, by which it commits what came before (section 8).
    Noop,
    /// A command of the state machine, opaque to the protocol.
    Command(Bytes),
    /// The membership from here on, in force as soon as it is in the log (section 6).
    Membership(Membership),
}

impl Payload {
    /// The command, if it says one.
    pub fn command(&self) -> Option<&Bytes> {
        match self {
            Payload::Command(command) => Some(command),
            Payload::Noop | Payload::Membership(_) => None,
        }
    }
}

impl Entry {
    /// The bytes that this entry counts for in windows, batches and the tail: its payload and a
    /// constant for everything around it.
    pub fn cost_bytes(&self) -> usize {
        const OVERHEAD_BYTES: usize = 32;
        OVERHEAD_BYTES
            + match &self.payload {
                Payload::Noop => 0,
                Payload::Command(command) => command.len(),
                Payload::Membership(membership) => 64 * membership.members.len(),
            }
    }
}

/// What a node must remember across a restart besides its log (figure 2 of the paper), and how far
/// it knew the log to be committed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct HardState {
    /// The newest term that the node has seen.
    pub term: Term,
    /// Whom it voted for in that term.
    pub vote: Option<NodeId>,
    /// A lower bound of the commit index. Only a hint: it saves work after a restart.
    pub commit: Index,
}
