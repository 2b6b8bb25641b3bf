//! Real processes: the built binary, its certificates, its disks, its ports.
#![allow(clippy::unwrap_used)]

mod crashes;
mod dev;
mod harness;
mod namespaces;
mod refusals;
mod shutdown;
mod snapshots;
