//! A cluster whose every step is checked against what must hold for the whole.

use std::collections::BTreeMap;

use konsen::raft::{
    Body, Entry, Index, Input, LogId, Membership, Message, Moment, NodeId, ReadId, RoleName, Term,
};

use crate::cluster::{Cluster, Disk, membership};

pub(crate) const TICK_US: u64 = 1000;
/// Exactly the ten ticks of an election time-out: whoever counts them lets the clock go on as far.
pub(crate) const LEASE_US: u64 = 10 * TICK_US;

/// A cluster with the checks of the whole.
pub(crate) struct World {
    pub(crate) cluster: Cluster,
    pub(crate) leaders: BTreeMap<Term, NodeId>,
    pub(crate) committed: BTreeMap<Index, Entry>,
    pub(crate) votes: BTreeMap<(Term, NodeId), NodeId>,
    pub(crate) fetches: Vec<(NodeId, konsen::raft::Fetch)>,
    /// Snapshots on their way: from, to, state.
    pub(crate) snapshots: Vec<(NodeId, NodeId, LogId, Membership)>,
    /// The highest index committed anywhere when each read arrived.
    pub(crate) reads: BTreeMap<ReadId, Index>,
    pub(crate) next_id: u64,
    /// The clock of all: no node's ticks are faster.
    pub(crate) clock: Moment,
    pub(crate) figures: Figures,
}

#[derive(Default, Debug)]
pub(crate) struct Figures {
    pub(crate) commits: u64,
    pub(crate) reads: u64,
    pub(crate) leaders: u64,
    pub(crate) changes: u64,
    pub(crate) fetches: u64,
    pub(crate) snapshots: u64,
}

impl World {
    pub(crate) fn new(voters: u64, seed: u64) -> World {
        let mut cluster = Cluster::default();
        cluster.settings.seed = seed;
        cluster.settings.append_bytes_max = 150;
        cluster.settings.inflight_appends_max = 3;
        cluster.settings.uncommitted_bytes_max = 2000;
        cluster.settings.tail_bytes_max = 150;
        cluster.settings.reads_max = 16;
        cluster.settings.lease_us = LEASE_US;
        let ids: Vec<u64> = (1..=voters).collect();
        for id in 1..=5 {
            if id <= voters {
                cluster.add_member(NodeId(id), &membership(&ids, &[]), &[], 1);
            } else {
                cluster.add(NodeId(id), Disk::default());
            }
        }
        World {
            cluster,
            leaders: BTreeMap::new(),
            committed: BTreeMap::new(),
            votes: BTreeMap::new(),
            fetches: Vec::new(),
            snapshots: Vec::new(),
            reads: BTreeMap::new(),
            next_id: 0,
            clock: Moment::default(),
            figures: Figures::default(),
        }
    }

    pub(crate) fn step(&mut self, id: NodeId, input: Input) {
        if self.cluster.node(id).is_none() {
            return;
        }
        if let Some(node) = self.cluster.node_mut(id) {
            node.step(Input::Now(self.clock));
        }
        let sent = self.cluster.network.len();
        let Some(output) = self.cluster.step(id, input) else { return };
        assert_eq!(output.fatal, None, "{id} stops among honest nodes");
        for message in &self.cluster.network[sent..] {
            self.justified(id, message);
        }
        let messages = self.cluster.network[sent..].to_vec();
        for message in messages {
            if let Body::VoteReply { granted: true } = message.body {
                self.voted(message.term, id, message.to);
            }
            if let Body::Snapshot { .. } = message.body {
                self.offer(id, message.to);
            }
        }
        for fetch in output.fetch {
            self.fetches.push((id, fetch));
        }
        for (read, outcome) in output.reads {
            let arrived = self.reads.remove(&read).expect("a read that was asked, answered once");
            if let Ok(index) = outcome {
                assert!(index >= arrived, "{id} reads at {index}, {arrived} was committed before");
                self.figures.reads += 1;
            }
        }
        self.figures.changes += output
            .accepted
            .iter()
            .filter(|(id, accepted)| id.0 >= 1 << 40 && accepted.is_ok())
            .count() as u64;
        self.check(id);
    }

    pub(crate) fn voted(&mut self, term: Term, voter: NodeId, candidate: NodeId) {
        let vote = *self.votes.entry((term, voter)).or_insert(candidate);
        assert_eq!(vote, candidate, "{voter} voted twice in {term}");
    }

