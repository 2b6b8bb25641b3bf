//! The log: a write-ahead log in front of a database, the thread that writes it, and how much of it is kept.

mod change;
mod core;
mod reader;
mod recent;
mod recovered;
mod rows;
mod tail;
mod wal;
mod writer;

pub use core::{Log, LogOptions};
pub use reader::LogReader;
pub use recovered::RecoveredLog;
pub use writer::{LogEvent, LogWriter};
