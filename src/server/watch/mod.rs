//! The dispatcher of what is applied to those who wait for it, by ranges of keys.

mod event_queue;
mod interval_index;
pub(super) mod waiters;
