//! The shortest ways through the node.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::raft::broken::Doubt;
use crate::raft::sound::INDEX_MAX;
use crate::raft::{ClusterId, Entry, Index, Member, ProposalId, ReadId, ReadRounds, RoleName, Seq};

fn membership(voters: &[u64]) -> Membership {
    let member = |id: u64| Member {
        name: format!("n{id}"),
        raft_address: String::new(),
        http_address: String::new(),
        seen: true,
        promote: false,
        replaces: None,
    };
    Membership {
        cluster: ClusterId(1),
        members: voters.iter().map(|&id| (NodeId(id), member(id))).collect::<BTreeMap<_, _>>(),
        voters: voters.iter().map(|&id| NodeId(id)).collect::<BTreeSet<_>>(),
        outgoing: None,
    }
}

#[test]
fn a_single_node_is_born_commits_and_reads() {
    let mut node = Node::new(Config::new(NodeId(1), 1), Recovered::default());
    node.step(Input::Found { membership: membership(&[1]) });
    let output = node.take_output();
    assert_eq!(output.persist.len(), 1);
    assert_eq!(output.commit, None, "nothing is durable yet");
    node.step(Input::Persisted { seq: Seq(1) });
    assert_eq!(node.take_output().commit, Some(Index(1)));
    node.step(Input::Propose { id: ProposalId(7), payload: Payload::Noop });
    node.step(Input::Read { id: ReadId(8), lease: false });
    let output = node.take_output();
    assert_eq!(output.accepted, vec![(ProposalId(7), Ok(LogId::new(Term(1), Index(2))))]);
    assert_eq!(output.reads, vec![(ReadId(8), Ok(Index(1)))]);
    assert_eq!(output.read_rounds, ReadRounds { started: vec![1], confirmed: 1 });
    node.step(Input::Persisted { seq: Seq(2) });
    assert_eq!(node.take_output().commit, Some(Index(2)));
    assert_eq!(node.entries(Index(1), usize::MAX).map(<[Entry]>::len), Some(2));
}

#[test]
fn a_founder_says_nothing_before_its_birth_is_durable() {
    let mut node = Node::new(Config::new(NodeId(1), 1), Recovered::default());
    node.step(Input::Found { membership: membership(&[1, 2, 3]) });
    assert!(node.take_output().send.is_empty());
    node.step(Input::Persisted { seq: Seq(1) });
    let output = node.take_output();
    assert_eq!(output.send.len(), 2, "an append to each peer");
    assert_eq!(output.commit, None);
    node.step(Input::Receive(Message {
        cluster: ClusterId(1),
        from: NodeId(2),
        to: NodeId(1),
        term: Term(1),
        body: Body::AppendReply { matched: Index(1) },
    }));
    assert_eq!(node.take_output().commit, Some(Index(1)));
}

#[test]
fn a_node_without_a_membership_never_stands() {
    let mut node = Node::new(Config::new(NodeId(1), 1), Recovered::default());
    for _ in 0..1000 {
        node.step(Input::Tick);
    }
    let output = node.take_output();
    assert!(output.send.is_empty() && output.persist.is_empty());
    assert_eq!(node.role(), RoleName::Follower);
}

/// A node whose log states `voters`, all of it committed, in `term`.
fn member(voters: &[u64], term: Term) -> Node {
    Node::new(Config::new(NodeId(1), 1), member_of(voters, term))
}

fn member_of(voters: &[u64], term: Term) -> Recovered {
    let first = LogId::new(Term(1), Index(1));
    Recovered {
        hard_state: crate::raft::HardState { term, vote: None, commit: first.index },
        committed: first,
        memberships: vec![(first.index, membership(voters))],
        ..Recovered::default()
    }
}

