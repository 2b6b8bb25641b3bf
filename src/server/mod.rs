//! Gives a replica its threads, clock, disk and network, and everybody else a [`Handle`] to it.
//!
//! | thread | does |
//! |---|---|
//! | `replica` | steps the replica and speaks QUIC; never waits for a disk |
//! | `log` | group commit of the log |
//! | `checkpoint` | writes the state's overlay to disk |
//! | `fetch` | reads old entries for peers that are far behind |
//! | `lookup` | reads rows and entries that are to be applied |
//! | `audit` | writes who asked for what |
//! | `space` | looks ten times a second how much room the disk has |
//! | tokio's | HTTP, and the tasks here that look after the membership and the past |

mod admin;
mod allowed;
mod certificates;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod handle;
mod inbound;
mod limits;
mod metrics;
mod passed_in;
mod peer;
mod renewal;
mod run;
mod service;
mod start;
mod tally;
mod tasks;
mod watch;
mod wire;

pub use admin::backup::{Backup, BackupPart};
pub use allowed::Allowed;
pub use handle::Handle;
pub use peer::passed_on;
pub(crate) use run::fine_timer::FineTimer;
pub use run::read_load::ReadClient;
pub use start::{Ending, Server, StartError};
pub use tally::{Counts, OpenConnection, Refusal, Route};
pub use watch::waiters::Waiter;
