//! Whether the replicas hold the same: the leader compares hashes of their states at the same index, and
//! stops whoever differs from the majority.
//!
//! Every state chains a hash over all that it applied, so equal hashes at an index mean equal histories. They
//! can differ only by a fault of a machine's memory, of its disk, or of konsen.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::handle::Handle;
use super::mailbox::Letter;
use super::peer_request::{self, PeerReply, PeerRequest};
use crate::raft::{NodeId, RoleName};
use crate::store::{Mark, StoreError};

/// How often the leader compares.
const COMPARE_EVERY: Duration = Duration::from_secs(2);
/// How long a peer may take to answer.
const ASK_TIMEOUT: Duration = Duration::from_secs(1);

/// Compares while this node leads, until it stops.
pub(super) async fn run(handle: Handle) {
    let mut standing = handle.watch_standing();
    loop {
        tokio::time::sleep(COMPARE_EVERY).await;
        if standing.borrow_and_update().role != RoleName::Leader {
            if standing.wait_for(|now| now.role == RoleName::Leader).await.is_err() {
                return;
            }
            continue;
        }
        compare(&handle).await;
    }
}

async fn compare(handle: &Handle) {
    let Some(membership) = handle.membership() else { return };
    let mut all = BTreeMap::from([(handle.id(), handle.marks())]);
    for &id in membership.members.keys().filter(|id| **id != handle.id()) {
        if let Some(PeerReply::Marks(marks)) = ask(handle, id, &PeerRequest::Marks).await {
            all.insert(id, marks);
        }
    }
    let Some(verdict) = judge(&all, &membership.voters) else { return };
    for (id, own) in verdict.minority {
        let name = handle.name_of(id).unwrap_or_else(|| id.to_string());
        tracing::error!(
            index = verdict.majority.index,
            "{name} holds another state than the majority, and is told to stop"
        );
        if id == handle.id() {
            handle.diverged(own, verdict.majority);
        } else {
            let told = PeerRequest::Diverged { own, majority: verdict.majority };
            ask(handle, id, &told).await;
        }
    }
}

async fn ask(handle: &Handle, id: NodeId, request: &PeerRequest) -> Option<PeerReply> {
    let deadline = Instant::now() + ASK_TIMEOUT;
    let bytes = handle.net().request(id, peer_request::encode(request), deadline).await.ok()?;
    peer_request::decode(&bytes)
}

/// Who differs, where the replicas were compared.
#[derive(Debug, PartialEq, Eq)]
struct Verdict {
    majority: Mark,
    /// The others, and what they have there.
    minority: Vec<(NodeId, Mark)>,
}

/// Compares at the last index where a majority of the voters agrees. None if there is no such index, or nobody
/// differs. Learners are judged and have no say: they may have their state from the one who is wrong.
fn judge(all: &BTreeMap<NodeId, Vec<Mark>>, voters: &BTreeSet<NodeId>) -> Option<Verdict> {
    let mut counts: BTreeMap<Mark, usize> = BTreeMap::new();
    for mark in voters.iter().filter_map(|voter| all.get(voter)).flatten() {
        *counts.entry(*mark).or_default() += 1;
    }
    let agreed = |(_, count): &(&Mark, &usize)| **count * 2 > voters.len();
    let majority = counts.iter().rev().find(agreed).map(|(mark, _)| *mark)?;
    let minority: Vec<(NodeId, Mark)> = all
        .iter()
        .filter_map(|(id, marks)| {
            let own = marks.iter().find(|mark| mark.index == majority.index)?;
            (*own != majority).then_some((*id, *own))
        })
        .collect();
    (!minority.is_empty()).then_some(Verdict { majority, minority })
}

impl Handle {
    /// Stops this node, if it has at that index what it is said to have.
    pub(super) fn diverged(&self, own: Mark, majority: Mark) {
        let really = own.index == majority.index && own != majority && self.marks().contains(&own);
        if really {
            self.tell(Letter::Failed(StoreError::Diverged {
                index: majority.index,
                own: own.hash,
                majority: majority.hash,
            }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marks(marks: &[(u64, u64)]) -> Vec<Mark> {
        marks.iter().map(|&(index, hash)| Mark { index, hash }).collect()
    }

    #[test]
    fn who_differs_from_the_majority_at_the_last_common_index_is_found() {
        // The first so many are voters.
        let of = |all: &[&[(u64, u64)]], voters: u64| {
            let all = all.iter().enumerate().map(|(n, m)| (NodeId(n as u64 + 1), marks(m)));
            judge(&all.collect(), &(1..=voters).map(NodeId).collect())
        };
        let all_well = of(&[&[(1, 5), (2, 6)], &[(1, 5), (2, 6), (3, 7)], &[(1, 5)]], 3);
        assert_eq!(all_well, None);
        let one = of(&[&[(1, 5), (2, 6)], &[(1, 5), (2, 9)], &[(1, 5), (2, 6)]], 3);
        let expected = Verdict {
            majority: Mark { index: 2, hash: 6 },
            minority: vec![(NodeId(2), Mark { index: 2, hash: 9 })],
        };
        assert_eq!(one, Some(expected));
        // One against one of three voters: nobody knows who is right.
        assert_eq!(of(&[&[(2, 6)], &[(2, 9)]], 3), None);
        // Nothing in common.
        assert_eq!(of(&[&[(2, 6)], &[(3, 9)], &[(4, 1)]], 3), None);
        // It may be the leader, or a learner.
        let learner = of(&[&[(2, 6)], &[(2, 6)], &[(2, 7)]], 2).unwrap();
        assert_eq!(learner.minority, vec![(NodeId(3), Mark { index: 2, hash: 7 })]);
        // Two learners that have their state from the first one do not outvote the other voters.
        let copied = of(&[&[(2, 9)], &[(2, 6)], &[(2, 6)], &[(2, 9)], &[(2, 9)]], 3).unwrap();
        assert_eq!(copied.majority, Mark { index: 2, hash: 6 });
        assert_eq!(copied.minority.len(), 3);
    }
}
