//! Nodes, their disks and the messages between them, moved one step at a time.

use std::collections::{BTreeMap, BTreeSet};

use konsen::raft::{
    ClusterId, Config, Entry, HardState, Index, Input, LogId, LogWrite, Member, Membership,
    Message, Node, NodeId, Output, Payload, Recovered, Seq, Term,
};

pub(crate) fn membership(voters: &[u64], learners: &[u64]) -> Membership {
    let member = |id: u64| Member {
        name: format!("n{id}"),
        raft_address: format!("n{id}:1"),
        http_address: format!("n{id}:2"),
        seen: true,
        promote: false,
        replaces: None,
    };
    Membership {
        cluster: ClusterId(1),
        members: voters.iter().chain(learners).map(|&id| (NodeId(id), member(id))).collect(),
        voters: voters.iter().map(|&id| NodeId(id)).collect::<BTreeSet<_>>(),
        outgoing: None,
    }
}

/// What survives a loss of power.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk {
    pub(crate) hard_state: HardState,
    pub(crate) base: LogId,
    pub(crate) log: Vec<Entry>,
    /// The membership as of `base`.
    pub(crate) membership: Option<(Index, Membership)>,
}

impl Disk {
    pub(crate) fn write(&mut self, write: &LogWrite) {
        if let Some(state) = write.hard_state {
            self.hard_state = state;
        }
        if let Some((last, membership)) = &write.reset {
            self.install(*last, membership.clone());
        }
        if let Some(from) = write.truncate_from {
            self.log.retain(|entry| entry.id.index < from);
        }
        for entry in &write.entries {
            assert_eq!(entry.id.index, self.last().index.next(), "a hole in the log on disk");
            self.log.push(entry.clone());
        }
    }

    /// What a start finds once a snapshot is in place of the state, whether or not the log was written
    /// since.
    pub(crate) fn install(&mut self, last: LogId, membership: Membership) {
        self.log.clear();
        self.base = last;
        self.membership = Some((last.index, membership));
    }

    pub(crate) fn last(&self) -> LogId {
        self.log.last().map_or(self.base, |entry| entry.id)
    }

    pub(crate) fn id_at(&self, index: Index) -> Option<LogId> {
        if index == self.base.index {
            return Some(self.base);
        }
        self.get(index).map(|entry| entry.id)
    }

    pub(crate) fn get(&self, index: Index) -> Option<&Entry> {
        let offset = index.0.checked_sub(self.base.index.0 + 1)?;
        self.log.get(offset as usize)
    }

    pub(crate) fn recover(&self) -> Recovered {
        let mut hard_state = self.hard_state;
        hard_state.commit = hard_state.commit.max(self.base.index);
        let committed = self.id_at(hard_state.commit).expect("commit lies in the log");
        let tail: Vec<Entry> =
            self.log.iter().filter(|entry| entry.id.index > hard_state.commit).cloned().collect();
        let mut memberships: Vec<(Index, Membership)> = self.membership.iter().cloned().collect();
        for entry in &self.log {
            if let Payload::Membership(membership) = &entry.payload {
                memberships.push((entry.id.index, membership.clone()));
            }
        }
        Recovered {
            hard_state,
            base: self.base,
            committed,
            tail,
            memberships,
            applied: hard_state.commit,
            heard_leader: false,
        }
    }

    pub(crate) fn compact(&mut self, last: LogId) {
        for entry in &self.log {
            if let Payload::Membership(membership) = &entry.payload
                && entry.id.index <= last.index
            {
                self.membership = Some((entry.id.index, membership.clone()));
            }
        }
        self.log.retain(|entry| entry.id.index > last.index);
        self.base = last;
    }
}

/// One host: its disk, its process if it runs, and the writes that are not durable yet.
pub(crate) struct Host {
    pub(crate) disk: Disk,
    pub(crate) node: Option<Node>,
    pub(crate) writes: Vec<LogWrite>,
    pub(crate) starts: u64,
    pub(crate) applied: Index,
}

/// The settings that scripts change.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) append_bytes_max: usize,
    pub(crate) inflight_appends_max: usize,
    pub(crate) uncommitted_bytes_max: usize,
    pub(crate) tail_bytes_max: usize,
    pub(crate) reads_max: usize,
    pub(crate) lease_us: u64,
    pub(crate) seed: u64,
}