#[test]
fn what_waits_for_a_slow_disk_is_bounded() {
    let mut node = member(&[1, 2, 3], Term(1));
    let vote = Body::Vote { last: LogId::new(Term(1), Index(1)), transfer: false };
    for from in [2, 3].into_iter().cycle().take(5000) {
        let (from, to) = (NodeId(from), NodeId(1));
        node.step(Input::Receive(Message {
            cluster: ClusterId(1),
            from,
            to,
            term: Term(2),
            body: vote.clone(),
        }));
    }
    let output = node.take_output();
    assert_eq!((output.persist.len(), output.send.len()), (1, 0));
    node.step(Input::Persisted { seq: Seq(1) });
    assert_eq!(node.take_output().send.len(), 1024, "the rest is as if it had been lost");
}

#[test]
fn a_node_in_the_last_term_stands_no_more() {
    let mut node = member(&[1, 2, 3], TERM_MAX);
    for _ in 0..1000 {
        node.step(Input::Tick);
    }
    assert!(node.take_output().send.is_empty());
    assert_eq!((node.role(), node.term()), (RoleName::Follower, TERM_MAX));
}

/// Node 1, a learner of the voters 2 and 3 that holds an entry of term 2, and after how many ticks it stands once it
/// was asked.
fn stands_after(asked: &[Body]) -> Option<u32> {
    let mut recovered = member_of(&[2, 3], Term(2));
    let learner = membership(&[1]).members;
    recovered.memberships[0].1.members.extend(learner);
    recovered.tail = vec![Entry { id: LogId::new(Term(2), Index(2)), payload: Payload::Noop }];
    let mut node = Node::new(Config::new(NodeId(1), 1), recovered);
    asked.iter().for_each(|body| node.step(from_member(2, 3, body.clone())));
    let ticks = (1..1000).find(|_| {
        node.step(Input::Tick);
        node.role() == RoleName::PreCandidate
    })?;
    let asks =
        node.take_output().send.into_iter().filter(|one| matches!(one.body, Body::PreVote { .. }));
    assert_eq!(asks.map(|one| one.to).collect::<Vec<_>>(), [NodeId(2), NodeId(3)]);
    Some(ticks)
}

#[test]
fn a_learner_stands_once_it_refused_its_vote_and_until_it_hears_a_leader() {
    let pre_vote = |term| Body::PreVote { last: LogId::new(Term(term), Index(1)) };
    let heartbeat = Body::Heartbeat { commit: Index(1), round: 1 };
    assert_eq!(stands_after(&[]), None, "nobody asked");
    assert_eq!(stands_after(&[pre_vote(3)]), None, "it gave its vote");
    let election = Config::new(NodeId(1), 1).election_ticks;
    let ticks = stands_after(&[pre_vote(1)]).expect("nobody is elected without it");
    assert!(ticks >= election, "it waits for others first, and stood after {ticks} ticks");
    assert_eq!(stands_after(&[pre_vote(1), heartbeat]), None, "somebody was elected");
}

#[test]
fn a_membership_that_cannot_follow_the_one_in_force_is_refused() {
    let mut node = Node::new(Config::new(NodeId(1), 1), Recovered::default());
    node.step(Input::Found { membership: membership(&[1]) });
    let _ = node.take_output();
    node.step(Input::Persisted { seq: Seq(1) });
    let (fit, mut stranger, mut elsewhere, mut joint) =
        (membership(&[1, 2]), membership(&[1, 2]), membership(&[1, 2]), membership(&[1, 2]));
    stranger.members.remove(&NodeId(2));
    elsewhere.cluster = ClusterId(2);
    joint.outgoing = Some([NodeId(1)].into());
    for unfit in [stranger, elsewhere, joint, membership(&[])] {
        node.step(Input::ChangeMembers { id: ProposalId(1), membership: unfit });
        let refused = vec![(ProposalId(1), Err(Refused::UnfitMembership))];
        assert_eq!(node.take_output().accepted, refused);
    }
    node.step(Input::ChangeMembers { id: ProposalId(2), membership: fit });
    assert!(node.take_output().accepted[0].1.is_ok());
}

