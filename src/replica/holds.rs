//! What of the log stays although a checkpoint covers it: what follows a snapshot that is on its way, so that
//! its receiver need not be sent another; and, up to a bound, what a peer that is up has not got yet, so that it
//! need not be sent a snapshot at all.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::raft::{Index, LogId, NodeId, PeerProgress};

/// How long the log that follows a snapshot is kept after the snapshot was installed, as a multiple of the
/// time that it took, and at least.
const AFTER_FACTOR: u32 = 2;
const AFTER_MIN: Duration = Duration::from_secs(10);

/// How long after its last answer a peer counts as up: a restart, or a pause, should cost it no snapshot.
const UP_TIME: Duration = Duration::from_secs(60);

/// The snapshots whose receivers need the log after them; at most one a peer. Times count from any moment.
#[derive(Clone, Debug, Default)]
pub struct Holds {
    begun: u64,
    by_peer: BTreeMap<NodeId, Hold>,
    /// How far the peers are that follow by the log, and when they were last known to be up.
    followers: BTreeMap<NodeId, (Index, Duration)>,
}

/// Names a transfer. A leader that was deposed and leads again may begin another to the same peer before the
/// old one has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransferId(u64);

#[derive(Clone, Copy, Debug)]
struct Hold {
    transfer: TransferId,
    last: LogId,
    began: Duration,
    until: Option<Duration>,
}

impl Holds {
    /// A snapshot up to `last` goes to `peer`; the newest to each is the one that counts.
    pub fn begin(&mut self, peer: NodeId, last: LogId, now: Duration) -> TransferId {
        self.begun += 1;
        let transfer = TransferId(self.begun);
        self.by_peer.insert(peer, Hold { transfer, last, began: now, until: None });
        transfer
    }

    /// A transfer ended. True if it is the one that counts, and its sender's core is to hear of it.
    pub fn end(
        &mut self,
        peer: NodeId,
        transfer: TransferId,
        installed: bool,
        now: Duration,
    ) -> bool {
        let Some(hold) = self.by_peer.get_mut(&peer).filter(|hold| hold.transfer == transfer)
        else {
            return false;
        };
        if installed {
            let took = now.saturating_sub(hold.began);
            hold.until = Some(now + (took * AFTER_FACTOR).max(AFTER_MIN));
        } else {
            self.by_peer.remove(&peer);
        }
        true
    }

    /// How far a leader's peers are now; none of another node's.
    pub fn heard(&mut self, peers: &[PeerProgress], now: Duration) {
        self.followers.retain(|peer, (_, heard)| {
            let stays = peers.iter().any(|one| one.id == *peer && one.state != "snapshot");
            stays && now.saturating_sub(*heard) < UP_TIME
        });
        for peer in peers.iter().filter(|peer| peer.active && peer.state != "snapshot") {
            self.followers.insert(peer.id, (peer.matched, now));
        }
    }

    /// The last entry that no peer waits for that is up; none if nobody waits for any.
    pub fn awaited_after(&self) -> Option<Index> {
        self.followers.values().map(|(matched, _)| *matched).min()
    }

    /// Up to where the log may be cut once a checkpoint covers everything up to `checkpoint`.
    pub fn may_cut(&mut self, checkpoint: LogId, now: Duration) -> LogId {
        self.by_peer.retain(|_, hold| hold.until.is_none_or(|until| until > now));
        self.by_peer.values().map(|hold| hold.last).fold(checkpoint, Ord::min)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::{Index, Term};

    fn at(index: u64) -> LogId {
        LogId::new(Term(1), Index(index))
    }

    #[test]
    fn the_log_that_a_peer_lacks_is_awaited_while_it_is_up_and_takes_it() {
        let seconds = Duration::from_secs;
        let peer = |id, matched, state, active| PeerProgress {
            id: NodeId(id),
            matched: Index(matched),
            next: Index(matched + 1),
            state,
            active,
        };
        let mut holds = Holds::default();
        holds.heard(&[], seconds(0));
        assert_eq!(holds.awaited_after(), None, "it does not lead");
        let near = peer(2, 90, "replicate", true);
        holds.heard(&[near, peer(3, 40, "replicate", true)], seconds(0));
        assert_eq!(holds.awaited_after(), Some(Index(40)));
        holds.heard(&[near, peer(3, 40, "probe", false)], seconds(59));
        assert_eq!(holds.awaited_after(), Some(Index(40)), "it may come back");
        holds.heard(&[near, peer(3, 40, "probe", false)], seconds(60));
        assert_eq!(holds.awaited_after(), Some(Index(90)));
        holds.heard(&[near, peer(3, 41, "replicate", true)], seconds(61));
        assert_eq!(holds.awaited_after(), Some(Index(41)));
        holds.heard(&[near, peer(3, 41, "snapshot", true)], seconds(62));
        assert_eq!(holds.awaited_after(), Some(Index(90)), "the log is of no use to it");
    }

    #[test]
    fn the_log_after_a_snapshot_stays_until_its_receiver_has_had_time_to_follow() {
        let (peer, seconds) = (NodeId(2), Duration::from_secs);
        let mut holds = Holds::default();
        assert_eq!(holds.may_cut(at(50), seconds(0)), at(50));
        let first = holds.begin(peer, at(40), seconds(0));
        assert_eq!(holds.may_cut(at(50), seconds(100)), at(40));
        let second = holds.begin(peer, at(45), seconds(100));
        assert!(!holds.end(peer, first, false, seconds(101)), "a newer one is on its way");
        assert_eq!(holds.may_cut(at(50), seconds(101)), at(45));
        assert!(holds.end(peer, second, true, seconds(130)));
        assert_eq!(holds.may_cut(at(60), seconds(189)), at(45));
        assert_eq!(holds.may_cut(at(60), seconds(190)), at(60));
        let third = holds.begin(peer, at(60), seconds(200));
        assert!(holds.end(peer, third, false, seconds(201)));
        assert_eq!(holds.may_cut(at(70), seconds(201)), at(70));
    }
}
