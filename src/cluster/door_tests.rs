use super::super::sample::{empty, entry, known, member, roster, voters};
use super::*;
use crate::raft::{Member, Membership};

const CLUSTER: Option<ClusterId> = Some(ClusterId(1));

fn visitor(name: &str, id: u64, cluster: Option<ClusterId>) -> Visitor<'_> {
    Visitor { name, id: NodeId(id), cluster, features: Features::default() }
}

fn at_door(roster: &Roster, visitor: Visitor<'_>) -> Result<Seat, Why> {
    decide(roster, Features::default(), visitor, &BTreeMap::new())
}

/// With a stand-in for `name`, in the place of `replaces`.
fn awaiting(mut now: Membership, name: &str, replaces: Option<u64>) -> Membership {
    let replaces = replaces.map(NodeId);
    now.members.insert(stand_in(name), Member { seen: false, replaces, ..member(name) });
    now
}

#[test]
fn members_are_let_in_by_their_identity() {
    let own = roster(1, 5, voters(1..=3));
    assert_eq!(at_door(&own, visitor("n2", 2, CLUSTER)), Ok(NodeId(2)));
    assert_eq!(at_door(&own, visitor("n3", 2, CLUSTER)), Err(Why::Copy { of: "n2".to_owned() }));
    assert_eq!(at_door(&own, visitor("n2", 1, CLUSTER)), Err(Why::Copy { of: "n1".to_owned() }));
    let stranger = at_door(&own, visitor("n9", 9, CLUSTER));
    assert_eq!(stranger, Err(Why::NoMember { at: Some(Index(5)) }));
    assert!(stranger.is_err_and(|why| why.disowns()));
}

#[test]
fn a_directory_that_was_lost_is_told_from_a_host_that_was_replaced() {
    let own = roster(1, 5, voters(1..=3));
    let lost = at_door(&own, visitor("n2", 7, None));
    assert_eq!(lost, Err(Why::OtherIdentity { expected: NodeId(2) }));
    assert!(lost.is_err_and(|why| !why.disowns()));
    let late = at_door(&own, visitor("n2", 7, CLUSTER));
    assert_eq!(late, Err(Why::Replaced { at: Index(5) }));
    // Nothing had reached it before it went, and another has its name now.
    let mut remembers = roster(1, 5, voters([1, 3, 7]));
    let mut before = voters([1, 3]);
    before.members.insert(NodeId(2), member("n7"));
    remembers.remember([(Index(4), before)]);
    let late = at_door(&remembers, visitor("n7", 2, None));
    assert_eq!(late, Err(Why::Replaced { at: Index(5) }));
    let mut now = voters([1, 3]);
    now = awaiting(now, "n2", Some(2));
    let own = roster(1, 6, now);
    assert_eq!(at_door(&own, visitor("n2", 2, CLUSTER)), Err(Why::Replaced { at: Index(6) }));
    assert_eq!(at_door(&own, visitor("n2", 7, None)), Ok(stand_in("n2")));
}

#[test]
fn who_was_put_out_is_let_in_in_no_place_of_its_name() {
    let without = || voters([1, 3]);
    // It saw itself that n2 went, and that another n2 is to come.
    let mut saw = roster(1, 5, voters(1..=3));
    saw.follow((Some((entry(6), without())), Some(known(6, without()))));
    let again = awaiting(without(), "n2", None);
    saw.follow((Some((entry(7), again.clone())), Some(known(7, again.clone()))));
    assert_eq!(at_door(&saw, visitor("n2", 2, CLUSTER)), Err(Why::Replaced { at: Index(7) }));
    // Also if it missed the time between.
    let mut missed = roster(1, 5, voters(1..=3));
    missed.follow((Some((entry(7), again.clone())), Some(known(7, again.clone()))));
    assert!(at_door(&missed, visitor("n2", 2, CLUSTER)).is_err());
    assert_eq!(at_door(&missed, visitor("n2", 7, None)), Ok(stand_in("n2")));
    // One that began after that is told by the host itself, which goes on telling it after it has learnt more.
    let mut late = roster(2, 5, voters(1..=3));
    let mut began = roster(1, 7, again.clone());
    for _ in 0..2 {
        assert!(!began.learn(&late.told().unwrap()));
        assert_eq!(at_door(&began, visitor("n2", 2, CLUSTER)), Err(Why::Replaced { at: Index(7) }));
        began = roster(1, 7, again.clone());
        late.learn(&began.told().unwrap());
        assert!(late.is_outside());
    }
}

