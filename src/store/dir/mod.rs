//! A data directory as a whole: whose it is, what a start finds in its files together, and a cluster's new beginning with one.

pub(super) mod identity;
mod look;
mod recovery;
mod restore;

pub use identity::{DataDir, IdentityCheck, Sizes};
pub use look::stored_records;
pub use recovery::recover;
pub use restore::{Survivor, begin_alone, rescue, restore, survey, take_in};
