//! `konsen txn`: compares, and what is done if they hold and if they do not, in one revision.

mod print;
mod syntax;
mod tokens;

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use bytes::Bytes;

use super::output::say;
use super::remote::{Connection, Format, print_json};
use super::{CliError, Exit, print, stdin};
use crate::api::{TxnDone, TxnJson};

/// The largest text, in bytes; servers allow less.
const TEXT_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Carry out a transaction: all of it or nothing, in one revision
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = syntax::SYNTAX)]
pub struct Args {
    /// The transaction; without it, or as -, it is read from stdin.
    pub file: Option<PathBuf>,
    /// How to print what happened.
    #[arg(short, long, value_enum, default_value = "table")]
    pub output: Format,
    #[allow(missing_docs)]
    #[command(flatten)]
    pub connection: Connection,
}

/// Runs the command.
pub async fn run(args: Args) -> Result<(), CliError> {
    let text = text(args.file)?;
    let client = args.connection.client()?;
    let done = match text.trim_ascii_start().first() {
        Some(b'{') => {
            // What a later release knows is the servers' to say.
            serde_json::from_slice::<serde::de::IgnoredAny>(&text)
                .map_err(|error| CliError::usage(format!("this is no JSON: {error}")))?;
            client.txn_json(&text).await?
        }
        _ => {
            let text = std::str::from_utf8(&text)
                .map_err(|_| CliError::usage("the transaction is neither JSON nor a text"))?;
            let request = syntax::parse(text).map_err(|wrong| {
                CliError::usage(wrong.to_string())
                    .hint("`konsen txn --help` shows what is possible")
            })?;
            client.txn(&request).await?
        }
    };
    let what = if done.succeeded { "the transaction was carried out" } else { NOT_HELD };
    let what = format!("{what}, revision {}", done.revision);
    show(&done, args.output).map_err(|error| error.although(&what))?;
    if let Some(why) = &done.unread {
        say(&format!("what it was to read is not shown: {why}\n"));
    }
    match done.succeeded {
        true => Ok(()),
        false => Err(CliError::new(Exit::ConditionFailed, what)),
    }
}

/// What is said where a condition does not hold.
const NOT_HELD: &str = "the compares do not hold, and `else` was carried out, if there is one";

fn show(done: &TxnDone, format: Format) -> Result<(), CliError> {
    match format {
        Format::Table => print(print::table(done).as_bytes()),
        Format::Json => print_json(&TxnJson::new(done)),
        Format::Raw => {
            let mut text = Vec::new();
            print::raw(&done.results, &mut text);
            print(&text)
        }
    }
}

fn text(file: Option<PathBuf>) -> Result<Bytes, CliError> {
    let asked = match file {
        Some(file) if file.as_os_str() != "-" => {
            let failed = |error| CliError::failed(format!("{}: {error}", file.display()));
            let mut text = Vec::new();
            let opened = File::open(&file).map_err(failed)?;
            opened.take(TEXT_BYTES_MAX + 1).read_to_end(&mut text).map_err(failed)?;
            if text.len() as u64 > TEXT_BYTES_MAX {
                let name = file.display();
                let message = format!("{name}: it is larger than {TEXT_BYTES_MAX} bytes");
                return Err(CliError::failed(message));
            }
            return Ok(text.into());
        }
        file => file.is_some(),
    };
    if stdin::is_nothing(asked) {
        let message = "standard input is closed, or /dev/null, and states no transaction";
        return Err(CliError::usage(message).hint("name a file, or pipe it in"));
    }
    stdin::read("the transaction", TEXT_BYTES_MAX)
}
