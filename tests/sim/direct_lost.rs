//! Mistakes in how the core goes on after a loss which others make up for, only later: one node, driven by hand.

use konsen::raft::{Body, Config, Index, Input, NodeId, Payload, ProposalId, ReadId, RoleName};

use super::direct::{Check, elect, hear, node_of, settle};
use super::oracle::{Broken, ensure};

/// The checks that find a mistake, by its name.
pub(crate) const CHECKS: &[(&str, Check)] = &[
    ("LostQuestionWaits", a_question_that_is_lost_is_asked_again),
    ("GuardCostsBallot", who_did_not_answer_a_pre_vote_is_asked_again),
    ("ProbeRepeatedWhole", a_probe_is_sent_again_with_one_entry),
    ("CommitsUntold", peers_are_told_of_commits_before_a_heartbeat),
];

fn a_question_that_is_lost_is_asked_again() -> Result<(), Broken> {
    let config = Config::new(NodeId(1), 7);
    let (heartbeat, election) = (config.heartbeat_ticks, config.election_ticks);
    let mut node = node_of(config, &[1, 1], false);
    hear(&mut node, 2, 1, Body::Heartbeat { commit: Index(0), round: 1 });
    node.step(Input::Read { id: ReadId(1), lease: false });
    let mut asked = Vec::new();
    for tick in 0..election {
        let sent = settle(&mut node).send;
        let names = sent.iter().filter_map(|message| match message.body {
            Body::ReadIndex { id, .. } => Some((tick, id)),
            _ => None,
        });
        asked.extend(names);
        node.step(Input::Tick);
    }
    ensure!(
        matches!(asked[..], [(0, first), (again, second), ..]
            if first == second && again <= 3 * heartbeat),
        "a question that nobody answers is asked at the ticks {asked:?} of {election}"
    );
    Ok(())
}

fn a_probe_is_sent_again_with_one_entry() -> Result<(), Broken> {
    let config = Config::new(NodeId(1), 7);
    let ticks = 10 * config.heartbeat_ticks;
    let mut node = node_of(config, &[1], false);
    let term = elect(&mut node)?;
    for id in 0..20 {
        node.step(Input::Propose { id: ProposalId(id), payload: Payload::Noop });
        drop(settle(&mut node));
        let matched = node.last().index;
        hear(&mut node, 2, term, Body::AppendReply { matched });
    }
    let mut sent = Vec::new();
    for _ in 0..ticks {
        node.step(Input::Tick);
        let mut messages = settle(&mut node).send;
        messages.extend(hear(&mut node, 3, term, Body::HeartbeatReply { round: 1 }));
        sent.extend(messages.into_iter().filter_map(|message| match message.body {
            Body::Append { entries, .. } if message.to == NodeId(3) => Some(entries.len()),
            _ => None,
        }));
    }
    ensure!(
        sent.len() > 2 && sent.iter().all(|entries| *entries == 1),
        "who answers heartbeats and no append is sent appends of {sent:?} entries in ten heartbeats"
    );
    Ok(())
}

fn who_did_not_answer_a_pre_vote_is_asked_again() -> Result<(), Broken> {
    let config = Config::new(NodeId(1), 7);
    let soon = config.heartbeat_ticks;
    let mut node = node_of(config, &[1], false);
    let mut asked = Vec::new();
    let mut stands = 0;
    // The time of a heartbeat after it asked first.
    while stands < soon {
        node.step(Input::Tick);
        stands += u32::from(node.role() == RoleName::PreCandidate);
        let sent = settle(&mut node).send;
        let pre_votes = sent.iter().filter(|one| matches!(one.body, Body::PreVote { .. }));
        asked.extend(pre_votes.map(|one| one.to.0));
        if stands == 1 {
            hear(&mut node, 3, 1, Body::PreVoteReply { granted: false });
        }
    }
    ensure!(asked == [2, 3, 2], "asked for pre-votes, of which the third is refused: {asked:?}");
    Ok(())
}

fn peers_are_told_of_commits_before_a_heartbeat() -> Result<(), Broken> {
    let mut node = node_of(Config::new(NodeId(1), 7), &[1], false);
    let term = elect(&mut node)?;
    let matched = node.last().index;
    hear(&mut node, 2, term, Body::AppendReply { matched });
    node.step(Input::Propose { id: ProposalId(1), payload: Payload::Noop });
    drop(settle(&mut node));
    let matched = node.last().index;
    hear(&mut node, 2, term, Body::AppendReply { matched });
    ensure!(node.take_output().untold, "a commit that no peer was told of is told to be untold");
    node.step(Input::TellCommits);
    let output = node.take_output();
    let told: Vec<_> = output.send.iter().map(|one| (one.to.0, one.body.clone())).collect();
    ensure!(
        matches!(told[..], [(2, Body::Heartbeat { commit, .. })] if commit == matched),
        "of a commit at {matched} that node 2 holds and node 3 does not, peers are told {told:?}"
    );
    ensure!(!output.untold, "what is told is told to be untold");
    Ok(())
}
