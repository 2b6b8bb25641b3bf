#![allow(clippy::unwrap_used)]

use super::super::sample::addresses;
use super::*;

fn servers(count: u64) -> BTreeMap<String, Addresses> {
    (1..=count).map(|n| (format!("n{n}"), addresses(&format!("n{n}")))).collect()
}

fn present(numbers: &[u64]) -> BTreeMap<String, (NodeId, Option<ClusterId>)> {
    numbers.iter().map(|&n| (format!("n{n}"), (NodeId(n), None))).collect()
}

/// What `own` of three does.
fn of_three(own: &str, others: &[u64], waited: bool) -> Next {
    let (servers, present) = (servers(3), present(others));
    decide(&Situation { own, servers: &servers, join: false, present: &present, waited })
}

#[test]
fn the_first_by_name_of_those_present_founds_the_cluster_once_a_majority_is() {
    let Next::Wait(why) = of_three("n1", &[], true) else { panic!() };
    assert_eq!(why, "no majority is here; missing: n2, n3");
    assert!(matches!(of_three("n1", &[2], false), Next::Wait(_)), "n3 may come yet");
    assert_eq!(of_three("n1", &[2], true), Next::Found);
    assert_eq!(of_three("n1", &[2, 3], false), Next::Found);
    assert_eq!(of_three("n2", &[1, 3], true), Next::Wait("n1 is to found it".to_owned()));
    assert_eq!(of_three("n2", &[3], true), Next::Found);
    // Who is not in the configuration does not count.
    assert!(matches!(of_three("n1", &[9], true), Next::Wait(_)));
}

#[test]
fn who_meets_a_member_founds_nothing() {
    let (servers, mut present) = (servers(3), present(&[2, 3]));
    present.insert("n3".to_owned(), (NodeId(3), Some(ClusterId(1))));
    let situation =
        Situation { own: "n1", servers: &servers, join: false, present: &present, waited: true };
    assert_eq!(decide(&situation), Next::Meet { name: "n3".to_owned(), id: NodeId(3) });
}

#[test]
fn who_is_to_join_founds_nothing() {
    let (servers, present) = (servers(3), present(&[2, 3]));
    let situation =
        Situation { own: "n1", servers: &servers, join: true, present: &present, waited: true };
    assert!(matches!(decide(&situation), Next::Wait(_)));
}

#[test]
fn a_grant_is_given_once_and_by_nobody_who_belongs_to_a_cluster() {
    let mut held = None;
    let mut ask = |born, founder| {
        grant(born, NodeId(founder), |founder| Ok::<_, ()>(*held.get_or_insert(founder))).unwrap()
    };
    assert_eq!(ask(true, 1), Founding::Born);
    assert_eq!(ask(false, 1), Founding::Granted);
    assert_eq!(ask(false, 2), Founding::GrantedTo(NodeId(1)));
    assert_eq!(ask(false, 1), Founding::Granted);
    assert_eq!(grant(false, NodeId(1), |_| Err("the disk")), Err("the disk"));
    assert!(suffice(2, 3) && !suffice(2, 4) && !suffice(1, 2) && suffice(1, 1));
}

#[test]
fn who_is_absent_gets_a_stand_in_that_counts_for_the_quorum() {
    let (servers, present) = (servers(3), present(&[2]));
    let situation =
        Situation { own: "n1", servers: &servers, join: false, present: &present, waited: true };
    let first = first_membership(ClusterId(7), ("n1", NodeId(1)), &situation).unwrap();
    assert_eq!(first.voters, [NodeId(1), NodeId(2), stand_in("n3")].into());
    assert!(!first.members[&stand_in("n3")].seen && first.members[&NodeId(2)].seen);
    // Those who granted it may have gone meanwhile: with them alone nothing could be decided.
    let nobody = self::present(&[]);
    let situation = Situation { present: &nobody, ..situation };
    assert!(first_membership(ClusterId(7), ("n1", NodeId(1)), &situation).is_none());
}
