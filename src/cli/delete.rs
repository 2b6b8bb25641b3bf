//! `konsen delete`: deletes a key, or every key of a prefix.

use std::ffi::OsString;

use serde::Serialize;

use super::remote::{Connection, Format, bytes_of, print, print_json};
use super::{CliError, Exit};
use crate::client::Preconditions;
use crate::kv::Revision;

/// Delete a key, or every key that begins with a prefix
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  konsen delete greeting
  konsen delete greeting --if-match 7
  konsen delete --prefix config/

The exit code is 3 if the key does not exist.")]
#[group(id = "what", required = true, multiple = false, args = ["key_name", "prefix"])]
pub struct Args {
    /// The key.
    #[arg(id = "key_name", value_name = "KEY")]
    pub key: Option<OsString>,
    /// Every key that begins so.
    #[arg(long)]
    pub prefix: Option<OsString>,
    /// Only if the key's revision is this one.
    #[arg(long, value_name = "REVISION", conflicts_with = "prefix")]
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
    let done = match (args.key, args.prefix) {
        (Some(key), None) => {
            let if_match = args.if_match.map(Revision);
            let preconditions = Preconditions { if_match, if_absent: false };
            let revision = client.delete(&bytes_of(key), preconditions).await?;
            Done { deleted: 1, revision }
        }
        (None, Some(prefix)) => {
            let deleted = client.delete_prefix(&bytes_of(prefix)).await?;
            Done { deleted: deleted.deleted, revision: deleted.revision }
        }
        _ => return Err(CliError::new(Exit::Usage, "name either a key or a --prefix")),
    };
    let Done { deleted, revision } = done;
    let printed = match args.output {
        Format::Table => print(format!("deleted {deleted}, revision {revision}\n").as_bytes()),
        Format::Raw => print(format!("{deleted}\n").as_bytes()),
        Format::Json => print_json(&done),
    };
    printed.map_err(|error| error.although(&format!("{deleted} were deleted, revision {revision}")))
}
