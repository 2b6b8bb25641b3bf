//! Whose state is wrong: the leader compares hashes of all states at the same index.
//!
//! Every state chains a hash over all that it applied, so equal hashes at an index mean equal histories. They
//! can differ only by a fault of a machine's memory, of its disk, or of konsen.

use std::collections::BTreeMap;

use crate::raft::{Membership, NodeId};

/// The hash of a state at an index of the log.
pub trait StateHash: Copy + Ord {
    /// The index.
    fn index(&self) -> u64;
}

/// Who differs, where the states were compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict<H> {
    /// What a quorum has there.
    pub majority: H,
    /// The others, and what they have there.
    pub minority: Vec<(NodeId, H)>,
}

/// Compares at the last index where a quorum of the voters agrees, of both sets while a change is under way.
/// None if there is no such index, or nobody differs. Learners are judged and have no say: they may have their
/// state from the one who is wrong.
pub fn judge<H: StateHash>(all: &BTreeMap<NodeId, Vec<H>>, now: &Membership) -> Option<Verdict<H>> {
    let mut hashes: Vec<H> = all.values().flatten().copied().collect();
    hashes.sort_unstable();
    hashes.dedup();
    let has = |id: NodeId, hash: &H| all.get(&id).is_some_and(|hashes| hashes.contains(hash));
    let agreed = |hash: &&H| now.is_quorum(|id| has(id, hash));
    let majority = *hashes.iter().rev().find(agreed)?;
    let minority: Vec<(NodeId, H)> = all
        .iter()
        .filter_map(|(id, hashes)| {
            let own = hashes.iter().find(|hash| hash.index() == majority.index())?;
            (*own != majority).then_some((*id, *own))
        })
        .collect();
    (!minority.is_empty()).then_some(Verdict { majority, minority })
}

/// Whether who holds `held` differs as `told`: from a majority, at an index, with a hash that it really has.
pub fn differs<H: StateHash>(held: &[H], own: H, majority: H) -> bool {
    own.index() == majority.index() && own != majority && held.contains(&own)
}

#[cfg(test)]
#[path = "consistency_tests.rs"]
mod tests;
