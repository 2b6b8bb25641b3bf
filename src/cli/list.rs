//! `konsen list`: lists keys and values, all at one revision.

use std::ffi::OsString;

use super::CliError;
use super::remote::{
    Connection, Format, bytes_of, columns, print, print_json, printable, shortened,
};
use crate::api::{ItemJson, PAGE_ITEMS_MAX};
use crate::client::{ListPage, ListRequest};
use crate::kv::Revision;

/// List keys and values, all at one revision
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  konsen list
  konsen list --prefix config/ --keys-only
  konsen list --start a --end b --order desc --limit 10
  konsen list -o json | jq .key

raw prints a line for each key, and after a tab its value.")]
pub struct Args {
    /// Only keys that begin so.
    #[arg(long)]
    pub prefix: Option<OsString>,
    /// Only keys from this one on.
    #[arg(long, value_name = "KEY")]
    pub start: Option<OsString>,
    /// Only keys before this one.
    #[arg(long, value_name = "KEY")]
    pub end: Option<OsString>,
    /// Leave the values out.
    #[arg(long)]
    pub keys_only: bool,
    /// The most items; without it, all.
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: Option<u64>,
    /// The order of the keys.
    #[arg(long, value_parser = ["asc", "desc"], default_value = "asc")]
    pub order: String,
    /// As of this revision; an empty store is at 1.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub revision: Option<u64>,
    /// How to print the items.
    #[arg(short, long, value_enum, default_value = "table")]
    pub output: Format,
    #[allow(missing_docs)]
    #[command(flatten)]
    pub connection: Connection,
}

/// Runs the command.
pub async fn run(args: Args) -> Result<(), CliError> {
    let mut request = ListRequest {
        prefix: args.prefix.map(bytes_of),
        start: args.start.map(bytes_of),
        end: args.end.map(bytes_of),
        limit: None,
        keys_only: args.keys_only,
        descending: args.order == "desc",
        revision: args.revision.map(Revision),
        cursor: None,
    };
    let mut left = args.limit;
    let connection = args.connection.resolved()?;
    let several = connection.endpoints.len() > 1;
    let mut shown = false;
    let client = connection.client()?;
    loop {
        request.limit = left.map(|left| left.min(PAGE_ITEMS_MAX as u64));
        let page = client.list(&request).await?;
        let first = request.cursor.is_none();
        left = left.map(|left| left.saturating_sub(page.items.len() as u64));
        let done = page.next.is_none() || left == Some(0);
        // A page may be without items although others follow.
        if !page.items.is_empty() || (done && !shown) {
            show(&page, &args.output, args.keys_only, !shown)?;
            shown = true;
        }
        if done {
            return Ok(());
        }
        request.cursor = page.next;
        // The next page may come from another endpoint.
        if several && first {
            client.one_cluster().await?;
        }
    }
}

fn show(page: &ListPage, format: &Format, keys_only: bool, first: bool) -> Result<(), CliError> {
    let mut text = Vec::new();
    match format {
        Format::Json => {
            for item in &page.items {
                print_json(&ItemJson::new(item, keys_only))?;
            }
        }
        Format::Raw => {
            for item in &page.items {
                text.extend_from_slice(&item.key);
                if !keys_only {
                    text.push(b'\t');
                    text.extend_from_slice(&item.value);
                }
                text.push(b'\n');
            }
        }
        Format::Table => {
            let mut rows = Vec::with_capacity(page.items.len() + 1);
            if first {
                let names = ["KEY", "REVISION", "VERSION", "VALUE"];
                let names = &names[..if keys_only { 3 } else { 4 }];
                rows.push(names.iter().map(|name| (*name).to_owned()).collect());
            }
            for item in &page.items {
                let numbers = [item.mod_revision.to_string(), item.version.to_string()];
                let mut row = vec![printable(&item.key)];
                row.extend(numbers);
                if !keys_only {
                    row.push(shortened(&printable(&item.value)));
                }
                rows.push(row);
            }
            text = columns(&rows).into_bytes();
        }
    }
    print(&text)
}
