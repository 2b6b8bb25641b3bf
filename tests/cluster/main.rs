//! Real processes: the built binary, its certificates, its disks, its ports.
#![allow(clippy::unwrap_used)]

mod admission;
mod backup;
mod bootstrap;
mod check;
mod crashes;
mod damage;
mod dev;
mod divergence;
mod endpoints;
mod failover;
mod folders;
mod formats;
mod full;
mod harness;
mod history;
mod leadership;
mod liar;
mod limits;
mod markers;
mod members;
mod namespaces;
mod netns;
mod notify;
mod output;
mod pipes;
mod refusals;
mod rolling;
mod shutdown;
mod snapshots;
mod stalled;
mod strace;
mod syscalls;
