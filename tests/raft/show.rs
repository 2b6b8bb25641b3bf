//! How transcripts write things: short, one line each.

use konsen::raft::{Body, Entry, LogId, LogWrite, Membership, Message, NodeId, Payload, Refused};

pub(crate) fn payload(payload: &Payload) -> String {
    match payload {
        Payload::Noop => "noop".into(),
        Payload::Command(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) if text.len() <= 24 => text.to_string(),
            _ => format!("{} bytes", bytes.len()),
        },
        Payload::Membership(membership) => members(membership),
    }
}

pub(crate) fn members(membership: &Membership) -> String {
    let ids = |set: &mut dyn Iterator<Item = &NodeId>| {
        set.map(ToString::to_string).collect::<Vec<_>>().join(",")
    };
    let mut text = format!("voters {}", ids(&mut membership.voters.iter()));
    if let Some(outgoing) = &membership.outgoing {
        text += &format!(" outgoing {}", ids(&mut outgoing.iter()));
    }
    let mut learners = membership.members.keys().filter(|id| !membership.is_voter(**id)).peekable();
    if learners.peek().is_some() {
        text += &format!(" learners {}", ids(&mut learners));
    }
    text
}

pub(crate) fn entry(entry: &Entry) -> String {
    format!("{}:{}", entry.id, payload(&entry.payload))
}

/// A few entries in full, many as a range.
pub(crate) fn entries(entries: &[Entry]) -> String {
    match entries {
        [] => "nothing".into(),
        [first, .., last] if entries.len() > 4 => {
            format!("{} .. {} ({} entries)", entry(first), entry(last), entries.len())
        }
        _ => entries.iter().map(entry).collect::<Vec<_>>().join(" "),
    }
}

pub(crate) fn message(message: &Message) -> String {
    let Message { from, to, term, .. } = message;
    format!("{from} -> {to} {term} {}", body(&message.body))
}

pub(crate) fn body(body: &Body) -> String {
    let id = |id: &LogId| if id.index.0 == 0 { "start".to_string() } else { id.to_string() };
    match body {
        Body::PreVote { last } => format!("pre-vote? last {}", id(last)),
        Body::PreVoteReply { granted } => format!("pre-vote {}", yes(*granted)),
        Body::Vote { last, transfer } => {
            format!("vote? last {}{}", id(last), if *transfer { " by transfer" } else { "" })
        }
        Body::VoteReply { granted } => format!("vote {}", yes(*granted)),
        Body::Append { prev, entries: list, commit } => {
            format!("append after {}: {}, commit {commit}", id(prev), entries(list))
        }
        Body::AppendReply { matched } => format!("appended to {matched}"),
        Body::AppendReject { prev, hint } => format!("rejected after {prev}, hint {}", id(hint)),
        Body::Heartbeat { commit, round } => format!("heartbeat commit {commit} round {round}"),
        Body::HeartbeatReply { round } => format!("heartbeat reply round {round}"),
        Body::ReadIndex { lease, .. } => {
            if *lease { "read index? on a lease" } else { "read index?" }.into()
        }
        Body::ReadIndexReply { index: Some(index), .. } => format!("read index {index}"),
        Body::ReadIndexReply { index: None, .. } => "read index refused".into(),
        Body::Snapshot { last } => format!("snapshot to {}", id(last)),
        Body::TimeoutNow => "time-out now".into(),
    }
}

fn yes(granted: bool) -> &'static str {
    if granted { "granted" } else { "refused" }
}

pub(crate) fn write(write: &LogWrite) -> String {
    let mut text = format!("#{}", write.seq.0);
    if let Some(state) = &write.hard_state {
        let vote = state.vote.map_or("nobody".to_string(), |vote| vote.to_string());
        text += &format!(" {} vote {vote} commit {}", state.term, state.commit);
    }
    if let Some((last, _)) = &write.reset {
        text += &format!(" begin after {last}");
    }
    if let Some(from) = write.truncate_from {
        text += &format!(" cut from {from}");
    }
    if !write.entries.is_empty() {
        text += &format!(" + {}", entries(&write.entries));
    }
    text
}

pub(crate) fn refused(refused: &Refused) -> String {
    match refused {
        Refused::NotLeader { leader: Some(leader) } => format!("not leader, {leader} is"),
        Refused::NotLeader { leader: None } => "not leader, none is known".into(),
        Refused::Busy => "busy".into(),
        Refused::ChangeInProgress => "change in progress".into(),
        Refused::Transferring => "transferring".into(),
        Refused::NothingToUndo => "nothing to undo".into(),
        Refused::UnfitMembership => "unfit membership".into(),
    }
}
