//! Snapshots on their way: what the tasks of two servers and the stream between them do, a piece at a time.

use std::time::Duration;

use konsen::raft::{ClusterId, Input, LogId, Message, NodeId, Term};
use konsen::replica::Event;
use konsen::replica::holds::TransferId;
use konsen::store::{Incoming, IncomingError, SnapshotReader};

use super::disk::power_off;
use super::due::Due;
use super::oracle::{Broken, ensure};
use super::plan::{Fault, Time};
use super::world::{World, host_of};

/// A snapshot on its way.
#[derive(Debug)]
pub(super) struct Transfer {
    from: NodeId,
    to: NodeId,
    /// The lives of both ends when it began.
    lives: [u64; 2],
    cluster: ClusterId,
    term: Term,
    /// What it holds of its sender's log.
    hold: TransferId,
    /// The last entry that it covers.
    last: LogId,
    /// None once everything is sent.
    reader: Option<SnapshotReader>,
    incoming: Option<Incoming>,
    piece_bytes: usize,
}

impl World {
    /// A leader begins to send its newest checkpoint.
    pub(super) fn begin_transfer(&mut self, offer: &Message) {
        let Message { cluster, from, to, term, .. } = *offer;
        let now = hold_time(self.now, self.plan.slowness);
        let Some(running) = &mut self.hosts[host_of(from)].running else { return };
        let reader = running.state.snapshot();
        let last = reader.last();
        let hold = running.holds.begin(to, last, now);
        running.sends.insert(to, hold);
        self.trace(|_| format!("{from} sends {to} a snapshot up to {last}"));
        self.count("snapshots begun");
        let lives = [self.hosts[host_of(from)].life, self.hosts[host_of(to)].life];
        let piece_bytes = *self.chance.net.pick(&[1, 200, 2_000]);
        let reader = Some(reader);
        let transfer = Transfer {
            from,
            to,
            lives,
            cluster,
            term,
            hold,
            last,
            reader,
            incoming: None,
            piece_bytes,
        };
        self.transfers_begun += 1;
        self.transfers.insert(self.transfers_begun, transfer);
        let delay = 1 + self.chance.net.below(self.plan.delay);
        self.after(delay, Due::Piece { transfer: self.transfers_begun });
    }

    /// The next piece reaches the receiver, or the stream breaks.
    pub(super) fn piece(&mut self, number: u64) -> Result<(), Broken> {
        let Some(mut transfer) = self.transfers.remove(&number) else { return Ok(()) };
        let ends = [host_of(transfer.from), host_of(transfer.to)];
        let ups = [0, 1].map(|end| self.is_up(ends[end], transfer.lives[end]));
        let cut = !self.is_open(ends[0], ends[1]) || !self.is_linked(ends[0], ends[1], transfer.to);
        let torn =
            !self.calm && self.plan.faults.contains(&Fault::Hole) && self.chance.nemesis.chance(20);
        if ups != [true, true] || cut || torn {
            self.count("snapshots broken off");
            return self.broken_off(transfer);
        }
        let paused = ends.map(|end| self.hosts[end].paused_until).into_iter().max().unwrap_or(0);
        if paused > self.now {
            self.transfers.insert(number, transfer);
            self.after(paused - self.now, Due::Piece { transfer: number });
            return Ok(());
        }
        let Some(reader) = &mut transfer.reader else { return Ok(()) };
        let (id, last) = (transfer.to, reader.last());
        let Some(receiver) = &self.hosts[ends[1]].running else { return Ok(()) };
        if transfer.incoming.is_none() {
            if !receiver.replica.wants_snapshot(transfer.from, transfer.term, last) {
                return self.transfer_ended(&transfer, false);
            }
            match receiver.state.receive() {
                Ok(incoming) => transfer.incoming = Some(incoming),
                Err(IncomingError::Busy) => return self.transfer_ended(&transfer, false),
                Err(error) => {
                    self.transfer_ended(&transfer, false)?;
                    return self.halt(ends[1], format!("{id} cannot take a snapshot in: {error}"));
                }
            }
        }
        let piece = match reader.next_piece(transfer.piece_bytes) {
            Ok(piece) => piece,
            Err(error) => {
                let from = transfer.from;
                power_off(transfer);
                return self.halt(ends[0], format!("{from} cannot read a snapshot: {error}"));
            }
        };
        let Some(incoming) = &mut transfer.incoming else { return Ok(()) };
        match piece {
            Some(piece) => {
                if let Err(error) = incoming.take(&[piece]) {
                    power_off(transfer.incoming.take());
                    self.transfer_ended(&transfer, false)?;
                    return self.halt(ends[1], format!("{id} cannot take a snapshot in: {error}"));
                }
                self.transfers.insert(number, transfer);
                let delay = 1 + self.chance.net.below(self.plan.delay);
                self.after(delay, Due::Piece { transfer: number });
                Ok(())
            }
            None => self.place(transfer),
        }
    }

    /// The stream broke: what came is of no use.
    fn broken_off(&mut self, mut transfer: Transfer) -> Result<(), Broken> {
        let receiver = host_of(transfer.to);
        let whole = transfer.incoming.as_ref().is_some_and(Incoming::is_whole);
        if whole && self.is_up(receiver, transfer.lives[1]) {
            return self.place(transfer);
        }
        if !self.is_up(receiver, transfer.lives[1]) {
            power_off(transfer.incoming.take());
        }
        self.transfer_ended(&transfer, false)
    }

