use std::time::Duration;

use redb::backends::InMemoryBackend;

use super::super::forwarding::{Cause, Fate, Passed};
use super::super::{Event, State};
use super::*;
use crate::kv::FeatureLevel;
use crate::raft::{Config, Node, NodeId, Recovered, Refused};
use crate::store::StateOptions;

/// What becomes of a write at a node that knows all levels up to `highest`, belongs to a cluster at the base level, and
/// does not lead.
fn put_to(highest: u32, write: Write) -> WriteFailed {
    let options = StateOptions {
        cache_bytes: 1 << 20,
        highest: FeatureLevel(highest),
        ..StateOptions::default()
    };
    let state = State::open_backend(InMemoryBackend::new(), &options).unwrap();
    let node = Node::new(Config::new(NodeId(1), 1), Recovered::default());
    let mut replica = Replica::new(node, state.into(), Duration::from_millis(10));
    replica.step(Event::Write { id: RequestId(1), write, origin: Origin::default() });
    let mut effects = replica.take_effects().unwrap();
    effects.writes.pop().unwrap().1.unwrap_err()
}

#[test]
fn a_level_that_the_leader_does_not_know_is_not_raised_to() {
    let raise = || Write::Raise { level: FeatureLevel(2), release: "0.2.0".to_owned() };
    assert_eq!(put_to(1, raise()), WriteFailed::NewerLevel);
    let taken = WriteFailed::Refused(Refused::NotLeader { leader: None });
    assert_eq!(put_to(2, raise()), taken);
}

#[test]
#[cfg(feature = "next-level")]
fn what_belongs_to_a_level_is_not_taken_in_before_the_cluster_is_there() {
    assert_eq!(put_to(2, Write::Nothing), WriteFailed::NewerLevel);
}

#[test]
fn a_write_that_the_leader_does_not_know_or_must_not_take_was_not_applied() {
    let not_applied = Fate::NotApplied(Cause::NotUnderstood);
    assert_eq!(Passed::NotUnderstood.outcome(), Err(not_applied));
    assert_eq!(Fate::from(WriteFailed::NewerLevel), not_applied);
}
