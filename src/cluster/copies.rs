//! Two hosts with one identity: a data directory that was copied, or a host that was started again.
//!
//! Each start of a node draws a number, by which its connections are told from those of another run of the same data
//! directory. A run that is followed by another is over; a run that goes on beside another is a copy. Which it is can
//! be told by where they are, as one address has one socket, and else by whether the earlier one is still heard.

use std::net::SocketAddr;

/// Who speaks on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Speaker {
    /// The run of the node, as its process has drawn it; 0 of a release that draws none.
    pub run: u64,
    /// Where it speaks from, which is where it listens, too.
    pub at: SocketAddr,
}

/// What follows from one who speaks with the identity of another that was heard before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// It is the same run.
    Same,
    /// It is a later run of the same host: the earlier one is over.
    Later,
    /// It is elsewhere: the earlier run has moved, or is copied and goes on. Whoever is still heard keeps the place.
    Contested,
}

/// Judges a newcomer by one who was let in before under the same identity.
pub fn claim(present: Speaker, newcomer: Speaker) -> Claim {
    match (present.run == newcomer.run, present.at == newcomer.at) {
        (true, _) => Claim::Same,
        (false, true) => Claim::Later,
        (false, false) => Claim::Contested,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn speaker(run: u64, port: u16) -> Speaker {
        Speaker { run, at: SocketAddr::from(([127, 0, 0, 1], port)) }
    }

    #[test]
    fn a_run_is_over_that_another_follows_at_its_address() {
        assert_eq!(claim(speaker(1, 1), speaker(2, 1)), Claim::Later);
    }

    #[test]
    fn a_run_elsewhere_may_be_that_of_a_copy() {
        assert_eq!(claim(speaker(1, 1), speaker(2, 2)), Claim::Contested);
        assert_eq!(claim(speaker(0, 1), speaker(2, 2)), Claim::Contested);
    }

    #[test]
    fn a_host_that_has_two_addresses_is_one_host() {
        assert_eq!(claim(speaker(1, 1), speaker(1, 2)), Claim::Same);
        // Earlier releases do not say, and are taken for one.
        assert_eq!(claim(speaker(0, 1), speaker(0, 2)), Claim::Same);
    }
}
