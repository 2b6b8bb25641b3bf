//! One node against chance: no input makes it fail, and what only grows never goes back.

use std::collections::BTreeMap;

use konsen::raft::{
    Body, ClusterId, Config, Entry, HardState, Index, Input, LogId, Membership, Message, Moment,
    Node, NodeId, Output, Payload, ProposalId, ReadId, Recovered, Seq, Term,
};
use proptest::prelude::*;

use crate::cluster::{Cluster, membership};

/// `KONSEN_PROPERTY_CASES` asks for more than the few hundred of a usual run.
pub(crate) fn config() -> ProptestConfig {
    let cases = std::env::var("KONSEN_PROPERTY_CASES")
        .ok()
        .and_then(|cases| cases.parse().ok())
        .unwrap_or(256);
    ProptestConfig {
        cases,
        failure_persistence: None,
        max_shrink_iters: 20_000,
        ..Default::default()
    }
}

fn any_index() -> impl Strategy<Value = Index> {
    prop_oneof![8 => 0..12u64, 1 => Just(u64::MAX), 1 => Just(1u64 << 62), 1 => any::<u64>()]
        .prop_map(Index)
}

fn any_term() -> impl Strategy<Value = Term> {
    prop_oneof![12 => 0..6u64, 1 => Just(u64::MAX), 1 => Just(1u64 << 62), 1 => any::<u64>()]
        .prop_map(Term)
}

fn any_log_id() -> impl Strategy<Value = LogId> {
    (any_term(), any_index()).prop_map(|(term, index)| LogId { term, index })
}

fn any_membership() -> impl Strategy<Value = Membership> {
    let set = || proptest::collection::btree_set((0..6u64).prop_map(NodeId), 0..4);
    (set(), set(), proptest::option::of(set()), 0..2u64).prop_map(
        |(voters, learners, outgoing, cluster)| {
            let voters: Vec<u64> = voters.iter().map(|id| id.0).collect();
            let learners: Vec<u64> = learners.iter().map(|id| id.0).collect();
            let mut membership = membership(&voters, &learners);
            membership.outgoing = outgoing;
            membership.cluster = ClusterId(cluster);
            membership
        },
    )
}

fn any_payload() -> impl Strategy<Value = Payload> {
    prop_oneof![
        3 => Just(Payload::Noop),
        6 => (0..40usize).prop_map(|size| Payload::Command(vec![b'x'; size].into())),
        1 => any_membership().prop_map(Payload::Membership),
    ]
}

/// Mostly runs that could be true, sometimes anything.
fn any_entries() -> impl Strategy<Value = (LogId, Vec<Entry>)> {
    let run = (any_log_id(), proptest::collection::vec((0..2u64, any_payload()), 0..5)).prop_map(
        |(prev, list)| {
            let mut before = prev;
            let entries = list
                .into_iter()
                .map(|(step, payload)| {
                    before = LogId {
                        term: Term(before.term.0.saturating_add(step)),
                        index: Index(before.index.0.saturating_add(1)),
                    };
                    Entry { id: before, payload }
                })
                .collect();
            (prev, entries)
        },
    );
    let chaos = (
        any_log_id(),
        proptest::collection::vec(
            (any_log_id(), any_payload()).prop_map(|(id, payload)| Entry { id, payload }),
            0..4,
        ),
    );
    prop_oneof![5 => run, 1 => chaos]
}

fn any_body() -> impl Strategy<Value = Body> {
    let round = prop_oneof![5 => 0..5u64, 1 => any::<u64>()];
    prop_oneof![
        any_log_id().prop_map(|last| Body::PreVote { last }),
        any::<bool>().prop_map(|granted| Body::PreVoteReply { granted }),
        (any_log_id(), any::<bool>()).prop_map(|(last, transfer)| Body::Vote { last, transfer }),
        any::<bool>().prop_map(|granted| Body::VoteReply { granted }),
        (any_entries(), any_index()).prop_map(|((prev, entries), commit)| Body::Append {
            prev,
            entries,
            commit
        }),
        any_index().prop_map(|matched| Body::AppendReply { matched }),
        (any_index(), any_log_id()).prop_map(|(prev, hint)| Body::AppendReject { prev, hint }),
        (any_index(), round.clone()).prop_map(|(commit, round)| Body::Heartbeat { commit, round }),
        round.prop_map(|round| Body::HeartbeatReply { round }),
        (0..5u64, any::<bool>()).prop_map(|(id, lease)| Body::ReadIndex { id: ReadId(id), lease }),
        (0..5u64, proptest::option::of(any_index()))
            .prop_map(|(id, index)| Body::ReadIndexReply { id: ReadId(id), index }),
        any_log_id().prop_map(|last| Body::Snapshot { last }),
        Just(Body::TimeoutNow),
    ]
}

fn any_node() -> impl Strategy<Value = NodeId> {
    (0..6u64).prop_map(NodeId)
}

