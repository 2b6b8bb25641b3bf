//! What operators ask for: the members, who leads, backups, how things stand.

pub(super) mod backup;
mod health;
mod leadership;
pub(super) mod life;
mod members;
mod progress;
mod renewal;
mod revocation;
mod status;
