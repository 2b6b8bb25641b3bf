//! The audit: who asked for what, and what came of it, in files of each node.
//!
//! Requests take room in a bounded queue before anything is done ([`Audit`]); a thread of its own writes what is to be recorded
//! ([`Worker`]). Each record is a line of JSON that ends in a hash over the one before and itself, through all files. What
//! verifies them needs nothing but the files ([`verify`]), and, to find that the last records are gone or that all are others
//! than they were, the anchors that the cluster keeps.

mod files;
mod hash;
mod line;
mod queue;
mod record;
mod verify;
mod worker;
mod writer;

pub use files::{LinesOf, Piece, list, path_of};
pub use hash::Hash;
pub use line::{Head, Owner};
pub use queue::{Audit, Room, Rules, Unrecorded};
pub use record::{Action, Class, Outcome, Record, TARGET_BYTES_MAX, Target, Targets, Who};
pub use verify::{Anchor, Finding, Verified, verify};
pub use worker::Worker;
pub use writer::Place;
