//! Mistakes that runs of honest nodes hardly ever show, since something else keeps them from doing
//! harm, and those that only cost memory: one node, driven by hand.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use konsen::raft::{
    Body, ClusterId, Config, Entry, HardState, Index, Input, LogId, Membership, Message, Moment,
    Node, NodeId, Output, Payload, ProposalId, ReadId, Recovered, RoleName, Term,
};

use konsen::replica::{Event, Replica};
use konsen::store::{State, StateOptions};

use super::disk::Disk;
use super::oracle::{Broken, ensure};
use super::world::member;

/// Well, or what is broken.
pub(crate) type Check = fn() -> Result<(), Broken>;

/// The checks that find a mistake which the simulator cannot, by its name.
const CHECKS: &[(&str, Check)] = &[
    ("CommitBeyondAppend", a_commit_goes_no_further_than_its_append),
    ("OldTermHeard", an_older_term_is_not_heard),
    ("NoUncommittedBound", uncommitted_writes_are_bounded),
    ("NoWindow", appends_on_their_way_are_bounded),
    ("StrangerHeard", a_stranger_changes_nothing),
    ("PreVoteAgainstLeader", nobody_is_helped_against_a_leader_that_lives),
    ("VoteAgainstLeader", nobody_is_elected_against_a_leader_that_lives),
    ("RestartedVoterForgets", a_restarted_voter_may_have_heard_a_leader),
    ("LeaseOutlivesTransfer", a_lease_ends_with_a_transfer),
    ("LeaseFromNewestRound", a_lease_counts_from_what_was_answered),
    ("LeaseTooLong", a_lease_ends_in_time),
    ("CheckpointByOldEntries", what_is_not_committed_vouches_for_no_checkpoint),
    ("PhantomMembership", a_snapshot_ends_memberships_of_another_log),
    ("ApplyWhileInstalling", nothing_is_applied_while_a_snapshot_takes_its_place),
    ("BallotOverUnasked", a_candidate_waits_for_its_own_vote),
    ("LateVotesIgnored", votes_that_come_late_are_waited_for),
    ("OutgoingUnheard", an_outgoing_voter_is_heard),
    ("JointElectsByHalf", both_majorities_of_a_joint_membership_elect),
    ("UndoneUnestablished", a_new_leader_undoes_nothing),
    ("ChangeNotUndone", a_change_without_an_echo_is_undone),
    ("TermOfCommitUntold", each_term_says_anew_who_belongs),
];

/// All checks, each with the name of the mistake that it finds.
pub(crate) fn all() -> impl Iterator<Item = (&'static str, Check)> {
    let others = [
        super::anchors::CHECKS,
        super::direct_cluster::CHECKS,
        super::direct_features::CHECKS,
        super::direct_learners::CHECKS,
        super::direct_log::CHECKS,
        super::direct_lost::CHECKS,
        super::direct_reads::CHECKS,
        super::direct_settings::CHECKS,
        super::direct_txns::CHECKS,
    ];
    CHECKS.iter().chain(others.into_iter().flatten()).copied()
}

/// How long leases last here.
const LEASE_US: u64 = 1_000;

#[test]
fn all_hold_without_a_mistake() {
    for (mistake, check) in all() {
        check().unwrap_or_else(|Broken(why)| panic!("{mistake}: {why}"));
    }
}

/// Node 1 of three, with these terms in its log; the first entry is the membership.
fn node(terms: &[u64]) -> Node {
    node_that(terms, false)
}

fn node_that(terms: &[u64], heard_leader: bool) -> Node {
    let config = Config {
        inflight_appends_max: 4,
        uncommitted_bytes_max: 4_000,
        lease_us: LEASE_US,
        ..Config::new(NodeId(1), 7)
    };
    node_of(config, terms, heard_leader)
}

