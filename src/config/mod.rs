//! cluster.yml, read and checked.
//!
//! The original project's keys `servers`, `httpServers` and `localServerName` are a complete
//! configuration; all other keys are optional. Relative paths are relative to the file's folder.

mod address;
mod agree;
mod audit;
mod check;
mod error;
mod file;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod https;
mod show;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use address::{AddressError, HostPort};
pub use audit::{AuditConfig, OnFailure};
pub use error::ConfigError;
pub use https::HttpsFiles;
use https::{Says, plain_warning};
pub use show::AUTHORITY_KEY;

use crate::kv::FeatureLevel;
use crate::pki::{self, PkiError};
pub use crate::pki::{ClientAuth, ClusterName, Host, NAME_MAX, NameError, NodeName};

/// The largest file that is taken for a configuration.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// One node's configuration, checked: every address is one, the node is among the servers, every number
/// is in its range.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file it comes from.
    pub file: PathBuf,
    /// This node.
    pub name: NodeName,
    /// The cluster's name in the certificates.
    pub cluster: ClusterName,
    /// Whether the cluster exists: this node waits until it is let in, and never founds one.
    pub join: bool,
    /// Where each node's Raft listens (QUIC over UDP).
    pub servers: BTreeMap<NodeName, HostPort>,
    /// Where each node's HTTP listens (TCP). The same names as in `servers`.
    pub http_servers: BTreeMap<NodeName, HostPort>,
    /// Where Raft listens here if not on this node's address in `servers`. Not in the file.
    pub listen: Option<SocketAddr>,
    /// Where log and state are kept.
    pub data: PathBuf,
    /// The certificates between nodes.
    pub tls: TlsFiles,
    /// How clients are served.
    pub http: HttpConfig,
    /// The protocol's times.
    pub raft: RaftConfig,
    /// How reads may be answered.
    pub reads: ReadsConfig,
    /// How much of the past can be read.
    pub history: HistoryConfig,
    /// Which feature level the cluster may be raised to.
    pub features: FeaturesConfig,
    /// What is recorded of who asked for what.
    pub audit: AuditConfig,
    /// Upper bounds.
    pub limits: Limits,
    /// What works and is probably not meant.
    pub warnings: Vec<String>,
    /// What cannot work unless the node is started in a certain way.
    pub obstacles: Vec<String>,
    own: Own,
    says: Says,
}

/// This node's own addresses.
#[derive(Clone, Debug)]
struct Own {
    raft: HostPort,
    http: HostPort,
}

/// Where the certificates lie (PEM).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The authority that all nodes' certificates come from.
    pub ca: PathBuf,
    /// This node's certificate.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// The authority's key, where this node signs the members' next certificates.
    pub authority_key: Option<PathBuf>,
    /// For how many days those that it signs are good.
    pub days: u32,
}

impl TlsFiles {
    /// For how many days certificates are good that the cluster signs by itself, unless set.
    pub const DAYS: u32 = 90;
}

/// How clients are served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpConfig {
    /// HTTPS instead of plain HTTP.
    pub tls: bool,
    /// Its files, where they are not the node's.
    pub files: HttpsFiles,
    /// Whether clients show certificates; only with `tls`.
    pub client_auth: ClientAuth,
    /// Names beside those of the configuration that clients may call this node by; [`ANY_HOST`] for all.
    pub hosts: Vec<String>,
    /// How long a connection without requests stays open. 1 s to 1 h.
    pub idle: Duration,
    /// How long a request's head may take. 1 s to 10 min.
    pub head: Duration,
    /// How long a request's body may take. 1 s to 1 h.
    pub body: Duration,
    /// How long a client may neither send what it has begun nor take what it asked for. 1 s to 10 min.
    pub stall: Duration,
    /// The least bytes a second, on average, of a body or an answer that takes longer than `stall`.
    pub min_rate: u64,
    /// The same of a backup.
    pub backup_rate: u64,
}

/// In `http.hosts`: every name.
pub const ANY_HOST: &str = "*";

/// The protocol's times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RaftConfig {
    /// How often a leader is heard. 5 ms to 10 s.
    pub heartbeat: Duration,
    /// The shortest silence after which a follower stands for election. Twice the heartbeat to 60 s.
    pub election_timeout: Duration,
}

/// How reads may be answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadsConfig {
    /// Whether a leader may answer by its lease, which trusts the clocks' rates.
    pub lease: bool,
}

/// How much of the past can be read. A revision is given up as soon as one of the two says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryConfig {
    /// How long what was superseded can still be read; none: for ever. 1 s to 30 days.
    pub keep: Option<Duration>,
    /// How many of the newest revisions can be read; none: all. At least 1.
    pub revisions: Option<u64>,
}

impl HistoryConfig {
    /// Nothing is given up by itself.
    pub const EVERYTHING: HistoryConfig = HistoryConfig { keep: None, revisions: None };
}

/// Which feature level the cluster may be raised to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FeaturesConfig {
    /// No higher than this while this node leads; none: as high as all members know. From the base to the highest that
    /// this release knows.
    pub hold: Option<FeatureLevel>,
}

