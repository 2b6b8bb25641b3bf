//! The network between the hosts.

use konsen::raft::{Body, Input, Message};
use konsen::replica::Event;

use super::due::Due;
use super::oracle::Broken;
use super::plan::{Fault, Time};
use super::world::{Lag, World, host_of};

/// Old messages kept to be sent once more.
const ATTIC_MAX: usize = 200;
/// How late such a message comes at most; on slow clusters it is minutes.
const REPLAY_MAX: Time = 10_000;

impl World {
    pub(super) fn send(&mut self, message: Message) {
        let (from, to) = (host_of(message.from), host_of(message.to));
        if !self.is_linked(from, to, message.to) {
            self.count("messages without a way");
            return;
        }
        if self.blocked[from][to] > 0 {
            self.count("messages blocked");
            return;
        }
        if matches!(message.body, Body::VoteReply { granted: true })
            && self.plan.faults.contains(&Fault::CrashVoter)
            && self.chance.nemesis.chance(300)
        {
            let life = self.hosts[from].life;
            let delay = self.chance.nemesis.below(20);
            self.after(
                delay,
                Due::Blink { host: from, life, what: "fault: power loss after a vote" },
            );
        }
        if self.holes[from][to] > 0
            && matches!(&message.body, Body::Append { entries, .. } if !entries.is_empty())
        {
            self.count("messages too large for a way");
            return;
        }
        if matches!(message.body, Body::TimeoutNow)
            && self.plan.faults.contains(&Fault::LateTimeoutNow)
            && !self.calm
        {
            self.count("fault: told to stand late or twice");
            let late = self.chance.nemesis.range(1, 2 * self.plan.election());
            self.after(late, Due::Deliver(message.clone()));
            self.open_hole(vec![(from, to)], late);
            if self.chance.nemesis.chance(500) {
                return;
            }
        }
        let delay = self.lag[to].at(self.now) + 1 + self.chance.net.below(self.plan.delay);
        if self.calm {
            self.after(delay, Due::Deliver(message));
            return;
        }
        self.remember_message(&message);
        if self.chance.net.chance(self.plan.replay) {
            let late = self.chance.net.below(REPLAY_MAX * self.plan.slowness);
            self.replay(late);
        }
        if self.chance.net.chance(self.plan.loss) {
            self.count("messages lost");
            return;
        }
        if self.chance.net.chance(self.plan.duplication) {
            let late = 1 + self.chance.net.below(self.plan.long_delay.0);
            self.after(late, Due::Deliver(message.clone()));
            self.count("messages doubled");
        }
        let delay = if self.chance.net.chance(self.plan.long_delay.1) {
            self.count("messages delayed");
            1 + self.chance.net.below(self.plan.long_delay.0)
        } else {
            delay
        };
        self.after(delay, Due::Deliver(message));
    }

    pub(super) fn block(&mut self, links: Vec<(usize, usize)>, duration: Time) {
        for &(from, to) in &links {
            self.blocked[from][to] += 1;
            self.watch.cut(from, to);
        }
        self.after(duration, Due::Mend { links });
    }

    pub(super) fn open_hole(&mut self, links: Vec<(usize, usize)>, duration: Time) {
        for &(from, to) in &links {
            self.holes[from][to] += 1;
            self.watch.cut(from, to);
        }
        self.after(duration, Due::Fill { links });
    }

    pub(super) fn fill(&mut self, links: &[(usize, usize)]) {
        for &(from, to) in links {
            self.holes[from][to] = self.holes[from][to].saturating_sub(1);
            self.works_again(from, to);
        }
    }

    pub(super) fn mend(&mut self, links: &[(usize, usize)]) {
        for &(from, to) in links {
            self.blocked[from][to] = self.blocked[from][to].saturating_sub(1);
            self.works_again(from, to);
        }
    }

    fn works_again(&mut self, from: usize, to: usize) {
        if self.blocked[from][to] == 0 && self.holes[from][to] == 0 {
            self.watch.mended(from, to, self.now);
        }
    }

    /// All links work, and nothing stands still any more.
    pub(super) fn mend_all(&mut self) {
        for row in self.blocked.iter_mut().chain(&mut self.holes) {
            row.fill(0);
        }
        // Whoever is told to stand now would disturb the calm.
        let disturbs = |due: &Due| matches!(due, Due::Deliver(message) if matches!(message.body, Body::TimeoutNow));
        self.due.retain(|_, due| !disturbs(due));
        self.lag.fill(Lag::default());
        self.due.retain(|_, due| {
            !matches!(
                due,
                Due::Mend { .. }
                    | Due::Cut { .. }
                    | Due::Fill { .. }
                    | Due::Strike
                    | Due::Churn
                    | Due::Operate { .. }
                    | Due::Command { .. }
                    | Due::Again { .. }
                    | Due::HandOver { .. }
                    | Due::BackUp
                    | Due::Rebirth
                    | Due::Empty { .. }
                    | Due::Return { .. }
                    | Due::Replace { .. }
            )
        });
        for host in &mut self.hosts {
            host.paused_until = host.paused_until.min(self.now);
            host.stalled_until = host.stalled_until.min(self.now);
            host.unread_until = host.unread_until.min(self.now);
            host.cure();
        }
    }

    /// Keeps some messages, of any age, to be sent once more.
    fn remember_message(&mut self, message: &Message) {
        let telling = !matches!(message.body, Body::Heartbeat { .. } | Body::HeartbeatReply { .. });
        if !self.chance.net.chance(if telling { 150 } else { 20 }) {
            return;
        }
        if self.attic.len() < ATTIC_MAX {
            self.attic.push(message.clone());
        } else {
            let place = self.chance.net.below(ATTIC_MAX as u64) as usize;
            self.attic[place] = message.clone();
        }
    }

    /// Delivers an old message once more.
    pub(super) fn replay(&mut self, late: Time) {
        if !self.attic.is_empty() {
            let old = self.chance.net.pick(&self.attic).clone();
            self.after(late, Due::Deliver(old));
            self.count("messages replayed");
        }
    }

    pub(super) fn is_blocked(&self, message: &Message) -> bool {
        self.blocked[host_of(message.from)][host_of(message.to)] > 0
    }

    pub(super) fn deliver(&mut self, message: Message) -> Result<(), Broken> {
        let (from, to) = (host_of(message.from), host_of(message.to));
        self.trace(|_| format!("{:?} <- {:?}", message.to, message));
        if self.hosts[to].id != message.to {
            // Who dials an identity is not let in by another.
            self.count("messages to a lost identity");
            return Ok(());
        }
        self.count("messages delivered");
        self.heard[to][from] = self.ticks[to];
        self.step(to, Event::Raft(Input::Receive(message)))
    }
}