fn any_message() -> impl Strategy<Value = Message> {
    let to = prop_oneof![9 => Just(NodeId(1)), 1 => any_node()];
    let cluster = prop_oneof![9 => Just(ClusterId(1)), 1 => (0..3u64).prop_map(ClusterId)];
    (cluster, any_node(), to, any_term(), any_body())
        .prop_map(|(cluster, from, to, term, body)| Message { cluster, from, to, term, body })
}

/// An input, and whether the output is taken after it.
fn any_input() -> impl Strategy<Value = (Input, bool)> {
    let id = || (0..9u64).prop_map(ProposalId);
    let input = prop_oneof![
        12 => any_message().prop_map(Input::Receive),
        6 => Just(Input::Tick),
        1 => any_membership().prop_map(|membership| Input::Found { membership }),
        3 => (id(), any_payload()).prop_map(|(id, payload)| Input::Propose { id, payload }),
        2 => (0..9u64, any::<bool>())
            .prop_map(|(id, lease)| Input::Read { id: ReadId(id), lease }),
        1 => (0..500u64).prop_map(|now| Input::Now(Moment(now))),
        1 => any::<bool>().prop_map(Input::Leases),
        6 => prop_oneof![9 => 0..30u64, 1 => any::<u64>()].prop_map(|seq| Input::Persisted { seq: Seq(seq) }),
        1 => (any_node(), any_entries())
            .prop_map(|(peer, (prev, entries))| Input::Fetched { peer, prev, entries }),
        2 => any_index().prop_map(|index| Input::Applied { index }),
        1 => (id(), any_membership()).prop_map(|(id, membership)| Input::ChangeMembers { id, membership }),
        1 => (id(), any::<bool>()).prop_map(|(id, force)| Input::UndoChange { id, force }),
        1 => proptest::option::of(any_node()).prop_map(|to| Input::TransferLeadership { to }),
        1 => any_node().prop_map(|peer| Input::Unreachable { peer }),
        1 => (any_node(), any::<bool>())
            .prop_map(|(peer, installed)| Input::SnapshotEnded { peer, installed }),
        1 => Just(Input::DiskSlow),
        2 => Just(Input::TellCommits),
    ];
    (input, any::<bool>())
}

/// What never goes back at one node.
#[derive(Default)]
struct Watch {
    term: Term,
    vote: Option<NodeId>,
    commit: Index,
    committed: BTreeMap<Index, Term>,
}

impl Watch {
    fn check(&mut self, node: &Node) {
        let HardState { term, vote, commit } = node.hard_state();
        assert!(term >= self.term, "term went back");
        if term == self.term && self.vote.is_some() {
            assert_eq!(vote, self.vote, "second vote in {term}");
        }
        assert!(commit >= self.commit, "commit went back");
        assert!(node.durable() <= node.last().index);
        assert!(commit <= node.last().index);
        for index in self.commit.0 + 1..=commit.0 {
            if let Some(term) = node.term_at(Index(index)) {
                self.committed.insert(Index(index), term);
            }
        }
        for (index, term) in &self.committed {
            assert!(node.term_at(*index).is_none_or(|now| now == *term), "committed entry changed");
        }
        (self.term, self.vote, self.commit) = (term, vote, commit);
    }
}

/// A node that saw a broken invariant says so, and nothing else, whatever happens.
fn is_silent(mut node: Node, input: Input) {
    let broken = node.broken().cloned();
    for input in [Input::Tick, input, Input::Persisted { seq: Seq(1) }] {
        let told = Output { fatal: broken.clone(), ..Output::default() };
        assert_eq!(node.take_output(), told);
        node.step(input);
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn no_input_makes_a_node_fail(
        belongs in any::<bool>(),
        voters in 1..4u64,
        inputs in proptest::collection::vec(any_input(), 1..300),
    ) {
        let config = Config {
            election_ticks: 4,
            heartbeat_ticks: 1,
            append_bytes_max: 100,
            inflight_bytes_max: 200,
            inflight_appends_max: 3,
            uncommitted_bytes_max: 500,
            tail_bytes_max: 200,
            reads_max: 4,
            ..Config::new(NodeId(1), 5)
        };
        let mut cluster = Cluster::default();
        let recovered = if belongs {
            let ids: Vec<u64> = (1..=voters).collect();
            cluster.add_member(NodeId(1), &membership(&ids, &[]), &[1, 1, 2], 2);
            cluster.hosts[&NodeId(1)].disk.recover()
        } else {
            Recovered::default()
        };
        let mut node = Node::new(config, recovered);
        let mut watch = Watch::default();
        let mut written = Seq(0);
        for (input, take) in inputs {
            let before = node.clone();
            node.step(input.clone());
            if node.broken().is_some() {
                // Members that lie can stop it. Then it is as if it had died; what comes goes on as if that had been lost.
                is_silent(node, input);
                node = before;
                continue;
            }
            watch.check(&node);
            if take {
                let output = node.take_output();
                prop_assert!(output.persist.len() <= 1);
                for write in output.persist {
                    prop_assert_eq!(write.seq, Seq(written.0 + 1));
                    written = write.seq;
                }
                watch.check(&node);
            }
        }
    }
}
