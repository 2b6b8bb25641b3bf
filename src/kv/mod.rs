//! The state machine: commands in, replies out. Pure and deterministic.
//!
//! Every committed write that changes something gets a [`Revision`], one counter for the store. The
//! state keeps every change as a row ([`RevisionRow`]) and for every key its newest ([`KeyRow`]), so the
//! past stays readable, back to the compacted revision. [`apply()`] carries a command out on rows, wherever
//! they are kept.

mod apply;
mod command;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
#[cfg(any(test, fuzzing))]
mod model;
mod range;
mod revision;
mod rows;

pub use apply::{Bound, CONTENT_TYPE_BYTES_MAX, Counters, Prepared, Rows, apply};
pub use command::{
    Command, Condition, DELETED_PER_KEY_MAX, KEY_BYTES_MAX, Matcher, Outcome, Put, Reply, Write,
};
pub use range::{Item, KeyRange, Page, RangeQuery, successor};
pub use revision::Revision;
pub use rows::{KeyRow, RevisionRow, RowId};
