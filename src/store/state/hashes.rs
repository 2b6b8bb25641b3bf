//! Hashes of the state at some indexes, for replicas to compare.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::raft::Index;

/// A hash is kept at every index that one of these divides: at the last few of each, so that replicas find
/// an index that they have in common whether they write once an hour or lag by thousands of entries.
const STRIDES: [u64; 3] = [16, 256, 4096];
/// How many hashes are kept of each.
const KEPT: usize = 32;

/// The state's hash when an entry had been applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct HashAt {
    /// The entry's index.
    pub index: u64,
    /// The hash chained over all changes up to it.
    pub hash: u64,
}

/// The last hashes of each stride.
#[derive(Debug, Default)]
pub(super) struct StateHashes {
    kept: [VecDeque<HashAt>; STRIDES.len()],
}

/// Whether the hash at `index` is one to be kept.
pub(super) fn is_kept(index: Index) -> bool {
    STRIDES.iter().any(|stride| index.0.is_multiple_of(*stride))
}

impl StateHashes {
    /// Takes note of the hash at `index`, if it is one to be kept.
    pub(super) fn note(&mut self, index: Index, hash: u64) {
        for (kept, _) in
            self.kept.iter_mut().zip(STRIDES).filter(|(_, s)| index.0.is_multiple_of(*s))
        {
            if kept.len() == KEPT {
                kept.pop_front();
            }
            kept.push_back(HashAt { index: index.0, hash });
        }
    }

    /// All of them, in order, each once.
    pub(super) fn all(&self) -> Vec<HashAt> {
        let mut all: Vec<HashAt> = self.kept.iter().flatten().copied().collect();
        all.sort_unstable();
        all.dedup();
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_each_stride_are_kept() {
        let mut hashes = StateHashes::default();
        (1..=20_000).for_each(|index| hashes.note(Index(index), index * 3));
        let all = hashes.all();
        assert!(all.iter().all(|mark| mark.hash == mark.index * 3));
        let indexes: Vec<u64> = all.iter().map(|mark| mark.index).collect();
        assert!(indexes.is_sorted_by(|a, b| a < b));
        for index in [4096, 8192, 16_384, 19_712, 19_968, 19_984, 20_000] {
            assert!(indexes.contains(&index), "{index}");
        }
        assert!(all.len() <= STRIDES.len() * KEPT);
        // Somebody who lags has some of them in common.
        let mut late = StateHashes::default();
        (1..=12_000).for_each(|index| late.note(Index(index), index * 3));
        assert!(late.all().iter().any(|mark| all.contains(mark)));
    }
}
