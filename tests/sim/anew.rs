//! In the end: clusters that begin anew with one host, from a backup and from what a host still has.

use konsen::cluster::{Addresses, begin_anew};
use konsen::kv::Revision;
use konsen::raft::{ClusterId, Input, LogId, Membership, Node, NodeId, RoleName};
use konsen::store::{BackupCheck, BackupError, Origin, State, StoreError};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::host::{Begun, Configuration, Host};
use super::oracle::{Broken, ensure};
use super::world::World;

/// The new cluster's identity.
const CLUSTER: ClusterId = ClusterId(99);

impl World {
    /// A backup of a host that runs makes a host that has the same, and decides alone.
    pub(super) fn restore(&mut self) -> Result<(), Broken> {
        // A host that was never taken in has nothing, and nobody gets a backup of it.
        let present = self.present().map(|host| &self.hosts[host]);
        let served = present.filter(|host| !host.disk_failed()).find_map(|host| {
            let running = host.running.as_ref()?;
            running.state.membership().map(|_| (host, running))
        });
        let Some((host, running)) = served else { return Ok(()) };
        let members = alone(NodeId(7_000));
        let config = Configuration { name: "h1".to_owned(), ..host.config.clone() };
        let restored = back_up(&running.state)
            .and_then(|(_, backup)| {
                let mut anew = Host::new(NodeId(7_000), config);
                anew.highest = host.highest;
                anew.second_settings = host.second_settings;
                anew.take_in(&self.plan, &backup, members.clone())
            })
            .map_err(|error| Broken(format!("a backup of {} is no good: {error}", host.id)))?;
        ensure!(
            rows(&restored.state).ok() == rows(&running.state).ok(),
            "the restored rows are not those of {}",
            host.id
        );
        let last = restored.state.applied();
        self.judge(&members, last, &restored, NodeId(7_000))?;
        self.count("backups restored");
        Ok(())
    }

    /// A host that is left alone goes on with what its log has.
    pub(super) fn rescue(&mut self) -> Result<(), Broken> {
        // One that was never taken in has nothing to go on with.
        let with_log = self.present().filter(|&host| {
            let durable = self.oracle.hosts.get(&self.hosts[host].id);
            durable.is_some_and(|durable| durable.last().0 > 0)
        });
        let (up, down): (Vec<usize>, Vec<usize>) =
            with_log.partition(|&host| self.hosts[host].running.is_some());
        let (up, down) = (up.first().copied(), down.first().copied());
        // One that stayed dead may have entries that were never decided.
        let Some(host) = down.or(up) else { return Ok(()) };
        if down.is_none() {
            self.crash(host, false);
        }
        let id = self.hosts[host].id;
        let members = alone(id);
        let (last, begun) = match self.hosts[host].begin_anew(&self.plan, &members) {
            Ok(done) => done,
            Err(error) if self.hosts[host].disk_failed() => {
                self.trace(|_| format!("{id} cannot begin anew: {error}"));
                return Ok(());
            }
            Err(error) => return Err(Broken(format!("{id} cannot begin anew: {error}"))),
        };
        self.judge(&members, last, &begun, id)?;
        self.count("hosts that began anew");
        Ok(())
    }

    fn judge(
        &self,
        members: &Membership,
        last: LogId,
        begun: &Begun,
        id: NodeId,
    ) -> Result<(), Broken> {
        let (applied, hash) = begun.state.hash();
        ensure!(applied == last, "{id} begins anew at {applied}, not at {last}");
        let stated = [(last.index, members.clone())];
        ensure!(
            begun.state.membership().as_ref() == stated.first(),
            "the state of {id} keeps members"
        );
        ensure!(
            begun.recovered.memberships == stated && begun.recovered.committed == last,
            "{id} begins anew with {:?}",
            begun.recovered
        );
        let decided = self.oracle.committed.get(last.index.0 as usize - 1);
        if decided.is_some_and(|(entry, _)| entry.id == last) {
            let expected = self.oracle.reference.hash_at(last.index);
            ensure!(hash == expected, "{id} began anew at {last} with another state");
        }
        let config = self.plan.raft(id, 1, self.plan.settings(false), 0);
        let mut node = Node::new(config, begun.recovered.clone());
        for _ in 0..4 * u64::from(self.plan.election_ticks) {
            node.step(Input::Tick);
            for write in node.take_output().persist {
                node.step(Input::Persisted { seq: write.seq });
            }
        }
        ensure!(
            node.role() == RoleName::Leader && node.commit() > last.index,
            "{id} does not decide alone"
        );
        Ok(())
    }
}

fn alone(id: NodeId) -> Membership {
    let addresses = |name: &str| Addresses { raft: format!("{name}:1"), http: format!("{name}:2") };
    let hosts = ["h1", "h2", "h3"].map(|name| (name.to_owned(), addresses(name)));
    begin_anew(CLUSTER, ("h1", id), hosts)
}

/// The store's revision in a backup, and the backup.
pub(super) fn back_up(state: &State) -> Result<(Revision, Vec<u8>), BackupError> {
    let text = String::new;
    let origin = Origin { konsen: text(), cluster: text(), node: text(), created: text() };
    let mut reader = state.backup(origin);
    let mut bytes = Vec::new();
    while let Some(part) = reader.next_part(700)? {
        bytes.extend_from_slice(&part);
    }
    let mut check = BackupCheck::knowing(state.highest());
    check.feed(&bytes)?;
    check.finish()?;
    Ok((reader.revision(), bytes))
}

/// A hash of all rows: of the pieces of a snapshot but for the first and the last.
fn rows(state: &State) -> Result<u64, StoreError> {
    let mut snapshot = state.snapshot();
    let (mut before, mut digest) = (None, 0);
    // The head says who the members are.
    snapshot.next_piece(1 << 20)?;
    while let Some(piece) = snapshot.next_piece(1 << 20)? {
        if let Some(rows) = before.replace(piece) {
            digest = xxh3_64_with_seed(&rows, digest);
        }
    }
    Ok(digest)
}
