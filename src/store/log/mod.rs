//! The log: its file, the thread that writes it, and how much of it is kept.

mod file;
mod tail;
mod writer;

pub use file::{Log, LogOptions, LogReader, RecoveredLog};
pub use writer::{LogEvent, LogWriter};
