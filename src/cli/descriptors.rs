//! File descriptors: as many as the configuration asks for, and some that no client can take.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Those of the node's own: databases, sockets, certificates that are read again, snapshots, backups.
const OWN: u64 = 64;

/// What is in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Granted {
    /// Descriptors of the process; none if there is no limit.
    pub(super) descriptors: Option<u64>,
    /// How many clients may be connected.
    pub(super) connections: usize,
}

/// Raises the soft limit as far as `connections` need it and the hard limit lets it.
pub(super) fn raise(connections: usize) -> Granted {
    let limit = getrlimit(Resource::Nofile);
    let wanted = (connections as u64).saturating_add(OWN);
    let soft = soft_limit(limit.current, limit.maximum, wanted);
    let raised = Rlimit { current: soft, maximum: limit.maximum };
    let in_force = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => soft,
        Err(error) => {
            tracing::warn!(%error, "the limit of file descriptors cannot be raised");
            limit.current
        }
    };
    granted(in_force, connections)
}

/// The soft limit to ask for; none is none at all.
fn soft_limit(soft: Option<u64>, hard: Option<u64>, wanted: u64) -> Option<u64> {
    match soft {
        Some(soft) if soft < wanted => Some(hard.map_or(wanted, |hard| wanted.min(hard)).max(soft)),
        enough => enough,
    }
}

/// What a limit leaves to clients.
fn granted(descriptors: Option<u64>, connections: usize) -> Granted {
    let left = descriptors.map_or(u64::MAX, |all| all.saturating_sub(OWN).max(1));
    let left = usize::try_from(left).unwrap_or(usize::MAX);
    Granted { descriptors, connections: connections.min(left) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_is_raised_as_far_as_needed_and_allowed() {
        assert_eq!(soft_limit(Some(1024), Some(65_536), 4160), Some(4160));
        assert_eq!(soft_limit(Some(1024), None, 4160), Some(4160));
        assert_eq!(soft_limit(Some(1024), Some(2048), 4160), Some(2048));
        assert_eq!(soft_limit(Some(8192), Some(8192), 4160), Some(8192));
        assert_eq!(soft_limit(None, None, 4160), None);
    }

    #[test]
    fn clients_get_what_the_node_does_not_need() {
        let connections = |descriptors| granted(descriptors, 4096).connections;
        assert_eq!(connections(None), 4096);
        assert_eq!(connections(Some(65_536)), 4096);
        assert_eq!(connections(Some(1024)), 960);
        assert_eq!(connections(Some(90)), 26);
        assert_eq!(connections(Some(10)), 1);
    }
}