pub(super) fn node_of(config: Config, terms: &[u64], heard_leader: bool) -> Node {
    let ids = || (1..=3).map(NodeId);
    let membership = Membership {
        cluster: ClusterId(1),
        members: ids().map(|id| (id, member(id))).collect(),
        voters: ids().collect(),
        outgoing: None,
    };
    let payload = |index| match index {
        1 => Payload::Membership(membership.clone()),
        _ => Payload::Noop,
    };
    let entry = |(at, &term): (usize, &u64)| {
        let index = at as u64 + 1;
        Entry { id: LogId::new(Term(term), Index(index)), payload: payload(index) }
    };
    let tail: Vec<Entry> = terms.iter().enumerate().map(entry).collect();
    let term = tail.last().map_or(Term(0), |entry| entry.id.term);
    let recovered = Recovered {
        hard_state: HardState { term, vote: None, commit: Index(0) },
        memberships: vec![(Index(1), membership)],
        tail,
        heard_leader,
        ..Recovered::default()
    };
    let mut node = Node::new(config, recovered);
    node.step(Input::Leases(true));
    node
}

pub(super) fn hear(node: &mut Node, from: u64, term: u64, body: Body) -> Vec<Message> {
    let message = Message {
        cluster: ClusterId(1),
        from: NodeId(from),
        to: NodeId(1),
        term: Term(term),
        body,
    };
    node.step(Input::Receive(message));
    settle(node).send
}

/// Takes what the node wants, and makes durable what it writes.
pub(super) fn settle(node: &mut Node) -> Output {
    let mut all = node.take_output();
    while let Some(seq) = all.persist.last().map(|write| write.seq) {
        all.persist.clear();
        node.step(Input::Persisted { seq });
        let more = node.take_output();
        all.send.extend(more.send);
        all.accepted.extend(more.accepted);
        all.persist = more.persist;
    }
    all
}

/// Makes node 1 the leader.
pub(super) fn elect(node: &mut Node) -> Result<u64, Broken> {
    let mut out = Output::default();
    while node.role() != RoleName::PreCandidate {
        node.step(Input::Tick);
        out = settle(node);
    }
    ensure!(!out.send.is_empty(), "a candidate asks nobody");
    let term = node.term().0 + 1;
    hear(node, 2, term, Body::PreVoteReply { granted: true });
    hear(node, 2, term, Body::VoteReply { granted: true });
    ensure!(node.role() == RoleName::Leader, "a node with a quorum of votes is {:?}", node.role());
    Ok(term)
}

fn each_term_says_anew_who_belongs() -> Result<(), Broken> {
    let mut node = node(&[1, 1]);
    let mut told = Vec::new();
    for (term, index) in [(1, 3), (1, 4), (2, 5), (2, 6)] {
        let prev = LogId::new(Term(if index == 6 { 2 } else { 1 }), Index(index - 1));
        let id = LogId::new(Term(term), Index(index));
        let entries = vec![Entry { id, payload: Payload::Noop }];
        let body = Body::Append { prev, entries, commit: Index(index) };
        let (from, to) = (NodeId(2), NodeId(1));
        let message = Message { cluster: ClusterId(1), from, to, term: Term(term), body };
        node.step(Input::Receive(message));
        told.push(settle(&mut node).committed.is_some());
    }
    ensure!(told == [true, false, true, false], "who belongs is told at {told:?} of four commits");
    Ok(())
}

fn a_commit_goes_no_further_than_its_append() -> Result<(), Broken> {
    let mut node = node(&[1, 1, 2, 2]);
    let prev = LogId::new(Term(1), Index(2));
    // Entries 3 and 4 are another leader's; this one has committed its own 3 and 4.
    hear(&mut node, 2, 3, Body::Append { prev, entries: Vec::new(), commit: Index(4) });
    ensure!(node.commit() <= Index(2), "an append up to 2 commits {}", node.commit());
    Ok(())
}

fn an_older_term_is_not_heard() -> Result<(), Broken> {
    let mut node = node(&[1]);
    let term = elect(&mut node)?;
    hear(&mut node, 2, term - 1, Body::AppendReply { matched: Index(2) });
    ensure!(node.commit() < Index(2), "what was acknowledged in an older term commits entry 2");
    Ok(())
}

