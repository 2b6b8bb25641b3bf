//! Limits on what clients send, ask for and hold.

use std::time::Duration;

use crate::config::{ANY_HOST, ClientAuth, Config, Host, HostPort};

/// Limits on what clients send, ask for and hold. The defaults are those of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The largest value, in bytes.
    pub value_bytes_max: usize,
    /// The most connections to the HTTP port.
    pub connections_max: usize,
    /// The most of one address.
    pub connections_per_address_max: usize,
    /// The most bytes of request bodies held at a time, over all connections.
    pub body_bytes_max: usize,
    /// The most bytes of answers held at a time, over all connections.
    pub answer_bytes_max: usize,
    /// The most requests that wait for a change.
    pub waiters_max: usize,
    /// The most keys that one deletion of a range deletes.
    pub delete_keys_max: u64,
    /// The most rows that a page of a listing looks at, but for those of its last key.
    pub list_rows_max: u64,
    /// The most listings and reads of the past, under way or waiting.
    pub reads_max: usize,
    /// How many threads read them.
    pub read_threads: usize,
    /// The most backups at a time.
    pub backups_max: usize,
    /// How many bytes the state's file may grow during a backup.
    pub backup_growth_max: u64,
    /// How long a connection without requests stays open.
    pub idle_time: Duration,
    /// How long a request's head may take.
    pub head_time_max: Duration,
    /// How long a request's body may take.
    pub body_time_max: Duration,
    /// How long a client may send or take nothing.
    pub stall_max: Duration,
    /// The least bytes a second that a client sends or takes, beyond `stall_max`.
    pub rate_min: u64,
    /// The least bytes a second of a backup that a client takes, beyond `stall_max`.
    pub backup_rate_min: u64,
    /// The names that clients may call this node by, beside addresses and `localhost`; none: any.
    pub hosts: Option<Vec<String>>,
}

impl Limits {
    /// Those of a configuration.
    pub(super) fn of(config: &Config) -> Limits {
        Limits {
            value_bytes_max: bytes(config.limits.value),
            connections_max: config.limits.connections,
            connections_per_address_max: config.limits.connections_per_address,
            body_bytes_max: bytes(config.limits.bodies),
            answer_bytes_max: bytes(config.limits.answers),
            waiters_max: config.limits.waiters,
            delete_keys_max: config.limits.delete_keys,
            list_rows_max: config.limits.list_rows,
            reads_max: config.limits.reads,
            read_threads: config.limits.read_threads,
            backups_max: config.limits.backups,
            backup_growth_max: config.limits.backup_growth,
            idle_time: config.http.idle,
            head_time_max: config.http.head,
            body_time_max: config.http.body,
            stall_max: config.http.stall,
            rate_min: config.http.min_rate,
            backup_rate_min: config.http.backup_rate,
            hosts: hosts(config),
        }
    }
}

/// A size of the configuration as a size in memory.
pub(super) fn bytes(configured: u64) -> usize {
    usize::try_from(configured).unwrap_or(usize::MAX)
}

/// The names of a configuration. Whoever has to show a certificate is no web page, so that any name will do.
fn hosts(config: &Config) -> Option<Vec<String>> {
    let http = &config.http;
    if http.client_auth == ClientAuth::Required || http.hosts.iter().any(|host| host == ANY_HOST) {
        return None;
    }
    let name = |address: &HostPort| match address.host() {
        Host::Name(name) => Some(name.as_str().to_ascii_lowercase()),
        Host::Ip(_) => None,
    };
    let servers = config.servers.values().chain(config.http_servers.values());
    let mut hosts: Vec<String> = servers.filter_map(name).chain(http.hosts.clone()).collect();
    hosts.sort_unstable();
    hosts.dedup();
    Some(hosts)
}
