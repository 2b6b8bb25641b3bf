use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::raft::{ClusterId, HardState, NodeId};

fn entry(index: u64, term: u64) -> Entry {
    let id = LogId::new(Term(term), Index(index));
    Entry { id, payload: Payload::Command(vec![0; 8].into()) }
}

fn log(terms: &[u64]) -> Log {
    let mut log = Log::new(Recovered::default());
    for (offset, &term) in terms.iter().enumerate() {
        log.append(entry(offset as u64 + 1, term));
    }
    log
}

fn membership(voter: u64) -> Membership {
    Membership {
        cluster: ClusterId(1),
        members: BTreeMap::new(),
        voters: BTreeSet::from([NodeId(voter)]),
        outgoing: None,
    }
}

#[test]
fn a_whole_term_is_skipped_in_the_search() {
    let log = log(&[1, 1, 2, 2, 2, 5, 5]);
    let found = |limit, term| log.last_not_above(Index(limit), Term(term)).index.0;
    assert_eq!(found(7, 5), 7);
    assert_eq!(found(6, 9), 6);
    assert_eq!(found(7, 4), 5, "from term 5 to the end of term 2 at once");
    assert_eq!(found(7, 1), 2);
    assert_eq!(found(7, 0), 0, "the start");
    assert_eq!(found(0, 5), 0);
}

#[test]
fn a_truncation_lowers_what_writes_under_way_vouch_for() {
    let mut log = log(&[1, 1, 1]);
    assert_eq!(log.take_write(Seq(1)).entries.len(), 3);
    log.truncate(Index(2));
    log.append(entry(2, 2));
    let LogWrite { truncate_from: cut, entries, .. } = log.take_write(Seq(2));
    assert_eq!((cut, entries.len()), (Some(Index(2)), 1));
    log.persisted(Seq(1));
    assert_eq!(log.durable(), Index(1));
    log.persisted(Seq(2));
    assert_eq!(log.durable(), Index(2));
}

#[test]
fn what_was_never_handed_over_needs_no_cut() {
    let mut log = log(&[1]);
    let _ = log.take_write(Seq(1));
    log.append(entry(2, 1));
    log.truncate(Index(2));
    assert!(!log.has_unwritten());
    log.append(entry(2, 2));
    let LogWrite { truncate_from: cut, entries, .. } = log.take_write(Seq(2));
    assert_eq!((cut, entries), (None, vec![entry(2, 2)]));
}

#[test]
fn two_truncations_before_a_write_are_one_cut() {
    let mut log = log(&[1, 1, 1, 1]);
    let _ = log.take_write(Seq(1));
    log.truncate(Index(4));
    log.append(entry(4, 2));
    log.truncate(Index(2));
    log.append(entry(2, 3));
    let write = log.take_write(Seq(2));
    assert_eq!((write.truncate_from, write.entries), (Some(Index(2)), vec![entry(2, 3)]));
}

#[test]
fn what_is_committed_may_be_applied_before_it_is_durable() {
    let mut log = log(&[1, 1, 1]);
    assert_eq!(log.applicable_from(Index(1), usize::MAX), Some(&[][..]), "nothing is committed");
    log.commit_to(Index(2));
    assert_eq!(log.applicable_from(Index(1), usize::MAX).map(<[Entry]>::len), Some(2));
    assert_eq!(log.applicable_from(Index(1), 0).map(<[Entry]>::len), Some(1), "at least one");
}

#[test]
fn the_memory_keeps_what_somebody_here_needs() {
    let mut log = log(&[1, 1, 1]);
    let _ = log.take_write(Seq(1));
    log.commit_to(Index(2));
    log.applied(Index(3));
    log.shrink(0);
    assert_eq!(log.before().index, Index(0), "nothing is durable");
    assert_eq!((log.unsettled_bytes(), log.memory_bytes().1), (log.memory_bytes().0, 0));
    log.persisted(Seq(1));
    assert_eq!(log.unsettled_bytes(), entry(3, 1).cost_bytes());
    log.shrink(0);
    assert_eq!(log.before().index, Index(2), "the last one is not committed");
    assert_eq!(log.memory_bytes(), (entry(3, 1).cost_bytes(), 0));
    assert_eq!(log.applicable_from(Index(1), usize::MAX), None);
    assert_eq!(log.read(Index(3), 0).len(), 1);
    assert_eq!(log.term_at(Index(2)), Some(Term(1)));
    assert_eq!(log.term_at(Index(1)), None);
}

