//! Mistakes in what is decided about the cluster which other rules keep from doing harm in most runs: the decision
//! itself, asked by hand.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use konsen::cluster::bootstrap::{self, Next, Situation, Standing};
use konsen::cluster::{
    Addresses, Change, ChangeRefused, ClusterView, Features, Known, Own, Peer, Roster, Shown,
    Visitor, Why, change, consistency, door, reconcile, removal, roster, stand_in,
};
use konsen::raft::founding::{Answer, Ask, Attempt, Ballot, Grant, Verdict};
use konsen::raft::{ClusterId, Index, LogId, Member, Membership, NodeId, Term};
use konsen::replica::forwarding::Fate;
use konsen::replica::{WriteFailed, is_disk_slow};
use konsen::store::HashAt;

use super::direct::Check;
use super::oracle::{Broken, ensure};
use super::world::{addresses_of, member, name_of};

/// The checks that find a mistake, by its name.
pub(crate) const CHECKS: &[(&str, Check)] = &[
    ("LiveReplaced", who_answers_is_replaced_by_force_only),
    ("AwaitedForgotten", nobody_is_put_out_while_another_is_awaited),
    ("QuorumUnchecked", both_sides_of_a_change_are_reached),
    ("UndecidedOutweighs", what_is_decided_outweighs_what_is_not),
    ("AddressesSwapped", a_host_is_taken_in_as_asked),
    ("LearnerPromoted", a_host_is_taken_in_as_asked),
    ("SwapNotLearnt", swapped_addresses_are_learnt),
    ("OutgoingCutOff", an_outgoing_voter_stays_connected),
    ("SaidAddressIgnored", a_peer_is_dialled_where_it_says),
    ("HeardAddressIgnored", a_peer_is_dialled_where_it_was_heard_from),
    ("OtherClusterLetIn", another_cluster_is_kept_out),
    ("SeatShared", a_place_is_kept_for_one),
    ("RemovedWhileJoint", nobody_is_removed_while_a_change_is_under_way),
    ("OneDisownerSuffices", a_majority_removes),
    ("PutOutForgotten", who_was_put_out_comes_in_no_place),
    ("LeftoversCount", leftovers_keep_nobody_in),
    ("OlderTermHides", a_later_term_says_who_belongs),
    ("WaitsForEver", what_nothing_has_reached_stops_too),
    ("NewcomerRemoved", whom_nothing_has_named_waits),
    ("OtherClusterDisowns", another_cluster_removes_nobody),
    ("ReplacedAdmitted", who_was_put_out_is_not_its_own_successor),
    ("AccusationBelieved", an_accusation_is_looked_into),
    ("JoinerFounds", who_joins_founds_nothing),
    ("HalfFounds", half_founds_nothing),
    ("GrantedThoughFounded", who_belongs_grants_nothing),
    ("PromiseForgotten", who_is_overtaken_founds_nothing),
    ("GrantsForgotten", what_may_have_been_chosen_stands),
    ("SupersededAgain", what_a_snapshot_came_over_is_unknown),
    ("SlowDiskIgnored", a_slow_disk_is_noticed),
    ("SlowLookupIgnored", a_slow_disk_is_noticed),
];

fn voters(ids: &[u64]) -> BTreeSet<NodeId> {
    ids.iter().copied().map(NodeId).collect()
}

/// The members are all who are named; `outgoing` is empty unless a change is under way.
fn of(now: &[u64], outgoing: &[u64]) -> Membership {
    let members = now.iter().chain(outgoing).map(|id| (NodeId(*id), member(NodeId(*id))));
    Membership {
        cluster: ClusterId(1),
        members: members.collect(),
        voters: voters(now),
        outgoing: (!outgoing.is_empty()).then(|| voters(outgoing)),
    }
}

fn entry(at: u64) -> LogId {
    LogId::new(Term(1), Index(at))
}

fn known(at: u64, membership: Membership) -> Known {
    Known { at: Index(at), term: Term(1), membership }
}

/// What host `id` knows.
fn roster_of(id: u64, in_force: (u64, Membership), committed: Known) -> Roster {
    let own = Own { name: name_of(id as usize - 1), id: NodeId(id) };
    let mut roster = Roster::new(own, BTreeMap::new());
    roster.follow((Some((entry(in_force.0), in_force.1)), Some(committed)));
    roster
}

/// Everybody but these answers, and lacks nothing.
fn without(gone: &'static [u64]) -> impl Fn(NodeId) -> bool {
    move |id| !gone.contains(&id.0)
}

