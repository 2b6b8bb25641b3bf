#![allow(clippy::unwrap_used)]

use super::*;
use crate::raft::ClusterId;

const HERE: Sight<'_> = Sight { reachable: &|_| true, lag: &|_| Some(0) };

fn addresses(host: &str) -> Addresses {
    Addresses { raft: format!("{host}:1"), http: format!("{host}:2") }
}

fn member(name: &str) -> Member {
    let Addresses { raft, http } = addresses(name);
    let name = name.to_owned();
    Member {
        name,
        raft_address: raft,
        http_address: http,
        seen: true,
        promote: false,
        replaces: None,
    }
}

/// Voters n1 to n3 under the identities 1 to 3.
fn three() -> Membership {
    Membership {
        cluster: ClusterId(1),
        members: (1..=3).map(|n| (NodeId(n), member(&format!("n{n}")))).collect(),
        voters: (1..=3).map(NodeId).collect(),
        outgoing: None,
    }
}

fn add(name: &str) -> Change {
    Change::Add { name: name.to_owned(), addresses: addresses(name), promote: true }
}

fn remove(name: &str) -> Change {
    Change::Remove { name: name.to_owned() }
}

fn give(name: &str) -> Change {
    Change::Promote { name: name.to_owned() }
}

fn replace(name: &str) -> Change {
    Change::Replace { name: name.to_owned(), addresses: None }
}

#[test]
fn a_new_host_is_a_learner_until_it_is_seen_and_has_caught_up() {
    let now = change(&three(), &add("n4"), HERE, false).unwrap();
    assert_eq!(now.voters, three().voters, "it costs the quorum nothing");
    assert!(promote(&now, HERE).is_none(), "it was never seen");
    assert!(matches!(change(&now, &give("n4"), HERE, true), Err(Obstacle::NotReady { .. })));

    let now = admit(&now, "n4", NodeId(4)).unwrap();
    assert!(now.members[&NodeId(4)].seen && !now.members.contains_key(&stand_in("n4")));
    assert!(admit(&now, "n4", NodeId(5)).is_none(), "another identity under its name");
    for lag in [None, Some(LAG_MAX + 1)] {
        let behind = Sight { lag: &|_| lag, ..HERE };
        assert!(promote(&now, behind).is_none());
        assert!(matches!(change(&now, &give("n4"), behind, false), Err(Obstacle::NotReady { .. })));
    }
    let now = promote(&now, Sight { lag: &|_| Some(LAG_MAX), ..HERE }).unwrap();
    assert!(now.voters.contains(&NodeId(4)));
    assert!(promote(&now, HERE).is_none());
    assert_eq!(
        change(&now, &give("n4"), HERE, false),
        Err(Obstacle::VotesAlready("n4".to_owned()))
    );
    assert_eq!(warnings(&now).len(), 1, "four voters");
    assert!(warnings(&three()).is_empty());
}

#[test]
fn one_that_is_to_stay_a_learner_stays_one() {
    let learner = Change::Add { name: "n4".to_owned(), addresses: addresses("n4"), promote: false };
    let now = change(&three(), &learner, HERE, false).unwrap();
    let now = admit(&now, "n4", NodeId(4)).unwrap();
    assert!(promote(&now, HERE).is_none());
    assert!(warnings(&now).is_empty());
    assert!(change(&now, &give("n4"), HERE, false).unwrap().voters.contains(&NodeId(4)));
}

#[test]
fn a_lost_host_is_replaced_under_its_name() {
    let gone = Sight { reachable: &|id| id != NodeId(3), ..HERE };
    let now = change(&three(), &replace("n3"), gone, false).unwrap();
    assert_eq!(now.voters, [NodeId(1), NodeId(2)].into());
    let stand_in = &now.members[&stand_in("n3")];
    assert!(stand_in.promote && !stand_in.seen && stand_in.raft_address == "n3:1");
    assert!(admit(&now, "n3", NodeId(3)).is_none(), "it is the one that was put out");
    // A host that was never seen can be replaced as well, by another address.
    let moved = Change::Replace { name: "n3".to_owned(), addresses: Some(addresses("n9")) };
    let now = change(&now, &moved, gone, false).unwrap();
    assert!(admit(&now, "n3", NodeId(3)).is_none(), "nor after a second time");
    let now = admit(&now, "n3", NodeId(7)).unwrap();
    assert_eq!(now.members[&NodeId(7)].raft_address, "n9:1");
    assert_eq!(promote(&now, HERE).unwrap().voters, [NodeId(1), NodeId(2), NodeId(7)].into());
}

