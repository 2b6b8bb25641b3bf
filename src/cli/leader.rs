//! `konsen leader`: who leads.

use super::CliError;
use super::remote::{Connection, Format, print, print_json};
use crate::client::Outcome;

/// Choose the leader
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Command {
    Transfer(Transfer),
}

/// Hand leadership over to another voter
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  konsen leader transfer
  konsen leader transfer node2

It waits until the other one leads; clients notice a pause of some milliseconds. A voter that the leader does not
hear is refused. raw prints the new leader's name alone.")]
struct Transfer {
    /// Who is to lead; if not given, the voter that is furthest.
    node: Option<String>,
    /// How to print who leads.
    #[arg(short, long, value_enum, default_value = "table")]
    output: Format,
    #[command(flatten)]
    connection: Connection,
}

/// Runs the command.
pub async fn run(args: Args) -> Result<(), CliError> {
    let Command::Transfer(args) = args.command;
    let client = args.connection.client()?;
    let now = client.transfer_leadership(args.node.as_deref()).await.map_err(|error| {
        let unknown = error.outcome() == Outcome::Unknown;
        let error = CliError::from(error);
        match unknown {
            true => error.hint("`konsen status` shows who leads"),
            false => error,
        }
    })?;
    let printed = match args.output {
        Format::Table => print(format!("{} leads, term {}\n", now.leader, now.term).as_bytes()),
        Format::Raw => print(format!("{}\n", now.leader).as_bytes()),
        Format::Json => print_json(&now),
    };
    printed.map_err(|error| error.although(&format!("{} leads", now.leader)))
}
