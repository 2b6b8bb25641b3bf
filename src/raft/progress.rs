//! What a leader knows of one peer, and how much it may send it.

use std::collections::VecDeque;

use super::id::{Index, LogId, NodeId};
use super::log::Log;

/// A peer as its leader sees it, for whoever looks in from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerProgress {
    /// The peer.
    pub id: NodeId,
    /// The last index known to match the leader's log and to be durable at the peer.
    pub matched: Index,
    /// The next index to send.
    pub next: Index,
    /// `probe`, `replicate` or `snapshot`.
    pub state: &'static str,
    /// Whether it answered since the leader last counted its quorum.
    pub active: bool,
}

/// The appends on their way to a peer that are not acknowledged.
#[derive(Clone, Debug, Default, Hash)]
pub(super) struct Window {
    /// The last index and the bytes of each.
    appends: VecDeque<(Index, usize)>,
    bytes: usize,
}

impl Window {
    pub(super) fn is_empty(&self) -> bool {
        self.appends.is_empty()
    }

    pub(super) fn is_full(&self, max_bytes: usize, max_appends: usize) -> bool {
        self.appends.len() >= max_appends.max(1) || self.bytes >= max_bytes.max(1)
    }

    fn add(&mut self, last: Index, bytes: usize) {
        self.appends.push_back((last, bytes));
        self.bytes += bytes;
    }

    fn acknowledge(&mut self, matched: Index) {
        while let Some(&(last, bytes)) = self.appends.front()
            && last <= matched
        {
            self.bytes -= bytes;
            self.appends.pop_front();
        }
    }
}

/// What becomes of an append that finds out where a peer's log departs from ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Probe {
    /// It is to be sent from a place where none was sent before: with as much as an append holds, since most are taken.
    Due,
    /// It is on its way.
    Out,
    /// It is to be sent again, since it was lost, or the peer's disk is slow, or the peer has no room: with one entry.
    DueAgain,
}

/// How appends are sent to a peer.
#[derive(Clone, Debug, Hash)]
pub(super) enum Sending {
    /// Where its log departs from ours is not known: one append at a time.
    Probe(Probe),
    /// It follows: appends are sent ahead of the answers.
    Replicate(Window),
    /// It needs entries that are gone; a snapshot up to here is on its way.
    Snapshot {
        /// What the snapshot covers at least.
        last: LogId,
    },
}

/// A peer of a leader.
#[derive(Clone, Debug, Hash)]
pub(super) struct Progress {
    pub(super) matched: Index,
    pub(super) next: Index,
    pub(super) sending: Sending,
    /// The newest commit index of which a message has left for it that it may go by.
    pub(super) told: Index,
    /// The newest round of heartbeats that it answered.
    pub(super) round: u64,
    /// Whether it answered anything since the quorum was last counted.
    pub(super) active: bool,
    /// The start of the range that is being read from disk for it.
    pub(super) fetching: Option<Index>,
    /// Ticks since it last acknowledged something new, or since something was first sent to it.
    pub(super) idle_ticks: u32,
}

impl Progress {
    pub(super) fn new(next: Index) -> Progress {
        Progress {
            matched: Index(0),
            next,
            sending: Sending::Probe(Probe::Due),
            told: Index(0),
            round: 0,
            // A new leader gives everybody one election time-out to answer.
            active: true,
            fetching: None,
            idle_ticks: 0,
        }
    }

    pub(super) fn state(&self) -> &'static str {
        match self.sending {
            Sending::Probe(_) => "probe",
            Sending::Replicate(_) => "replicate",
            Sending::Snapshot { .. } => "snapshot",
        }
    }

    /// How many appends are not acknowledged, and their bytes.
    pub(super) fn on_the_way(&self) -> (usize, usize) {
        match &self.sending {
            Sending::Replicate(window) => (window.appends.len(), window.bytes),
            Sending::Probe(_) | Sending::Snapshot { .. } => (0, 0),
        }
    }

    /// How far the peer may go: it may rely on what it is told, so no further than what it has itself.
    pub(super) fn committed(&self, log: &Log) -> Index {
        log.commit().min(self.matched)
    }

    /// An append up to `last` is leaving.
    pub(super) fn sent(&mut self, last: Option<Index>, bytes: usize) {
        match &mut self.sending {
            Sending::Probe(probe) => {
                *probe = Probe::Out;
                self.idle_ticks = 0;
            }
            Sending::Replicate(window) => {
                if let Some(last) = last {
                    if window.is_empty() {
                        self.idle_ticks = 0;
                    }
                    window.add(last, bytes);
                    self.next = last.next();
                }
            }
            Sending::Snapshot { .. } => {}
        }
    }

    /// The peer holds everything up to `matched`, durably. True if that is news.
    pub(super) fn acknowledged(&mut self, matched: Index) -> bool {
        let news = matched > self.matched;
        if news {
            self.matched = matched;
            self.next = self.next.max(matched.next());
            self.idle_ticks = 0;
        }
        match &mut self.sending {
            Sending::Probe(_) if matched == self.matched => {
                self.next = self.matched.next();
                self.sending = Sending::Replicate(Window::default());
            }
            Sending::Probe(_) => {}
            Sending::Replicate(window) => window.acknowledge(self.matched),
            Sending::Snapshot { last } => {
                if self.matched >= last.index {
                    self.probe_from(self.matched.next(), Probe::Due);
                }
            }
        }
        news
    }

    /// The peer does not hold `prev`. False if that answers something long settled.
    pub(super) fn rejected(&mut self, prev: Index, hint: LogId, log: &Log) -> bool {
        let current = match self.sending {
            Sending::Probe(_) => prev == self.next.prev(),
            Sending::Replicate(_) => prev > self.matched && prev < self.next,
            Sending::Snapshot { .. } => false,
        };
        if !current || prev <= self.matched {
            return false;
        }
        // Of our log, only what has no higher term than the hint can be the same as the peer's.
        let limit = hint.index.min(prev.prev());
        let common = if limit < log.before().index {
            limit
        } else {
            log.last_not_above(limit, hint.term).index.min(limit)
        };
        self.probe_from(common.next(), Probe::Due);
        true
    }

    /// Falls back to one append at a time.
    pub(super) fn probe_from(&mut self, next: Index, probe: Probe) {
        self.next = next.max(self.matched.next());
        self.sending = Sending::Probe(probe);
        self.idle_ticks = 0;
    }

    pub(super) fn is_lagging(&self, last: Index) -> bool {
        self.matched < last
    }
}

#[cfg(test)]
#[path = "progress_tests.rs"]
mod tests;
