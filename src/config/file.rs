//! cluster.yml as it is written: every key as its text, with the line it stands on.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde::de::value::MapAccessDeserializer;
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
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
    pub(super) features: Option<Features>,
    pub(super) audit: Option<Audit>,
    pub(super) limits: Option<Limits>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Tls {
    pub(super) ca: Option<Text>,
    pub(super) cert: Option<Text>,
    pub(super) key: Option<Text>,
    pub(super) authority_key: Option<Text>,
    pub(super) days: Option<Text>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Http {
    pub(super) tls: Option<Spanned<HttpTls>>,
    pub(super) client_auth: Option<Text>,
    pub(super) hosts: Option<Vec<Text>>,
    pub(super) idle: Option<Text>,
    pub(super) head: Option<Text>,
    pub(super) body: Option<Text>,
    pub(super) stall: Option<Text>,
    pub(super) min_rate: Option<Text>,
    pub(super) backup_rate: Option<Text>,
}

/// Whether there is HTTPS: a word, or the files of one that is not the node's own.
#[derive(Debug)]
pub(super) enum HttpTls {
    Word(String),
    Files(Box<HttpsFiles>),
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct HttpsFiles {
    pub(super) cert: Option<Text>,
    pub(super) key: Option<Text>,
    pub(super) client_authority: Option<Text>,
}

/// Not by an untagged enum, which would lose the places of what stands in the files' names.
impl<'de> Deserialize<'de> for HttpTls {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<HttpTls, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = HttpTls;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true, false, or the keys cert, key and clientAuthority")
            }

            fn visit_bool<E: de::Error>(self, word: bool) -> Result<HttpTls, E> {
                Ok(HttpTls::Word(word.to_string()))
            }

            fn visit_str<E: de::Error>(self, word: &str) -> Result<HttpTls, E> {
                Ok(HttpTls::Word(word.to_owned()))
            }

            fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<HttpTls, M::Error> {
                HttpsFiles::deserialize(MapAccessDeserializer::new(map))
                    .map(|files| HttpTls::Files(Box::new(files)))
            }
        }

        deserializer.deserialize_any(Either)
    }
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
#[serde(deny_unknown_fields)]
pub(super) struct Features {
    pub(super) hold: Option<Text>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Audit {
    pub(super) on: Option<Text>,
    pub(super) reads: Option<Text>,
    pub(super) file: Option<Text>,
    pub(super) keep: Option<Text>,
    pub(super) queue: Option<Text>,
    pub(super) anchor: Option<Text>,
    pub(super) on_failure: Option<Text>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Limits {
    pub(super) value: Option<Text>,
    pub(super) connections: Option<Text>,
    pub(super) connections_per_address: Option<Text>,
    pub(super) requests: Option<Text>,
    pub(super) user_rate: Option<Text>,
    pub(super) bodies: Option<Text>,
    pub(super) answers: Option<Text>,
    pub(super) waiters: Option<Text>,
    pub(super) delete_keys: Option<Text>,
    pub(super) txn_operations: Option<Text>,
    pub(super) list_rows: Option<Text>,
    pub(super) reads: Option<Text>,
    pub(super) read_threads: Option<Text>,
    pub(super) backups: Option<Text>,
    pub(super) backup_growth: Option<Text>,
    pub(super) log_tail: Option<Text>,
    pub(super) wal: Option<Text>,
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
    // Else `yes` would be another word for true in the one key that may also be a mapping.
    let strict = serde_saphyr::options! { strict_booleans: true };
    serde_saphyr::from_str_with_options(text, strict).map_err(|error| {
        let error = error.without_snippet();
        let line = error.location().map(|location| location.line()).filter(|line| *line > 0);
        let there = line.and_then(|line| text.lines().nth(usize::try_from(line).ok()? - 1));
        let problem = problem(error, there.unwrap_or_default());
        ConfigError::Syntax { file: file.to_path_buf(), line, problem }
    })
}

/// What is wrong with the line where reading ended, in words that need no knowledge of YAML.
fn problem(error: &serde_saphyr::Error, line: &str) -> String {
    use serde_saphyr::Error;
    const QUOTE: &str = "a value that begins with [, {, *, &, !, |, >, %, @ or ` needs quotes, as in \"[::1]:10001\"";
    let key = line.split_once(':').map_or("", |(key, _)| key.trim());
    let known = !key.is_empty()
        && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_~".contains(&byte));
    let key = if known { format!("{key}: ") } else { String::new() };
    match error {
        Error::DuplicateMappingKey { key, .. } => {
            format!("{} stands here twice; remove one", key.as_deref().unwrap_or("a key"))
        }
        Error::NullIntoString { .. } if matches!(key.as_str(), "null: " | "~: ") => {
            format!("{key}that means nothing at all in YAML; a name that looks so needs quotes")
        }
        Error::NullIntoString { .. } => {
            "a key has no value; give one, or remove the key".to_owned()
        }
        Error::UnknownAnchor { .. } => format!("{key}* stands for another value in YAML; {QUOTE}"),
        Error::Unexpected { expected: "string scalar", .. } => {
            format!("{key}one value has to stand here, no list and no keys; {QUOTE}")
        }
        Error::Unexpected { expected: "mapping start", .. } => {
            format!(
                "{key}keys have to stand here, each with its value, as in `node1: 192.168.1.10:10001`"
            )
        }
        Error::MultipleDocuments { .. } => {
            "a second document begins here; a configuration is one, without `---` in it".to_owned()
        }
        other => {
            // The place is said once, in front.
            let text = other.to_string();
            let first = text.lines().next().unwrap_or("cannot be read");
            let first = first.split_once(" at line ").map_or(first, |(before, _)| before);
            match first {
                "unexpected character: `%'" => format!("{key}{first}; {QUOTE}"),
                first => first.to_owned(),
            }
        }
    }
}