#[test]
fn a_leader_takes_in_no_more_than_it_applies() {
    let payload = Payload::Command(bytes::Bytes::from_static(&[b'x'; 1000]));
    let config = Config { uncommitted_bytes_max: 3000, ..Config::new(NodeId(1), 1) };
    let mut node = Node::new(config, Recovered::default());
    node.step(Input::Found { membership: membership(&[1]) });
    let mut taken = 0;
    for seq in 1..=10 {
        node.step(Input::Propose { id: ProposalId(seq), payload: payload.clone() });
        let output = node.take_output();
        taken += output.accepted.iter().filter(|(_, taken)| taken.is_ok()).count();
        node.step(Input::Persisted { seq: Seq(seq) });
        let _ = node.take_output();
    }
    assert_eq!((taken, node.commit()), (2, Index(3)), "all is committed, but nothing applied");
    node.step(Input::Applied { index: Index(2) });
    node.step(Input::Propose { id: ProposalId(11), payload: payload.clone() });
    assert!(node.take_output().accepted[0].1.is_ok());
    let load = node.load();
    node.step(Input::Applied { index: Index(3) });
    assert!(node.load().spare_bytes > load.spare_bytes);
}

#[test]
fn a_follower_takes_in_no_more_while_much_is_committed_and_not_applied() {
    let config = Config { uncommitted_bytes_max: 3000, ..Config::new(NodeId(1), 1) };
    let mut node = Node::new(config, member_of(&[1, 2, 3], Term(1)));
    let append = |index: u64, commit: u64| {
        let payload = Payload::Command(bytes::Bytes::from_static(&[b'x'; 1000]));
        let id = |index| LogId::new(Term(1), Index(index));
        Input::Receive(Message {
            cluster: ClusterId(1),
            from: NodeId(2),
            to: NodeId(1),
            term: Term(1),
            body: Body::Append {
                prev: id(index - 1),
                entries: vec![Entry { id: id(index), payload }],
                commit: Index(commit),
            },
        })
    };
    // What is not committed may be needed to commit what comes.
    (2..=11).for_each(|index| node.step(append(index, 1)));
    assert_eq!(node.last().index, Index(11));
    node.step(append(12, 11));
    assert_eq!((node.last().index, node.heard_commit()), (Index(12), Index(11)));
    node.step(append(13, 12));
    assert_eq!((node.last().index, node.heard_commit()), (Index(12), Index(12)));
    let writes = node.take_output().persist;
    node.step(Input::Persisted { seq: writes[writes.len() - 1].seq });
    node.step(Input::Applied { index: Index(11) });
    node.step(append(13, 12));
    assert_eq!(node.last().index, Index(13));
}

fn from_member(from: u64, term: u64, body: Body) -> Input {
    let (from, to) = (NodeId(from), NodeId(1));
    Input::Receive(Message { cluster: ClusterId(1), from, to, term: Term(term), body })
}

fn append(prev: (u64, u64), terms: &[u64], commit: u64) -> Body {
    let id = |(term, index)| LogId::new(Term(term), Index(index));
    let entries = terms.iter().zip(prev.1 + 1..);
    let entries = entries
        .map(|(term, index)| Entry { id: id((*term, index)), payload: Payload::Noop })
        .collect();
    Body::Append { prev: id(prev), entries, commit: Index(commit) }
}

/// What a node says when it stops. Then it says nothing else, and nothing more whatever comes.
fn broken(mut node: Node) -> Option<Broken> {
    let output = node.take_output();
    let fatal = output.fatal.clone()?;
    assert_eq!(output, Output { fatal: Some(fatal.clone()), ..Output::default() });
    (0..100).for_each(|_| node.step(Input::Tick));
    let vote = Body::Vote { last: LogId::new(Term(9), Index(90)), transfer: true };
    node.step(from_member(2, 9, vote));
    node.step(Input::Persisted { seq: Seq(1) });
    assert_eq!(node.take_output(), output, "it votes no more, and stands no more");
    Some(fatal)
}

