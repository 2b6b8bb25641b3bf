//! Which anchors the state keeps, and for how long.

use std::collections::BTreeMap;

use super::super::anchor::{ANCHOR_HASH_BYTES, ANCHORS_MAX, MINUTE_MS, RINGS};
use super::super::command::{Command, Header, Write};
use super::super::level::FeatureLevel;
use super::super::model::Memory;
use super::super::record::check_record;
use super::super::{Outcome, Prepared};
use super::*;

fn at(store: &mut Memory, write: Write, clock_ms: u64) {
    let header = Header { level: write.level(), clock_ms, ..Header::default() };
    let command = Command { header, write }.encode();
    let (_, outcome) = store.apply(Prepared::of(&command, FeatureLevel(2)).unwrap());
    assert_eq!(outcome, Outcome::Anchored);
}

fn anchor(node: u64, sequence: u64) -> Anchor {
    Anchor { node, sequence, hash: [sequence as u8; ANCHOR_HASH_BYTES], at_s: 1000 + sequence }
}

fn kept(store: &Memory) -> Vec<Anchored> {
    let (from, to) = RecordKey::anchors();
    decode_anchors(store.records.range(from..to).map(|(_, record)| record)).unwrap()
}

#[test]
fn anchors_of_the_last_minutes_hours_and_days_are_kept() {
    let mut store = Memory::default();
    let minutes = 100 * 24 * 60;
    // One a minute for a hundred days.
    for minute in 0..minutes {
        at(&mut store, Write::Anchor(anchor(7, minute)), minute * MINUTE_MS);
    }
    let sequences: Vec<u64> = kept(&store).iter().map(|kept| kept.anchor.sequence).collect();
    assert!(sequences.len() as u64 <= ANCHORS_MAX);
    let last = minutes - 1;
    assert!((last - 59..=last).all(|minute| sequences.contains(&minute)), "each of an hour");
    let of = |ring: u64, places: u64| {
        (1..places).map(move |back| (last / ring - back) * ring + ring - 1)
    };
    assert!(of(60, 48).all(|minute| sequences.contains(&minute)), "the last of each hour");
    assert!(of(24 * 60, 60).all(|minute| sequences.contains(&minute)), "the last of each day");
    assert!(store.records.len() as u64 <= ANCHORS_MAX + 1, "and the clock's record");
}

/// Whatever a node says now, what it said in another minute stays.
#[test]
fn a_node_cannot_take_back_what_it_said_before() {
    let mut store = Memory::default();
    at(&mut store, Write::Anchor(anchor(7, 10)), 5 * MINUTE_MS);
    for sequence in 0..500 {
        at(&mut store, Write::Anchor(anchor(7, sequence)), 6 * MINUTE_MS + sequence);
    }
    let kept = kept(&store);
    assert!(kept.iter().any(|kept| kept.anchor == anchor(7, 10)), "{kept:?}");
    // The clock does not go back, whatever a command says.
    at(&mut store, Write::Anchor(anchor(7, 11)), 5 * MINUTE_MS);
    assert!(self::kept(&store).iter().any(|kept| kept.anchor == anchor(7, 10)));
}

#[test]
fn what_is_kept_of_a_node_goes_with_it_and_with_it_alone() {
    let mut store = Memory::default();
    for minute in 0..200 {
        at(&mut store, Write::Anchor(anchor(7, minute)), minute * MINUTE_MS);
        at(&mut store, Write::Anchor(anchor(8, minute)), minute * MINUTE_MS);
    }
    let before = store.counters.hash;
    at(&mut store, Write::ForgetAnchors { node: 7 }, 300 * MINUTE_MS);
    assert!(kept(&store).iter().all(|kept| kept.anchor.node == 8) && !kept(&store).is_empty());
    assert_ne!(store.counters.hash, before, "replicas that differ in it are found");
}

#[test]
fn records_of_anchors_are_checked_with_their_keys() {
    let mut store = Memory::default();
    at(&mut store, Write::Anchor(anchor(7, 1)), 0);
    let anchors: BTreeMap<_, _> = {
        let (from, to) = RecordKey::anchors();
        store.records.range(from..to).collect()
    };
    assert_eq!(anchors.len(), RINGS.len());
    for (key, record) in anchors {
        let check = |key: &[u8], record: &[u8]| {
            check_record(RecordKey::anchors().0.kind, key, record, FeatureLevel(2))
        };
        assert!(check(&key.key, record).is_ok());
        assert!(check(&key.key, &record[..record.len() - 1]).is_err());
        assert!(check(b"", record).is_err() && check(&[0; 9], record).is_err());
        assert!(check(&[0, 0, 0, 0, 0, 0, 0, 7, 3, 0], record).is_err(), "there is no such ring");
        assert!(check(&[0, 0, 0, 0, 0, 0, 0, 7, 0, 60], record).is_err(), "nor such a place");
    }
}
