//! `konsen compact`: gives up the past before a revision.

use super::CliError;
use super::output::say;
use super::remote::{Connection, Format, print, print_json};
use crate::api::CompactJson;
use crate::client::Error;
use crate::kv::Revision;

/// Give up the past before a revision, to free the disks
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Example:
  konsen compact 1234

Revision 1234 and all later ones can still be read, earlier ones no more. Nodes do this by themselves as
`history` in cluster.yml says. Where that was done before it is said, and the exit code is 0. raw prints the
revision alone.")]
pub struct Args {
    /// The oldest revision that can still be read afterwards.
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    pub revision: u64,
    /// How to print what happened.
    #[arg(short, long, value_enum, default_value = "table")]
    pub output: Format,
    #[allow(missing_docs)]
    #[command(flatten)]
    pub connection: Connection,
}

/// Runs the command.
pub async fn run(args: Args) -> Result<(), CliError> {
    let client = args.connection.client()?;
    let (revision, word) = match client.compact(Revision(args.revision)).await {
        Ok(revision) => (revision, "compacted"),
        // By an earlier run, or by the nodes themselves.
        Err(Error::Compacted(text)) => {
            say(&format!("{text}\n"));
            (Revision(args.revision), "compacted already")
        }
        Err(error) => return Err(error.into()),
    };
    let printed = match args.output {
        Format::Table => print(format!("{word}, revision {revision}\n").as_bytes()),
        Format::Raw => print(format!("{revision}\n").as_bytes()),
        Format::Json => print_json(&CompactJson { revision }),
    };
    printed.map_err(|error| error.although(&format!("what came before {revision} is {word}")))
}