fn asked(
    now: &Membership,
    wanted: &Change,
    gone: &'static [u64],
    force: bool,
) -> Result<Membership, ChangeRefused> {
    let reachable = without(gone);
    let view = ClusterView { reachable: &reachable, lag: &|_| Some(0) };
    change::change(now, wanted, view, force)
}

fn replace(id: u64) -> Change {
    Change::Replace { name: name_of(id as usize - 1), addresses: None }
}

fn remove(id: u64) -> Change {
    Change::Remove { name: name_of(id as usize - 1) }
}

fn who_answers_is_replaced_by_force_only() -> Result<(), Broken> {
    let now = of(&[1, 2, 3], &[]);
    let refused = asked(&now, &replace(2), &[], false);
    ensure!(refused.is_err(), "a member that answers is replaced: {refused:?}");
    let gone = asked(&now, &replace(2), &[2], false);
    ensure!(gone.is_ok(), "a member that does not answer is not replaced: {gone:?}");
    let forced = asked(&now, &replace(2), &[], true);
    ensure!(forced.is_ok(), "force is refused: {forced:?}");
    Ok(())
}

fn nobody_is_put_out_while_another_is_awaited() -> Result<(), Broken> {
    let now = of(&[1, 2, 3, 4], &[]);
    let now = asked(&now, &replace(3), &[3], false);
    let Ok(now) = now else { return Err(Broken(format!("a lost voter is not replaced: {now:?}"))) };
    let refused = asked(&now, &remove(2), &[], false);
    ensure!(
        refused.is_err(),
        "a voter that answers is put out while another is awaited: {refused:?}"
    );
    Ok(())
}

fn both_sides_of_a_change_are_reached() -> Result<(), Broken> {
    let before = asked(&of(&[1, 2, 3], &[]), &remove(3), &[2, 3], true);
    ensure!(before.is_err(), "a change is made without a majority of the voters: {before:?}");
    let after = asked(&of(&[1, 2, 3], &[]), &remove(2), &[3], false);
    ensure!(
        after.is_err(),
        "a change is made without a majority of the voters after it: {after:?}"
    );
    Ok(())
}

fn an_outgoing_voter_stays_connected() -> Result<(), Broken> {
    let roster = roster_of(1, (5, of(&[1, 2], &[])), known(3, of(&[1, 2, 3], &[])));
    let peers = roster.peers();
    ensure!(
        peers.contains_key(&NodeId(3)),
        "a voter that is put out is no peer before that is decided: {peers:?}"
    );
    Ok(())
}

fn what_is_decided_outweighs_what_is_not() -> Result<(), Broken> {
    // Host 1 led for a while after the others had another leader, and has a change that nobody else has.
    let mut roster = roster_of(1, (60, of(&[1, 2, 3, 5], &[])), known(40, of(&[1, 2, 3], &[])));
    let told = known(55, of(&[1, 2, 4], &[]));
    let news = roster.learn(&told);
    ensure!(
        news && roster.peers().contains_key(&NodeId(4)),
        "a node with a change that is not decided does not learn of one that is"
    );
    roster
        .follow((Some((entry(60), of(&[1, 2, 3, 5], &[]))), Some(known(40, of(&[1, 2, 3], &[])))));
    ensure!(roster.newest() == Some(&told), "it forgets what it learnt: {:?}", roster.newest());
    roster.follow((Some((entry(61), of(&[1, 2, 4], &[]))), Some(known(61, of(&[1, 2, 4], &[])))));
    ensure!(
        roster.newest().is_some_and(|one| one.at == Index(61)),
        "what it learnt outweighs its log"
    );
    Ok(())
}

fn a_host_is_taken_in_as_asked() -> Result<(), Broken> {
    let wanted = Change::Add { name: name_of(3), addresses: addresses_of(3), promote: false };
    let taken_in = asked(&of(&[1, 2, 3], &[]), &wanted, &[], false);
    let Ok(now) = taken_in else {
        return Err(Broken(format!("a host is not taken in: {taken_in:?}")));
    };
    let there = now.by_name(&name_of(3)).map(|(_, member)| member);
    let expected = Member { seen: false, ..member(NodeId(4)) };
    ensure!(there == Some(&expected), "{expected:?} is to be taken in, and {there:?} is");
    Ok(())
}