fn uncommitted_writes_are_bounded() -> Result<(), Broken> {
    let mut node = node(&[1]);
    elect(&mut node)?;
    let mut refused = 0;
    for id in 0..100 {
        let payload = Payload::Command(Bytes::from(vec![0; 200]));
        node.step(Input::Propose { id: ProposalId(id), payload });
        let output = settle(&mut node);
        refused += output.accepted.iter().filter(|(_, admission)| admission.is_err()).count();
    }
    ensure!(refused > 0, "20 kB of writes that nobody acknowledges are taken, 4 kB are allowed");
    Ok(())
}

fn appends_on_their_way_are_bounded() -> Result<(), Broken> {
    let mut node = node(&[1]);
    let term = elect(&mut node)?;
    hear(&mut node, 2, term, Body::AppendReply { matched: Index(2) });
    let mut sent = 0;
    for id in 0..10 {
        node.step(Input::Propose { id: ProposalId(id), payload: Payload::Noop });
        let to_2 = |message: &&Message| {
            message.to == NodeId(2) && matches!(message.body, Body::Append { .. })
        };
        sent += settle(&mut node).send.iter().filter(to_2).count();
    }
    ensure!(sent <= 4, "{sent} appends are on their way, 4 are allowed");
    Ok(())
}

fn a_stranger_changes_nothing() -> Result<(), Broken> {
    let mut node = node(&[1, 1]);
    hear(&mut node, 9, 50, Body::HeartbeatReply { round: 0 });
    ensure!(node.term() == Term(1), "a stranger leads the node to term {}", node.term());
    Ok(())
}

fn nobody_is_helped_against_a_leader_that_lives() -> Result<(), Broken> {
    let mut node = node(&[1, 1]);
    hear(&mut node, 2, 1, Body::Heartbeat { commit: Index(0), round: 1 });
    let last = LogId::new(Term(1), Index(2));
    let answers = hear(&mut node, 3, 2, Body::PreVote { last });
    let granted =
        answers.iter().any(|one| matches!(one.body, Body::PreVoteReply { granted: true }));
    ensure!(!granted, "a pre-vote is given while the leader lives");
    Ok(())
}

/// Node 1 of three voters whose log states, undecided, what comes of the first two.
fn node_with_a_change(next: impl FnOnce(&Membership) -> Membership) -> Node {
    let three = Membership {
        cluster: ClusterId(1),
        members: (1..=3).map(NodeId).map(|id| (id, member(id))).collect(),
        voters: (1..=3).map(NodeId).collect(),
        outgoing: None,
    };
    let next = next(&three);
    let entry = |index, payload| Entry { id: LogId::new(Term(1), Index(index)), payload };
    let first = entry(1, Payload::Membership(three.clone()));
    let second = entry(2, Payload::Membership(next.clone()));
    Node::new(
        Config::new(NodeId(1), 7),
        Recovered {
            hard_state: HardState { term: Term(1), vote: None, commit: Index(1) },
            committed: first.id,
            memberships: vec![(Index(1), three), (Index(2), next)],
            tail: vec![second],
            applied: Index(1),
            ..Recovered::default()
        },
    )
}

/// Has node 1 stand for election, once node 2 would vote for it; what it writes is durable or not yet. Its term.
fn stand(node: &mut Node, durable: bool) -> u64 {
    while node.role() != RoleName::PreCandidate {
        node.step(Input::Tick);
        drop(settle(node));
    }
    let term = node.term().0 + 1;
    let body = Body::PreVoteReply { granted: true };
    let (from, to) = (NodeId(2), NodeId(1));
    node.step(Input::Receive(Message { cluster: ClusterId(1), from, to, term: Term(term), body }));
    if durable {
        drop(settle(node));
    }
    term
}

fn a_candidate_waits_for_its_own_vote() -> Result<(), Broken> {
    let mut node = node(&[1]);
    let term = stand(&mut node, false);
    (0..1_000).for_each(|_| node.step(Input::Tick));
    ensure!(
        (node.role(), node.term()) == (RoleName::Candidate, Term(term)),
        "a candidate whose vote is not written yet has given up, and is a {:?} of {}",
        node.role(),
        node.term()
    );
    drop(settle(&mut node));
    hear(&mut node, 2, term, Body::VoteReply { granted: true });
    ensure!(node.role() == RoleName::Leader, "and is not elected once it is");
    Ok(())
}

