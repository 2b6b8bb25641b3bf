//! While the storm goes on: where a majority of each voter set in force is up and connected, and stays so, it elects
//! and serves within a bound, and every member that is there with it follows.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use konsen::raft::{Membership, NodeId};

use super::oracle::{Broken, ensure};
use super::plan::Time;
use super::world::{World, host_of};

/// How many times as long as a majority may take to serve its members may take to follow: they may have to be let in,
/// and to take a snapshot in.
const FOLLOW_WITHIN: Time = 3;

fn voters_of(now: &Membership) -> impl Iterator<Item = NodeId> {
    now.voters.iter().chain(now.outgoing.iter().flatten()).copied()
}

/// Since when hosts and ways have been well, and when somebody was seen to serve.
#[derive(Debug)]
pub(super) struct Watch {
    /// When a host was last seen down, standing still, or with a disk that stalls or fails.
    ill: Vec<Time>,
    /// When the way from one host to another was last cut, or kept large messages back; `Time::MAX` while it is.
    cut: Vec<Vec<Time>>,
    /// When a leader was last seen that had committed in its own term, or something that was decided.
    served: Time,
    /// How much was committed, by time.
    committed: VecDeque<(Time, u64)>,
    /// Who was seen to be a member, and since when.
    members: BTreeMap<NodeId, Time>,
    /// When to look next.
    look: Time,
}

impl Watch {
    pub(super) fn new(count: usize) -> Watch {
        Watch {
            ill: vec![0; count],
            cut: vec![vec![0; count]; count],
            served: 0,
            committed: VecDeque::new(),
            members: BTreeMap::new(),
            look: 0,
        }
    }

    /// A host is of no use until then.
    pub(super) fn is_ill(&mut self, host: usize, until: Time) {
        self.ill[host] = self.ill[host].max(until);
    }

    /// A way is cut, or large messages do not come through.
    pub(super) fn cut(&mut self, from: usize, to: usize) {
        self.cut[from][to] = Time::MAX;
    }

    /// It works again.
    pub(super) fn mended(&mut self, from: usize, to: usize, now: Time) {
        self.cut[from][to] = now;
    }
}

impl World {
    /// Notes who is well, and says what is broken where somebody should have been served.
    pub(super) fn watch(&mut self) -> Result<(), Broken> {
        for (host, one) in self.hosts.iter().enumerate() {
            let until = one.paused_until.max(one.stalled_until).max(one.unread_until);
            let stands = until > self.now;
            if one.running.is_none() || stands || self.lag[host].until > self.now {
                self.watch.is_ill(host, self.now);
            }
        }
        if self.calm || self.now < self.watch.look || self.oracle.newest.is_none() {
            return Ok(());
        }
        self.watch.look = self.now + self.plan.election() / 4;
        for (host, one) in self.hosts.iter().enumerate() {
            if one.is_ailing() || self.is_too_old(host) {
                self.watch.is_ill(host, self.now);
            }
        }
        if self.serves() {
            self.watch.served = self.now;
        }
        let committed = self.oracle.committed.len() as u64;
        if self.watch.committed.back().is_none_or(|(_, last)| *last != committed) {
            self.watch.committed.push_back((self.now, committed));
            // Whoever decided that has served, be it that it leads no more.
            self.watch.served = self.now;
        }
        let longest = FOLLOW_WITHIN * self.patience(committed, self.hosts.len());
        let since = self.now.saturating_sub(longest);
        while self.watch.committed.get(1).is_some_and(|(at, _)| *at <= since) {
            self.watch.committed.pop_front();
        }
        self.majority_serves()
    }

    /// Whether a leader has committed in its own term, and does not wait for a disk that answers no read.
    fn serves(&self) -> bool {
        let leader = self.leader().filter(|&host| self.hosts[host].unread_until <= self.now);
        let leader = leader.or_else(|| self.leader().filter(|&host| !self.awaits_lookup(host)));
        let leader = leader.and_then(|host| self.hosts[host].running.as_ref());
        leader.is_some_and(|up| self.oracle.committed_in.last() == Some(&up.replica.summary().term))
    }

    fn awaits_lookup(&self, host: usize) -> bool {
        self.hosts[host].running.as_ref().is_some_and(|up| up.replica.awaits_lookup())
    }

