//! Mistakes in when a learner stands for election, which a run hardly ever shows: others hold as much of the log, or are
//! elected without its vote. One node, driven by hand.

use konsen::raft::{
    Body, ClusterId, Config, Entry, HardState, Index, Input, LogId, Membership, Message, Node,
    NodeId, Payload, Recovered, RoleName, Term,
};

use super::direct::Check;
use super::oracle::{Broken, ensure};
use super::world::member;

/// The checks that find a mistake, by its name.
pub(crate) const CHECKS: &[(&str, Check)] = &[
    ("NeededLearnerWaits", a_learner_whose_vote_is_needed_stands),
    ("LearnerStandsUnasked", a_learner_that_nobody_asked_waits),
    ("LearnerStandsOn", a_learner_that_heard_a_leader_waits),
];

/// Whether a learner with an entry of term 2 stands in the end, after it was told this by a voter.
fn stands_after(told: &[Body]) -> bool {
    let first = LogId::new(Term(1), Index(1));
    let membership = Membership {
        cluster: ClusterId(1),
        members: (1..=3).map(NodeId).map(|id| (id, member(id))).collect(),
        voters: [NodeId(2), NodeId(3)].into(),
        outgoing: None,
    };
    let recovered = Recovered {
        hard_state: HardState { term: Term(2), vote: None, commit: first.index },
        committed: first,
        memberships: vec![(first.index, membership)],
        tail: vec![Entry { id: LogId::new(Term(2), Index(2)), payload: Payload::Noop }],
        ..Recovered::default()
    };
    let mut node = Node::new(Config::new(NodeId(1), 7), recovered);
    for body in told {
        let (from, to) = (NodeId(2), NodeId(1));
        let (cluster, term, body) = (ClusterId(1), Term(3), body.clone());
        node.step(Input::Receive(Message { cluster, from, to, term, body }));
    }
    (0..1_000).any(|_| {
        node.step(Input::Tick);
        node.role() != RoleName::Follower
    })
}

/// Of somebody whose log ends with the membership, and by which node 1 is a voter.
fn asked() -> Body {
    Body::PreVote { last: LogId::new(Term(1), Index(1)) }
}

fn a_learner_whose_vote_is_needed_stands() -> Result<(), Broken> {
    ensure!(stands_after(&[asked()]), "nobody stands who has the newest log");
    Ok(())
}

fn a_learner_that_nobody_asked_waits() -> Result<(), Broken> {
    ensure!(!stands_after(&[]), "a learner stands whom nobody takes for a voter");
    Ok(())
}

fn a_learner_that_heard_a_leader_waits() -> Result<(), Broken> {
    let elected = Body::Heartbeat { commit: Index(1), round: 1 };
    ensure!(!stands_after(&[asked(), elected]), "a learner stands whose vote was not needed");
    Ok(())
}
