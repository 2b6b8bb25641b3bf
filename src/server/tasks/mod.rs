//! What a node does by itself, beside its replica.

pub(super) mod access;
pub(super) mod agreements;
pub(super) mod anchors;
pub(super) mod bootstrap;
pub(super) mod certificates;
pub(super) mod consistency;
pub(super) mod discovery;
pub(super) mod features;
pub(super) mod history;
pub(super) mod peers;
pub(super) mod reconcile;
pub(super) mod removal;
pub(super) mod renewal;
pub(super) mod revocation;
pub(super) mod settings;
