//! `konsen config`: what a configuration means, and whether it can work.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand};

use super::output::say;
use super::{CliError, print};
use crate::config::{Config, HostPort};

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
    ///
    /// With other nodes' files also whether they say the same where all nodes must.
    #[command(
        after_help = "Examples:\n  konsen config check --config conf/cluster.yml --name node2\n  konsen config check --config output/node1/cluster.yml output/node2/cluster.yml output/node3/cluster.yml"
    )]
    Check(Check),
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

#[derive(Debug, ClapArgs)]
struct Check {
    #[command(flatten)]
    file: File,
    /// Where peers are listened for if not on the advertised address: `[::]:PORT` speaks IPv4 and IPv6
    #[arg(long, env = "KONSEN_LISTEN", value_name = "HOST:PORT")]
    listen: Option<HostPort>,
    /// Files of other nodes of the cluster
    #[arg(value_name = "OTHER")]
    others: Vec<PathBuf>,
}

/// Runs the command.
pub fn run(args: Args) -> Result<(), CliError> {
    match args.command {
        Command::Check(check) => self::check(&check),
        Command::Show(file) => print(load(&file)?.to_yaml().as_bytes()),
    }
}

fn check(check: &Check) -> Result<(), CliError> {
    let config = Config::load(&check.file.config, check.file.name.as_deref())?;
    let speaks_both = check.listen.as_ref().is_some_and(HostPort::is_unspecified);
    if let Some(obstacle) = config.obstacles.first().filter(|_| !speaks_both) {
        return Err(CliError::failed(format!("{}: {obstacle}", config.file.display())));
    }
    warn(&config);
    for warning in config.key_warnings() {
        say(&format!("warning: {}: {warning}\n", config.file.display()));
    }
    for other in &check.others {
        let other = Config::load(other, None)?;
        warn(&other);
        if let Some((key, here, there)) = config.differs_from(&other) {
            return Err(CliError::failed(format!(
                "{}: {key}: {there}, and in {} {here}; all nodes must have the same",
                other.file.display(),
                config.file.display()
            )));
        }
    }
    let beside = match check.others.len() {
        0 => String::new(),
        others => format!(", and says the same as {others} more"),
    };
    print(
        format!(
            "{}: ok: {} of {} nodes in the cluster {}{beside}\n",
            check.file.config.display(),
            config.name,
            config.servers.len(),
            config.cluster
        )
        .as_bytes(),
    )
}

fn load(file: &File) -> Result<Config, CliError> {
    let config = Config::load(&file.config, file.name.as_deref())?;
    warn(&config);
    Ok(config)
}

/// Says what is probably not meant, on standard error.
pub(super) fn warn(config: &Config) {
    for warning in config.warnings.iter().chain(&config.obstacles) {
        say(&format!("warning: {}: {warning}\n", config.file.display()));
    }
}