#[test]
fn a_host_that_never_starts_is_removed_again() {
    let with = change(&three(), &add("n4"), HERE, false).unwrap();
    assert_eq!(change(&with, &remove("n4"), HERE, false).unwrap(), three());
}

#[test]
fn changes_that_make_no_sense_are_refused() {
    let refused = |wanted: &Change| change(&three(), wanted, HERE, false).unwrap_err();
    assert_eq!(refused(&add("n1")), Obstacle::NameInUse("n1".to_owned()));
    for wanted in [remove("n9"), give("n9"), replace("n9")] {
        assert!(matches!(refused(&wanted), Obstacle::NoSuchMember { .. }));
    }
    let squatter = Change::Add {
        name: "n4".to_owned(),
        addresses: Addresses { raft: "n4:1".to_owned(), http: "n2:2".to_owned() },
        promote: true,
    };
    let expected = Obstacle::AddressInUse { address: "n2:2".to_owned(), name: "n2".to_owned() };
    assert_eq!(refused(&squatter), expected);
    // Everybody may serve clients on all addresses of the machine.
    let mut everywhere = three();
    for member in everywhere.members.values_mut() {
        member.http_address = "0.0.0.0:2".to_owned();
    }
    let Change::Add { name, .. } = add("n4") else { panic!() };
    let addresses = Addresses { raft: "n4:1".to_owned(), http: "0.0.0.0:2".to_owned() };
    let wanted = Change::Add { name, addresses, promote: true };
    assert!(change(&everywhere, &wanted, HERE, false).is_ok());
    let mut alone = three();
    alone.voters = [NodeId(1)].into();
    for wanted in [remove("n1"), replace("n1")] {
        assert_eq!(change(&alone, &wanted, HERE, true), Err(Obstacle::LastVoter("n1".to_owned())));
    }
    let joint = Membership { outgoing: Some([NodeId(1)].into()), ..three() };
    assert_eq!(change(&joint, &add("n4"), HERE, true), Err(Obstacle::InProgress));
    assert!(admit(&joint, "n4", NodeId(4)).is_none() && promote(&joint, HERE).is_none());
}

#[test]
fn as_many_as_there_may_be_and_no_more() {
    let mut now = three();
    for n in 4..=MEMBERS_MAX {
        now = change(&now, &add(&format!("n{n}")), HERE, false).unwrap();
    }
    assert_eq!(change(&now, &add("one-more"), HERE, false), Err(Obstacle::Full));
}

#[test]
fn a_change_that_leaves_no_reachable_quorum_needs_force() {
    // n3 is down: without n2, only one of two could be reached.
    let gone = Sight { reachable: &|id| id != NodeId(3), ..HERE };
    let refused = change(&three(), &remove("n2"), gone, false).unwrap_err();
    let expected = Obstacle::QuorumAtRisk { needed: 2, reachable: 1, missing: "n3".to_owned() };
    assert_eq!(refused, expected);
    assert!(change(&three(), &remove("n2"), gone, true).is_ok());
    assert!(change(&three(), &remove("n3"), gone, false).is_ok());
}

#[test]
fn a_host_that_moved_is_known_by_its_new_address() {
    let now = relocate(&three(), NodeId(2), &addresses("n8")).unwrap();
    assert_eq!(now.members[&NodeId(2)].raft_address, "n8:1");
    assert!(relocate(&now, NodeId(2), &addresses("n8")).is_none());
    assert!(relocate(&now, NodeId(2), &addresses("n3")).is_none(), "it is another's");
    assert!(relocate(&now, NodeId(9), &addresses("n9")).is_none());
}

#[test]
fn a_cluster_that_begins_anew_takes_the_other_hosts_in_one_by_one() {
    let hosts = ["n1", "n2", "n3"].map(|name| (name.to_owned(), addresses(name)));
    let mut now = begin_anew(ClusterId(9), ("n2", NodeId(2)), hosts);
    assert_eq!((now.cluster, now.voters.clone()), (ClusterId(9), [NodeId(2)].into()));
    assert_eq!(now.by_name("n2").map(|(id, member)| (id, member.seen)), Some((NodeId(2), true)));
    assert_eq!(promote(&now, HERE), None, "nobody else was seen yet");
    for (name, id) in [("n1", NodeId(1)), ("n3", NodeId(3))] {
        now = admit(&now, name, id).unwrap();
        now = promote(&now, HERE).unwrap();
    }
    assert_eq!(now.voters, [NodeId(1), NodeId(2), NodeId(3)].into());
    assert_eq!(now.members.len(), 3);
}
