//! The data of the store for whoever serves clients: writes, reads, listings. Each is carried out here or at the leader.

mod deletions;
mod fresh;
mod read;
mod slow;
mod write;
