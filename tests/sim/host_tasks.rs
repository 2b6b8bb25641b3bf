//! What a server's other threads do for a host: read old entries, write checkpoints.

use std::collections::BTreeMap;

use konsen::kv::{KeyRange, RangeQuery, Revision};
use konsen::raft::{Fetch, LogId};
use konsen::replica::{Event, LookedUp, Lookup};
use konsen::store::{Frozen, ReadError, RowsRead, State, StoreError};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::clients::key_name;
use super::due::Due;
use super::oracle::{Broken, ensure};
use super::world::World;

/// How much of a state's file is verified at once: a page or two, so that checkpoints come in between.
const VERIFY_BYTES: u64 = 8 << 10;

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

    /// Sooner or later somebody will look up what apply needs: at once, when the disk answers, or not at all if nobody
    /// waits for it.
    pub(super) fn look_up_later(&mut self, host: usize, lookup: Lookup) {
        let life = self.hosts[host].life;
        if matches!(lookup, Lookup::RowsAhead(_)) && self.chance.lookup.chance(50) {
            return;
        }
        let most = if self.chance.lookup.chance(50) { 30 * self.plan.slowness } else { 2 };
        let delay = self.chance.lookup.below(most);
        self.after(delay, Due::Lookup { host, life, lookup });
    }

    pub(super) fn look_up(&mut self, host: usize, lookup: Lookup) -> Result<(), Broken> {
        let id = self.hosts[host].id;
        let Some(running) = &self.hosts[host].running else { return Ok(()) };
        let (rows, news) = match running.look_up(lookup) {
            Ok(looked_up) => looked_up,
            Err(error) => return self.halt(host, format!("{id} cannot look up: {error}")),
        };
        // A checkpoint may end in between.
        if self.chance.lookup.chance(100) {
            let (life, delay) = (self.hosts[host].life, self.chance.lookup.below(40));
            self.after(delay * self.plan.slowness, Due::Hold { host, life, rows, news });
            return Ok(());
        }
        self.hold(host, rows, news)
    }

    /// What was looked up is put where apply finds it.
    pub(super) fn hold(
        &mut self,
        host: usize,
        rows: RowsRead,
        news: Option<LookedUp>,
    ) -> Result<(), Broken> {
        let Some(running) = &self.hosts[host].running else { return Ok(()) };
        running.state.hold_rows(rows, matches!(news, Some(LookedUp::Rows)));
        match news {
            None => self.count("rows looked up ahead"),
            Some(LookedUp::Rows) => self.count("waits for rows"),
            Some(LookedUp::Entries(_)) => self.count("waits for old entries"),
        }
        news.map_or(Ok(()), |news| self.step(host, Event::LookedUp(news)))
    }

    pub(super) fn plan_checkpoint(&mut self, host: usize, life: u64) {
        let delay = self.chance.disk.range(1, 2 * self.plan.checkpoint_every);
        self.after(delay, Due::Freeze { host, life });
    }

    pub(super) fn freeze(&mut self, host: usize, life: u64) -> Result<(), Broken> {
        self.plan_checkpoint(host, life);
        self.verify(host)?;
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

    /// Verifies a few of the pages that the host found in its state's file at its start.
    fn verify(&mut self, host: usize) -> Result<(), Broken> {
        let id = self.hosts[host].id;
        let Some(running) = &self.hosts[host].running else { return Ok(()) };
        if running.state.verified().ended.is_some() {
            return Ok(());
        }
        match running.state.verify(VERIFY_BYTES) {
            Ok(true) => self.count("files that are verified beside writes"),
            Ok(false) => self.count("files verified to their end"),
            Err(error) => return self.halt(host, format!("{id} cannot verify: {error}")),
        }
        Ok(())
    }

    pub(super) fn end_checkpoint(&mut self, host: usize) -> Result<(), Broken> {
        let id = self.hosts[host].id;
        let Some(running) = &mut self.hosts[host].running else { return Ok(()) };
        let Some(frozen) = running.frozen.take() else { return Ok(()) };
        if !running.state.log_holds(&frozen) {
            running.frozen = Some(frozen);
            let life = self.hosts[host].life;
            self.count("checkpoints that wait for the log");
            let delay = self.chance.disk.range(1, 30) * self.plan.slowness;
            self.after(delay, Due::EndCheckpoint { host, life });
            return Ok(());
        }
        let covers = frozen.applied();
        let durable = match running.state.write_checkpoint(frozen) {
            Ok(durable) => durable,
            Err(error) => {
                self.halt(host, format!("{id} cannot write a checkpoint: {error}"))?;
                self.hosts[host].unsure_checkpoint = Some(covers);
                return Ok(());
            }
        };
        running.replica.checkpointed(durable);
        if durable != covers {
            self.count("checkpoints that a snapshot overtook");
            return self.settle(host);
        }
        self.oracle_of(host).checkpointed(id, covers)?;
        self.trace(|_| format!("{id} has a checkpoint at {covers}"));
        self.count("checkpoints");
        self.inspect(host)?;
        self.settle(host)
    }

    /// Compares all that a host's state holds, now and at some time before, with the committed log, and how
    /// far its past can be read.
    pub(super) fn inspect(&mut self, host: usize) -> Result<(), Broken> {
        match self.compare(host)? {
            Some(why) => self.halt(host, why),
            None => Ok(()),
        }
    }

    /// Why it could not be read, if it could not.
    fn compare(&mut self, host: usize) -> Result<Option<String>, Broken> {
        let id = self.hosts[host].id;
        let Some(running) = &self.hosts[host].running else { return Ok(None) };
        let state = running.state.clone();
        let (newest, compacted) = (state.revision(), state.compacted());
        let applied = state.applied().index;
        let expected = self.oracle_of(host).reference.compacted_at(applied);
        ensure!(
            compacted == expected,
            "{id} at {applied} has given up the past before {compacted}, a replay before {expected}"
        );
        let random = &mut self.chance.clients;
        // Where something is given up things go wrong.
        let past = match random.chance(500) {
            true => random.range(compacted.0.saturating_sub(2), newest.0),
            false => random.below(newest.0 + 1),
        };
        let past = Revision(past);
        for at in [None, Some(past)] {
            let query = RangeQuery {
                range: KeyRange::all(),
                at,
                descending: past.0.is_multiple_of(2),
                keys_only: false,
                items_max: usize::MAX,
                bytes_max: usize::MAX,
            };
            let page = match state.range(&query) {
                Ok(_) if at.is_some_and(|at| at < compacted) => {
                    return Err(Broken(format!("{id} lists {at:?} before {compacted}")));
                }
                Ok(page) => page,
                Err(ReadError::Compacted { asked, oldest })
                    if asked == past && oldest == compacted && past < compacted =>
                {
                    self.count("reads of a past that is given up");
                    continue;
                }
                Err(error) => return Ok(Some(format!("{id} cannot list: {error}"))),
            };
            let items = page.items.into_iter();
            let mut found: Vec<_> =
                items.map(|item| (item.key, item.value, item.mod_revision)).collect();
            found.sort();
            let expected = self.oracle_of(host).reference.listing(at.unwrap_or(newest));
            ensure!(
                found == expected,
                "{id} lists {found:?} at {at:?} of {newest}, a replay has {expected:?}"
            );
            for key in 0..self.plan.keys {
                let name = key_name(key);
                let found = match state.get(&name, at) {
                    Ok((_, item)) => item.map(|item| (item.value, item.mod_revision)),
                    Err(error) => return Ok(Some(format!("{id} cannot read: {error}"))),
                };
                let expected = self.oracle_of(host).reference.value_at(&name, at.unwrap_or(newest));
                ensure!(
                    found == expected,
                    "{id} reads {found:?} of key{key} at {at:?} of {newest}, a replay has {expected:?}"
                );
            }
        }
        self.count("listings compared");
        Ok(None)
    }

    /// Once everything is written and nothing is left that compaction hides, states at the same entry are
    /// the same, byte for byte. For the end: nobody goes on afterwards.
    pub(super) fn same_bytes(&mut self) -> Result<(), Broken> {
        let mut digests = BTreeMap::new();
        for host in 0..self.hosts.len() {
            let id = self.hosts[host].id;
            let lost = self.is_lost(host);
            let Some(running) = &mut self.hosts[host].running else { continue };
            let begun = running.frozen.take();
            let digest = match settled_digest(&running.state, begun) {
                Ok(digest) => digest,
                Err(error) if self.hosts[host].disk_failed() => {
                    self.trace(|_| format!("{id} is not compared: {error}"));
                    continue;
                }
                Err(error) => return Err(Broken(format!("{id} cannot be compared: {error}"))),
            };
            let (first, expected) = *digests.entry((lost, digest.0)).or_insert((id, digest.1));
            ensure!(expected == digest.1, "{first} and {id} differ at {}", digest.0);
            self.count("states compared byte for byte");
        }
        Ok(())
    }
}

/// Writes and sweeps all there is: the last entry, and a hash of every byte that a snapshot would carry.
fn settled_digest(state: &State, begun: Option<Frozen>) -> Result<(LogId, u64), StoreError> {
    if let Some(frozen) = begun {
        state.write_checkpoint(frozen)?;
    }
    while let Some(frozen) = state.freeze() {
        state.write_checkpoint(frozen)?;
    }
    let mut snapshot = state.snapshot();
    let mut digest = 0;
    while let Some(piece) = snapshot.next_piece(1 << 20)? {
        digest = xxh3_64_with_seed(&piece, digest);
    }
    Ok((snapshot.last(), digest))
}
