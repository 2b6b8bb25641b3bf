//! What a node asks of other nodes, and where a request goes: to the leader, whoever that is by then.

pub(super) mod leaderless;
