//! Gives a replica its threads, clock, disk and network, and everybody else a [`Handle`] to it.
//!
//! | thread | does |
//! |---|---|
//! | `replica` | steps the replica and speaks QUIC; never waits for the log's disk |
//! | `log` | group commit of the log |
//! | `checkpoint` | writes the state's overlay to disk |
//! | `fetch` | reads old entries for peers that are far behind |
//! | `space` | looks ten times a second how much room the disk has |
//! | tokio's | HTTP, and the tasks here that look after the membership and the past |

mod answers;
mod background;
mod backup;
mod bootstrap;
mod certificates;
mod clock;
mod consistency;
mod deletions;
mod discovery;
mod driver;
mod error;
mod event_queue;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod handle;
mod history;
mod inbound;
mod interval_index;
mod lag;
mod leaderless;
mod leadership;
mod letter;
mod life;
mod limits;
mod mailbox;
mod members;
mod opened;
mod pace;
mod passing;
mod peer_request;
mod peers;
mod readers;
mod reconcile;
mod removal;
mod snapshots;
mod start;
mod status;
mod telling;
mod thread;
mod timing;
mod turn;
mod waiters;
mod watched;
mod write_room;

pub use error::{Consistency, Error};
pub use handle::Handle;
pub use leadership::TransferError;
pub use limits::Limits;
pub use members::ChangeError;
pub use passing::{PassedAnswer, PassedRead, Reads};
pub use start::{Ending, Server, StartError};
pub use status::{ClusterStatus, Leadership, MemberInfo, MemberStatus, Members, Status};
pub use waiters::Waiter;