/// A follower of node 2 in term 2 that holds three entries of it, all of them committed.
fn follower_of_two() -> Node {
    let mut node = member(&[1, 2, 3], Term(1));
    node.step(from_member(2, 2, append((1, 1), &[2, 2, 2], 4)));
    let written = node.take_output().persist;
    node.step(Input::Persisted { seq: written[0].seq });
    assert_eq!((node.take_output().fatal, node.commit()), (None, Index(4)));
    node
}

/// A checkpoint goes by it: what an older leader left beyond what is committed vouches for nothing.
#[test]
fn what_is_durable_and_committed_is_never_cut_off() {
    let mut node = member(&[1, 2, 3], Term(1));
    let persist = |node: &mut Node| {
        let written = node.take_output().persist;
        node.step(Input::Persisted { seq: written[written.len() - 1].seq });
    };
    node.step(from_member(2, 2, append((1, 1), &[2, 2, 2, 2], 2)));
    persist(&mut node);
    assert_eq!((node.durable(), node.durable_commit()), (Index(5), Index(2)));
    node.step(from_member(3, 3, append((2, 2), &[3, 3], 4)));
    assert_eq!((node.commit(), node.durable_commit()), (Index(4), Index(2)));
    persist(&mut node);
    assert_eq!(node.durable_commit(), Index(4));
}

