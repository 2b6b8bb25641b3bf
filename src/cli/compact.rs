//! `konsen compact`: gives up the past before a revision.

use super::CliError;
use super::remote::{Connection, Format, print, print_json};
use crate::http::compact::CompactJson;
use crate::kv::Revision;

/// Give up the past before a revision, to free the disks
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Example:
  konsen compact 1234

Revision 1234 and all later ones can still be read, earlier ones no more. Nodes do this by themselves as
`history` in cluster.yml says. raw prints the revision alone.")]
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
    let revision = client.compact(Revision(args.revision)).await?;
    let printed = match args.output {
        Format::Table => print(format!("compacted, revision {revision}\n").as_bytes()),
        Format::Raw => print(format!("{revision}\n").as_bytes()),
        Format::Json => print_json(&CompactJson { revision }),
    };
    printed.map_err(|error| error.although(&format!("what came before {revision} was given up")))
}
