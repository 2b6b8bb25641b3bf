//! What a node runs on: its threads, the mailbox between them and everybody else, and the queues before it.

pub(super) mod answer_room;
mod answers;
pub(super) mod audit;
mod background;
mod clock;
pub(super) mod driver;
pub(super) mod event;
pub(super) mod fine_timer;
pub(super) mod lag;
mod lookups;
pub(super) mod mailbox;
pub(super) mod opened;
mod pace;
mod read_gate;
pub(super) mod read_load;
pub(super) mod readers;
mod schedule;
pub(super) mod snapshots;
pub(super) mod thread;
pub(super) mod timing;
mod turn;
mod verifier;
pub(super) mod watched;
pub(super) mod workers;
pub(super) mod write_room;
