//! The state: its overlay and what is at hand of it, its file and the checkpoints that write it, and all that reads it.

mod apply;
mod at_hand;
mod checkpoint;
mod checkpointer;
mod core;
mod count;
mod events;
mod freeze;
mod hashes;
mod long_read;
mod lookup;
mod overlay;
mod pin;
mod pins;
pub(super) mod position;
mod range;
mod read;
mod replace;
pub(super) mod stored;
mod sweep;
pub(super) mod tables;
mod under;
mod verification;
pub(super) mod view;

pub use apply::{Applied, Carried};
pub use checkpoint::Frozen;
pub use checkpointer::Checkpointer;
pub use core::{State, StateOptions, Verify};
pub use count::{CountRead, Counted};
pub use events::{Event, EventBatch, Observer};
pub use hashes::HashAt;
pub use long_read::{PastRead, RangeRead};
pub use lookup::RowsRead;
pub use pin::{Pin, PinnedError, PinnedRows};
pub use read::ReadError;
pub use verification::Verified;
