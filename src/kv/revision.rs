//! The counter of changes.

use serde::{Deserialize, Serialize};

/// The store's counter of committed changes: 1 while it is empty, 2 for the first change. Every change of one command has
/// the same.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Revision(pub u64);

impl std::fmt::Display for Revision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}
