//! The limits on what clients send, ask for and hold, as a configuration has them.

use crate::api::Limits;
use crate::cluster::Settings;
use crate::config::{ANY_HOST, ClientAuth, Config, Host, HostPort};

/// Those of a configuration.
pub(super) fn of(config: &Config) -> Limits {
    Limits {
        value_bytes_max: bytes(config.limits.value),
        connections_max: config.limits.connections,
        connections_per_address_max: config.limits.connections_per_address,
        requests_max: config.limits.requests,
        user_rate_max: config.limits.user_rate,
        body_bytes_max: bytes(config.limits.bodies),
        answer_bytes_max: bytes(config.limits.answers),
        waiters_max: config.limits.waiters,
        delete_keys_max: config.limits.delete_keys,
        txn_operations_max: config.limits.txn_operations,
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

/// What the other nodes' configurations should say as well.
pub(super) fn settings_of(config: &Config) -> Settings {
    let election_timeout = config.raft.election_timeout.as_millis();
    Settings {
        value_bytes_max: config.limits.value,
        election_timeout_ms: u64::try_from(election_timeout).unwrap_or(u64::MAX),
        lease_reads: config.reads.lease,
    }
}
