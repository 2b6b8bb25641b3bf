//! What no honest node says, whatever has happened.

use super::broken::Doubt;
use super::core::Core;
use super::id::{Index, LogId, Term};
use super::membership::Membership;
use super::message::Body;
use super::replication::is_consecutive;

/// Terms beyond this come from nobody honest: a term a nanosecond would take a century.
pub(super) const TERM_MAX: Term = Term(1 << 62);
/// Nor does one that is so far ahead of this node's: that many elections in a row take years. So nobody can use
/// the terms up.
pub(super) const TERM_LEAP_MAX: u64 = 1 << 32;
/// Indexes beyond this come from nobody honest.
pub(super) const INDEX_MAX: Index = Index(1 << 62);

pub(super) fn is_from_leader(body: &Body) -> bool {
    matches!(body, Body::Append { .. } | Body::Heartbeat { .. } | Body::Snapshot { .. })
}

/// Whether a message in `term` could come from an honest node, by itself.
pub(super) fn is_sound(body: &Body, term: Term) -> bool {
    let real = |id: &LogId| {
        id.index <= INDEX_MAX && id.term <= term && (id.index == Index(0)) == (id.term == Term(0))
    };
    match body {
        Body::Append { prev, entries, .. } => {
            real(prev)
                && is_consecutive(*prev, entries)
                && entries.iter().all(|entry| real(&entry.id))
        }
        Body::PreVote { last } | Body::Vote { last, .. } | Body::Snapshot { last } => real(last),
        Body::AppendReject { prev, hint } => *prev <= INDEX_MAX && real(hint),
        _ => true,
    }
}

/// Why a snapshot that is in the state's place cannot be one of what was decided.
pub(super) fn doubt(
    core: &Core,
    leads: bool,
    last: LogId,
    membership: &Membership,
) -> Option<Doubt> {
    let held = core.log.term_at(last.index) == Some(last.term);
    // Who belongs to no cluster yet may have heard of another one since it took the snapshot in.
    let belongs = core.membership().map(|own| own.cluster);
    if belongs.is_some_and(|own| own != membership.cluster) {
        Some(Doubt::OtherCluster(membership.cluster))
    } else if let Some(held) = core.contradicted(last) {
        Some(Doubt::ContradictsCommitted(held.term))
    } else if last.term > core.term() {
        Some(Doubt::NewerTerm)
    } else if leads && !held && last.index > core.log.commit() {
        Some(Doubt::UnknownToLeader)
    } else {
        (last.index > INDEX_MAX).then_some(Doubt::TooFar)
    }
}
