use super::*;

fn membership(voters: &[u64], outgoing: Option<&[u64]>) -> Membership {
    let set = |ids: &[u64]| ids.iter().map(|&id| NodeId(id)).collect::<BTreeSet<_>>();
    Membership {
        cluster: ClusterId(1),
        members: BTreeMap::new(),
        voters: set(voters),
        outgoing: outgoing.map(set),
    }
}

#[test]
fn a_quorum_is_more_than_half() {
    for (voters, needed) in [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3), (7, 4)] {
        let ids: Vec<u64> = (1..=voters).collect();
        let membership = membership(&ids, None);
        assert!(membership.is_quorum(|node| node.0 <= needed));
        assert!(!membership.is_quorum(|node| node.0 < needed));
    }
}

#[test]
fn a_joint_quorum_is_one_of_each_set() {
    let membership = membership(&[1, 4, 5], Some(&[1, 2, 3]));
    let among = |ids: &[u64]| membership.is_quorum(|node| ids.contains(&node.0));
    assert!(among(&[1, 4, 2]) && among(&[4, 5, 2, 3]));
    assert!(!among(&[1, 4, 5]) && !among(&[1, 2, 3]));
}

#[test]
fn nobody_is_no_quorum() {
    assert!(!membership(&[], None).is_quorum(|_| true));
    assert_eq!(membership(&[], None).quorum_value(|_| 5u64), 0);
}

#[test]
fn the_quorum_value_is_what_a_majority_has_reached() {
    let reached = |voters: &[u64], outgoing: Option<&[u64]>| {
        membership(voters, outgoing).quorum_value(|node| node.0 * 10)
    };
    assert_eq!(reached(&[1], None), 10);
    assert_eq!(reached(&[1, 2], None), 10);
    assert_eq!(reached(&[1, 2, 3], None), 20);
    assert_eq!(reached(&[1, 2, 3, 4], None), 20);
    assert_eq!(reached(&[1, 2, 3, 4, 5], None), 30);
    assert_eq!(reached(&[3, 4, 5], Some(&[1, 2, 3])), 20);
}

#[test]
fn who_was_to_come_in_the_place_of_a_voter_goes_when_the_change_is_undone() {
    let member = |name: &str, replaces: Option<u64>| Member {
        name: name.to_owned(),
        raft_address: String::new(),
        http_address: String::new(),
        seen: true,
        promote: false,
        replaces: replaces.map(NodeId),
    };
    // 6 takes the place in which 2 stood for a host that nobody had seen, 7 that of 3, which is replaced, and 5 is a
    // learner that is given a vote.
    let mut joint = membership(&[1, 5, 6, 7], Some(&[1, 2, 3]));
    let named = [(1, "a"), (2, "b"), (3, "c"), (5, "e"), (6, "b"), (8, "f")];
    joint.members = named.map(|(id, name)| (NodeId(id), member(name, None))).into();
    joint.members.insert(NodeId(7), member("c", Some(3)));
    let undone = joint.undone().unwrap();
    assert_eq!((undone.outgoing, undone.voters), (None, [1, 2, 3].map(NodeId).into()));
    let ids: Vec<u64> = undone.members.keys().map(|id| id.0).collect();
    assert_eq!(ids, [1, 2, 3, 5, 8]);
    assert!(undone.members[&NodeId(5)].promote && !undone.members[&NodeId(8)].promote);
}
