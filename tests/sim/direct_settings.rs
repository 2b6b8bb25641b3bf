//! When leases count, and what a node that starts has promised: mistakes that few runs show, since clocks have to differ,
//! configurations to change and leaders to be cut off all at once.

use std::collections::BTreeMap;

use konsen::cluster::Settings;
use konsen::cluster::settings::{may_lease, to_agree};
use konsen::raft::{Body, Config, Index, Input, LogId, Node, NodeId, ReadId, RoleName, Term};

use super::direct::{Check, hear, leader_with_a_lease, node_of, settle};
use super::oracle::{Broken, ensure};

/// The checks that find a mistake, by its name.
pub(crate) const CHECKS: &[(&str, Check)] = &[
    ("LeaseUnagreed", no_lease_counts_without_an_agreement),
    ("LeaseFromBeforeAgreement", what_came_before_counts_for_no_lease),
    ("LeaseDespiteOthers", one_who_says_another_time_ends_leases),
    ("StartGuardForgotten", a_node_that_starts_keeps_what_it_promised),
    ("StandsWhileBound", a_node_that_starts_helps_not_even_itself),
    ("AgreedWithUnknown", one_who_is_away_keeps_what_is_agreed),
];

fn is_released(node: &mut Node, read: u64) -> bool {
    node.step(Input::Read { id: ReadId(read), lease: true });
    !node.take_output().reads.is_empty()
}

fn no_lease_counts_without_an_agreement() -> Result<(), Broken> {
    let mut node = leader_with_a_lease()?;
    ensure!(is_released(&mut node, 3), "the lease does not hold");
    node.step(Input::Leases(false));
    node.step(Input::Read { id: ReadId(4), lease: true });
    // It waits for a round; once that is answered, the next read waits for another one.
    let round = settle(&mut node).send.iter().find_map(|message| match message.body {
        Body::Heartbeat { round, .. } => Some(round),
        _ => None,
    });
    ensure!(round.is_some(), "no round begins");
    let term = node.term().0;
    hear(&mut node, 2, term, Body::HeartbeatReply { round: round.unwrap_or_default() });
    ensure!(!is_released(&mut node, 5), "a lease counts on which nobody has agreed");
    Ok(())
}

/// What was answered while somebody guarded leaders for a shorter time is worth nothing later.
fn what_came_before_counts_for_no_lease() -> Result<(), Broken> {
    let mut node = leader_with_a_lease()?;
    node.step(Input::Leases(false));
    node.step(Input::Leases(true));
    ensure!(!is_released(&mut node, 3), "a lease from before the agreement counts");
    Ok(())
}

fn settings(election_timeout_ms: u64) -> Settings {
    Settings { value_bytes_max: 1, election_timeout_ms, lease_reads: true }
}

fn one_who_says_another_time_ends_leases() -> Result<(), Broken> {
    let own = settings(500);
    let may =
        |said: Option<u64>| may_lease(Some(own), own, [Some(own), said.map(settings)].into_iter());
    ensure!(may(Some(500)), "leases do not count where all say the same");
    ensure!(!may(Some(100)), "leases count where one guards leaders for a shorter time");
    Ok(())
}

/// It may have heard a leader, and promised it more than by its configuration now.
fn restarted() -> (Node, Config) {
    let config = Config::new(NodeId(1), 7);
    let config = Config { start_guard_ticks: 3 * config.election_ticks, ..config };
    (node_of(config.clone(), &[1, 1], true), config)
}

fn a_node_that_starts_keeps_what_it_promised() -> Result<(), Broken> {
    let (mut node, config) = restarted();
    let last = LogId::new(Term(1), Index(2));
    let votes = |node: &mut Node| {
        let answers = hear(node, 3, 2, Body::Vote { last, transfer: false });
        answers.iter().any(|answer| answer.body == Body::VoteReply { granted: true })
    };
    for tick in 1..=config.start_guard_ticks {
        ensure!(!votes(&mut node), "a vote is given {tick} ticks after a start");
        node.step(Input::Tick);
    }
    ensure!(votes(&mut node), "no vote is given once nothing is promised any more");
    Ok(())
}

fn a_node_that_starts_helps_not_even_itself() -> Result<(), Broken> {
    let (mut node, config) = restarted();
    for tick in 1..config.start_guard_ticks {
        node.step(Input::Tick);
        let _ = settle(&mut node);
        ensure!(node.role() == RoleName::Follower, "it stands {tick} ticks after a start");
    }
    for _ in 0..2 * config.election_ticks {
        node.step(Input::Tick);
        let _ = settle(&mut node);
    }
    ensure!(node.role() == RoleName::PreCandidate, "it never stands");
    Ok(())
}

fn one_who_is_away_keeps_what_is_agreed() -> Result<(), Broken> {
    let (agreed, own) = (settings(500), settings(100));
    let members = |said: Option<Settings>| {
        BTreeMap::from([(NodeId(1), Some(own)), (NodeId(2), said), (NodeId(3), Some(own))])
    };
    let to_agree = |said| to_agree(Some(agreed), own, &members(said));
    ensure!(to_agree(Some(own)) == Some(own), "what all say is not agreed on");
    ensure!(to_agree(None).is_none(), "something is agreed on without one who is away");
    Ok(())
}
