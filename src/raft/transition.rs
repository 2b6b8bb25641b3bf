//! The ways from one role to another.

use super::id::{NodeId, Term};

/// A way from one role to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transition {
    /// To follow in `term`, which is the current one or newer.
    Follower { term: Term, leader: Option<NodeId> },
    /// To ask for pre-votes.
    PreCandidate,
    /// To stand in a new term; `transfer`: at the wish of the sitting leader.
    Candidate { transfer: bool },
    /// To lead.
    Leader,
}
