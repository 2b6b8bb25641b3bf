//! The name of a change.

use serde::{Deserialize, Serialize};

use super::revision::Revision;

/// Names one change: the revision, and which of the changes of that revision.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct RowId {
    /// The revision.
    pub revision: Revision,
    /// 0 for the first key that the revision changed, and so on.
    pub sub: u32,
}
