//! konsen: a key-value store that a handful of hosts agree on. `ARCHITECTURE.md` is the whole story.
//!
//! - [`api`]: what a caller may ask and be told: requests, answers, errors, limits, JSON.
//! - [`raft`]: the protocol, pure: inputs in, effects out.
//! - [`kv`]: the state machine: commands in, replies out; pure and deterministic.
//! - [`cluster`]: who belongs, who is dialled, who is let in, who stops: pure decisions.
//! - [`store`]: redb: the log, the state with its overlay and checkpoints, the node's identity.
//! - [`replica`]: one node's raft, kv and store put together, single-threaded and deterministic.
//! - [`net`]: quinn: the endpoint, the peers, the frames, mutual TLS.
//! - [`server`]: gives a replica its threads, clock, disk and network; the handle that http uses.
//! - [`http`]: axum: routes, errors, the accept loop.
//! - [`audit`]: who asked for what, in files whose records are chained by hash; what writes and what verifies them.
//! - [`client`]: the Rust client over HTTP, which the command line uses too.
//! - [`pki`]: rcgen: authorities, node and client certificates.
//! - [`config`]: cluster.yml, read and checked.
//! - [`check`]: judges what clients saw of a store.
//! - [`cli`]: the command line, one file a subcommand.

// What a process says goes through `cli::output`: these macros block, and panic where they cannot write.
#![cfg_attr(not(test), warn(clippy::print_stdout, clippy::print_stderr))]

pub mod api;
pub mod audit;
pub mod check;
pub mod cli;
pub mod client;
pub mod cluster;
pub mod config;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
pub mod http;
pub mod kv;
pub mod net;
pub mod pki;
pub mod raft;
pub mod replica;
pub mod server;
pub mod store;