/// How many ticks node 1 waits for votes.
fn patience(node: &mut Node) -> u32 {
    stand(node, true);
    let mut ticks = 0;
    while node.role() == RoleName::Candidate {
        node.step(Input::Tick);
        drop(settle(node));
        ticks += 1;
    }
    ticks
}

fn votes_that_come_late_are_waited_for() -> Result<(), Broken> {
    let mut node = node(&[1]);
    let first = patience(&mut node);
    for _ in 0..3 {
        let late = node.term().0;
        stand(&mut node, true);
        hear(&mut node, 2, late, Body::VoteReply { granted: true });
        patience(&mut node);
    }
    let last = patience(&mut node);
    // Each is drawn from a least one to half as much again, and that doubles three times.
    ensure!(
        last >= 5 * first && last <= 13 * first,
        "a candidate waited for {first} ticks, and for {last} after three votes that came late"
    );
    Ok(())
}

fn an_outgoing_voter_is_heard() -> Result<(), Broken> {
    let mut node = node_with_a_change(|three| {
        let mut two = three.clone();
        two.members.remove(&NodeId(3));
        two.voters.remove(&NodeId(3));
        two
    });
    hear(&mut node, 3, 9, Body::VoteReply { granted: false });
    ensure!(
        node.term() == Term(9),
        "a voter that may yet stay a member says term 9, and the node stays in {}",
        node.term()
    );
    Ok(())
}

fn a_new_leader_undoes_nothing() -> Result<(), Broken> {
    let mut node = node_with_a_change(|three| Membership {
        voters: [1, 2].map(NodeId).into(),
        outgoing: Some(three.voters.clone()),
        ..three.clone()
    });
    elect(&mut node)?;
    node.step(Input::UndoChange { id: ProposalId(1), force: false });
    let accepted = settle(&mut node).accepted;
    ensure!(
        accepted.iter().all(|(_, admission)| admission.is_err()),
        "a leader undoes a change that may have been decided: {accepted:?}"
    );
    Ok(())
}

/// A leader of three voters that has taken the change to the first and fourth in.
fn leader_with_a_change() -> Result<Node, Broken> {
    let mut node = node(&[1]);
    let term = elect(&mut node)?;
    for peer in [2, 3] {
        hear(&mut node, peer, term, Body::AppendReply { matched: Index(2) });
    }
    let membership = Membership {
        cluster: ClusterId(1),
        members: [1, 4].map(NodeId).map(|id| (id, member(id))).into(),
        voters: [1, 4].map(NodeId).into(),
        outgoing: None,
    };
    node.step(Input::ChangeMembers { id: ProposalId(1), membership });
    let accepted = settle(&mut node).accepted;
    ensure!(
        accepted.iter().all(|(_, admission)| admission.is_ok()),
        "no change is taken in: {accepted:?}"
    );
    Ok(node)
}

fn a_change_without_an_echo_is_undone() -> Result<(), Broken> {
    let mut node = leader_with_a_change()?;
    let term = node.term().0;
    for _ in 0..3 * Config::new(NodeId(1), 7).election_ticks {
        node.step(Input::Tick);
        let _ = settle(&mut node);
        // Host 4 never answers.
        for peer in [2, 3] {
            hear(&mut node, peer, term, Body::HeartbeatReply { round: 1 });
        }
    }
    let now = node.membership().map(|now| (now.voters.clone(), now.outgoing.clone()));
    ensure!(
        node.role() == RoleName::Leader && now == Some(((1..=3).map(NodeId).collect(), None)),
        "a change whose new voters do not answer leaves a {:?} with {now:?}",
        node.role()
    );
    Ok(())
}

fn asks_for_a_vote(node: &mut Node) -> Vec<Message> {
    let last = LogId::new(Term(1), Index(2));
    hear(node, 3, 2, Body::Vote { last, transfer: false })
}

fn nobody_is_elected_against_a_leader_that_lives() -> Result<(), Broken> {
    let mut node = node(&[1, 1]);
    hear(&mut node, 2, 1, Body::Heartbeat { commit: Index(0), round: 1 });
    let answers = asks_for_a_vote(&mut node);
    ensure!(answers.is_empty(), "a vote is given while the leader lives: {answers:?}");
    Ok(())
}

