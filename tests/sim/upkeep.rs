//! What a server's other threads do for a host: read old entries, write checkpoints.

use konsen::raft::Fetch;
use konsen::replica::Event;

use super::due::Due;
use super::oracle::Broken;
use super::world::World;

impl World {
    pub(super) fn fetch(&mut self, host: usize, fetch: Fetch) -> Result<(), Broken> {
        let Some(running) = &self.hosts[host].running else { return Ok(()) };
        let input = running.fetch(fetch).map_err(|error| {
            Broken(format!("{} cannot read {fetch:?}: {error}", self.hosts[host].id))
        })?;
        self.count("reads of old entries");
        self.step(host, Event::Raft(input))
    }

    pub(super) fn plan_checkpoint(&mut self, host: usize, life: u64) {
        let delay = self.chance.disk.range(1, 2 * self.plan.checkpoint_every);
        self.after(delay, Due::Freeze { host, life });
    }

    pub(super) fn freeze(&mut self, host: usize, life: u64) -> Result<(), Broken> {
        self.plan_checkpoint(host, life);
        if let Some(running) = &mut self.hosts[host].running
            && running.frozen.is_none()
        {
            running.frozen = running.state.freeze();
            if running.frozen.is_some() {
                let delay = self.chance.disk.range(1, 300);
                self.after(delay, Due::EndCheckpoint { host, life });
            }
        }
        Ok(())
    }

    pub(super) fn end_checkpoint(&mut self, host: usize) -> Result<(), Broken> {
        let id = self.hosts[host].id;
        let Some(running) = &mut self.hosts[host].running else { return Ok(()) };
        let Some(frozen) = running.frozen.take() else { return Ok(()) };
        let covers = running
            .state
            .write_checkpoint(frozen)
            .map_err(|error| Broken(format!("{id}: a checkpoint fails: {error}")))?;
        self.oracle.checkpointed(id, covers)?;
        self.trace(|_| format!("{id} has a checkpoint at {covers}"));
        self.count("checkpoints");
        self.settle(host)
    }
}
