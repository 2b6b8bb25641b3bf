//! What operators ask for: the members, who leads, backups, how things stand.

pub(super) mod backup;
pub(super) mod leadership;
pub(super) mod life;
pub(super) mod members;
pub(super) mod status;