    /// What a message claims is on the sender's disk.
    pub(crate) fn justified(&self, id: NodeId, message: &Message) {
        let disk = &self.cluster.hosts[&id].disk;
        let hypothetical =
            matches!(message.body, Body::PreVote { .. } | Body::PreVoteReply { granted: true });
        assert!(
            hypothetical || message.term <= disk.hard_state.term,
            "term of {message:?} not durable"
        );
        match &message.body {
            Body::VoteReply { granted: true } => assert!(
                disk.hard_state.term > message.term || disk.hard_state.vote == Some(message.to),
                "vote not durable"
            ),
            Body::Vote { last, .. } => {
                assert_eq!(disk.id_at(last.index), Some(*last), "candidate's log not durable");
            }
            Body::AppendReply { matched } => {
                assert!(
                    disk.last().index >= *matched,
                    "{id} acknowledges {matched}, which is not durable"
                );
            }
            _ => {}
        }
    }

    pub(crate) fn check(&mut self, id: NodeId) {
        let node = self.cluster.node(id).expect("it runs");
        let disk = &self.cluster.hosts[&id].disk;
        assert!(disk.last().index.0 >= node.durable().0, "durable mark ahead of the disk");
        if node.role() == RoleName::Leader {
            if !self.leaders.contains_key(&node.term()) {
                self.figures.leaders += 1;
                // Leader completeness: whoever leads a later term holds all that is committed.
                for (index, entry) in self.committed.range(node.first_in_memory()..) {
                    assert_eq!(
                        node.term_at(*index),
                        Some(entry.id.term),
                        "leader {id} of {} lacks {}",
                        node.term(),
                        entry.id
                    );
                }
            }
            let leader = *self.leaders.entry(node.term()).or_insert(id);
            assert_eq!(leader, id, "two leaders in {}", node.term());
        }
        let mut news = Vec::new();
        for index in disk.base.index.0 + 1..=node.commit().0 {
            // What left the memory is on the disk.
            let term = node.term_at(Index(index)).or_else(|| Some(disk.id_at(Index(index))?.term));
            let term = term.expect("the log has no hole");
            match self.committed.get(&Index(index)) {
                Some(entry) => {
                    assert_eq!(entry.id.term, term, "{id}: committed entry {index} differs")
                }
                None => news.push(LogId::new(term, Index(index))),
            }
        }
        // What is new as committed must be durable at a quorum, crashed disks included.
        for entry_id in news {
            self.figures.commits += 1;
            let holders: Vec<NodeId> = self
                .cluster
                .hosts
                .iter()
                .filter(|(_, host)| {
                    host.disk.id_at(entry_id.index) == Some(entry_id)
                        || host.disk.base.index > entry_id.index
                })
                .map(|(holder, _)| *holder)
                .collect();
            let node = self.cluster.node(id).expect("it runs");
            let membership = node.membership().expect("only members commit");
            assert!(
                membership.is_quorum(|node| holders.contains(&node)),
                "{entry_id} is committed at {id} but durable only at {holders:?}"
            );
            let entry = holders
                .iter()
                .find_map(|holder| self.cluster.hosts[holder].disk.get(entry_id.index))
                .expect("whoever compacts it was seen to commit it");
            self.committed.insert(entry_id.index, entry.clone());
        }
        // Log matching, on disks.
        let disk = &self.cluster.hosts[&id].disk;
        for (other, host) in &self.cluster.hosts {
            if *other == id {
                continue;
            }
            let mut same = false;
            for entry in disk.log.iter().rev() {
                match host.disk.get(entry.id.index) {
                    Some(theirs) if theirs.id == entry.id => {
                        assert_eq!(theirs.payload, entry.payload, "entries of one id differ");
                        same = true;
                    }
                    Some(_) => assert!(!same, "logs of {id} and {other} part below {}", entry.id),
                    None => {}
                }
            }
        }
    }

    pub(crate) fn offer(&mut self, from: NodeId, to: NodeId) {
        // The state as of the sender's newest durable checkpoint: here, what its log lacks.
        let disk = &self.cluster.hosts[&from].disk;
        if let Some((_, membership)) = &disk.membership {
            self.snapshots.push((from, to, disk.base, membership.clone()));
        }
    }

    pub(crate) fn highest_commit(&self) -> Index {
        self.committed.keys().next_back().copied().unwrap_or_default()
    }

    pub(crate) fn deliver(&mut self, position: usize) {
        let message = self.cluster.network.remove(position);
        if self.cluster.passes(&message) {
            self.step(message.to, Input::Receive(message));
        }
    }
}
