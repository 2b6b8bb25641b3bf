//! Limits on what clients send, ask for and hold.

use std::time::Duration;

pub use crate::kv::CONTENT_TYPE_BYTES_MAX;

/// The deadline of a request that names none.
pub const TIMEOUT_DEFAULT: Duration = Duration::from_secs(5);
/// The longest deadline, and the longest that a change is waited for.
pub const TIMEOUT_MAX: Duration = Duration::from_secs(300);
/// The most items of a page.
pub const PAGE_ITEMS_MAX: usize = 1000;
/// A page ends with the item that makes it reach this many bytes, be it what it holds or its JSON.
pub const PAGE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Limits on what clients send, ask for and hold. The defaults are those of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The largest value, in bytes, in a cluster that has agreed on none.
    pub value_bytes_max: usize,
    /// The most connections to the HTTP port.
    pub connections_max: usize,
    /// The most of one address.
    pub connections_per_address_max: usize,
    /// The most requests that are carried out at a time; half of them for one address.
    pub requests_max: usize,
    /// The most requests a second of one user, after as many at once; none: as many as there are.
    pub user_rate_max: Option<u64>,
    /// The most bytes of request bodies held at a time, over all connections.
    pub body_bytes_max: usize,
    /// The most bytes of answers held at a time, over all connections.
    pub answer_bytes_max: usize,
    /// The most requests that wait for a change.
    pub waiters_max: usize,
    /// The most keys that one deletion of a range deletes, and that the ranges of one transaction hold.
    pub delete_keys_max: u64,
    /// The most operations of one list of a transaction, and compares.
    pub txn_operations_max: usize,
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
