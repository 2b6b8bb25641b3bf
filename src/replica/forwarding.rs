//! What became of a write that a node passed on to the leader, or took in itself: whether the node tries
//! again, says that it was not applied, or has to say that nobody knows.

use serde::{Deserialize, Serialize};

use super::WriteFailed;
use crate::kv::Reply;
use crate::raft::Refused;

/// Why a write has no reply, and what follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fate {
    /// It certainly went nowhere: whoever leads now is to be tried.
    Again,
    /// It was certainly not applied.
    NotApplied(Cause),
    /// It may have been applied, or may yet be.
    Unknown,
}

/// Why a write was not applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cause {
    /// Too much waits already.
    Busy,
    /// The leader's disk, or those of too many others, have little room.
    NoRoom,
    /// Another leader's entry was committed in its place.
    Overwritten,
    /// The node asked does not know such a write, or must not take one in yet.
    NotUnderstood,
    /// Whoever asks may not do it, or not any more.
    Forbidden,
}

impl From<WriteFailed> for Fate {
    /// What a leader found out about a write that it was to take in.
    fn from(failed: WriteFailed) -> Fate {
        match failed {
            WriteFailed::Refused(Refused::Busy) => Fate::NotApplied(Cause::Busy),
            WriteFailed::NoRoom => Fate::NotApplied(Cause::NoRoom),
            WriteFailed::NewerLevel => Fate::NotApplied(Cause::NotUnderstood),
            WriteFailed::Refused(_) => Fate::Again,
            WriteFailed::Overwritten => Fate::NotApplied(Cause::Overwritten),
            // A snapshot came over it: the entry may have been among what that holds.
            WriteFailed::Superseded => Fate::Unknown,
        }
    }
}

/// How the passing on of a write ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Passed {
    /// The node asked said what became of it.
    Answered(Result<Reply, Fate>),
    /// The node asked did not understand the request.
    NotUnderstood,
    /// It certainly did not arrive.
    NotSent,
    /// It may have arrived, and no answer came: the way was lost, the time is up, or another leads by now.
    NoAnswer,
}

impl Passed {
    /// What became of the write. It is passed on by one hop at most: who is asked and does not lead says `Again`.
    pub fn outcome(self) -> Result<Reply, Fate> {
        match self {
            Passed::Answered(result) => result,
            Passed::NotUnderstood => Err(Fate::NotApplied(Cause::NotUnderstood)),
            Passed::NotSent => Err(Fate::Again),
            Passed::NoAnswer => Err(Fate::Unknown),
        }
    }
}