fn swapped_addresses_are_learnt() -> Result<(), Broken> {
    let now = of(&[1, 2, 3], &[]);
    let show = |id: u64, at| Shown {
        id: NodeId(id),
        name: name_of(id as usize - 1),
        addresses: Some(addresses_of(at)),
    };
    let view = ClusterView { reachable: &|_| true, lag: &|_| Some(0) };
    let next = reconcile::next(&now, &[show(1, 0), show(2, 2), show(3, 1)], view);
    let at = |id| next.as_ref().map(|(_, next)| next.members[&NodeId(id)].raft_address.clone());
    ensure!(
        at(2) == Some(addresses_of(2).raft) && at(3) == Some(addresses_of(1).raft),
        "two members have swapped their addresses, and are known at {:?} and {:?}",
        at(2),
        at(3)
    );
    Ok(())
}

fn peer() -> Peer {
    Peer { name: name_of(1), addresses: vec!["stated:1".to_owned()], seen: true, replaces: None }
}

fn a_peer_is_dialled_where_it_says() -> Result<(), Broken> {
    let ways = roster::ways_to(&peer(), Some("said:1"), None);
    ensure!(ways == ["stated:1", "said:1"], "a peer is dialled at {ways:?}");
    Ok(())
}

fn a_peer_is_dialled_where_it_was_heard_from() -> Result<(), Broken> {
    let ways = roster::ways_to(&peer(), None, Some("heard:1"));
    ensure!(ways == ["stated:1", "heard:1"], "a peer is dialled at {ways:?}");
    Ok(())
}

fn another_cluster_is_kept_out() -> Result<(), Broken> {
    let now = of(&[1, 2, 3], &[]);
    let roster = roster_of(1, (1, now.clone()), known(1, now));
    let (name, features) = (name_of(1), Features::default());
    let visitor = Visitor { name: &name, id: NodeId(2), cluster: Some(ClusterId(2)), features };
    let decided = door::decide(&roster, features, visitor, &BTreeMap::new());
    ensure!(
        matches!(decided, Err(Why::OtherCluster { .. })),
        "a node of another cluster is let in: {decided:?}"
    );
    Ok(())
}

/// Voters 1 and 2, and a host that is awaited in the place of one that was put out.
fn with_a_stand_in() -> (Membership, String) {
    let name = name_of(2);
    let mut now = of(&[1, 2], &[]);
    let waits =
        Member { seen: false, promote: true, replaces: Some(NodeId(3)), ..member(NodeId(3)) };
    now.members.insert(stand_in(&name), waits);
    (now, name)
}

fn a_place_is_kept_for_one() -> Result<(), Broken> {
    let (now, name) = with_a_stand_in();
    let roster = roster_of(1, (1, now.clone()), known(1, now));
    let first = BTreeMap::from([(stand_in(&name), NodeId(103))]);
    let features = Features::default();
    let visitor = |id| Visitor { name: &name, id: NodeId(id), cluster: None, features };
    let again = door::decide(&roster, features, visitor(103), &first);
    let second = door::decide(&roster, features, visitor(203), &first);
    ensure!(
        again.is_ok() && matches!(second, Err(Why::Taken { .. })),
        "two hosts come in the place of one: {again:?}, {second:?}"
    );
    Ok(())
}

fn nobody_is_removed_while_a_change_is_under_way() -> Result<(), Broken> {
    let before = of(&[1, 2, 3], &[]);
    let roster = roster_of(4, (1, of(&[1, 2, 3, 4], &[])), known(1, of(&[1, 2, 3, 4], &[])));
    let joint = known(7, of(&[1, 2], &[1, 2, 3]));
    let disowners = [1, 2, 3].map(|id| (NodeId(id), joint.clone()));
    let removed = removal::is_removed(&roster, &disowners.into());
    ensure!(!removed, "a node takes itself for removed by a change that may be undone");
    let complete = [1, 2, 3].map(|id| (NodeId(id), known(9, before.clone())));
    ensure!(removal::is_removed(&roster, &complete.into()), "a removed node does not stop");
    Ok(())
}

fn a_majority_removes() -> Result<(), Broken> {
    let all = of(&[1, 2, 3, 4], &[]);
    let roster = roster_of(4, (1, all.clone()), known(1, all));
    let disowners = BTreeMap::from([(NodeId(1), known(7, of(&[1, 2, 3], &[])))]);
    let removed = removal::is_removed(&roster, &disowners);
    ensure!(!removed, "a node takes itself for removed since one of three says so");
    Ok(())
}

