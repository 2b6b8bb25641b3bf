//! What the commands that talk to a cluster share: how to reach it, how to print, how they fail.

use std::ffi::OsString;
use std::ops::RangeInclusive;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use clap::ValueEnum;

pub(crate) use super::output::print;
use super::output::say;
use super::profile::Profile;
use super::{CliError, Exit};
use crate::client::{Client, Error, Fingerprint, Options, TlsFiles};

/// How many characters of a value a table shows.
const VALUE_CHARS_MAX: usize = 60;

/// Where a cluster is looked for that nothing names: where `konsen dev` serves.
const DEFAULT_ENDPOINT: &str = "http://127.0.0.1:20001";

/// How to reach a cluster. What is not given comes from the profile.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Connection")]
pub struct Connection {
    /// Where the nodes serve HTTP, separated by commas; the next one is tried when one is down. If not given those of the
    /// profile, or without one http://127.0.0.1:20001.
    #[arg(long, env = "KONSEN_ENDPOINTS", value_delimiter = ',', value_name = "URL,…")]
    pub endpoints: Vec<String>,
    /// The cluster's profile, as `konsen cluster build` wrote it, by its name or its file; if neither this nor --endpoints
    /// is given, the one that was written last.
    #[arg(long, env = "KONSEN_PROFILE", value_name = "NAME")]
    pub profile: Option<String>,
    /// Certificates of the authorities that the servers' certificates come from (PEM).
    #[arg(long, env = "KONSEN_CACERT", value_name = "FILE")]
    pub cacert: Option<PathBuf>,
    /// SHA-256 of the only certificate that is trusted, the authority's or the server's, as `konsen cluster build` prints it.
    #[arg(long, env = "KONSEN_FINGERPRINT", value_name = "SHA256")]
    pub fingerprint: Option<Fingerprint>,
    /// This client's certificate (PEM).
    #[arg(long, env = "KONSEN_CERT", value_name = "FILE")]
    pub cert: Option<PathBuf>,
    /// The private key of --cert (PEM).
    #[arg(long, env = "KONSEN_KEY", value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// A file with a bearer token, which only its owner can read.
    #[arg(long, env = "KONSEN_TOKEN", hide_env_values = true, value_name = "FILE")]
    pub token: Option<PathBuf>,
    /// How long an answer may take, over all endpoints together.
    #[arg(long, env = "KONSEN_TIMEOUT", value_name = "TIME", default_value = "5s",
          value_parser = time_of)]
    pub timeout: Duration,
}

impl Connection {
    /// To these endpoints, without certificates and without a profile.
    pub fn to(endpoints: Vec<String>, timeout: Duration) -> Connection {
        Connection {
            endpoints,
            profile: None,
            cacert: None,
            fingerprint: None,
            cert: None,
            key: None,
            token: None,
            timeout,
        }
    }

    /// The same with what the profile and the defaults add to it; nothing is missing then.
    pub fn resolved(self) -> Result<Connection, CliError> {
        let profile = match self.profile.as_deref().filter(|name| !name.is_empty()) {
            Some(name) => Some(Profile::named(name)?),
            None if self.endpoints.is_empty() => Profile::default_one()?,
            None => None,
        };
        let mut whole = self;
        if let Some(profile) = profile {
            whole = profile.complete(whole);
        }
        if whole.endpoints.is_empty() {
            whole.endpoints = vec![DEFAULT_ENDPOINT.to_owned()];
        }
        // What it had to add is here now.
        Ok(Connection { profile: None, ..whole })
    }

    /// What a client of the library is made with.
    pub fn options(&self) -> Result<Options, CliError> {
        let whole = self.clone().resolved()?;
        let tls = TlsFiles {
            ca: whole.cacert,
            fingerprint: whole.fingerprint,
            cert: whole.cert,
            key: whole.key,
        };
        Ok(Options { endpoints: whole.endpoints, tls, token: whole.token, timeout: whole.timeout })
    }

    /// A client for the cluster.
    pub fn client(self) -> Result<Client, CliError> {
        Ok(Client::new(&self.options()?)?.with_notice(|what| say(&format!("{what}\n"))))
    }
}

