//! From what is written to what it means.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use bytesize::ByteSize;

use super::file::{self, File, Text};
use super::{
    ANY_HOST, ClientAuth, Config, ConfigError, HistoryConfig, Host, HostPort, HttpConfig, Limits,
    NodeName, Own, RaftConfig, ReadsConfig, TlsFiles,
};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const HEARTBEATS: RangeInclusive<Duration> = Duration::from_millis(5)..=Duration::from_secs(10);
const ELECTION_TIMEOUT_MAX: Duration = Duration::from_secs(60);
const VALUE_SIZES: RangeInclusive<u64> = 1..=Limits::VALUE_MAX;
const BODIES_SIZES: RangeInclusive<u64> = MIB..=1024 * GIB;
const CACHE_SIZES: RangeInclusive<u64> = MIB..=1024 * GIB;
const FREE_SPACE_SIZES: RangeInclusive<u64> = 16 * MIB..=1024 * GIB;
const LOG_TAIL_SIZES: RangeInclusive<u64> = 0..=1024 * GIB;
const KEEP_TIMES: RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(30 * 24 * 3600);
const REVISIONS: RangeInclusive<u64> = 1..=1_000_000_000_000;
const CONNECTIONS: RangeInclusive<u64> = 1..=1_000_000;
const WAITERS: RangeInclusive<u64> = 0..=10_000_000;
const DELETE_KEYS: RangeInclusive<u64> = 1..=1_000_000;
const READS: RangeInclusive<u64> = 1..=100_000;
const READ_THREADS: RangeInclusive<u64> = 1..=256;
const BACKUPS: RangeInclusive<u64> = 0..=64;
const GROWTH_SIZES: RangeInclusive<u64> = MIB..=1024 * GIB;
const RATES: RangeInclusive<u64> = 1..=GIB;
const IDLE_TIMES: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3600);
const WAIT_TIMES: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(600);

/// What switches a limit off.
pub(super) const OFF: &str = "off";

/// Checks the keys of one file.
pub(super) struct Check<'a> {
    file: &'a Path,
}

impl<'a> Check<'a> {
    pub(super) fn new(file: &'a Path) -> Self {
        Check { file }
    }

    pub(super) fn config(&self, file: File, name: Option<&str>) -> Result<Config, ConfigError> {
        let servers = self.addresses("servers", file.servers)?;
        let http_servers = self.addresses("httpServers", file.http_servers)?;
        self.same_names(&servers, &http_servers)?;
        if let Some((name, address)) =
            servers.iter().find(|(_, address)| address.1.is_unspecified())
        {
            return Err(self.wrong(
                &format!("servers.{name}"),
                Some(address.0),
                format!(
                    "peers cannot dial {}; give the host's own address, and --listen to bind elsewhere",
                    address.1
                ),
            ));
        }
        self.distinct("servers", &servers)?;
        self.distinct("httpServers", &http_servers)?;
        let name = self.own_name(name, file.local_server_name.as_ref(), &servers)?;
        let plain = |map: BTreeMap<NodeName, (u64, HostPort)>| -> BTreeMap<NodeName, HostPort> {
            map.into_iter().map(|(name, (_, address))| (name, address)).collect()
        };
        let (servers, http_servers) = (plain(servers), plain(http_servers));
        let own = match (servers.get(&name), http_servers.get(&name)) {
            (Some(raft), Some(http)) => Own { raft: raft.clone(), http: http.clone() },
            _ => return Err(self.no_such_name(&name.to_string(), servers.keys())),
        };
        let join = self.flag("join", file.join.as_ref())?;
        let mut warnings = Vec::new();
        if servers.len() % 2 == 0 && !join {
            warnings.push(format!(
                "servers: {} nodes survive no more losses than {} do; use an odd number",
                servers.len(),
                servers.len() - 1
            ));
        }
        let obstacles = families(&servers).into_iter().collect();
        let http = self.http(file.http.unwrap_or_default(), &mut warnings)?;
        let tls = file.tls.unwrap_or_default();
        Ok(Config {
            file: self.file.to_path_buf(),
            name,
            cluster: match &file.cluster {
                Some(text) => self.parsed("cluster", text)?,
                None => self.parsed_default("cluster", "konsen")?,
            },
            join,
            servers,
            http_servers,
            listen: None,
            data: self.path("data", file.data.as_ref(), "data")?,
            tls: TlsFiles {
                ca: self.path("tls.ca", tls.ca.as_ref(), "certs/ca.crt")?,
                cert: self.path("tls.cert", tls.cert.as_ref(), "certs/node.crt")?,
                key: self.path("tls.key", tls.key.as_ref(), "certs/node.key")?,
            },
            http,
            raft: self.raft(&file.raft.unwrap_or_default())?,
            reads: ReadsConfig {
                lease: self.flag("reads.lease", file.reads.unwrap_or_default().lease.as_ref())?,
            },
            history: self.history(&file.history.unwrap_or_default())?,
            limits: self.limits(&file.limits.unwrap_or_default())?,
            warnings,
            obstacles,
            own,
        })
    }