#[test]
fn a_leader_that_contradicts_what_is_committed_stops_the_node() {
    let said = |term, body: Body| {
        let mut node = follower_of_two();
        node.step(from_member(2, term, body));
        broken(node)
    };
    let (held, commit) = (LogId::new(Term(2), Index(3)), Index(4));
    let stops = |term: u64, said: (u64, u64)| {
        let (from, said) = (NodeId(2), LogId::new(Term(said.0), Index(said.1)));
        Some(Broken::ContradictsCommitted { from, term: Term(term), said, held, commit })
    };
    // By the entry before, by one of those that come, by a snapshot; also as it begins to lead.
    assert_eq!(said(2, append((1, 3), &[2], 0)), stops(2, (1, 3)));
    assert_eq!(said(3, append((2, 2), &[3, 3], 0)), stops(3, (3, 3)));
    assert_eq!(said(3, Body::Snapshot { last: LogId::new(Term(3), Index(3)) }), stops(3, (3, 3)));
    // What comes twice, comes late, or is undecided here contradicts nothing.
    assert_eq!(said(2, append((1, 1), &[2, 2, 2], 2)), None);
    assert_eq!(said(1, append((1, 2), &[1], 1)), None, "an old term");
    assert_eq!(said(3, append((2, 4), &[3], 4)), None);
    let text = stops(2, (1, 3)).unwrap().to_string();
    for part in ["node n2", "leader of term 2", "term 1 at index 3", "one of term 2", "up to 4"] {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn a_stranger_that_contradicts_what_is_committed_is_not_believed() {
    let mut node = follower_of_two();
    // Until no leader is heard, so that strangers are.
    (0..200).for_each(|_| node.step(Input::Tick));
    node.step(from_member(7, 50, append((1, 3), &[50], 9)));
    assert_eq!(node.leader(), Some(NodeId(7)));
    node.step(from_member(7, 50, Body::Snapshot { last: LogId::new(Term(50), Index(3)) }));
    assert_eq!((broken(node.clone()), node.commit()), (None, Index(4)));
}

/// Node 1, which leads term 2.
fn leader_of_three() -> Node {
    let mut leader = member(&[1, 2, 3], Term(1));
    while leader.role() != RoleName::PreCandidate {
        leader.step(Input::Tick);
    }
    leader.step(from_member(2, 2, Body::PreVoteReply { granted: true }));
    let written = leader.take_output().persist;
    leader.step(Input::Persisted { seq: written[0].seq });
    leader.step(from_member(2, 2, Body::VoteReply { granted: true }));
    assert_eq!((leader.role(), leader.term()), (RoleName::Leader, Term(2)));
    leader
}

#[test]
fn rounds_for_reads_are_told_of_as_they_begin_and_once_a_quorum_has_answered() {
    let mut leader = leader_of_three();
    let written = leader.take_output().persist;
    leader.step(Input::Persisted { seq: written[0].seq });
    leader.step(from_member(2, 2, Body::AppendReply { matched: leader.last().index }));
    let read = |id| Input::Read { id: ReadId(id), lease: false };
    let question = |from| from_member(from, 2, Body::ReadIndex { id: ReadId(1), lease: false });
    for input in [read(1), read(2), question(3)] {
        leader.step(input);
    }
    let output = leader.take_output();
    assert_eq!(output.read_rounds, ReadRounds { started: vec![3], confirmed: 0 });
    let beat = output.send.iter().find_map(|message| match message.body {
        Body::Heartbeat { round, .. } => Some(round),
        _ => None,
    });
    leader.step(read(3));
    assert_eq!(leader.take_output().read_rounds, ReadRounds::default(), "one is out");
    leader.step(from_member(2, 2, Body::HeartbeatReply { round: beat.unwrap() }));
    let output = leader.take_output();
    assert_eq!(output.read_rounds, ReadRounds { started: vec![1], confirmed: 1 });
    assert_eq!(output.reads.len(), 2);
    // Another leads: nobody confirms the last one.
    leader.step(from_member(3, 3, Body::Heartbeat { commit: Index(0), round: 1 }));
    assert_eq!(leader.take_output().read_rounds, ReadRounds::default());
}

#[test]
fn a_second_leader_in_a_term_stops_the_node() {
    let beat = |from, term| from_member(from, term, Body::Heartbeat { commit: Index(0), round: 1 });
    let second = |leader, other| {
        let (leader, other) = (NodeId(leader), NodeId(other));
        Some(Broken::SecondLeader { term: Term(2), leader, other })
    };
    let mut node = follower_of_two();
    node.step(beat(3, 2));
    assert_eq!(broken(node), second(2, 3));

    let mut leader = leader_of_three();
    let mut other = leader.clone();
    other.step(beat(3, 1));
    assert_eq!((broken(other.clone()), other.role()), (None, RoleName::Leader), "an old term");
    other.step(beat(7, 2));
    assert_eq!(broken(other.clone()), None, "a stranger");
    other.step(beat(3, 3));
    assert_eq!((broken(other.clone()), other.role()), (None, RoleName::Follower), "a newer one");
    leader.step(beat(3, 2));
    assert_eq!(broken(leader), second(1, 3));
}

#[test]
fn a_snapshot_that_cannot_be_right_stops_the_node_once_it_is_in_place() {
    let installed = |term: u64, index: u64, cluster: u64| {
        let mut node = follower_of_two();
        let last = LogId::new(Term(term), Index(index));
        let membership = Membership { cluster: ClusterId(cluster), ..membership(&[1, 2, 3]) };
        node.step(Input::SnapshotInstalled { last, membership, from: NodeId(2) });
        match broken(node)? {
            Broken::SnapshotNotCredible { doubt, from: NodeId(2), .. } => Some(doubt),
            other => panic!("{other}"),
        }
    };
    assert_eq!(installed(3, 9, 1), Some(Doubt::NewerTerm));
    assert_eq!(installed(1, 3, 1), Some(Doubt::ContradictsCommitted(Term(2))));
    assert_eq!(installed(2, 9, 5), Some(Doubt::OtherCluster(ClusterId(5))));
    assert_eq!(installed(2, INDEX_MAX.0 + 1, 1), Some(Doubt::TooFar));
    assert_eq!(installed(2, 9, 1), None);
    assert_eq!(installed(2, 3, 1), None, "one that comes late is no news");
}
