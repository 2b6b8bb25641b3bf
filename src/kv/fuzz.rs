//! Commands and rows, from any bytes.

use super::apply::Prepared;
use super::command::Command;
use super::level::FeatureLevel;
use super::model::Memory;
use super::rows::{KeyRow, RevisionRow};

/// Commands one after the other, each with its length before it: whatever they say, applying them ends,
/// says the same a second time, and revisions grow by at most one a command.
pub fn commands(data: &[u8]) {
    let mut memories = [Memory::default(), Memory::default()];
    let mut rest = data;
    while let Some((&length, after)) = rest.split_first() {
        let (bytes, after) = after.split_at(usize::from(length).min(after.len()));
        rest = after;
        if let Ok(command) = Command::decode(bytes, FeatureLevel::HIGHEST) {
            assert_eq!(Command::decode(&command.encode(), FeatureLevel::HIGHEST), Ok(command));
        }
        // What cannot be read stops a node.
        let Ok(prepared) = Prepared::of(bytes, FeatureLevel::HIGHEST) else { continue };
        let before = memories[0].counters.revision;
        let [first, second] = memories.each_mut().map(|memory| memory.apply(prepared.clone()));
        assert_eq!(first, second);
        assert!(first.0 == before.0 || first.0 == before.0 + 1);
    }
    let [first, second] = &memories;
    assert_eq!(first, second);
    for (id, row) in &first.rows {
        assert!(id.revision <= first.counters.revision);
        assert!(first.keys.contains_key(&row.key));
    }
}

/// A row encodes to what decodes to it.
pub fn rows(data: &[u8]) {
    if let Some(row) = KeyRow::decode(data) {
        let mut bytes = Vec::new();
        row.encode(&mut bytes);
        assert_eq!(KeyRow::decode(&bytes), Some(row));
    }
    if let Some(row) = RevisionRow::decode(data) {
        let mut bytes = Vec::new();
        row.encode(&mut bytes);
        assert_eq!(RevisionRow::decode(&bytes), Some(row));
    }
}
