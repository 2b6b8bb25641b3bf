#![allow(clippy::unwrap_used)]

use super::super::begin_anew;
use super::super::change::{Change, ChangeRefused, LAG_MAX, change, warnings};
use super::super::sample::{HERE, addresses, voters};
use super::*;
use crate::raft::ClusterId;

fn three() -> Membership {
    voters(1..=3)
}

fn add(name: &str) -> Change {
    Change::Add { name: name.to_owned(), addresses: addresses(name), promote: true }
}

fn give(name: &str) -> Change {
    Change::Promote { name: name.to_owned() }
}

fn replace(name: &str) -> Change {
    Change::Replace { name: name.to_owned(), addresses: None }
}

/// Says that it listens where a host of that name does.
fn at(n: u64, host: &str) -> Shown {
    Shown { id: NodeId(n), name: format!("n{n}"), addresses: Some(addresses(host)) }
}

#[test]
fn a_host_that_moved_is_known_by_its_new_address() {
    let now = relocate(&three(), &[at(2, "n8")]).unwrap();
    assert_eq!(now.members[&NodeId(2)].raft_address, "n8:1");
    assert!(relocate(&now, &[at(2, "n8")]).is_none());
    assert!(relocate(&now, &[at(9, "n9")]).is_none());
    // Where one that is away was last does not keep another from going there.
    assert_eq!(relocate(&now, &[at(2, "n3")]).unwrap().members[&NodeId(2)].raft_address, "n3:1");
}

#[test]
fn two_that_changed_places_are_both_learnt() {
    let now = relocate(&three(), &[at(1, "n2"), at(2, "n1"), at(3, "n3")]).unwrap();
    let places = |id| now.members[&NodeId(id)].raft_address.as_str();
    assert_eq!([places(1), places(2), places(3)], ["n2:1", "n1:1", "n3:1"]);
    // Of two that claim the same place neither is believed.
    assert!(relocate(&three(), &[at(1, "n7"), at(2, "n7")]).is_none());
}

#[test]
fn nothing_is_done_while_a_change_is_under_way() {
    let joint = Membership { outgoing: Some([NodeId(1)].into()), ..three() };
    assert!(next(&joint, &[at(2, "n8")], HERE).is_none());
    assert!(next(&three(), &[at(2, "n8")], HERE).is_some());
}

#[test]
fn no_vote_is_given_that_leaves_no_reachable_majority() {
    let now = change(&voters(1..=2), &add("n4"), HERE, false).unwrap();
    let now = admit(&now, "n4", NodeId(4)).unwrap();
    let gone = ClusterView { reachable: &|id| id != NodeId(2), ..HERE };
    assert!(promote(&now, gone).is_none());
    assert!(promote(&now, HERE).is_some());
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
#[test]
fn a_new_host_is_a_learner_until_it_is_seen_and_has_caught_up() {
    let now = change(&three(), &add("n4"), HERE, false).unwrap();
    assert_eq!(now.voters, three().voters, "it costs the quorum nothing");
    assert!(promote(&now, HERE).is_none(), "it was never seen");
    let refused = change(&now, &give("n4"), HERE, true);
    assert!(matches!(refused, Err(ChangeRefused::NotReady { .. })));

    let now = admit(&now, "n4", NodeId(4)).unwrap();
    assert!(now.members[&NodeId(4)].seen && !now.members.contains_key(&stand_in("n4")));
    assert!(admit(&now, "n4", NodeId(5)).is_none(), "another identity under its name");
    for lag in [None, Some(LAG_MAX + 1)] {
        let behind = ClusterView { lag: &|_| lag, ..HERE };
        assert!(promote(&now, behind).is_none());
        assert!(matches!(
            change(&now, &give("n4"), behind, false),
            Err(ChangeRefused::NotReady { .. })
        ));
    }
    let now = promote(&now, ClusterView { lag: &|_| Some(LAG_MAX), ..HERE }).unwrap();
    assert!(now.voters.contains(&NodeId(4)));
    assert!(promote(&now, HERE).is_none());
    assert_eq!(
        change(&now, &give("n4"), HERE, false),
        Err(ChangeRefused::VotesAlready("n4".to_owned()))
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
    let gone = ClusterView { reachable: &|id| id != NodeId(3), ..HERE };
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
