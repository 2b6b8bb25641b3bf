//! How long a cluster has no leader after one died: whole cores, each with ticks of its own phase, on a fast network.

use std::collections::BTreeMap;

use konsen::raft::{
    Body, Config, Index, Input, Message, Node, NodeId, Payload, ProposalId, RoleName, Seq,
};

use crate::cluster::{Disk, membership};

/// What a tick takes, as by default: an election time-out has fifty, 500 ms.
const TICK_US: u64 = 10_000;
/// How long a message is on its way, and a write to the disk.
const WAY_US: (u64, u64) = (200, 600);
const WRITE_US: (u64, u64) = (500, 2_000);

enum Event {
    Tick(NodeId),
    Arrives(Message),
    Written(NodeId, Seq),
}

/// A cluster in which things happen at their time.
struct Timeline {
    now: u64,
    /// By time, and what was foreseen first comes first.
    due: BTreeMap<(u64, u64), Event>,
    foreseen: u64,
    nodes: BTreeMap<NodeId, Node>,
    random: u64,
    /// Who has committed something as a leader.
    leader: Option<NodeId>,
    /// Who gets no entries any more.
    deprived: Option<NodeId>,
}

impl Timeline {
    fn new(voters: u64, seed: u64) -> Timeline {
        let ids: Vec<u64> = (1..=voters).collect();
        let mut line = Timeline {
            now: 0,
            due: BTreeMap::new(),
            foreseen: 0,
            nodes: BTreeMap::new(),
            random: seed,
            leader: None,
            deprived: None,
        };
        for id in ids.iter().copied().map(NodeId) {
            let disk =
                Disk { membership: Some((Index(0), membership(&ids, &[]))), ..Disk::default() };
            let seed = line.chance(0, u64::MAX);
            line.nodes.insert(id, Node::new(Config::new(id, seed), disk.recover()));
            let phase = line.chance(0, TICK_US);
            line.after(phase, Event::Tick(id));
        }
        line
    }

    /// At least the one, less than the other.
    fn chance(&mut self, least: u64, below: u64) -> u64 {
        // Knuth's MMIX; its upper bits are good.
        self.random = self
            .random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        least + (self.random >> 24) % (below - least)
    }

    fn after(&mut self, delay: u64, event: Event) {
        self.foreseen += 1;
        self.due.insert((self.now + delay, self.foreseen), event);
    }

    fn step(&mut self, id: NodeId, input: Input) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        node.step(input);
        let output = node.take_output();
        if output.commit.is_some() && node.role() == RoleName::Leader {
            self.leader = Some(id);
        }
        for write in output.persist {
            let delay = self.chance(WRITE_US.0, WRITE_US.1);
            self.after(delay, Event::Written(id, write.seq));
        }
        for message in output.send {
            let lost =
                self.deprived == Some(message.to) && matches!(message.body, Body::Append { .. });
            let delay = self.chance(WAY_US.0, WAY_US.1);
            if !lost {
                self.after(delay, Event::Arrives(message));
            }
        }
    }

    /// Lets time go on until a leader has committed something, or until then.
    fn go_on(&mut self, until: u64) {
        while self.leader.is_none() || until != u64::MAX {
            let Some(((at, _), event)) = self.due.pop_first() else { return };
            if at > until {
                self.due.insert((at, 0), event);
                self.now = until;
                return;
            }
            self.now = at;
            match event {
                Event::Tick(id) => {
                    self.after(TICK_US, Event::Tick(id));
                    self.step(id, Input::Tick);
                }
                Event::Arrives(message) => self.step(message.to, Input::Receive(message)),
                Event::Written(id, seq) => self.step(id, Input::Persisted { seq }),
            }
        }
    }

    /// Kills a leader after some time; how long it takes until the next one has committed something. If `one_lags`, one of
    /// the others has not got what the leader took in last.
    fn failover(&mut self, one_lags: bool) -> u64 {
        self.go_on(u64::MAX);
        let leader = self.leader.expect("one is elected");
        let pause = self.chance(300_000, 600_000);
        self.go_on(self.now + pause);
        if one_lags {
            self.deprived = self.nodes.keys().copied().find(|id| *id != leader);
            let payload = Payload::Command("x".into());
            self.step(leader, Input::Propose { id: ProposalId(1), payload });
            let pause = self.chance(3_000, 40_000);
            self.go_on(self.now + pause);
            self.deprived = None;
        }
        self.nodes.remove(&leader);
        self.leader = None;
        let killed = self.now;
        self.go_on(u64::MAX);
        self.now - killed
    }
}

/// How long so many failovers take, in milliseconds: at the median, the 99th percentile, and at most.
fn failovers(voters: u64, one_lags: bool) -> [u64; 3] {
    let count = std::env::var("KONSEN_ELECTIONS").map_or(2_000, |text| text.parse().unwrap());
    let mut times: Vec<u64> =
        (0..count).map(|seed| Timeline::new(voters, seed).failover(one_lags)).collect();
    times.sort_unstable();
    let times =
        [50, 99, 100].map(|percent| times[(times.len() * percent).div_ceil(100) - 1] / 1_000);
    let [median, p99, most] = times;
    let lags = if one_lags { ", one lags" } else { "" };
    eprintln!("{voters} voters{lags}: p50 {median} ms, p99 {p99} ms, max {most} ms");
    times
}

/// `KONSEN_ELECTIONS=20000` asks for so many.
#[test]
fn a_dead_leader_is_replaced_before_the_longest_time_out_is_over() {
    // The longest time-out, and a moment for votes and the first commit.
    let longest = 750 + 10;
    for one_lags in [false, true] {
        // There is nobody else to split the votes; if one lags only the other can be elected.
        let [_, _, most] = failovers(3, one_lags);
        assert!(most <= longest, "three voters without a leader for {most} ms");
        let [_, p99, _] = failovers(5, one_lags);
        assert!(p99 <= longest, "one in a hundred times five voters have no leader for {p99} ms");
    }
}
