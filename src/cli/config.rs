//! `konsen config`: what a configuration means, and whether it can work.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand};

use super::output::say;
use super::{CliError, print};
use crate::config::Config;

/// What a configuration means, with every default, and whether it can work.
#[derive(Debug, ClapArgs)]
#[command(after_help = "Example:\n  konsen config check --config conf/cluster.yml")]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check a configuration
    #[command(
        after_help = "Example:\n  konsen config check --config conf/cluster.yml --name node2"
    )]
    Check(File),
    /// Print a configuration with every default, as YAML
    #[command(after_help = "Example:\n  konsen config show --config conf/cluster.yml")]
    Show(File),
}

#[derive(Debug, ClapArgs)]
struct File {
    /// The cluster's configuration
    #[arg(long, env = "KONSEN_CONFIG", default_value = "conf/cluster.yml", value_name = "FILE")]
    config: PathBuf,
    /// Which of its servers this is; overrides localServerName
    #[arg(long, env = "KONSEN_NAME")]
    name: Option<String>,
}

/// Runs the command.
pub fn run(args: Args) -> Result<(), CliError> {
    match args.command {
        Command::Check(file) => {
            let config = load(&file)?;
            print(
                format!(
                    "{}: ok: {} of {} nodes in the cluster {}\n",
                    file.config.display(),
                    config.name,
                    config.servers.len(),
                    config.cluster
                )
                .as_bytes(),
            )
        }
        Command::Show(file) => print(load(&file)?.to_yaml().as_bytes()),
    }
}

fn load(file: &File) -> Result<Config, CliError> {
    let config = Config::load(&file.config, file.name.as_deref())?;
    warn(&config);
    Ok(config)
}

/// Says what is probably not meant, on standard error.
pub(super) fn warn(config: &Config) {
    for warning in &config.warnings {
        say(&format!("warning: {}: {warning}\n", config.file.display()));
    }
}
