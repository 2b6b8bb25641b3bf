//! Why a configuration cannot be used.

use std::io;
use std::path::PathBuf;

use super::HostPort;

/// One line: the file, the place in it, what is wrong, what would be right.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// There is no such file.
    #[error("{}: there is no such file", .file.display())]
    Missing {
        /// The file asked for.
        file: PathBuf,
    },
    /// It is there and cannot be read.
    #[error("{}: cannot be read: {source}", .file.display())]
    Read {
        /// The file asked for.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Larger than any configuration.
    #[error("{}: is larger than 1 MiB, which no configuration is", .file.display())]
    TooLarge {
        /// The file asked for.
        file: PathBuf,
    },
    /// Nothing but space and comments.
    #[error("{}: the file is empty; it needs `servers` and `httpServers`", .file.display())]
    Empty {
        /// The file.
        file: PathBuf,
    },
    /// YAML that cannot be read, or a key that is not known.
    #[error("{}{}: {problem}", .file.display(), at(*.line))]
    Syntax {
        /// The file.
        file: PathBuf,
        /// Where in it, from 1.
        line: Option<u64>,
        /// What is wrong, and what would be right.
        problem: String,
    },
    /// A key whose value cannot be used, or a key that is missing.
    #[error("{}{}: {key}: {problem}", .file.display(), at(*.line))]
    Value {
        /// The file.
        file: PathBuf,
        /// Where in it, from 1.
        line: Option<u64>,
        /// The key, with those above it.
        key: String,
        /// What is wrong, and what would be right.
        problem: String,
    },
    /// The name of this node.
    #[error("{}: {problem}; `servers` has {}", .file.display(), .names.join(", "))]
    Name {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        problem: String,
        /// The names that would be right.
        names: Vec<String>,
    },
    /// A host that has no address now.
    #[error("{address}: cannot look up the host: {reason}")]
    Resolve {
        /// What was looked up.
        address: HostPort,
        /// Why it failed.
        reason: String,
    },
}

impl ConfigError {
    /// What to do about it, where the line itself does not say.
    pub fn hint(&self) -> Option<String> {
        match self {
            ConfigError::Missing { .. } => {
                Some("name the file with --config; conf/cluster.yml is an example".to_owned())
            }
            ConfigError::Name { .. } => {
                Some("give one of them with --name or as localServerName".to_owned())
            }
            _ => None,
        }
    }
}

fn at(line: Option<u64>) -> String {
    line.map(|line| format!(", line {line}")).unwrap_or_default()
}