fn a_restarted_voter_may_have_heard_a_leader() -> Result<(), Broken> {
    let mut node = node_that(&[1, 1], true);
    let answers = asks_for_a_vote(&mut node);
    ensure!(answers.is_empty(), "a vote is given right after a restart: {answers:?}");
    Ok(())
}

/// A leader with a lease since time 100, and its term.
pub(super) fn leader_with_a_lease() -> Result<Node, Broken> {
    let mut node = node(&[1]);
    node.step(Input::Now(Moment(100)));
    let term = elect(&mut node)?;
    hear(&mut node, 2, term, Body::AppendReply { matched: Index(2) });
    node.step(Input::Read { id: ReadId(1), lease: true });
    let round = settle(&mut node).send.iter().find_map(|message| match message.body {
        Body::Heartbeat { round, .. } => Some(round),
        _ => None,
    });
    let Some(round) = round else { return Err(Broken("no round begins".to_owned())) };
    hear(&mut node, 2, term, Body::HeartbeatReply { round });
    node.step(Input::Read { id: ReadId(2), lease: true });
    ensure!(node.take_output().reads.len() == 1, "the lease does not hold");
    Ok(node)
}

fn a_lease_ends_with_a_transfer() -> Result<(), Broken> {
    let mut node = leader_with_a_lease()?;
    node.step(Input::TransferLeadership { to: Some(NodeId(2)) });
    node.step(Input::Read { id: ReadId(3), lease: true });
    let reads = node.take_output().reads;
    ensure!(reads.is_empty(), "a read is released after leadership was offered: {reads:?}");
    Ok(())
}

fn a_lease_ends_in_time() -> Result<(), Broken> {
    let mut node = leader_with_a_lease()?;
    for (now, released) in [(99, 1), (100, 0)] {
        node.step(Input::Now(Moment(now + LEASE_US)));
        node.step(Input::Read { id: ReadId(now), lease: true });
        let reads = node.take_output().reads;
        ensure!(
            reads.len() == released,
            "{} µs after a lease of {LEASE_US} began {reads:?} is released",
            now + LEASE_US - 100
        );
    }
    Ok(())
}

fn a_lease_counts_from_what_was_answered() -> Result<(), Broken> {
    let mut node = node(&[1]);
    node.step(Input::Now(Moment(100)));
    let term = elect(&mut node)?;
    hear(&mut node, 2, term, Body::AppendReply { matched: Index(2) });
    let mut rounds = Vec::new();
    for now in [200, 1_000] {
        node.step(Input::Now(Moment(now)));
        let ticks = Config::new(NodeId(1), 7).heartbeat_ticks;
        (0..ticks).for_each(|_| node.step(Input::Tick));
        rounds.extend(settle(&mut node).send.iter().filter_map(|message| match message.body {
            Body::Heartbeat { round, .. } => Some(round),
            _ => None,
        }));
    }
    let first = rounds.first().copied();
    ensure!(first < rounds.last().copied(), "two rounds do not leave: {rounds:?}");
    // Only the first is ever answered.
    hear(&mut node, 2, term, Body::HeartbeatReply { round: first.unwrap_or_default() });
    for (now, released) in [(199, 1), (200, 0)] {
        node.step(Input::Now(Moment(now + LEASE_US)));
        node.step(Input::Read { id: ReadId(now), lease: true });
        let reads = node.take_output().reads;
        ensure!(
            reads.len() == released,
            "{} µs after the round that was answered {reads:?} is released",
            now + LEASE_US - 200
        );
    }
    Ok(())
}

