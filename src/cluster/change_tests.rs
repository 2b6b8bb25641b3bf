#![allow(clippy::unwrap_used)]

use super::*;
use crate::cluster::sample::{HERE, addresses, voters};

fn three() -> Membership {
    voters(1..=3)
}

/// All but these answer.
fn without<T>(gone: &[u64], look: impl FnOnce(ClusterView<'_>) -> T) -> T {
    look(ClusterView { reachable: &|id| !gone.contains(&id.0), ..HERE })
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
fn a_host_that_never_starts_is_removed_again() {
    let with = change(&three(), &add("n4"), HERE, false).unwrap();
    assert_eq!(change(&with, &remove("n4"), HERE, false).unwrap(), three());
}

#[test]
fn changes_that_make_no_sense_are_refused() {
    let refused = |wanted: &Change| change(&three(), wanted, HERE, false).unwrap_err();
    assert_eq!(refused(&add("n1")), ChangeRefused::NameInUse("n1".to_owned()));
    for wanted in [remove("n9"), give("n9"), replace("n9")] {
        assert!(matches!(refused(&wanted), ChangeRefused::NoSuchMember { .. }));
    }
    let squatter = Change::Add {
        name: "n4".to_owned(),
        addresses: Addresses { raft: "n4:1".to_owned(), http: "n2:2".to_owned() },
        promote: true,
    };
    let expected =
        ChangeRefused::AddressInUse { address: "n2:2".to_owned(), name: "n2".to_owned() };
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
        assert_eq!(
            change(&alone, &wanted, HERE, true),
            Err(ChangeRefused::LastVoter("n1".to_owned()))
        );
    }
    let joint = Membership { outgoing: Some([NodeId(1)].into()), ..three() };
    assert_eq!(change(&joint, &add("n4"), HERE, true), Err(ChangeRefused::InProgress));
}

#[test]
fn as_many_as_there_may_be_and_no_more() {
    let mut now = three();
    for n in 4..=MEMBERS_MAX {
        now = change(&now, &add(&format!("n{n}")), HERE, false).unwrap();
    }
    assert_eq!(change(&now, &add("one-more"), HERE, false), Err(ChangeRefused::Full));
}

#[test]
fn a_change_needs_a_reachable_majority_before_and_after_it() {
    let at_risk = |when, needed, reachable, missing: &str, forcible| {
        let missing = missing.to_owned();
        Err(ChangeRefused::QuorumAtRisk { when, needed, reachable, missing, forcible })
    };
    // n3 is down: without n2, only one of two could be reached.
    without(&[3], |view| {
        assert_eq!(
            change(&three(), &remove("n2"), view, false),
            at_risk(When::After, 2, 1, "n3", true)
        );
        assert!(change(&three(), &remove("n2"), view, true).is_ok());
        assert!(change(&three(), &remove("n3"), view, false).is_ok());
    });
    // What a majority of the present voters does not agree to never happens: forcing it would not help.
    without(&[2, 3], |view| {
        for force in [false, true] {
            let refused = change(&three(), &remove("n2"), view, force);
            assert_eq!(refused, at_risk(When::Before, 2, 1, "n2, n3", false));
        }
        // By their names, whatever their numbers are.
        let mut renamed = three();
        renamed.members.get_mut(&NodeId(2)).unwrap().name = "z".to_owned();
        let refused = change(&renamed, &remove("n3"), view, false);
        assert_eq!(refused, at_risk(When::Before, 2, 1, "n3, z", false));
    });
}

#[test]
fn a_member_that_answers_is_replaced_by_force_only() {
    let refused = change(&three(), &replace("n3"), HERE, false);
    assert_eq!(refused, Err(ChangeRefused::Answers("n3".to_owned())));
    assert!(change(&three(), &replace("n3"), HERE, true).is_ok());
    without(&[3], |view| assert!(change(&three(), &replace("n3"), view, false).is_ok()));
}

#[test]
fn no_second_voter_that_answers_goes_while_a_successor_is_awaited() {
    let now = without(&[3], |view| change(&three(), &replace("n3"), view, false).unwrap());
    let awaited =
        |name: &str| ChangeRefused::Awaited { name: name.to_owned(), awaited: "n3".to_owned() };
    for wanted in [remove("n2"), remove("n1")] {
        let refused = change(&now, &wanted, HERE, false).unwrap_err();
        let Change::Remove { name } = &wanted else { panic!() };
        assert_eq!(refused, awaited(name));
        assert!(change(&now, &wanted, HERE, true).is_ok());
    }
    // Whom nobody hears helps nobody; of five, two lost hosts can be replaced at once.
    without(&[4, 5], |view| {
        let now = change(&voters(1..=5), &replace("n4"), view, false).unwrap();
        let now = change(&now, &replace("n5"), view, false).unwrap();
        assert_eq!(now.voters, three().voters);
    });
    // Who is awaited may be given up.
    assert!(change(&now, &remove("n3"), HERE, false).is_ok());
}

#[test]
fn a_command_can_be_repeated() {
    let with = change(&three(), &add("n4"), HERE, false).unwrap();
    assert_eq!(change(&with, &add("n4"), HERE, false).unwrap(), with);
    let elsewhere =
        Change::Add { name: "n4".to_owned(), addresses: addresses("n9"), promote: true };
    let refused = change(&with, &elsewhere, HERE, false).unwrap_err();
    assert!(matches!(&refused, ChangeRefused::AwaitedOtherwise { moves: true, .. }));
    for words in ["n4 is a member already", "at n4:1 and n4:2", "at n9:1 and n9:2"] {
        assert!(refused.to_string().contains(words), "{refused}");
    }
    let Change::Add { name, addresses: there, .. } = add("n4") else { panic!() };
    let learner = Change::Add { name, addresses: there, promote: false };
    let refused = change(&with, &learner, HERE, false).unwrap_err();
    assert!(matches!(&refused, ChangeRefused::AwaitedOtherwise { moves: false, .. }));
    for words in ["added to vote", "asked for is to stay a learner"] {
        assert!(refused.to_string().contains(words), "{refused}");
    }
    let now = without(&[3], |view| change(&three(), &replace("n3"), view, false).unwrap());
    assert_eq!(change(&now, &replace("n3"), HERE, false).unwrap(), now);
    // A host that was never seen may come from elsewhere, also one that has a vote since the birth.
    let mut just_founded = three();
    let absent = Member { seen: false, ..just_founded.members.remove(&NodeId(3)).unwrap() };
    just_founded.members.insert(stand_in("n3"), absent);
    just_founded.voters = [NodeId(1), NodeId(2), stand_in("n3")].into();
    assert_eq!(change(&just_founded, &add("n3"), HERE, false).unwrap(), just_founded);
    let moved = Change::Replace { name: "n3".to_owned(), addresses: Some(addresses("n9")) };
    let next = change(&just_founded, &moved, HERE, false).unwrap();
    assert_eq!(next.voters, just_founded.voters);
    assert_eq!(next.members[&stand_in("n3")].raft_address, "n9:1");
}
