//! Makes things go wrong.

use konsen::raft::Input;
use konsen::replica::Event;

use super::due::Due;
use super::oracle::Broken;
use super::plan::{Fault, Time};
use super::world::{Lag, World};

impl World {
    /// One fault, and the appointment for the next.
    pub(super) fn strike(&mut self) -> Result<(), Broken> {
        let Some(every) = self.plan.fault_every else { return Ok(()) };
        let delay = self.chance.nemesis.range(1, 2 * every);
        self.after(delay, Due::Strike);
        let weighted: Vec<Fault> =
            self.faults().iter().flat_map(|&fault| vec![fault; fault.weight()]).collect();
        if weighted.is_empty() {
            return Ok(());
        }
        let fault = *self.chance.nemesis.pick(&weighted);
        self.trace(|_| format!("fault: {fault:?}"));
        let count = self.hosts.len();
        let any = self.chance.nemesis.below(count as u64) as usize;
        let leader = self.leader();
        match fault {
            Fault::Split => {
                self.count("fault: split");
                let mut hosts: Vec<usize> = (0..count).collect();
                self.chance.nemesis.shuffle(&mut hosts);
                let (left, right) =
                    hosts.split_at(self.chance.nemesis.below(count as u64) as usize);
                let links =
                    left.iter().flat_map(|&a| right.iter().flat_map(move |&b| [(a, b), (b, a)]));
                let links = links.collect();
                self.block_for_a_while(links);
            }
            Fault::Mute => {
                self.count("fault: one-way, nobody hears a host");
                self.block_for_a_while(others(count, any).map(|other| (any, other)).collect());
            }
            Fault::Deafen => {
                self.count("fault: one-way, a host hears nobody");
                self.block_for_a_while(others(count, any).map(|other| (other, any)).collect());
            }
            Fault::Isolate => {
                self.count("fault: a host cut off");
                let one = leader.unwrap_or(any);
                let links = others(count, one).flat_map(|other| [(one, other), (other, one)]);
                self.block_for_a_while(links.collect());
            }
            Fault::Chain => {
                self.count("fault: chain");
                let mut links = Vec::new();
                for a in 0..count {
                    for b in a + 2..count {
                        links.extend([(a, b), (b, a)]);
                    }
                }
                self.block_for_a_while(links);
            }
            Fault::Crash => {
                self.count("fault: power loss");
                self.crash_for_a_while(any, false);
            }
            Fault::CrashInWrite => {
                self.count("fault: power loss in a write");
                let writing = |host: &usize| {
                    self.hosts[*host].running.as_ref().is_some_and(|up| up.writing.is_some())
                };
                let one = (0..count).find(writing).unwrap_or(any);
                self.crash_for_a_while(one, true);
            }
            Fault::CrashAll => {
                self.count("fault: all lose power");
                for host in 0..count {
                    self.crash_for_a_while(host, false);
                }
            }
            Fault::CrashLeader => {
                if let Some(leader) = leader {
                    self.count("fault: the leader loses power");
                    self.crash_for_a_while(leader, false);
                }
            }
            Fault::Pause | Fault::PauseLeader => {
                self.count("fault: pause");
                let one = if fault == Fault::PauseLeader { leader.unwrap_or(any) } else { any };
                let until = self.now + self.a_while(10, 3_000);
                self.stand_still(one, until);
            }
            Fault::Stall => {
                self.count("fault: disk stalls");
                let until = self.now + self.a_while(10, 4_000);
                self.hosts[any].stalled_until = until.max(self.hosts[any].stalled_until);
            }
            Fault::Unread => {
                self.count("fault: reads of a disk stall");
                let one = if self.chance.nemesis.chance(500) { leader.unwrap_or(any) } else { any };
                let until = self.now + self.a_while(10, 8_000);
                self.hosts[one].unread_until = until.max(self.hosts[one].unread_until);
            }
            Fault::Transfer | Fault::LateTimeoutNow => {
                if let Some(leader) = leader {
                    self.count("fault: transfer");
                    let to = self.chance.nemesis.below(count as u64 + 1);
                    let to = to.checked_sub(1).map(|to| self.hosts[to as usize].id);
                    self.step(leader, Event::Raft(Input::TransferLeadership { to }))?;
                }
            }
            Fault::Unreachable => {
                if let Some(leader) = leader {
                    self.count("fault: a way believed lost");
                    let peer = self.hosts[any].id;
                    self.step(leader, Event::Raft(Input::Unreachable { peer }))?;
                }
            }
            Fault::Depose => {
                if let Some(leader) = leader {
                    self.count("fault: the leader deposed while it stands still");
                    let links = others(count, leader)
                        .flat_map(|other| [(leader, other), (other, leader)])
                        .collect();
                    let long = self.plan.election();
                    let still = self.chance.nemesis.range(long / 2, 3 * long);
                    let cut_off = still + self.chance.nemesis.range(1, long);
                    // What comes before the way is cut waits for the leader to go on.
                    let grace = self.chance.nemesis.below(30) * self.plan.slowness;
                    self.after(grace, Due::Cut { links, duration: cut_off });
                    self.stand_still(leader, self.now + still);
                }
            }
            // Happens when a vote is given, and when it is time.
            Fault::CrashVoter | Fault::Rebirth | Fault::Operator => {}
            Fault::Change => self.change_members(leader, any)?,
            Fault::Hole => {
                self.count("fault: large messages lost");
                let links = others(count, any).map(|other| (other, any)).collect();
                let duration = self.a_while(50, 4_000);
                self.open_hole(links, duration);
            }
            Fault::Bridge => {
                self.count("fault: the leader reaches a bridge only");
                let one = leader.unwrap_or(any);
                let bridge = self.chance.nemesis.below(count as u64) as usize;
                let cut = others(count, one).filter(|&other| other != bridge);
                self.block_for_a_while(
                    cut.flat_map(|other| [(one, other), (other, one)]).collect(),
                );
            }
            Fault::Flap => {
                self.count("fault: a way flaps");
                let other = self.chance.nemesis.below(count as u64) as usize;
                let links = vec![(any, other), (other, any)];
                let (up, down) = (self.a_while(5, 200), self.a_while(5, 300));
                for time in 0..self.chance.nemesis.range(3, 15) {
                    let cut = Due::Cut { links: links.clone(), duration: down };
                    self.after(time * (up + down), cut);
                }
            }
            Fault::Storm => {
                let life = self.hosts[any].life;
                let pace = self.a_while(2, 150);
                for time in 0..self.chance.nemesis.range(2, 8) {
                    let what = "fault: power loss in a storm of restarts";
                    self.after(time * pace, Due::Blink { host: any, life: life + time, what });
                }
            }
            Fault::Jump => {
                self.count("fault: a clock jumps ahead");
                for _ in 0..self.chance.nemesis.range(2, 200) {
                    self.step(any, Event::Raft(Input::Tick))?;
                }
            }
            Fault::DiskError => self.break_disk(any),
            Fault::Full => {
                if self.hosts[any].running.is_some() {
                    self.count("fault: a full disk");
                    self.hosts[any].fill(&mut self.chance.nemesis);
                }
            }
            Fault::Scarce => self.make_scarce(any)?,
            Fault::Away => self.send_away(any),
            Fault::Wipe => self.wipe(any),
            Fault::Rot => self.rot(any)?,
            // One at a time: the next would let the messages of the last overtake each other.
            Fault::Lag if self.lag.iter().any(|lag| self.now < lag.until) => {}
            Fault::Lag => {
                self.count("fault: the leader hears late and is not heard");
                let one = leader.unwrap_or(any);
                let long = self.plan.election();
                let most = self.chance.nemesis.range(long, 3 * long);
                let (since, until) = (self.now, self.now + 3 * most);
                self.lag[one] = Lag { since, until, most };
                let links = others(count, one).map(|other| (one, other)).collect();
                self.after(2 * most, Due::Cut { links, duration: 2 * most });
            }
            Fault::Echo => {
                self.count("fault: old messages once more");
                for _ in 0..self.chance.nemesis.range(5, 60) {
                    let late = self.chance.nemesis.below(100) * self.plan.slowness;
                    self.replay(late);
                }
            }
        }
        Ok(())
    }

    /// A time between these, on a cluster whose tick takes 10 ms.
    pub(super) fn a_while(&mut self, low: Time, high: Time) -> Time {
        self.chance.nemesis.range(low, high) * self.plan.slowness
    }

    fn break_disk(&mut self, host: usize) {
        if self.hosts[host].running.is_some() {
            let what = self.hosts[host].ail(&mut self.chance.nemesis);
            self.count(what);
        }
    }

    fn block_for_a_while(&mut self, links: Vec<(usize, usize)>) {
        let duration = self.a_while(50, 4_000);
        self.block(links, duration);
    }

    /// Whatever waits for a host to go on was put off until then: the time is never made shorter.
    fn stand_still(&mut self, host: usize, until: Time) {
        let paused = &mut self.hosts[host].paused_until;
        *paused = until.max(*paused);
    }

    fn crash_for_a_while(&mut self, host: usize, in_write: bool) {
        self.crash(host, in_write);
        let down: Time = self.a_while(1, 3_000);
        self.after(down, Due::Start { host });
    }
}

fn others(count: usize, one: usize) -> impl Iterator<Item = usize> {
    (0..count).filter(move |&other| other != one)
}
