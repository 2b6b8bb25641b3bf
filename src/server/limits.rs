//! Limits on what clients send.

use crate::config::Config;

/// Limits on what clients send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The largest value, in bytes. Default 1 MiB.
    pub value_bytes_max: usize,
    /// The most connections to the HTTP port. Default 4096.
    pub connections_max: usize,
    /// The most bytes of request bodies held at a time, over all connections. Default 256 MiB.
    pub body_bytes_max: usize,
}

impl Limits {
    /// Those of a configuration.
    pub(super) fn of(config: &Config) -> Limits {
        let bytes = |configured: u64| usize::try_from(configured).unwrap_or(usize::MAX);
        Limits {
            value_bytes_max: bytes(config.limits.value),
            connections_max: config.limits.connections,
            body_bytes_max: bytes(config.limits.bodies),
        }
    }
}
