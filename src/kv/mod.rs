//! The state machine: commands in, replies out. Pure and deterministic.
//!
//! Every committed write that changes something gets a [`Revision`], one counter for the store. The
//! state keeps every change as a row ([`RevisionRow`]) and for every key its newest ([`KeyRow`]), so the
//! past stays readable, back to the compacted revision. [`Prepared`] carries a command out on rows, wherever
//! they are kept.

mod access;
mod anchor;
mod anchors;
mod apply;
mod asked;
mod auth;
mod bound;
mod command;
mod condition;
mod counters;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod level;
#[cfg(any(test, fuzzing))]
mod model;
mod need;
mod outcome;
mod plan;
mod range;
mod record;
mod revision;
mod roots;
mod row_id;
mod rows;
mod settings;
mod txn;
mod unreadable;

pub use access::{ReadRows, Rows};
pub use anchor::{ANCHORS_MAX, Anchor, Anchored};
pub use anchors::decode_anchors;
pub use apply::{CONTENT_TYPE_BYTES_MAX, Prepared, evaluate};
pub use auth::{
    ACCESS_BYTES_MAX, ADMIN, Access, AccessChange, AccessRefusal, AccessRevision, Administration,
    Ask, Asks, Grant, Keys, Name, NameError, REVOKED_MAX, Right, Role, Serial, SerialError, Token,
    TokenHash, User,
};
pub use bound::{Bound, DELETED_PER_KEY_MAX};
pub use command::{Command, Header, KEY_BYTES_MAX, Write};
pub use condition::{Condition, Matcher};
pub use counters::Counters;
pub use level::FeatureLevel;
pub use need::Need;
pub use outcome::{OpOutcome, Outcome, Refusal, Reply, Single, TxnOutcome};
pub use range::{Item, KeyRange, Page, RangeQuery, successor};
pub use record::{Raised, RecordKey, check_record, decode_level};
pub use revision::Revision;
pub use roots::Roots;
pub use row_id::RowId;
pub use rows::{KeyRow, RevisionRow, is_of_newer_layout};
pub use settings::Settings;
pub use txn::{Attach, Compare, DEPTH_MAX, Op, Over, Put, Relation, Test, Txn};
pub use unreadable::Unreadable;
