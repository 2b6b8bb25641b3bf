//! What all nodes of a cluster must say alike.

use bytesize::ByteSize;

use super::Config;
use super::check::show_duration;

impl Config {
    /// The first key that another node's configuration states otherwise although all must state the same: the key,
    /// what stands here, and what stands there.
    pub fn differs_from(&self, other: &Config) -> Option<(String, String, String)> {
        let size = |bytes: u64| ByteSize(bytes).to_string();
        let mut all = vec![
            ("cluster".to_owned(), self.cluster.to_string(), other.cluster.to_string()),
            ("limits.value".to_owned(), size(self.limits.value), size(other.limits.value)),
            (
                "raft.heartbeat".to_owned(),
                show_duration(self.raft.heartbeat),
                show_duration(other.raft.heartbeat),
            ),
            (
                "raft.electionTimeout".to_owned(),
                show_duration(self.raft.election_timeout),
                show_duration(other.raft.election_timeout),
            ),
            ("reads.lease".to_owned(), self.reads.lease.to_string(), other.reads.lease.to_string()),
        ];
        let maps = [
            ("servers", &self.servers, &other.servers),
            ("httpServers", &self.http_servers, &other.http_servers),
        ];
        for (key, here, there) in maps {
            for (name, address) in here {
                // One that joins need not know everybody.
                let Some(found) = there.get(name) else { continue };
                all.push((format!("{key}.{name}"), address.to_string(), found.to_string()));
            }
        }
        all.into_iter().find(|(_, here, there)| here != there)
    }
}
