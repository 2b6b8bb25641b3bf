#![allow(clippy::unwrap_used)]

use super::*;
use crate::raft::ClusterId;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Hash {
    index: u64,
    hash: u64,
}

impl StateHash for Hash {
    fn index(&self) -> u64 {
        self.index
    }
}

fn membership(voters: u64) -> Membership {
    let voters = (1..=voters).map(NodeId).collect();
    Membership { cluster: ClusterId(1), members: BTreeMap::new(), voters, outgoing: None }
}

fn hashes(hashes: &[(u64, u64)]) -> Vec<Hash> {
    hashes.iter().map(|&(index, hash)| Hash { index, hash }).collect()
}

#[test]
fn who_differs_from_the_majority_at_the_last_common_index_is_found() {
    // The first so many are voters.
    let of = |all: &[&[(u64, u64)]], voters: u64| {
        let all = all.iter().enumerate().map(|(n, m)| (NodeId(n as u64 + 1), hashes(m)));
        judge(&all.collect(), &membership(voters))
    };
    let all_well = of(&[&[(1, 5), (2, 6)], &[(1, 5), (2, 6), (3, 7)], &[(1, 5)]], 3);
    assert_eq!(all_well, None);
    let one = of(&[&[(1, 5), (2, 6)], &[(1, 5), (2, 9)], &[(1, 5), (2, 6)]], 3);
    let expected = Verdict {
        majority: Hash { index: 2, hash: 6 },
        minority: vec![(NodeId(2), Hash { index: 2, hash: 9 })],
    };
    assert_eq!(one, Some(expected));
    // One against one of three voters: nobody knows who is right.
    assert_eq!(of(&[&[(2, 6)], &[(2, 9)]], 3), None);
    // Nothing in common.
    assert_eq!(of(&[&[(2, 6)], &[(3, 9)], &[(4, 1)]], 3), None);
    // It may be the leader, or a learner.
    let learner = of(&[&[(2, 6)], &[(2, 6)], &[(2, 7)]], 2).unwrap();
    assert_eq!(learner.minority, vec![(NodeId(3), Hash { index: 2, hash: 7 })]);
    // Two learners that have their state from the first one do not outvote the other voters.
    let copied = of(&[&[(2, 9)], &[(2, 6)], &[(2, 6)], &[(2, 9)], &[(2, 9)]], 3).unwrap();
    assert_eq!(copied.majority, Hash { index: 2, hash: 6 });
    assert_eq!(copied.minority.len(), 3);
}

#[test]
fn while_a_change_is_under_way_both_sets_have_to_agree() {
    let mut now = membership(2);
    now.outgoing = Some([NodeId(1), NodeId(3)].into());
    let all = |third: u64| {
        let of = |hash| hashes(&[(2, hash)]);
        BTreeMap::from([
            (NodeId(1), of(6)),
            (NodeId(2), of(6)),
            (NodeId(3), of(third)),
            (NodeId(9), of(7)),
        ])
    };
    assert_eq!(judge(&all(5), &now), None, "nobody knows who of the old ones is right");
    let verdict = judge(&all(6), &now).unwrap();
    assert_eq!(verdict.minority, vec![(NodeId(9), Hash { index: 2, hash: 7 })]);
}

#[test]
fn who_is_accused_looks_whether_it_is_so() {
    let [own, other] = [6, 7].map(|hash| Hash { index: 2, hash });
    assert!(differs(&[own], own, other));
    assert!(!differs(&[other], own, other), "it has what the majority has");
    assert!(!differs(&[own], own, own));
    assert!(!differs(&[own], own, Hash { index: 3, hash: 7 }));
}
