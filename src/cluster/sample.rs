//! Memberships for tests.

use super::{Addresses, ClusterView, Known, Own, Roster};
use crate::raft::{ClusterId, Index, LogId, Member, Membership, NodeId, Term};

/// Everybody answers and lacks nothing.
pub(super) const HERE: ClusterView<'_> = ClusterView { reachable: &|_| true, lag: &|_| Some(0) };

pub(super) fn addresses(host: &str) -> Addresses {
    Addresses { raft: format!("{host}:1"), http: format!("{host}:2") }
}

pub(super) fn member(name: &str) -> Member {
    let Addresses { raft, http } = addresses(name);
    let name = name.to_owned();
    Member {
        name,
        raft_address: raft,
        http_address: http,
        seen: true,
        promote: false,
        replaces: None,
    }
}

/// Voters n1, n2 and so on under their numbers.
pub(super) fn voters(numbers: impl IntoIterator<Item = u64>) -> Membership {
    let numbers: Vec<u64> = numbers.into_iter().collect();
    Membership {
        cluster: ClusterId(1),
        members: numbers.iter().map(|&n| (NodeId(n), member(&format!("n{n}")))).collect(),
        voters: numbers.iter().copied().map(NodeId).collect(),
        outgoing: None,
    }
}

/// An entry of term 1.
pub(super) fn entry(at: u64) -> LogId {
    LogId::new(Term(1), Index(at))
}

pub(super) fn known(at: u64, membership: Membership) -> Known {
    Known { at: Index(at), term: Term(1), membership }
}

/// What n`number` knows, whose log states `membership` at `at`, committed.
pub(super) fn roster(number: u64, at: u64, membership: Membership) -> Roster {
    let mut roster = empty(number);
    roster.follow((Some((entry(at), membership.clone())), Some(known(at, membership))));
    roster
}

/// What n`number` knows with an empty directory and a configuration of n1 to n3.
pub(super) fn empty(number: u64) -> Roster {
    let configured = (1..=3).map(|n| (format!("n{n}"), format!("n{n}:1")));
    Roster::new(Own { name: format!("n{number}"), id: NodeId(number) }, configured.collect())
}
