//! What the configurations of all nodes should say alike, and each node tells the others.

use serde::{Deserialize, Serialize};

/// See the module's documentation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// `limits.value`, in bytes: otherwise a value is taken at one node and refused at another.
    pub value_bytes_max: u64,
    /// `raft.electionTimeout`, in milliseconds: a lease is as safe as the shortest of them is long.
    pub election_timeout_ms: u64,
    /// `reads.lease`.
    pub lease_reads: bool,
}

impl Settings {
    /// Where the peer `name` has others than this node, each as a sentence for whoever runs them.
    pub fn differences(&self, name: &str, theirs: &Settings) -> Vec<String> {
        let mut differences = Vec::new();
        let mut compare = |key: &str, own: String, theirs: String| {
            if own != theirs {
                differences.push(format!(
                    "{key} is {own} here and {theirs} at {name}; it should be the same on all nodes"
                ));
            }
        };
        let bytes = |bytes: u64| format!("{bytes} bytes");
        compare("limits.value", bytes(self.value_bytes_max), bytes(theirs.value_bytes_max));
        let time = |ms: u64| format!("{ms} ms");
        compare(
            "raft.electionTimeout",
            time(self.election_timeout_ms),
            time(theirs.election_timeout_ms),
        );
        compare("reads.lease", self.lease_reads.to_string(), theirs.lease_reads.to_string());
        differences
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_difference_is_named_with_both_values() {
        let own =
            Settings { value_bytes_max: 1 << 20, election_timeout_ms: 500, lease_reads: false };
        assert!(own.differences("n2", &own).is_empty());
        let theirs =
            Settings { value_bytes_max: 2 << 20, election_timeout_ms: 700, lease_reads: true };
        let differences = own.differences("n2", &theirs);
        assert_eq!(differences.len(), 3);
        assert_eq!(
            differences[0],
            "limits.value is 1048576 bytes here and 2097152 bytes at n2; it should be the same on all nodes"
        );
    }
}
