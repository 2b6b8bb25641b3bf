//! A configuration back as YAML, every default spelled out.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use bytesize::ByteSize;

use super::check::{OFF, show_duration};
use super::{Config, HostPort, HttpsFiles, NodeName, TlsFiles};

/// Where the folder of a node has the authority's key that signs for the others.
pub const AUTHORITY_KEY: &str = "certs/ca.key";

impl Config {
    /// The whole configuration as YAML that means the same wherever it is read: paths are absolute.
    pub fn to_yaml(&self) -> String {
        // Without a current folder the path stays as it is.
        let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let tls = TlsFiles {
            ca: absolute(&self.tls.ca),
            cert: absolute(&self.tls.cert),
            key: absolute(&self.tls.key),
            authority_key: self.tls.authority_key.as_deref().map(absolute),
            days: self.tls.days,
        };
        let https = self.https_files_as(absolute);
        self.yaml(&self.name, &absolute(&self.data), &tls, &https)
    }

    /// The configuration for the folder of `node`, with data and certificates beside the file.
    pub fn to_yaml_for(&self, node: &NodeName) -> String {
        let tls = TlsFiles {
            ca: "certs/ca.crt".into(),
            cert: "certs/node.crt".into(),
            key: "certs/node.key".into(),
            authority_key: self.tls.authority_key.as_ref().map(|_| AUTHORITY_KEY.into()),
            days: self.tls.days,
        };
        let https = self.https_files_as(|path| self.beside(path));
        self.yaml(node, Path::new("data"), &tls, &https)
    }

    fn https_files_as(&self, shown: impl Fn(&Path) -> PathBuf) -> HttpsFiles {
        let shown = |file: &Option<PathBuf>| file.as_deref().map(&shown);
        let HttpsFiles { cert, key, client_authority } = &self.http.files;
        HttpsFiles { cert: shown(cert), key: shown(key), client_authority: shown(client_authority) }
    }

    fn yaml(&self, name: &NodeName, data: &Path, tls: &TlsFiles, https: &HttpsFiles) -> String {
        let mut out = String::new();
        // Writing to a String cannot fail.
        let _ = self.write_yaml(&mut out, name, data, tls, https);
        out
    }

