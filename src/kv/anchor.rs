//! Anchors: what the state knows of the audits that nodes keep. Each names a record of a node's audit and its hash, so that
//! nobody who changes the node's files goes unseen.
//!
//! The state keeps the last ones of each node, of the last minutes, hours and days by the cluster's clock, each in a place that
//! only that clock chooses: so a node that was taken over can put nothing in the place of what it said before, but for the
//! minute in which it is seen to do so.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// The bytes of a record's hash.
pub(super) const ANCHOR_HASH_BYTES: usize = 32;

/// A record of a node's audit. The order of the fields is part of the log's format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Anchor {
    /// The node's identity.
    pub node: u64,
    /// The number of the record.
    pub sequence: u64,
    /// Its hash.
    pub hash: [u8; ANCHOR_HASH_BYTES],
    /// When the node had it, by its own clock, in seconds since 1970.
    pub at_s: u64,
}

/// An anchor as a record has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Anchored {
    /// What the node said.
    pub anchor: Anchor,
    /// The cluster's clock then, in milliseconds.
    pub clock_ms: u64,
}

/// The places of a ring, each of which is used again once all others were.
pub(super) struct Ring {
    /// For how long one place is used.
    ms: u64,
    places: u64,
}

pub(super) const MINUTE_MS: u64 = 60_000;
pub(super) const RINGS: [Ring; 3] = [
    Ring { ms: MINUTE_MS, places: 60 },
    Ring { ms: 60 * MINUTE_MS, places: 48 },
    Ring { ms: 24 * 60 * MINUTE_MS, places: 60 },
];

/// The most anchors of one node.
pub const ANCHORS_MAX: u64 = RINGS[0].places + RINGS[1].places + RINGS[2].places;

fn key(node: u64, ring: usize, place: u64) -> Bytes {
    let (ring, place) = (ring as u8, place as u8);
    [&node.to_be_bytes()[..], &[ring, place]].concat().into()
}

/// The places of a node that it fills now.
pub(super) fn places(node: u64, clock_ms: u64) -> impl Iterator<Item = Bytes> {
    let place = move |(at, ring): (usize, &Ring)| key(node, at, clock_ms / ring.ms % ring.places);
    RINGS.iter().enumerate().map(place)
}

/// All places of a node.
pub(super) fn all_places(node: u64) -> impl Iterator<Item = Bytes> {
    let of = move |(at, ring): (usize, &'static Ring)| {
        (0..ring.places).map(move |place| key(node, at, place))
    };
    RINGS.iter().enumerate().flat_map(of)
}

/// Whether a record's key can be that of an anchor.
pub(super) fn is_key(key: &[u8]) -> bool {
    match key {
        [_, _, _, _, _, _, _, _, ring, place] => {
            RINGS.get(usize::from(*ring)).is_some_and(|ring| u64::from(*place) < ring.places)
        }
        _ => false,
    }
}