impl Default for Settings {
    fn default() -> Settings {
        let config = Config::new(NodeId(1), 0);
        Settings {
            append_bytes_max: config.append_bytes_max,
            inflight_appends_max: config.inflight_appends_max,
            uncommitted_bytes_max: config.uncommitted_bytes_max,
            tail_bytes_max: config.tail_bytes_max,
            reads_max: config.reads_max,
            lease_us: config.lease_us,
            seed: 0,
        }
    }
}

/// All hosts, and what is between them.
#[derive(Default)]
pub(crate) struct Cluster {
    pub(crate) hosts: BTreeMap<NodeId, Host>,
    /// On their way, in the order they were sent.
    pub(crate) network: Vec<Message>,
    /// Pairs, from and to, between which nothing passes.
    pub(crate) cut: BTreeSet<(NodeId, NodeId)>,
    pub(crate) settings: Settings,
}

impl Cluster {
    pub(crate) fn start(&mut self, id: NodeId) {
        let host = self.hosts.get_mut(&id).expect("a host");
        host.starts += 1;
        let seed = self.settings.seed.wrapping_mul(1_000_003) + id.0 * 1000 + host.starts;
        let settings = &self.settings;
        let config = Config {
            heartbeat_ticks: 2,
            election_ticks: 10,
            append_bytes_max: settings.append_bytes_max,
            inflight_appends_max: settings.inflight_appends_max,
            uncommitted_bytes_max: settings.uncommitted_bytes_max,
            tail_bytes_max: settings.tail_bytes_max,
            reads_max: settings.reads_max,
            lease_us: settings.lease_us,
            ..Config::new(id, seed)
        };
        let mut recovered = host.disk.recover();
        recovered.heard_leader = host.starts > 1;
        host.applied = recovered.applied;
        let mut node = Node::new(config, recovered);
        node.step(Input::Leases(settings.lease_us > 0));
        host.node = Some(node);
    }

    pub(crate) fn add(&mut self, id: NodeId, disk: Disk) {
        let host = Host { disk, node: None, writes: Vec::new(), starts: 0, applied: Index(0) };
        self.hosts.insert(id, host);
        self.start(id);
    }

    /// A host whose disk says that it belongs to `membership` and holds entries of these terms after
    /// the membership at index 1.
    pub(crate) fn add_member(
        &mut self,
        id: NodeId,
        membership: &Membership,
        terms: &[u64],
        term: u64,
    ) {
        let mut log = vec![Entry {
            id: LogId::new(Term(1), Index(1)),
            payload: Payload::Membership(membership.clone()),
        }];
        for (offset, &entry_term) in terms.iter().enumerate() {
            let index = Index(offset as u64 + 2);
            log.push(Entry {
                id: LogId::new(Term(entry_term), index),
                payload: Payload::Command(format!("{index}@{entry_term}").into_bytes().into()),
            });
        }
        let hard_state = HardState { term: Term(term), vote: None, commit: Index(1) };
        self.add(id, Disk { hard_state, log, ..Disk::default() });
    }

    pub(crate) fn node(&self, id: NodeId) -> Option<&Node> {
        self.hosts.get(&id)?.node.as_ref()
    }

    /// Gives a node an input and takes its output; messages and writes wait to be moved on.
    pub(crate) fn step(&mut self, id: NodeId, input: Input) -> Option<Output> {
        self.node_mut(id)?.step(input);
        self.collect(id)
    }

    pub(crate) fn node_mut(&mut self, id: NodeId) -> Option<&mut Node> {
        self.hosts.get_mut(&id)?.node.as_mut()
    }

    pub(crate) fn collect(&mut self, id: NodeId) -> Option<Output> {
        let host = self.hosts.get_mut(&id)?;
        let output = host.node.as_mut()?.take_output();
        host.writes.extend(output.persist.iter().cloned());
        self.network.extend(output.send.iter().cloned());
        Some(output)
    }

    /// Makes the oldest write durable; its number.
    pub(crate) fn persist(&mut self, id: NodeId) -> Option<Seq> {
        let host = self.hosts.get_mut(&id)?;
        if host.writes.is_empty() || host.node.is_none() {
            return None;
        }
        let write = host.writes.remove(0);
        host.disk.write(&write);
        Some(write.seq)
    }

    /// Loses power: what is not durable is gone.
    pub(crate) fn crash(&mut self, id: NodeId) {
        if let Some(host) = self.hosts.get_mut(&id) {
            host.node = None;
            host.writes.clear();
        }
    }

    pub(crate) fn passes(&self, message: &Message) -> bool {
        !self.cut.contains(&(message.from, message.to))
    }
}
