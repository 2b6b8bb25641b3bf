//! What a node asks of other nodes, and where a request goes: to the leader, whoever that is by then.

mod ask;
pub(super) mod at_leader;
mod leaderless;
pub mod passed_on;