#[test]
fn who_was_put_out_is_known_by_what_the_logs_hold() {
    let again = awaiting(voters([1, 3]), "n2", None);
    // Nobody had told n2 that the birth, of which it was part, was decided.
    let mut founder = empty(2);
    founder.follow((Some((entry(1), voters(1..=3))), None));
    let mut own = roster(1, 7, again.clone());
    own.learn(&founder.told().unwrap());
    assert_eq!(at_door(&own, visitor("n2", 2, CLUSTER)), Err(Why::Replaced { at: Index(7) }));
    // A node that began anew has in its own log who came before.
    let mut own = roster(1, 7, again);
    own.remember([(Index(1), voters(1..=3)), (Index(6), voters([1, 3]))]);
    assert_eq!(at_door(&own, visitor("n2", 2, CLUSTER)), Err(Why::Replaced { at: Index(7) }));
    assert_eq!(at_door(&own, visitor("n3", 3, CLUSTER)), Ok(NodeId(3)));
}

/// Its log may know of the cluster, and even of its own admission, before that is decided.
#[test]
fn who_was_never_a_member_by_decision_is_still_let_in() {
    let waits = awaiting(voters(1..=3), "n4", None);
    let mut admitted = waits.clone();
    admitted.members.remove(&stand_in("n4"));
    admitted.members.insert(NodeId(4), member("n4"));
    let mut newcomer = empty(4);
    newcomer.follow((Some((entry(7), admitted)), Some(known(6, waits.clone()))));
    let mut own = roster(1, 6, waits);
    own.learn(&newcomer.told().unwrap());
    assert_eq!(at_door(&own, visitor("n4", 4, CLUSTER)), Ok(stand_in("n4")));
}

/// Of the voters' list before there is only what the joint membership says of it.
#[test]
fn who_left_by_a_change_of_the_voters_was_put_out() {
    let all = voters(1..=4);
    let mut own = roster(1, 5, all.clone());
    let mut joint = all.clone();
    joint.voters.remove(&NodeId(4));
    joint.outgoing = Some(all.voters);
    own.follow((Some((entry(6), joint.clone())), Some(known(6, joint))));
    let now = voters(1..=3);
    own.follow((Some((entry(7), now.clone())), Some(known(7, now))));
    assert!(own.was_put_out(NodeId(4)));
}

/// The joint membership is decided together with what undoes it.
#[test]
fn who_was_let_in_by_a_change_that_was_undone_is_let_in_again() {
    let mut waits = awaiting(voters([1, 3]), "n2", None);
    waits.voters.insert(stand_in("n2"));
    let mut joint = waits.clone();
    joint.members.insert(NodeId(2), member("n2"));
    joint.voters = voters(1..=3).voters;
    joint.outgoing = Some(waits.voters.clone());
    let mut own = roster(1, 5, waits.clone());
    own.follow((Some((entry(6), joint.clone())), Some(known(6, joint.clone()))));
    let undone = joint.undone().unwrap();
    assert_eq!(undone, waits);
    own.follow((Some((entry(7), undone.clone())), Some(known(7, undone.clone()))));
    own.remember([(Index(5), waits), (Index(6), joint)]);
    assert_eq!(at_door(&own, visitor("n2", 2, CLUSTER)), Ok(stand_in("n2")));
}

#[test]
fn of_two_hosts_with_one_certificate_the_first_is_let_in() {
    let own = roster(1, 5, awaiting(voters(1..=3), "n4", None));
    let mut connected = BTreeMap::from([(stand_in("n4"), NodeId(40))]);
    assert_eq!(
        decide(&own, Features::default(), visitor("n4", 40, None), &connected),
        Ok(stand_in("n4"))
    );
    let second = decide(&own, Features::default(), visitor("n4", 41, None), &connected);
    assert_eq!(second, Err(Why::Taken { by: NodeId(40) }));
    // Nor does one host have two places.
    connected = BTreeMap::from([(NodeId(2), NodeId(2)), (stand_in("n3"), NodeId(50))]);
    let both = decide(&own, Features::default(), visitor("n4", 50, None), &connected);
    assert!(matches!(both, Err(Why::Copy { .. })));
}

