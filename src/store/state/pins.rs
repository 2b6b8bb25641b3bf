//! Which revisions are pinned: see [`super::pin`].

use std::collections::BTreeMap;

use parking_lot::Mutex;

use crate::kv::Revision;

/// The revisions that are pinned, each by how many.
#[derive(Debug, Default)]
pub(super) struct Pins(Mutex<BTreeMap<Revision, usize>>);

impl Pins {
    /// Up to where rows may be removed.
    pub(super) fn bound(&self, compacted: Revision) -> Revision {
        let oldest = self.0.lock().keys().next().copied();
        oldest.map_or(compacted, |oldest| oldest.min(compacted))
    }

    pub(super) fn add(&self, revision: Revision) {
        *self.0.lock().entry(revision).or_default() += 1;
    }

    pub(super) fn remove(&self, revision: Revision) {
        let mut pins = self.0.lock();
        if let Some(count) = pins.get_mut(&revision) {
            *count -= 1;
            if *count == 0 {
                pins.remove(&revision);
            }
        }
    }
}
