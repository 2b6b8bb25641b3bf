//! The command line, one file a subcommand.

pub mod cert;
pub mod check;
pub mod cluster;
pub mod compact;
pub mod config;
pub mod delete;
pub mod dev;
pub mod error;
pub mod get;
pub mod leader;
pub mod list;
pub mod logging;
pub mod member;
mod notify;
pub mod put;
pub mod remote;
pub mod serve;
pub mod snapshot;
pub mod status;

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};

pub use error::{CliError, Exit};

/// How long the runtime waits for blocking work when the program ends.
const RUNTIME_STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// A linearizable key-value store that a handful of hosts agree on.
#[derive(Debug, Parser)]
#[command(
    name = "konsen",
    version,
    propagate_version = true,
    after_help = "Example:\n  konsen dev"
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// One variant a command.
#[derive(Debug, Subcommand)]
enum Command {
    Dev(dev::Args),
    Serve(serve::Args),
    Put(put::Args),
    Get(get::Args),
    Delete(delete::Args),
    List(list::Args),
    Status(status::Args),
    Member(member::Args),
    Compact(compact::Args),
    Leader(leader::Args),
    Snapshot(snapshot::Args),
    Check(check::Args),
    Cluster(cluster::Args),
    Cert(cert::Args),
    Config(config::Args),
    /// Print the version
    #[command(after_help = "Example:\n  konsen version")]
    Version,
}

impl Command {
    async fn run(self) -> Result<(), CliError> {
        match self {
            Command::Dev(args) => dev::run(args).await,
            Command::Serve(args) => serve::run(args).await,
            Command::Put(args) => put::run(args).await,
            Command::Get(args) => get::run(args).await,
            Command::Delete(args) => delete::run(args).await,
            Command::List(args) => list::run(args).await,
            Command::Status(args) => status::run(args).await,
            Command::Member(args) => member::run(args).await,
            Command::Compact(args) => compact::run(args).await,
            Command::Leader(args) => leader::run(args).await,
            Command::Snapshot(args) => snapshot::run(args).await,
            Command::Check(args) => check::run(args).await,
            Command::Cluster(args) => cluster::run(args),
            Command::Cert(args) => cert::run(args),
            Command::Config(args) => config::run(args),
            Command::Version => print(&format!("konsen {}\n", env!("CARGO_PKG_VERSION"))),
        }
    }
}

/// Runs the command of the process's arguments. The whole of the program.
pub fn main() -> ExitCode {
    // Exits 2 by itself where the arguments cannot be understood.
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return report(&CliError::failed(format!("cannot start threads: {error}"))),
    };
    let outcome = runtime.block_on(cli.command.run());
    runtime.shutdown_timeout(RUNTIME_STOP_TIMEOUT);
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => report(&error),
    }
}

fn report(error: &CliError) -> ExitCode {
    // With standard error gone the code is all that is left to say.
    let _ = writeln!(io::stderr(), "{error}");
    ExitCode::from(error.exit() as u8)
}

/// Writes to standard output. A reader that went away has had enough; that is no failure.
pub(crate) fn print(text: &str) -> Result<(), CliError> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(CliError::failed(format!("cannot write to standard output: {error}")))
        }
        _ => Ok(()),
    }
}
