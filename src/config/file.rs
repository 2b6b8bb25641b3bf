//! cluster.yml as it is written: every key as its text, with the line it stands on.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde_saphyr::Spanned;

use super::ConfigError;

/// A value and its place.
pub(super) type Text = Spanned<String>;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct File {
    pub(super) servers: Option<BTreeMap<String, Text>>,
    pub(super) http_servers: Option<BTreeMap<String, Text>>,
    pub(super) local_server_name: Option<Text>,
    pub(super) cluster: Option<Text>,
    pub(super) join: Option<Text>,
    pub(super) data: Option<Text>,
    pub(super) tls: Option<Tls>,
    pub(super) http: Option<Http>,
    pub(super) raft: Option<Raft>,
    pub(super) reads: Option<Reads>,
    pub(super) history: Option<History>,
    pub(super) limits: Option<Limits>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Tls {
    pub(super) ca: Option<Text>,
    pub(super) cert: Option<Text>,
    pub(super) key: Option<Text>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Http {
    pub(super) tls: Option<Text>,
    pub(super) client_auth: Option<Text>,
    pub(super) hosts: Option<Vec<Text>>,
    pub(super) idle: Option<Text>,
    pub(super) head: Option<Text>,
    pub(super) body: Option<Text>,
    pub(super) stall: Option<Text>,
    pub(super) min_rate: Option<Text>,
    pub(super) backup_rate: Option<Text>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Raft {
    pub(super) heartbeat: Option<Text>,
    pub(super) election_timeout: Option<Text>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Reads {
    pub(super) lease: Option<Text>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct History {
    pub(super) keep: Option<Text>,
    pub(super) revisions: Option<Text>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Limits {
    pub(super) value: Option<Text>,
    pub(super) connections: Option<Text>,
    pub(super) connections_per_address: Option<Text>,
    pub(super) bodies: Option<Text>,
    pub(super) answers: Option<Text>,
    pub(super) waiters: Option<Text>,
    pub(super) delete_keys: Option<Text>,
    pub(super) reads: Option<Text>,
    pub(super) read_threads: Option<Text>,
    pub(super) backups: Option<Text>,
    pub(super) backup_growth: Option<Text>,
    pub(super) log_tail: Option<Text>,
    pub(super) log_cache: Option<Text>,
    pub(super) state_cache: Option<Text>,
    pub(super) overlay: Option<Text>,
    pub(super) free_space: Option<Text>,
}

/// Reads the text of `file`.
pub(super) fn parse(file: &Path, text: &str) -> Result<File, ConfigError> {
    let blank = |line: &str| {
        let line = line.trim();
        line.is_empty() || line.starts_with('#') || line == "---" || line == "..."
    };
    if text.lines().all(blank) {
        return Err(ConfigError::Empty { file: file.to_path_buf() });
    }
    serde_saphyr::from_str(text).map_err(|error| {
        let error = error.without_snippet();
        let location = error.location().filter(|location| location.line() > 0);
        let problem = match error {
            serde_saphyr::Error::DuplicateMappingKey { key, .. } => {
                format!("{} stands here twice; remove one", key.as_deref().unwrap_or("a key"))
            }
            serde_saphyr::Error::NullIntoString { .. } => {
                "a key has no value; give one, or remove the key".to_owned()
            }
            other => {
                // The place is said once, in front.
                let text = other.to_string();
                let first = text.lines().next().unwrap_or("cannot be read");
                first.split_once(" at line ").map_or(first, |(before, _)| before).to_owned()
            }
        };
        ConfigError::Syntax {
            file: file.to_path_buf(),
            line: location.map(|location| location.line()),
            problem,
        }
    })
}
