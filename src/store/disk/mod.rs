//! The files under redb: how they are opened, how they are written, and the room that there is for them.

pub(super) mod backend;
pub(super) mod blocks;
pub(super) mod checks;
pub(super) mod coalesce;
mod direct;
pub(super) mod files;
mod pages;
pub(super) mod space;
mod sums;
mod verifying;
pub(super) mod walk;
mod yielding;

pub use space::{Purpose, Reserved, Space, SpaceWatch};
