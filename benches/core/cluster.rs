//! Three cores in memory, whose disks and network answer at once.

use std::collections::{BTreeMap, BTreeSet};

use konsen::raft::{
    ClusterId, Config, Entry, HardState, Index, Input, LogId, Member, Membership, Message, Node,
    NodeId, Payload, Recovered, RoleName, Term,
};

/// Node 1 leads.
pub(crate) struct Cluster {
    nodes: BTreeMap<NodeId, Node>,
    /// How many reads the leader has released.
    pub(crate) released: usize,
    /// What the leader knows to be committed.
    pub(crate) committed: Index,
}

impl Cluster {
    pub(crate) fn new() -> Cluster {
        let ids = [NodeId(1), NodeId(2), NodeId(3)];
        let member = |id: NodeId| Member {
            name: id.to_string(),
            raft_address: String::new(),
            http_address: String::new(),
            seen: true,
            promote: false,
            replaces: None,
        };
        let membership = Membership {
            cluster: ClusterId(1),
            members: ids.iter().map(|&id| (id, member(id))).collect(),
            voters: BTreeSet::from(ids),
            outgoing: None,
        };
        let first = LogId::new(Term(1), Index(1));
        let recovered = Recovered {
            hard_state: HardState { term: Term(1), vote: None, commit: Index(0) },
            tail: vec![Entry { id: first, payload: Payload::Membership(membership.clone()) }],
            memberships: vec![(first.index, membership)],
            ..Recovered::default()
        };
        let nodes = ids
            .into_iter()
            .map(|id| (id, Node::new(Config::new(id, 1), recovered.clone())))
            .collect();
        let mut cluster = Cluster { nodes, released: 0, committed: Index(0) };
        while cluster.leader().role() != RoleName::Leader {
            cluster.leader().step(Input::Tick);
            cluster.settle();
        }
        cluster
    }

    pub(crate) fn leader(&mut self) -> &mut Node {
        self.nodes.get_mut(&NodeId(1)).expect("node 1")
    }

    /// Lets all of them work until there is nothing left to do.
    pub(crate) fn settle(&mut self) {
        loop {
            let mut messages: Vec<Message> = Vec::new();
            let mut busy = false;
            for (id, node) in &mut self.nodes {
                let output = node.take_output();
                for write in output.persist {
                    busy = true;
                    node.step(Input::Persisted { seq: write.seq });
                }
                if let Some(index) = output.commit {
                    node.step(Input::Applied { index });
                    if *id == NodeId(1) {
                        self.committed = index;
                    }
                }
                self.released += output.reads.len();
                messages.extend(output.send);
            }
            if messages.is_empty() && !busy {
                return;
            }
            for message in messages {
                if let Some(node) = self.nodes.get_mut(&message.to) {
                    node.step(Input::Receive(message));
                }
            }
        }
    }
}
