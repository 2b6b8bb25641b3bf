//! The HTTP contract, row by row, by raw HTTP against a real node of one; the client and its commands.
#![allow(clippy::unwrap_used)]
// A test's modules are shared between binaries by path, so that their items are `pub`.
#![allow(unreachable_pub)]

// Only a part of what the cluster's tests need is used here.
#[allow(dead_code)]
#[path = "../cluster/harness.rs"]
mod harness;

mod client;
mod commands;
mod compact;
mod connections;
mod errors;
mod h2;
mod key;
mod listing;
mod members;
mod node;
mod original;
mod raw;
mod revisions;
mod snapshot;
mod strangers;
mod transactions;
mod txn;
