use std::collections::BTreeSet;

use super::super::sample::{member, voters};
use super::*;

const BASE: FeatureLevel = FeatureLevel(1);

/// Node n knows the level that stands at its place; 0: that is unknown.
fn raise(highest: &[u32], hold: Option<u32>) -> Option<u32> {
    let members = (1..).zip(highest).map(|(id, level)| (NodeId(id), of(*level))).collect();
    raise_to(BASE, FeatureLevel(3), &members, hold.map(FeatureLevel)).map(|level| level.0)
}

fn of(level: u32) -> Option<FeatureLevel> {
    (level > 0).then_some(FeatureLevel(level))
}

#[test]
fn the_level_is_what_all_know() {
    assert_eq!(raise(&[3, 3, 3], None), Some(3));
    assert_eq!(raise(&[3, 2, 9], None), Some(2));
    assert_eq!(raise(&[9, 9, 9], None), Some(3), "the leader itself knows no more");
    for old in 0..3 {
        let mut highest = [3, 3, 3];
        highest[old] = 1;
        assert_eq!(raise(&highest, None), None, "n{} knows the base alone", old + 1);
        highest[old] = 0;
        assert_eq!(raise(&highest, None), None, "nothing is known of n{}", old + 1);
    }
}

#[test]
fn no_level_is_raised_to_twice_nor_beyond_the_hold() {
    let members = BTreeMap::from([(NodeId(1), of(3)), (NodeId(2), of(2))]);
    let two = FeatureLevel(2);
    assert_eq!(raise_to(two, FeatureLevel(3), &members, None), None);
    assert_eq!(raise(&[3, 3], Some(2)), Some(2));
    assert_eq!(raise(&[3, 3], Some(1)), None);
    assert_eq!(raise(&[3, 3], Some(3)), Some(3));
}

#[test]
fn learners_count_and_so_do_those_who_go() {
    let mut now = voters([1, 2]);
    now.members.insert(NodeId(3), member("n3"));
    now.outgoing = Some(BTreeSet::from([NodeId(2), NodeId(4)]));
    let without = |missing: u64| {
        let members = known_by(&now, |id| (id != NodeId(missing)).then_some(FeatureLevel(2)));
        raise_to(BASE, FeatureLevel(2), &members, None)
    };
    assert_eq!(without(0), Some(FeatureLevel(2)));
    for id in 1..=4 {
        assert_eq!(without(id), None, "n{id}");
    }
}

#[test]
fn who_holds_a_raise_back_is_named() {
    let members =
        |all: &[u32]| (1..).zip(all).map(|(id, level)| (NodeId(id), of(*level))).collect();
    assert_eq!(held_back_by(BASE, &members(&[2, 1, 0])), [NodeId(2), NodeId(3)]);
    assert!(held_back_by(BASE, &members(&[2, 2, 3])).is_empty());
    assert!(held_back_by(BASE, &members(&[1, 1, 0])).is_empty(), "nobody wants a higher one");
}
