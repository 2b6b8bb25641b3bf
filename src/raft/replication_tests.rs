use crate::raft::{
    Body, ClusterId, Config, Entry, Index, Input, Member, Membership, Message, Node, NodeId,
    Payload, ProposalId, Recovered, RoleName,
};

const ENTRY_BYTES: usize = 4096;
const ENTRIES: u64 = 1000;
const HEARTBEATS: u32 = 100;

fn membership() -> Membership {
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
        members: (1..=3).map(|id| (NodeId(id), member(id))).collect(),
        voters: (1..=3).map(NodeId).collect(),
        outgoing: None,
    }
}

/// The leader of three, which has just founded them, and how many bytes of entries it has sent to node 3.
struct Leader {
    node: Node,
    sent: usize,
    appends: usize,
    last_sent: Index,
}

impl Leader {
    fn new() -> Leader {
        let node = Node::new(Config::new(NodeId(1), 1), Recovered::default());
        let mut leader = Leader { node, sent: 0, appends: 0, last_sent: Index(0) };
        leader.step(Input::Found { membership: membership() });
        leader
    }

    fn step(&mut self, input: Input) {
        self.node.step(input);
        let mut output = self.node.take_output();
        while let Some(seq) = output.persist.last().map(|write| write.seq) {
            self.count(&output.send);
            self.node.step(Input::Persisted { seq });
            output = self.node.take_output();
        }
        self.count(&output.send);
    }

    fn count(&mut self, messages: &[Message]) {
        for message in messages.iter().filter(|message| message.to == NodeId(3)) {
            if let Body::Append { prev, entries, .. } = &message.body {
                self.appends += 1;
                self.sent += entries.iter().map(Entry::cost_bytes).sum::<usize>();
                self.last_sent = entries.last().map_or(prev.index, |entry| entry.id.index);
            }
        }
    }

    fn hear(&mut self, from: u64, body: Body) {
        let (from, to, term) = (NodeId(from), NodeId(1), self.node.term());
        self.step(Input::Receive(Message { cluster: ClusterId(1), from, to, term, body }));
    }

    fn propose(&mut self) {
        let payload = Payload::Command(vec![0; ENTRY_BYTES].into());
        self.step(Input::Propose { id: ProposalId(1), payload });
    }

    /// Time goes on. Node 2 holds all that there is; `three` answers heartbeats, and no append.
    fn heartbeats(&mut self, count: u32, three: bool) {
        for _ in 0..count * Config::new(NodeId(1), 1).heartbeat_ticks {
            self.step(Input::Tick);
            self.hear(2, Body::AppendReply { matched: self.node.last().index });
            if three {
                self.hear(3, Body::HeartbeatReply { round: 1 });
            }
        }
    }
}

#[test]
fn a_peer_that_answers_no_append_is_sent_little_until_it_does() {
    let mut leader = Leader::new();
    leader.hear(2, Body::AppendReply { matched: Index(1) });
    (0..ENTRIES).for_each(|_| leader.propose());
    let before = leader.sent;
    leader.heartbeats(HEARTBEATS, true);
    let entries = (leader.sent - before) / ENTRY_BYTES;
    assert!(entries <= HEARTBEATS as usize, "{entries} entries in {HEARTBEATS} heartbeats");
    assert!(leader.appends >= HEARTBEATS as usize / 2, "only {} probes", leader.appends);
    // Its first answer opens the whole window.
    leader.hear(3, Body::AppendReply { matched: Index(1) });
    assert_eq!(leader.last_sent, leader.node.last().index);
}

#[test]
fn a_peer_that_answers_nothing_is_sent_one_append() {
    let mut leader = Leader::new();
    leader.hear(3, Body::AppendReply { matched: Index(1) });
    (0..ENTRIES).for_each(|_| leader.propose());
    let before = leader.sent;
    leader.step(Input::Unreachable { peer: NodeId(3) });
    // From where a probe has not been yet, all that goes into an append: most peers take it.
    let append = Config::new(NodeId(1), 1).append_bytes_max;
    assert!((append - 2 * ENTRY_BYTES..=append).contains(&(leader.sent - before)));
    let (sent, appends) = (leader.sent, leader.appends);
    leader.heartbeats(HEARTBEATS, false);
    assert_eq!((leader.sent, leader.appends), (sent, appends));
    assert_eq!(leader.node.role(), RoleName::Leader);
}