    fn addresses(
        &self,
        key: &str,
        map: Option<BTreeMap<String, Text>>,
    ) -> Result<BTreeMap<NodeName, (u64, HostPort)>, ConfigError> {
        let map = map.filter(|map| !map.is_empty()).ok_or_else(|| {
            let problem =
                "is missing; it gives each node's address, as in `node1: 192.168.1.10:10001`";
            self.wrong(key, None, problem.to_owned())
        })?;
        let mut addresses = BTreeMap::new();
        for (name, text) in map {
            let line = text.referenced.line();
            let key = format!("{key}.{name}");
            let name = NodeName::from_str(&name)
                .map_err(|error| self.wrong(&key, Some(line), error.to_string()))?;
            let address: HostPort = self.parsed(&key, &text)?;
            if address.port() == 0 {
                let problem = format!("{address} has the port 0; give one from 1 to 65535");
                return Err(self.wrong(&key, Some(line), problem));
            }
            addresses.insert(name, (line, address));
        }
        Ok(addresses)
    }

    fn same_names(
        &self,
        servers: &BTreeMap<NodeName, (u64, HostPort)>,
        http_servers: &BTreeMap<NodeName, (u64, HostPort)>,
    ) -> Result<(), ConfigError> {
        let check = |key: &str,
                     other: &str,
                     these: &BTreeMap<NodeName, _>,
                     those: &BTreeMap<NodeName, _>| {
            match those.keys().find(|name| !these.contains_key(*name)) {
                None => Ok(()),
                Some(name) => Err(self.wrong(
                    key,
                    None,
                    format!("{name} is in {other} and not here; both need every node"),
                )),
            }
        };
        check("httpServers", "servers", http_servers, servers)?;
        check("servers", "httpServers", servers, http_servers)
    }

    fn distinct(
        &self,
        key: &str,
        addresses: &BTreeMap<NodeName, (u64, HostPort)>,
    ) -> Result<(), ConfigError> {
        let mut seen: BTreeMap<&HostPort, &NodeName> = BTreeMap::new();
        // The unspecified address is another one on each host.
        for (name, (line, address)) in addresses.iter().filter(|(_, (_, a))| !a.is_unspecified()) {
            if let Some(other) = seen.insert(address, name) {
                let problem =
                    format!("{address} is also the address of {other}; each node needs its own");
                return Err(self.wrong(&format!("{key}.{name}"), Some(*line), problem));
            }
        }
        Ok(())
    }

    fn own_name(
        &self,
        given: Option<&str>,
        local: Option<&Text>,
        servers: &BTreeMap<NodeName, (u64, HostPort)>,
    ) -> Result<NodeName, ConfigError> {
        let given = given.or(local.map(|text| text.value.as_str()));
        match given {
            Some(given) => match servers.get_key_value(given) {
                Some((name, _)) => Ok(name.clone()),
                None => Err(self.no_such_name(given, servers.keys())),
            },
            None => match servers.keys().next() {
                Some(only) if servers.len() == 1 => Ok(only.clone()),
                _ => Err(ConfigError::Name {
                    file: self.file.to_path_buf(),
                    problem: "localServerName does not say which node this is".to_owned(),
                    names: servers.keys().map(ToString::to_string).collect(),
                }),
            },
        }
    }

