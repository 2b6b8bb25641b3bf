//! From what is written to what it means.

mod audit;
mod http;
mod limits;
mod nodes;
mod values;

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use nodes::families;

use super::file::{self, File, Text};
use super::{
    AUTHORITY_KEY, Config, ConfigError, FeaturesConfig, HistoryConfig, HostPort, NodeName, Own,
    RaftConfig, ReadsConfig, Says, TlsFiles,
};
use crate::kv::FeatureLevel;
use crate::pki::DAYS_MAX;

const GIB: u64 = 1 << 30;
const HEARTBEATS: RangeInclusive<Duration> = Duration::from_millis(5)..=Duration::from_secs(10);
const ELECTION_TIMEOUT_MAX: Duration = Duration::from_secs(60);
const KEEP_TIMES: RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(30 * 24 * 3600);
const DAYS: RangeInclusive<u64> = 1..=DAYS_MAX as u64;
const REVISIONS: RangeInclusive<u64> = 1..=1_000_000_000_000;

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
        let file_http = file.http.unwrap_or_default();
        let says =
            Says { tls: file_http.tls.is_some(), client_auth: file_http.client_auth.is_some() };
        let http = self.http(file_http, &own.http, &mut warnings)?;
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
                authority_key: tls
                    .authority_key
                    .as_ref()
                    .map(|text| self.path("tls.authorityKey", Some(text), AUTHORITY_KEY))
                    .transpose()?,
                days: self.days(tls.days.as_ref())?,
            },
            http,
            raft: self.raft(&file.raft.unwrap_or_default())?,
            reads: ReadsConfig {
                lease: self.flag("reads.lease", file.reads.unwrap_or_default().lease.as_ref())?,
            },
            history: self.history(&file.history.unwrap_or_default())?,
            features: self.features(&file.features.unwrap_or_default())?,
            audit: self.audit(&file.audit.unwrap_or_default())?,
            limits: self.limits(&file.limits.unwrap_or_default())?,
            warnings,
            obstacles,
            own,
            says,
        })
    }

    fn days(&self, text: Option<&Text>) -> Result<u32, ConfigError> {
        let days = self.number("tls.days", text, TlsFiles::DAYS.into(), &DAYS)?;
        // It is in the range.
        Ok(u32::try_from(days).unwrap_or(TlsFiles::DAYS))
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
        let revisions = self.number_or_off(
            "history.revisions",
            history.revisions.as_ref(),
            defaults.revisions,
            &REVISIONS,
        )?;
        Ok(HistoryConfig { keep, revisions })
    }

    /// A number, or none where it is off.
    fn number_or_off(
        &self,
        key: &str,
        text: Option<&Text>,
        default: Option<u64>,
        range: &RangeInclusive<u64>,
    ) -> Result<Option<u64>, ConfigError> {
        match text {
            None => Ok(default),
            Some(text) if text.value == OFF => Ok(None),
            Some(text) => {
                let line = Some(text.referenced.line());
                let number: u64 = text.value.parse().map_err(|_| {
                    let problem =
                        format!("{:?} is not a whole number, as in 1000000, nor off", text.value);
                    self.wrong(key, line, problem)
                })?;
                self.in_range(key, line, number, range, |number| number.to_string())?;
                Ok(Some(number))
            }
        }
    }

    fn features(&self, features: &file::Features) -> Result<FeaturesConfig, ConfigError> {
        let Some(text) = features.hold.as_ref().filter(|text| text.value != OFF) else {
            return Ok(FeaturesConfig::default());
        };
        let (key, line) = ("features.hold", Some(text.referenced.line()));
        let level: u32 = text.value.parse().map_err(|_| {
            let problem = format!("{:?} is not a feature level, as in 1, nor off", text.value);
            self.wrong(key, line, problem)
        })?;
        let range = FeatureLevel::BASE.0..=FeatureLevel::HIGHEST.0;
        if !range.contains(&level) {
            let (least, most) = (range.start(), range.end());
            let problem = format!(
                "this release knows the feature levels {least} to {most}, not {level}; give one of them, or off"
            );
            return Err(self.wrong(key, line, problem));
        }
        Ok(FeaturesConfig { hold: Some(FeatureLevel(level)) })
    }
}

pub(super) fn show_duration(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
}
