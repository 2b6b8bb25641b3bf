//! What no honest node says, whatever has happened.

use super::id::{Index, LogId, Term};
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
