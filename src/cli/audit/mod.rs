//! `konsen audit`: who asked for what, and whether the files that say so are as they were written.

mod anchors;
mod show;
mod verify;

use super::CliError;

/// Show and verify the audit
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Command {
    Verify(verify::Args),
    Show(show::Args),
    Anchors(anchors::Args),
}

/// Runs the command.
pub async fn run(args: Args) -> Result<(), CliError> {
    match args.command {
        Command::Verify(args) => verify::run(args),
        Command::Show(args) => show::run(&args),
        Command::Anchors(args) => anchors::run(args).await,
    }
}