    /// A host is about to stop in order: its ends of all streams go first, since each holds its files open.
    pub(super) fn end_transfers_of(&mut self, host: usize) -> Result<(), Broken> {
        let id = self.hosts[host].id;
        let ending: Vec<u64> = self
            .transfers
            .iter()
            .filter(|(_, transfer)| {
                transfer.to == id || (transfer.from == id && transfer.reader.is_some())
            })
            .map(|(number, _)| *number)
            .collect();
        for number in ending {
            let Some(transfer) = self.transfers.remove(&number) else { continue };
            self.count("snapshots broken off");
            self.transfer_ended(&transfer, false)?;
        }
        Ok(())
    }

    /// Everything has come: it waits for the disk to take the state's place.
    fn place(&mut self, mut transfer: Transfer) -> Result<(), Broken> {
        let host = host_of(transfer.to);
        let Some(last) = transfer.reader.take().map(|reader| reader.last()) else { return Ok(()) };
        let Some(running) = &mut self.hosts[host].running else { return Ok(()) };
        let Some(incoming) = transfer.incoming.take().filter(Incoming::is_whole) else {
            return Err(Broken(format!(
                "{} had all of a snapshot, and it is not whole",
                transfer.to
            )));
        };
        if !running.replica.begin_install(transfer.cluster, last) {
            return self.transfer_ended(&transfer, false);
        }
        running.placing = Some((incoming, last));
        let (life, number) = (transfer.lives[1], self.transfers_begun + 1);
        self.transfers_begun = number;
        self.transfers.insert(number, transfer);
        let delay = self.chance.disk.range(0, self.plan.sync) + self.chance.disk.below(30);
        self.after(delay, Due::Place { host, life, transfer: number });
        Ok(())
    }

    /// The disk has put the snapshot in the state's place.
    pub(super) fn placed(&mut self, host: usize, number: u64) -> Result<(), Broken> {
        let id = self.hosts[host].id;
        let Some(transfer) = self.transfers.remove(&number) else { return Ok(()) };
        let Some(running) = &mut self.hosts[host].running else { return Ok(()) };
        let Some((incoming, last)) = running.placing.take() else { return Ok(()) };
        let done = match running.state.put_in_place(incoming) {
            Ok(done) => done,
            Err(error) => {
                self.halt(host, format!("{id} cannot put a snapshot in place: {error}"))?;
                self.hosts[host].unsure_install = Some(last);
                return Ok(());
            }
        };
        running.replica.installed(transfer.from);
        self.trace(|_| format!("{id} has the snapshot up to {last} in place: {done}"));
        if done {
            self.count("snapshots installed");
            self.oracle_of(host).installed(id, last)?;
            self.inspect(host)?;
        }
        self.settle(host)?;
        self.transfer_ended(&transfer, done)
    }

    /// The receiver is gone that was putting a snapshot in place, and the stream with it.
    pub(super) fn never_placed(&mut self, number: u64) -> Result<(), Broken> {
        match self.transfers.remove(&number) {
            Some(transfer) => self.transfer_ended(&transfer, false),
            None => Ok(()),
        }
    }

    /// The sender hears of the end.
    fn transfer_ended(&mut self, transfer: &Transfer, installed: bool) -> Result<(), Broken> {
        let host = host_of(transfer.from);
        if !self.is_up(host, transfer.lives[0]) {
            return Ok(());
        }
        let now = hold_time(self.now, self.plan.slowness);
        let Some(running) = &mut self.hosts[host].running else { return Ok(()) };
        if !running.holds.end(transfer.to, transfer.hold, installed, now) {
            return Ok(());
        }
        let input = Input::SnapshotEnded { peer: transfer.to, installed };
        self.step(host, Event::Raft(input))
    }
}

impl World {
    /// A log is cut, but not where somebody is taking in a snapshot needs it.
    pub(super) fn spares_receivers(&self, host: usize, base: LogId) -> Result<(), Broken> {
        let one = &self.hosts[host];
        let Some(running) = &one.running else { return Ok(()) };
        for transfer in self.transfers.values() {
            let Transfer { from, to, lives, hold, last, .. } = transfer;
            let counts = *from == one.id && lives[0] == one.life;
            let counts = counts && running.sends.get(to) == Some(hold);
            ensure!(
                !counts || base.index <= last.index,
                "{} cuts its log up to {base}, and sends {to} a snapshot up to {last}",
                one.id
            );
        }
        Ok(())
    }
}

/// The time by which holds of the log count: it runs faster here, since a run is short.
pub(super) fn hold_time(now: Time, slowness: Time) -> Duration {
    Duration::from_millis(now * 20 / slowness)
}

impl super::oracle::Oracle {
    /// A snapshot took the place of a host's state, durably: from now on its log counts as holding all that
    /// the snapshot covers.
    pub(super) fn installed(&mut self, id: NodeId, last: LogId) -> Result<(), Broken> {
        let decided = self.committed.get(..last.index.0 as usize);
        let Some(decided) = decided.filter(|all| all.last().is_some_and(|(one, _)| one.id == last))
        else {
            return Err(Broken(format!(
                "{id} has a snapshot up to {last}, which is not committed"
            )));
        };
        let decided = decided.to_vec();
        let host = self.host(id);
        if last.index <= host.checkpoint.index {
            return Err(Broken(format!(
                "{id} puts a snapshot up to {last} in the place of a state at {}",
                host.checkpoint
            )));
        }
        host.checkpoint = last;
        if host.at(last.index).is_none_or(|(held, _)| held.id != last) {
            // A second snapshot finds the file as the first did.
            let file = std::mem::take(&mut host.entries);
            host.behind.get_or_insert(file);
            host.replace(decided);
        }
        Ok(())
    }
}