/// A time with its unit, as every command takes it.
fn time_of(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|_| "write it as 500ms, 2s or 1m".to_owned())
}

/// Takes a time with its unit, of those that make sense.
pub(crate) fn time_within(
    range: RangeInclusive<Duration>,
) -> impl Fn(&str) -> Result<Duration, String> + Clone + Send + Sync + 'static {
    move |text| {
        let time = time_of(text)?;
        let told = |time: &Duration| humantime::format_duration(*time).to_string();
        match range.contains(&time) {
            true => Ok(time),
            false => Err(format!("it is from {} to {}", told(range.start()), told(range.end()))),
        }
    }
}

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Table,
    /// One JSON object a line.
    Json,
    /// The bytes alone.
    Raw,
}

impl From<Error> for CliError {
    fn from(error: Error) -> CliError {
        let message = error.to_string();
        match error {
            Error::Usage(_) => CliError::new(Exit::Usage, message),
            Error::NoSuchKey { .. } => CliError::new(Exit::NoSuchKey, message),
            Error::ConditionFailed { .. } | Error::Conflict { .. } => {
                CliError::new(Exit::ConditionFailed, message)
            }
            Error::Refused(_) | Error::NoSuchMember(_) | Error::Compacted(_) | Error::Failed(_) => {
                CliError::new(Exit::Failed, message)
            }
            Error::SeveralClusters(_) => CliError::new(Exit::Failed, message)
                .hint("name nodes of one cluster with --endpoints; nothing was changed"),
            Error::Outside(_) => CliError::new(Exit::Unavailable, message)
                .hint("name nodes that belong to the cluster with --endpoints or KONSEN_ENDPOINTS"),
            Error::NotAllowed(_) => CliError::new(Exit::NotAllowed, message).hint(
                "--token, or --cert and --key, say who asks; `konsen auth whoami` shows whom the cluster takes you for",
            ),
            Error::Exposed { file, .. } => CliError::new(Exit::NotAllowed, message)
                .hint(format!("chmod 600 {}", file.display())),
            Error::Tls(_) => CliError::new(Exit::NotAllowed, message).hint(
                "https needs --cacert or --fingerprint, and a cluster that asks for certificates --cert and --key; a \
                 profile (--profile) has them all",
            ),
            Error::WrongScheme { is_tls: true, .. } => CliError::new(Exit::NotAllowed, message)
                .hint("write it as http://…, or let its nodes speak TLS (`http: { tls: true }`)"),
            Error::WrongScheme { is_tls: false, .. } => CliError::new(Exit::NotAllowed, message)
                .hint("write it as https://…, and name the cluster's authority with --cacert or --fingerprint"),
            Error::Unavailable(_) => CliError::new(Exit::Unavailable, message)
                .hint("are the nodes up? name them with --endpoints or KONSEN_ENDPOINTS"),
            Error::Busy(_) => CliError::new(Exit::Unavailable, message)
                .hint("nothing was changed; try again, or name other nodes with --endpoints"),
            Error::NoLeader(_) => CliError::new(Exit::Unavailable, message)
                .hint("nothing was changed; `konsen status` shows which nodes are there"),
            Error::Unknown(_) => CliError::new(Exit::OutcomeUnknown, message)
                .hint("the write may have happened; read before you repeat it"),
        }
    }
}

/// The bytes of an argument.
pub fn bytes_of(argument: OsString) -> Bytes {
    argument.into_vec().into()
}

/// Bytes for a table: text as it is, the rest escaped, on one line.
pub fn printable(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.chars().any(char::is_control) => text.to_owned(),
        Ok(text) => text.chars().flat_map(escape).collect(),
        Err(_) => bytes.escape_ascii().to_string(),
    }
}

