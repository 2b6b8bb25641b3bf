//! The command line, one file a subcommand.

mod administrator;
mod at_start;
pub mod audit;
pub mod auth;
pub mod bench;
mod built;
mod bundle;
pub mod cert;
pub mod check;
pub mod cluster;
pub mod compact;
pub mod config;
pub mod delete;
mod descriptors;
pub mod dev;
pub mod error;
pub mod get;
pub mod leader;
pub mod list;
pub mod logging;
pub mod member;
mod notify;
mod output;
mod profile;
pub mod put;
pub mod remote;
pub mod serve;
pub mod snapshot;
pub mod status;
mod stdin;
pub mod txn;

use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};

pub use error::{CliError, Exit};

pub(crate) use output::print;

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
    Txn(txn::Args),
    Status(status::Args),
    Member(member::Args),
    Auth(auth::Args),
    Compact(compact::Args),
    Leader(leader::Args),
    Snapshot(snapshot::Args),
    Audit(audit::Args),
    Check(check::Args),
    Bench(bench::Args),
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
            Command::Txn(args) => txn::run(args).await,
            Command::Status(args) => status::run(args).await,
            Command::Member(args) => member::run(args).await,
            Command::Auth(args) => auth::run(args).await,
            Command::Compact(args) => compact::run(args).await,
            Command::Leader(args) => leader::run(args).await,
            Command::Snapshot(args) => snapshot::run(args).await,
            Command::Audit(args) => audit::run(args).await,
            Command::Check(args) => check::run(args).await,
            Command::Bench(args) => bench::run(args).await,
            Command::Cluster(args) => cluster::run(args),
            Command::Cert(args) => cert::run(args).await,
            Command::Config(args) => config::run(args),
            Command::Version => {
                print(concat!("konsen ", env!("CARGO_PKG_VERSION"), "\n").as_bytes())
            }
        }
    }
}

/// Runs the command of the process's arguments. The whole of the program.
pub fn main() -> ExitCode {
    output::tell_of_panics();
    let code = match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if error.exit() != Exit::ReaderGone {
                output::say(&format!("{error}\n"));
            }
            ExitCode::from(error.exit() as u8)
        }
    };
    output::settle();
    code
}

fn run() -> Result<(), CliError> {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        // Help and the version are data, and are asked for.
        Err(told) if !told.use_stderr() => {
            output::writable()?;
            return told.print().map_err(|error| output::unwritten(&error));
        }
        Err(wrong) => {
            let text = wrong.render();
            output::say(&if logging::colours() {
                text.ansi().to_string()
            } else {
                text.to_string()
            });
            output::settle();
            std::process::exit(wrong.exit_code());
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| CliError::failed(format!("cannot start threads: {error}")))?;
    let outcome = runtime.block_on(async {
        // A handler in the place of the default action, which ends the process: so a file that grows to the limit of
        // `ulimit -f` is an error of the write.
        let grown =
            tokio::signal::unix::SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw());
        let _handled = tokio::signal::unix::signal(grown);
        cli.command.run().await
    });
    runtime.shutdown_timeout(RUNTIME_STOP_TIMEOUT);
    outcome
}

/// Writes text to standard output.
pub(crate) fn print_text(text: &str) -> Result<(), CliError> {
    print(text.as_bytes())
}

/// Says on standard output what was made, which is there even if that cannot be said.
pub(crate) fn print_made(text: &str) -> Result<(), CliError> {
    print_text(text).map_err(|error| error.although(text.lines().next().unwrap_or_default()))
}