fn a_snapshot_ends_memberships_of_another_log() -> Result<(), Broken> {
    let alone = Membership {
        cluster: ClusterId(1),
        members: [(NodeId(1), member(NodeId(1)))].into(),
        voters: [NodeId(1)].into(),
        outgoing: None,
    };
    // Node 1 of three, with a change in its log that nobody else has.
    let mut node = node(&[1]);
    let id = LogId::new(Term(1), Index(3));
    let entry = |index, payload| Entry { id: LogId::new(Term(1), Index(index)), payload };
    let membership = Payload::Membership(alone.clone());
    let entries = vec![entry(2, Payload::Noop), entry(3, membership)];
    let prev = LogId::new(Term(1), Index(1));
    hear(&mut node, 2, 3, Body::Append { prev, entries, commit: Index(1) });
    // What it wants done is of no interest here.
    let _ = settle(&mut node);
    ensure!(node.last() == id && node.membership() == Some(&alone), "the change is not taken in");
    let three = Membership {
        members: (1..=3).map(NodeId).map(|id| (id, member(id))).collect(),
        voters: (1..=3).map(NodeId).collect(),
        ..alone
    };
    node.step(Input::SnapshotInstalled {
        last: LogId::new(Term(2), Index(2)),
        membership: three.clone(),
        from: NodeId(2),
    });
    ensure!(
        node.membership() == Some(&three),
        "after a snapshot of another log {:?} is in force",
        node.membership()
    );
    Ok(())
}

fn both_majorities_of_a_joint_membership_elect() -> Result<(), Broken> {
    let joint = Membership {
        cluster: ClusterId(1),
        members: (1..=5).map(NodeId).map(|id| (id, member(id))).collect(),
        voters: (1..=3).map(NodeId).collect(),
        outgoing: Some([1, 4, 5].map(NodeId).into()),
    };
    for (votes, elected) in [(&[1, 2][..], false), (&[1, 4], false), (&[1, 2, 4], true)] {
        let has = joint.is_quorum(|id| votes.contains(&id.0));
        ensure!(has == elected, "the votes of {votes:?} elect: {has}, in {joint:?}");
    }
    Ok(())
}

/// An older leader's entries are durable where a newer one's are committed and not written yet.
fn what_is_not_committed_vouches_for_no_checkpoint() -> Result<(), Broken> {
    let mut node = node(&[1]);
    let entry =
        |term, index| Entry { id: LogId::new(Term(term), Index(index)), payload: Payload::Noop };
    let prev = LogId::new(Term(1), Index(1));
    let old = vec![entry(2, 2), entry(2, 3)];
    hear(&mut node, 2, 2, Body::Append { prev, entries: old, commit: Index(1) });
    let before = node.durable_commit();
    let entries = vec![entry(3, 2), entry(3, 3)];
    let body = Body::Append { prev, entries, commit: Index(3) };
    let (cluster, from, to) = (ClusterId(1), NodeId(3), NodeId(1));
    node.step(Input::Receive(Message { cluster, from, to, term: Term(3), body }));
    ensure!(node.commit() == Index(3), "what the leader has committed is not: {}", node.commit());
    ensure!(
        (before, node.durable_commit()) == (Index(1), Index(1)),
        "checkpoints may cover {before}, then {}, and of what is committed 1 is durable",
        node.durable_commit()
    );
    Ok(())
}

fn nothing_is_applied_while_a_snapshot_takes_its_place() -> Result<(), Broken> {
    let failed = |error: &dyn std::fmt::Display| Broken(format!("an honest disk failed: {error}"));
    let state = State::open_backend(Disk::default(), &StateOptions::default())
        .map_err(|error| failed(&error))?;
    let state = Arc::new(state);
    let mut replica = Replica::new(node(&[1, 1, 1]), state.clone(), Duration::from_millis(10));
    let begun = replica.begin_install(ClusterId(1), LogId::new(Term(1), Index(9)));
    ensure!(begun, "a snapshot that is newer is not wanted");
    let body =
        Body::Append { prev: LogId::new(Term(1), Index(3)), entries: Vec::new(), commit: Index(3) };
    let message =
        Message { cluster: ClusterId(1), from: NodeId(2), to: NodeId(1), term: Term(1), body };
    replica.step(Event::Raft(Input::Receive(message)));
    for going_on in [false, true] {
        if going_on {
            replica.give_up_install();
        }
        let effects = replica.take_effects().map_err(|error| failed(&error))?;
        let applied = state.applied().index;
        ensure!(
            effects.applied.is_some() == going_on && (applied == Index(3)) == going_on,
            "the state is at {applied} while a snapshot takes its place"
        );
    }
    Ok(())
}
