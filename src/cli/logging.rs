//! Logs, and the signals that end the program.

use std::io::IsTerminal;

use clap::{Args, ValueEnum};
use tracing_subscriber::EnvFilter;

use super::output;

/// How a server logs. Logs go to standard error.
#[derive(Clone, Debug, Args)]
pub struct LogArgs {
    /// What to log: error, warn, info, debug, trace, or a filter such as `info,konsen::net=debug`
    #[arg(long = "log", env = "KONSEN_LOG", default_value = "info", value_name = "FILTER")]
    filter: String,
    /// How to write it
    #[arg(long, env = "KONSEN_LOG_FORMAT", default_value = "text")]
    log_format: LogFormat,
}

/// One line an event, for people or for machines.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl LogArgs {
    /// Starts logging. A filter that cannot be read is an error.
    pub fn start(&self) -> Result<(), String> {
        let filter = EnvFilter::try_new(&self.filter)
            .map_err(|error| format!("--log {}: {error}", self.filter))?;
        let builder = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(|| output::LogWriter)
            // It would print by itself, which can block and panic.
            .log_internal_errors(false)
            .with_ansi(colours());
        let started = match self.log_format {
            LogFormat::Text => builder.try_init(),
            LogFormat::Json => {
                output::stderr().in_json();
                builder.json().flatten_event(true).try_init()
            }
        };
        started.map_err(|error| error.to_string())
    }
}

/// Whether to use colours on standard error.
pub fn colours() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}

/// Returns at SIGINT or SIGTERM.
pub async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    let both = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
    match both {
        (Ok(mut interrupt), Ok(mut terminate)) => {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        }
        // Without handlers the default action ends the process, which is what was asked for.
        _ => std::future::pending().await,
    }
}
