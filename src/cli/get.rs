//! `konsen get`: reads a key.

use std::ffi::OsString;
use std::io::IsTerminal;

use super::CliError;
use super::remote::{Connection, Format, bytes_of, columns, print, print_json, printable};
use crate::api::ItemJson;
use crate::kv::Revision;

/// Read a key
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  konsen get greeting
  konsen get config/app -o json
  konsen get picture > picture.png
  konsen get greeting --revision 7

The exit code is 3 if the key does not exist.")]
pub struct Args {
    /// The key.
    #[arg(id = "key_name", value_name = "KEY")]
    pub key: OsString,
    /// As of this revision; an empty store is at 1.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub revision: Option<u64>,
    /// How to print it; raw is the value's bytes, with a newline only on a terminal.
    #[arg(short, long, value_enum, default_value = "raw")]
    pub output: Format,
    #[allow(missing_docs)]
    #[command(flatten)]
    pub connection: Connection,
}

/// Runs the command.
pub async fn run(args: Args) -> Result<(), CliError> {
    let client = args.connection.client()?;
    let key = bytes_of(args.key);
    let value = match args.revision {
        Some(revision) => client.get_at(&key, Revision(revision)).await?,
        None => client.get(&key).await?,
    };
    let item = value.item;
    match args.output {
        Format::Raw => {
            let mut bytes = item.value.to_vec();
            if std::io::stdout().is_terminal() && !bytes.ends_with(b"\n") {
                bytes.push(b'\n');
            }
            print(&bytes)?
        }
        Format::Json => print_json(&ItemJson::new(&item, false))?,
        Format::Table => {
            let row = |name: &str, value: String| vec![name.to_owned(), value];
            let rows = [
                row("key", printable(&item.key)),
                row("value", printable(&item.value)),
                row("content type", item.content_type.unwrap_or_default()),
                row("create revision", item.create_revision.to_string()),
                row("mod revision", item.mod_revision.to_string()),
                row("version", item.version.to_string()),
            ];
            print(columns(&rows).as_bytes())?
        }
    }
    Ok(())
}
