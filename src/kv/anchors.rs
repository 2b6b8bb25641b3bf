//! Keeping what nodes say of their audits; see [`Anchor`].

use bytes::Bytes;

use super::access::Rows;
use super::anchor::{Anchor, Anchored, all_places, places};
use super::counters::Counters;
use super::record::{self, RecordKey};
use super::unreadable::Unreadable;

/// Keeps an anchor, as of the cluster's clock then.
pub(super) fn keep<R: Rows>(rows: &mut R, counters: &mut Counters, anchor: Anchor, clock_ms: u64) {
    let record = record::encode_anchor(&Anchored { anchor, clock_ms });
    for place in places(anchor.node, clock_ms) {
        counters.mix(&place);
        counters.mix(&record);
        rows.set_record(RecordKey::anchor(place), Some(record.clone()));
    }
}

/// Forgets all anchors of a node, which belongs to the cluster no more.
pub(super) fn forget<R: Rows>(rows: &mut R, counters: &mut Counters, node: u64) {
    counters.mix(&node.to_be_bytes());
    all_places(node).for_each(|place| rows.set_record(RecordKey::anchor(place), None));
}

/// The anchors that records of [`RecordKey::anchors`] hold: of each node in the order of its audit, each once.
///
/// # Errors
/// A record that cannot be read.
pub fn decode_anchors<'a>(
    records: impl Iterator<Item = &'a Bytes>,
) -> Result<Vec<Anchored>, Unreadable> {
    let mut all = records.map(|it| record::decode_anchor(it)).collect::<Result<Vec<_>, _>>()?;
    let order = |it: &Anchored| (it.anchor.node, it.anchor.sequence, it.clock_ms, it.anchor.hash);
    all.sort_by_key(order);
    all.dedup();
    Ok(all)
}

#[cfg(test)]
#[path = "anchors_tests.rs"]
mod tests;
