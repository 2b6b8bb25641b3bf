//! `konsen delete`: deletes a key, or every key of a range.

use std::ffi::OsString;

use serde::Serialize;

use super::CliError;
use super::remote::{Connection, Format, bytes_of, print, print_json};
use crate::client::{DeleteRequest, Preconditions};
use crate::kv::Revision;

/// Delete a key, or every key of a range
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  konsen delete greeting
  konsen delete greeting --if-match 7
  konsen delete --prefix config/
  konsen delete --start a --end b
  konsen delete --prefix log/ --steps --timeout 1m

The exit code is 3 if the key does not exist.")]
#[group(id = "what", required = true, multiple = true, args = ["key_name", "prefix", "start", "end"])]
pub struct Args {
    /// The key.
    #[arg(id = "key_name", value_name = "KEY")]
    pub key: Option<OsString>,
    /// Every key that begins so.
    #[arg(long, conflicts_with = "key_name")]
    pub prefix: Option<OsString>,
    /// Every key from this one on.
    #[arg(long, value_name = "KEY", conflicts_with = "key_name")]
    pub start: Option<OsString>,
    /// Every key before this one.
    #[arg(long, value_name = "KEY", conflicts_with = "key_name")]
    pub end: Option<OsString>,
    /// Not all at once, but in steps, each a revision of its own: for more keys than one revision may delete.
    #[arg(long, conflicts_with = "key_name")]
    pub steps: bool,
    /// Only if the key's revision is this one.
    #[arg(long, value_name = "REVISION", conflicts_with_all = ["prefix", "start", "end"])]
    pub if_match: Option<u64>,
    /// How to print what happened.
    #[arg(short, long, value_enum, default_value = "table")]
    pub output: Format,
    #[allow(missing_docs)]
    #[command(flatten)]
    pub connection: Connection,
}

#[derive(Serialize)]
struct Done {
    deleted: u64,
    revision: Revision,
}

/// Runs the command.
pub async fn run(args: Args) -> Result<(), CliError> {
    let client = args.connection.client()?;
    let done = match args.key {
        Some(key) => {
            let if_match = args.if_match.map(Revision);
            let preconditions = Preconditions { if_match, if_absent: false };
            let revision = client.delete(&bytes_of(key), preconditions).await?;
            Done { deleted: 1, revision }
        }
        None => {
            let range = DeleteRequest {
                prefix: args.prefix.map(bytes_of),
                start: args.start.map(bytes_of),
                end: args.end.map(bytes_of),
                in_steps: args.steps,
            };
            let deleted = client.delete_all(&range).await?;
            Done { deleted: deleted.deleted, revision: deleted.revision }
        }
    };
    let Done { deleted, revision } = done;
    let printed = match args.output {
        Format::Table => print(format!("deleted {deleted}, revision {revision}\n").as_bytes()),
        Format::Raw => print(format!("{deleted}\n").as_bytes()),
        Format::Json => print_json(&done),
    };
    printed.map_err(|error| error.although(&format!("{deleted} were deleted, revision {revision}")))
}
