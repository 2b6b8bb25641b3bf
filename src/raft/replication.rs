//! How a leader sends its log: pipelined, bounded, from memory, from disk or as a snapshot.

use super::core::Core;
use super::entry::Entry;
use super::id::{Index, LogId, NodeId};
use super::io::Fetch;
use super::leader::Leader;
use super::log::Log;
use super::message::Body;
use super::progress::{Probe, Progress, Sending};

impl Leader {
    /// Sends each peer as much as it may get now.
    pub(super) fn replicate(&mut self, core: &mut Core) {
        for (&peer, progress) in &mut self.peers {
            while send_next(core, peer, progress) {}
        }
    }

    /// A heartbeat was answered, so the way is open: whatever got lost is found out.
    pub(super) fn revive(&mut self, core: &mut Core, peer: NodeId) {
        let last = core.log.last().index;
        let patience = core.config.heartbeat_ticks;
        let Some(progress) = self.peers.get_mut(&peer) else { return };
        if progress.idle_ticks < patience {
            return;
        }
        match &mut progress.sending {
            Sending::Probe(probe) if *probe == Probe::Out => *probe = Probe::DueAgain,
            Sending::Replicate(window) if !window.is_empty() && progress.matched < last => {
                // Appends or their answers are missing. An empty append after the last one sent
                // is refused if entries were lost, and answered anew if answers were.
                progress.idle_ticks = 0;
                let prev = progress.next.prev();
                match in_memory(&core.log, progress.next).then(|| core.log.term_at(prev)).flatten()
                {
                    Some(term) => core.send(
                        peer,
                        Body::Append {
                            prev: LogId::new(term, prev),
                            entries: Vec::new(),
                            commit: core.log.commit(),
                        },
                    ),
                    None => progress.probe_from(progress.matched.next(), Probe::Due),
                }
            }
            Sending::Probe(_) | Sending::Replicate(_) | Sending::Snapshot { .. } => {}
        }
    }

    /// Entries that were read from disk for a peer.
    pub(super) fn fetched(
        &mut self,
        core: &mut Core,
        peer: NodeId,
        prev: LogId,
        entries: Vec<Entry>,
    ) {
        let Some(progress) = self.peers.get_mut(&peer) else { return };
        let Some(from) = progress.fetching.take() else { return };
        if entries.is_empty() {
            // Tried again once the peer answers a heartbeat.
            if !matches!(progress.sending, Sending::Snapshot { .. }) {
                progress.probe_from(progress.matched.next(), Probe::Out);
            }
            return;
        }
        let wanted = progress.next == from
            && prev.index == from.prev()
            && match progress.sending {
                Sending::Probe(probe) => probe != Probe::Out,
                Sending::Replicate(_) => true,
                Sending::Snapshot { .. } => false,
            };
        let committed = entries.last().is_some_and(|entry| entry.id.index <= core.log.commit());
        if wanted && committed && is_consecutive(prev, &entries) {
            send(core, peer, progress, prev, entries);
        }
    }

    /// A snapshot's stream to `peer` ended.
    pub(super) fn snapshot_ended(&mut self, peer: NodeId, installed: bool) {
        let Some(progress) = self.peers.get_mut(&peer) else { return };
        if let Sending::Snapshot { last } = progress.sending {
            if installed {
                progress.probe_from(last.index.next(), Probe::Due);
            } else {
                // Tried again once the peer answers a heartbeat.
                progress.probe_from(progress.matched.next(), Probe::Out);
            }
        }
    }
}

/// Whether the entries from `next` on can be sent from memory: the one before must be known too.
fn in_memory(log: &Log, next: Index) -> bool {
    next > log.before().index
}

/// Sends one append, asks for a read or offers a snapshot; true if more may follow.
fn send_next(core: &mut Core, peer: NodeId, progress: &mut Progress) -> bool {
    let last = core.log.last().index;
    let max_bytes = match &progress.sending {
        Sending::Probe(Probe::Due) => core.config.append_bytes_max,
        // As much as is reached with one entry.
        Sending::Probe(Probe::DueAgain) => 1,
        Sending::Replicate(window)
            if progress.next <= last
                && !window
                    .is_full(core.config.inflight_bytes_max, core.config.inflight_appends_max) =>
        {
            core.config.append_bytes_max
        }
        _ => return false,
    };
    if in_memory(&core.log, progress.next) {
        let prev = progress.next.prev();
        let Some(term) = core.log.term_at(prev) else { return false };
        let entries = core.log.read(progress.next, max_bytes);
        send(core, peer, progress, LogId::new(term, prev), entries);
        return matches!(progress.sending, Sending::Replicate(_));
    }
    if progress.next <= core.log.base().index {
        let last = core.log.base();
        progress.sending = Sending::Snapshot { last };
        core.send(peer, Body::Snapshot { last });
    } else if progress.fetching.is_none() {
        progress.fetching = Some(progress.next);
        core.out.fetch.push(Fetch {
            peer,
            from: progress.next,
            to: core.log.before().index,
            max_bytes,
        });
    }
    false
}

fn send(core: &mut Core, peer: NodeId, progress: &mut Progress, prev: LogId, entries: Vec<Entry>) {
    let bytes = entries.iter().map(Entry::cost_bytes).sum();
    let last = entries.last().map(|entry| entry.id.index);
    // Whoever takes it goes that far. If it is lost, the next heartbeat tells.
    progress.told = progress.told.max(core.log.commit().min(last.unwrap_or(prev.index)));
    progress.sent(last, bytes);
    core.send(peer, Body::Append { prev, entries, commit: core.log.commit() });
}

/// Whether `entries` can follow `prev` in a log.
pub(super) fn is_consecutive(prev: LogId, entries: &[Entry]) -> bool {
    let mut before = prev;
    entries.iter().all(|entry| {
        let follows = entry.id.index == before.index.next() && entry.id.term >= before.term;
        before = entry.id;
        follows
    })
}

#[cfg(test)]
#[path = "replication_tests.rs"]
mod tests;