/// Bounds. In bytes but for those that count something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The largest value.
    pub value: u64,
    /// HTTP connections at a time.
    pub connections: usize,
    /// Those of one address.
    pub connections_per_address: usize,
    /// Requests carried out at a time; those of one address may be half of them.
    pub requests: usize,
    /// Requests a second of one user; none: as many as there are.
    pub user_rate: Option<u64>,
    /// Request bodies held at a time, together.
    pub bodies: u64,
    /// Answers held at a time, together; those of one address may be half of it.
    pub answers: u64,
    /// Requests that wait for a change at a time; those of one address may be half of them.
    pub waiters: usize,
    /// Keys that one range deletion may delete.
    pub delete_keys: u64,
    /// Operations of one list of a transaction, and compares; in all there may be eight times as many.
    pub txn_operations: usize,
    /// Rows that one page of a listing looks at: its items, and what is deleted or newer between them.
    pub list_rows: u64,
    /// Listings and reads of the past at a time, under way or waiting.
    pub reads: usize,
    /// Threads that read them.
    pub read_threads: usize,
    /// Backups at a time.
    pub backups: usize,
    /// How much the state's file may grow while a backup holds on to old pages.
    pub backup_growth: u64,
    /// What stays of the log although a checkpoint covers it.
    pub log_tail: u64,
    /// How large the write-ahead log becomes.
    pub wal: u64,
    /// The log's page cache.
    pub log_cache: u64,
    /// The state's page cache.
    pub state_cache: u64,
    /// Applied changes held in memory until the next checkpoint.
    pub overlay: u64,
    /// A lower bound: with less room than this on the disk, clients' writes are refused.
    pub free_space: u64,
}

impl Limits {
    /// The largest that [`Limits::value`] can be, in bytes. Frames between nodes hold so much whatever is
    /// configured.
    pub const VALUE_MAX: u64 = 16 << 20;
}

impl Default for HttpConfig {
    fn default() -> Self {
        HttpConfig {
            tls: false,
            files: HttpsFiles::default(),
            client_auth: ClientAuth::None,
            hosts: Vec::new(),
            idle: Duration::from_secs(75),
            head: Duration::from_secs(10),
            body: Duration::from_secs(60),
            stall: Duration::from_secs(20),
            min_rate: 1 << 10,
            backup_rate: 256 << 10,
        }
    }
}

impl Default for RaftConfig {
    fn default() -> Self {
        RaftConfig {
            heartbeat: Duration::from_millis(50),
            election_timeout: Duration::from_millis(500),
        }
    }
}

impl Default for HistoryConfig {
    fn default() -> Self {
        HistoryConfig { keep: Some(Duration::from_secs(300)), revisions: Some(1_000_000) }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            value: 1 << 20,
            connections: 4096,
            connections_per_address: 1024,
            requests: 2048,
            user_rate: None,
            bodies: 256 << 20,
            answers: 256 << 20,
            waiters: 16_384,
            delete_keys: 10_000,
            txn_operations: 128,
            list_rows: 100_000,
            reads: 256,
            read_threads: 4,
            backups: 2,
            backup_growth: 1 << 30,
            log_tail: 64 << 20,
            wal: 128 << 20,
            log_cache: 16 << 20,
            state_cache: 64 << 20,
            overlay: 64 << 20,
            free_space: 64 << 20,
        }
    }
}

impl Config {
    /// Reads `file` and checks all of it. `name` overrides `localServerName`; neither is needed where
    /// there is one server only.
    pub fn load(file: &Path, name: Option<&str>) -> Result<Config, ConfigError> {
        let failed = |source: std::io::Error| match source.kind() {
            std::io::ErrorKind::NotFound => ConfigError::Missing { file: file.to_path_buf() },
            _ => ConfigError::Read { file: file.to_path_buf(), source },
        };
        let mut text = String::new();
        let opened = std::fs::File::open(file).map_err(failed)?;
        opened.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(failed)?;
        if text.len() as u64 > FILE_BYTES_MAX {
            return Err(ConfigError::TooLarge { file: file.to_path_buf() });
        }
        Config::parse(file, &text, name)
    }

    /// Checks `text` as the content of `file`, whose folder relative paths start from.
    pub fn parse(file: &Path, text: &str, name: Option<&str>) -> Result<Config, ConfigError> {
        check::Check::new(file).config(file::parse(file, text)?, name)
    }

    /// The same node among the same servers, with the other keys of `base`.
    pub fn with_keys_of(self, base: Config) -> Config {
        let Config { name, join, servers, http_servers, own, .. } = self;
        Config { name, join, servers, http_servers, own, ..base }
    }

    /// Where this node's Raft is reached.
    pub fn raft_address(&self) -> &HostPort {
        &self.own.raft
    }

    /// Where this node's HTTP is reached.
    pub fn http_address(&self) -> &HostPort {
        &self.own.http
    }

    /// This node's certificate, key and authority, read and checked.
    pub fn material(&self) -> Result<pki::Material, PkiError> {
        let material = pki::Material::load(&self.tls.ca, &self.tls.cert, &self.tls.key)?;
        material.check_node(&self.cluster, &self.name)?;
        Ok(material)
    }
}
