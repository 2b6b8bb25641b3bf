//! `konsen put`: sets a key.

use std::ffi::OsString;

use bytes::Bytes;
use serde::Serialize;

use super::remote::{Connection, Format, bytes_of, print, print_json};
use super::{CliError, stdin};
use crate::client::Preconditions;
use crate::kv::Revision;

/// The largest value that is read from stdin, in bytes; servers allow less.
const STDIN_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Set a key
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  konsen put greeting hello
  konsen put config/app --content-type application/json < app.json
  konsen put lock me --if-absent
  konsen put greeting hi --if-match 7")]
pub struct Args {
    /// The key.
    #[arg(id = "key_name", value_name = "KEY")]
    pub key: OsString,
    /// The value; without it, or as -, it is read from stdin.
    pub value: Option<OsString>,
    /// Only if the key's revision is this one.
    #[arg(long, value_name = "REVISION", conflicts_with_all = ["if_absent", "if_none_match"])]
    pub if_match: Option<u64>,
    /// Only if the key does not exist.
    #[arg(long)]
    pub if_absent: bool,
    /// The same as --if-absent; only * is possible.
    #[arg(long, value_name = "*", value_parser = ["*"])]
    pub if_none_match: Option<String>,
    /// The media type to give back with the value.
    #[arg(long, value_name = "TYPE")]
    pub content_type: Option<String>,
    /// How to print what happened.
    #[arg(short, long, value_enum, default_value = "table")]
    pub output: Format,
    #[allow(missing_docs)]
    #[command(flatten)]
    pub connection: Connection,
}

#[derive(Serialize)]
struct Done {
    revision: Revision,
    created: bool,
}

/// Runs the command.
pub async fn run(args: Args) -> Result<(), CliError> {
    let client = args.connection.client()?;
    let value = match args.value {
        Some(value) if value != "-" => bytes_of(value),
        value => from_stdin(value.is_some())?,
    };
    let preconditions = Preconditions {
        if_match: args.if_match.map(Revision),
        if_absent: args.if_absent || args.if_none_match.is_some(),
    };
    let key = bytes_of(args.key);
    let written = client.put(&key, &value, args.content_type.as_deref(), preconditions).await?;
    let word = if written.created { "created" } else { "replaced" };
    let printed = match args.output {
        Format::Table => print(format!("{word}, revision {}\n", written.revision).as_bytes()),
        Format::Raw => print(format!("{}\n", written.revision).as_bytes()),
        Format::Json => print_json(&Done { revision: written.revision, created: written.created }),
    };
    printed.map_err(|error| {
        error.although(&format!("the key was {word}, revision {}", written.revision))
    })
}

/// The value on standard input; `asked` if - names it.
fn from_stdin(asked: bool) -> Result<Bytes, CliError> {
    if stdin::is_nothing(asked) {
        return Err(CliError::usage("standard input is closed, or /dev/null, and gives no value")
            .hint("give the value as an argument, '' for an empty one, or as - from /dev/null"));
    }
    stdin::read("the value", STDIN_BYTES_MAX)
}