fn who_was_put_out_comes_in_no_place() -> Result<(), Broken> {
    // Host 3 was put out, and another is to come under its name.
    let (with, without) = (of(&[1, 2, 3], &[]), of(&[1, 2], &[]));
    let mut awaited = without.clone();
    let stands = Member { seen: false, ..member(NodeId(3)) };
    awaited.members.insert(stand_in(&name_of(2)), stands);
    let mut roster = roster_of(1, (40, with.clone()), known(40, with));
    for (at, now) in [(50, without), (60, awaited)] {
        roster.follow((Some((entry(at), now.clone())), Some(known(at, now))));
    }
    let (name, features) = (name_of(2), Features::default());
    let at_the_door = |id, cluster| {
        let visitor = Visitor { name: &name, id: NodeId(id), cluster, features };
        door::decide(&roster, features, visitor, &BTreeMap::new())
    };
    let cluster = Some(ClusterId(1));
    let back = at_the_door(3, cluster);
    ensure!(back.is_err(), "a directory that was put out is taken back: {back:?}");
    ensure!(at_the_door(103, None).is_ok(), "an empty one is not let in");
    Ok(())
}

fn leftovers_keep_nobody_in() -> Result<(), Broken> {
    // Host 3 was put out at 50, in term 2, and has a change of term 1 at 60 that nobody else has.
    let roster = roster_of(3, (60, of(&[1, 2, 3], &[])), known(40, of(&[1, 2, 3], &[])));
    let out = |term| Known { term: Term(term), ..known(50, of(&[1, 2], &[])) };
    let removed = |term| {
        let disowners = [(NodeId(1), out(term)), (NodeId(2), out(term))].into();
        removal::is_removed(&roster, &disowners)
    };
    ensure!(removed(2), "a node is kept by a change that can never be decided");
    ensure!(!removed(1), "a node stops though a change that takes it in again may be decided");
    Ok(())
}

/// Node 3 has the log's beginning, and its leader a change that lets it in, of which others have not heard.
fn whom_nothing_has_named_waits() -> Result<(), Broken> {
    let before = of(&[1, 2], &[]);
    let mut roster = roster_of(3, (12, before.clone()), known(12, before.clone()));
    let disowners: BTreeMap<_, _> = [1, 2].map(|id| (NodeId(id), known(19, before.clone()))).into();
    ensure!(!removal::is_removed(&roster, &disowners), "a host that is let in stops");
    roster.told_put_out();
    ensure!(removal::is_removed(&roster, &disowners), "who was put out does not stop");
    Ok(())
}

/// Node 3 showed itself, was given a vote and was removed before anything of the log had reached it.
fn what_nothing_has_reached_stops_too() -> Result<(), Broken> {
    let own = Own { name: "n3".to_owned(), id: NodeId(3) };
    let mut roster = Roster::new(own, BTreeMap::new());
    let without = known(19, of(&[1, 2], &[]));
    let disowners: BTreeMap<_, _> = [1, 2].map(|id| (NodeId(id), without.clone())).into();
    ensure!(!removal::is_removed(&roster, &disowners), "a host that waits to be let in stops");
    roster.told_put_out();
    ensure!(removal::is_removed(&roster, &disowners), "who was put out waits to be let in");
    Ok(())
}

/// Node 3 came in by a snapshot of term 1, before a change that was never decided.
fn a_later_term_says_who_belongs() -> Result<(), Broken> {
    let without = of(&[1, 2], &[]);
    let mut roster = roster_of(3, (20, of(&[1, 2, 3], &[])), known(17, without.clone()));
    let later = Known { term: Term(2), ..known(1, without) };
    ensure!(roster.learn(&later), "what a later term says of the members is no news");
    let disowners = [1, 2].map(|id| (NodeId(id), later.clone())).into();
    ensure!(removal::is_removed(&roster, &disowners), "what was never decided keeps a node in");
    Ok(())
}

fn another_cluster_removes_nobody() -> Result<(), Broken> {
    // Host 4 was put out, as one member says; of the others it has heard in another cluster only.
    let mut roster = roster_of(4, (75, of(&[1, 2, 3], &[])), known(75, of(&[1, 2, 3], &[])));
    roster.told_put_out();
    let other = Membership { cluster: ClusterId(2), ..of(&[1, 2, 3], &[]) };
    let disowners = [1, 2, 3].map(|id| (NodeId(id), known(87, other.clone())));
    let removed = removal::is_removed(&roster, &disowners.into());
    ensure!(!removed, "a node takes itself for removed since it is no member of another cluster");
    Ok(())
}

fn who_was_put_out_is_not_its_own_successor() -> Result<(), Broken> {
    let (now, name) = with_a_stand_in();
    let show = |id| Shown { id: NodeId(id), name: name.clone(), addresses: None };
    let view = ClusterView { reachable: &|_| true, lag: &|_| Some(0) };
    let next = reconcile::next(&now, &[show(3)], view);
    ensure!(next.is_none(), "who was put out comes in as its own successor: {next:?}");
    ensure!(reconcile::next(&now, &[show(103)], view).is_some(), "the successor does not come in");
    Ok(())
}