/// A text for a table, cut where it is long.
pub fn shortened(text: &str) -> String {
    match text.char_indices().nth(VALUE_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

fn escape(character: char) -> Vec<char> {
    if character.is_control() { character.escape_default().collect() } else { vec![character] }
}

/// The rows in columns, the first row being the heading.
pub fn columns(rows: &[Vec<String>]) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..count).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(cell);
            // Two blanks between columns.
            let padding = width + 2 - cell.chars().count();
            line.extend(std::iter::repeat_n(' ', padding));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Writes a line of JSON to stdout.
pub fn print_json<T: serde::Serialize>(value: &T) -> Result<(), CliError> {
    // Serializing plain data into memory cannot fail.
    let mut line = serde_json::to_vec(value).unwrap_or_default();
    line.push(b'\n');
    print(&line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_keep_lines_and_columns() {
        assert_eq!(printable(b"a\nb\xc3\xbc"), "a\\nbü");
        assert_eq!(printable(b"\xff\0"), "\\xff\\x00");
        let rows =
            [vec!["KEY".to_owned(), "V".to_owned()], vec!["longer".to_owned(), "1".to_owned()]];
        assert_eq!(columns(&rows), "KEY     V\nlonger  1\n");
    }

    #[test]
    fn every_error_has_its_exit_code() {
        let code = |error: Error| CliError::from(error).exit();
        assert_eq!(code(Error::Usage(String::new())) as u8, 2);
        assert_eq!(code(Error::NoSuchKey { revision: None }) as u8, 3);
        assert_eq!(code(Error::ConditionFailed { current: None }) as u8, 4);
        assert_eq!(code(Error::Unavailable(String::new())) as u8, 5);
        assert_eq!(code(Error::NoLeader(String::new())) as u8, 5);
        assert_eq!(code(Error::Busy(String::new())) as u8, 5);
        assert_eq!(code(Error::Unknown(String::new())) as u8, 6);
        assert_eq!(code(Error::Tls(String::new())) as u8, 7);
        assert_eq!(code(Error::NotAllowed(String::new())) as u8, 7);
        assert_eq!(code(Error::Refused(String::new())) as u8, 1);
    }

    #[test]
    fn only_where_no_node_answered_it_is_asked_whether_they_are_up() {
        let asks = |error: Error| CliError::from(error).to_string().contains("are the nodes up?");
        assert!(asks(Error::Unavailable(String::new())));
        assert!(!asks(Error::Busy(String::new())) && !asks(Error::NoLeader(String::new())));
    }

    #[test]
    fn the_commands_can_be_parsed() {
        use clap::{Args as _, Command};

        let put = super::super::put::Args::augment_args(Command::new("put"));
        let parsed =
            put.try_get_matches_from(["put", "k", "-", "--key", "f", "--if-none-match", "*"]);
        assert!(parsed.is_ok(), "{parsed:?}");
        let get = super::super::get::Args::augment_args(Command::new("get"));
        assert!(get.clone().try_get_matches_from(["get", "k", "-o", "json"]).is_ok());
        assert!(get.try_get_matches_from(["get"]).is_err());
        let delete = super::super::delete::Args::augment_args(Command::new("delete"));
        assert!(delete.clone().try_get_matches_from(["delete", "k"]).is_ok());
        assert!(delete.clone().try_get_matches_from(["delete", "--prefix", "p"]).is_ok());
        assert!(delete.clone().try_get_matches_from(["delete"]).is_err());
        assert!(delete.try_get_matches_from(["delete", "k", "--prefix", "p"]).is_err());
        let list = super::super::list::Args::augment_args(Command::new("list"));
        assert!(list.clone().try_get_matches_from(["list", "--limit", "3"]).is_ok());
        assert!(list.try_get_matches_from(["list", "--limit", "0"]).is_err());
        let compact = super::super::compact::Args::augment_args(Command::new("compact"));
        assert!(compact.clone().try_get_matches_from(["compact", "7", "-o", "raw"]).is_ok());
        assert!(compact.clone().try_get_matches_from(["compact"]).is_err());
        assert!(compact.try_get_matches_from(["compact", "0"]).is_err());
        let status = super::super::status::Args::augment_args(Command::new("status"));
        assert!(status.try_get_matches_from(["status"]).is_ok());
    }
}
