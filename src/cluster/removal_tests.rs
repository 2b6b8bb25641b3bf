use super::super::sample::{empty, entry, known, member, roster, voters};
use super::*;
use crate::raft::{ClusterId, Member, Membership, Term};

/// Whether n3 was put out, which knows `own`, if these say so, each with what it knows.
fn removed(own: &Roster, say: &[(u64, Known)]) -> bool {
    let say = say.iter().map(|(n, known)| (NodeId(*n), known.clone()));
    is_removed(own, &say.collect())
}

#[test]
fn a_majority_of_the_voters_after_the_removal_decides() {
    let own = roster(3, 5, voters(1..=3));
    let after = known(8, voters(1..=2));
    assert!(!removed(&own, &[(1, after.clone())]));
    assert!(removed(&own, &[(1, after.clone()), (2, after)]));
    // Of three others, two; also of those that this node had never heard of.
    let after = known(9, voters([1, 4, 5]));
    assert!(!removed(&own, &[(4, after.clone()), (2, after.clone())]));
    assert!(removed(&own, &[(4, after.clone()), (5, after)]));
    // The only one that is left.
    let after = known(8, voters([1]));
    assert!(removed(&own, &[(1, after)]));
}

#[test]
fn who_lags_has_no_say() {
    // n3 came in at 5; n1 has not heard of that, nor has n2.
    let own = roster(3, 5, voters(1..=3));
    let before = known(2, voters(1..=2));
    assert!(!removed(&own, &[(1, before.clone()), (2, before)]));
    // It was put out at 8 and taken in again at 11, as n1 knows.
    let (out, back) = (known(8, voters(1..=2)), known(11, voters(1..=3)));
    assert!(!removed(&own, &[(1, back), (2, out.clone())]));
    // What one has from a snapshot counts from where that ends.
    let snapshot = Known { at: crate::raft::Index(30), ..out.clone() };
    assert!(removed(&own, &[(1, snapshot), (2, out)]));
}

#[test]
fn who_is_replaced_is_told_from_who_is_removed() {
    let own = roster(3, 5, voters(1..=3));
    let replaced = |after: &Known| is_replaced(&own, &[(NodeId(1), after.clone())].into());
    assert!(!replaced(&known(8, voters(1..=2))));
    let mut after = voters(1..=2);
    after.members.insert(NodeId(7), member("n3"));
    assert!(replaced(&known(8, after)));
}

#[test]
fn who_was_replaced_before_anything_reached_it_does_not_wait() {
    let mut after = voters(1..=2);
    let replaces = Some(NodeId(3));
    after.members.insert(stand_in("n3"), Member { seen: false, replaces, ..member("n3") });
    let own = empty(3);
    let said = known(8, after);
    assert!(!removed(&own, &[(1, said.clone())]));
    assert!(removed(&own, &[(1, said.clone()), (2, said.clone())]));
    assert!(is_replaced(&own, &[(NodeId(1), said)].into()));
    // Its place is kept for it, or for whoever comes.
    let mut waits = voters(1..=2);
    waits.members.insert(stand_in("n3"), Member { seen: false, ..member("n3") });
    let said = known(8, waits);
    assert!(!removed(&own, &[(1, said.clone()), (2, said)]));
}

#[test]
fn who_was_removed_before_anything_reached_it_does_not_wait_for_its_name_to_be_added_again() {
    let mut named = voters(1..=2);
    named.members.insert(NodeId(3), member("n3"));
    let mut again = voters(1..=2);
    again.members.insert(stand_in("n3"), Member { seen: false, ..member("n3") });
    let mut own = empty(3);
    assert!(own.learn(&known(7, named)) && own.learn(&known(9, again.clone())));
    let said = known(9, again);
    assert!(removed(&own, &[(1, said.clone()), (2, said)]));
}