fn an_accusation_is_looked_into() -> Result<(), Broken> {
    let mark = |index, hash| HashAt { index, hash };
    let held = [mark(16, 1), mark(32, 2)];
    let differs = |own, majority| consistency::differs(&held, own, majority);
    ensure!(!differs(mark(16, 9), mark(16, 5)), "a node stops for a hash that it does not have");
    ensure!(differs(mark(16, 1), mark(16, 5)), "a node that differs goes on");
    Ok(())
}

/// What host 1 of two does, whose servers are itself and host 2, which is connected or not.
fn next_of(join: bool, connected: bool) -> Next {
    let servers: BTreeMap<String, Addresses> =
        (0..2).map(|host| (name_of(host), addresses_of(host))).collect();
    let present = connected.then(|| (name_of(1), (NodeId(2), None))).into_iter().collect();
    let own = name_of(0);
    let (idle, grace) = (Duration::from_secs(2), Duration::from_secs(2));
    let (servers, present) = (&servers, &present);
    bootstrap::decide(&Situation { own: &own, servers, join, present, idle, tried: false, grace })
}

fn who_joins_founds_nothing() -> Result<(), Broken> {
    let joins = next_of(true, true);
    ensure!(matches!(joins, Next::Wait(_)), "who is to join a cluster does {joins:?}");
    ensure!(next_of(false, true) == Next::Ask, "nobody founds the cluster");
    Ok(())
}

/// What an attempt of host 1 of four has come to, once so many hosts of which the last has the grants of some have
/// promised.
fn verdict_of(promises: u64, grants_of_the_last: u64) -> Verdict {
    let mut attempt = Attempt::new(NodeId(1), 4, Ballot::default());
    let last = NodeId(promises);
    for by in 1..=promises {
        let granted = by > promises - grants_of_the_last;
        let granted = granted.then_some(Ballot { round: 1, founder: last });
        attempt.answered(NodeId(by), Answer::Promised(granted));
    }
    attempt.verdict()
}

fn half_founds_nothing() -> Result<(), Broken> {
    ensure!(verdict_of(2, 0) == Verdict::Open, "the promises of half of the nodes suffice");
    ensure!(verdict_of(3, 0) == Verdict::Free, "those of a majority do not");
    Ok(())
}

fn what_may_have_been_chosen_stands() -> Result<(), Broken> {
    let held = verdict_of(3, 2);
    ensure!(held == Verdict::Held(NodeId(3)), "one that may have been chosen is passed over");
    ensure!(verdict_of(4, 2) == Verdict::Free, "one that was not chosen is waited for");
    Ok(())
}

fn who_is_overtaken_founds_nothing() -> Result<(), Broken> {
    let ballot = |round| Ballot { round, founder: NodeId(1) };
    let (grant, _) = Grant::default().answer(Ask::Promise(ballot(2)));
    let (_, answer) = grant.answer(Ask::Grant(ballot(1)));
    ensure!(answer == Answer::Outbid(ballot(2)), "a promise is not kept: {answer:?}");
    Ok(())
}

fn who_belongs_grants_nothing() -> Result<(), Broken> {
    let ask = Ask::Grant(Ballot { round: 1, founder: NodeId(7) });
    let answer = |founded, joins| {
        bootstrap::answer(Standing { founded, joins }, ask, |_| Ok(Answer::Granted))
    };
    let said: Result<Answer, Broken> = answer(true, false);
    ensure!(said? == Answer::Founded, "a node that belongs to a cluster lets another be founded");
    let said: Result<Answer, Broken> = answer(false, true);
    ensure!(said? == Answer::Joins, "a node that is to join lets another be founded");
    Ok(())
}

fn what_a_snapshot_came_over_is_unknown() -> Result<(), Broken> {
    let fate = Fate::from(WriteFailed::Superseded);
    ensure!(fate == Fate::Unknown, "a write that a snapshot came over is {fate:?}");
    Ok(())
}

fn a_slow_disk_is_noticed() -> Result<(), Broken> {
    let [none, patience] = [0, 500].map(Duration::from_millis);
    let long = Duration::MAX;
    let write = |ms| is_disk_slow(Duration::from_millis(ms), none, long, patience);
    let lookup = |ms| is_disk_slow(none, Duration::from_millis(ms), long, patience);
    ensure!(!is_disk_slow(long, long, patience, patience), "a leader that has just begun gives up");
    ensure!(
        [499, 501].map(write) == [false, true] && [499, 501].map(lookup) == [false, true],
        "a disk that is too slow is not noticed in time"
    );
    Ok(())
}
