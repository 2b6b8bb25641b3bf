//! The data of the store for whoever serves clients: writes, reads, listings. Each is carried out here or at the leader.

pub(super) mod deletions;
pub(super) mod read;