    fn no_such_name<'n>(
        &self,
        name: &str,
        names: impl Iterator<Item = &'n NodeName>,
    ) -> ConfigError {
        ConfigError::Name {
            file: self.file.to_path_buf(),
            problem: format!("there is no node {name:?} in the file"),
            names: names.map(ToString::to_string).collect(),
        }
    }

    fn http(
        &self,
        http: file::Http,
        warnings: &mut Vec<String>,
    ) -> Result<HttpConfig, ConfigError> {
        let tls = self.flag("http.tls", http.tls.as_ref())?;
        let client_auth = match &http.client_auth {
            None => ClientAuth::None,
            Some(text) => self.parsed("http.clientAuth", text)?,
        };
        if !tls && client_auth != ClientAuth::None {
            if client_auth == ClientAuth::Required {
                let line = http.client_auth.map(|text| text.referenced.line());
                let problem = "required works only with `tls: true`".to_owned();
                return Err(self.wrong("http.clientAuth", line, problem));
            }
            warnings.push("http.clientAuth: has no effect without `tls: true`".to_owned());
        }
        let defaults = HttpConfig::default();
        let time = |key: &str, text: &Option<Text>, default, range| {
            let key = format!("http.{key}");
            let time = self.duration(&key, text.as_ref(), default)?;
            let line = text.as_ref().map(|text| text.referenced.line());
            self.in_range(&key, line, time, range, show_duration)?;
            Ok(time)
        };
        let rate = |key: &str, text: &Option<Text>, default| {
            self.size(&format!("http.{key}"), text.as_ref(), default, &RATES)
        };
        Ok(HttpConfig {
            tls,
            client_auth,
            hosts: self.hosts(http.hosts.as_deref().unwrap_or_default())?,
            idle: time("idle", &http.idle, defaults.idle, &IDLE_TIMES)?,
            head: time("head", &http.head, defaults.head, &WAIT_TIMES)?,
            body: time("body", &http.body, defaults.body, &IDLE_TIMES)?,
            stall: time("stall", &http.stall, defaults.stall, &WAIT_TIMES)?,
            min_rate: rate("minRate", &http.min_rate, defaults.min_rate)?,
            backup_rate: rate("backupRate", &http.backup_rate, defaults.backup_rate)?,
        })
    }

    fn hosts(&self, hosts: &[Text]) -> Result<Vec<String>, ConfigError> {
        let host = |text: &Text| {
            let name = text.value.to_ascii_lowercase();
            match name.parse::<crate::pki::Host>() {
                Ok(_) => Ok(name),
                Err(_) if name == ANY_HOST => Ok(name),
                Err(_) => {
                    let problem = format!(
                        "{:?} is not a host; give a name without a port, as in kv.example.org, or \"*\" for all",
                        text.value
                    );
                    Err(self.wrong("http.hosts", Some(text.referenced.line()), problem))
                }
            }
        };
        hosts.iter().map(host).collect()
    }

    fn raft(&self, raft: &file::Raft) -> Result<RaftConfig, ConfigError> {
        let defaults = RaftConfig::default();
        let key = "raft.heartbeat";
        let heartbeat = self.duration(key, raft.heartbeat.as_ref(), defaults.heartbeat)?;
        let line = raft.heartbeat.as_ref().map(|text| text.referenced.line());
        self.in_range(key, line, heartbeat, &HEARTBEATS, show_duration)?;
        let key = "raft.electionTimeout";
        let election_timeout =
            self.duration(key, raft.election_timeout.as_ref(), defaults.election_timeout)?;
        let line = raft.election_timeout.as_ref().map(|text| text.referenced.line()).or(line);
        if election_timeout < heartbeat * 2 {
            let problem = format!(
                "{} is less than twice the heartbeat of {}; give {} or more",
                show_duration(election_timeout),
                show_duration(heartbeat),
                show_duration(heartbeat * 2)
            );
            return Err(self.wrong(key, line, problem));
        }
        let range = heartbeat * 2..=ELECTION_TIMEOUT_MAX;
        self.in_range(key, line, election_timeout, &range, show_duration)?;
        Ok(RaftConfig { heartbeat, election_timeout })
    }

    fn history(&self, history: &file::History) -> Result<HistoryConfig, ConfigError> {
        let defaults = HistoryConfig::default();
        let is_off = |text: &Text| text.value == OFF;
        let keep = match &history.keep {
            None => defaults.keep,
            Some(text) if is_off(text) => None,
            Some(text) => {
                let key = "history.keep";
                let line = Some(text.referenced.line());
                let keep = humantime::parse_duration(&text.value).map_err(|_| {
                    let problem = format!("{:?} is not a time, as in 5m, nor off", text.value);
                    self.wrong(key, line, problem)
                })?;
                self.in_range(key, line, keep, &KEEP_TIMES, show_duration)?;
                Some(keep)
            }
        };
        let revisions = match &history.revisions {
            None => defaults.revisions,
            Some(text) if is_off(text) => None,
            Some(text) => {
                let key = "history.revisions";
                let line = Some(text.referenced.line());
                let number: u64 = text.value.parse().map_err(|_| {
                    let problem =
                        format!("{:?} is not a whole number, as in 1000000, nor off", text.value);
                    self.wrong(key, line, problem)
                })?;
                self.in_range(key, line, number, &REVISIONS, |number| number.to_string())?;
                Some(number)
            }
        };
        Ok(HistoryConfig { keep, revisions })
    }

    fn limits(&self, limits: &file::Limits) -> Result<Limits, ConfigError> {
        let defaults = Limits::default();
        let number = |key: &str, text: &Option<Text>, default: u64, range| match text {
            None => Ok(default),
            Some(text) => {
                let key = format!("limits.{key}");
                let line = Some(text.referenced.line());
                let number: u64 = text.value.parse().map_err(|_| {
                    let problem =
                        format!("{:?} is not a whole number, as in {default}", text.value);
                    self.wrong(&key, line, problem)
                })?;
                self.in_range(&key, line, number, range, |number| number.to_string())?;
                Ok(number)
            }
        };
        let count = |key: &str, text: &Option<Text>, default: usize, range| {
            let default = u64::try_from(default).unwrap_or(u64::MAX);
            let count = number(key, text, default, range)?;
            Ok(usize::try_from(count).unwrap_or(usize::MAX))
        };
        let size = |key: &str, text: &Option<Text>, default, range| {
            self.size(&format!("limits.{key}"), text.as_ref(), default, range)
        };
        let value = size("value", &limits.value, defaults.value, &VALUE_SIZES)?;
        let bodies = size("bodies", &limits.bodies, defaults.bodies, &BODIES_SIZES)?;
        if bodies < value {
            let line = limits.bodies.as_ref().map(|text| text.referenced.line());
            let problem = format!(
                "{} is less than limits.value, {}: not one value would fit",
                ByteSize(bodies),
                ByteSize(value)
            );
            return Err(self.wrong("limits.bodies", line, problem));
        }
        Ok(Limits {
            value,
            connections: count(
                "connections",
                &limits.connections,
                defaults.connections,
                &CONNECTIONS,
            )?,
            connections_per_address: count(
                "connectionsPerAddress",
                &limits.connections_per_address,
                defaults.connections_per_address,
                &CONNECTIONS,
            )?,
            bodies,
            answers: size("answers", &limits.answers, defaults.answers, &BODIES_SIZES)?,
            waiters: count("waiters", &limits.waiters, defaults.waiters, &WAITERS)?,
            delete_keys: number(
                "deleteKeys",
                &limits.delete_keys,
                defaults.delete_keys,
                &DELETE_KEYS,
            )?,
            reads: count("reads", &limits.reads, defaults.reads, &READS)?,
            read_threads: count(
                "readThreads",
                &limits.read_threads,
                defaults.read_threads,
                &READ_THREADS,
            )?,
            backups: count("backups", &limits.backups, defaults.backups, &BACKUPS)?,
            backup_growth: size(
                "backupGrowth",
                &limits.backup_growth,
                defaults.backup_growth,
                &GROWTH_SIZES,
            )?,
            log_tail: size("logTail", &limits.log_tail, defaults.log_tail, &LOG_TAIL_SIZES)?,
            log_cache: size("logCache", &limits.log_cache, defaults.log_cache, &CACHE_SIZES)?,
            state_cache: size(
                "stateCache",
                &limits.state_cache,
                defaults.state_cache,
                &CACHE_SIZES,
            )?,
            overlay: size("overlay", &limits.overlay, defaults.overlay, &CACHE_SIZES)?,
            free_space: size(
                "freeSpace",
                &limits.free_space,
                defaults.free_space,
                &FREE_SPACE_SIZES,
            )?,
        })
    }

    fn size(
        &self,
        key: &str,
        text: Option<&Text>,
        default: u64,
        range: &RangeInclusive<u64>,
    ) -> Result<u64, ConfigError> {
        let Some(text) = text else { return Ok(default) };
        let line = Some(text.referenced.line());
        let size = ByteSize::from_str(&text.value).map_err(|_| {
            self.wrong(key, line, format!("{:?} is not a size, as in 1MiB", text.value))
        })?;
        self.in_range(key, line, size.0, range, |size| ByteSize(size).to_string())?;
        Ok(size.0)
    }

    fn duration(
        &self,
        key: &str,
        text: Option<&Text>,
        default: Duration,
    ) -> Result<Duration, ConfigError> {
        let Some(text) = text else { return Ok(default) };
        humantime::parse_duration(&text.value).map_err(|_| {
            let problem = format!("{:?} is not a time, as in 50ms or 2s", text.value);
            self.wrong(key, Some(text.referenced.line()), problem)
        })
    }

    fn flag(&self, key: &str, text: Option<&Text>) -> Result<bool, ConfigError> {
        let Some(text) = text else { return Ok(false) };
        match text.value.as_str() {
            "true" => Ok(true),
            "false" => Ok(false),
            other => Err(self.wrong(
                key,
                Some(text.referenced.line()),
                format!("{other:?} is neither true nor false"),
            )),
        }
    }

    fn path(&self, key: &str, text: Option<&Text>, default: &str) -> Result<PathBuf, ConfigError> {
        let path = text.map_or(default, |text| text.value.as_str());
        if path.is_empty() {
            let line = text.map(|text| text.referenced.line());
            return Err(self.wrong(
                key,
                line,
                format!("the path is empty; {default} is the default"),
            ));
        }
        let folder = self.file.parent().unwrap_or(Path::new(""));
        Ok(folder.join(path))
    }

    fn parsed<T: FromStr<Err: ToString>>(&self, key: &str, text: &Text) -> Result<T, ConfigError> {
        text.value.parse().map_err(|error: T::Err| {
            self.wrong(key, Some(text.referenced.line()), error.to_string())
        })
    }

    fn parsed_default<T: FromStr<Err: ToString>>(
        &self,
        key: &str,
        text: &str,
    ) -> Result<T, ConfigError> {
        text.parse().map_err(|error: T::Err| self.wrong(key, None, error.to_string()))
    }

    fn in_range<T: Copy + PartialOrd>(
        &self,
        key: &str,
        line: Option<u64>,
        value: T,
        range: &RangeInclusive<T>,
        show: impl Fn(T) -> String,
    ) -> Result<(), ConfigError> {
        if range.contains(&value) {
            return Ok(());
        }
        let problem = format!(
            "{} is out of range; give {} to {}",
            show(value),
            show(*range.start()),
            show(*range.end())
        );
        Err(self.wrong(key, line, problem))
    }

    fn wrong(&self, key: &str, line: Option<u64>, problem: String) -> ConfigError {
        ConfigError::Value { file: self.file.to_path_buf(), line, key: key.to_owned(), problem }
    }
}

/// Nodes that cannot reach each other: a socket at an IPv4 address sends nothing to IPv6 ones, nor the other way round.
fn families(servers: &BTreeMap<NodeName, HostPort>) -> Option<String> {
    let of = |v4: bool| {
        servers.iter().find(|(_, address)| match address.host() {
            Host::Ip(ip) => ip.is_ipv4() == v4,
            Host::Name(_) => false,
        })
    };
    let ((four, v4), (six, v6)) = of(true).zip(of(false))?;
    Some(format!(
        "servers: {four} has the IPv4 address {v4} and {six} the IPv6 address {v6}, and neither reaches the other: give \
         all of one kind, or start each node with --listen '[::]:PORT', which speaks both"
    ))
}

pub(super) fn show_duration(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
}