    fn write_yaml(
        &self,
        out: &mut String,
        name: &NodeName,
        data: &Path,
        tls: &TlsFiles,
        https: &HttpsFiles,
    ) -> std::fmt::Result {
        let addresses = |out: &mut String, key, map: &std::collections::BTreeMap<_, HostPort>| {
            writeln!(out, "{key}:")?;
            map.iter().try_for_each(|(name, address): (&NodeName, _)| {
                writeln!(out, "  {}: {}", quoted(name), quoted(address))
            })
        };
        addresses(out, "servers", &self.servers)?;
        addresses(out, "httpServers", &self.http_servers)?;
        writeln!(out, "localServerName: {}", quoted(name))?;
        writeln!(out, "cluster: {}", quoted(&self.cluster))?;
        writeln!(out, "join: {}", self.join)?;
        writeln!(out, "data: {}", quoted(data.display()))?;
        writeln!(out, "tls:")?;
        writeln!(out, "  ca: {}", quoted(tls.ca.display()))?;
        writeln!(out, "  cert: {}", quoted(tls.cert.display()))?;
        writeln!(out, "  key: {}", quoted(tls.key.display()))?;
        if let Some(key) = &tls.authority_key {
            writeln!(out, "  authorityKey: {}", quoted(key.display()))?;
        }
        writeln!(out, "  days: {}", tls.days)?;
        writeln!(out, "http:")?;
        self.write_http_tls(out, https)?;
        writeln!(out, "  clientAuth: {}", self.http.client_auth)?;
        let hosts: Vec<String> = self.http.hosts.iter().map(quoted).collect();
        writeln!(out, "  hosts: [{}]", hosts.join(", "))?;
        writeln!(out, "  idle: {}", show_duration(self.http.idle))?;
        writeln!(out, "  head: {}", show_duration(self.http.head))?;
        writeln!(out, "  body: {}", show_duration(self.http.body))?;
        writeln!(out, "  stall: {}", show_duration(self.http.stall))?;
        writeln!(out, "  minRate: {}", size(self.http.min_rate))?;
        writeln!(out, "  backupRate: {}", size(self.http.backup_rate))?;
        writeln!(out, "raft:")?;
        writeln!(out, "  heartbeat: {}", show_duration(self.raft.heartbeat))?;
        writeln!(out, "  electionTimeout: {}", show_duration(self.raft.election_timeout))?;
        writeln!(out, "reads:")?;
        writeln!(out, "  lease: {}", self.reads.lease)?;
        let off = || OFF.to_owned();
        let keep = self.history.keep.map_or_else(off, show_duration);
        let revisions = self.history.revisions.map_or_else(off, |number| number.to_string());
        writeln!(out, "history:")?;
        writeln!(out, "  keep: {keep}")?;
        writeln!(out, "  revisions: {revisions}")?;
        let hold = self.features.hold.map_or_else(off, |level| level.to_string());
        writeln!(out, "features:")?;
        writeln!(out, "  hold: {hold}")?;
        self.audit.write_yaml(out)?;
        writeln!(out, "limits:")?;
        writeln!(out, "  value: {}", size(self.limits.value))?;
        writeln!(out, "  connections: {}", self.limits.connections)?;
        writeln!(out, "  connectionsPerAddress: {}", self.limits.connections_per_address)?;
        writeln!(out, "  requests: {}", self.limits.requests)?;
        let rate = self.limits.user_rate.map_or_else(off, |rate| rate.to_string());
        writeln!(out, "  userRate: {rate}")?;
        writeln!(out, "  bodies: {}", size(self.limits.bodies))?;
        writeln!(out, "  answers: {}", size(self.limits.answers))?;
        writeln!(out, "  waiters: {}", self.limits.waiters)?;
        writeln!(out, "  deleteKeys: {}", self.limits.delete_keys)?;
        writeln!(out, "  txnOperations: {}", self.limits.txn_operations)?;
        writeln!(out, "  listRows: {}", self.limits.list_rows)?;
        writeln!(out, "  reads: {}", self.limits.reads)?;
        writeln!(out, "  readThreads: {}", self.limits.read_threads)?;
        writeln!(out, "  backups: {}", self.limits.backups)?;
        writeln!(out, "  backupGrowth: {}", size(self.limits.backup_growth))?;
        writeln!(out, "  logTail: {}", size(self.limits.log_tail))?;
        writeln!(out, "  wal: {}", size(self.limits.wal))?;
        writeln!(out, "  logCache: {}", size(self.limits.log_cache))?;
        writeln!(out, "  stateCache: {}", size(self.limits.state_cache))?;
        writeln!(out, "  overlay: {}", size(self.limits.overlay))?;
        writeln!(out, "  freeSpace: {}", size(self.limits.free_space))
    }
}

impl Config {
    /// A word, or the files where there are own ones.
    fn write_http_tls(&self, out: &mut String, files: &HttpsFiles) -> std::fmt::Result {
        if !self.http.tls || *files == HttpsFiles::default() {
            return writeln!(out, "  tls: {}", self.http.tls);
        }
        writeln!(out, "  tls:")?;
        let HttpsFiles { cert, key, client_authority } = files;
        [("cert", cert), ("key", key), ("clientAuthority", client_authority)]
            .into_iter()
            .filter_map(|(name, file)| Some((name, file.as_ref()?)))
            .try_for_each(|(name, file)| writeln!(out, "    {name}: {}", quoted(file.display())))
    }
}

/// A size without loss: in the largest unit that divides it.
pub(super) fn size(bytes: u64) -> String {
    for (unit, name) in [(30, "GiB"), (20, "MiB"), (10, "KiB")] {
        if bytes > 0 && bytes.trailing_zeros() >= unit {
            return format!("{}{name}", bytes >> unit);
        }
    }
    ByteSize::b(bytes).0.to_string()
}

/// Plain where YAML reads it back as the same text, else in double quotes.
fn quoted(value: impl ToString) -> String {
    let text = value.to_string();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"./_-:".contains(&byte);
    let starts_plain = text.bytes().next().is_some_and(|byte| {
        byte.is_ascii_alphabetic() || byte == b'.' || byte == b'/' || byte.is_ascii_digit()
    });
    let is_word = matches!(
        text.as_str(),
        "true" | "false" | "null" | "yes" | "no" | "on" | "off" | "y" | "n"
    );
    if text.bytes().all(plain) && starts_plain && !text.ends_with(':') && !is_word {
        text
    } else {
        // A JSON string is a YAML double-quoted scalar.
        serde_json::Value::String(text).to_string()
    }
}
