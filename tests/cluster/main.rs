//! Real processes: the built binary, its certificates, its disks, its ports.
#![allow(clippy::unwrap_used)]

mod check;
mod crashes;
mod dev;
mod harness;
mod liar;
mod namespaces;
mod refusals;
mod shutdown;
mod snapshots;