#[test]
fn who_was_removed_before_anything_reached_it_is_told_so() {
    // n3 shows itself, is given a vote for there is next to nothing to catch up with, and is removed within a moment.
    let say = [(1, known(9, voters(1..=2))), (2, known(9, voters(1..=2)))];
    let mut own = empty(3);
    assert!(!removed(&own, &say));
    own.told_put_out();
    assert!(removed(&own, &say) && !removed(&own, &say[..1]));
    // Of a cluster that is not the one which waits for it that says nothing.
    let mut awaited = empty(3);
    let mut waits = voters(1..=2);
    waits.members.insert(NodeId(3), member("n3"));
    assert!(awaited.learn(&Known {
        membership: Membership { cluster: ClusterId(7), ..waits },
        ..known(4, voters([1]))
    }));
    awaited.told_put_out();
    assert!(!removed(&awaited, &say));
}

#[test]
fn nobody_is_removed_while_the_change_is_under_way() {
    let own = roster(3, 5, voters(1..=3));
    let joint = Membership { outgoing: Some((1..=3).map(NodeId).collect()), ..voters(1..=2) };
    let said = [(1, known(8, joint.clone())), (2, known(8, joint))];
    assert!(!removed(&own, &said));
}

#[test]
fn a_learner_can_be_removed_and_a_stranger_cannot() {
    let mut now = voters(1..=2);
    now.members.insert(NodeId(3), Member { ..member("n3") });
    let own = roster(3, 5, now);
    let after = known(8, voters(1..=2));
    assert!(removed(&own, &[(1, after.clone()), (2, after.clone())]));
    assert!(!removed(&empty(3), &[(1, after.clone()), (2, after)]));
}

#[test]
fn whom_nothing_has_named_yet_waits_and_is_told_if_it_was_put_out() {
    // n3 catches up; its leader, n1, has a change that lets it in, of which n2 and n4 have not heard.
    let mut own = roster(3, 5, voters([1, 2, 4]));
    let say = [(2, known(8, voters([1, 2, 4]))), (4, known(8, voters([1, 2, 4])))];
    assert!(!removed(&own, &say));
    // Nor has it come to where it was named, and it was put out meanwhile.
    own.told_put_out();
    assert!(removed(&own, &say));
}

#[test]
fn what_an_older_term_has_left_in_its_log_keeps_nobody_in() {
    // n3 led in term 1, and has a change at 9 that nobody else has; in term 2 it was put out at 8.
    let mut own = roster(3, 5, voters(1..=3));
    own.follow((Some((entry(9), voters(2..=3))), Some(known(5, voters(1..=3)))));
    let out = |term| Known { term: Term(term), ..known(8, voters(1..=2)) };
    assert!(removed(&own, &[(1, out(2)), (2, out(2))]));
    // Nor does one at the very index.
    let mut at_once = roster(3, 5, voters(1..=3));
    let put_out = Some((entry(8), voters(2..=3)));
    at_once.follow((put_out, Some(known(5, voters(1..=3)))));
    assert!(removed(&at_once, &[(1, out(2)), (2, out(2))]));
    // In one log with what puts it out, the change takes it in again, and may yet be decided.
    assert!(!removed(&own, &[(1, out(1)), (2, out(1))]));
}

#[test]
fn a_snapshot_of_an_older_term_does_not_hide_that_a_later_term_goes_without() {
    // n3 came in by a snapshot up to 17, before the change at 20 that names it, which was never decided: the members
    // are those of the founding, as of term 2. Each has heard from n3 of 17.
    let mut own = empty(3);
    own.follow((Some((entry(20), voters(2..=3))), Some(known(17, voters(1..=2)))));
    let later = Known { term: Term(2), ..known(1, voters(1..=2)) };
    let mut member = roster(1, 1, voters(1..=2));
    member.follow((Some((entry(1), voters(1..=2))), Some(later.clone())));
    assert!(!member.learn(&known(17, voters(1..=2))));
    assert_eq!(member.told(), Some(later.clone()));
    assert!(own.learn(&later));
    assert!(removed(&own, &[(1, later.clone()), (2, later)]));
}

#[test]
fn what_one_says_now_counts_and_not_what_it_said_elsewhere() {
    let (old, new) = (known(6, voters(1..=2)), known(8, voters(1..=2)));
    let said = [(1, &new), (2, &old), (1, &old), (2, &new)];
    let said = said.map(|(n, known)| (NodeId(n), known.clone()));
    assert_eq!(newest_words(said), [(NodeId(1), new.clone()), (NodeId(2), new)].into());
}
