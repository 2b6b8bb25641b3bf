//! What a leader does from time to time beside the membership: gives up the past, and compares states.

use std::collections::BTreeMap;
use std::time::Duration;

use konsen::cluster::consistency;
use konsen::kv::Revision;
use konsen::raft::RoleName;

use super::clients::Ask;
use super::oracle::{Broken, ensure};
use super::plan::Time;
use super::world::World;

impl World {
    /// Notes how far a host is, and has it give up the past and compare states if it leads.
    pub(super) fn do_chores(&mut self, host: usize) -> Result<(), Broken> {
        let now = Duration::from_millis(self.now);
        let Some(running) = &mut self.hosts[host].running else { return Ok(()) };
        running.times.note(now, running.replica.revision());
        if running.replica.summary().role != RoleName::Leader || self.calm {
            return Ok(());
        }
        let wanted = running.times.oldest_wanted(now);
        let compacted = running.state.compacted();
        if let Some(revision) = wanted.filter(|wanted| *wanted > compacted) {
            self.gives_up_in_time(host, revision)?;
            self.count("compactions that history asks for");
            let request = self.history.call(Ask::Compact { revision });
            self.write(host, request, 0)?;
        }
        if self.chance.pace.chance(100) {
            self.compare_states(host)?;
        }
        Ok(())
    }

    /// Nothing is given up that is to be kept.
    fn gives_up_in_time(&self, host: usize, revision: Revision) -> Result<(), Broken> {
        if self.is_lost(host) {
            return Ok(());
        }
        let keep = self.plan.keep;
        let newest = self.oracle.reference.revision();
        let by_count = keep.revisions.map(|most| Revision((newest.0 + 1).saturating_sub(most)));
        let by_age = keep.age.and_then(|age| {
            let then = self.now.checked_sub(age.as_millis() as Time)?;
            self.reached.range(..=then).next_back().map(|(_, revision)| *revision)
        });
        ensure!(
            Some(revision) <= by_count.max(by_age),
            "{} gives up the past before {revision}; {keep:?} allows {by_count:?} and {by_age:?}",
            self.hosts[host].id
        );
        Ok(())
    }

    /// The newest revision that is committed, by time.
    pub(super) fn note_revision(&mut self) {
        self.reached.insert(self.now, self.oracle.reference.revision());
    }

    /// A leader compares hashes of all states that it reaches: of those who are well nobody is ever accused.
    fn compare_states(&mut self, host: usize) -> Result<(), Broken> {
        let Some(running) = &self.hosts[host].running else { return Ok(()) };
        let Some(now) = running.replica.membership() else { return Ok(()) };
        let mut all = BTreeMap::from([(self.hosts[host].id, running.state.state_hashes())]);
        for (other, one) in self.hosts.iter().enumerate() {
            let asked = now.members.contains_key(&one.id)
                && self.is_linked(host, other, one.id)
                && self.is_open(host, other);
            if let Some(up) = one.running.as_ref().filter(|_| asked) {
                all.insert(one.id, up.state.state_hashes());
            }
        }
        let verdict = consistency::judge(&all, now);
        ensure!(verdict.is_none(), "states differ, or are said to: {verdict:?}");
        if all.values().filter(|hashes| !hashes.is_empty()).count() > 1 {
            self.count("states compared by their hashes");
        }
        Ok(())
    }
}
