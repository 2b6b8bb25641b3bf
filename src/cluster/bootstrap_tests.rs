#![allow(clippy::unwrap_used)]

use super::super::sample::addresses;
use super::*;
use crate::raft::founding::Ballot;

fn servers(count: u64) -> BTreeMap<String, Addresses> {
    (1..=count).map(|n| (format!("n{n}"), addresses(&format!("n{n}")))).collect()
}

fn present(numbers: &[u64]) -> BTreeMap<String, (NodeId, Option<ClusterId>)> {
    numbers.iter().map(|&n| (format!("n{n}"), (NodeId(n), None))).collect()
}

const GRACE: Duration = Duration::from_secs(2);

/// A node that has waited so many times as long as it gives others.
fn situation<'a>(
    own: &'a str,
    servers: &'a BTreeMap<String, Addresses>,
    present: &'a BTreeMap<String, (NodeId, Option<ClusterId>)>,
    turns: u32,
) -> Situation<'a> {
    let idle = GRACE * turns;
    Situation { own, servers, join: false, present, idle, tried: turns > 0, grace: GRACE }
}

/// What `own` of three does.
fn of_three(own: &str, others: &[u64], turns: u32) -> Next {
    decide(&situation(own, &servers(3), &present(others), turns))
}

#[test]
fn the_first_by_name_of_those_present_asks_once_a_majority_is_there() {
    let Next::Gather(why) = of_three("n1", &[], 9) else { panic!() };
    assert_eq!(why, "no majority is here; missing: n2, n3");
    assert!(matches!(of_three("n1", &[2], 0), Next::Wait(_)), "n3 may come yet");
    assert_eq!(of_three("n1", &[2], 1), Next::Ask);
    assert_eq!(of_three("n1", &[2, 3], 0), Next::Ask);
    assert_eq!(of_three("n2", &[1, 3], 1), Next::Wait("n1 is to found it".to_owned()));
    assert_eq!(of_three("n2", &[3], 1), Next::Ask);
    // Who is not in the configuration does not count.
    assert!(matches!(of_three("n1", &[9], 1), Next::Gather(_)));
}

#[test]
fn who_has_waited_for_those_before_it_by_name_asks_itself() {
    assert_eq!(of_three("n2", &[1, 3], 2), Next::Ask);
    assert!(matches!(of_three("n3", &[1, 2], 2), Next::Wait(_)));
    assert_eq!(of_three("n3", &[1, 2], 3), Next::Ask);
    // An attempt that came to nothing is not repeated at once.
    let (servers, present) = (servers(3), present(&[2, 3]));
    let again = Situation { tried: true, ..situation("n1", &servers, &present, 0) };
    assert!(matches!(decide(&again), Next::Wait(_)));
}

#[test]
fn who_meets_a_member_founds_nothing() {
    let (servers, mut present) = (servers(3), present(&[2, 3]));
    present.insert("n3".to_owned(), (NodeId(3), Some(ClusterId(1))));
    let next = decide(&situation("n1", &servers, &present, 9));
    assert_eq!(next, Next::Meet { name: "n3".to_owned(), id: NodeId(3) });
}

#[test]
fn who_is_to_join_founds_nothing() {
    let (servers, present) = (servers(3), present(&[2, 3]));
    let joins = Situation { join: true, ..situation("n1", &servers, &present, 9) };
    assert!(matches!(decide(&joins), Next::Wait(_)));
}

#[test]
fn who_belongs_to_a_cluster_or_is_to_join_one_helps_nobody_to_found_another() {
    let ask = Ask::Grant(Ballot { round: 1, founder: NodeId(1) });
    let answer = |founded, joins| {
        answer(Standing { founded, joins }, ask, |_| Ok::<_, ()>(Answer::Granted)).unwrap()
    };
    assert_eq!(answer(true, false), Answer::Founded);
    assert_eq!(answer(true, true), Answer::Founded);
    assert_eq!(answer(false, true), Answer::Joins);
    assert_eq!(answer(false, false), Answer::Granted);
    let failed = super::answer(Standing { founded: false, joins: false }, ask, |_| Err("the disk"));
    assert_eq!(failed, Err("the disk"));
}

#[test]
fn who_is_absent_gets_a_stand_in_that_counts_for_the_quorum() {
    let (servers, present) = (servers(3), present(&[2]));
    let first = |present| first_membership(ClusterId(7), ("n1", NodeId(1)), &servers, present);
    let membership = first(&present).unwrap();
    assert_eq!(membership.voters, [NodeId(1), NodeId(2), stand_in("n3")].into());
    assert!(!membership.members[&stand_in("n3")].seen && membership.members[&NodeId(2)].seen);
    // Those who granted it may have gone meanwhile: with them alone nothing could be decided.
    assert!(first(&self::present(&[])).is_none());
}
