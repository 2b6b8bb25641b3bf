//! A node, and whatever happens to it.

use super::{
    ClusterId, Config, Entry, Fetch, HardState, Index, Input, LogId, Member, Membership, Message,
    Moment, Node, NodeId, Output, Payload, ProposalId, ReadId, Recovered, Seq, Term,
};

/// The bytes say what happens next, one kind of input after the other, messages as they travel. No input
/// makes the node fail; what only grows never goes back; writes are numbered without a gap; nothing
/// is said in a term that is not durable, and nothing at all once an invariant is seen to be broken.
pub fn node(data: &[u8]) {
    let Some((&kind, mut rest)) = data.split_first() else { return };
    let config = Config {
        election_ticks: 4,
        heartbeat_ticks: 1,
        append_bytes_max: 100,
        inflight_bytes_max: 200,
        inflight_appends_max: 3,
        uncommitted_bytes_max: 500,
        tail_bytes_max: 200,
        reads_max: 4,
        lease_us: 30,
        ..Config::new(NodeId(1), 5)
    };
    let mut watch = Watch::default();
    let recovered = recovered(kind);
    watch.durable_term = recovered.hard_state.term;
    let mut node = Node::new(config, recovered);
    node.step(Input::Leases(kind & 64 == 0));
    while let Some((&op, after)) = rest.split_first() {
        rest = after;
        let mut number = || {
            let (&first, after) = rest.split_first().unwrap_or((&0, rest));
            rest = after;
            u64::from(first)
        };
        let input = match op % 16 {
            0..6 => match postcard::take_from_bytes::<Message>(rest) {
                Ok((message, after)) => {
                    rest = after;
                    Input::Receive(message)
                }
                Err(_) => Input::Tick,
            },
            6 | 7 => Input::Tick,
            8 => Input::Persisted { seq: Seq(number()) },
            9 => {
                let payload = Payload::Command(vec![0; (number() * 3) as usize].into());
                Input::Propose { id: ProposalId(1), payload }
            }
            10 => Input::Read { id: ReadId(number()), lease: op & 16 == 0 },
            11 => Input::Now(Moment(number())),
            12 => Input::Applied { index: Index(number()) },
            13 => Input::ChangeMembers { id: ProposalId(2), membership: membership(number()) },
            14 => match number() % 5 {
                0 => Input::TransferLeadership { to: Some(NodeId(2)) },
                1 => Input::DiskSlow,
                2 => Input::Unreachable { peer: NodeId(2) },
                3 => Input::TellCommits,
                _ => Input::Found { membership: membership(number()) },
            },
            _ => of_disk(number),
        };
        if let Input::Persisted { seq } = input {
            watch.persisted(seq);
        }
        let before = node.clone();
        node.step(input);
        if node.broken().is_some() {
            // Members that lie can stop it. What comes goes on as if that had been lost.
            is_silent(node);
            node = before;
            continue;
        }
        watch.node(&node);
        if op & 32 == 0 {
            watch.output(&node.take_output());
            watch.node(&node);
        }
    }
}

/// What comes of the disk.
fn of_disk(mut number: impl FnMut() -> u64) -> Input {
    let last = LogId::new(Term(number()), Index(number()));
    match number() % 3 {
        0 => Input::Compacted { last },
        1 => Input::Fetched { peer: NodeId(2), prev: last, entries: Vec::new() },
        _ => {
            let membership = membership(number());
            Input::SnapshotInstalled { last, membership, from: NodeId(2) }
        }
    }
}

/// A node that saw a broken invariant says so, and nothing else, whatever happens.
fn is_silent(mut node: Node) {
    let told = Output { fatal: node.broken().cloned(), ..Output::default() };
    for _ in 0..2 {
        assert_eq!(node.take_output(), told);
        (0..10).for_each(|_| node.step(Input::Tick));
        node.step(Input::Persisted { seq: Seq(255) });
    }
}

/// Voters by the bits of `number`; node 1 is always one.
fn membership(number: u64) -> Membership {
    let ids: Vec<NodeId> =
        (1..=6).filter(|n| *n == 1 || number >> n & 1 == 1).map(NodeId).collect();
    let member = |id: NodeId| Member {
        name: id.to_string(),
        raft_address: String::new(),
        http_address: String::new(),
        seen: true,
        promote: false,
        replaces: None,
    };
    Membership {
        cluster: ClusterId(1),
        members: ids.iter().map(|&id| (id, member(id))).collect(),
        voters: ids.into_iter().collect(),
        outgoing: None,
    }
}

fn recovered(kind: u8) -> Recovered {
    if kind == 0 {
        return Recovered::default();
    }
    let membership = membership(u64::from(kind));
    let first = LogId::new(Term(1), Index(1));
    Recovered {
        hard_state: HardState { term: Term(1), vote: None, commit: Index(0) },
        tail: vec![Entry { id: first, payload: Payload::Membership(membership.clone()) }],
        memberships: vec![(first.index, membership)],
        ..Recovered::default()
    }
}

/// What never goes back, and what has to be durable.
#[derive(Default)]
struct Watch {
    term: Term,
    commit: Index,
    durable_term: Term,
    /// The writes that are under way, with their terms.
    writes: Vec<(Seq, Option<Term>)>,
    written: Seq,
}

impl Watch {
    fn node(&mut self, node: &Node) {
        assert!(node.term() >= self.term && node.commit() >= self.commit);
        assert!(node.durable() <= node.last().index && node.commit() <= node.last().index);
        self.term = node.term();
        self.commit = node.commit();
    }

    fn persisted(&mut self, seq: Seq) {
        for (_, term) in self.writes.extract_if(.., |(number, _)| *number <= seq) {
            self.durable_term = self.durable_term.max(term.unwrap_or_default());
        }
    }

    fn output(&mut self, output: &Output) {
        for write in &output.persist {
            assert_eq!(write.seq.0, self.written.0 + 1);
            self.written = write.seq;
            self.writes.push((write.seq, write.hard_state.map(|state| state.term)));
        }
        for message in &output.send {
            // The two pre-vote messages state the term that a candidate would have.
            let pre_vote = matches!(
                message.body,
                super::Body::PreVote { .. } | super::Body::PreVoteReply { .. }
            );
            assert!(pre_vote || message.term <= self.durable_term, "{message:?}");
        }
        for Fetch { from, to, .. } in &output.fetch {
            assert!(from <= to);
        }
    }
}
