//! What a server's other threads do for a host: read old entries, write checkpoints.

use konsen::kv::{KeyRange, RangeQuery, Revision};
use konsen::raft::Fetch;
use konsen::replica::Event;

use super::due::Due;
use super::oracle::{Broken, ensure};
use super::world::World;

impl World {
    pub(super) fn fetch(&mut self, host: usize, fetch: Fetch) -> Result<(), Broken> {
        let id = self.hosts[host].id;
        let Some(running) = &self.hosts[host].running else { return Ok(()) };
        let input = match running.fetch(fetch) {
            Ok(input) => input,
            Err(error) => return self.halt(host, format!("{id} cannot read {fetch:?}: {error}")),
        };
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
                let delay = self.chance.disk.range(1, 300) * self.plan.slowness;
                self.after(delay, Due::EndCheckpoint { host, life });
            }
        }
        Ok(())
    }

    pub(super) fn end_checkpoint(&mut self, host: usize) -> Result<(), Broken> {
        let id = self.hosts[host].id;
        let Some(running) = &mut self.hosts[host].running else { return Ok(()) };
        let Some(frozen) = running.frozen.take() else { return Ok(()) };
        let covers = frozen.applied();
        match running.state.write_checkpoint(frozen) {
            Ok(durable) => running.covered = Some(durable),
            Err(error) => {
                self.halt(host, format!("{id} cannot write a checkpoint: {error}"))?;
                self.hosts[host].unsure_checkpoint = Some(covers);
                return Ok(());
            }
        }
        if running.covered != Some(covers) {
            self.count("checkpoints that a snapshot overtook");
            return Ok(());
        }
        self.oracle.checkpointed(id, covers)?;
        self.trace(|_| format!("{id} has a checkpoint at {covers}"));
        self.count("checkpoints");
        self.inspect(host)?;
        self.settle(host)
    }

    /// Compares all that a host's state holds, now and at some time before, with the committed log.
    pub(super) fn inspect(&mut self, host: usize) -> Result<(), Broken> {
        let id = self.hosts[host].id;
        let Some(running) = &self.hosts[host].running else { return Ok(()) };
        let newest = running.state.revision();
        let past = Revision(self.chance.clients.below(newest.0 + 1));
        let query = |at: Option<Revision>| RangeQuery {
            range: KeyRange::all(),
            at,
            descending: past.0.is_multiple_of(2),
            keys_only: false,
            items_max: usize::MAX,
            bytes_max: usize::MAX,
        };
        for at in [None, Some(past)] {
            let page = running.state.range(&query(at));
            let page = match page {
                Ok(page) => page,
                Err(error) => return self.halt(host, format!("{id} cannot list: {error}")),
            };
            let items = page.items.into_iter();
            let mut found: Vec<_> =
                items.map(|item| (item.key, item.value, item.mod_revision)).collect();
            found.sort();
            let expected = self.oracle.reference.listing(at.unwrap_or(newest));
            ensure!(
                found == expected,
                "{id} lists {found:?} at {at:?} of {newest}, a replay has {expected:?}"
            );
        }
        self.count("listings compared");
        Ok(())
    }
}