#[test]
fn while_a_member_is_being_replaced_both_are_let_in() {
    let mut joint = awaiting(voters(1..=3), "n3", Some(3));
    joint.voters = [NodeId(1), NodeId(2)].into();
    joint.outgoing = Some([NodeId(1), NodeId(2), NodeId(3)].into());
    let mut own = roster(1, 5, voters(1..=3));
    let committed = own.newest().cloned();
    own.follow((Some((entry(6), joint.clone())), committed));
    assert_eq!(at_door(&own, visitor("n3", 3, CLUSTER)), Ok(NodeId(3)));
    assert_eq!(at_door(&own, visitor("n3", 9, None)), Ok(stand_in("n3")));
    // Its end is in the log and not yet decided: the outgoing voter may still be needed.
    let last = awaiting(voters(1..=2), "n3", Some(3));
    own.follow((Some((entry(7), last.clone())), Some(known(6, joint))));
    assert_eq!(at_door(&own, visitor("n3", 3, CLUSTER)), Ok(NodeId(3)));
    own.follow((Some((entry(7), last.clone())), Some(known(7, last))));
    assert_eq!(at_door(&own, visitor("n3", 3, CLUSTER)), Err(Why::Replaced { at: Index(7) }));
}

#[test]
fn who_lags_lets_in_whom_it_is_told_of() {
    let mut own = roster(3, 5, voters(1..=3));
    assert!(at_door(&own, visitor("n4", 4, CLUSTER)).is_err());
    assert!(own.learn(&known(9, voters(2..=4))));
    assert!(!own.learn(&known(8, voters(1..=4))), "older news");
    assert_eq!(at_door(&own, visitor("n4", 4, CLUSTER)), Ok(NodeId(4)));
    // Whom its own log names stays, until the log says more.
    assert_eq!(at_door(&own, visitor("n1", 1, CLUSTER)), Ok(NodeId(1)));
    own.follow((Some((entry(9), voters(2..=4))), Some(known(9, voters(2..=4)))));
    assert!(at_door(&own, visitor("n1", 1, CLUSTER)).is_err());
}

#[test]
fn clusters_are_kept_apart() {
    let mut own = roster(1, 5, voters(1..=3));
    let other = Some(ClusterId(2));
    let refused = Why::OtherCluster { own: ClusterId(1), theirs: ClusterId(2) };
    assert_eq!(at_door(&own, visitor("n2", 2, other)), Err(refused));
    let foreign = Membership { cluster: ClusterId(2), ..voters(1..=3) };
    assert!(!own.learn(&known(99, foreign.clone())));
    // Who belongs to none listens to one that waits for it, and then to no other.
    let mut newcomer = empty(4);
    assert!(!newcomer.learn(&known(99, foreign.clone())), "nobody there knows it");
    assert!(newcomer.learn(&known(5, awaiting(voters(1..=3), "n4", None))));
    assert!(!newcomer.learn(&known(99, awaiting(foreign, "n4", None))));
    assert_eq!(at_door(&newcomer, visitor("n2", 2, CLUSTER)), Ok(NodeId(2)));
}

#[test]
fn before_there_is_a_cluster_the_configuration_rules() {
    let own = empty(1);
    assert_eq!(at_door(&own, visitor("n2", 20, None)), Ok(stand_in("n2")));
    let stranger = at_door(&own, visitor("n9", 9, None));
    assert_eq!(stranger, Err(Why::NoMember { at: None }));
    assert!(stranger.is_err_and(|why| !why.disowns()), "it may be known later");
}

#[test]
fn who_does_not_know_the_clusters_level_is_not_let_in_by_either_end() {
    let says =
        |level, highest| Features { level: FeatureLevel(level), highest: FeatureLevel(highest) };
    let own = roster(1, 5, voters(1..=3));
    let decided = |here: Features, there: Features, name, id| {
        let visitor = Visitor { features: there, ..visitor(name, id, CLUSTER) };
        decide(&own, here, visitor, &BTreeMap::new())
    };
    let (level, knows) = (FeatureLevel(2), FeatureLevel(1));
    assert_eq!(decided(says(2, 2), says(1, 1), "n2", 2), Err(Why::TooOld { level, knows }));
    assert_eq!(decided(says(1, 1), says(2, 2), "n2", 2), Err(Why::Outgrown { level, knows }));
    assert!(!Why::TooOld { level, knows }.disowns());
    // Before the raise all work together, and who has not applied it yet is no stranger.
    assert_eq!(decided(says(1, 2), says(1, 1), "n2", 2), Ok(NodeId(2)));
    assert_eq!(decided(says(1, 1), says(1, 2), "n2", 2), Ok(NodeId(2)));
    assert_eq!(decided(says(2, 2), says(1, 2), "n2", 2), Ok(NodeId(2)));
    // Who has no place learns that first.
    let stranger = decided(says(2, 2), says(1, 1), "n9", 9);
    assert_eq!(stranger, Err(Why::NoMember { at: Some(Index(5)) }));
}
