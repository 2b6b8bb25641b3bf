use super::super::sample::voters;
use super::*;
use crate::raft::Member;

/// Voters n1 to n`size`; those of the numbers in `awaited` were never seen.
fn cluster(size: u64, awaited: &[u64]) -> Membership {
    let mut now = voters(1..=size);
    for number in awaited {
        let Some(member) = now.members.remove(&NodeId(*number)) else { continue };
        let id = stand_in(&member.name);
        now.members.insert(id, Member { seen: false, ..member });
        now.voters.remove(&NodeId(*number));
        now.voters.insert(id);
    }
    now
}

/// What n`own` says that is connected to these.
fn told(now: &Membership, own: u64, connected: &[NodeId]) -> Option<String> {
    let own = Own { name: format!("n{own}"), id: NodeId(own) };
    obstacle(now, &own, &|id| connected.contains(&id))
}

#[test]
fn a_majority_that_is_here_has_no_obstacle() {
    let now = voters(1..=3);
    assert_eq!(told(&now, 2, &[NodeId(1)]), None);
    assert_eq!(told(&cluster(3, &[1]), 2, &[NodeId(3)]), None);
    assert_eq!(told(&voters([1]), 1, &[]), None);
}

#[test]
fn those_that_are_missing_are_named_and_how_many_have_to_come_back() {
    let now = voters(1..=3);
    assert_eq!(
        told(&now, 2, &[]).unwrap_or_default(),
        "no leader: 1 of 3 voters is here, 2 are needed; missing: n1 (not connected), n3 (not connected); \
         bring one of n1, n3 back"
    );
    let five = told(&voters(1..=5), 2, &[]).unwrap_or_default();
    assert!(five.ends_with("; bring 2 of n1, n3, n4, n5 back"), "{five}");
    // A learner sees nobody: its own vote is none.
    let learner = told(&voters(1..=2), 9, &[]).unwrap_or_default();
    assert!(learner.starts_with("no leader: 0 of 2 voters are here, 2 are needed;"), "{learner}");
    assert!(learner.ends_with("; bring n1 and n2 back"), "{learner}");
}

#[test]
fn one_that_was_never_taken_in_helps_nobody_though_it_is_connected() {
    let now = cluster(3, &[1]);
    let expected = "no leader: 1 of 3 voters is here, 2 are needed; missing: n3 (not connected), n1 (connected, but \
                    it has never been taken in, which takes a leader); bring n3 back";
    assert_eq!(told(&now, 2, &[stand_in("n1")]).unwrap_or_default(), expected);
    // The host itself says the same.
    assert_eq!(told(&now, 1, &[NodeId(2)]).unwrap_or_default(), expected);
    let away = told(&now, 2, &[]).unwrap_or_default();
    assert!(
        away.contains("n1 (not connected, and never taken in, which takes a leader)"),
        "{away}"
    );
    assert!(away.ends_with("; bring n3 back"), "{away}");
}

#[test]
fn of_a_change_of_the_voters_both_sides_are_told_of() {
    // n4 comes in the place of n3.
    let mut now = voters([1, 2, 4]);
    now.outgoing = Some([1, 2, 3].map(NodeId).into());
    assert_eq!(told(&now, 1, &[NodeId(2)]), None);
    let said = told(&now, 1, &[NodeId(3)]).unwrap_or_default();
    assert!(
        said.contains("before: 2 of 3, which is enough; after: 1 of 3 voters is here"),
        "{said}"
    );
    assert!(said.contains("missing: n2 (not connected), n4 (not connected)"), "{said}");
    let said = told(&now, 1, &[NodeId(4)]).unwrap_or_default();
    assert!(said.contains("a voter that is to go (n3) (not connected)"), "{said}");
    // Those before it are too few as well, so that they cannot undo it.
    assert!(!said.contains("konsen member undo"), "{said}");
    let said = told(&now, 1, &[NodeId(3)]).unwrap_or_default();
    assert!(said.ends_with("if they are lost for good, see `konsen member undo --help`"), "{said}");
    // A host is being taken in: what was kept for it is no voter, and is known by its name.
    let mut now = voters(1..=3);
    now.outgoing = Some([NodeId(1), NodeId(2), stand_in("n3")].into());
    for stays in [false, true] {
        if stays {
            let place = Member { seen: false, ..now.members[&NodeId(3)].clone() };
            now.members.insert(stand_in("n3"), place);
        }
        let said = told(&now, 1, &[NodeId(3)]).unwrap_or_default();
        assert!(said.contains("before: 1 of 3 voters is here"), "{said}");
        assert!(said.contains("n3 (connected, but its admission is not decided"), "{said}");
        assert!(said.contains("; bring n2 back; after: 2 of 3, which is enough"), "{said}");
        assert!(is_awaited(&now, NodeId(3)) && !is_awaited(&now, NodeId(2)));
    }
}