    fn majority_serves(&mut self) -> Result<(), Broken> {
        let voters: BTreeSet<NodeId> = self.in_force_somewhere().flat_map(voters_of).collect();
        let together = |within: Time| {
            let since = self.now.checked_sub(within)?;
            Some((since, self.together(voters.iter().copied(), since)))
        };
        // What one of them lacks it has to be sent before anything new is decided.
        let Some((_, there)) = together(self.patience(0, 1)) else { return Ok(()) };
        let patience = self.patience(self.spread(&there), there.len());
        let Some((since, there)) = together(patience) else { return Ok(()) };
        let has_quorum = |now: &Membership| {
            now.is_quorum(|id| there.iter().any(|&host| self.hosts[host].id == id))
        };
        if !self.in_force_somewhere().all(has_quorum) {
            return Ok(());
        }
        self.count("majorities that stayed together");
        if self.watch.served < since {
            self.trace(World::describe);
        }
        ensure!(
            self.watch.served >= since,
            "hosts {there:?} are a majority, up and connected since {since}, and nobody serves"
        );
        self.members_follow(&there)
    }

    /// How many entries the first of these hosts has before the last.
    fn spread(&self, hosts: &[usize]) -> u64 {
        let up = hosts.iter().filter_map(|&host| self.hosts[host].running.as_ref());
        let last: Vec<u64> = up.map(|up| up.replica.summary().last.0).collect();
        let least = last.iter().min().copied().unwrap_or_default();
        last.iter().max().map_or(0, |most| most - least)
    }

    /// Who has long been there with a majority has what was committed when it came.
    fn members_follow(&mut self, majority: &[usize]) -> Result<(), Broken> {
        let Some((_, newest)) = self.oracle.newest.clone() else { return Ok(()) };
        let all: Vec<NodeId> = majority.iter().map(|&host| self.hosts[host].id).collect();
        self.watch.members.retain(|id, _| newest.members.contains_key(id));
        for id in newest.members.keys() {
            self.watch.members.entry(*id).or_insert(self.now);
        }
        for id in newest.members.keys().filter(|id| !all.contains(id)) {
            let host = host_of(*id);
            let together = [majority, &[host]].concat();
            let patience = FOLLOW_WITHIN * self.patience(self.spread(&together), together.len());
            let Some(since) = self.now.checked_sub(patience) else { continue };
            // It has to be sent everything that there is.
            if self.watch.members.get(id).is_none_or(|taken_in| *taken_in > since) {
                continue;
            }
            let with = self.together(all.iter().copied().chain([*id]), since);
            let up = self.hosts[host].running.as_ref().filter(|_| with.len() > all.len());
            let Some(applied) = up.map(|up| up.replica.summary().applied.0) else { continue };
            let before = self.watch.committed.iter().take_while(|(at, _)| *at <= since).last();
            let before = before.map_or(0, |(_, before)| *before);
            if applied < before {
                self.trace(World::describe);
            }
            ensure!(
                applied >= before,
                "{id} is a member, up and connected with {majority:?} since {since}, and has {applied} of the \
                 {before} entries of then"
            );
            self.count("members that follow a majority");
        }
        Ok(())
    }

    /// How long so many hosts that can decide may take, with so many entries to send before.
    fn patience(&self, entries: u64, hosts: usize) -> Time {
        // With the smallest windows every entry takes a round trip and a sync of its own.
        let steady = 12 * self.plan.election() + (500 + 100 * entries) * self.plan.slowness;
        // All of them may be needed. Who stands then asks each of the others twice, and tries again if one of these
        // messages, or of the answers, is lost or late.
        let in_time = 1_000 - self.plan.loss - self.plan.long_delay.1;
        (0..4 * hosts.saturating_sub(1)).fold(steady, |time, _| time * 1_000 / in_time)
    }

    /// Every membership that somebody who is up goes by, and the newest that is committed.
    fn in_force_somewhere(&self) -> impl Iterator<Item = &Membership> {
        let up = (0..self.hosts.len()).filter(|&host| !self.is_lost(host));
        let in_force =
            up.filter_map(|host| self.hosts[host].running.as_ref()?.replica.membership());
        in_force.chain(self.oracle.newest.as_ref().map(|(_, now)| now))
    }

    /// Of these identities as many hosts as are found that have all been well, and connected with each other, since
    /// then.
    fn together(&self, ids: impl Iterator<Item = NodeId>, since: Time) -> Vec<usize> {
        let mut together: Vec<usize> = Vec::new();
        for id in ids {
            let host = host_of(id);
            let well = self.hosts[host].id == id
                && self.hosts[host].running.is_some()
                && !self.is_lost(host)
                && self.watch.ill[host] < since;
            let connected = |&other: &usize| {
                let ways = [self.watch.cut[host][other], self.watch.cut[other][host]];
                ways.iter().all(|cut| *cut < since)
                    && (self.knows_the_way(host, other) || self.knows_the_way(other, host))
            };
            if well && together.iter().all(connected) {
                together.push(host);
            }
        }
        together
    }
}