#[test]
fn the_memory_keeps_what_is_durable_and_not_applied() {
    let mut log = log(&[1, 1, 1]);
    let _ = log.take_write(Seq(1));
    log.persisted(Seq(1));
    log.commit_to(Index(2));
    log.shrink(0);
    assert_eq!(log.before().index, Index(0), "nothing is applied");
    assert_eq!(log.unsettled_committed_bytes(), 2 * entry(3, 1).cost_bytes());
    log.applied(Index(1));
    log.shrink(0);
    assert_eq!(log.before().index, Index(1));
    assert_eq!(log.unsettled_committed_bytes(), entry(3, 1).cost_bytes());
}

#[test]
fn a_truncation_undoes_a_membership() {
    let mut log = log(&[1]);
    for (index, voter) in [(2, 1), (3, 2)] {
        let id = LogId::new(Term(1), Index(index));
        log.append(Entry { id, payload: Payload::Membership(membership(voter)) });
    }
    assert_eq!(log.membership(), Some(&(Index(3), membership(2))));
    log.truncate(Index(3));
    assert_eq!(log.membership(), Some(&(Index(2), membership(1))));
}

#[test]
fn a_compaction_keeps_the_membership_in_force_below_it() {
    let mut log = log(&[]);
    for index in 1..=3 {
        let id = LogId::new(Term(1), Index(index));
        log.append(Entry { id, payload: Payload::Membership(membership(index)) });
    }
    log.commit_to(Index(2));
    log.compacted(LogId::new(Term(1), Index(2)));
    assert_eq!(log.memberships.iter().map(|(index, _)| index.0).collect::<Vec<_>>(), vec![2, 3]);
    log.compacted(LogId::new(Term(1), Index(3)));
    assert_eq!(log.base().index, Index(2), "what is not committed is not compacted");
}

#[test]
fn a_snapshot_over_a_conflicting_log_leaves_no_entry() {
    let mut log = log(&[1, 1, 1]);
    let _ = log.take_write(Seq(1));
    log.install(LogId::new(Term(2), Index(2)), membership(1));
    assert_eq!((log.last(), log.commit()), (LogId::new(Term(2), Index(2)), Index(2)));
    log.append(entry(3, 2));
    log.persisted(Seq(1));
    assert_eq!(log.durable(), Index(2), "the old write vouches for nothing new");
    assert_eq!(log.take_write(Seq(2)).entries, vec![entry(3, 2)]);
}

#[test]
fn a_snapshot_inside_the_log_keeps_and_rewrites_what_follows() {
    let mut log = log(&[1, 1, 1]);
    let _ = log.take_write(Seq(1));
    log.install(LogId::new(Term(1), Index(2)), membership(1));
    assert_eq!(log.last().index, Index(3));
    let write = log.take_write(Seq(2));
    assert_eq!(write.reset, Some((LogId::new(Term(1), Index(2)), membership(1))));
    assert_eq!((write.truncate_from, write.entries), (None, vec![entry(3, 1)]));
}

#[test]
#[should_panic(expected = "recovered entry")]
fn a_hole_in_the_recovered_log_is_refused() {
    let tail = vec![entry(1, 1), entry(3, 1)];
    let _ = Log::new(Recovered { tail, hard_state: HardState::default(), ..Recovered::default() });
}

#[test]
#[should_panic(expected = "disagree")]
fn a_commit_index_outside_the_recovered_log_is_refused() {
    let hard_state = HardState { commit: Index(2), ..HardState::default() };
    let _ = Log::new(Recovered { tail: vec![entry(1, 1)], hard_state, ..Recovered::default() });
}
