//! The data of the store for whoever serves clients: writes, reads, listings. Each is carried out here or at the leader.

mod counted;
mod fill;
mod fresh;
mod read;
mod slow;
mod txn;
mod write;
